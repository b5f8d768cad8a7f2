# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A fleet as an inventory has it: what its hosts would publish, and what guests would need."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence

from nova_devcompat.catalog.family import CatalogFamily
from nova_devcompat.catalog.model import PAPER, Catalog
from nova_devcompat.compat import uses
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.device import Device
from nova_devcompat.compat.family import Offer
from nova_devcompat.compat.need import DeviceNeed, host_slot
from nova_devcompat.compat.runs import runs_of
from nova_devcompat.compat.traits import Atom
from nova_devcompat.fleet.model import Fleet, Host, Place
from nova_devcompat.host.implied import apart
from nova_devcompat.sources.static import Inventory
from nova_devcompat.wire import HostDocument, PublishedDevice


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A device, or a part of a host, that a guest could be started on.

    :param address: where it is on its host
    :param need: of such a guest; one object for equal needs
    """

    address: str
    need: DeviceNeed


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Kind:
    """Devices that cannot be told apart."""

    offer: Offer
    need: DeviceNeed


@dataclasses.dataclass(frozen=True, slots=True)
class _Placed:
    """A device of a host, or functions of it that are devices of their own and alike."""

    address: str
    kind: _Kind
    functions: tuple[str, ...] = ()


class Paper:
    """The fleet of an inventory.

    :param catalog: the rules
    :param inventory: the devices; a host has no others
    :param atoms: what is evaluated beside what guests of its hosts would need
    :raises ValueError: a device matches several families, or a host has several parts of one
        host family
    """

    def __init__(self, catalog: Catalog, inventory: Inventory, atoms: Iterable[Atom] = ()) -> None:
        self._catalog = catalog
        self._dividing = catalog.on_paper()
        self._kinds: dict[tuple[str, str], _Kind] = {}
        self._needs: dict[DeviceNeed, DeviceNeed] = {}
        #: Devices that belong to no family: (host, address).
        self.passed_over: list[tuple[str, str]] = []
        classified = {
            host: _one_each(host, self._classified(host, devices))
            for host, devices in sorted(inventory.hosts.items())
        }
        #: By host, what guests could be started on, by address.
        self.starts: Mapping[str, Sequence[Start]] = {
            host: [
                Start(address=address, need=one.kind.need)
                for one in placed
                for address in one.functions or (one.address,)
            ]
            for host, placed in classified.items()
        }
        accepts = self._accept_sets(atoms)
        #: Its hosts, sorted by name; nobody knows their guests.
        self.fleet = Fleet(
            hosts=[
                Host(
                    place=Place(host, host),
                    said=_document(catalog, [(one, accepts[one.kind]) for one in placed]),
                )
                for host, placed in classified.items()
            ]
        )

    def _classified(self, host: str, devices: Iterable[Device]) -> Iterable[_Placed]:
        for device in sorted(devices, key=lambda device: device.address):
            if device.functions:
                yield from self._divided(host, self._dividing, device)
                continue
            family = self._catalog.classify(device)
            if family is None:
                self.passed_over.append((host, device.address))
            else:
                told = _told(family, device.attributes)
                yield _Placed(device.address, self._kind(family, told))

    def _divided(self, host: str, catalog: Catalog, device: Device) -> Iterable[_Placed]:
        """A device and those of its functions that are devices of their own."""
        found, problems = catalog.divide(device.address, {PAPER: device})
        for error in problems.values():
            raise ValueError(f"host {host}: {error}") from error
        for one in itertools.chain(*(apart(one, {PAPER: device}, {}) for one in found)):
            if one.family is None:
                self.passed_over += [(host, address) for address in one.functions]
                if len(found) == 1:
                    self.passed_over.append((host, device.address))
            else:
                kind = self._kind(self._catalog.families[one.family.name], one.attributes)
                yield _Placed(one.address, kind, one.functions)

    def _kind(self, family: CatalogFamily, attributes: Mapping[str, object]) -> _Kind:
        asked = (*family.family.rules, *family.family.known_bad.asked)
        facts = {name: attributes.get(name) for name in asked}
        facts |= {name: attributes[name] for name in family.implied if name in attributes}
        key = (family.name, json.dumps(facts, sort_keys=True))
        kind = self._kinds.get(key)
        if kind is None:
            offer = family.family.offer(facts)
            need = _most(family, offer)
            kind = self._kinds[key] = _Kind(offer, self._needs.setdefault(need, need))
        return kind

    def _accept_sets(self, beside: Iterable[Atom]) -> dict[_Kind, AcceptSet]:
        """What each kind accepts of all that any guest would need."""
        atoms: dict[str, set[Atom]] = {}
        for need in self._needs:
            atoms.setdefault(need.family, set()).update(need.atoms)
        for atom in beside:
            atoms.setdefault(atom.family, set()).add(atom)
        return {
            kind: kind.offer.accept_set(atoms[kind.need.family]) for kind in self._kinds.values()
        }


def _one_each(host: str, found: Iterable[_Placed]) -> list[_Placed]:
    """What was found, in which a host has but one part of each host family.

    :raises ValueError: it has several: nova-compute takes none of them
    """
    placed = list(found)
    first: dict[str, str] = {}
    for one in placed:
        need = one.kind.need
        if need.of_host and first.setdefault(need.family, one.address) != one.address:
            raise ValueError(
                f"host {host}: {first[need.family]} and {one.address} are both of host family "
                f"{need.family}, of which a host has one part"
            )
    return placed


def _told(family: CatalogFamily, told: Mapping[str, object]) -> dict[str, object]:
    """What an inventory tells of a device, each attribute by the name that the family has for it.

    An inventory may use the source's own name, too.
    """
    renamed = {
        name: told[stated.attribute]
        for name, stated in family.attributes.items()
        if stated.attribute is not None and stated.attribute in told
    }
    return {**told, **{name: value for name, value in renamed.items() if name not in told}}


def _most(family: CatalogFamily, offer: Offer) -> DeviceNeed:
    """The need of a guest that starts on it now.

    Which guests there are, nobody knows here: of a host, one that uses all that it has.
    """
    if family.of_host:
        return offer.freeze_used(uses.most(family.needs, offer), slot=host_slot(family.name))
    return offer.freeze()


def _document(catalog: Catalog, accepts: Sequence[tuple[_Placed, AcceptSet]]) -> HostDocument:
    devices: list[PublishedDevice] = []
    host: list[PublishedDevice] = []
    for one, accept_set in accepts:
        of_host = catalog.families[accept_set.family].of_host
        (host if of_host else devices).append(
            PublishedDevice(
                address=one.address, accepts=accept_set, functions=runs_of(one.functions)
            )
        )
    return HostDocument(
        catalog=catalog.digest, devices=tuple(devices), host=tuple(host), whole=True
    )
