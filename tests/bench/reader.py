# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the documents of hosts cost a scheduler that sees them for the first time.

Run ``python -m tests.bench reader [--hosts N]``. Hosts have 16 families at versions of their own,
and accept 64 atoms of each besides, so that hardly two say the same. ``every text`` is what
:class:`nova_devcompat.wire.StatsReader` takes to read all of them, ``first request`` what the
filter takes for the first request that a scheduler gets, which need not read all of each. Nova's
counterpart is what it does with the same columns for each request: it makes dicts of their JSON.
Memory is what is still there when Nova has thrown its own copies away, and the most in between; of
Nova's, the most.
"""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator

from nova_devcompat import wire
from tests.bench import filter as filters
from tests.bench import hosts
from tests.bench.hosts import Kind
from tests.bench.measuring import Row, Size, Times, figure, timed

KIND = Kind(families=16, atoms=64)
HOSTS = 10_000
SECONDS, MEGABYTES = 0.5, 100


class First:
    """One scheduler that has not seen any of the hosts.

    :param states: Nova's HostStates
    :param columns: the JSON of their stats, as the database has it
    """

    def __init__(self, states: list, columns: list[str]) -> None:
        self._states = states
        self._columns = columns
        self._candidates = [host.allocation_candidates for host in states]
        self._kept: object = None
        self.hosts = len(states)

    def load(self) -> None:
        """Make HostStates' stats anew, as Nova does for each request."""
        for host, column, own in zip(self._states, self._columns, self._candidates, strict=True):
            host.stats = json.loads(column)
            host.allocation_candidates = own

    def read(self) -> None:
        """Read every text."""
        reader = self._kept = wire.StatsReader()
        for host in self._states:
            assert isinstance(reader.read(host.stats[wire.STATS_KEY]), wire.HostDocument)

    def filter(self) -> None:
        """Answer a request."""
        spec = filters.looked_up(filters.make_spec(), filters.found("", KIND))
        filter_ = self._kept = filters.make_filter()
        left = list(filter_.filter_all(self._states, spec))
        assert 0 < len(left) <= len(self._states)

    def forget(self) -> None:
        """What Nova throws away at the end of a request."""
        for host in self._states:
            host.stats = None
            host.allocation_candidates = []


def memory(first: First, run: Callable[[], None] | None) -> tuple[float, float]:
    """Megabytes that are kept, and the most in between, of Nova's copies too."""
    gc.collect()
    tracemalloc.start()
    try:
        first.load()
        if run is not None:
            run()
        first.forget()
        gc.collect()
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return kept / 1e6, most / 1e6


def rows(size: Size) -> Iterator[Row]:
    """Those of both formats."""
    count = size.of(HOSTS, 4)
    for version in (1, 2):
        states = hosts.make(KIND, count, version)
        columns = [json.dumps(host.stats) for host in states]
        bare = len(json.dumps({"num_instances": "0"}))
        yield Row(
            case=f"format {version}, column of a host",
            unit="bytes",
            ours=Times.of(map(len, columns)),
            stock=figure(bare),
            beside="the same column without ours",
        )
        first = First(states, columns)
        yield from _times(f"format {version}", first, size)
        yield from _memory(f"format {version}, first request", first)


def _times(case: str, first: First, size: Size) -> Iterator[Row]:
    own: dict[str, list[float]] = {"every text": [], "first request": []}
    stock = []
    for _ in range(size.rounds(2)):
        for what, run in (("every text", first.read), ("first request", first.filter)):
            stock.append(timed(first.load))
            own[what].append(timed(run))
    for what, listed in own.items():
        yield Row(
            case=f"{case}, {what}",
            unit="s",
            ours=Times.of(listed),
            stock=Times.of(stock),
            beside="Nova's json.loads of the same columns",
            budget=SECONDS,
            of="ours",
            enough=first.hosts >= HOSTS,
        )


def _memory(case: str, first: First) -> Iterator[Row]:
    most_of_nova = memory(first, None)[1]
    kept, most = memory(first, first.filter)
    for what, took, beside, of in (
        ("kept", kept, "the most that Nova's copies take", "ours"),
        ("most", most, "the same without ours", "more"),
    ):
        yield Row(
            case=f"{case}, {what}",
            unit="MB",
            ours=figure(took),
            stock=figure(most_of_nova),
            beside=beside,
            budget=MEGABYTES,
            of=of,
            enough=first.hosts >= HOSTS,
        )
