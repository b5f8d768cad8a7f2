# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Kinds of which the offer is a set."""

from __future__ import annotations

import dataclasses

from nova_devcompat.compat.attributes import Unreadable, text_of
from nova_devcompat.compat.kinds.shapes import enumerated, members, texts
from nova_devcompat.compat.rules import Refusal, Rule, UseNotKnown
from nova_devcompat.compat.verdict import Actor, Code


@dataclasses.dataclass(frozen=True, slots=True)
class Features:
    """What a ``superset`` offers, and what of it a guest uses, if known."""

    offered: frozenset[str]
    in_use: frozenset[str] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Superset(Rule[Features, str]):
    """Every feature that the guest uses is there.

    Offer: ``[migration, p2p]``, or ``{features: [...], in_use: [...]}`` where the source knows
    what a guest uses. Need: one value a feature in use; all, where use is not known. In the wild:
    ``pv_mode`` of the 2020 threads, QAT capability masks (drivers/crypto/intel/qat/qat_common/
    adf_gen4_vf_mig.c), virtio feature bits.
    """

    kind = "superset"
    capabilities = frozenset(["parse_pin", "values"])

    def parse_offer(self, raw: object) -> Features:
        offered, in_use = members(raw, "features")
        if in_use is None:
            return Features(offered, None)
        used = texts(in_use)
        if not used <= offered:
            raise Unreadable(raw, f"in_use but not offered: {enumerated(used - offered)}")
        return Features(offered, used)

    def parse_need(self, text: str) -> str:
        return text_of(text)

    def canonical(self, text: str) -> str:
        return self.parse_need(text)

    def parse_pin(self, text: str) -> frozenset[str]:
        return frozenset(self.canonical(part) for part in text.split(","))

    def freeze(self, offer: Features) -> frozenset[str]:
        return offer.offered if offer.in_use is None else offer.in_use

    def values(self, offer: Features) -> frozenset[str]:
        return offer.offered

    def check(self, offer: Features, need: str) -> Refusal | None:
        return None if need in offer.offered else Refusal(Code.FEATURE_MISSING, Actor.HOST)

    def describe(self, offer: Features) -> str:
        return enumerated(offer.offered)


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """What a ``one_of`` offers, and which of it a guest uses, if known."""

    offered: frozenset[str]
    in_use: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class OneOf(Rule[Choices, str]):
    """The one value that the guest uses is among the host's: QEMU machine types.

    Offer: ``[pc-q35-8.2, pc-q35-9.0]``, or ``{values: [...], in_use: pc-q35-8.2}`` where the
    source knows the guest's. Need: the value in use; without it the need is unknown.
    """

    kind = "one_of"
    capabilities = frozenset(["values"])

    def parse_offer(self, raw: object) -> Choices:
        offered, in_use = members(raw, "values")
        if in_use is None:
            return Choices(offered, None)
        used = text_of(in_use)
        if used not in offered:
            raise Unreadable(raw, f"in_use but not offered: {used}")
        return Choices(offered, used)

    def parse_need(self, text: str) -> str:
        return text_of(text)

    def canonical(self, text: str) -> str:
        return self.parse_need(text)

    def freeze(self, offer: Choices) -> frozenset[str]:
        if offer.in_use is None:
            raise UseNotKnown("which of the host's values the guest uses is not known")
        return frozenset([offer.in_use])

    def values(self, offer: Choices) -> frozenset[str]:
        return offer.offered

    def check(self, offer: Choices, need: str) -> Refusal | None:
        return None if need in offer.offered else Refusal(Code.NOT_IN_SET, Actor.HOST)

    def describe(self, offer: Choices) -> str:
        return enumerated(offer.offered)
