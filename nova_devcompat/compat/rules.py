# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The eight kinds of rules, and the interface that third parties implement for a ninth.

A rule is asked four things, each a function of its own: to read what a device offers
(:meth:`Rule.parse_offer`), to read one value that a guest may need (:meth:`Rule.parse_need`),
which values a guest that starts on the device needs (:meth:`Rule.freeze`), and whether an offer
meets a need (:meth:`Rule.check`). Rules hold options, never state.
"""

from __future__ import annotations

import abc
import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from typing import Any, ClassVar, Generic, Self, TypeVar

import univers.debian
import univers.rpm

from nova_devcompat.compat.attributes import (
    Unreadable,
    Version,
    compare_versions,
    format_version,
    parse_build_version,
    parse_version,
    text_of,
)
from nova_devcompat.compat.verdict import Actor, Code

OfferT = TypeVar("OfferT")
NeedT = TypeVar("NeedT")

#: The version of the interface below. A plugin states the one it was written for.
API_VERSION = (1, 2)


class BadOptions(ValueError):
    """Options that a rule kind does not take; the message says which it does."""


class UseNotKnown(ValueError):
    """What a guest uses of an offer cannot be told from the offer alone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why an offer does not meet a need.

    :param code: stable identifier, see :class:`nova_devcompat.compat.verdict.Code`
    :param actor: who can change it
    """

    code: str
    actor: Actor


class Rule(abc.ABC, Generic[OfferT, NeedT]):
    """Decides for one attribute whether an offer accepts an atom.

    A subclass is a frozen dataclass whose fields are its options. It must keep two promises, which
    ``tests/unit/compat`` tests for ours and which a plugin's tests should too: an offer meets each
    value of :meth:`freeze` and :meth:`values` of itself, and :meth:`canonical` of a canonical text
    is that text.
    """

    #: The name a catalog uses.
    kind: ClassVar[str]
    api_version: ClassVar[tuple[int, int]] = API_VERSION
    #: The optional methods that a kind brings, by name. Since 1.2.
    capabilities: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> Self:
        """The rule with these options.

        :param options: what the catalog says beside ``kind``
        :raises BadOptions: an unknown option, or a value it cannot have
        """
        fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        unknown = sorted(set(options) - set(fields), key=str)
        if unknown:
            takes = f"takes only: {', '.join(fields)}" if fields else "takes no options"
            raise BadOptions(f"unknown option {unknown[0]!r}; {cls.kind} {takes}")
        return cls(**options)

    @abc.abstractmethod
    def parse_offer(self, raw: object) -> OfferT:
        """What a source read, as a value to compare.

        :raises Unreadable: it is not of the shape that the kind takes
        """

    @abc.abstractmethod
    def parse_need(self, text: str) -> NeedT:
        """One value of a need.

        :raises Unreadable: the text is no such value
        """

    @abc.abstractmethod
    def canonical(self, text: str) -> str:
        """The one way to write a value of a need, so that equal needs are equal atoms.

        :raises Unreadable: the text is no such value
        """

    def parse_pin(self, text: str) -> frozenset[str]:
        """Canonical values of a need that an operator wrote as one text. Since 1.1.

        :raises Unreadable: the text is no such need
        """
        return frozenset([self.canonical(text)])

    @abc.abstractmethod
    def freeze(self, offer: OfferT) -> frozenset[str]:
        """Canonical values that a guest needs whose device starts with this offer.

        :raises UseNotKnown: the offer does not tell
        """

    def values(self, offer: OfferT) -> frozenset[str]:
        """Canonical values that some guest might come to need on this offer.

        A host creates the traits of these when it starts, so that they exist before a guest
        depends on them.
        """
        return self.freeze(offer)

    @abc.abstractmethod
    def check(self, offer: OfferT, need: NeedT) -> Refusal | None:
        """None where the offer meets the need, else why not."""

    @abc.abstractmethod
    def describe(self, offer: OfferT) -> str:
        """The offer as an operator should read it in a reason."""


def _mapping(raw: object, required: Iterable[str], optional: Iterable[str]) -> dict[str, object]:
    required, optional = tuple(required), tuple(optional)
    shape = "{" + ", ".join([*required, *(f"{name}?" for name in optional)]) + "}"
    if not isinstance(raw, Mapping):
        raise Unreadable(raw, f"is not a mapping {shape}")
    for name in required:
        if raw.get(name) is None:
            raise Unreadable(raw, f"{name} is missing from {shape}")
    for name in raw:
        if name not in required and name not in optional:
            raise Unreadable(raw, f"unknown key {name!r}; the shape is {shape}")
    return {name: value for name, value in raw.items() if value is not None}


def _texts(raw: object) -> frozenset[str]:
    if isinstance(raw, str) or not isinstance(raw, list | tuple | set | frozenset):
        raise Unreadable(raw, "is not a list of texts")
    return frozenset(text_of(item) for item in raw)


def _members(raw: object, name: str) -> tuple[frozenset[str], object]:
    """A list, or ``{<name>: list, in_use: ...}`` where the source knows what the guest uses."""
    if not isinstance(raw, Mapping):
        return _texts(raw), None
    shaped = _mapping(raw, [name], ["in_use"])
    return _texts(shaped[name]), shaped.get("in_use")


def _enumerate(values: Iterable[str]) -> str:
    return ",".join(sorted(values)) or "nothing"


def _check_base(base: object) -> None:
    if not isinstance(base, int) or base not in (10, 16):
        raise BadOptions(f"base: {base!r} is neither 10 nor 16")


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
        _check_base(self.base)

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
        _check_base(self.base)

    def parse_offer(self, raw: object) -> VersionRange:
        shaped = _mapping(raw, ["min", "max"], ["negotiated"])
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
        offered, in_use = _members(raw, "features")
        if in_use is None:
            return Features(offered, None)
        used = _texts(in_use)
        if not used <= offered:
            raise Unreadable(raw, f"in_use but not offered: {_enumerate(used - offered)}")
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
        return _enumerate(offer.offered)


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
        offered, in_use = _members(raw, "values")
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
        return _enumerate(offer.offered)


class _Numeric:
    """Dotted numbers and the numbers of a build: libvirt, QEMU, kernels."""

    def parse(self, value: object) -> tuple[Version, ...]:
        return parse_build_version(value)

    def canonical(self, parsed: tuple[Version, ...]) -> str:
        return "-".join(map(format_version, parsed))

    def compare(self, left: tuple[Version, ...], right: tuple[Version, ...]) -> int:
        for one, other in zip_longest(left, right, fillvalue=()):
            result = compare_versions(one, other)
            if result:
                return result
        return 0


class _RpmEvr:
    """``[epoch:]version[-release]`` as rpm compares it (rpmvercmp)."""

    def parse(self, value: object) -> str:
        text = text_of(value)
        # rpm itself takes a version that begins with a letter, and sorts it before all numbers: so
        # would "v2.4.1", or a package's name before its version, be older than everything.
        if not re.fullmatch(r"(?:[0-9]{1,9}:)?[0-9][\w.+~^]*(?:-[\w.+~^]+)?", text, re.ASCII):
            raise Unreadable(value, "is not [epoch:]version[-release], the version a digit first")
        return text

    def canonical(self, parsed: str) -> str:
        return parsed

    def compare(self, left: str, right: str) -> int:
        return univers.rpm.compare_rpm_versions(left, right)


class _Debian:
    """``[epoch:]upstream[-revision]`` as dpkg compares it."""

    def parse(self, value: object) -> str:
        text = text_of(value)
        # The grammar of deb-version(7), whose upstream version begins with a digit.
        if not re.fullmatch(r"(?:[0-9]{1,9}:)?[0-9][A-Za-z0-9.+~-]*(?<!-)", text):
            raise Unreadable(value, "is not [epoch:]upstream-version[-revision]")
        return text

    def canonical(self, parsed: str) -> str:
        return parsed

    def compare(self, left: str, right: str) -> int:
        return _compare_debian(left, right)


# univers.debian has no annotations.
_compare_debian: Callable[[str, str], int] = univers.debian.compare_versions

_ORDERINGS: Mapping[str, Any] = {
    "numeric": _Numeric(),
    "rpm_evr": _RpmEvr(),
    "debian": _Debian(),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Ordered(Rule[Any, Any]):
    """A version that is no older under a named ordering: libvirt, QEMU, kernels.

    Offer and need: the version.

    :param ordering: ``numeric``, ``rpm_evr`` or ``debian``
    """

    kind = "ordered"
    ordering: str = "numeric"

    def __post_init__(self) -> None:
        if not isinstance(self.ordering, str) or self.ordering not in _ORDERINGS:
            raise BadOptions(f"ordering: {self.ordering!r} is none of {', '.join(_ORDERINGS)}")

    def parse_offer(self, raw: object) -> Any:
        return _ORDERINGS[self.ordering].parse(raw)

    def parse_need(self, text: str) -> Any:
        return self.parse_offer(text)

    def canonical(self, text: str) -> str:
        return str(_ORDERINGS[self.ordering].canonical(self.parse_need(text)))

    def freeze(self, offer: Any) -> frozenset[str]:
        return frozenset([self.describe(offer)])

    def check(self, offer: Any, need: Any) -> Refusal | None:
        if _ORDERINGS[self.ordering].compare(offer, need) < 0:
            return Refusal(Code.TOO_OLD, Actor.HOST)
        return None

    def describe(self, offer: Any) -> str:
        return str(_ORDERINGS[self.ordering].canonical(offer))


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


@dataclasses.dataclass(frozen=True, slots=True)
class Accepts(Rule[AcceptList, Version]):
    """A version that the device lists, or its own.

    Offer: ``{version: '2.1.3', accepts: '2.0.2-2.0.4,2.1.0-'}``; the list is one text or a list of
    entries, each a version or a range with one end open or none. An open end stays within the
    major version of the other. Need: the version. Source: the accept lists proposed in the
    libvirt and openstack-discuss threads of 2020 on device compatibility.

    :param base: 10 or 16
    """

    kind = "accepts"
    base: int = 10

    def __post_init__(self) -> None:
        _check_base(self.base)

    def parse_offer(self, raw: object) -> AcceptList:
        shaped = _mapping(raw, ["version", "accepts"], [])
        version = parse_version(shaped["version"], self.base)
        listed = shaped["accepts"]
        # An empty list is said, and means the own version only; an empty text is not.
        entries = [text_of(listed)] if isinstance(listed, str) else sorted(_texts(listed))
        entries = [part.strip() for entry in entries for part in entry.split(",")]
        spans = tuple(self._span(entry) for entry in entries)
        return AcceptList(version, spans, ",".join(entries))

    def _span(self, entry: str) -> Span:
        ends = [end.strip() for end in entry.split("-")]
        if not any(ends) or len(ends) > 2:
            raise Unreadable(entry, "is neither a version nor a range such as '2.0.2-2.0.4'")
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
