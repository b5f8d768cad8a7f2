# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What several sources tell of one device, put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from nova_devcompat.catalog.family import CatalogFamily
from nova_devcompat.compat.device import Device


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Classified:
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


@dataclasses.dataclass(frozen=True, slots=True)
class Collected:
    """What is known of a device: as of :class:`Classified`."""

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
        """Take all away that is known of an attribute."""
        for facts in (self.attributes, self.origins, self.problems):
            facts.pop(name, None)

    def copy(self) -> Collected:
        """Another one, of the same."""
        return Collected(dict(self.attributes), dict(self.origins), dict(self.problems))

    def classified(self, address: str, family: CatalogFamily | None) -> Classified:
        """It as that of a device."""
        return Classified(
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

    def seen_by(self, family: CatalogFamily) -> Mapping[str, object]:
        """The attributes by which a family's ``match`` is judged."""
        attributes = self.of(family.source).attributes
        stated = family.match.keys() & family.attributes.keys()
        if not stated or family.stands_in:
            return attributes
        attributes = dict(attributes)
        for name in stated:
            origin = family.attributes[name]
            device = self._reports.get(origin.source)
            attributes[name] = device and device.attributes.get(origin.key(name))
        return attributes


def of_family(
    address: str,
    family: CatalogFamily,
    reports: Mapping[str, Device],
    failed: Mapping[str, str],
    union: Collected,
) -> Classified:
    """A device of a family: for each of its attributes what the source says that it is from.

    :param reports: what each source tells, by its name
    :param failed: why other sources tell nothing, by their names
    :param union: all that any source tells
    """
    facts = union.copy()
    for name in (*family.family.rules, *family.attributes):
        origin = family.source_of(name)
        device = reports.get(origin.source)
        facts.forget(name)
        if device is not None:
            facts.add(origin.source, device, origin.key(name), name)
        elif origin.source in failed:
            facts.problems[name] = failed[origin.source]
        else:
            facts.problems[name] = f"source {origin.source} does not list {address}"
    return facts.classified(address, family)
