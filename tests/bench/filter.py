# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the scheduler filter costs a host, as a ratio to Nova's AllHostsFilter, which does nothing.

Run ``python -m tests.bench.filter [--hosts N] [--rounds N] [--only TEXT] [--json]``. Both filters
see the same HostState objects in the same process, in turn, with documents of formats 1 and 2. The
ratio is of the least times of all rounds, since what else the machine does only ever adds.
Documents have been seen before, as by a scheduler that has run for a while; ``first`` is what the
first request takes, ms a host. Each round is another request, with stats fresh from the database,
as Nova makes HostStates anew for each request. What both formats leave must be the same.

Budgets are about 10,000 hosts in format 2. In format 1, of which most are not met, the table has
2,000: to measure all cases with 10,000 takes another five minutes.
"""

from __future__ import annotations

import argparse
import copy
import gc
import itertools
import json
import multiprocessing
import statistics
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence

import nova.monkey_patch

nova.monkey_patch.patch()

from nova import context, objects  # noqa: E402
from nova.scheduler.filters import all_hosts_filter  # noqa: E402

from nova_devcompat import wire  # noqa: E402
from nova_devcompat.compat.need import DeviceNeed, Need  # noqa: E402
from nova_devcompat.compat.policy import Policies, Policy  # noqa: E402
from nova_devcompat.compat.ruling import Guest  # noqa: E402
from nova_devcompat.scheduler import filters, lookup  # noqa: E402
from nova_devcompat.scheduler.judges import Judges  # noqa: E402
from nova_devcompat.scheduler.prunings import Prunings  # noqa: E402
from nova_devcompat.scheduler.state import SchedulerState, with_texts  # noqa: E402
from tests.bench import hosts  # noqa: E402
from tests.bench.hosts import Kind  # noqa: E402
from tests.bench.measuring import Row, Size, Times  # noqa: E402

objects.register_all()


class _State(SchedulerState):
    """The filter's state without a catalog on disk."""

    def __init__(self) -> None:
        self._reader = wire.StatsReader()
        self._judges = Judges()
        self.prunings = Prunings()

    def policies(self) -> Policies:
        gpus = {f"family_{number}": Policy() for number in range(1, 16)}
        parts = {name: Policy() for name in hosts.HOST_FAMILIES}
        return Policies(Policy(), {"gpu": Policy(), **gpus}, parts)

    def host_risks(self):
        return {}


#: By name: the hosts, and the most that the ratio may be; None where there is no budget.
CASES: dict[str, tuple[Kind, float | None]] = {
    "1 family, alike, 1 candidate": (Kind(devices=1), 0.5),
    "1 family, alike, 2 candidates": (Kind(), 0.5),
    # Eight candidates are among what a host may have for 1.0, whatever its families.
    "1 family, alike, 8 candidates": (Kind(devices=8), 1.0),
    "1 family, PCI not in placement": (Kind(vf=True, tracked=False), 0.5),
    "3 families, 1 candidate": (Kind(families=3, devices=1), 1.0),
    "3 families, 2 candidates": (Kind(families=3), 1.0),
    "3 families, 8 candidates": (Kind(families=3, devices=8), 1.0),
    "8 families, 1 candidate": (Kind(families=8, devices=1), 1.0),
    "8 families, 2 candidates": (Kind(families=8), 1.0),
    "8 families, 8 candidates": (Kind(families=8, devices=8), 1.0),
    "8 families, 8 candidates, 64 more atoms": (Kind(families=8, devices=8, atoms=64), 1.0),
    "8 families, 8 candidates, VFs": (Kind(families=8, devices=8, vf=True), 1.0),
    "8 families, 8 candidates, not whole": (Kind(families=8, devices=8, whole=False), 1.0),
    "8 families, 8 candidates, hosts of 6 generations": (
        Kind(families=8, devices=8, generations=6),
        1.0,
    ),
    "8 families, PCI not in placement, hosts of 6 generations": (
        Kind(families=8, vf=True, tracked=False, generations=6),
        1.0,
    ),
    "8 families, PCI not in placement, on every 4th host": (
        Kind(families=8, vf=True, tracked=False, having=4),
        1.0,
    ),
    "1 family, 3 host families, 2 candidates": (Kind(parts=True), 1.0),
    "8 families, 3 host families, 8 candidates": (Kind(families=8, devices=8, parts=True), 1.0),
    "guest without devices, 3 host families": (Kind(parts=True, taken=False), 1.0),
    "8 families, 8 candidates, every 10th is garbage": (
        Kind(families=8, devices=8, garbage=10),
        None,
    ),
    "unlike, 2 candidates": (Kind(unlike=True), 2.0),
    "unlike, 8 candidates": (Kind(unlike=True, devices=8), 8.0),
    "unlike, 2 candidates, not whole": (Kind(unlike=True, whole=False), 2.0),
    "unlike VFs, 8 candidates": (Kind(unlike=True, devices=8, vf=True), 8.0),
    "8 families, unlike VFs, 8 candidates": (
        Kind(families=8, unlike=True, devices=8, vf=True),
        8.0,
    ),
    "boot with a pin, 2 candidates": (Kind(), 0.5),
    "boot with a pin, unlike, 2 candidates": (Kind(unlike=True), 2.0),
}
#: Requests that cannot concern us.
PLAIN = "guest without devices"


def make_filter() -> filters.DeviceCompatFilter:
    """The filter of a scheduler that has seen no host."""
    made = object.__new__(filters.DeviceCompatFilter)
    made._state = _State()
    return made


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


def found(name: str, kind: Kind) -> dict[str, object]:
    """What is known of the request of a case."""
    if name.startswith("boot"):
        pins = Need(devices=(DeviceNeed.of("gpu", {"version": ["1.2"]}),))
        return {"guest": Guest(pins=pins, keeps_devices=False)}
    need = hosts.need_of(kind)
    return {"guest": Guest(record=need, assigned=bool(need.assigned)), "pci": kind.vf}


def looked_up(spec: objects.RequestSpec, what: dict[str, object]) -> objects.RequestSpec:
    """Another request, of which this was found out already."""
    spec = copy.copy(spec)
    setattr(spec, lookup._MEMO, lookup.Lookup(spec.instance_uuid, **what))
    return spec


def timed(filter_, states, spec, candidates):
    """Microseconds of CPU a host, and the hosts that are left."""
    for host, own in zip(states, candidates, strict=True):
        host.allocation_candidates = own
        host.stats = json.loads(json.dumps(host.stats))
    gc.collect()
    gc.disable()
    try:
        start = time.thread_time()
        left = list(filter_.filter_all(states, spec))
        return (time.thread_time() - start) / len(states) * 1e6, left
    finally:
        gc.enable()


def what_is_left(left) -> list[tuple[str, list[list[str]]]]:
    """Hosts and candidates, to be compared."""
    return [
        (host.host, [sorted(one["allocations"]) for one in host.allocation_candidates])
        for host in left
    ]


def run(counts: Mapping[int, int], rounds: int, only: str = "") -> list[dict[str, object]]:
    """The rows of all cases.

    :param counts: of hosts, by the version of the format that they write
    """
    results = [measure(name, counts, rounds) for name in CASES if only in name]
    if only in PLAIN:
        results.append(measure(PLAIN, counts, rounds))
    return results


def measure(name: str, counts: Mapping[int, int], rounds: int) -> dict[str, object]:
    """The row of one case."""
    stock = all_hosts_filter.AllHostsFilter()
    spec = make_spec()
    if name == PLAIN:
        return _plain(spec, stock, max(counts.values()), rounds)
    kind, budget = CASES[name]
    row: dict[str, object] = {"case": name, "budget": budget}
    answers = {}
    what = found(name, kind)
    for version, count in counts.items():
        states = hosts.make(kind, count, version)
        taken = [host.allocation_candidates for host in states]
        # What there is now stays for all rounds, and need not be looked at before each.
        gc.freeze()
        ours = make_filter()
        first, left = timed(ours, states, looked_up(spec, what), taken)
        assert left and len(left) < count + bool(kind.unlike), name
        some = {host.host for host in states[: min(counts.values())]}
        answers[version] = [one for one in what_is_left(left) if one[0] in some]
        text = states[1].stats[wire.STATS_KEY]
        times, base = [], []
        for _ in range(rounds):
            base.append(timed(stock, states, spec, taken)[0])
            times.append(timed(ours, states, looked_up(spec, what), taken)[0])
        row |= {
            f"hosts_{version}": count,
            f"left_{version}": len(left),
            f"first_{version}_us": round(first, 1),
            f"bytes_{version}": wire.column_size(text),
            **_figures(version, times, base),
        }
    assert len({str(one) for one in answers.values()}) == 1, name
    return row


def _figures(version: int, times: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    least, stock = min(times), min(base)
    return {
        f"us_{version}": round(least, 3),
        f"median_{version}_us": round(statistics.median(times), 3),
        f"allhosts_{version}_us": round(stock, 3),
        f"allhosts_median_{version}_us": round(statistics.median(base), 3),
        f"ratio_{version}": round(least / stock, 3),
    }


def _plain(spec, stock, count: int, rounds: int) -> dict[str, object]:
    """Requests that cannot concern us."""
    states = hosts.make(Kind(), count, 1)
    candidates = [host.allocation_candidates for host in states]
    plain = copy.copy(spec)
    plain.flavor = objects.Flavor(extra_specs={})
    ours = make_filter()
    pairs = [
        (timed(ours, states, plain, candidates)[0], timed(stock, states, spec, candidates)[0])
        for _ in range(rounds)
    ]
    times, base = zip(*pairs, strict=True)
    row: dict[str, object] = {"case": PLAIN, "budget": 0.05}
    for version in (2, 1):
        row |= {f"hosts_{version}": count, f"left_{version}": count}
        row |= _figures(version, times, base)
    return row


class _Fetching:
    """Fetches what each host publishes, and lets it pass: no filter that looks can do less."""

    def filter_all(self, states, spec):
        return [host for host, _ in with_texts(states)]


def floor(devices: int, count: int, rounds: int) -> Row:
    """What it takes to fetch what hosts publish, which is out of a processor's caches by then."""
    spec, states = make_spec(), hosts.make(Kind(devices=devices), count, 2)
    taken = [host.allocation_candidates for host in states]
    filters_ = _Fetching(), all_hosts_filter.AllHostsFilter()
    pairs = [[timed(one, states, spec, taken)[0] for one in filters_] for _ in range(rounds + 1)]
    ours, stock = (Times.of(column) for column in zip(*pairs[1:], strict=True))
    return Row(
        case=f"fetch what hosts publish, and no more, {devices} candidates",
        unit="us a host",
        ours=ours,
        stock=stock,
        beside="AllHostsFilter, which does nothing",
    )


def rows(size: Size) -> Iterator[Row]:
    """Those of all cases, with documents of both formats, and what none can do without."""
    counts = {2: size.of(10_000, 20), 1: size.of(2_000, 20)}
    for devices in (2, 8):
        yield floor(devices, counts[2], size.rounds(9))
    for row in _measured(counts, size):
        for version, count in counts.items():
            yield Row(
                case=f"{row['case']}, format {version}",
                unit="us a host",
                ours=Times(least=row[f"us_{version}"], median=row[f"median_{version}_us"]),
                stock=Times(
                    least=row[f"allhosts_{version}_us"],
                    median=row[f"allhosts_median_{version}_us"],
                ),
                beside="AllHostsFilter, which does nothing",
                budget=row["budget"],
                enough=count >= 10_000 or (version == 1 and not size.quick),
            )


def _measured(counts: Mapping[int, int], size: Size) -> Iterator[dict[str, object]]:
    """The rows of all cases, each of a process that has seen no other's hosts.

    What was freed of earlier ones has new texts lie apart in memory, and a host whose text is all
    that is looked at takes half as long again.
    """
    asked = [(name, counts, size.rounds(5)) for name in (*CASES, PLAIN)]
    if size.quick:
        yield from itertools.starmap(measure, asked)
        return
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        yield from pool.starmap(measure, asked, chunksize=1)


def shown(rows: Sequence[dict[str, object]]) -> str:
    """A table."""
    lines = [
        f"{'case':48s} {'budget':>6s} {'ratio 2':>8s} {'ratio 1':>8s} {'us 2':>7s} {'us 1':>7s} "
        f"{'AllHosts':>8s} {'first 2':>8s} {'first 1':>8s} {'bytes 2':>8s} {'bytes 1':>8s}"
    ]
    for row in rows:
        lines.append(
            f"{row['case']:48s} {row['budget'] or '-':>6} {row['ratio_2']:8.2f} "
            f"{row['ratio_1']:8.2f} {row['us_2']:7.2f} {row['us_1']:7.2f} "
            f"{row['allhosts_2_us']:8.2f} {row.get('first_2_us', '-'):>8} "
            f"{row.get('first_1_us', '-'):>8} {row.get('bytes_2', '-'):>8} "
            f"{row.get('bytes_1', '-'):>8}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="cases whose names have this")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    counts = dict.fromkeys((2, 1), arguments.hosts)
    results = run(counts, arguments.rounds, arguments.only)
    print(json.dumps(results, indent=2) if arguments.json else shown(results))


if __name__ == "__main__":
    main()
