# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Counts what came of a run: by operation, and by kind of fault."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rigs.chaos.checks import NOVAS, OURS, Finding
from rigs.chaos.operations import ACCEPTED, ERROR, REFUSED, VOID
from rigs.cloud.layout import write

OUTCOMES = (ACCEPTED, REFUSED, VOID, ERROR)
_COLUMNS = (*OUTCOMES, *OURS, *NOVAS, "violations")


@dataclasses.dataclass(kw_only=True)
class Report:
    """What came of a run.

    :ivar operations: counts of outcomes by operation, and of findings about their guests
    :ivar faults: the same by kind of fault; ``steps`` has that of steps
    :ivar violations: each in a line
    """

    operations: dict[str, collections.Counter[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    faults: dict[str, collections.Counter[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    violations: list[str] = dataclasses.field(default_factory=list)

    def count(self, operation: str, fault: str, outcome: str) -> None:
        """An operation in a step with a fault."""
        self.operations[operation][outcome] += 1
        self.faults[fault][outcome] += 1

    def found(self, finding: Finding, operation: str, fault: str, *, violation: bool) -> None:
        """Something that was not as it should be.

        :param operation: that was done to its guest in that step, '' for none
        """
        for counts in (self.operations[operation or "(none)"], self.faults[fault]):
            counts[finding.kind] += 1
            counts["violations"] += violation

    def lines(self, other: Report | None = None) -> Iterator[str]:
        """The tables.

        :param other: of the same plan without nova-devcompat, or with it
        """
        yield from _table("operation", self.operations)
        yield ""
        yield from _table("fault", self.faults)
        if other is not None:
            yield ""
            yield "The same plan on the other variant:"
            yield from _table("fault", other.faults)

    def save(self, path: pathlib.Path) -> None:
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        write(path, json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, path: pathlib.Path) -> Report | None:
        """One that was saved, None if there is none."""
        try:
            content: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        counters = {
            name: {key: collections.Counter(counts) for key, counts in content[name].items()}
            for name in ("operations", "faults")
        }
        return cls(**counters, violations=content["violations"])


def _table(title: str, rows: Mapping[str, collections.Counter[str]]) -> Iterator[str]:
    """Only with the columns that have anything."""
    total: collections.Counter[str] = collections.Counter()
    for counts in rows.values():
        total.update(counts)
    always = (ACCEPTED, REFUSED, ERROR, "violations")
    columns = [name for name in _COLUMNS if total[name] or name in always]
    width = max(len(title), *(len(name) for name in (*rows, "all")))
    yield _line(title, ["count", *columns], width)
    for name, counts in [*sorted(rows.items()), ("all", total)]:
        count = sum(counts[outcome] for outcome in OUTCOMES)
        yield _line(name, [count, *(counts[column] for column in columns)], width)


def _line(name: str, cells: Iterable[object], width: int) -> str:
    return f"{name:<{width}}" + "".join(f"{cell!s:>11}" for cell in cells)
