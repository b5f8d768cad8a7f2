# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Families, offers and accept-sets: what a device can act as, and which needs that meets.

There is one comparison only, :meth:`AcceptSet.judge`. Admission makes an accept-set of the need's
own atoms and asks it; the filter asks the one that the host published; so the two cannot differ
but by what the host did not know yet.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.need import DeviceNeed, Need, assign
from nova_devcompat.compat.rules import Rule, UseNotKnown
from nova_devcompat.compat.traits import Atom, check_name
from nova_devcompat.compat.verdict import Actor, Code, Mode, Outcome, Policy, Reason, Verdict

PolicyOf = Callable[[str], Policy]


class Subject(enum.StrEnum):
    """What a family's rules are about."""

    DEVICE = "device"
    HOST = "host"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Accepts:
    """What one attribute of a device accepts, out of the atoms that were evaluated.

    :param kind: the rule's kind
    :param offered: the offer as an operator should read it, '' where it is not known
    :param accepted: canonical values that the offer meets
    :param rejected: values that it does not meet, each with the reason's code and actor
    :param unreadable: values that the rule cannot read
    :param unknown: why nothing is known of this attribute: a code, and the detail
    :param frozen: what a guest needs whose device is initialised now; None where that is not known
    """

    kind: str = ""
    offered: str = ""
    accepted: frozenset[str] = frozenset()
    rejected: Mapping[str, tuple[str, Actor]] = dataclasses.field(
        default_factory=lambda: MappingProxyType({})
    )
    unreadable: frozenset[str] = frozenset()
    unknown: tuple[str, str] | None = None
    frozen: frozenset[str] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AcceptSet:
    """The atoms that an offer accepts, out of those that were evaluated.

    :param family: the device's family
    :param attributes: one entry for each rule of the family
    """

    family: str
    attributes: Mapping[str, Accepts]

    @property
    def atoms(self) -> frozenset[Atom]:
        """The accepted atoms."""
        return frozenset(
            Atom(self.family, attribute, value)
            for attribute, accepts in self.attributes.items()
            for value in accepts.accepted
        )

    def freeze(
        self, *, slot: str = "", address: str = "", pin: DeviceNeed | None = None
    ) -> DeviceNeed:
        """The need of a guest whose device is initialised now.

        :param pin: what the guest's flavor wants it recorded as needing. A value that the device
            refuses is passed over, since a guest can always stay where it is
        """
        values = {attribute: accepts.frozen for attribute, accepts in self.attributes.items()}
        for attribute, pinned in pin.values if pin is not None else ():
            accepts = self.attributes.get(attribute)
            if accepts is not None and pinned and pinned.isdisjoint(accepts.rejected):
                values[attribute] = pinned
        return DeviceNeed.of(self.family, values, slot=slot, address=address)

    def freeze_used(
        self, used: Mapping[str, frozenset[str] | None], *, slot: str = ""
    ) -> DeviceNeed:
        """The need of a guest of which it is known what it uses: that and nothing else.

        :param used: the values that it takes, by attribute; None where that is not known.
            Attributes that are left out are not needed. Where the offer refuses a value, the guest
            runs on it all the same, so what the offer has is enough
        """
        values: dict[str, frozenset[str] | None] = {}
        for attribute, accepts in self.attributes.items():
            wanted = used.get(attribute, frozenset())
            if wanted and not wanted.isdisjoint(accepts.rejected):
                wanted = accepts.frozen
            values[attribute] = wanted
        return DeviceNeed.of(self.family, values, slot=slot)

    def judge_pin(self, pin: DeviceNeed) -> Verdict:
        """Whether the device can act as a flavor wants: the attributes it names, and no others."""
        if pin.family != self.family:
            return Verdict.reject(self._of_another_family(pin))
        return Verdict.all_of(self._judge_attributes(pin))

    def judge(self, need: DeviceNeed) -> Verdict:
        """Whether the device can take a guest with this need."""
        if need.family != self.family:
            return Verdict.reject(self._of_another_family(need))
        if self._meets(need):
            return Verdict.accept()
        verdicts = self._judge_attributes(need)
        recorded = {attribute for attribute, _ in need.values}
        if not recorded.issuperset(self.attributes):
            verdicts += [
                Verdict.unknown(self._reason(Code.NEED_MISSING, Actor.OPERATOR, attribute))
                for attribute in self.attributes
                if attribute not in recorded
            ]
        return Verdict.all_of(verdicts)

    def _of_another_family(self, need: DeviceNeed) -> Reason:
        return Reason(
            code=Code.OTHER_FAMILY,
            actor=Actor.OPERATOR,
            family=need.family,
            needed=need.family,
            offered=self.family,
        )

    def _judge_attributes(self, need: DeviceNeed) -> list[Verdict]:
        return [
            self._judge_attribute(attribute, needed)
            for attribute, needed in need.values
            if needed is None or needed
        ]

    def _meets(self, need: DeviceNeed) -> bool:
        """Whether it all fits, the common case, without looking for reasons."""
        if len(need.values) != len(self.attributes):
            return False
        for attribute, needed in need.values:
            accepts = self.attributes.get(attribute)
            if accepts is None or needed is None or not needed <= accepts.accepted:
                return False
        return True

    def _judge_attribute(self, attribute: str, needed: frozenset[str] | None) -> Verdict:
        if needed is None:
            return Verdict.unknown(self._reason(Code.NEED_UNKNOWN, Actor.GUEST, attribute))
        accepts = self.attributes.get(attribute)
        if accepts is None:
            reason = self._reason(Code.NO_RULE, Actor.OPERATOR, attribute, needed=_listed(needed))
            return Verdict.unknown(reason)
        if accepts.unknown:
            code, detail = accepts.unknown
            text = _listed(needed)
            return Verdict.unknown(
                self._reason(code, Actor.OPERATOR, attribute, needed=text, detail=detail)
            )
        refusals: dict[tuple[str, Actor], list[str]] = {}
        for value in needed:
            if value in accepts.rejected:
                refusals.setdefault(accepts.rejected[value], []).append(value)
        if refusals:
            return Verdict.reject(
                *[
                    self._reason(code, actor, attribute, needed=_listed(values))
                    for (code, actor), values in sorted(refusals.items())
                ]
            )
        missing = needed - accepts.accepted
        if not missing:
            return Verdict.accept()
        unreadable = missing & accepts.unreadable
        if unreadable:
            code, actor, missing = Code.NEED_UNREADABLE, Actor.OPERATOR, unreadable
        else:
            code, actor = Code.NOT_EVALUATED, Actor.HOST
        return Verdict.unknown(self._reason(code, actor, attribute, needed=_listed(missing)))

    def _reason(
        self, code: str, actor: Actor, attribute: str, needed: str = "", detail: str = ""
    ) -> Reason:
        accepts = self.attributes.get(attribute, Accepts())
        return Reason(
            code=code,
            actor=actor,
            family=self.family,
            attribute=attribute,
            kind=accepts.kind,
            needed=needed,
            offered=accepts.offered,
            detail=detail,
        )


def _listed(values: Iterable[str]) -> str:
    return ",".join(sorted(values))


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
    :raises ValueError: a family or attribute that is no name
    """

    name: str
    rules: Mapping[str, Rule[Any, Any]]
    subject: Subject = Subject.DEVICE

    def __post_init__(self) -> None:
        check_name(self.name)
        for attribute in self.rules:
            check_name(attribute)

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
        return Offer(family=self, parsed=parsed, unknown=unknown)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A device's attributes now: what the device can act as.

    :param family: the device's family
    :param parsed: by attribute, what its rule made of the value
    :param unknown: by attribute, why there is no value: a code, and the detail
    """

    family: Family
    parsed: Mapping[str, Any]
    unknown: Mapping[str, tuple[str, str]]

    def atoms(self) -> frozenset[Atom]:
        """All atoms that a guest on this device might come to need."""
        return frozenset(
            Atom(self.family.name, attribute, value)
            for attribute, value_of in self.parsed.items()
            for value in self.family.rules[attribute].values(value_of)
        )

    def in_use(self, attribute: str, told: object) -> frozenset[str] | None:
        """The need of a guest of which its device knows what it uses of an attribute.

        :param told: a text, or a list of texts
        :returns: values as needs have them; None where they cannot be read, or the device does not
            accept them
        """
        listed = told if isinstance(told, list) else [told]
        texts = [text for text in listed if isinstance(text, str)]
        if attribute not in self.parsed or len(texts) < len(listed):
            return None
        rule, offer = self.family.rules[attribute], self.parsed[attribute]
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
                for attribute in self.family.rules
            },
        )

    def _accepts(self, attribute: str, values: Iterable[str]) -> Accepts:
        rule = self.family.rules[attribute]
        if attribute in self.unknown:
            return Accepts(kind=rule.kind, unknown=self.unknown[attribute])
        offer = self.parsed[attribute]
        accepted: set[str] = set()
        rejected: dict[str, tuple[str, Actor]] = {}
        unreadable: set[str] = set()
        for value in values:
            needed = _parse_need(rule, value)
            if isinstance(needed, Unreadable):
                unreadable.add(value)  # somebody else's trait, most likely
                continue
            refusal = rule.check(offer, needed)
            if refusal is None:
                accepted.add(value)
            else:
                rejected[value] = (refusal.code, refusal.actor)
        return Accepts(
            kind=rule.kind,
            offered=rule.describe(offer),
            accepted=frozenset(accepted),
            rejected=rejected,
            unreadable=frozenset(unreadable),
            frozen=_freeze(rule, offer),
        )

    def judge(self, need: DeviceNeed) -> Verdict:
        """Whether the device can take a guest with this need, the need's own atoms evaluated."""
        return self.accept_set(need.atoms).judge(need)


Judge = Callable[[DeviceNeed], Verdict]


def no_offer(need: DeviceNeed) -> Verdict:
    """The verdict on a device of which the host says nothing."""
    return Verdict.unknown(
        Reason(code=Code.DEVICE_UNKNOWN, actor=Actor.OPERATOR, family=need.family)
    )


def judge_each(
    needs: Iterable[DeviceNeed], devices: Sequence[Judge], policy: PolicyOf
) -> list[Verdict]:
    """Whether each need has some device, several perhaps the same one.

    For devices that placement does not track: one physical function serves many guests. A host
    that says nothing of such devices is UNKNOWN, since it may have one all the same.

    :returns: a verdict for each need
    """
    return [_best(need, devices, policy) if devices else no_offer(need) for need in needs]


def judge_claim(
    needs: Sequence[DeviceNeed], devices: Sequence[Judge], policy: PolicyOf
) -> list[Verdict]:
    """Whether the needs can be given the devices of one claim, a device each.

    :param devices: what judges a need for each device claimed, :meth:`AcceptSet.judge` or
        :meth:`Offer.judge`; a device that serves two instances' worth stands in it twice
    :param policy: the policy of each family, which says whether UNKNOWN will do. Needs whose
        family is only reported on get what the others leave
    :returns: a verdict for each need
    """
    verdicts = [[judge(need) for judge in devices] for need in needs]
    policies = [policy(need.family) for need in needs]
    order = sorted(range(len(needs)), key=lambda index: -policies[index].mode.strength)

    def fits(index: int, device: int) -> bool:
        return not policies[index].refuses(verdicts[index][device])

    def is_let_pass(index: int, device: int) -> bool:
        return policies[index].objection(verdicts[index][device]) <= policies[index].enforced

    def accepts(index: int, device: int) -> bool:
        return verdicts[index][device].outcome is Outcome.ACCEPT

    # Where UNKNOWN will do for one need, it must not cost another the device that accepts.
    given = assign(order, range(len(devices)), accepts)
    if None in given:
        given = assign(order, range(len(devices)), fits)
    # Nor must what is only reported on of one attribute cost a device that all else accepts.
    will_do = fits
    if any(one.attributes for one in policies) and any(
        device is None and policies[index].enforced
        for index, device in zip(order, given, strict=True)
    ):
        will_do = is_let_pass
        given = assign(order, range(len(devices)), will_do)
    left = [judge for device, judge in enumerate(devices) if device not in given]

    def without(index: int) -> Verdict:
        # No device that is left will do, and why not is what the operator wants to know.
        if left or not any(will_do(index, device) for device in range(len(devices))):
            return _best(needs[index], left or devices, policy)
        return _one_too_few(needs[index])

    found = {
        index: without(index) if device is None else verdicts[index][device]
        for index, device in zip(order, given, strict=True)
    }
    return [found[index] for index in range(len(needs))]


def judge_any_order(needs: Sequence[DeviceNeed], devices: Sequence[Judge]) -> list[Verdict]:
    """Whether the needs can be given the devices whichever need gets which.

    For a claim of which nobody can tell the order.

    :returns: a verdict for each need
    """
    if len(devices) < len(needs):
        return [_one_too_few(need) for need in needs]
    return [Verdict.all_of(judge(need) for judge in devices) for need in needs]


def _best(need: DeviceNeed, devices: Sequence[Judge], policy: PolicyOf) -> Verdict:
    verdicts = [judge(need) for judge in devices]
    if not verdicts:
        return _one_too_few(need)
    objection = policy(need.family).objection
    # Of several that will not do, a device of the right family tells the operator most.
    return min(
        verdicts,
        key=lambda verdict: (
            objection(verdict),
            any(reason.code == Code.OTHER_FAMILY for reason in verdict.reasons),
            verdict.severity,
        ),
    )


def judge_pins(pins: Need, devices: Sequence[AcceptSet | None]) -> list[Verdict]:
    """Whether the devices given to a guest can act as its flavor wants.

    All those of a pinned family must, and there must be one.

    :param devices: None for one of which the host says nothing
    :returns: a verdict for each family that is pinned
    """
    return [_judge_pin(pin, devices) for pin in pins.devices]


def judge_pins_loosely(
    pins: Need, devices: Sequence[AcceptSet | None], policy: PolicyOf
) -> list[Verdict]:
    """The same where any of the devices may be given to the guest."""
    return [
        min(
            (_judge_pin(pin, [device]) for device in devices),
            key=lambda verdict, pin=pin: (  # type: ignore[misc]
                policy(pin.family).objection(verdict),
                verdict.severity,
            ),
            default=_one_too_few(pin),
        )
        for pin in pins.devices
    ]


def _judge_pin(pin: DeviceNeed, devices: Sequence[AcceptSet | None]) -> Verdict:
    concerned = [one for one in devices if one is not None and one.family == pin.family]
    if concerned:
        return Verdict.all_of(one.judge_pin(pin) for one in concerned)
    return no_offer(pin) if None in devices else _one_too_few(pin)


def _one_too_few(need: DeviceNeed) -> Verdict:
    return Verdict.reject(
        Reason(code=Code.NO_DEVICE, actor=Actor.OPERATOR, family=need.family, needed="a device")
    )


def judge_host(
    needs: Iterable[DeviceNeed], judges: Mapping[str, Judge], *, complete: bool
) -> dict[str, Verdict]:
    """Whether a host meets what guests need of hosts, by family.

    :param needs: what a guest needs, :attr:`Need.host`
    :param judges: what judges a need for each host family of which the host says something
    :param complete: whether a family of the host that the guest's record says nothing of is
        UNKNOWN: so it is for a guest that runs on
    """
    verdicts = {one.family: judges.get(one.family, no_offer)(one) for one in needs}
    for family in judges if complete else ():
        if family not in verdicts:
            verdicts[family] = nothing_recorded(family)
    return verdicts


def judge_host_pins(
    pins: Iterable[DeviceNeed], accept_sets: Mapping[str, AcceptSet]
) -> dict[str, Verdict]:
    """Whether a host is what a flavor wants of it, by family.

    :param pins: what it pins of host families
    :param accept_sets: the host's own, by family
    """
    return {
        pin.family: accept_sets[pin.family].judge_pin(pin)
        if pin.family in accept_sets
        else no_offer(pin)
        for pin in pins
    }


def nothing_recorded(family: str, detail: str = "") -> Verdict:
    """The verdict where a guest's record says nothing of a family that concerns it.

    :param detail: how it does
    """
    return Verdict.unknown(
        Reason(code=Code.NEED_MISSING, actor=Actor.OPERATOR, family=family, detail=detail)
    )


def required_atoms(need: Need, policy: PolicyOf) -> frozenset[Atom]:
    """The atoms that a host must accept for the need to have a chance: what placement is asked.

    None of a family or attribute whose policy leaves the decision to the filter.
    """
    return frozenset(
        atom
        for device in need.devices
        if (of_family := policy(device.family)).asks_placement
        for atom in device.atoms
        if of_family.mode_of(atom.attribute) is Mode.ENFORCE
    )
