# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A running cloud as the scenarios see it: API, placement, logs, and its hosts' devices."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import pathlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import openstack
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGE = "playground"
PF, GPU = "0000:81:00.0", "0000:41:00.0"
#: What a provider's name is made of.
PF_PROVIDER, GPU_PROVIDER = "{}_0000:81:00.0", "{}_pci_0000_41_00_0"
PREFIX = "CUSTOM_DEVCOMPAT_"
#: Statuses of a migration that has come to an end.
ENDED = {"completed", "error", "failed", "cancelled"}
#: Compute cycles every 10 seconds, twice, and a loaded machine.
CYCLE = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Migrated:
    """What came of a live migration.

    :param status: of Nova's migration record
    :param host: where the server is now
    :param tried: destinations that were tried, the last one being where it went if it went
    :param request: the request's id, as it stands in logs
    :param seconds: how long it took
    """

    status: str
    host: str
    tried: list[str]
    request: str
    seconds: float

    @property
    def moved(self) -> bool:
        return self.status == "completed"


class Logs:
    """What services have logged since this was made.

    :param folder: of the logs
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._sizes = {path: path.stat().st_size for path in folder.glob("*.log")}

    def lines(self, service: str, *words: str) -> list[str]:
        """The lines of a service that have all the words.

        :param service: its name, or a pattern such as ``nova-compute-*``
        """
        found = []
        for path in sorted(self._folder.glob(f"{service}.log")):
            with open(path, errors="replace") as file:
                file.seek(self._sizes.get(path, 0))
                found += [line for line in file if all(word in line for word in words)]
        return found


class Cloud:
    """See the module.

    :param data: the cloud's folder
    """

    def __init__(self, data: pathlib.Path) -> None:
        self.data = data
        self.connect()

    def connect(self) -> None:
        """Make a session, at first and after services were restarted."""
        config = openstack.config.OpenStackConfig(config_files=[str(self.data / "clouds.yaml")])
        self.api = openstack.connection.Connection(config=config.get_one("devcompat"))
        self._images: dict[str, str] = {}
        self._flavors: dict[str, str] = {}

    # --- tools/cloud ----------------------------------------------------------------------------

    def tool(self, *arguments: str, timeout: float = 600.0) -> str:
        """Run tools/cloud on this cloud.

        :param timeout: in seconds
        :returns: what it prints
        """
        command = [str(ROOT / "tools/cloud"), "--data", str(self.data), *arguments]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}"
        return done.stdout

    def settings(self) -> dict[str, Any]:
        return json.loads((self.data / "cloud.json").read_text())

    def logs(self) -> Logs:
        """What will be logged from now on."""
        return Logs(self.data / "log")

    # --- servers --------------------------------------------------------------------------------

    def boot(
        self, name: str, flavor: str, host: str | None = None, metadata: Mapping[str, str] = {}
    ) -> str:
        """Boot a server and wait until it is active.

        :param host: where, as a request that the scheduler checks; None for anywhere
        :returns: its UUID
        """
        if not self._images:
            self._images = {image.name: image.id for image in self.api.image.images()}
            self._flavors = {one.name: one.id for one in self.api.compute.flavors()}
        server = {
            "name": name,
            "imageRef": self._images[IMAGE],
            "flavorRef": self._flavors[flavor],
            "networks": "none",
            "metadata": dict(metadata),
            **({"host": host} if host else {}),
        }
        answer = self._compute("POST", "/servers", {"server": server}, "2.74")
        uuid = answer.json()["server"]["id"]
        until(
            f"server {name} to be active",
            lambda: self.show(uuid)["status"] in ("ACTIVE", "ERROR"),
        )
        shown = self.show(uuid)
        assert shown["status"] == "ACTIVE", shown.get("fault")
        return uuid

    def show(self, server: str) -> dict[str, Any]:
        return self._compute("GET", f"/servers/{server}", None, "2.74").json()["server"]

    def host_of(self, server: str) -> str:
        return self.show(server)["OS-EXT-SRV-ATTR:host"]

    def delete(self, *servers: str) -> None:
        """Delete servers and wait until they are gone, from placement too."""
        for server in servers:
            self.api.compute.delete_server(server, force=True, ignore_missing=True)
        for server in servers:
            until(f"server {server} to go", lambda s=server: not self._exists(s))
            until(f"allocations of {server} to go", lambda s=server: not self.allocations(s))

    def _exists(self, server: str) -> bool:
        return self.api.compute.find_server(server, ignore_missing=True) is not None

    def servers(self) -> list[str]:
        answer = self._compute("GET", "/servers?all_tenants=1", None, "2.74")
        return [one["id"] for one in answer.json()["servers"]]

    # --- live migration -------------------------------------------------------------------------

    def start_live_migration(
        self, server: str, host: str | None = None, *, force: bool = False
    ) -> str:
        """Ask for a live migration.

        :param host: a destination that the scheduler checks, or with ``force`` does not
        :returns: the request's id
        """
        action: dict[str, Any] = {"host": host, "block_migration": "auto"}
        version = "2.79"
        if force:
            # The last that has it.
            action["force"], version = True, "2.67"
        answer = self._compute(
            "POST", f"/servers/{server}/action", {"os-migrateLive": action}, version
        )
        return answer.headers["x-openstack-request-id"]

    def migrations(self, server: str) -> list[dict[str, Any]]:
        """Nova's migration records of a server, the newest first."""
        path = f"/os-migrations?instance_uuid={server}"
        found = self._compute("GET", path, None, "2.80").json()["migrations"]
        return sorted(found, key=lambda one: one["id"], reverse=True)

    def live_migrate(
        self,
        server: str,
        host: str | None = None,
        *,
        force: bool = False,
        during: Callable[[str], None] | None = None,
    ) -> Migrated:
        """Live migrate and wait for the end, whichever it is.

        :param during: called with the destination when the transfer runs
        """
        known = {one["id"] for one in self.migrations(server)}
        logs, begin = self.logs(), time.monotonic()
        request = self.start_live_migration(server, host, force=force)
        record: dict[str, Any] = {}

        def newest() -> dict[str, Any]:
            nonlocal record
            new = [one for one in self.migrations(server) if one["id"] not in known]
            record = new[0] if new else {}
            return record

        if during is not None:
            until("the transfer to run", lambda: newest().get("status") in {"running", *ENDED})
            assert record["status"] == "running", record
            during(record["dest_compute"])
        until("the migration to end", lambda: newest().get("status") in ENDED, limit=180)
        until("the server's task to end", lambda: not self.show(server)["OS-EXT-STS:task_state"])
        skipped = [
            re.search(r"Skipping host: (\S+) because", line).group(1)
            for line in logs.lines("nova-conductor", request, "Skipping host:")
        ]
        last = [record["dest_compute"]] if record.get("dest_compute") else []
        return Migrated(
            status=record["status"],
            host=self.host_of(server),
            tried=[*skipped, *last],
            request=request,
            seconds=time.monotonic() - begin,
        )

    # --- placement ------------------------------------------------------------------------------

    def providers(self) -> dict[str, str]:
        """UUIDs of providers by name."""
        found = self._placement("/resource_providers")["resource_providers"]
        return {one["name"]: one["uuid"] for one in found}

    def allocations(self, consumer: str) -> dict[str, dict[str, int]]:
        """What a consumer holds, by the provider's name."""
        names = {uuid: name for name, uuid in self.providers().items()}
        found = self._placement(f"/allocations/{consumer}")["allocations"]
        return {names[uuid]: held["resources"] for uuid, held in found.items()}

    def all_allocations(self) -> dict[str, dict[str, dict[str, int]]]:
        """What everybody holds, by consumer and the provider's name."""
        held: dict[str, dict[str, dict[str, int]]] = collections.defaultdict(dict)
        for name, uuid in self.providers().items():
            found = self._placement(f"/resource_providers/{uuid}/allocations")["allocations"]
            for consumer, one in found.items():
                held[consumer][name] = one["resources"]
        return dict(held)

    def forget_allocations(self) -> None:
        """Delete all allocations, of migrations too that ended in a failed scenario."""
        for consumer in self.all_allocations():
            self.api.placement.delete(f"/allocations/{consumer}")

    def our_traits(self, host: str) -> set[str]:
        """Traits under our prefix on a host, without the prefix."""
        uuid = self.providers()[host]
        found = self._placement(f"/resource_providers/{uuid}/traits")["traits"]
        return {one.removeprefix(PREFIX) for one in found if one.startswith(PREFIX)}

    def forget_traits(self) -> set[str]:
        """Take all traits under our prefix off hosts that do not publish any more.

        :returns: those that a host has all the same
        """
        for uuid in self.providers().values():
            path = f"/resource_providers/{uuid}/traits"
            found = self._placement(path)
            found["traits"] = [one for one in found["traits"] if not one.startswith(PREFIX)]
            self.api.placement.put(path, json=found, microversion="1.36")
        for name in self.known_traits():
            self.api.placement.delete(f"/traits/{PREFIX}{name}", microversion="1.36")
        return self.known_traits()

    def known_traits(self) -> set[str]:
        found = self._placement(f"/traits?name=startswith:{PREFIX}")["traits"]
        return {one.removeprefix(PREFIX) for one in found}

    def assert_placement(self, expected: Mapping[str, tuple[str, str]]) -> None:
        """Placement holds exactly the allocations that it should, for all consumers there are.

        :param expected: flavor and host of each server
        """
        wanted = {server: holds(*what) for server, what in expected.items()}
        # What a migration has held goes a moment after its end.
        with contextlib.suppress(AssertionError):
            until("migrations' allocations to go", lambda: self.all_allocations() == wanted, 15)
        assert self.all_allocations() == wanted

    # --- hosts ----------------------------------------------------------------------------------

    def hosts(self) -> list[str]:
        """Names of all hosts, those of cell1 first."""
        return [f"cmp{number + 1}" for number in range(sum(self.settings()["computes"]))]

    def _inventory(self, host: str) -> pathlib.Path:
        return self.data / f"hosts/{host}/inventory.yaml"

    def versions(self, host: str) -> dict[str, Any]:
        """A host's versions by attribute, from its inventory file."""
        devices = yaml.safe_load(self._inventory(host).read_text())["hosts"][host]["devices"]
        merged: dict[str, Any] = {}
        for device in devices:
            merged |= device["attributes"]
        return {name: merged[name] for name in ("fw_version", "vgpu_version") if name in merged}

    def set_versions(self, host: str, **versions: Any) -> None:
        """Rewrite a host's inventory file, as a driver's upgrade would."""
        path = self._inventory(host)
        document = yaml.safe_load(path.read_text())
        for device in document["hosts"][host]["devices"]:
            for name in device["attributes"].keys() & versions.keys():
                device["attributes"][name] = versions[name]
        aside = path.with_suffix(".new")
        aside.write_text(yaml.safe_dump(document))
        aside.replace(path)

    def accepted(self, host: str) -> set[str]:
        """The traits that a host should have: of all there are and will be, those it accepts."""
        known = self.known_traits().union(*(own(self.versions(one)) for one in self.hosts()))
        versions = self.versions(host)
        return {trait for trait in known if accepts(versions, trait)}

    def settle(self) -> None:
        """Wait until each host publishes what it accepts, and nothing else."""
        for host in self.hosts():
            until(
                f"{host} to publish what it accepts",
                lambda h=host: self.our_traits(h) == self.accepted(h),
                limit=CYCLE,
            )

    def cycle(self) -> None:
        """Wait until each host has gone through a whole cycle that began after this."""
        logs = self.logs()

        def done(host: str) -> bool:
            text = "".join(logs.lines(f"nova-compute-{host}"))
            begin = text.find("Auditing locally available compute resources")
            return begin >= 0 and "Compute_service record updated" in text[begin:]

        for host in self.hosts():
            until(f"a cycle of {host}", lambda h=host: done(h), limit=CYCLE)

    # --- nova-devcompat's own command -----------------------------------------------------------

    def record(self, server: str) -> list[dict[str, Any]]:
        """The needs that are recorded for a server, as the operator's command shows them."""
        command = [
            str(next(self.data.glob("cloud-3.*/bin/nova-devcompat"))),
            *("need", "show", "--config-file", str(self.data / "etc/nova/nova.conf")),
            *("-f", "json", server),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["needs"]

    # --- requests -------------------------------------------------------------------------------

    def _compute(self, method: str, path: str, body: Any, version: str) -> Any:
        answer = self.api.compute.request(path, method, json=body, microversion=version)
        assert answer.status_code < 400, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def _placement(self, path: str) -> Any:
        answer = self.api.placement.get(path, microversion="1.36")
        assert answer.status_code < 400, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()


def holds(flavor: str, host: str) -> dict[str, dict[str, int]]:
    """What a server of a flavor holds on a host, by provider."""
    held = {host: {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}}
    if "vf" in flavor.split("-"):
        held[PF_PROVIDER.format(host)] = {"CUSTOM_VF": 1}
    if "vgpu" in flavor.split("-"):
        held[GPU_PROVIDER.format(host)] = {"VGPU": 1}
    return held


def own(versions: Mapping[str, Any]) -> set[str]:
    """The traits of what guests will need that start with these versions."""
    major, minor = versions["fw_version"].split(".")[:2]
    highest = versions["vgpu_version"]["max"].replace(".", "_").upper()
    return {f"MLX5_VF__FW_VERSION__{major}_{minor}", f"NVIDIA_VGPU__VGPU_VERSION__{highest}"}


def accepts(versions: Mapping[str, Any], trait: str) -> bool:
    """Whether versions accept what a trait stands for, decided without nova-devcompat."""
    family, attribute, value = trait.split("__")
    wanted = value.split("_")
    if (family, attribute) == ("MLX5_VF", "FW_VERSION"):
        major, minor = map(int, wanted)
        offered = [int(part) for part in versions["fw_version"].split(".")]
        return offered[0] == major and offered[1] >= minor
    if (family, attribute) == ("NVIDIA_VGPU", "VGPU_VERSION"):
        limits = versions["vgpu_version"]
        lowest, highest = (_hexadecimal(limits[name].split(".")) for name in ("min", "max"))
        return lowest <= _hexadecimal(wanted) <= highest
    return False


def values(record: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """What is needed, by family and attribute, wherever the devices are."""
    return {one["family"]: one["values"] for one in record}


def fits(flavor: str, born_on: Mapping[str, Any], offered: Mapping[str, Any]) -> bool:
    """Whether a guest of a flavor that was started with some versions can run with others."""
    families = {"vf": "MLX5_VF", "vgpu": "NVIDIA_VGPU"}
    wanted = {families[part] for part in flavor.split("-") if part in families}
    needs = {trait for trait in own(born_on) if trait.split("__")[0] in wanted}
    return all(accepts(offered, trait) for trait in needs)


def _hexadecimal(parts: Sequence[str]) -> list[int]:
    return [int(part, 16) for part in parts]


def until(what: str, met: Callable[[], bool], limit: float = 90.0) -> None:
    """Wait in bounded time."""
    deadline = time.monotonic() + limit
    while not met():
        assert time.monotonic() < deadline, f"waited {limit:.0f} s in vain for {what}"
        time.sleep(0.25)


@contextlib.contextmanager
def versions_restored(cloud: Cloud) -> Iterator[None]:
    """Give hosts back what they had, whatever happens."""
    before = {host: cloud.versions(host) for host in cloud.hosts()}
    try:
        yield
    finally:
        for host, versions in before.items():
            if cloud.versions(host) != versions:
                cloud.set_versions(host, **versions)
        cloud.settle()
