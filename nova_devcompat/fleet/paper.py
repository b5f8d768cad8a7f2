# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A fleet as an inventory has it: what its hosts would publish, and what guests would need."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence

from nova_devcompat.catalog.family import CatalogFamily
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat import uses
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.device import Device
from nova_devcompat.compat.family import Offer
from nova_devcompat.compat.need import DeviceNeed, host_slot
from nova_devcompat.compat.traits import Atom
from nova_devcompat.fleet.model import Fleet, Host, Place
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


class Paper:
    """The fleet of an inventory.

    :param catalog: the rules
    :param inventory: the devices; a host has no others
    :raises AmbiguousDevice: a device matches several families
    """

    def __init__(self, catalog: Catalog, inventory: Inventory) -> None:
        self._catalog = catalog
        self._kinds: dict[tuple[str, str], _Kind] = {}
        self._needs: dict[DeviceNeed, DeviceNeed] = {}
        #: Devices that belong to no family: (host, address).
        self.passed_over: list[tuple[str, str]] = []
        classified = {
            host: list(self._classified(host, devices))
            for host, devices in sorted(inventory.hosts.items())
        }
        #: By host, what guests could be started on, by address.
        self.starts: Mapping[str, Sequence[Start]] = {
            host: [Start(address=address, need=kind.need) for address, kind in kinds]
            for host, kinds in classified.items()
        }
        accepts = self._accept_sets()
        #: Its hosts, sorted by name; nobody knows their guests.
        self.fleet = Fleet(
            hosts=[
                Host(
                    place=Place(host, host),
                    said=_document(catalog, [(address, accepts[kind]) for address, kind in kinds]),
                )
                for host, kinds in classified.items()
            ]
        )

    def _classified(self, host: str, devices: Iterable[Device]) -> Iterable[tuple[str, _Kind]]:
        for device in sorted(devices, key=lambda device: device.address):
            family = self._catalog.classify(device)
            if family is None:
                self.passed_over.append((host, device.address))
            else:
                yield device.address, self._kind(family, device)

    def _kind(self, family: CatalogFamily, device: Device) -> _Kind:
        facts = {name: device.attributes.get(name) for name in family.family.rules}
        key = (family.name, json.dumps(facts, sort_keys=True))
        kind = self._kinds.get(key)
        if kind is None:
            offer = family.family.offer(facts)
            need = _most(family, offer)
            kind = self._kinds[key] = _Kind(offer, self._needs.setdefault(need, need))
        return kind

    def _accept_sets(self) -> dict[_Kind, AcceptSet]:
        """What each kind accepts of all that any guest would need."""
        atoms: dict[str, set[Atom]] = {}
        for need in self._needs:
            atoms.setdefault(need.family, set()).update(need.atoms)
        return {
            kind: kind.offer.accept_set(atoms[kind.need.family]) for kind in self._kinds.values()
        }


def _most(family: CatalogFamily, offer: Offer) -> DeviceNeed:
    """The need of a guest that starts on it now.

    Which guests there are, nobody knows here: of a host, one that uses all that it has.
    """
    if family.of_host:
        return offer.freeze_used(uses.most(family.needs, offer), slot=host_slot(family.name))
    return offer.freeze()


def _document(catalog: Catalog, accepts: Sequence[tuple[str, AcceptSet]]) -> HostDocument:
    devices: list[PublishedDevice] = []
    host: list[PublishedDevice] = []
    for address, accept_set in accepts:
        of_host = catalog.families[accept_set.family].of_host
        (host if of_host else devices).append(PublishedDevice(address=address, accepts=accept_set))
    return HostDocument(
        catalog=catalog.digest, devices=tuple(devices), host=tuple(host), whole=True
    )
