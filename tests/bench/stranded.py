# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What ``nova-devcompat stranded`` costs once a cloud is read.

Run ``python -m tests.bench.stranded [--hosts N] [--guests N] [--json]``. By default 2,000 hosts of
558 kinds and 40,000 guests of 549 kinds of need, in one cell. In ``mixed`` most guests have many
hosts, as in a cloud; in ``torn`` all kinds of hosts must be asked about all kinds of guests, since
hardly any takes another's guests. Hosts are read from the documents that they publish. CPU seconds
are for finding and grouping; ``read`` is what reading the same entries took, without databases.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import time
import uuid
from collections.abc import Iterator

from nova_devcompat import wire
from nova_devcompat.catalog.model import Catalog, CatalogFamily
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.kinds import Semver
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Policies, Policy
from nova_devcompat.fleet import census
from nova_devcompat.fleet.model import Host, Place, RunningGuest
from nova_devcompat.fleet.outlook import Outlook
from nova_devcompat.fleet.room import Room
from tests.bench.measuring import Row, Size, Times, figure

FAMILIES = {
    "gpu": Family(name="gpu", rules={"version": Semver()}),
    "nic": Family(name="nic", rules={"fw_version": Semver()}),
}
CATALOG = Catalog(
    digest="0123456789ab",
    families={
        name: CatalogFamily(family=family, match={"x": "y"}, source="static")
        for name, family in FAMILIES.items()
    },
)
POLICIES = Policies(Policy(), {name: Policy() for name in FAMILIES}, {})
ASKS = (("CUSTOM_VF", 1), ("VGPU", 1))

# 31 x 18 kinds of hosts, 61 x 9 kinds of guests.
GPUS, NICS = 31, 18
NEEDED_GPUS, NEEDED_NICS = 61, 9


def version(number: int, *, torn: bool) -> str:
    """Majors, of which none takes another's guests, or minors, of which each takes all before."""
    return f"{number}.0" if torn else f"1.{number}"


def documents(*, torn: bool) -> Iterator[tuple[list, list]]:
    gpus = [FAMILIES["gpu"].offer({"version": version(n, torn=torn)}) for n in range(NEEDED_GPUS)]
    nics = [FAMILIES["nic"].offer({"fw_version": version(n, torn=torn)}) for n in range(NICS)]
    atoms = frozenset(atom for offer in (*gpus, *nics) for atom in offer.atoms())
    yield (
        [offer.accept_set(atoms) for offer in gpus[:GPUS]],
        [offer.accept_set(atoms) for offer in nics],
    )


def hosts(count: int, *, torn: bool) -> Iterator[Host]:
    reader = wire.StatsReader()
    ((gpus, nics),) = documents(torn=torn)
    for number in range(count):
        kind = number % (GPUS * NICS)
        devices = tuple(
            wire.PublishedDevice(
                address=f"0000:8{place}:00.0",
                accepts=accepts,
                providers=(provider(number, place),),
            )
            for place, accepts in enumerate((gpus[kind % GPUS], nics[kind // GPUS]))
        )
        document = wire.HostDocument(catalog="0123456789ab", whole=True, devices=devices)
        said = reader.read(wire.dump_stats(document))
        assert isinstance(said, wire.HostDocument)
        name = f"cmp{number}"
        yield Host(place=Place(name, name), said=said, id=number)


def provider(number: int, place: int) -> str:
    return str(uuid.UUID(int=number * 2 + place + 1))


def guests(count: int, of: int, *, torn: bool) -> Iterator[RunningGuest]:
    for number in range(count):
        kind = number % (NEEDED_GPUS * NEEDED_NICS)
        gpu = version(kind % NEEDED_GPUS, torn=torn)
        nic = version(kind // NEEDED_GPUS, torn=torn)
        name = f"cmp{number % of}"
        yield RunningGuest(
            uuid=str(uuid.UUID(int=number)),
            place=Place(name, name),
            # Afresh for each guest, as records are read.
            record=Need(
                devices=(
                    DeviceNeed.of("gpu", {"version": [gpu]}, slot="rc:VGPU", address=str(number)),
                    DeviceNeed.of("nic", {"fw_version": [nic]}, slot="rc:CUSTOM_VF"),
                )
            ),
            asks=ASKS,
        )


def run(host_count: int, guest_count: int, *, torn: bool, with_room: bool) -> dict:
    gc.collect()
    start = time.process_time()
    outlook = Outlook(CATALOG, POLICIES)
    outlook.read(hosts(host_count, torn=torn))
    outlook.read(guests(guest_count, host_count, torn=torn))
    read = time.process_time()
    room = None
    if with_room:
        # One host in three has a GPU free, and all have functions.
        free = {
            ask: frozenset(
                provider(number, place) for number in range(host_count) if place or not number % 3
            )
            for place, ask in ((1, ASKS[0]), (0, ASKS[1]))
        }
        room = Room(free)
    rows = list(census.by_cause(outlook.findings(room)))
    return {
        "case": f"{'torn' if torn else 'mixed'}{', with room' if with_room else ''}",
        "read": round(read - start, 2),
        "cpu": round(time.process_time() - read, 2),
        "stranded": sum(int(row.guests) for row in rows),
        "rows": len(rows),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def rows(size: Size) -> Iterator[Row]:
    """Those of all cases, of 2,000 hosts and 50,000 guests."""
    host_count = size.of(2_000, 4)
    guest_count = 25 * host_count
    enough = host_count >= 2_000
    for torn in (False, True):
        for with_room in (False, True):
            turns = [
                run(host_count, guest_count, torn=torn, with_room=with_room)
                for _ in range(size.rounds(2))
            ]
            yield Row(
                case=f"{turns[0]['case']}, {guest_count:,} guests",
                unit="s",
                ours=Times.of(float(one["cpu"]) for one in turns),
                stock=Times.of(float(one["read"]) for one in turns),
                beside="reading the same from memory; Nova has no such question",
                budget=10,
                of="ours",
                enough=enough,
            )
    yield Row(
        case=f"all of these, {guest_count:,} guests",
        unit="MiB",
        ours=figure(float(turns[0]["peak_mib"])),
        beside="the most of the process",
        budget=500,
        of="ours",
        enough=enough,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=2_000)
    parser.add_argument("--guests", type=int, default=40_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = [
        run(options.hosts, options.guests, torn=torn, with_room=with_room)
        for torn in (False, True)
        for with_room in (False, True)
    ]
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for one in results:
        print("; ".join(f"{name} {value}" for name, value in one.items()))


if __name__ == "__main__":
    main()
