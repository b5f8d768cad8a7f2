# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Accept-sets: the atoms that an offer accepts, and the one comparison of a need with them.

There is one comparison only, :meth:`AcceptSet.judge`. Admission makes an accept-set of the guest's
own atoms and asks it; the filter asks the one that the host published; so the two cannot differ
but by what the host did not know yet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from nova_devcompat.compat.kinds.floor import MET, UNMET, Floor
from nova_devcompat.compat.knownbad import NONE_BAD, Bad, Bads
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Actor, Code, Reason, Verdict


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What one attribute of a device accepts, out of the atoms that were evaluated.

    :param kind: the rule's kind
    :param offered: the offer as an operator should read it, '' where it is not known
    :param accepted: canonical values that the offer meets
    :param rejected: values that it does not meet, each with the reason's code and actor
    :param doubtful: values of which the rule cannot tell, each with the reason's code and actor
    :param unreadable: values that the rule cannot read
    :param unknown: why nothing is known of this attribute: a code, and the detail
    :param frozen: what a guest needs whose device is initialised now; None where that is not known
    :param open_world: whether it meets every value that is not among these, and that no entry of
        ``bad`` is about
    :param bad: entries of known-bad lists that concern the device; what they are about is among
        the rejected or doubtful values, with their code
    """

    kind: str = ""
    offered: str = ""
    accepted: frozenset[str] = frozenset()
    rejected: Mapping[str, tuple[str, Actor]] = dataclasses.field(
        default_factory=lambda: MappingProxyType({})
    )
    doubtful: Mapping[str, tuple[str, Actor]] = dataclasses.field(
        default_factory=lambda: MappingProxyType({})
    )
    unreadable: frozenset[str] = frozenset()
    unknown: tuple[str, str] | None = None
    frozen: frozenset[str] | None = None
    open_world: bool = False
    bad: Bads = NONE_BAD

    def refuses(self, values: frozenset[str]) -> bool:
        """Whether the rule says of some values that one is not met, or may not be.

        What is known not to work says nothing of what a device is, and is not counted.
        """
        by_rule = self.by_rule
        return not (values.isdisjoint(by_rule.rejected) and values.isdisjoint(by_rule.doubtful))

    @property
    def by_rule(self) -> Evaluation:
        """The same if nothing were known not to work."""
        if not self.bad:
            return self
        rejected, doubtful = _by_rule(self.rejected), _by_rule(self.doubtful)
        named = (self.rejected.keys() | self.doubtful.keys()) - rejected.keys() - doubtful.keys()
        return dataclasses.replace(
            self,
            accepted=self.accepted | named,
            rejected=rejected,
            doubtful=doubtful,
            bad=NONE_BAD,
        )

    def meets(self, needed: frozenset[str]) -> bool:
        """Whether it is known to meet all of some values."""
        if needed <= self.accepted:
            return True
        named = (self.rejected, self.doubtful, self.unreadable)
        return (
            self.open_world
            and not self.unknown
            and all(needed.isdisjoint(values) for values in named)
            and not any(map(self.bad.match, needed))
        )

    def within(self, values: frozenset[str]) -> Evaluation:
        """The same as if no other values had been evaluated; what a guest needs of the device is
        not known then if any of it was not.
        """
        return self._with_less(
            accepted=self.accepted & values,
            rejected={value: why for value, why in self.rejected.items() if value in values},
            doubtful={value: why for value, why in self.doubtful.items() if value in values},
            unreadable=self.unreadable & values,
            frozen=None if self.frozen is None or self.frozen - values else self.frozen,
        )

    def without_refusals(self) -> Evaluation:
        """The same with nothing said of values that are not met, or may not be."""
        # Of what meets all that is not named, no name can be left out.
        bad = self.bad.without_words() if self.open_world else NONE_BAD
        return self._with_less(rejected={}, doubtful={}, bad=bad)

    def _with_less(self, **changes: Any) -> Evaluation:
        """The same with some values left out. Those are not evaluated, and none is met because
        nothing is said of it any more.
        """
        less = dataclasses.replace(self, **changes)
        kept = len(less.rejected) + len(less.doubtful) + len(less.unreadable) + len(less.bad)
        all_of_them = (
            len(self.rejected) + len(self.doubtful) + len(self.unreadable) + len(self.bad)
        )
        return dataclasses.replace(less, open_world=less.open_world and kept == all_of_them)


_NOTHING = Evaluation()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AcceptSet:
    """The atoms that an offer accepts, out of those that were evaluated.

    :param family: the device's family
    :param attributes: one entry for each rule of the family
    """

    family: str
    attributes: Mapping[str, Evaluation]

    @property
    def atoms(self) -> frozenset[Atom]:
        """The accepted atoms."""
        return frozenset(
            Atom(self.family, attribute, value)
            for attribute, accepts in self.attributes.items()
            for value in accepts.accepted
        )

    def within(self, atoms: Iterable[Atom]) -> AcceptSet:
        """The same as if no other atoms had been evaluated; those of other families are passed
        over.
        """
        values: dict[str, set[str]] = {}
        for atom in atoms:
            if atom.family == self.family:
                values.setdefault(atom.attribute, set()).add(atom.value)
        return dataclasses.replace(
            self,
            attributes={
                attribute: accepts.within(frozenset(values.get(attribute, ())))
                for attribute, accepts in self.attributes.items()
            },
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
            if accepts is not None and pinned and not accepts.refuses(pinned):
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
            if wanted and accepts.refuses(wanted):
                wanted = accepts.frozen
            values[attribute] = wanted
        return DeviceNeed.of(self.family, values, slot=slot)

    def judge_pin(self, pin: DeviceNeed) -> Verdict:
        """Whether the device can act as a flavor wants: the attributes it names, and no others.

        What is known not to work is about guests that come with what they need, not about one that
        starts as its flavor wants.
        """
        if pin.family != self.family:
            return Verdict.reject(self._of_another_family(pin))
        by_rules = self
        if any(entry.bad for entry in self.attributes.values()):
            attributes = {name: entry.by_rule for name, entry in self.attributes.items()}
            by_rules = dataclasses.replace(self, attributes=attributes)
        return Verdict.all_of(by_rules._judge_attributes(pin))

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
                self._judge_unrecorded(attribute)
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
            if accepts is None or needed is None:
                return False
            # Whatever else is said of the values, what is known to go wrong is asked.
            if accepts.bad:
                return False
            if not (needed <= accepts.accepted or accepts.meets(needed)):
                return False
        return True

    def _judge_attribute(self, attribute: str, needed: frozenset[str] | None) -> Verdict:
        if needed is None:
            return Verdict.unknown(self._reason(Code.NEED_UNKNOWN, Actor.GUEST, attribute))
        accepts = self.attributes.get(attribute)
        if accepts is None and needed == frozenset([UNMET]):
            # The guest's own device cannot be migrated from, whatever this one has.
            return Verdict.reject(self._reason(Code.UNMET, Actor.GUEST, attribute, UNMET))
        if accepts is None:
            reason = self._reason(Code.NO_RULE, Actor.OPERATOR, attribute, needed=_listed(needed))
            return Verdict.unknown(reason)
        if accepts.unknown:
            code, detail = accepts.unknown
            text = _listed(needed)
            return Verdict.unknown(
                self._reason(code, Actor.OPERATOR, attribute, needed=text, detail=detail)
            )
        if accepts.bad:
            # What the rule says is there beside what is known, whichever of them is let pass.
            by_rule = self._by_rule(attribute, accepts.by_rule, needed)
            return Verdict.all_of([*self._known_bad(attribute, accepts, needed), by_rule])
        return self._by_rule(attribute, accepts, needed)

    def _by_rule(self, attribute: str, accepts: Evaluation, needed: frozenset[str]) -> Verdict:
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
        if accepts.meets(needed):
            return Verdict.accept()
        return self._doubt(attribute, accepts, needed - accepts.accepted)

    def _judge_unrecorded(self, attribute: str) -> Verdict:
        """The verdict on what a guest needs of an attribute that its record does not have."""
        accepts = self.attributes[attribute]
        if accepts.kind == Floor.kind and accepts.frozen == frozenset([UNMET]):
            # Such a device takes no guest, whatever that needs.
            return Verdict.reject(self._reason(Code.BELOW_FLOOR, Actor.HOST, attribute, MET))
        return Verdict.unknown(self._reason(Code.NEED_MISSING, Actor.OPERATOR, attribute))

    def _known_bad(
        self, attribute: str, accepts: Evaluation, needed: frozenset[str]
    ) -> Iterator[Verdict]:
        """A verdict for each entry that is about one of some values, or may be."""
        for bad in accepts.bad.entries:
            matches = {value: bad.matches(value) for value in sorted(needed)}
            sure = [value for value, match in matches.items() if match and bad.certain]
            if sure:
                yield Verdict.reject(self._bad_reason(attribute, bad, sure, bad.detail))
                continue
            maybe = [value for value, match in matches.items() if match is not False]
            if maybe:
                detail = f"or may not be, which cannot be told here: {bad.detail}"
                yield Verdict.unknown(self._bad_reason(attribute, bad, maybe, detail))

    def _bad_reason(self, attribute: str, bad: Bad, values: Iterable[str], detail: str) -> Reason:
        reason = self._reason(
            Code.KNOWN_BAD, Actor.HOST, attribute, needed=_listed(values), detail=detail
        )
        return dataclasses.replace(reason, risk=bad.name)

    def _doubt(self, attribute: str, accepts: Evaluation, missing: frozenset[str]) -> Verdict:
        """The verdict on values of which it is not known whether they are met."""
        doubtful = sorted(missing & accepts.doubtful.keys())
        unreadable = missing & accepts.unreadable
        if doubtful:
            (code, actor), missing = accepts.doubtful[doubtful[0]], frozenset(doubtful)
        elif unreadable:
            code, actor, missing = Code.NEED_UNREADABLE, Actor.OPERATOR, unreadable
        else:
            code, actor = Code.NOT_EVALUATED, Actor.HOST
        return Verdict.unknown(self._reason(code, actor, attribute, needed=_listed(missing)))

    def _reason(
        self, code: str, actor: Actor, attribute: str, needed: str = "", detail: str = ""
    ) -> Reason:
        accepts = self.attributes.get(attribute, _NOTHING)
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


def _by_rule(refused: Mapping[str, tuple[str, Actor]]) -> dict[str, tuple[str, Actor]]:
    """Values that the rule refuses, without those that only are known not to work."""
    return {value: why for value, why in refused.items() if why[0] != Code.KNOWN_BAD}


def _listed(values: Iterable[str]) -> str:
    return ",".join(sorted(values))
