# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Admission: what a guest is given on this host, for the last word on it.

The destination of a live migration decides on the devices really claimed, also where the scheduler
was passed by. This module says what these are (:class:`Given`); the ruling is
:func:`nova_devcompat.compat.ruling.rule`, as everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.family import Offer
from nova_devcompat.compat.need import DeviceNeed, InMigration, Need, pci_slot
from nova_devcompat.compat.ruling import NOTHING_KNOWN, Choice, Claim, Extra, Given, Guest, Order
from nova_devcompat.compat.traits import Atom
from nova_devcompat.host.devices import HostDevice, HostDevices
from nova_devcompat.stores import ports
from nova_devcompat.stores.assigned import Assigned, Behind, Tracked, from_allocations

if TYPE_CHECKING:
    from nova.objects import Instance
    from nova.objects.migrate_data import LiveMigrateData

#: Parent of a PCI address of this host, None where Nova knows none.
ParentOf = Callable[[str], str | None]


class Offered:
    """What devices accept of the atoms that one guest needs or its flavor pins.

    :param guest: the guest
    """

    def __init__(self, guest: Guest) -> None:
        parts = (*guest.need.devices, *guest.pins.devices)
        self._atoms: frozenset[Atom] = frozenset(atom for part in parts for atom in part.atoms)
        # By the identity of offers, which functions that are alike share.
        self._known: dict[int, tuple[Offer, AcceptSet]] = {}

    def by(self, device: HostDevice) -> AcceptSet:
        """The accept-set of a device, the same object each time."""
        offer = device.offer
        if id(offer) not in self._known:
            self._known[id(offer)] = offer, offer.accept_set(self._atoms)
        return self._known[id(offer)][1]

    def choice(self, device: HostDevice | None, may_be: Iterable[HostDevice] = ()) -> Choice:
        """The very device; nothing known of one that belongs to no family.

        :param may_be: where it is one of several
        """
        if device is None:
            return tuple(map(self.by, may_be)) or NOTHING_KNOWN
        return (self.by(device),)

    def host(self, host: Mapping[str, HostDevice]) -> dict[str, AcceptSet]:
        """What the host itself accepts, by host family."""
        return {family: self.by(part) for family, part in host.items()}


def given_before_claims(
    guest: Guest, allocated: Mapping[str, list[tuple[HostDevice, ...]]], devices: HostDevices
) -> Given:
    """What the host can give the guest, as far as that is known before PCI devices are claimed.

    :param allocated: by slot, what the devices that placement allocated here may be
    :param devices: all devices of the host, any of which may be claimed for the other slots
    """
    offered = Offered(guest)
    everything = [offered.by(device) for device in devices]
    given = Given.anywhere(guest, everything, complete=False, host=offered.host(devices.host))
    claims = []
    for claim in given.claims:
        (slot,) = claim.slots
        if slot in allocated:
            choice: Choice = tuple(
                accepts for may_be in allocated[slot] for accepts in offered.choice(None, may_be)
            )
            claims.append(
                Claim(slots=(slot,), devices=(choice,) * len(claim.devices), order=Order.GIVEN)
            )
        else:
            claims.append(claim)
    return Given(
        claims=tuple(claims), others=given.others, complete=given.complete, host=given.host
    )


def allocated_devices(
    need: Need,
    instance: Instance,
    allocations: Mapping[str, Any] | None,
    behind: Behind[HostDevice],
) -> dict[str, list[tuple[HostDevice, ...]]]:
    """What placement allocated to the guest on this host, by slot; only slots that it tracks.

    Of each device what it may be, empty where nothing is known of it.

    :param need: the guest's recorded need
    :param instance: its PCI requests name the providers that the conductor took for them
        (nova/conductor/tasks/live_migrate.py)
    """
    found: dict[str, list[tuple[HostDevice, ...]]] = {}
    tracked: set[str] = set()
    for request in instance.pci_requests.requests if instance.pci_requests else ():
        providers = (request.spec[0].get("rp_uuids") if request.spec else None) or ""
        found_there = [behind(provider) for provider in providers.split(",") if provider]
        # A forced move leaves the source's providers there, which are none of this host.
        if found_there and all(provided.address for provided in found_there):
            tracked.update(provided.address for provided in found_there)
            found[pci_slot(request.request_id)] = [provided.devices for provided in found_there]
    for one in from_allocations(allocations, behind, need.by_slot()):
        if one.address not in tracked:
            may_be = one.may_be if one.device is None else (one.device,)
            found.setdefault(one.slot, []).append(may_be)
    return found


def given_by_claims(
    guest: Guest,
    source: Mapping[str, str],
    moves: Mapping[str, str],
    claimed: Sequence[Assigned[HostDevice]],
    host: Mapping[str, HostDevice],
) -> Given:
    """What was claimed here for a guest that runs on.

    :param source: slots by address of the guest's PCI devices where it is now
    :param moves: this host's PCI addresses by the source's
    :param claimed: the devices claimed here
    :param host: the host itself, by family
    """
    offered = Offered(guest)
    by_slot: dict[str, list[Assigned[HostDevice]]] = {}
    for one in claimed:
        if one.in_migration is InMigration.STAYS:
            by_slot.setdefault(one.slot, []).append(one)
    claims = [
        _claim(slot, needs, source, moves, by_slot.pop(slot, []), offered)
        for slot, needs in guest.need.by_slot().items()
    ]
    return Given(
        claims=tuple(claims),
        extras=tuple(
            Extra(
                device=offered.choice(one.device, one.may_be),
                detail=f"{one.address} was claimed for it here",
            )
            for assigned in by_slot.values()
            for one in assigned
            if one.device is not None or one.may_be
        ),
        anew=tuple(
            offered.choice(one.device, one.may_be)
            for one in claimed
            if one.in_migration is not InMigration.STAYS
        ),
        complete=True,
        host=offered.host(host),
    )


def given_devices(
    guest: Guest, assigned: Iterable[Assigned[HostDevice]], host: Mapping[str, HostDevice]
) -> Given:
    """What a guest has been given whose devices are about to be initialised.

    :param assigned: its devices on this host
    :param host: the host itself, by family
    """
    offered = Offered(guest)
    return Given(
        extras=tuple(Extra(device=offered.choice(one.device, one.may_be)) for one in assigned),
        complete=True,
        host=offered.host(host),
    )


def _claim(
    slot: str,
    needs: Sequence[DeviceNeed],
    source: Mapping[str, str],
    moves: Mapping[str, str],
    claimed: Sequence[Assigned[HostDevice]],
    offered: Offered,
) -> Claim:
    here = {one.address: one for one in claimed}
    pairs = _pairs(slot, needs, source, moves, here)
    if pairs is not None:
        left = [one for one in claimed if one not in pairs]
        devices = [offered.choice(one.device, one.may_be) for one in (*pairs, *left)]
        return Claim(slots=(slot,), devices=tuple(devices), order=Order.GIVEN)
    # Nobody can tell which of the devices takes the place of which: all must do.
    devices = [offered.choice(one.device, one.may_be) for one in claimed]
    return Claim(slots=(slot,), devices=tuple(devices), order=Order.UNTOLD)


def _pairs(
    slot: str,
    needs: Sequence[DeviceNeed],
    source: Mapping[str, str],
    moves: Mapping[str, str],
    here: Mapping[str, Assigned[HostDevice]],
) -> list[Assigned[HostDevice]] | None:
    """For each need what takes its device's place; None if that is not known."""
    pairs = []
    for need in needs:
        moved = moves.get(need.address)
        # An address the guest no longer has would be a record left behind by an earlier host.
        if source.get(need.address) != slot or moved is None or moved not in here:
            return None
        pairs.append(here[moved])
    return pairs


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Moves:
    """Where a guest's PCI devices go in a live migration.

    :param addresses: this host's PCI addresses by the source's, of flavor-based devices and of
        ports
    :param of_ports: by the source's address, what is done with the device of each port
    """

    addresses: Mapping[str, str]
    of_ports: Mapping[str, InMigration]

    @classmethod
    def told_by(cls, migrate_data: LiveMigrateData) -> Moves:
        """Those that Nova has claimed devices for."""
        addresses: dict[str, str] = {}
        of_ports: dict[str, InMigration] = {}
        if "pci_dev_map_src_dst" in migrate_data and migrate_data.pci_dev_map_src_dst:
            addresses.update(migrate_data.pci_dev_map_src_dst)
        for vif in (migrate_data.vifs if "vifs" in migrate_data else None) or ():
            there = (vif.source_vif if "source_vif" in vif else None) or {}
            source = (there.get("profile") or {}).get("pci_slot")
            # Set only once the port's device was claimed here; unset it would read as the
            # source's.
            target = (vif.profile or {}).get("pci_slot") if "profile_json" in vif else None
            if source:
                of_ports[source] = ports.of_vnic_type(there.get("vnic_type"))
            if source and target:
                addresses[source] = target
        return cls(addresses=addresses, of_ports=of_ports)


def claimed_devices(
    need: Need | None,
    instance: Instance,
    moves: Moves,
    allocations: Mapping[str, Any] | None,
    devices: HostDevices,
    behind: Behind[HostDevice],
    parent_of: ParentOf,
    node_id: int | None,
) -> tuple[dict[str, str], list[Assigned[HostDevice]]]:
    """What the guest has at the source, and what was claimed for it here.

    :param need: the guest's recorded need, None without a record
    :param node_id: this host's compute node. While a migration waits, Nova takes what was claimed
        for what the guest has (ResourceTracker._update_usage_from_migrations), at addresses that
        may be those of its devices at the source
    :returns: slots by source address of its PCI devices, and the devices claimed here
    """
    source = {
        pci.address: pci_slot(pci.request_id)
        for pci in instance.pci_devices
        if pci.compute_node_id != node_id
    }
    claimed = []
    known = []
    for old, new in moves.addresses.items():
        parent = parent_of(new)
        device = devices.find(new, parent)
        done = moves.of_ports.get(old, InMigration.STAYS)
        claimed.append(Assigned(source.get(old, pci_slot(None)), new, device, in_migration=done))
        known.append((new, parent or (device.parent if device else None), device))
    tracked = Tracked.of(known)
    claimed += [
        one
        for one in from_allocations(allocations, behind, need.by_slot() if need else ())
        if one not in tracked
    ]
    return source, claimed
