# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Compares what came of the same tests in two variants."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping

from rigs.nova_suite.runner import TestOutcome


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """A test that did not come to the same in both.

    :param stock: what came of it; None if it is not there
    """

    test: str
    stock: TestOutcome | None
    ours: TestOutcome | None

    def __str__(self) -> str:
        return f"{self.test}: stock {_status(self.stock)}, ours {_status(self.ours)}"


def differences(
    stock: Mapping[str, TestOutcome], ours: Mapping[str, TestOutcome]
) -> tuple[Difference, ...]:
    """The tests whose status differs, and those that only one variant has."""
    return tuple(
        Difference(test=test, stock=stock.get(test), ours=ours.get(test))
        for test in sorted(stock.keys() | ours.keys())
        if _status(stock.get(test)) != _status(ours.get(test))
    )


def failed_in_both(stock: Mapping[str, TestOutcome], ours: Mapping[str, TestOutcome]) -> list[str]:
    """Tests that fail without us too."""
    return sorted(
        test
        for test in stock.keys() & ours.keys()
        if stock[test].status == "fail" == ours[test].status
    )


def by_status(outcomes: Iterable[TestOutcome]) -> str:
    """How many came to what, in words."""
    counts = collections.Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none"


def what_ours_did(outcomes: Iterable[TestOutcome]) -> collections.Counter[str]:
    """How often our code did what, in all tests."""
    total: collections.Counter[str] = collections.Counter()
    for outcome in outcomes:
        total.update(outcome.ours)
    return total


def _status(outcome: TestOutcome | None) -> str:
    return "not there" if outcome is None else outcome.status
