# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What several sources tell of one device, put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from nova_devcompat.catalog.family import AttributeSource, CatalogFamily
from nova_devcompat.compat.device import Device, Function
from nova_devcompat.compat.runs import runs_of


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Classified:
    """A device as all sources of its host together tell of it, or functions of it that are alike.

    :param address: the device's address
    :param family: the family it belongs to; None for none
    :param attributes: what is known of it: for each rule what the source said that the family has
        for that attribute, beside it all that any source said
    :param origins: the source that told an attribute, by the attribute's name
    :param problems: why an attribute is missing or not whole, by its name
    :param functions: addresses of functions that are devices of their own, and are meant; empty
        where the device is, with all its functions
    """

    address: str
    family: CatalogFamily | None
    attributes: Mapping[str, object]
    origins: Mapping[str, str]
    problems: Mapping[str, str]
    functions: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Its address; of functions that are devices of their own, the runs of theirs."""
        return " ".join(runs_of(self.functions)) or self.address


@dataclasses.dataclass(frozen=True, slots=True)
class Collected:
    """What is known of a device: as of :class:`Classified`."""

    attributes: dict[str, object] = dataclasses.field(default_factory=dict)
    origins: dict[str, str] = dataclasses.field(default_factory=dict)
    problems: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, source: str, device: Device | Function, key: str, name: str) -> None:
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
        """Take all away that is known of an attribute."""
        for facts in (self.attributes, self.origins, self.problems):
            facts.pop(name, None)

    def copy(self) -> Collected:
        """Another one, of the same."""
        return Collected(dict(self.attributes), dict(self.origins), dict(self.problems))

    def classified(
        self, address: str, family: CatalogFamily | None, functions: tuple[str, ...] = ()
    ) -> Classified:
        """It as that of a device, or of functions of one."""
        return Classified(
            functions=functions,
            address=address,
            family=family,
            attributes=self.attributes,
            origins=self.origins,
            problems=self.problems,
        )


class Union:
    """All that any source tells of a device.

    :param reports: what each tells, by source
    :param paths: by source, names that are no attributes of all devices but of a family's, see
        :meth:`~nova_devcompat.catalog.family.AttributeSource.key`
    """

    def __init__(
        self, reports: Mapping[str, Device], paths: Mapping[str, Mapping[str, str]]
    ) -> None:
        self._reports = reports
        self._paths = paths
        self._known: dict[str | None, Collected] = {}

    def of(self, primary: str | None) -> Collected:
        """It all, the primary source's word first, then by the names of the sources."""
        facts = self._known.get(primary)
        if facts is None:
            facts = self._known[primary] = Collected()
            for source in sorted(self._reports, key=lambda name: (name != primary, name)):
                device = self._reports[source]
                files = self._paths.get(source, ())
                for name in (*device.attributes, *device.problems):
                    if name not in files:
                        facts.add(source, device, name, name)
        return facts

    def seen_by(self, family: CatalogFamily, function: str | None = None) -> Mapping[str, object]:
        """The attributes by which a family's ``match`` is judged.

        :param function: address of the function that is judged, None for the device
        """
        attributes = self.of(family.source).attributes
        stated = family.match.keys() & family.attributes.keys()
        if not stated or (family.stands_in and function is None):
            return attributes
        attributes = dict(attributes)
        for name in stated:
            origin = family.source_of(name)
            told = teller(self._reports, origin, function)
            attributes[name] = told and told.attributes.get(family.key_of(name, told.attributes))
        return attributes

    def functions(self) -> dict[tuple[int, ...], list[str]]:
        """The addresses of functions, those together that are alike to each source."""
        alike: dict[tuple[int, ...], list[str]] = {}
        listing = [device.functions for device in self._reports.values() if device.functions]
        for address in sorted({address for functions in listing for address in functions}):
            key = tuple(id(functions.get(address)) for functions in listing)
            alike.setdefault(key, []).append(address)
        return alike

    def families_named(self, function: str | None = None) -> set[str]:
        """The families that a source names for the device, or for a function of it.

        :param function: its address; what is named for its device holds where nothing else is
        """
        named = set()
        for device in self._reports.values():
            own = None if function is None else device.functions.get(function)
            name = (own.family if own is not None else None) or device.family
            if name is not None:
                named.add(name)
        return named


def teller(
    reports: Mapping[str, Device], origin: AttributeSource, function: str | None
) -> Device | Function | None:
    """Where an attribute is looked up.

    :param function: address of the function that is asked about, None for the device
    :returns: None where the source lists no such device, or function of it
    """
    device = reports.get(origin.source)
    if device is None or function is None or not origin.of_function or not device.functions:
        return device
    return device.functions.get(function)


def of_family(
    address: str,
    family: CatalogFamily,
    reports: Mapping[str, Device],
    failed: Mapping[str, str],
    union: Collected,
    functions: tuple[str, ...] = (),
) -> Classified:
    """A device of a family: for each of its attributes what the source says that it is from.

    :param reports: what each source tells, by its name
    :param failed: why other sources tell nothing, by their names
    :param union: all that any source tells
    :param functions: addresses of the functions that are meant, all alike; empty for the device
    """
    facts = union.copy()
    function = functions[0] if functions else None
    for name in (*family.family.rules, *family.attributes):
        origin = family.source_of(name)
        told = teller(reports, origin, function)
        facts.forget(name)
        if told is not None:
            facts.add(origin.source, told, family.key_of(name, told.attributes), name)
        elif origin.source in failed:
            facts.problems[name] = failed[origin.source]
        else:
            lost = function if origin.source in reports else address
            facts.problems[name] = f"source {origin.source} does not list {lost}"
    own = () if function in (None, address) and len(functions) < 2 else functions
    return facts.classified(address, family, own)
