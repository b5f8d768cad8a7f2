# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What benchmarks have in common: how time is taken, and how a result is written.

Ours and its stock counterpart run in the same process, in turn, as often as there are rounds, each
beginning every other one. The ratio is of the least times, since what else the machine does only
ever adds; the medians stand beside them.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is measured.

    :param quick: of each kind as little as shows that it runs
    :param hosts: in place of those that a benchmark has by default
    """

    quick: bool = False
    hosts: int | None = None

    def of(self, default: int, quick: int) -> int:
        """How many hosts, or providers that stand for hosts."""
        return self.hosts or (quick if self.quick else default)

    def rounds(self, default: int) -> int:
        """How many rounds count."""
        return 1 if self.quick else default

    @property
    def unmeasured(self) -> int:
        """How many rounds come before these."""
        return 0 if self.quick else 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """The least of several figures, and their median."""

    least: float
    median: float

    @classmethod
    def of(cls, figures: Iterable[float], factor: float = 1) -> Times:
        listed = [figure * factor for figure in figures]
        return cls(least=min(listed), median=statistics.median(listed))

    def times(self, factor: float) -> Times:
        """The same in another unit, or for each of several."""
        return Times(least=self.least * factor, median=self.median * factor)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the table.

    :param case: what is measured, in a few words
    :param unit: of the figures
    :param ours: what it costs with ours, or what ours costs
    :param stock: what the counterpart costs in the same run; None where Nova has none
    :param beside: what the counterpart is
    :param budget: the most that is allowed; None where there is no budget
    :param of: of which that is the most: ``ratio``, ``ours`` or ``more`` (ours over the stock's)
    :param enough: whether what was measured is what the budget is about, so that whether it is met
        can be told
    """

    case: str
    unit: str
    ours: Times
    beside: str
    stock: Times | None = None
    budget: float | None = None
    of: str = "ratio"
    enough: bool = True

    @property
    def ratio(self) -> float | None:
        """Ours to stock."""
        if self.stock is None or not self.stock.least:
            return None
        return self.ours.least / self.stock.least

    @property
    def met(self) -> bool | None:
        """Whether the budget is met; None where there is none or that cannot be told."""
        if self.budget is None or not self.enough:
            return None
        if self.of == "ours":
            figure = self.ours.least
        elif self.of == "more":
            figure = self.ours.least - (self.stock.least if self.stock else 0)
        else:
            if self.ratio is None:
                return None
            figure = self.ratio
        return figure <= self.budget

    def plain(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            **dataclasses.asdict(self),
            "ratio": None if self.ratio is None else round(self.ratio, 4),
            "met": self.met,
        }


def row_of(plain: Mapping[str, Any]) -> Row:
    """The row of what :meth:`Row.plain` wrote."""
    values = {key: value for key, value in plain.items() if key not in ("ratio", "met")}
    for key in ("ours", "stock"):
        values[key] = values[key] and Times(**values[key])
    return Row(**values)


def figure(value: float) -> Times:
    """One that is counted rather than timed."""
    return Times(least=value, median=value)


def timed(run: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """Seconds of CPU that something takes, without the collection of garbage of others."""
    gc.collect()
    gc.disable()
    try:
        start = clock()
        run()
        return clock() - start
    finally:
        gc.enable()


def in_turn(
    what: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.process_time,
    *,
    unmeasured: int = 1,
) -> dict[str, Times]:
    """Seconds of CPU of each of several, in turn.

    :param unmeasured: rounds before, which do not count
    """
    names = list(what)
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(unmeasured + rounds):
        for name in names if turn % 2 else reversed(names):
            seconds = timed(what[name], clock)
            if turn >= unmeasured:
                found[name].append(seconds)
    return {name: Times.of(listed) for name, listed in found.items()}


def shown(rows: Mapping[str, Iterable[Row]]) -> str:
    """The table of all benchmarks, by their names."""
    lines = [
        f"{'benchmark':10s} {'case':58s} {'ours':>9s} {'median':>9s} {'stock':>9s} {'median':>9s} "
        f"{'unit':11s} {'ratio':>7s} {'budget':>13s} {'met':4s} beside"
    ]
    for name, listed in rows.items():
        for row in listed:
            stock = row.stock
            lines.append(
                f"{name:10s} {row.case:58s} {_number(row.ours.least)} {_number(row.ours.median)} "
                f"{_number(stock and stock.least)} {_number(stock and stock.median)} "
                f"{row.unit:11s} {_ratio(row.ratio)} {_budget(row):>13s} {_met(row):4s} "
                f"{row.beside}"
            )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None:
        return f"{'-':>9s}"
    return f"{value:9.0f}" if value >= 1_000 or value == int(value) else f"{value:9.3f}"


def _ratio(value: float | None) -> str:
    return f"{'-':>7s}" if value is None else f"{value:7.3f}"


def _budget(row: Row) -> str:
    if row.budget is None:
        return "-"
    return {"ratio": "", "ours": "ours ", "more": "more "}[row.of] + f"{row.budget:g}"


def _met(row: Row) -> str:
    return "-" if row.met is None else "yes" if row.met else "NO"
