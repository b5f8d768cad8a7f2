# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A running cloud as the scenarios see it: API, placement, logs, and its hosts' devices."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fcntl
import functools
import json
import pathlib
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import openstack
import pytest
import yaml

from rigs.chaos import model
from rigs.chaos.model import PREFIX
from tests.e2e import command

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGE = "playground"
PF, GPU = "0000:81:00.0", "0000:41:00.0"
#: pytest's exit status where scenarios could not be run: none that failed tests have, which are
#: run again alone (rigs/again.py).
NOT_RUN = pytest.ExitCode.INTERNAL_ERROR
#: Statuses of a migration that has come to an end.
ENDED = {"completed", "error", "failed", "cancelled"}
#: Seconds until hosts publish what they accept: compute cycles every 30, twice, and a loaded
#: machine.
CYCLE = 120.0


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """How Nova is set up.

    :param devcompat: the hosts that it runs on with nova-devcompat; None for all
    :param mode: of nova-devcompat
    :param unfit: when the pretended hardware notices a device that does not fit
    """

    devcompat: tuple[str, ...] | None = None
    mode: str = "enforce"
    unfit: str = "stop-and-copy"

    def options(self) -> list[str]:
        """What makes it, for ``tools/cloud up``."""
        which = ["--devcompat", *([",".join(self.devcompat)] if self.devcompat else [])]
        if self.devcompat == ():
            which = ["--stock"]
        return [*which, "--mode", self.mode, "--unfit", self.unfit]


#: With nova-devcompat, and without it.
DEVCOMPAT, STOCK = Variant(), Variant(devcompat=())


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

    def wait_for(self, service: str, *words: str, seconds: float = 10.0) -> list[str]:
        """The same, once there are any: of what is said beside a request."""
        end = time.monotonic() + seconds
        while not (found := self.lines(service, *words)) and time.monotonic() < end:
            time.sleep(0.1)
        return found


class Cloud:
    """See the module.

    :param data: the cloud's folder
    :cvar patience: how many times as long as elsewhere this cloud may take for everything
    """

    patience: ClassVar[int] = 1

    def __init__(self, data: pathlib.Path) -> None:
        self.data = data
        #: What it was last made to be, None where something else may have happened to it.
        self._variant: Variant | None = None
        self._began_with: dict[pathlib.Path, str] = {}
        #: Hosts whose file was rewritten since a cycle of theirs was asked for.
        self._rewritten: set[str] = set()
        self._images: dict[str, str] = {}
        self._flavors: dict[str, str] = {}
        self._closing = contextlib.ExitStack()

    @functools.cached_property
    def programs(self) -> pathlib.Path:
        """Folder of an ``openstack`` and a ``nova-devcompat`` that start at once."""
        return self._closing.enter_context(command.quick())

    @functools.cached_property
    def api(self) -> openstack.connection.Connection:
        config = openstack.config.OpenStackConfig(config_files=[str(self.data / "clouds.yaml")])
        return openstack.connection.Connection(config=config.get_one("devcompat"))

    # --- tools/cloud ----------------------------------------------------------------------------

    def tool(self, *arguments: str, timeout: float = 600.0) -> str:
        """Run tools/cloud on this cloud.

        :param timeout: in seconds
        :returns: what it prints
        """
        if arguments[0] in ("up", "down", "stop"):
            # What it was, it may not be any more.
            self.doubt()
        done = self._tool(*arguments, timeout=timeout)
        assert done.returncode == 0, f"tools/cloud {arguments}:\n{done.stdout}"
        return done.stdout

    def _tool(self, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
        line = [str(ROOT / "tools/cloud"), "--data", str(self.data), *arguments]
        return subprocess.run(
            line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout
        )

    def runs(self) -> bool:
        """Whether all of it does."""
        return self._tool("status", "--quiet", timeout=60.0).returncode == 0

    def chosen(self) -> Variant:
        """What it was last chosen to be, by whomever."""
        settings = self.settings()
        hosts = settings["devcompat"]
        return Variant(
            devcompat=None if hosts is None else tuple(hosts),
            mode=settings["mode"],
            unfit=settings["unfit"],
        )

    def become(self, variant: Variant) -> None:
        """Bring it up as a variant, unless it is that already.

        Without grace: no scenario is about this, and nothing is under way.
        """
        if self._variant == variant:
            return
        self.doubt()
        done = self._tool("up", "--kill", *variant.options(), timeout=1200.0)
        print(done.stdout)
        if done.returncode:
            pytest.exit(f"tools/cloud up failed:\n{done.stdout}", returncode=NOT_RUN)
        cells = self.settings()["computes"]
        if len(cells) < 2 or cells[0] < 4 or cells[1] < 2:
            pytest.exit(
                "the scenarios want four computes in cell1, two in cell2",
                returncode=NOT_RUN,
            )
        self._variant = variant

    def doubt(self) -> None:
        """Have the next scenario look whether all that should run does."""
        self._variant = None

    @contextlib.contextmanager
    def reserved(self) -> Iterator[None]:
        """Keep other runs of the scenarios off this cloud, and tidy up in the end.

        :raises pytest.exit.Exception: one goes on
        """
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.data / "scenarios.lock", "w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                pytest.exit(
                    f"other scenarios run on the cloud in {self.data}",
                    returncode=NOT_RUN,
                )
            with self._closing:
                yield

    @contextlib.contextmanager
    def files_kept(self) -> Iterator[None]:
        """Have tools/cloud write its own inventories and catalog; in the end put back what was."""
        paths = [*self.data.glob("hosts/*/inventory.yaml"), self._catalog]
        kept = {path: path.read_text() for path in paths if path.exists()}
        for path in kept:
            path.unlink()
        try:
            yield
        finally:
            for path, text in {**self._began_with, **kept}.items():
                _replace(path, text)

    def reset_files(self) -> None:
        """Give hosts the devices, and the cloud the catalog, that they began with."""
        for path in [*map(self._inventory, self.hosts()), self._catalog]:
            text = path.read_text()
            if self._began_with.setdefault(path, text) != text:
                _replace(path, self._began_with[path])
                self._rewritten.update(
                    host for host in self.hosts() if path == self._inventory(host)
                )

    @property
    def _catalog(self) -> pathlib.Path:
        return self.data / "etc/devcompat.yaml"

    def settings(self) -> dict[str, Any]:
        return json.loads((self.data / "cloud.json").read_text())

    def enter(self, host: str) -> Sequence[str]:
        """What runs a command on a host, to be put before it: nothing on pretended ones."""
        return ()

    def logs(self) -> Logs:
        """What will be logged from now on."""
        return Logs(self.data / "log")

    # --- servers --------------------------------------------------------------------------------

    def boot(self, name: str, flavor: str, host: str | None = None) -> str:
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
            **({"host": host} if host else {}),
        }
        answer = self._compute("POST", "/servers", {"server": server}, "2.74")
        number = answer.json()["server"]["id"]
        shown: dict[str, Any] = {}

        def ended() -> bool:
            nonlocal shown
            shown = self.show(number)
            return shown["status"] in ("ACTIVE", "ERROR")

        until(f"server {name} to be active", ended, 90 * self.patience)
        assert shown["status"] == "ACTIVE", shown.get("fault")
        return number

    def show(self, server: str) -> dict[str, Any]:
        return self._compute("GET", f"/servers/{server}", None, "2.74").json()["server"]

    def host_of(self, server: str) -> str:
        return self.show(server)["OS-EXT-SRV-ATTR:host"]

    def delete(self, *servers: str) -> None:
        """Delete servers and wait until they are gone, from placement too."""
        for server in servers:
            self.let_go(server)
            self.api.compute.delete_server(server, force=True, ignore_missing=True)
        for server in servers:
            until(
                f"server {server} to go", lambda s=server: not self._exists(s), 90 * self.patience
            )
            until(f"allocations of {server} to go", lambda s=server: not self.allocations(s))

    def _exists(self, server: str) -> bool:
        answer = self.api.compute.get(f"/servers/{server}", microversion="2.74")
        assert answer.status_code in (200, 404), f"{server}: {answer.status_code} {answer.text}"
        return answer.status_code == 200

    def servers(self) -> list[str]:
        answer = self._compute("GET", "/servers?all_tenants=1", None, "2.74")
        return [one["id"] for one in answer.json()["servers"]]

    def reboot(self, server: str) -> None:
        self.act(server, {"reboot": {"type": "HARD"}})

    def cold_migrate(self, server: str) -> None:
        """To wherever the scheduler wants, and confirm it."""
        self.act(server, {"migrate": None})
        if self.show(server)["status"] == "VERIFY_RESIZE":
            self.act(server, {"confirmResize": None})
            until(
                f"the resize of {server} to be confirmed",
                lambda: self.show(server)["status"] != "VERIFY_RESIZE",
            )

    def act(self, server: str, action: Mapping[str, Any]) -> None:
        """Do something to a server and wait for its end, whichever it is."""
        self._compute("POST", f"/servers/{server}/action", action, "2.74")
        # An action that is cast begins a moment later.
        time.sleep(1)
        until(
            f"{list(action)} of {server} to end",
            lambda: not self.show(server)["OS-EXT-STS:task_state"],
            limit=180 * self.patience,
        )

    def remembered(self, server: str) -> dict[str, Mapping[str, Any]]:
        """What the pretended hardware holds of a guest: the state of each device, by address."""
        guest = json.loads((self.data / f"guests/{server}.json").read_text())
        return {device["address"]: device["state"] for device in guest["devices"]}

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
        until(
            "the migration to end",
            lambda: newest().get("status") in ENDED,
            limit=180 * self.patience,
        )
        until(
            "the server's task to end",
            lambda: not self.show(server)["OS-EXT-STS:task_state"],
            limit=90 * self.patience,
        )
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

    def hold(self, server: str) -> None:
        """Let no transfer of a server end until it is let go."""
        self._held(server).touch()

    def let_go(self, server: str) -> None:
        self._held(server).unlink(missing_ok=True)

    def _held(self, server: str) -> pathlib.Path:
        return self.data / f"guests/{server}.hold"

    # --- placement ------------------------------------------------------------------------------

    def providers(self) -> dict[str, str]:
        """UUIDs of providers by name."""
        found = self._placement("/resource_providers")["resource_providers"]
        return {one["name"]: one["uuid"] for one in found}

    def allocations(self, consumer: str) -> dict[str, dict[str, int]]:
        """What a consumer holds, by the provider's name."""
        found = self._placement(f"/allocations/{consumer}")["allocations"]
        names = {number: name for name, number in self.providers().items()} if found else {}
        return {names[number]: held["resources"] for number, held in found.items()}

    def all_allocations(self) -> dict[str, dict[str, dict[str, int]]]:
        """What everybody holds, by consumer and the provider's name: a request for each provider.

        All servers are of one project, so that where nobody holds anything one request tells.
        """
        if not self._usages():
            return {}
        held: dict[str, dict[str, dict[str, int]]] = collections.defaultdict(dict)
        for name, number in self.providers().items():
            found = self._placement(f"/resource_providers/{number}/allocations")["allocations"]
            for consumer, one in found.items():
                held[consumer][name] = one["resources"]
        return dict(held)

    def _usages(self) -> dict[str, int]:
        """What servers and migrations hold together, by resource class."""
        path = f"/usages?project_id={self.api.current_project_id}"
        return dict(self._placement(path)["usages"])

    def forget_allocations(self) -> None:
        """Delete all allocations, of migrations too that ended in a failed scenario."""
        for consumer in self.all_allocations():
            self.api.placement.delete(f"/allocations/{consumer}")

    def our_traits(self, host: str) -> set[str]:
        """Traits under our prefix on a host, without the prefix."""
        return self._our_traits(self.providers()[host])

    def _our_traits(self, provider: str) -> set[str]:
        found = self._placement(f"/resource_providers/{provider}/traits")["traits"]
        return {one.removeprefix(PREFIX) for one in found if one.startswith(PREFIX)}

    def forget_traits(self) -> set[str]:
        """Take all traits under our prefix off hosts that do not publish any more.

        :returns: those that a host has all the same
        """
        for number in self.providers().values():
            path = f"/resource_providers/{number}/traits"
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
        total: collections.Counter[str] = collections.Counter()
        for providers in wanted.values():
            for resources in providers.values():
                total.update(resources)

        def so() -> bool:
            # Where each holds what it should, and they together hold all that is held, nobody
            # else holds anything.
            found = {server: self.allocations(server) for server in wanted}
            return found == wanted and self._usages() == total

        # What a migration has held goes a moment after its end.
        try:
            until("migrations' allocations to go", so, 15)
        except AssertionError:
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
        _replace(path, yaml.safe_dump(document))
        self._rewritten.add(host)

    def unsettled(self) -> list[str]:
        """The hosts whose traits are not what they accept of all traits there are or will be."""
        versions = {host: modelled(self.versions(host)) for host in self.hosts()}
        known = self.known_traits().union(*(one.own() for one in versions.values()))
        providers = self.providers()
        found = []
        for host, offered in versions.items():
            accepted = offered.accepted(known)
            if host not in providers or self._our_traits(providers[host]) != accepted:
                found.append(host)
        return found

    def settle(self, *, wait: bool = False) -> None:
        """See to it that each host publishes what it accepts, and nothing else.

        :param wait: for the cycles that come by themselves; else they are asked for
        """
        left: list[str] = []

        def settled() -> bool:
            nonlocal left
            left = self.unsettled()
            if not wait:
                # A cycle that has read an older file may still publish what that said.
                left = sorted({*left, *self._rewritten})
            if left and not wait:
                # Twice where some must learn of traits that others create.
                self.cycle(*left)
            return not left

        until("hosts to publish what they accept", settled, CYCLE, problem=lambda: f"not {left}")

    def cycle(self, *hosts: str) -> None:
        """Have hosts go through a whole cycle of their resource trackers.

        :param hosts: none for all
        """
        number = str(uuid.uuid4())
        chosen = hosts or self.hosts()
        self._rewritten.difference_update(chosen)
        for host in chosen:
            _replace(self.data / f"hosts/{host}/cycle", number)
        for host in chosen:
            done = self.data / f"hosts/{host}/cycled"
            until(
                f"a cycle of {host}",
                lambda path=done: path.exists() and path.read_text() == number,
                limit=CYCLE,
                pause=0.1,
            )

    # --- nova-devcompat's own command -----------------------------------------------------------

    def record(self, server: str) -> list[dict[str, Any]]:
        """The needs that are recorded for a server, as the operator's command shows them."""
        config = str(self.data / "etc/nova/nova.conf")
        arguments = ["need", "show", "--config-file", config, "-f", "json", server]
        return json.loads(command.run(self.programs, "nova-devcompat", *arguments))["needs"]

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
    parts = flavor.split("-")
    return model.Flavor(name=flavor, vfs=parts.count("vf"), vgpus=parts.count("vgpu")).holds(host)


def modelled(versions: Mapping[str, Any]) -> model.Versions:
    """A host's versions, for what the pretended hardware makes of them."""
    limits = versions["vgpu_version"]
    return model.Versions(
        firmware=versions["fw_version"], lowest=limits["min"], highest=limits["max"]
    )


def values(record: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """What is needed, by family and attribute, wherever the devices are."""
    return {one["family"]: one["values"] for one in record}


def fits(flavor: str, born_on: Mapping[str, Any], offered: Mapping[str, Any]) -> bool:
    """Whether a guest of a flavor that was started with some versions can run with others."""
    families = {"vf": "MLX5_VF", "vgpu": "NVIDIA_VGPU"}
    wanted = {families[part] for part in flavor.split("-") if part in families}
    needs = {trait for trait in modelled(born_on).own() if trait.split("__")[0] in wanted}
    return modelled(offered).accepted(needs) == needs


def until(
    what: str,
    met: Callable[[], bool],
    limit: float = 90.0,
    *,
    pause: float = 0.25,
    problem: Callable[[], str] = lambda: "",
) -> None:
    """Wait in bounded time.

    :param what: what is waited for
    :param limit: seconds until it must be so
    :param pause: seconds between two looks
    :param problem: what to add if it takes too long
    """
    deadline = time.monotonic() + limit
    while not met():
        assert time.monotonic() < deadline, f"waited {limit:.0f} s in vain for {what} {problem()}"
        time.sleep(pause)


def _replace(path: pathlib.Path, text: str) -> None:
    """Write a file at once."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text)
    aside.replace(path)
