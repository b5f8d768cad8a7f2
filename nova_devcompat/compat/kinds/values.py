# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Kinds of which the offer is one value."""

from __future__ import annotations

import dataclasses
import re

from nova_devcompat.compat.attributes import Unreadable, text_of
from nova_devcompat.compat.rules import Refusal, Rule
from nova_devcompat.compat.verdict import Actor, Code


@dataclasses.dataclass(frozen=True, slots=True)
class Equal(Rule[str, str]):
    """The very same text: ECC mode, QAT ring-to-service map, queue count, mdev type.

    Offer and need: the text, compared to the letter, white space around it aside.
    """

    kind = "equal"

    def parse_offer(self, raw: object) -> str:
        return text_of(raw)

    def parse_need(self, text: str) -> str:
        return text_of(text)

    def canonical(self, text: str) -> str:
        return self.parse_need(text)

    def freeze(self, offer: str) -> frozenset[str]:
        return frozenset([offer])

    def check(self, offer: str, need: str) -> Refusal | None:
        return None if offer == need else Refusal(Code.NOT_EQUAL, Actor.HOST)

    def describe(self, offer: str) -> str:
        return offer


_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")


@dataclasses.dataclass(frozen=True, slots=True)
class AtLeast(Rule[int, int]):
    """An integer that is no smaller: QAT SLA rates, ports.

    Offer: an integer, or its decimal digits as text. Need: the integer.
    """

    kind = "at_least"

    def parse_offer(self, raw: object) -> int:
        if isinstance(raw, int) and not isinstance(raw, bool):
            raw = format(raw, "d") if abs(raw) < 10**40 else "too large"
        text = text_of(raw)
        if not _INTEGER.fullmatch(text):
            raise Unreadable(raw, "is not an integer of up to 40 decimal digits")
        return int(text)

    def parse_need(self, text: str) -> int:
        return self.parse_offer(text)

    def canonical(self, text: str) -> str:
        return format(self.parse_need(text), "d")

    def freeze(self, offer: int) -> frozenset[str]:
        return frozenset([format(offer, "d")])

    def check(self, offer: int, need: int) -> Refusal | None:
        return None if offer >= need else Refusal(Code.TOO_FEW, Actor.HOST)

    def describe(self, offer: int) -> str:
        return format(offer, "d")
