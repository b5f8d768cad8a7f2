# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The kind for what a device must have before anything can migrate from or to it."""

from __future__ import annotations

import dataclasses

from nova_devcompat.compat.attributes import Unreadable, text_of
from nova_devcompat.compat.kinds.ordered import check_ordering
from nova_devcompat.compat.orderings import ORDERINGS
from nova_devcompat.compat.rules import BadOptions, Refusal, Rule
from nova_devcompat.compat.verdict import Actor, Code

#: The two values of a need.
MET, UNMET = "met", "unmet"


@dataclasses.dataclass(frozen=True, slots=True)
class Level:
    """What a ``floor`` offers.

    :param met: whether it is at the floor or above
    :param text: what the source told
    """

    met: bool
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Floor(Rule[Level, str]):
    """At or above a stated version, at both ends of the move.

    Offer: a version, or an integer. Need: ``met``, or ``unmet`` where the guest's own device is
    below the floor, which is accepted nowhere. In the wild: the GuC firmware of Intel Xe functions
    (ABI 1.27), libvirt and QEMU under mdevs and VFIO variant drivers, bits that say whether a
    device can migrate.

    :param at: the floor
    :param ordering: ``numeric``, ``rpm_evr`` or ``debian``
    """

    kind = "floor"
    capabilities = frozenset(["parse_pin"])
    at: str = ""
    ordering: str = "numeric"

    def __post_init__(self) -> None:
        check_ordering(self.ordering)
        if self.at == "":
            raise BadOptions("at: the floor is missing; write {kind: floor, at: '1.27'}")
        try:
            ORDERINGS[self.ordering].parse(_text(self.at))
        except Unreadable as error:
            raise BadOptions(f"at: {error}") from error

    def parse_offer(self, raw: object) -> Level:
        ordering = ORDERINGS[self.ordering]
        text = _text(raw)
        compared = ordering.compare(ordering.parse(text), ordering.parse(_text(self.at)))
        if compared is None:
            raise Unreadable(raw, f"cannot be compared with the floor {self.at}")
        return Level(compared >= 0, text)

    def parse_need(self, text: str) -> str:
        value = text_of(text)
        if value not in (MET, UNMET):
            raise Unreadable(text, f"is neither '{MET}' nor '{UNMET}'")
        return value

    def canonical(self, text: str) -> str:
        return self.parse_need(text)

    def parse_pin(self, text: str) -> frozenset[str]:
        if text_of(text) != MET:
            raise Unreadable(text, f"is met by no host; a pin can only be '{MET}'")
        return frozenset([MET])

    def freeze(self, offer: Level) -> frozenset[str]:
        return frozenset([MET if offer.met else UNMET])

    def check(self, offer: Level, need: str) -> Refusal | None:
        if need == UNMET:
            return Refusal(Code.UNMET, Actor.GUEST)
        return None if offer.met else Refusal(Code.BELOW_FLOOR, Actor.HOST)

    def describe(self, offer: Level) -> str:
        return f"{offer.text}, floor {self.at}"


def _text(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**40:
        return str(value)
    return text_of(value)
