# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Kinds that compare versions of numbers."""

from __future__ import annotations

import dataclasses

from nova_devcompat.compat.attributes import (
    Unreadable,
    Version,
    compare_versions,
    format_version,
    parse_version,
    text_of,
)
from nova_devcompat.compat.kinds.shapes import check_base, mapping, texts
from nova_devcompat.compat.rules import Refusal, Rule, UseNotKnown
from nova_devcompat.compat.verdict import Actor, Code


@dataclasses.dataclass(frozen=True, slots=True)
class Semver(Rule[Version, Version]):
    """Same major, and a minor that is no older: a feature added is a minor, one removed a major.

    Offer: ``'2.4.1'``, bugfix and suffix optional. Need: ``'2.4'``. Source: Sean Mooney on
    openstack-discuss, 30 July 2020, "device compatibility interface for live migration with
    assigned devices".

    :param base: 10 or 16
    """

    kind = "semver"
    base: int = 10

    def __post_init__(self) -> None:
        check_base(self.base)

    def parse_offer(self, raw: object) -> Version:
        numbers = parse_version(raw, self.base, significant=2)
        if len(numbers) < 2:
            raise Unreadable(raw, "has no minor; write major.minor such as '2.4'")
        return numbers

    def parse_need(self, text: str) -> Version:
        return self.parse_offer(text)[:2]

    def canonical(self, text: str) -> str:
        return format_version(self.parse_need(text), self.base)

    def freeze(self, offer: Version) -> frozenset[str]:
        return frozenset([format_version(offer[:2], self.base)])

    def check(self, offer: Version, need: Version) -> Refusal | None:
        if offer[0] != need[0]:
            actor = Actor.GUEST if offer[0] > need[0] else Actor.HOST
            return Refusal(Code.MAJOR_DIFFERS, actor)
        if offer[1] < need[1]:
            return Refusal(Code.MINOR_TOO_OLD, Actor.HOST)
        return None

    def describe(self, offer: Version) -> str:
        return format_version(offer, self.base)


@dataclasses.dataclass(frozen=True, slots=True)
class VersionRange:
    """What a ``range`` offers: bounds, both included, and what a guest negotiated if known."""

    lowest: Version
    highest: Version
    negotiated: Version | None


@dataclasses.dataclass(frozen=True, slots=True)
class Range(Rule[VersionRange, Version]):
    """A version between two bounds.

    Offer: ``{min: '7.1', max: '14.1', negotiated: '12.1'}``, the last where the source knows what
    a running guest agreed on. Need: that, else ``max``, which a current guest agrees on. Source:
    nvmlGetVgpuVersion in NVIDIA's NVML reference; vgpu_version.h in open-gpu-kernel-modules.

    :param base: 10 or 16 (NVIDIA's versions are hexadecimal: ``1A.1``)
    """

    kind = "range"
    capabilities = frozenset(["values"])
    base: int = 10

    def __post_init__(self) -> None:
        check_base(self.base)

    def parse_offer(self, raw: object) -> VersionRange:
        shaped = mapping(raw, ["min", "max"], ["negotiated"])
        lowest = parse_version(shaped["min"], self.base)
        highest = parse_version(shaped["max"], self.base)
        if compare_versions(lowest, highest) > 0:
            raise Unreadable(raw, "min is above max")
        negotiated = None
        if "negotiated" in shaped:
            negotiated = parse_version(shaped["negotiated"], self.base)
        return VersionRange(lowest, highest, negotiated)

    def parse_need(self, text: str) -> Version:
        return parse_version(text, self.base)

    def canonical(self, text: str) -> str:
        return format_version(self.parse_need(text), self.base)

    def freeze(self, offer: VersionRange) -> frozenset[str]:
        need = offer.highest if offer.negotiated is None else offer.negotiated
        if self.check(offer, need):
            # The range was narrowed under a running guest.
            raise UseNotKnown("the guest negotiated a version outside of the device's range")
        return frozenset([format_version(need, self.base)])

    def values(self, offer: VersionRange) -> frozenset[str]:
        known = [offer.highest]
        if offer.negotiated is not None and not self.check(offer, offer.negotiated):
            known.append(offer.negotiated)
        return frozenset(format_version(version, self.base) for version in known)

    def check(self, offer: VersionRange, need: Version) -> Refusal | None:
        if compare_versions(need, offer.lowest) < 0:
            return Refusal(Code.BELOW_RANGE, Actor.GUEST)
        if compare_versions(need, offer.highest) > 0:
            return Refusal(Code.ABOVE_RANGE, Actor.HOST)
        return None

    def describe(self, offer: VersionRange) -> str:
        lowest, highest = (format_version(v, self.base) for v in (offer.lowest, offer.highest))
        return f"{lowest} to {highest}"


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """One entry of an accept list; None is an open end within the other end's major."""

    lowest: Version | None
    highest: Version | None

    def __contains__(self, version: Version) -> bool:
        if self.lowest is None or self.highest is None:
            bound = self.lowest or self.highest
            if bound is not None and bound[0] != version[0]:
                return False
        if self.lowest is not None and compare_versions(version, self.lowest) < 0:
            return False
        return self.highest is None or compare_versions(version, self.highest) <= 0


@dataclasses.dataclass(frozen=True, slots=True)
class AcceptList:
    """What an ``accepts`` offers: its own version and the spans it takes, and the list's text."""

    version: Version
    spans: tuple[Span, ...]
    text: str


# "1.60.0-73" is a version and its build.
_BUILD_OR_RANGE = (
    "may be a version with a build, which this rule does not compare; a range has no fewer parts "
    "at its end than at its beginning, such as '2.0.2-2.0.4'"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Accepts(Rule[AcceptList, Version]):
    """A version that the device lists, or its own.

    Offer: ``{version: '2.1.3', accepts: '2.0.2-2.0.4,2.1.0-'}``; the list is one text or a list of
    entries, each a version or a range with one end open or none. An open end stays within the
    major version of the other. A hyphen with a build's number behind it is no range. Need: the
    version. Source: the accept lists proposed in the libvirt and openstack-discuss threads of 2020
    on device compatibility.

    :param base: 10 or 16
    """

    kind = "accepts"
    base: int = 10

    def __post_init__(self) -> None:
        check_base(self.base)

    def parse_offer(self, raw: object) -> AcceptList:
        shaped = mapping(raw, ["version", "accepts"], [])
        version = parse_version(shaped["version"], self.base)
        listed = shaped["accepts"]
        # An empty list is said, and means the own version only; an empty text is not.
        entries = [text_of(listed)] if isinstance(listed, str) else sorted(texts(listed))
        entries = [part.strip() for entry in entries for part in entry.split(",")]
        spans = tuple(self._span(entry) for entry in entries)
        return AcceptList(version, spans, ",".join(entries))

    def _span(self, entry: str) -> Span:
        ends = [end.strip() for end in entry.split("-")]
        if not any(ends) or len(ends) > 2:
            raise Unreadable(entry, "is neither a version nor a range such as '2.0.2-2.0.4'")
        if all(ends) and ends[0].count(".") > ends[-1].count("."):
            raise Unreadable(entry, _BUILD_OR_RANGE)
        parsed = [parse_version(end, self.base) if end else None for end in ends]
        lowest, highest = parsed[0], parsed[-1]
        if lowest is not None and highest is not None and compare_versions(lowest, highest) > 0:
            raise Unreadable(entry, "begins above its end")
        return Span(lowest, highest)

    def parse_need(self, text: str) -> Version:
        return parse_version(text, self.base)

    def canonical(self, text: str) -> str:
        return format_version(self.parse_need(text), self.base)

    def freeze(self, offer: AcceptList) -> frozenset[str]:
        return frozenset([format_version(offer.version, self.base)])

    def check(self, offer: AcceptList, need: Version) -> Refusal | None:
        own = compare_versions(offer.version, need) == 0
        if own or any(need in span for span in offer.spans):
            return None
        return Refusal(Code.NOT_LISTED, Actor.HOST)

    def describe(self, offer: AcceptList) -> str:
        return f"{format_version(offer.version, self.base)} accepting {offer.text or 'no other'}"
