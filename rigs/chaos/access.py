# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A cloud as the run sees it: its APIs, its databases, its hardware and its hosts' files."""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from rigs.chaos import model
from rigs.chaos.checks import Migration, Running, Server, Snapshot
from rigs.chaos.model import FLAVORS, Versions
from rigs.cloud import fleet, forks, waiting
from rigs.cloud.layout import ADDRESS, Cloud, CloudError, write
from rigs.cloud.packages import Debian
from rigs.cloud.rest import Client

#: The newest that the operations here need: a host that is named for an unshelve, 2.91, is not.
COMPUTE = "2.79"
#: The last in which a live migration can be forced.
FORCED = "2.67"
#: Seconds that a host may take for a cycle of its resource tracker.
CYCLE = 90.0
#: What Nova says where a connection to placement was lost, whichever service asked.
_LOST = "Placement API service is not responding"
#: What a nova-compute says of what placement did not do for it: it put no view of PCI devices into
#: it, or deleted no allocation since others changed the provider's at that moment.
_ALLOCATING = ("nova.exception.ReshapeFailed", "nova.exception.AllocationDeleteFailed")
#: Of a line that is about a request, its id.
_REQUEST = re.compile(r"req-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: The API's word by the database's.
_STATUS = {
    "active": "ACTIVE",
    "stopped": "SHUTOFF",
    "suspended": "SUSPENDED",
    "error": "ERROR",
    "rescued": "RESCUE",
    "shelved": "SHELVED",
    "shelved_offloaded": "SHELVED_OFFLOADED",
    "resized": "VERIFY_RESIZE",
    "building": "BUILD",
}
_INSTANCES = """
select '{name}', uuid, coalesce(vm_state, ''), coalesce(task_state, ''), coalesce(host, '')
from nova_{cell}.instances where deleted = 0 order by uuid;
"""
_CELL = """
select 'migration', uuid, instance_uuid, migration_type, status, coalesce(source_compute, ''),
  coalesce(dest_compute, '') from nova_{cell}.migrations where deleted = 0 order by id;
select 'claim', c.host, p.instance_uuid, count(*) from nova_{cell}.pci_devices p
  join nova_{cell}.compute_nodes c on c.id = p.compute_node_id
  where p.deleted = 0 and p.instance_uuid is not null and p.status in ('claimed', 'allocated')
  group by c.host, p.instance_uuid;
"""
_CENTRAL = """
select 'building', instance_uuid from nova_api.build_requests;
select 'allocation', a.consumer_id, p.name, c.name, a.used from placement.allocations a
  join placement.resource_providers p on p.id = a.resource_provider_id
  join placement.resource_classes c on c.id = a.resource_class_id;
select 'known', name from placement.traits where name like 'CUSTOM\\_DEVCOMPAT\\_%';
select 'trait', p.name, t.name from placement.resource_provider_traits r
  join placement.resource_providers p on p.id = r.resource_provider_id
  join placement.traits t on t.id = r.trait_id where t.name like 'CUSTOM\\_DEVCOMPAT\\_%';
"""


class Access:
    """See the module.

    :param cloud: it runs
    :param stock: it runs without nova-devcompat
    """

    def __init__(self, cloud: Cloud, *, stock: bool = False) -> None:
        self.cloud = cloud
        self.stock = stock
        self.cells = dict(cloud.hosts())
        self._client = Client(cloud)
        self._debian = Debian(cloud)
        self._programs = ""
        self._images: dict[str, str] = {}
        self.flavors: dict[str, str] = {}
        self._logged: dict[pathlib.Path, int] = {}

    # --- APIs -----------------------------------------------------------------------------------

    def send(
        self, method: str, path: str, body: Any = None, version: str = COMPUTE
    ) -> tuple[int, Any]:
        """Ask Nova.

        :returns: the answer's status, 0 for none, and what it says
        """
        headers = {"X-OpenStack-Nova-API-Version": version}
        try:
            status, text = self._client.answer("nova-api", method, f"/v2.1{path}", body, headers)
        except (OSError, http.client.HTTPException, CloudError) as error:
            return 0, str(error)
        try:
            return status, json.loads(text) if text else None
        except ValueError:
            return status, text.decode(errors="replace")

    def prepare(self) -> None:
        """Make the flavors, and look up what has to be known by UUID."""
        ask = self._client
        images = ask.call("glance", "GET", "/v2/images?name=playground")["images"]
        self._images = {one["name"]: one["id"] for one in images}
        for _ in range(2):
            known = ask.call("nova-api", "GET", "/v2.1/flavors")["flavors"]
            self.flavors = {one["name"]: one["id"] for one in known}
            for flavor in FLAVORS.values():
                if flavor.name not in self.flavors:
                    self._make(flavor)

    def _make(self, flavor: model.Flavor) -> None:
        body = {"flavor": {"name": flavor.name, "ram": 512, "vcpus": 1, "disk": 1}}
        made = self._client.call("nova-api", "POST", "/v2.1/flavors", body)["flavor"]["id"]
        if flavor.extra_specs:
            path = f"/v2.1/flavors/{made}/os-extra_specs"
            self._client.call("nova-api", "POST", path, {"extra_specs": flavor.extra_specs})

    def boot(self, name: str, flavor: str, host: str = "") -> tuple[int, Any]:
        server = {
            "name": name,
            "imageRef": self._images["playground"],
            "flavorRef": self.flavors[flavor],
            "networks": "none",
            **({"host": host} if host else {}),
        }
        return self.send("POST", "/servers", {"server": server})

    def act(self, server: str, action: Any, version: str = COMPUTE) -> tuple[int, Any]:
        return self.send("POST", f"/servers/{server}/action", action, version)

    def forget_allocations(self, consumer: str) -> None:
        with contextlib.suppress(CloudError):
            self._client.call("placement", "DELETE", f"/allocations/{consumer}")

    def mark_logs(self) -> None:
        """Note where logs end now."""
        self._logged = {path: path.stat().st_size for path in self._logs()}

    def placement_failed(self) -> bool:
        """Whether placement has not answered the scheduler since then, which is no refusal."""
        return any(_LOST in line for line in self._logged_by("nova-scheduler"))

    def allocating_failed(self) -> bool:
        """Whether Nova could not have placement allocate, or forget, what it wanted since then.

        It ends what it was at then and leaves it as it is (nova/compute/manager.py,
        ``_delete_allocation_after_move``, for one).
        """
        return any(
            words in line for line in self._logged_by("nova-compute") for words in _ALLOCATING
        )

    def cut_off(self, server: str) -> bool:
        """Whether placement's answer to a request about a server was lost since then.

        Nova does not know then what placement has done, and goes on as if it had done nothing
        (``nova/scheduler/client/report.py``, ``safe_connect``).
        """
        cut = {
            request[0]
            for line in self._logged_by("nova-")
            if _LOST in line and (request := _REQUEST.search(line))
        }
        return bool(cut) and any(
            server in line and (request := _REQUEST.search(line)) and request[0] in cut
            for line in self._logged_by("nova-")
        )

    def _logs(self) -> list[pathlib.Path]:
        return list((self.cloud / "log").glob("nova-*.log"))

    def _logged_by(self, services: str) -> Iterator[str]:
        """The lines since then of services whose names begin so."""
        for path in self._logs():
            if path.name.startswith(services):
                with open(path, errors="replace") as file:
                    file.seek(self._logged.get(path, 0))
                    yield from file

    # --- what it says ---------------------------------------------------------------------------

    def snapshot(self, *, records: bool = False) -> Snapshot:
        """What the cloud says now.

        :param records: those too, which takes a while
        :raises CloudError: its database does not answer
        """
        statement = _CENTRAL + _INSTANCES.format(name="buried", cell="cell0")
        for cell in self.cloud.cells:
            statement += _INSTANCES.format(name="server", cell=cell) + _CELL.format(cell=cell)
        rows = collections.defaultdict(list)
        for name, *row in self._sql(statement):
            rows[name].append(row)
        allocations: dict[str, dict[str, dict[str, int]]] = {}
        for consumer, provider, resource, used in rows["allocation"]:
            of = allocations.setdefault(consumer, {}).setdefault(provider, {})
            of[resource] = of.get(resource, 0) + int(used)
        traits: dict[str, set[str]] = {host: set() for host in self.cells}
        for provider, trait in rows["trait"]:
            traits.setdefault(provider, set()).add(trait.removeprefix(model.PREFIX))
        needs, problems = self._records() if records and not self.stock else ({}, {})
        return Snapshot(
            servers={
                number: Server(status=_STATUS.get(state, state.upper()), task=task, host=host)
                for number, state, task, host in [*rows["buried"], *rows["server"]]
            },
            migrations=[_migration(row) for row in rows["migration"]],
            running=self.running(),
            allocations=allocations,
            claims={(host, server): int(count) for host, server, count in rows["claim"]},
            records=needs,
            problems=problems,
            traits=traits,
            known={name.removeprefix(model.PREFIX) for (name,) in rows["known"]},
            building={number for (number,) in rows["building"]},
        )

    def _sql(self, statement: str) -> Iterator[list[str]]:
        done = subprocess.run(
            [
                self._debian.program("mariadb"),
                *("--no-defaults", "--batch", "--skip-column-names", "--user=cloud"),
                *(f"--host={ADDRESS}", f"--port={self.cloud.port('mariadb')}"),
                "--connect-timeout=30",
            ],
            input=statement,
            capture_output=True,
            text=True,
            timeout=120,
            env={
                **os.environ,
                **self._debian.environ(),
                "MYSQL_PWD": self.cloud.settings.passwords["database"],
            },
        )
        if done.returncode:
            raise CloudError(f"the database does not answer: {done.stderr.strip()}")
        return (line.split("\t") for line in done.stdout.splitlines())

    def running(self) -> dict[str, Running]:
        """The guests of the pretended hardware."""
        found = {}
        for path in (self.cloud / "guests").glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                guest = json.loads(path.read_text())
                states = tuple(device["state"] for device in guest["devices"])
                found[guest["uuid"]] = Running(host=guest["host"], states=states)
        return found

    @contextlib.contextmanager
    def commands(self) -> Iterator[None]:
        """Have nova-devcompat at hand, its modules imported once."""
        if self.stock:
            yield
            return
        with tempfile.TemporaryDirectory() as folder:
            self._programs = str(pathlib.Path(folder, "socket"))
            command = [self.cloud.program("python"), "-W", "ignore", str(forks.__file__)]
            with (
                open(self.cloud / "log/chaos-forks.log", "ab") as log,
                subprocess.Popen([*command, "serve", self._programs], stderr=log) as server,
            ):
                try:
                    waiting.until(
                        "nova-devcompat to be at hand",
                        lambda: os.path.exists(self._programs),
                        limit=120,
                    )
                    yield
                finally:
                    server.kill()

    def _records(self) -> tuple[dict[str, model.Need], dict[str, str]]:
        config = f"--config-file={self.cloud / 'etc/nova/nova.conf'}"
        script = [self.cloud.program("python"), "-S", "-E", str(forks.__file__)]
        arguments = ["nova-devcompat", "need", "list", config, "-f", "json"]
        done = subprocess.run(
            [*script, "run", self._programs, *arguments], capture_output=True, timeout=120
        )
        if done.returncode:
            raise CloudError(f"need list failed: {done.stderr.decode(errors='replace')[-500:]}")
        needs: dict[str, model.Need] = {}
        problems: dict[str, str] = {}
        for row in json.loads(done.stdout):
            if row["problem"]:
                problems[row["instance"]] = row["problem"]
            if row["family"] and row["need"]:
                attribute, _, values = row["need"].partition(" ")
                of = needs.setdefault(row["instance"], {}).setdefault(row["family"], {})
                merged = {*of.get(attribute, ()), *values.upper().split(",")}
                of[attribute] = sorted(merged)
        return needs, problems

    # --- hosts ----------------------------------------------------------------------------------

    def set_versions(self, host: str, versions: Versions) -> None:
        """Give a host devices of other versions, as an upgrade does."""
        card = {"vendor_id": "15b3", "product_id": "101e", "fw_version": versions.firmware}
        limits = {"min": versions.lowest, "max": versions.highest}
        gpu = {"mdev_type": "nvidia-558", "vgpu_version": limits}
        devices = [
            {"address": fleet.PF, "attributes": card},
            {"address": fleet.GPU, "attributes": gpu},
        ]
        document = {"meta": {"schema_version": "1.0"}, "hosts": {host: {"devices": devices}}}
        # JSON is YAML too.
        write(fleet.inventory_path(self.cloud, host), json.dumps(document, indent=1) + "\n")

    def cycle(self, hosts: Sequence[str]) -> None:
        """Have hosts go through a whole cycle of their resource trackers.

        :raises CloudError: one does not
        """
        number = str(uuid.uuid4())
        for host in hosts:
            write(self.cloud / f"hosts/{host}/cycle", number)
        end = time.monotonic() + CYCLE
        for host in hosts:
            done = self.cloud / f"hosts/{host}/cycled"
            while not (done.exists() and done.read_text() == number):
                if time.monotonic() > end:
                    raise CloudError(f"{host} has gone through no cycle in {CYCLE:.0f} s")
                time.sleep(0.1)


def _migration(row: Sequence[str]) -> Migration:
    uuid_, server, kind, status, source, destination = row
    return Migration(
        uuid=uuid_,
        server=server,
        kind=kind,
        status=status,
        source=source,
        destination=destination,
    )
