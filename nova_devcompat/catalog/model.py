# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a loaded catalog is: families with their rules, and how devices match them."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from nova_devcompat.catalog import patterns
from nova_devcompat.catalog.stages import Coming, Moment, Stages, coming, mode_at
from nova_devcompat.compat import uses
from nova_devcompat.compat.device import Device
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.pins import BadPin, has_pins, parse_pins, read_pins
from nova_devcompat.compat.policy import Mode, OnUnknown, Policies, Policy
from nova_devcompat.compat.rules import Rule
from nova_devcompat.compat.traits import Atom
from nova_devcompat.kit.text import near


class AmbiguousDevice(ValueError):
    """A device that several families match.

    :param device: the device
    :param families: their names
    """

    def __init__(self, device: Device, families: Iterable[str]) -> None:
        self.device = device
        self.families = tuple(families)
        super().__init__(
            f"device {device.address} matches several families: {', '.join(self.families)}; "
            "make their 'match' disjoint, or name the family in the inventory"
        )


class UnknownFamily(ValueError):
    """A device that names a family which the catalog does not have."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AttributeSource:
    """Where an attribute comes from.

    :param source: the name of the source that tells it
    :param path: the files to read, for a source that reads some: a glob relative to the device's
        folder; None for an attribute that the source has a name for
    """

    source: str
    path: str | None = None

    def key(self, attribute: str) -> str:
        """What the source calls an attribute.

        Families may read unlike files for attributes of one name, so a file's name depends on its
        path.
        """
        if self.path is None:
            return attribute
        return f"{attribute}_{zlib.crc32(self.path.encode()):08x}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """A device as all sources of its host together tell of it.

    :param address: its address
    :param family: the family it belongs to; None for none
    :param attributes: what is known of it: for each rule what the source said that the family has
        for that attribute, beside it all that any source said
    :param origins: the source that told an attribute, by the attribute's name
    :param problems: why an attribute is missing or not whole, by its name
    """

    address: str
    family: CatalogFamily | None
    attributes: Mapping[str, object]
    origins: Mapping[str, str]
    problems: Mapping[str, str]


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
        return frozenset({self.source, *(one.source for one in self.attributes.values())})

    def source_of(self, attribute: str) -> AttributeSource:
        """Where an attribute of its devices comes from."""
        if not self.stands_in and attribute in self.attributes:
            return self.attributes[attribute]
        return AttributeSource(source=self.source)

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
        if modes and len(modes) == len(self.family.rules):
            # A device that none of whose attributes is enforced is nothing to insist on.
            mode = min(mode, max(modes.values(), key=_strength), key=_strength)
        return Policy(
            mode=mode,
            on_unknown=default.on_unknown if self.on_unknown is None else self.on_unknown,
            attributes=tuple(
                (name, one) for name, one in modes.items() if one.strength < mode.strength
            ),
        )

    def coming(self, moment: Moment, days: int) -> list[Coming]:
        """Its stages that begin within so many days, and those of releases to come."""
        found = list(coming(self.name, self.stages, moment, days))
        for attribute, stages in self.rule_stages.items():
            found += coming(f"{self.name}.{attribute}", stages, moment, days)
        return found


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Catalog:
    """The families that one or several files define.

    :param families: by name, sorted
    :param digest: twelve hexadecimal digits that tell whether two processes have the same catalog:
        the order of keys, comments, and options that are the default do not count
    :param stand_ins: which of :attr:`sources` tell what an operator wrote, and stand in for others
    """

    families: Mapping[str, CatalogFamily]
    digest: str
    stand_ins: frozenset[str] = frozenset()

    @property
    def sources(self) -> frozenset[str]:
        """The names of all sources that its families need."""
        return frozenset().union(*(family.sources for family in self.families.values()))

    @property
    def paths(self) -> dict[str, dict[str, str]]:
        """The files that each source is to read, by the source's name and what it calls them."""
        paths: dict[str, dict[str, str]] = {}
        for family in self.families.values():
            for attribute, stated in family.attributes.items():
                if stated.path is not None and not family.stands_in:
                    paths.setdefault(stated.source, {})[stated.key(attribute)] = stated.path
        return paths

    @property
    def has_host_families(self) -> bool:
        """Whether guests without devices can need anything."""
        return any(family.of_host for family in self.families.values())

    @property
    def announced(self) -> frozenset[Atom]:
        """The atoms that tables of needs name, so that hosts know them before a guest does."""
        return frozenset().union(
            *(uses.announced(one.family, one.needs) for one in self.families.values())
        )

    def policy(self, family_name: str, default: Policy, moment: Moment) -> Policy:
        """The policy of a family; the default for one that is not in the catalog."""
        family = self.families.get(family_name)
        return default if family is None else family.policy(default, moment)

    def policies(self, default: Policy, moment: Moment) -> Policies:
        """The policy of each family for one decision, all of them of one moment.

        Prefilter, filter, weigher and admission all get theirs here.

        :param moment: see :func:`nova_devcompat.catalog.stages.now`
        """
        of_devices = {}
        of_hosts = {}
        for name, family in self.families.items():
            known = of_hosts if family.of_host else of_devices
            known[name] = family.policy(default, moment)
        return Policies(default, of_devices, of_hosts)

    def coming(self, moment: Moment, days: int) -> list[Coming]:
        """Stages that begin within so many days, soonest first, then those of releases to come."""
        found = [one for family in self.families.values() for one in family.coming(moment, days)]
        return sorted(found, key=lambda one: (isinstance(one.stage.since, int), one.stage.when))

    def pins(self, extra_specs: Mapping[str, str]) -> Need:
        """What a flavor pins.

        :param extra_specs: the flavor's
        :raises BadPin: one of ours cannot be read
        """
        if not has_pins(extra_specs):
            return Need()
        return parse_pins(extra_specs, {name: one.family for name, one in self.families.items()})

    def read_pins(self, extra_specs: Mapping[str, str]) -> tuple[Need, tuple[BadPin, ...]]:
        """What a flavor pins, and what is wrong with pins that cannot be read. Never raises.

        :param extra_specs: the flavor's
        """
        if not has_pins(extra_specs):
            return Need(), ()
        return read_pins(extra_specs, {name: one.family for name, one in self.families.items()})

    def classify(self, device: Device) -> CatalogFamily | None:
        """The family of a device: the one it names, else the one that matches; None for neither.

        A device that names a family which is not in the catalog belongs to none.

        :raises AmbiguousDevice: it names none and several match
        """
        if device.family is not None:
            return self.families.get(device.family)
        found = [family for family in self.families.values() if family.matches(device.attributes)]
        if len(found) > 1:
            raise AmbiguousDevice(device, [family.name for family in found])
        return found[0] if found else None

    def merge(
        self, address: str, told: Mapping[str, Device], failed: Mapping[str, str] | None = None
    ) -> Merged:
        """A device of several sources.

        It belongs to the family that a source names, else to the one that matches what all of
        them tell, of several the word of the family's primary source counting most; and only to a
        family whose primary source lists it.

        :param address: its address
        :param told: what each source tells of it, by the source's name; one at least
        :param failed: why other sources tell nothing at all, by their names
        :raises AmbiguousDevice: several families match, or are named
        :raises UnknownFamily: a family is named that is not in the catalog
        """
        union = _Union(told, self.paths)
        found = self._families_of(address, told, union)
        if len(found) > 1:
            device = Device(address, union.of(None).attributes)
            raise AmbiguousDevice(device, [family.name for family in found])
        if not found:
            facts = union.of(None)
            return facts.merged(address, None)
        return _of_family(address, found[0], told, failed or {}, union.of(found[0].source))

    def _families_of(
        self, address: str, told: Mapping[str, Device], union: _Union
    ) -> list[CatalogFamily]:
        named = sorted({device.family for device in told.values() if device.family is not None})
        for name in named:
            self._check_name(name)
        candidates = [self.families[name] for name in named] or self.families.values()
        return [
            family
            for family in candidates
            if family.source in told and (named or family.matches(union.seen_by(family)))
        ]

    def rules_of(self, device: Device) -> Mapping[str, Rule[Any, Any]]:
        """The rules for a device by attribute; none for a device of no family.

        :raises AmbiguousDevice: it names no family and several match
        :raises UnknownFamily: it names one that is not in the catalog
        """
        family = self.classify(device)
        if family is not None:
            return family.family.rules
        if device.family is not None:
            self._check_name(device.family)
        return {}

    def _check_name(self, name: str) -> None:
        if name not in self.families:
            raise UnknownFamily(
                f"no catalog file has the family {name!r}; families: "
                + ", ".join(self.families)
                + near(name, self.families)
            )


@dataclasses.dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of a device: as of :class:`Merged`."""

    attributes: dict[str, object] = dataclasses.field(default_factory=dict)
    origins: dict[str, str] = dataclasses.field(default_factory=dict)
    problems: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, source: str, device: Device, key: str, name: str) -> None:
        """Add what a source says of an attribute, if nothing is known of it yet."""
        if name in self.attributes:
            return
        value = device.attributes.get(key)
        problem = device.problems.get(key)
        if value is not None:
            self.attributes[name] = value
            self.origins[name] = source
            # Of what another source could not tell.
            self.problems.pop(name, None)
        if problem is not None:
            self.problems.setdefault(name, problem)

    def forget(self, name: str) -> None:
        for facts in (self.attributes, self.origins, self.problems):
            facts.pop(name, None)

    def copy(self) -> _Facts:
        return _Facts(dict(self.attributes), dict(self.origins), dict(self.problems))

    def merged(self, address: str, family: CatalogFamily | None) -> Merged:
        return Merged(
            address=address,
            family=family,
            attributes=self.attributes,
            origins=self.origins,
            problems=self.problems,
        )


class _Union:
    """All that any source tells of a device.

    :param told: by source
    :param paths: by source, names that are no attributes of all devices but of a family's, see
        :meth:`AttributeSource.key`
    """

    def __init__(self, told: Mapping[str, Device], paths: Mapping[str, Mapping[str, str]]) -> None:
        self._told = told
        self._paths = paths
        self._known: dict[str | None, _Facts] = {}

    def of(self, primary: str | None) -> _Facts:
        """It all, the primary source's word first, then by the names of the sources."""
        facts = self._known.get(primary)
        if facts is None:
            facts = self._known[primary] = _Facts()
            for source in sorted(self._told, key=lambda name: (name != primary, name)):
                device = self._told[source]
                files = self._paths.get(source, ())
                for name in (*device.attributes, *device.problems):
                    if name not in files:
                        facts.add(source, device, name, name)
        return facts

    def seen_by(self, family: CatalogFamily) -> Mapping[str, object]:
        """The attributes by which a family's ``match`` is judged."""
        attributes = self.of(family.source).attributes
        stated = family.match.keys() & family.attributes.keys()
        if not stated or family.stands_in:
            return attributes
        attributes = dict(attributes)
        for name in stated:
            one = family.attributes[name]
            device = self._told.get(one.source)
            attributes[name] = device and device.attributes.get(one.key(name))
        return attributes


def _of_family(
    address: str,
    family: CatalogFamily,
    told: Mapping[str, Device],
    failed: Mapping[str, str],
    union: _Facts,
) -> Merged:
    facts = union.copy()
    for name in (*family.family.rules, *family.attributes):
        one = family.source_of(name)
        device = told.get(one.source)
        facts.forget(name)
        if device is not None:
            facts.add(one.source, device, one.key(name), name)
        elif one.source in failed:
            facts.problems[name] = failed[one.source]
        else:
            facts.problems[name] = f"source {one.source} does not list {address}"
    return facts.merged(address, family)


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
