# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the weigher costs a request, as a ratio to Nova's own weighers.

Run ``python -m tests.bench.weigher [--hosts N] [--rounds N] [--json]``. Weighers see the same
HostState objects in the same process, in turn, through Nova's handler, which normalises,
multiplies and logs for each of them; the ratio of each pair counts. ``ratio`` is to RAMWeigher,
``ratio_all`` to all of Nova's weighers together. Documents are parsed before the first round, as
they are in a scheduler that has seen the hosts once; each round is another request, with stats
fresh from the database, as Nova makes HostStates anew for each request. All of it is done with
documents of formats 1 and 2, which must give the same weights.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import json
import statistics
import time
import uuid

import nova.monkey_patch

nova.monkey_patch.patch()

import nova.conf  # noqa: E402
from nova import context, objects  # noqa: E402
from nova.scheduler import host_manager  # noqa: E402
from nova.scheduler import weights as nova_weights  # noqa: E402
from nova.scheduler.weights import ram  # noqa: E402

from nova_devcompat import wire  # noqa: E402
from nova_devcompat.compat.family import Family  # noqa: E402
from nova_devcompat.compat.kinds import Semver, Superset  # noqa: E402
from nova_devcompat.compat.need import DeviceNeed, Need  # noqa: E402
from nova_devcompat.compat.policy import Policies, Policy  # noqa: E402
from nova_devcompat.compat.ruling import Guest  # noqa: E402
from nova_devcompat.scheduler import lookup, weights  # noqa: E402
from nova_devcompat.scheduler.state import SchedulerState  # noqa: E402
from tests.bench.measuring import Row, Times  # noqa: E402

objects.register_all()

GPU = Family(name="gpu", rules={"version": Semver(), "caps": Superset()})
NIC = Family(name="nic", rules={"fw_version": Semver()})
#: The resource classes of their devices.
CLASSES = ("VGPU", "CUSTOM_NIC")
HANDLER = nova_weights.HostWeightHandler()


class _State(SchedulerState):
    """The weigher's state without a catalog on disk."""

    def __init__(self) -> None:
        self._reader = wire.StatsReader()

    def policies(self):
        return Policies(Policy())


def make_hosts(count, *, versions, families, version=wire.STATS_VERSION):
    """Hosts with two devices of each family, alike on a host, at versions that take turns."""
    offers = [
        [GPU.offer({"version": f"1.{minor}", "caps": ["migration", "p2p"]}) for minor in versions],
        [NIC.offer({"fw_version": f"28.{minor}"}) for minor in versions],
    ][:families]
    atoms = frozenset(atom for family in offers for offer in family for atom in offer.atoms())
    accepts = [[offer.accept_set(atoms) for offer in family] for family in offers]
    hosts = []
    for number in range(count):
        host = host_manager.HostState(f"host{number}", f"host{number}", str(uuid.uuid4()))
        host.free_ram_mb = host.vcpus_total = number
        host.cpu_allocation_ratio = host.ram_allocation_ratio = host.disk_allocation_ratio = 1.0
        host.hypervisor_version = 9_000_000
        root = str(uuid.uuid4())
        devices = [
            wire.PublishedDevice(
                address=f"0000:{8 + place}{index}:00.0",
                # Families go their own ways, so that all pairs of versions occur.
                accepts=family[number // len(versions) ** place % len(versions)],
                providers=(str(uuid.uuid4()),),
                classes=(CLASSES[place],),
            )
            for place, family in enumerate(accepts)
            for index in range(2)
        ]
        document = wire.HostDocument(
            catalog="0123456789ab", whole=True, devices=tuple(devices), unnamed=frozenset()
        )
        host.stats = {"num_instances": "0", wire.STATS_KEY: wire.dump_stats(document, version)}
        taken = {
            device.providers[0]: {"resources": dict.fromkeys(device.classes, 1)}
            for device in devices[::2]
        }
        host.allocation_candidates = [
            {"allocations": {root: {"resources": {"VCPU": 1}}, **taken}, "mappings": {"": [root]}}
        ]
        hosts.append(host)
    return hosts


def make_spec(need):
    """The request of a guest with devices, looked up already, as the filter leaves it."""
    spec = objects.RequestSpec(
        context.get_admin_context(),
        instance_uuid=str(uuid.uuid4()),
        flavor=objects.Flavor(extra_specs={"resources:VGPU": "1"}),
        pci_requests=None,
        image=objects.ImageMeta(properties=objects.ImageMetaProps()),
        instance_group=None,
    )
    spec.scheduler_hints = {}
    guest = Guest(record=need or Need(), keeps_devices=need is not None)
    found = lookup.Lookup(spec.instance_uuid, guest)
    setattr(spec, lookup._MEMO, found)
    return spec


def timed(weighers, hosts, spec):
    gc.collect()
    gc.disable()
    try:
        start = time.thread_time()
        HANDLER.get_weighed_objects(weighers, hosts, spec)
        return (time.thread_time() - start) / len(hosts) * 1e6
    finally:
        gc.enable()


@contextlib.contextmanager
def options_parsed():
    """Nova's options have their defaults, and can be registered again afterwards."""
    nova.conf.CONF([], default_config_files=[], default_config_dirs=[])
    try:
        yield
    finally:
        nova.conf.CONF.clear()


@options_parsed()
def run(count, rounds):
    ours = object.__new__(weights.DeviceCompatWeigher)
    ours._state = _State()
    stock = [weigher() for weigher in nova_weights.all_weighers()]
    one = [ram.RAMWeigher()]
    needed = DeviceNeed.of("gpu", {"version": ["1.0"], "caps": ["migration"]}, slot="rc:VGPU")
    few, many = range(6), range(60)
    cases = [
        ("boot, 6 versions", few, 1, None),
        ("boot, 60 versions", many, 1, None),
        ("boot, two families of 6 versions each", few, 2, None),
        ("boot, two families of 60 versions each", many, 2, None),
        ("live migration, 6 versions", few, 1, Need(devices=(needed,))),
    ]
    results = []
    for name, versions, families, need in cases:
        weights_of = {}
        for version in (1, 2):
            hosts = make_hosts(count, versions=versions, families=families, version=version)
            spec = make_spec(need)
            timed([ours], hosts, spec)  # parses
            rows = []
            for _ in range(rounds):
                request = copy.copy(spec)
                for host in hosts:
                    host.stats = json.loads(json.dumps(host.stats))
                rows.append(
                    (
                        timed([ours], hosts, request),
                        timed(one, hosts, request),
                        timed(stock, hosts, request),
                    )
                )
            weighed = [nova_weights.WeighedHost(host, 0.0) for host in hosts]
            weights_of[version] = ours.weigh_objects(weighed, spec)
            results.append(summary(name, version, count, rows))
        assert weights_of[1] == weights_of[2], name
        assert len(set(weights_of[1])) > 1 or count < len(versions), name
    plain = make_spec(None)
    plain.flavor = objects.Flavor(extra_specs={})
    rows = [
        (timed([ours], hosts, plain), timed(one, hosts, plain), timed(stock, hosts, plain))
        for _ in range(rounds)
    ]
    results += [summary("guest without devices", version, count, rows) for version in (1, 2)]
    return results


def rows(size):
    """Those of all cases, with documents of both formats, beside each of Nova's."""
    for row in run(size.of(2_000, 20), size.rounds(5)):
        for name, beside in (("ram", "RAMWeigher"), ("all", "all of Nova's weighers together")):
            yield Row(
                case=f"{row['case']}, format {row['format']}",
                unit="us a host",
                ours=Times.of(row["figures"]["ours"]),
                stock=Times.of(row["figures"][name]),
                beside=beside,
            )


def summary(name, version, count, rows):
    ratios = [ours / one for ours, one, _ in rows]
    ours, one, every = zip(*rows, strict=True)
    return {
        "case": name,
        "format": version,
        "hosts": count,
        "figures": {"ours": ours, "ram": one, "all": every},
        "ours_us_per_host": round(statistics.median(row[0] for row in rows), 3),
        "ram_us_per_host": round(statistics.median(row[1] for row in rows), 3),
        "all_us_per_host": round(statistics.median(row[2] for row in rows), 3),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "ratio_all": round(statistics.median(ours / every for ours, _, every in rows), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = run(arguments.hosts, arguments.rounds)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for one in results:
        print(
            f"{one['case']}, format {one['format']}: {one['ours_us_per_host']} us a host, "
            "RAMWeigher "
            f"{one['ram_us_per_host']} us: ratio {one['ratio']} ({one['ratio_min']} to "
            f"{one['ratio_max']}); all of Nova's weighers {one['all_us_per_host']} us: ratio "
            f"{one['ratio_all']}"
        )


if __name__ == "__main__":
    main()
