# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Families and offers: what a device can act as."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from nova_devcompat.compat.accepts import AcceptSet, Evaluation
from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.kinds.floor import Floor, Level
from nova_devcompat.compat.knownbad import NONE_BAD, Bads, KnownBads
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.rules import Rule, UseNotKnown
from nova_devcompat.compat.traits import Atom, check_name
from nova_devcompat.compat.verdict import Actor, Code, Verdict

NO_KNOWN_BAD = KnownBads()
_BAD = (Code.KNOWN_BAD, Actor.HOST)


class Subject(enum.StrEnum):
    """What a family's rules are about."""

    DEVICE = "device"
    HOST = "host"


@functools.lru_cache(maxsize=65_536)
def _parse_need(rule: Rule[Any, Any], value: str) -> Any:
    """The rule's own reading, remembered: a host reads the same atoms for each device and cycle.

    :returns: what the rule made of it, or the Unreadable that it raised
    """
    try:
        return rule.parse_need(value)
    except Unreadable as error:
        return error


def _freeze(rule: Rule[Any, Any], offer: Any) -> frozenset[str] | None:
    try:
        return rule.freeze(offer)
    except UseNotKnown:
        return None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """The devices, or the part of a host, whose compatibility one set of rules decides.

    :param name: matches ``[a-z][a-z0-9]*(_[a-z0-9]+)*``
    :param rules: by attribute
    :param subject: what guests depend on: a device that they are given, or their host
    :param implied: rules that hold for devices of any family, by attribute. Nothing is said of one
        that a device meets, or of which nothing is told: only a device that fails it has it in its
        offer, and only guests on such a device need it
    :param known_bad: what the rules accept and is known not to work
    :raises ValueError: a family or attribute that is no name
    """

    name: str
    rules: Mapping[str, Rule[Any, Any]]
    subject: Subject = Subject.DEVICE
    implied: Mapping[str, Floor] = dataclasses.field(default_factory=dict)
    known_bad: KnownBads = NO_KNOWN_BAD

    def __post_init__(self) -> None:
        check_name(self.name)
        for attribute in (*self.rules, *self.implied):
            check_name(attribute)

    def rule(self, attribute: str) -> Rule[Any, Any]:
        """The rule for an attribute, an implied one among them.

        :raises KeyError: there is none
        """
        rule = self.rules.get(attribute)
        return self.implied[attribute] if rule is None else rule

    def offer(self, attributes: Mapping[str, object]) -> Offer:
        """What a device with these attributes can act as; never raises for what they hold."""
        parsed: dict[str, Any] = {}
        unknown: dict[str, tuple[str, str]] = {}
        for attribute, rule in self.rules.items():
            raw = attributes.get(attribute)
            if raw is None:
                unknown[attribute] = (Code.OFFER_MISSING, "")
                continue
            try:
                parsed[attribute] = rule.parse_offer(raw)
            except Unreadable as error:
                unknown[attribute] = (Code.OFFER_UNREADABLE, str(error))
        for attribute, level in self.fails(attributes).items():
            parsed[attribute] = level
        bad = self.known_bad.on(attributes)
        return Offer(family=self, parsed=parsed, unknown=unknown, bad=bad)

    def fails(self, attributes: Mapping[str, object]) -> dict[str, Level]:
        """What of the implied rules a device with these attributes is known to fail."""
        found = {}
        for attribute, rule in self.implied.items():
            if attribute not in attributes:
                continue
            try:
                level = rule.parse_offer(attributes[attribute])
            except Unreadable:
                continue
            if not level.met:
                found[attribute] = level
        return found


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A device's attributes now: what the device can act as.

    :param family: the device's family
    :param parsed: by attribute, what its rule made of the value
    :param unknown: by attribute, why there is no value: a code, and the detail
    :param bad: by attribute, what of needs it is known not to take
    """

    family: Family
    parsed: Mapping[str, Any]
    unknown: Mapping[str, tuple[str, str]]
    bad: Mapping[str, Bads] = dataclasses.field(default_factory=dict)

    @property
    def _implied(self) -> list[str]:
        """The implied rules of which it says something."""
        says = (self.parsed, self.unknown)
        return [name for name in self.family.implied if any(name in of for of in says)]

    def atoms(self) -> frozenset[Atom]:
        """All atoms that a guest on this device might come to need."""
        return frozenset(
            Atom(self.family.name, attribute, value)
            for attribute, value_of in self.parsed.items()
            for value in self.family.rule(attribute).values(value_of)
        )

    def in_use(self, attribute: str, used: object) -> frozenset[str] | None:
        """The need of a guest of which its device knows what it uses of an attribute.

        :param used: a text, or a list of texts
        :returns: values as needs have them; None where they cannot be read, or the device does not
            accept them
        """
        listed = used if isinstance(used, list) else [used]
        texts = [text for text in listed if isinstance(text, str)]
        if attribute not in self.parsed or len(texts) < len(listed):
            return None
        rule, offer = self.family.rule(attribute), self.parsed[attribute]
        try:
            values = frozenset(rule.canonical(text) for text in texts)
            if any(rule.check(offer, rule.parse_need(value)) for value in values):
                return None
        except Unreadable:
            return None
        return values

    def freeze(
        self, *, slot: str = "", address: str = "", pin: DeviceNeed | None = None
    ) -> DeviceNeed:
        """The need of a guest whose device is initialised now, see :meth:`AcceptSet.freeze`."""
        atoms = pin.atoms if pin is not None else ()
        return self.accept_set(atoms).freeze(slot=slot, address=address, pin=pin)

    def freeze_used(
        self, used: Mapping[str, frozenset[str] | None], *, slot: str = ""
    ) -> DeviceNeed:
        """The need of a guest of which it is known what it uses: :meth:`AcceptSet.freeze_used`."""
        atoms = [
            Atom(self.family.name, attribute, value)
            for attribute, values in used.items()
            for value in values or ()
        ]
        return self.accept_set(atoms).freeze_used(used, slot=slot)

    def accept_set(self, atoms: Iterable[Atom]) -> AcceptSet:
        """Which of ``atoms`` this offer accepts; those of other families are passed over."""
        wanted: dict[str, list[str]] = {}
        for atom in atoms:
            if atom.family == self.family.name:
                wanted.setdefault(atom.attribute, []).append(atom.value)
        return AcceptSet(
            family=self.family.name,
            attributes={
                attribute: self._accepts(attribute, wanted.get(attribute, ()))
                for attribute in (*self.family.rules, *self._implied)
            },
        )

    def _accepts(self, attribute: str, values: Iterable[str]) -> Evaluation:
        rule = self.family.rule(attribute)
        if attribute in self.unknown:
            return Evaluation(kind=rule.kind, unknown=self.unknown[attribute])
        offer = self.parsed[attribute]
        bads = self.bad.get(attribute, NONE_BAD)
        accepted: set[str] = set()
        rejected: dict[str, tuple[str, Actor]] = {}
        doubtful: dict[str, tuple[str, Actor]] = {}
        unreadable: set[str] = set()
        for value in values:
            needed = _parse_need(rule, value)
            if isinstance(needed, Unreadable):
                unreadable.add(value)  # somebody else's trait, most likely
                continue
            refusal = rule.check(offer, needed)
            bad = bads.match(value) if bads else None
            if refusal is not None:
                against = rejected if refusal.certain else doubtful
                against[value] = (refusal.code, refusal.actor)
            elif bad is None:
                accepted.add(value)
            elif not bad[1]:
                doubtful[value] = _BAD
            # Where the rule only doubts, too.
            if bad is not None and bad[1] and value not in rejected:
                rejected[value] = _BAD
        return Evaluation(
            kind=rule.kind,
            offered=rule.describe(offer),
            accepted=frozenset(accepted),
            rejected=rejected,
            doubtful=doubtful,
            unreadable=frozenset(unreadable),
            frozen=_freeze(rule, offer),
            open_world=rule.open_world,
            bad=bads,
        )

    def judge(self, need: DeviceNeed) -> Verdict:
        """Whether the device can take a guest with this need, the need's own atoms evaluated."""
        return self.accept_set(need.atoms).judge(need)
