# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the scheduler filter costs a host, as a ratio to Nova's AllHostsFilter, which does nothing.

Run ``python -m tests.bench.filter [--hosts N] [--rounds N] [--json]``. Both filters see the same
HostState objects in the same process, in turn, and the ratio of each pair counts: what else the
machine does then touches both. Accept-sets are parsed before the first round, as they are in a
scheduler that has seen the hosts once; each round is another request, so that no verdict is kept,
with stats fresh from the database, as Nova makes HostStates anew for each request.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import statistics
import time
import uuid

import nova.monkey_patch

nova.monkey_patch.patch()

from nova import context, objects  # noqa: E402
from nova.scheduler import host_manager  # noqa: E402
from nova.scheduler.filters import all_hosts_filter  # noqa: E402

from nova_devcompat import wire  # noqa: E402
from nova_devcompat.compat.family import Family, Subject  # noqa: E402
from nova_devcompat.compat.kinds import OneOf, Semver, Superset  # noqa: E402
from nova_devcompat.compat.need import DeviceNeed, Need, host_slot  # noqa: E402
from nova_devcompat.compat.ruling import Guest  # noqa: E402
from nova_devcompat.compat.traits import Atom  # noqa: E402
from nova_devcompat.scheduler import filters, lookup  # noqa: E402

objects.register_all()

FAMILY = Family(name="gpu", rules={"version": Semver(), "caps": Superset()})
VERSIONS = ["1.0", "1.1", "1.2", "1.3", "1.4", "2.0"]
REQUEST_ID = "8d1b0ef4-5b0b-4a3e-a1e9-7c2f6a9a2d11"


class _State:
    """The filter's state without a catalog on disk."""

    def __new__(cls):
        from nova_devcompat.compat.policy import Policies, Policy
        from nova_devcompat.scheduler.state import SchedulerState

        state = object.__new__(SchedulerState)
        state._reader = wire.StatsReader()
        policies = Policies(Policy(), {"gpu": Policy()})
        state.policies = lambda: policies
        return state


def make_hosts(
    count: int,
    *,
    tracked: bool,
    unlike: bool = False,
    parts: bool = False,
    devices: bool = True,
) -> list[host_manager.HostState]:
    """Hosts with two devices each, at versions that take turns.

    :param devices: whether the candidates take one
    :param unlike: whether the two differ, and the document names not all of the host's
    :param parts: whether they have three host families, too
    """
    offers = [FAMILY.offer({"version": v, "caps": ["migration", "p2p"]}) for v in VERSIONS]
    atoms = frozenset(atom for offer in offers for atom in offer.atoms())
    hosts = []
    qemus = [
        tuple(
            wire.PublishedDevice(
                address=name, accepts=host_family(name).offer(facts).accept_set(MACHINE_ATOMS)
            )
            for name in ("libvirt", "qemu", "qemu_machine")
        )
        for facts in (
            {"machine": [f"pc-q35-8.{minor}" for minor in range(most)]} for most in range(20, 26)
        )
    ]
    for number in range(count):
        host = host_manager.HostState(f"host{number}", f"host{number}", uuid.uuid4())
        accepts = [
            offers[(number + index * unlike) % len(offers)].accept_set(atoms) for index in range(2)
        ]
        taken = tracked and devices
        root, *providers = (str(uuid.uuid4()) for _ in range(3))
        document = wire.HostDocument(
            catalog="0123456789ab",
            whole=not unlike,
            devices=tuple(
                wire.PublishedDevice(
                    address=f"0000:8{index}:00.0",
                    accepts=accepts[index],
                    providers=(provider,) if tracked else (),
                )
                for index, provider in enumerate(providers)
            ),
            host=qemus[number % len(qemus)] if parts else (),
        )
        host.stats = {"num_instances": "0", wire.STATS_KEY: wire.dump_stats(document)}
        host.allocation_candidates = [
            {
                "allocations": {
                    root: {"resources": {"VCPU": 1, "MEMORY_MB": 512}},
                    **({provider: {"resources": {"VGPU": 1}}} if taken else {}),
                },
                "mappings": {"": [root, provider] if taken else [root]},
            }
            for provider in (providers if taken else providers[:1])
        ]
        hosts.append(host)
    return hosts


def host_family(name: str) -> Family:
    return Family(name=name, rules={"machine": OneOf()}, subject=Subject.HOST)


MACHINE_ATOMS = frozenset(
    Atom(name, "machine", f"pc-q35-8.{minor}")
    for name in ("libvirt", "qemu", "qemu_machine")
    for minor in range(30)
)


def using(*devices: DeviceNeed) -> dict[str, object]:
    """What is known of a request for a guest with these devices, that uses what its host has."""
    of_host = [
        DeviceNeed.of(name, {"machine": ["pc-q35-8.22"]}, slot=host_slot(name))
        for name in ("libvirt", "qemu", "qemu_machine")
    ]
    need = Need(devices=(*devices, *of_host))
    return {"guest": Guest(record=need, assigned=bool(need.assigned))}


def make_spec() -> objects.RequestSpec:
    """The request of a guest with a vGPU."""
    spec = objects.RequestSpec(
        context.get_admin_context(),
        instance_uuid=str(uuid.uuid4()),
        flavor=objects.Flavor(extra_specs={"resources:VGPU": "1"}),
        pci_requests=None,
    )
    spec.scheduler_hints = {}
    return spec


def moving(slot: str) -> dict[str, object]:
    """What is known of a request for a guest in live migration."""
    need = DeviceNeed.of("gpu", {"version": ["1.2"], "caps": ["migration"]}, slot=slot)
    return {"guest": Guest(record=Need(devices=(need,)))}


def booting() -> dict[str, object]:
    """The same for the first boot of a guest whose flavor pins the version."""
    pins = Need(devices=(DeviceNeed.of("gpu", {"version": ["1.2"]}),))
    return {"guest": Guest(pins=pins, keeps_devices=False)}


def looked_up(spec: objects.RequestSpec, found: dict[str, object]) -> objects.RequestSpec:
    """Another request, of which this was found out already."""
    spec = copy.copy(spec)
    setattr(spec, lookup._MEMO, lookup.Lookup(spec.instance_uuid, **found))
    return spec


def timed(filter_, hosts, spec, candidates):
    for host, own in zip(hosts, candidates, strict=True):
        host.allocation_candidates = own
        host.stats = json.loads(json.dumps(host.stats))
    gc.collect()
    gc.disable()
    try:
        start = time.thread_time()
        left = list(filter_.filter_all(hosts, spec))
        return (time.thread_time() - start) / len(hosts) * 1e6, len(left)
    finally:
        gc.enable()


def run(count: int, rounds: int) -> list[dict[str, object]]:
    ours = object.__new__(filters.DeviceCompatFilter)
    ours._state = _State()
    stock = all_hosts_filter.AllHostsFilter()
    spec = make_spec()
    results = []
    gpu, pci = moving("rc:VGPU"), moving(f"pci:{REQUEST_ID}")
    alike = {"tracked": True}
    unlike = {"tracked": True, "unlike": True}
    parts = {"tracked": True, "parts": True}
    cases = [
        ("guest with a vGPU", gpu, alike),
        ("guest with a PCI device not in placement", pci, {"tracked": False}),
        ("guest with a vGPU, hosts with unlike devices", gpu, unlike),
        ("guest with a vGPU, host families", using(*gpu["guest"].need.devices), parts),
        ("guest without devices, host families", using(), {**parts, "devices": False}),
        ("boot with a pinned vGPU", booting(), alike),
        ("boot with a pinned vGPU, hosts with unlike devices", booting(), unlike),
    ]
    for name, found, made in cases:
        hosts = make_hosts(count, **made)
        candidates = [host.allocation_candidates for host in hosts]
        timed(ours, hosts, looked_up(spec, found), candidates)  # parses
        pairs = []
        for _ in range(rounds):
            base_us, base_left = timed(stock, hosts, spec, candidates)
            our_us, left = timed(ours, hosts, looked_up(spec, found), candidates)
            assert base_left == count and 0 < left < count, (base_left, left)
            pairs.append((our_us, base_us))
        results.append(summary(name, count, left, pairs))
    hosts = make_hosts(count, tracked=True)
    candidates = [host.allocation_candidates for host in hosts]
    plain = copy.copy(spec)
    plain.flavor = objects.Flavor(extra_specs={})
    pairs = []
    for _ in range(rounds):
        base_us, _ = timed(stock, hosts, spec, candidates)
        our_us, left = timed(ours, hosts, plain, candidates)
        pairs.append((our_us, base_us))
    results.append(summary("guest without devices", count, left, pairs))
    return results


def summary(name, count, left, pairs):
    ratios = [ours / stock for ours, stock in pairs]
    return {
        "case": name,
        "hosts": count,
        "left": left,
        "ours_us_per_host": round(statistics.median(ours for ours, _ in pairs), 3),
        "allhosts_us_per_host": round(statistics.median(stock for _, stock in pairs), 3),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = run(arguments.hosts, arguments.rounds)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for one in results:
        print(
            f"{one['case']}: {one['ours_us_per_host']} us a host, AllHostsFilter "
            f"{one['allhosts_us_per_host']} us: ratio {one['ratio']} "
            f"({one['ratio_min']} to {one['ratio_max']}); {one['left']} of {one['hosts']} left"
        )


if __name__ == "__main__":
    main()
