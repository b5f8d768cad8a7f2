# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A ninth kind of rule, for what nobody has published a rule for."""

from __future__ import annotations

import dataclasses
from typing import NoReturn

from nova_devcompat.compat.attributes import Unreadable, text_of
from nova_devcompat.compat.rules import Refusal, Rule, UseNotKnown
from nova_devcompat.compat.verdict import Actor, Code

_NO_RULE = "no rule is published for it; state one in a catalog file of your own"


@dataclasses.dataclass(frozen=True, slots=True)
class Undecided(Rule[str, str]):
    """Always UNKNOWN, so that ``on_unknown`` decides: the firmware knows, and does not say.

    Offer: a text, shown to operators. Need: never known, and no pin is taken.
    """

    kind = "undecided"
    capabilities = frozenset(["values"])

    def parse_offer(self, raw: object) -> str:
        return text_of(raw)

    def parse_need(self, text: str) -> NoReturn:
        raise Unreadable(text, _NO_RULE)

    def canonical(self, text: str) -> NoReturn:
        raise Unreadable(text, _NO_RULE)

    def freeze(self, offer: str) -> NoReturn:
        raise UseNotKnown(_NO_RULE)

    def values(self, offer: str) -> frozenset[str]:
        return frozenset()

    def check(self, offer: str, need: str) -> Refusal:
        # There are no needs to compare; whoever makes one up gets no acceptance.
        return Refusal(Code.NO_RULE, Actor.OPERATOR)

    def describe(self, offer: str) -> str:
        return offer
