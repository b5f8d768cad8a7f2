# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Counts what came of a run, or of several: by operation, and by kind of fault."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rigs.chaos.checks import NOVAS, OURS
from rigs.chaos.operations import ACCEPTED, ERROR, REFUSED, VOID
from rigs.cloud.layout import CloudError, write

OUTCOMES = (ACCEPTED, REFUSED, VOID, ERROR)
#: Of findings: those that must not be, and those that Nova has by itself.
VIOLATIONS, BY_NOVA = "violations", "Nova's"
_COLUMNS = (*OUTCOMES, *OURS, *NOVAS, VIOLATIONS, BY_NOVA)
#: Those that are there although nothing was counted: "unfit" is a guest that was moved to where it
#: does not fit.
_ALWAYS = (ACCEPTED, REFUSED, ERROR, "unfit", VIOLATIONS, BY_NOVA)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """Something that was not as it should be, and when.

    :ivar step: its number in the plan
    :ivar operation: that was done to the guest in that step, '' for none
    :ivar kind: of the finding
    :ivar violation: whether Nova has no reason for it that this run shows
    """

    step: int
    fault: str
    operation: str
    kind: str
    text: str
    violation: bool

    def __str__(self) -> str:
        return f"step {self.step}, {self.fault}: {self.kind}: {self.text}"


@dataclasses.dataclass(kw_only=True)
class Report:
    """What came of a run, or of several.

    :ivar stock: whether it was without nova-devcompat
    :ivar planned: how many operations there were to be
    :ivar operations: counts of outcomes by operation, and of findings about their guests
    :ivar faults: the same by kind of fault
    :ivar seconds: that steps took, by kind of fault
    :ivar findings: in the order of their steps
    """

    stock: bool = False
    planned: int = 0
    operations: dict[str, collections.Counter[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    faults: dict[str, collections.Counter[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    seconds: dict[str, list[float]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )
    findings: list[Found] = dataclasses.field(default_factory=list)

    @property
    def done(self) -> int:
        """How many operations there were."""
        return sum(counts[outcome] for counts in self.faults.values() for outcome in OUTCOMES)

    @property
    def violations(self) -> list[Found]:
        return [one for one in self.findings if one.violation]

    def count(self, operation: str, fault: str, outcome: str) -> None:
        """An operation in a step with a fault."""
        self.operations[operation][outcome] += 1
        self.faults[fault][outcome] += 1

    def found(self, found: Found) -> None:
        """Something that was not as it should be."""
        self.findings.append(found)
        for counts in (self.operations[found.operation or "(none)"], self.faults[found.fault]):
            counts[found.kind] += 1
            counts[VIOLATIONS if found.violation else BY_NOVA] += 1

    def took(self, fault: str, seconds: float) -> None:
        """How long a step took, with what was waited for after it."""
        self.seconds[fault].append(round(seconds, 1))

    def add(self, other: Report) -> None:
        """Have what came of another run of this variant counted too."""
        self.planned += other.planned
        for own, others in ((self.operations, other.operations), (self.faults, other.faults)):
            for name, counts in others.items():
                own[name].update(counts)
        for fault, seconds in other.seconds.items():
            self.seconds[fault] += seconds
        self.findings += other.findings

    def told_apart(self, stock: Report) -> list[Found]:
        """Those violations that Nova shows by itself.

        :param stock: of the same steps without nova-devcompat
        """
        shown = {(one.step, one.operation, one.kind) for one in stock.findings}
        return [
            one
            for one in self.violations
            if one.kind in NOVAS and (one.step, one.operation, one.kind) in shown
        ]

    def take_off(self, violations: Sequence[Found]) -> None:
        """Have some be findings and no violations."""
        for one in violations:
            place = self.findings.index(one)
            self.findings[place] = dataclasses.replace(one, violation=False)
            for counts in (self.operations[one.operation or "(none)"], self.faults[one.fault]):
                counts[VIOLATIONS] -= 1
                counts[BY_NOVA] += 1

    def lines(self, other: Report | None = None) -> Iterator[str]:
        """The tables.

        :param other: of the same plan without nova-devcompat, or with it
        """
        yield from _table("operation", self.operations)
        yield ""
        yield from _table("fault", self.faults)
        yield ""
        yield from self._times()
        if other is not None:
            yield ""
            yield "The same plan on the other variant:"
            yield from _table("fault", other.faults)

    def _times(self) -> Iterator[str]:
        every = [one for seconds in self.seconds.values() for one in seconds]
        rows = {**dict(sorted(self.seconds.items())), "all": every}
        width = max(map(len, ("fault", *rows)))
        yield _line("fault", ["steps", "seconds", "median", "longest"], width)
        for fault, seconds in rows.items():
            middle = statistics.median(seconds or [0])
            longest = max(seconds, default=0.0)
            figures = [f"{one:.1f}" for one in (sum(seconds), middle, longest)]
            yield _line(fault, [len(seconds), *figures], width)

    def save(self, path: pathlib.Path) -> None:
        content = {
            "stock": self.stock,
            "planned": self.planned,
            "operations": self.operations,
            "faults": self.faults,
            "seconds": self.seconds,
            "findings": [dataclasses.asdict(one) for one in self.findings],
        }
        write(path, json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, path: pathlib.Path) -> Report | None:
        """One that was saved, None if there is none, or one of another version of this."""
        try:
            content: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        if not {field.name for field in dataclasses.fields(cls)} <= content.keys():
            return None
        report = cls(stock=content["stock"], planned=content["planned"])
        for own, name in ((report.operations, "operations"), (report.faults, "faults")):
            for key, counts in content[name].items():
                own[key].update(counts)
        report.seconds.update(content["seconds"])
        report.findings += [Found(**one) for one in content["findings"]]
        return report


def added_up(paths: Sequence[pathlib.Path]) -> dict[bool, Report]:
    """What came of several runs together, such as the shares of a plan.

    :returns: by whether it was without nova-devcompat
    :raises CloudError: one cannot be read
    """
    together: dict[bool, Report] = {}
    for path in paths:
        report = Report.load(path)
        if report is None:
            raise CloudError(f"{path} is no report of this version of chaos")
        together.setdefault(report.stock, Report(stock=report.stock)).add(report)
    return together


def _table(title: str, rows: Mapping[str, collections.Counter[str]]) -> Iterator[str]:
    """Only with the columns that have anything."""
    total: collections.Counter[str] = collections.Counter()
    for counts in rows.values():
        total.update(counts)
    columns = [name for name in _COLUMNS if total[name] or name in _ALWAYS]
    width = max(len(title), *(len(name) for name in (*rows, "all")))
    yield _line(title, ["tried", *columns], width)
    for name, counts in [*sorted(rows.items()), ("all", total)]:
        count = sum(counts[outcome] for outcome in OUTCOMES)
        yield _line(name, [count, *(counts[column] for column in columns)], width)


def _line(name: str, cells: Iterable[object], width: int) -> str:
    return f"{name:<{width}}" + "".join(f"{cell!s:>11}" for cell in cells)
