# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A family as a catalog has it: which devices it has, by which rules and from which sources."""

from __future__ import annotations

import dataclasses
import enum
import zlib
from collections.abc import Mapping

from nova_devcompat.catalog import patterns
from nova_devcompat.catalog.stages import Coming, Moment, Stages, coming, mode_at
from nova_devcompat.compat import uses
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.policy import Mode, OnUnknown, Policy


class AttributeOf(enum.StrEnum):
    """What an attribute is a fact of."""

    DEVICE = "device"
    FUNCTION = "function"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AttributeSource:
    """Where an attribute comes from.

    :param source: the name of the source that tells it
    :param path: the files to read, for a source that reads some: a glob relative to the folder of
        the device, or of the function; None for an attribute that the source has a name for
    :param attribute: the source's name for it; None where that is the family's
    :param of_function: whether it is a fact of the function that is assigned, not of the device
    """

    source: str
    path: str | None = None
    attribute: str | None = None
    of_function: bool = False

    def key(self, attribute: str) -> str:
        """What the source calls an attribute.

        Families may read unlike files for attributes of one name, so a file's name depends on its
        path.
        """
        if self.path is None:
            return self.attribute or attribute
        # No path begins with "/", so that no file of a device is called as one of a function.
        path = f"/{self.path}" if self.of_function else self.path
        return f"{attribute}_{zlib.crc32(path.encode()):08x}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RulePolicy:
    """What is stated of the policy of one attribute; None where nothing is.

    :param mode: never stricter than the family's
    :param on_unknown: in place of the family's
    """

    mode: Mode | None = None
    on_unknown: OnUnknown | None = None

    def over(self, before: RulePolicy) -> RulePolicy:
        """This where it states something, else what was stated before."""
        return RulePolicy(
            mode=self.mode or before.mode, on_unknown=self.on_unknown or before.on_unknown
        )

    def over_policy(self, policy: Policy) -> Policy:
        """A policy with what is stated here in place of its own."""
        if self.mode is None and self.on_unknown is None:
            return policy
        return dataclasses.replace(
            policy,
            mode=self.mode or policy.mode,
            on_unknown=self.on_unknown or policy.on_unknown,
        )


NOTHING_STATED = RulePolicy()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CatalogFamily:
    """A family as a catalog has it.

    :param family: its name and rules
    :param match: patterns by attribute; a device that has them all belongs to the family
    :param source: the name of its primary source, which lists its devices
    :param stands_in: whether that source tells all that others would, as an inventory does
    :param attributes: where the attributes come from that the primary source does not tell; where
        that stands in for others, it tells them all the same
    :param in_use: by rule attribute, the attribute that tells what running guests use of it: a
        mapping by the UUID of the guest, or of its mdev
    :param mode: None where the catalog leaves it to ``[devcompat] mode``
    :param on_unknown: None where the catalog leaves it to ``[devcompat] on_unknown``
    :param stages: what takes the place of ``mode`` as time goes; empty for none
    :param rule_stages: the same for single attributes, by name; never stricter than the family
    :param implied: which source tells what the family's implied rules ask of each function, by
        attribute
    :param fallback: whether it has those devices only that no other family matches
    :param rule_policies: what is stated of single attributes beside, by name; its modes take the
        place of their stages
    :param needs: of a host family, what guests need of their host by what they use
    """

    family: Family
    match: Mapping[str, str]
    source: str
    stands_in: bool = False
    attributes: Mapping[str, AttributeSource] = dataclasses.field(default_factory=dict)
    in_use: Mapping[str, str] = dataclasses.field(default_factory=dict)
    mode: Mode | None = None
    on_unknown: OnUnknown | None = None
    stages: Stages = ()
    rule_stages: Mapping[str, Stages] = dataclasses.field(default_factory=dict)
    implied: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fallback: bool = False
    rule_policies: Mapping[str, RulePolicy] = dataclasses.field(default_factory=dict)
    needs: tuple[uses.Use, ...] = ()

    @property
    def of_host(self) -> bool:
        """Whether guests depend on it by what host they are on, not by a device."""
        return self.family.subject is Subject.HOST

    @property
    def name(self) -> str:
        """The family's name."""
        return self.family.name

    @property
    def sources(self) -> frozenset[str]:
        """The names of all sources that it needs."""
        if self.stands_in:
            return frozenset({self.source})
        return frozenset({self.source, *(stated.source for stated in self.attributes.values())})

    def source_of(self, attribute: str) -> AttributeSource:
        """Where an attribute of its devices comes from."""
        stated = self.attributes.get(attribute)
        if stated is None or not self.stands_in:
            return stated or AttributeSource(source=self.source)
        return AttributeSource(source=self.source, of_function=stated.of_function)

    @property
    def of_functions(self) -> bool:
        """Whether its devices are functions, each with facts of its own, not their parents."""
        return any(stated.of_function for stated in self.attributes.values())

    def on_paper(self, source: str) -> CatalogFamily:
        """The same family where one source that stands in for others tells everything."""
        implied = dict.fromkeys(self.implied, source)
        return dataclasses.replace(self, source=source, stands_in=True, implied=implied)

    def key_of(self, attribute: str, told: Mapping[str, object]) -> str:
        """What the source of an attribute calls it.

        :param told: what the source tells. An inventory may tell it by the name that it has on a
            live host, too
        """
        origin = self.source_of(attribute)
        stated = self.attributes.get(attribute)
        if not self.stands_in or stated is None or attribute in told:
            return origin.key(attribute)
        return stated.attribute or attribute

    def matches(self, attributes: Mapping[str, object]) -> bool:
        """Whether a device with these attributes belongs to the family, none being named.

        A list fits if one of its elements does.
        """
        return all(
            _fits(pattern, attributes.get(attribute)) for attribute, pattern in self.match.items()
        )

    def policy(self, default: Policy, moment: Moment) -> Policy:
        """The default, with what the catalog says otherwise at a moment."""
        mode = default.mode if self.mode is None else self.mode
        if self.stages:
            mode = mode_at(self.stages, moment)
        modes = {name: mode_at(stages, moment) for name, stages in self.rule_stages.items()}
        modes |= {name: one.mode for name, one in self.rule_policies.items() if one.mode}
        if modes and modes.keys() >= self.family.rules.keys():
            # A device that none of whose attributes is enforced is nothing to insist on.
            mode = min(mode, max(modes.values(), key=_strength), key=_strength)
        return Policy(
            mode=mode,
            on_unknown=default.on_unknown if self.on_unknown is None else self.on_unknown,
            attributes=tuple(
                (name, laxer) for name, laxer in modes.items() if laxer.strength < mode.strength
            ),
            unknowns=tuple(
                (name, one.on_unknown)
                for name, one in sorted(self.rule_policies.items())
                if one.on_unknown
            ),
            known_bad=self.family.known_bad.needs,
            unasked=frozenset(name for name, rule in self.family.rules.items() if rule.open_world),
        )

    def coming(self, moment: Moment, days: int) -> list[Coming]:
        """Its stages that begin within so many days, and those of releases to come."""
        ahead = list(coming(self.name, self.stages, moment, days))
        for attribute, stages in self.rule_stages.items():
            if self.rule_policies.get(attribute, NOTHING_STATED).mode:
                continue
            ahead += coming(f"{self.name}.{attribute}", stages, moment, days)
        return ahead


def _strength(mode: Mode) -> int:
    return mode.strength


def _fits(pattern: str, value: object) -> bool:
    if isinstance(value, list | tuple | set | frozenset):
        return any(_fits_one(pattern, element) for element in value)
    return _fits_one(pattern, value)


def _fits_one(pattern: str, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return False
    return patterns.matches(pattern, str(value).strip())
