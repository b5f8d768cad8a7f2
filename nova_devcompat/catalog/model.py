# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a loaded catalog is: its families, and to which of them a device belongs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nova_devcompat.catalog import patterns
from nova_devcompat.catalog.family import NOTHING_STATED, CatalogFamily, RulePolicy
from nova_devcompat.catalog.merging import Classified, Union, of_family
from nova_devcompat.catalog.origin import Origin
from nova_devcompat.catalog.stages import Coming, Moment
from nova_devcompat.compat import uses
from nova_devcompat.compat.device import Device
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.pins import BadPin, has_pins, in_another_case, parse_pins, read_pins
from nova_devcompat.compat.policy import Policies, Policy
from nova_devcompat.compat.rules import Rule
from nova_devcompat.compat.traits import Atom
from nova_devcompat.kit.text import near

#: What the source is called of whatever an inventory tells, see :meth:`Catalog.on_paper`.
PAPER = "inventory"


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


def _listed(
    families: Iterable[CatalogFamily], reports: Mapping[str, Device]
) -> list[CatalogFamily]:
    """Those families whose primary source lists the device."""
    return [family for family in families if family.source in reports]


def _without_fallbacks(
    families: Iterable[CatalogFamily], others: Iterable[CatalogFamily] = ()
) -> list[CatalogFamily]:
    """Families that match a device, fallbacks among them only where nothing else matches it.

    :param others: which match it too
    """
    families = list(families)
    if all(one.fallback for one in (*families, *others)):
        return families
    return [one for one in families if not one.fallback]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Catalog:
    """The families that one or several files define.

    :param families: by name, sorted
    :param digest: twelve hexadecimal digits that tell whether two processes have the same catalog:
        the order of keys, comments, and options that are the default do not count
    :param stand_ins: which of :attr:`sources` tell what an operator wrote, and stand in for others
    :param of_all: what is stated of the policy of all families, and so of what concerns none by
        name
    :param origins: by family, what the files say of it and where
    """

    families: Mapping[str, CatalogFamily]
    digest: str
    stand_ins: frozenset[str] = frozenset()
    of_all: RulePolicy = NOTHING_STATED
    origins: Mapping[str, Origin] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def sources(self) -> frozenset[str]:
        """The names of all sources that its families need."""
        return frozenset().union(*(family.sources for family in self.families.values()))

    @property
    def beside(self) -> frozenset[str]:
        """The sources that its families do not name, and that tell of their devices whether these
        can migrate at all.
        """
        implied = (family.implied.values() for family in self.families.values())
        return frozenset().union(*implied) - self.sources

    @property
    def paths(self) -> dict[str, dict[str, str]]:
        """The files that each source is to read, by the source's name and what it calls them."""
        return self._paths(of_function=False)

    @property
    def function_paths(self) -> dict[str, dict[str, str]]:
        """The files that each source is to read of each function, likewise."""
        return self._paths(of_function=True)

    def _paths(self, *, of_function: bool) -> dict[str, dict[str, str]]:
        paths: dict[str, dict[str, str]] = {}
        for family in self.families.values():
            for attribute, stated in family.attributes.items():
                if stated.path is None or stated.of_function is not of_function:
                    continue
                if not family.stands_in:
                    paths.setdefault(stated.source, {})[stated.key(attribute)] = stated.path
        return paths

    def on_paper(self) -> Catalog:
        """The same catalog where an inventory tells everything: of source :data:`PAPER`."""
        families = {name: family.on_paper(PAPER) for name, family in self.families.items()}
        return dataclasses.replace(self, families=families)

    @property
    def may_overlap(self) -> list[str]:
        """Pairs of families of which no one can tell whether a device fits both.

        Each asks for an attribute that the other does not, and nothing that both ask for keeps
        them apart. A device that does fit both is UNKNOWN.
        """
        told = []
        for one, other in itertools.combinations(self.families.values(), 2):
            both = one.match.keys() & other.match.keys()
            apart = any(
                patterns.common_text(one.match[name], other.match[name]) is None for name in both
            )
            mine, others = one.match.keys() - both, other.match.keys() - both
            if both and mine and others and not apart and one.fallback is other.fallback:
                told.append(
                    f"{one.name} and {other.name} may match one device, which is UNKNOWN then: "
                    f"{', '.join(sorted(mine))} does not keep it from {other.name}, nor "
                    f"{', '.join(sorted(others))} from {one.name}"
                )
        return told

    @property
    def has_host_families(self) -> bool:
        """Whether guests without devices can need anything."""
        return bool(self.host_families)

    @property
    def host_families(self) -> frozenset[str]:
        """The names of the host families."""
        return frozenset(name for name, family in self.families.items() if family.of_host)

    @property
    def announced(self) -> frozenset[Atom]:
        """The atoms that tables of needs name, so that hosts know them before a guest does."""
        return frozenset().union(
            *(uses.announced(family.family, family.needs) for family in self.families.values())
        )

    def policy(self, family_name: str, default: Policy, moment: Moment) -> Policy:
        """The policy of a family; the default for one that is not in the catalog."""
        default = self.of_all.over_policy(default)
        family = self.families.get(family_name)
        return default if family is None else family.policy(default, moment)

    def policies(self, default: Policy, moment: Moment) -> Policies:
        """The policy of each family for one decision, all of them of one moment.

        Prefilter, filter, weigher and admission all get theirs here.

        :param moment: see :func:`nova_devcompat.catalog.stages.now`
        """
        default = self.of_all.over_policy(default)
        of_devices: dict[str, Policy] = {}
        of_hosts: dict[str, Policy] = {}
        for name, family in self.families.items():
            known = of_hosts if family.of_host else of_devices
            known[name] = family.policy(default, moment)
        return Policies(default, of_devices, of_hosts)

    def coming(self, moment: Moment, days: int) -> list[Coming]:
        """Stages that begin within so many days, soonest first, then those of releases to come."""
        ahead = [
            stage for family in self.families.values() for stage in family.coming(moment, days)
        ]
        return sorted(
            ahead, key=lambda coming: (isinstance(coming.stage.since, int), coming.stage.when)
        )

    def pins(self, extra_specs: Mapping[str, str]) -> Need:
        """What a flavor pins.

        :param extra_specs: the flavor's
        :raises BadPin: one of ours cannot be read
        """
        if not has_pins(extra_specs):
            return Need()
        return parse_pins(extra_specs, self._rules())

    def read_pins(self, extra_specs: Mapping[str, str]) -> tuple[Need, tuple[BadPin, ...]]:
        """What a flavor pins, and what is wrong with pins that cannot be read. Never raises.

        :param extra_specs: the flavor's
        """
        if not has_pins(extra_specs):
            return Need(), ()
        return read_pins(extra_specs, self._rules())

    def in_another_case(self, pins: Need, known: Iterable[Atom]) -> tuple[Atom, Atom] | None:
        """A pinned atom, and one that hosts have which differs in case alone; None without any.

        :param known: all atoms that hosts have
        """
        return in_another_case(pins, known, self._rules())

    def _rules(self) -> dict[str, Family]:
        return {name: family.family for name, family in self.families.items()}

    def classify(self, device: Device) -> CatalogFamily | None:
        """The family of a device: the one it names, else the one that matches; None for neither.

        A device that names a family which is not in the catalog belongs to none.

        :raises AmbiguousDevice: it names none and several match
        """
        if device.family is not None:
            return self.families.get(device.family)
        matching = _without_fallbacks(
            family for family in self.families.values() if family.matches(device.attributes)
        )
        if len(matching) > 1:
            raise AmbiguousDevice(device, [family.name for family in matching])
        return matching[0] if matching else None

    def merge(
        self, address: str, reports: Mapping[str, Device], failed: Mapping[str, str] | None = None
    ) -> Classified:
        """A device of several sources.

        It belongs to the family that a source names, else to the one that matches what all of
        them tell, of several the word of the family's primary source counting most. Where no such
        family's primary source lists it, it belongs to the family all the same, and what that
        source would tell is not known: a device that nobody tells of needs something, too.

        :param address: its address
        :param reports: what each source tells of it, by the source's name; one at least
        :param failed: why other sources tell nothing at all, by their names
        :raises AmbiguousDevice: several families match, or are named
        :raises UnknownFamily: a family is named that is not in the catalog
        """
        union = Union(reports, self.paths)
        families = _without_fallbacks(self._families_of(union))
        families = _listed(families, reports) or families
        if len(families) > 1:
            raise self._ambiguous(address, union, families)
        if not families:
            return union.of(None).classified(address, None)
        (family,) = families
        return of_family(address, family, reports, failed or {}, union.of(family.source))

    def divide(
        self, address: str, reports: Mapping[str, Device], failed: Mapping[str, str] | None = None
    ) -> tuple[list[Classified], dict[str, AmbiguousDevice]]:
        """A device of several sources, and of its functions those that are devices of their own.

        A function is one of its own that belongs to a family with facts of functions. As with
        :meth:`merge`, what a family's primary source does not list belongs to it where nothing
        belongs to one that does.

        :returns: the device, with what functions are left of it where some are devices of their
            own; these, those together that are alike; and why others cannot be classified, by
            address
        :raises AmbiguousDevice: the device belongs to several families
        :raises UnknownFamily: a family is named that is not in the catalog
        """
        union = Union(reports, self.paths)
        if not any(one.of_functions for one in self.families.values()):
            return [self.merge(address, reports, failed)], {}
        whole = self._families_of(union, of_functions=False)
        of_alike = [
            (tuple(functions), self._families_of(union, functions[0], of_functions=True))
            for functions in list(union.functions().values()) or [[address]]
        ]
        whole = _without_fallbacks(whole, itertools.chain(*(own for _, own in of_alike)))
        of_alike = [(functions, _without_fallbacks(own, whole)) for functions, own in of_alike]
        if _listed([*whole, *(family for _, own in of_alike for family in own)], reports):
            whole = _listed(whole, reports)
            of_alike = [(functions, _listed(own, reports)) for functions, own in of_alike]
        if len(whole) > 1:
            raise self._ambiguous(address, union, whole)
        found: list[Classified] = []
        left: list[str] = []
        problems: dict[str, AmbiguousDevice] = {}
        for functions, own in of_alike:
            if len(own) + len(whole) > 1 and own:
                for function in functions:
                    problems[function] = self._ambiguous(function, union, [*whole, *own])
            elif own:
                facts = union.of(own[0].source)
                found.append(of_family(address, own[0], reports, failed or {}, facts, functions))
            else:
                left += functions
        if whole or not any(one.address == address and not one.functions for one in found):
            found.append(self._remaining(address, whole, reports, failed or {}, union, left))
        return found, problems

    @staticmethod
    def _remaining(
        address: str,
        families: Sequence[CatalogFamily],
        reports: Mapping[str, Device],
        failed: Mapping[str, str],
        union: Union,
        left: Sequence[str],
    ) -> Classified:
        """A device without those functions of it that are devices of their own."""
        if families:
            return of_family(address, families[0], reports, failed, union.of(families[0].source))
        functions = tuple(one for one in left if one != address)
        return union.of(None).classified(address, None, functions)

    @staticmethod
    def _ambiguous(
        address: str, union: Union, families: Iterable[CatalogFamily]
    ) -> AmbiguousDevice:
        device = Device(address, union.of(None).attributes)
        return AmbiguousDevice(device, [family.name for family in families])

    def _families_of(
        self, union: Union, function: str | None = None, *, of_functions: bool | None = None
    ) -> list[CatalogFamily]:
        """The families of a device, those among them whose primary source does not list it.

        :param function: address of the function that is asked about, None for the device
        :param of_functions: only those with facts of functions, or only others; None for all
        """
        named = sorted(union.families_named(function))
        for name in named:
            self._check_name(name)
        candidates = [self.families[name] for name in named] or self.families.values()
        return [
            family
            for family in candidates
            if of_functions in (None, family.of_functions)
            and (named or family.matches(union.seen_by(family, function)))
        ]

    def in_doubt(
        self,
        address: str,
        families: Iterable[str],
        why: str,
        moment: Moment,
        functions: tuple[str, ...] = (),
    ) -> Classified:
        """A device of which it cannot be told to which of several families it belongs.

        It is held against the strictest of them, and nothing is known of it: never a device that
        needs nothing.

        :param families: their names, one at least
        :param why: what is wrong
        :param functions: addresses of the functions that are meant; empty for the device
        """
        strictest = max(
            (self.families[name] for name in sorted(families)),
            key=lambda family: (
                (policy := family.policy(Policy(), moment)).of_unknown(),
                policy.mode.strength,
            ),
        )
        names = (*strictest.family.rules, *strictest.attributes)
        return Classified(
            address=address,
            family=strictest,
            attributes={},
            origins={},
            problems=dict.fromkeys(names, why),
            functions=functions,
        )

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
