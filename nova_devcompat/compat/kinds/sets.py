# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Kinds of which the offer is a set."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from nova_devcompat.compat.attributes import Unreadable, text_of
from nova_devcompat.compat.kinds.shapes import enumerated, mapping, members, texts
from nova_devcompat.compat.machines import is_versioned
from nova_devcompat.compat.rules import SINCE_1_3, BadOptions, Refusal, Rule, UseNotKnown
from nova_devcompat.compat.verdict import Actor, Code

_MASK = re.compile("0[xX][0-9a-fA-F]{1,128}")
_BIT_STRING = re.compile("[01]{1,512}")
_BIT = re.compile("[0-9]{1,3}")
_MOST_BITS, _MOST_DIGITS = 512, 3


def parse_mask(raw: object) -> int:
    """A mask of bits.

    :param raw: an integer, ``0x1f``, a string of bits of which the first is bit 0, or a list of
        numbers of bits, of masks, and of strings of bits that are longer than any number of a bit
    :raises Unreadable: it is none of these, or has more than 512 bits
    """
    if isinstance(raw, int) and not isinstance(raw, bool):
        if not 0 <= raw < 1 << _MOST_BITS:
            raise Unreadable(raw, f"is no mask of up to {_MOST_BITS} bits")
        return raw
    if not isinstance(raw, str):
        mask = 0
        for text in texts(raw):
            if _BIT.fullmatch(text) and int(text) < _MOST_BITS:
                mask |= 1 << int(text)
            elif _MASK.fullmatch(text):
                mask |= int(text, 16)
            elif _BIT_STRING.fullmatch(text) and len(text) > _MOST_DIGITS:
                # sysfs tells the files of a path with wildcards as a list: virtio*/features.
                mask |= int(text[::-1], 2)
            else:
                raise Unreadable(text, "is neither the number of a bit nor a mask such as '0x1f'")
        return mask
    text = text_of(raw)
    if _MASK.fullmatch(text):
        return int(text, 16)
    if _BIT_STRING.fullmatch(text):
        return int(text[::-1], 2)
    raise Unreadable(raw, "is neither a mask such as '0x1f' nor a string of bits such as '11111'")


@dataclasses.dataclass(frozen=True, slots=True)
class Members:
    """A set of features: some by name, some as bits.

    :param names: of features
    :param bits: a mask
    """

    names: frozenset[str]
    bits: int = 0

    def has(self, other: Members) -> bool:
        """Whether all of another set is in this one."""
        return other.names <= self.names and not other.bits & ~self.bits

    @property
    def values(self) -> frozenset[str]:
        """As needs have them: the names, and all bits as one mask."""
        return self.names | {f"0x{self.bits:x}"} if self.bits else self.names


@dataclasses.dataclass(frozen=True, slots=True)
class Features:
    """What a ``superset`` offers, and what of it a guest uses, if known."""

    offered: Members
    in_use: Members | None


@dataclasses.dataclass(frozen=True, slots=True)
class Superset(Rule[Features, Members]):
    """Every feature that the guest uses is there.

    Offer: ``[migration, p2p]``, or ``{features: [...], in_use: [...]}`` where the source knows
    what a guest uses. Need: one value a feature in use; all, where use is not known. What begins
    with ``0x`` is a mask of bits, of which each is a feature. In the wild: ``pv_mode`` of the 2020
    threads, QAT capability masks (drivers/crypto/intel/qat/qat_common/adf_gen4_vf_mig.c), virtio
    feature bits, which QEMU prints as masks (hw/virtio/virtio.c, virtio_set_features_nocheck).

    :param bits: whether the offer is a mask throughout: an integer, ``0x1f``, a string of bits of
        which the first is bit 0 (drivers/virtio/virtio.c, features_show), or a list of numbers of
        bits, of masks and of such strings
    """

    kind = "superset"
    capabilities = frozenset(["parse_pin", "values"])
    bits: bool = dataclasses.field(default=False, metadata=SINCE_1_3)

    def __post_init__(self) -> None:
        if not isinstance(self.bits, bool):
            raise BadOptions(f"bits: {self.bits!r} is neither true nor false")

    def parse_offer(self, raw: object) -> Features:
        used: object = None
        if isinstance(raw, Mapping):
            shaped = mapping(raw, ["features"], ["in_use"])
            raw, used = shaped["features"], shaped.get("in_use")
        offered = self._members(raw)
        if used is None:
            return Features(offered, None)
        in_use = self._members(used)
        if not offered.has(in_use):
            left = Members(in_use.names - offered.names, in_use.bits & ~offered.bits)
            raise Unreadable(raw, f"in_use but not offered: {enumerated(left.values)}")
        return Features(offered, in_use)

    def _members(self, raw: object) -> Members:
        if self.bits:
            return Members(frozenset(), parse_mask(raw))
        names, bits = set(), 0
        for text in texts(raw):
            if _MASK.fullmatch(text):
                bits |= parse_mask(text)
            else:
                names.add(text)
        return Members(frozenset(names), bits)

    def parse_need(self, text: str) -> Members:
        return self._members(text if self.bits else [text])

    def canonical(self, text: str) -> str:
        # No bits at all are a need that every offer meets.
        return next(iter(self.parse_need(text).values), "0x0")

    def parse_pin(self, text: str) -> frozenset[str]:
        return frozenset(self.canonical(part) for part in text.split(","))

    def freeze(self, offer: Features) -> frozenset[str]:
        return (offer.offered if offer.in_use is None else offer.in_use).values

    def values(self, offer: Features) -> frozenset[str]:
        return offer.offered.values | (offer.in_use.values if offer.in_use else frozenset())

    def check(self, offer: Features, need: Members) -> Refusal | None:
        return None if offer.offered.has(need) else Refusal(Code.FEATURE_MISSING, Actor.HOST)

    def describe(self, offer: Features) -> str:
        return enumerated(offer.offered.values)


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

    :param versioned: whether the values are machine types, of which no flavor can pin one that
        promises nothing: an alias, or a type without a version
    """

    kind = "one_of"
    capabilities = frozenset(["parse_pin", "values"])
    versioned: bool = dataclasses.field(default=False, metadata=SINCE_1_3)

    def __post_init__(self) -> None:
        if not isinstance(self.versioned, bool):
            raise BadOptions(f"versioned: {self.versioned!r} is neither true nor false")

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

    def parse_pin(self, text: str) -> frozenset[str]:
        value = self.canonical(text)
        if self.versioned and not is_versioned(value):
            raise Unreadable(
                text,
                "is an alias or has no version, so that on another host it is another machine; "
                "write a type with its version, such as pc-q35-8.2",
            )
        if self.versioned and value != value.lower():
            raise Unreadable(text, f"is in another case than QEMU's; write {value.lower()}")
        return frozenset([value])

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
