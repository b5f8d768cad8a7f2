# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Accepted risks: one named thing that somebody lets pass, for a while.

That is an entry of a known-bad list, or that something of one family is UNKNOWN. What a rule
refuses cannot be named, so no accepted risk ever lets it pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from nova_devcompat.compat.verdict import Code, Outcome, Reason, Verdict

#: What is put behind the name of a family to name that something of it is UNKNOWN.
UNKNOWN = ":unknown"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Risk:
    """A risk that somebody has accepted and that holds now.

    :param name: of an entry of a known-bad list, or ``<family>:unknown``
    :param told: who accepted it, until when and why, as a person reads it
    """

    name: str
    told: str = ""

    @property
    def family(self) -> str:
        """The family of which what is UNKNOWN is accepted, '' for an entry's name."""
        return self.name.removesuffix(UNKNOWN) if self.name.endswith(UNKNOWN) else ""

    @property
    def of_unknown(self) -> bool:
        """Whether it lets pass that something is UNKNOWN, rather than an entry by its name."""
        return bool(self.family)

    def covers(self, reason: Reason, *, doubt: bool) -> bool:
        """Whether it lets a reason pass.

        :param doubt: whether the reason alone makes a verdict UNKNOWN rather than REJECT
        """
        if self.family:
            return doubt and reason.family == self.family
        return reason.code == Code.KNOWN_BAD and reason.risk == self.name

    def __str__(self) -> str:
        return f"{self.name}, {self.told}" if self.told else self.name


def of_entries(risks: Sequence[Risk]) -> tuple[Risk, ...]:
    """Those that let an entry of a known-bad list pass, rather than that something is UNKNOWN."""
    return tuple(risk for risk in risks if not risk.of_unknown)


def waive(verdict: Verdict, risks: Sequence[Risk]) -> tuple[Verdict, dict[Reason, Risk]]:
    """What is left of a verdict, and what was let pass by which risk.

    :param risks: those that hold now
    """
    waived: dict[Reason, Risk] = {}
    for reason in verdict.reasons:
        doubt = verdict.is_doubt(reason)
        risk = next((one for one in risks if one.covers(reason, doubt=doubt)), None)
        if risk is not None:
            waived[reason] = risk
    if not waived:
        return verdict, waived
    left = tuple(reason for reason in verdict.reasons if reason not in waived)
    if not left:
        return Verdict.accept(), waived
    doubts = frozenset(reason for reason in left if verdict.is_doubt(reason))
    if len(doubts) == len(left):
        return Verdict.unknown(*left), waived
    return Verdict(outcome=Outcome.REJECT, reasons=left, doubts=doubts), waived
