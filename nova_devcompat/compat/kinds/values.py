# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Kinds of which the offer is one value."""

from __future__ import annotations

import dataclasses
import re

from nova_devcompat.compat.attributes import Unreadable, text_of
from nova_devcompat.compat.kinds.text import TextRule
from nova_devcompat.compat.rules import SINCE_1_3, BadOptions, Refusal, Rule
from nova_devcompat.compat.verdict import Actor, Code


@dataclasses.dataclass(frozen=True, slots=True)
class Equal(TextRule):
    """The same text: ECC mode, QAT ring-to-service map, the PSID of a board, mdev type.

    Offer and need: the text. Case does not count, since vendors print identifiers in either; nor
    does white space around it.

    :param case: whether case counts
    :param separator: what stands between the parts of a text whose order does not count:
        ``sym;asym`` and ``asym;sym`` are one configuration of QAT (drivers/crypto/intel/qat/
        qat_common/adf_cfg_services.c); '' where it counts
    :param integer: whether it is an integer
    """

    kind = "equal"
    case: bool = dataclasses.field(default=False, metadata=SINCE_1_3)
    separator: str = dataclasses.field(default="", metadata=SINCE_1_3)
    integer: bool = dataclasses.field(default=False, metadata=SINCE_1_3)

    def __post_init__(self) -> None:
        for name in ("case", "integer"):
            if not isinstance(getattr(self, name), bool):
                raise BadOptions(f"{name}: {getattr(self, name)!r} is neither true nor false")
        if not isinstance(self.separator, str):
            raise BadOptions(f"separator: {self.separator!r} is no text")

    def parse_offer(self, raw: object) -> str:
        if self.integer:
            return format(parse_integer(raw), "d")
        text = text_of(raw)
        if not self.separator:
            return text
        parts = {part.strip() for part in text.split(self.separator)} - {""}
        return self.separator.join(sorted(parts)) or text

    def check(self, offer: str, need: str) -> Refusal | None:
        same = offer == need if self.case else offer.casefold() == need.casefold()
        return None if same else Refusal(Code.NOT_EQUAL, Actor.HOST)


_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")


def parse_integer(raw: object) -> int:
    """An integer, or its decimal digits as text.

    :raises Unreadable: it is neither
    """
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = format(raw, "d") if abs(raw) < 10**40 else "too large"
    text = text_of(raw)
    if not _INTEGER.fullmatch(text):
        raise Unreadable(raw, "is not an integer of up to 40 decimal digits")
    return int(text)


@dataclasses.dataclass(frozen=True, slots=True)
class AtLeast(Rule[int, int]):
    """An integer that is no smaller: QAT SLA rates, ports.

    Offer: an integer, or its decimal digits as text. Need: the integer.
    """

    kind = "at_least"

    def parse_offer(self, raw: object) -> int:
        return parse_integer(raw)

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
