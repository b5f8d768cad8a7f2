# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The atoms that placement knows: who needs each, who offers it, and those that are of no use.

A trait that no provider has stands for what no host accepts, so that nothing can be decided
wrongly for want of it: whoever needs it later creates it again. Hosts have what they offer on
their providers, and placement deletes no trait that a provider has.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from nova import objects
from oslo_log import log as logging

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat import traits
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.traits import Atom
from nova_devcompat.fleet.cloud import Cloud, extra_specs
from nova_devcompat.fleet.model import Host
from nova_devcompat.kit.text import near
from nova_devcompat.stores import records
from nova_devcompat.stores.cells import BadRequest, Refused, brief, instances
from nova_devcompat.stores.placement import PlacementError

LOG = logging.getLogger(__name__)

REMOVED = "removed"
UNUSED = "unused"
TAKEN = "kept: a provider has it by now"
PINNED = "kept: a flavor pins it by now"


class Row(NamedTuple):
    """An atom that placement knows.

    :param trait: the name that stands for it
    :param providers: how many resource providers have the trait, hence accept it
    :param hosts: how many compute nodes have a device, or a part of their own, of which a guest
        that is started now needs it
    :param guests: how many instances need it: by their records or by the flavor they have
    :param flavors: how many flavors pin it
    """

    family: str
    attribute: str
    value: str
    trait: str
    providers: str
    hosts: str
    guests: str
    flavors: str


class Pruned(NamedTuple):
    """An atom that is of no use, and what became of it.

    :param result: ``unused`` in a dry run, ``removed``, or why it is kept
    """

    family: str
    attribute: str
    value: str
    trait: str
    result: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Users:
    """Who makes use of atoms, in numbers.

    :param hosts: compute nodes that offer each
    :param guests: instances that need each
    :param flavors: flavors that pin each
    :param accepted: atoms that a host said that it accepts, or offers
    """

    hosts: collections.Counter[Atom]
    guests: collections.Counter[Atom]
    flavors: collections.Counter[Atom]
    accepted: frozenset[Atom]

    def any_of(self, atom: Atom) -> bool:
        """Whether anybody does."""
        return atom in self.accepted or bool(self.guests[atom] or self.flavors[atom])


class Atoms:
    """Questions about the atoms of a cloud.

    :param cloud: all its cells
    :param catalog: reads what flavors pin
    """

    def __init__(self, cloud: Cloud, catalog: Catalog) -> None:
        self._cloud = cloud
        self._catalog = catalog

    def listed(self, *, family: str | None = None, unused: bool = False) -> Iterator[Row]:
        """All atoms, sorted. Placement is asked once more for each that a provider has.

        :param family: only those of this one
        :param unused: only those that could be pruned, as far as all could be asked
        :raises BadRequest: nobody knows the family; by the call itself
        :raises Refused: placement, or the API database, does not answer; by the call itself
        """
        known, on_providers = self._known(family)
        users = self._users()
        return (
            self._row(atom, users, atom in on_providers)
            for atom in sorted(known)
            if not (unused and (atom in on_providers or users.any_of(atom)))
        )

    def _row(self, atom: Atom, users: Users, accepted: bool) -> Row:
        name = traits.encode(atom)
        return Row(
            atom.family,
            atom.attribute,
            atom.value,
            name,
            str(self._providers(name)) if accepted else "0",
            str(users.hosts[atom]),
            str(users.guests[atom]),
            str(users.flavors[atom]),
        )

    def _providers(self, name: str) -> int | str:
        found = self._cloud.placement.providers_with(name)
        if found is None:
            self._cloud.cells.pass_over("Placement does not tell which providers have %s", name)
            return "unknown"
        return len(found)

    def pruned(self, *, family: str | None = None, dry_run: bool = True) -> Iterator[Pruned]:
        """Atoms that nobody needs and no host offers or accepts; deleted while they are read.

        :param family: only those of this one
        :param dry_run: whether nothing is deleted
        :raises BadRequest: nobody knows the family; by the call itself
        :raises Refused: placement, a cell or the API database does not answer, so that it is not
            known who needs what; by the call itself, and nothing is deleted then
        """
        known, on_providers = self._known(family)
        users = self._users()
        if self._cloud.cells.incomplete:
            raise Refused("nothing is removed, since not all could be asked who needs what")
        unused = [atom for atom in sorted(known - on_providers) if not users.any_of(atom)]
        if dry_run:
            return (_pruned(atom, UNUSED) for atom in unused)
        return self._remove_all(unused)

    def _remove_all(self, unused: list[Atom]) -> Iterator[Pruned]:
        removed = []
        for atom in unused:
            result = self._remove(atom)
            if result == REMOVED:
                removed.append(atom)
            else:
                yield _pruned(atom, result)
        again = self._put_back(removed)
        for atom in removed:
            yield _pruned(atom, PINNED if atom in again else REMOVED)

    def _remove(self, atom: Atom) -> str:
        name = traits.encode(atom)
        try:
            if not self._cloud.placement.delete_trait(name):
                return TAKEN
        except PlacementError as error:
            self._cloud.cells.pass_over("Not removed: %s", error)
            return "failed"
        LOG.info("Removed from placement, needed by no guest and offered by no host: %s", name)
        return REMOVED

    def _put_back(self, removed: list[Atom]) -> frozenset[Atom]:
        """Those that a flavor has pinned meanwhile, which its API found in placement then."""
        again: frozenset[Atom] = frozenset()
        try:
            if removed:
                again = frozenset(removed).intersection(self._pinned())
            self._cloud.placement.make_traits(map(traits.encode, again))
        except (Refused, PlacementError) as error:
            # nova-scheduler creates them, then.
            self._cloud.cells.pass_over("What flavors pin by now is not put back: %s", error)
        return again

    # --- who makes use of them -------------------------------------------------------------------

    def _known(self, family: str | None) -> tuple[frozenset[Atom], frozenset[Atom]]:
        """All atoms, and those of them that a provider has.

        Asked before anybody is asked what they need: what is needed later is created later, too,
        or is one that somebody needs already.

        :raises BadRequest: nobody knows the family
        """
        known = self._cloud.placement.known_atoms()
        on_providers = self._cloud.placement.known_atoms(associated=True)
        if known is None or on_providers is None:
            raise Refused("placement does not tell which traits there are")
        if family is not None:
            families = {atom.family for atom in known} | self._catalog.families.keys()
            if family not in families:
                raise BadRequest(
                    f"neither placement nor the catalog has a family {family!r}; families: "
                    f"{', '.join(sorted(families))}{near(family, families)}"
                )
            known = frozenset(atom for atom in known if atom.family == family)
        return known, on_providers

    def _users(self) -> Users:
        cells = self._cloud.cells
        hosts: collections.Counter[Atom] = collections.Counter()
        guests: collections.Counter[Atom] = collections.Counter()
        accepted: set[Atom] = set()
        for said in cells.each(cells.select(), self._said_in):
            if isinstance(said, Host):
                offers = _offered(said)
                hosts.update(offers)
                accepted |= offers
                accepted.update(atom for part in said.parts for atom in part.atoms)
            else:
                guests.update(said)
        return Users(
            hosts=hosts, guests=guests, flavors=self._pinned(), accepted=frozenset(accepted)
        )

    def _said_in(self, context: Any) -> Iterator[Host | frozenset[Atom]]:
        """The hosts of a cell, then what each of its instances needs."""
        yield from self._cloud.hosts(context)
        for instance in instances(context, {}, ["system_metadata", "flavor"]):
            yield self._needed(instance)

    def _needed(self, instance: Any) -> frozenset[Atom]:
        record = records.read(instance)
        recorded = record.atoms if isinstance(record, Need) else frozenset()
        # What cannot be read asks nothing of placement until it can, and is created again then.
        try:
            pins, _ = self._catalog.read_pins(extra_specs(instance))
        except Exception as error:  # noqa: BLE001 - the others are there all the same
            LOG.warning("Instance %s has no flavor to be read: %s", instance.uuid, brief(error))
            return recorded
        return recorded | pins.atoms

    def _pinned(self) -> collections.Counter[Atom]:
        """How many flavors pin each atom.

        :raises Refused: the API database does not answer
        """
        pinned: collections.Counter[Atom] = collections.Counter()
        for specs in _flavors(self._cloud.cells.context):
            pins, bad = self._catalog.read_pins(specs)
            pinned.update(pins.atoms)
            for one in bad:
                LOG.debug("A pin that no host can read: %s", one)
        return pinned


def _flavors(context: Any) -> list[dict[str, str]]:
    """The extra specs of all flavors, private ones too."""
    try:
        found = objects.FlavorList.get_all(context, filters={"is_public": None})
        return [dict(flavor.extra_specs or {}) for flavor in found]
    except Exception as error:
        raise Refused(f"the API database does not answer: {brief(error)}") from error


def _offered(host: Host) -> frozenset[Atom]:
    """What a guest would need that is started on it now, or, where that depends on the guest, may
    need.
    """
    return frozenset(
        Atom(part.family, attribute, value)
        for part in host.parts
        for attribute, accepts in part.attributes.items()
        for value in (accepts.accepted if accepts.frozen is None else accepts.frozen)
    )


def _pruned(atom: Atom, result: str) -> Pruned:
    return Pruned(atom.family, atom.attribute, atom.value, traits.encode(atom), result)
