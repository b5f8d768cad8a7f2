# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What ``nova-devcompat drain check`` of one host costs beside databases and placement.

Run ``python -m tests.bench.drain [--hosts N] [--guests N] [--json]``. By default a cloud of 2,000
hosts of 558 kinds, as in :mod:`tests.bench.stranded`, of which one with 20 guests is drained: that
is 40,000 guests in all. Each guest asks for a vGPU and a function, and each host has both free.
Nova's own filters are asked, with its objects; databases are not, and placement answers from
memory. Told are CPU seconds, memory, and how often placement is asked.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import resource
import time
import types
import uuid
from collections.abc import Iterator
from typing import Any
from unittest import mock

from nova import context as nova_context
from nova import objects, servicegroup
from nova.compute import vm_states
from nova.scheduler import request_filter
from oslo_utils import timeutils

from nova_devcompat import wire
from nova_devcompat.compat.risks import Risk
from nova_devcompat.compat.ruling import Guest
from nova_devcompat.fleet import drain as fleet_drain
from nova_devcompat.fleet.destinations import Candidates, Destination, Destinations
from nova_devcompat.scheduler import preview
from nova_devcompat.scheduler.judges import Judges
from nova_devcompat.scheduler.lookup import Lookup
from nova_devcompat.scheduler.state import SchedulerState
from tests.bench import stranded
from tests.bench.measuring import Row, Size, Times, figure

CELL = types.SimpleNamespace(name="cell1", uuid=str(uuid.UUID(int=9)), id=1)
EXTRA_SPECS = {"resources:VGPU": "1", "resources:CUSTOM_VF": "1"}
_ZEROS = dict.fromkeys(
    ("disk_available_least", "running_vms", "current_workload", "memory_mb_used", "vcpus_used"), 0
)


class State(SchedulerState):
    """The scheduler's, with the benchmark's catalog."""

    def __init__(self, needs: dict[str, Any]) -> None:
        self._reader = wire.StatsReader()
        self._judges = Judges()
        self._needs = needs

    def policies(self) -> Any:
        return stranded.POLICIES

    def host_risks(self) -> dict[str, tuple[Risk, ...]]:
        return {}

    def other_catalog(self, stats: Any) -> str:
        return ""

    def look_up_moving(self, instance: Any, spec: Any) -> Lookup:
        return Lookup(instance.uuid, Guest(record=self._needs[instance.uuid]))


class Placement:
    """Answers from memory, and counts what it is asked."""

    def __init__(self, roots: list[str]) -> None:
        self.asked = 0
        requests, summaries = [], {}
        for number, root in enumerate(roots):
            allocations: dict[str, Any] = {
                root: {"resources": {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}}
            }
            for place, name in enumerate(("VGPU", "CUSTOM_VF")):
                allocations[stranded.provider(number, place)] = {"resources": {name: 1}}
            requests.append({"allocations": allocations, "mappings": {"": list(allocations)}})
            for provider, given in allocations.items():
                summaries[provider] = {
                    "root_provider_uuid": root,
                    "resources": {
                        name: {"capacity": units * 32, "used": 0}
                        for name, units in given["resources"].items()
                    },
                }
        self._answer = requests, summaries, "1.36"

    def get_allocation_candidates(self, context: Any, resources: Any) -> Any:
        self.asked += 1
        return self._answer


def node(host: stranded.Host, root: str) -> Any:
    said = host.document
    assert said is not None
    name = host.place.host
    return objects.ComputeNode(
        id=host.id, uuid=root, host=name, hypervisor_hostname=name,
        hypervisor_type="QEMU", hypervisor_version=10_000_000, vcpus=64, memory_mb=1 << 18,
        free_ram_mb=1 << 18, free_disk_gb=900, local_gb=1_000, local_gb_used=0,
        cpu_allocation_ratio=16.0, ram_allocation_ratio=1.5, disk_allocation_ratio=1.0,
        cpu_info="", numa_topology=None, metrics=None, pci_device_pools=None,
        supported_hv_specs=[],
        stats={wire.STATS_KEY: wire.dump_stats(said)}, updated_at=timeutils.utcnow(),
        host_ip="192.0.2.1", **_ZEROS,
    )  # fmt: skip


def service(name: str) -> Any:
    return objects.Service(
        id=1, uuid=str(uuid.uuid4()), host=name, binary="nova-compute", topic="compute",
        report_count=1, disabled=False, disabled_reason=None, forced_down=False,
        availability_zone=None, last_seen_up=timeutils.utcnow(), created_at=timeutils.utcnow(),
        updated_at=timeutils.utcnow(), deleted=False, deleted_at=None,
    )  # fmt: skip


def request_of(context: Any, instance: Any, *others: Any) -> Any:
    """A request as :func:`preview.request_of` makes it, without a database."""
    spec = objects.RequestSpec(
        context=context, instance_uuid=instance.uuid, flavor=instance.flavor,
        image=objects.ImageMeta(properties=objects.ImageMetaProps()),
        numa_topology=None, pci_requests=objects.InstancePCIRequests(requests=[]),
        project_id="p", user_id="u", availability_zone=None, num_instances=1,
        ignore_hosts=[instance.host], force_hosts=None, force_nodes=None, instance_group=None,
        retry=None, limits=objects.SchedulerLimits(), scheduler_hints={}, is_bfv=False,
        requested_destination=None, security_groups=objects.SecurityGroupList(objects=[]),
        requested_networks=objects.NetworkRequestList(objects=[]),
        network_metadata=objects.NetworkMetadata(physnets=set(), tunneled=False),
    )  # fmt: skip
    spec.requested_resources = []
    spec.request_level_params = objects.RequestLevelParams()
    return spec


def guest(one: Any, host: str, context: Any) -> Any:
    flavor = objects.Flavor(
        id=1, flavorid="f", name="f", vcpus=1, memory_mb=512, root_gb=1, ephemeral_gb=0, swap=0,
        extra_specs=EXTRA_SPECS, is_public=True, disabled=False,
    )  # fmt: skip
    return types.SimpleNamespace(
        uuid=one.uuid, host=host, node=host, flavor=flavor, vm_state=vm_states.ACTIVE,
        task_state=None, _context=context, info_cache=None, system_metadata={}, pci_requests=None,
    )  # fmt: skip


class Cloud(Destinations):
    """Hosts that are in memory."""

    def __init__(self, cells: Any, placement: Placement, known: list[Destination]) -> None:
        super().__init__(cells, lambda: placement)
        self._known = known
        self.candidates = Candidates(placement)

    def of(self, cells: Any, hosts: Any = ()) -> Iterator[Destination]:
        for one in self._known:
            if not hosts or one.node.host in hosts:
                yield one

    @functools.cached_property
    def count(self) -> int:
        return len(self._known)

    @functools.cached_property
    def aggregates(self) -> dict[str, Any]:
        return {}

    def having(self, names: frozenset[str]) -> dict[str, frozenset[str]]:
        every = frozenset(one.node.uuid for one in self._known)
        return dict.fromkeys(names, every)


def run(host_count: int, guest_count: int, *, torn: bool) -> dict[str, Any]:
    context = nova_context.get_admin_context()
    roots = [str(uuid.UUID(int=(1 << 64) + number)) for number in range(host_count)]
    known = [
        Destination(node(host, root), service(host.place.host), CELL)
        for host, root in zip(stranded.hosts(host_count, torn=torn), roots, strict=True)
    ]
    # Guests of as many kinds as there are, all on the first host.
    read = list(stranded.guests(guest_count, 1, torn=torn))
    guests = [guest(one, known[0].node.host, context) for one in read]
    placement = Placement(roots)
    cells = types.SimpleNamespace(
        context=context,
        select=lambda host=None: [CELL],
        each=lambda cells, ask: ask(context),
        pass_over=print,
    )
    state = State({one.uuid: one.record for one in read})
    with contextlib.ExitStack() as stack:
        for where, name, new in (
            (fleet_drain, "instances", lambda *args: iter(guests)),
            (preview, "request_of", request_of),
            (preview, "neighbours", lambda *args: {}),
            ("nova_devcompat.fleet.explain.departures", "doubt_of", lambda *args: None),
            (servicegroup.API, "service_is_up", lambda self, service: True),
            # They ask the databases whether there are hosts of old.
            (request_filter, "ALL_REQUEST_FILTERS", []),
        ):
            if isinstance(where, str):
                stack.enter_context(mock.patch(f"{where}.{name}", new))
            else:
                stack.enter_context(mock.patch.object(where, name, new))
        start = time.process_time()
        drain = fleet_drain.Drain(Cloud(cells, placement, known), state, [known[0].node.host])
        rows = drain.rows()
        seconds = time.process_time() - start
    return {
        "case": "torn" if torn else "mixed",
        "cpu": round(seconds, 2),
        "guests": len(rows),
        "leave": sum(row.result == "leaves" for row in rows),
        "asked of placement": placement.asked,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def rows(size: Size) -> Iterator[Row]:
    """Those of both cases."""
    objects.register_all()
    host_count = size.of(2_000, 4)
    guest_count = 2 if size.quick else 20
    for torn in (False, True):
        turns = [run(host_count, guest_count, torn=torn) for _ in range(size.rounds(2))]
        case = f"{turns[0]['case']}, {guest_count} guests of one host, {host_count:,} hosts"
        yield Row(
            case=case,
            unit="s",
            ours=Times.of(float(one["cpu"]) for one in turns),
            beside="without databases and placement; Nova has no such question",
        )
        yield Row(
            case=case,
            unit="requests",
            ours=figure(float(turns[0]["asked of placement"])),
            beside="to placement, for candidates",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=2_000)
    parser.add_argument("--guests", type=int, default=20, help="on the host that is drained")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    objects.register_all()
    results = [run(options.hosts, options.guests, torn=torn) for torn in (False, True)]
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for one in results:
        print("; ".join(f"{name} {value}" for name, value in one.items()))


if __name__ == "__main__":
    main()
