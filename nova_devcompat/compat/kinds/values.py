# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Kinds of which the offer is one value."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

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
    :param choices: all texts that there are, where these are known: ``enabled`` and ``disabled``.
        Any other, such as ``on``, cannot be read: no host would ever meet it. Empty for any
    """

    kind = "equal"
    case: bool = dataclasses.field(default=False, metadata=SINCE_1_3)
    separator: str = dataclasses.field(default="", metadata=SINCE_1_3)
    integer: bool = dataclasses.field(default=False, metadata=SINCE_1_3)
    choices: Sequence[str] = dataclasses.field(default=(), metadata=SINCE_1_3)

    def __post_init__(self) -> None:
        for name in ("case", "integer"):
            if not isinstance(getattr(self, name), bool):
                raise BadOptions(f"{name}: {getattr(self, name)!r} is neither true nor false")
        if not isinstance(self.separator, str):
            raise BadOptions(f"separator: {self.separator!r} is no text")
        if not isinstance(self.choices, list | tuple) or not all(
            isinstance(choice, str) and choice == choice.strip() != "" for choice in self.choices
        ):
            raise BadOptions(f"choices: {self.choices!r} is no list of texts")
        object.__setattr__(self, "choices", tuple(self.choices))

    def parse_offer(self, raw: object) -> str:
        if self.integer:
            return format(parse_integer(raw), "d")
        text = text_of(raw)
        if self.choices:
            return self._choice(text)
        if not self.separator:
            return text
        parts = {part.strip() for part in text.split(self.separator)} - {""}
        return self.separator.join(sorted(parts)) or text

    def _choice(self, text: str) -> str:
        """The one of the choices that a text is."""
        for choice in self.choices:
            if self._is(choice, text):
                return choice
        raise Unreadable(text, f"is none of {', '.join(self.choices)}")

    def _is(self, one: str, other: str) -> bool:
        return one == other if self.case else one.casefold() == other.casefold()

    def check(self, offer: str, need: str) -> Refusal | None:
        return None if self._is(offer, need) else Refusal(Code.NOT_EQUAL, Actor.HOST)


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
