# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which guests of a node are to be looked at in which cycle. Nothing here asks anybody."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from nova_devcompat.compat.merging import Findings
from nova_devcompat.host.devices import HostDevices

# A record of which a part cannot be told, and nothing says when that will be, is looked at again
# after one cycle, two, four, and then after so many each time.
_MOST_CYCLES = 8

#: Of a device, its address and its parent's; of a part of the host, its family and OF_HOST.
Place = tuple[str, str | None]
#: What a device tells: its family, and its attributes that can be read.
Told = tuple[str, frozenset[str]]

#: In place of the parent of what is of the host itself.
OF_HOST = "host"


@dataclasses.dataclass(kw_only=True, slots=True)
class Guest:
    """What is remembered of a guest between cycles, so that nobody need be asked in most of them.

    :ivar start: the token of the start that its record was looked at for
    :ivar digest: the catalog's then, '' for never
    :ivar devices: what each of its devices told then, None where nothing
    :ivar unread: whether a part of the host could not be read then, so that a device of no family
        could not be told from one of which nothing is known
    :ivar due: the cycle in which it is looked at again whatever happens; None for never
    :ivar waits: for how many cycles it waited last
    """

    start: str = ""
    digest: str = ""
    devices: Mapping[Place, Told | None] = dataclasses.field(default_factory=dict)
    unread: bool = False
    due: int | None = 0
    waits: int = 0

    def is_due(self, cycle: int) -> None:
        """Have it looked at in a cycle, and often after that until nothing is missing."""
        self.due, self.waits = cycle, 0


@dataclasses.dataclass(slots=True)
class Todo:
    """What is to be done on a node.

    :ivar cycle: how many there were
    :ivar guests: by UUID
    :ivar listed: the catalog's digest when Nova was asked for the guests; None for never
    :ivar seen: how many guests were looked at since there was nothing left to do
    :ivar completed: how many records were completed since
    """

    cycle: int = 0
    guests: dict[str, Guest] = dataclasses.field(default_factory=dict)
    listed: str | None = None
    seen: int = 0
    completed: int = 0

    def begin(
        self,
        starts: Mapping[str, str],
        again: Collection[str],
        devices: HostDevices,
        *,
        others_are_gone: bool,
    ) -> list[str]:
        """Begin a cycle.

        :param starts: by UUID, the starts of the guests that run, '' where not known
        :param again: those that somebody wants looked at
        :param devices: of the node, as they were read in this cycle
        :param others_are_gone: whether no guests but these are here
        :returns: the guests to look at, those first that have waited longest
        """
        self.cycle += 1
        for uuid in again:
            self.guests.setdefault(uuid, Guest()).is_due(self.cycle)
        if others_are_gone:
            for uuid in self.guests.keys() - starts.keys() - set(again):
                del self.guests[uuid]
        for uuid, start in starts.items():
            guest = self.guests.setdefault(uuid, Guest(due=self.cycle))
            if guest.start != start:
                guest.start = start
                guest.is_due(self.cycle)
        digest = devices.catalog.digest
        due = []
        for uuid, guest in self.guests.items():
            late = guest.due is not None and guest.due <= self.cycle
            if not late and (
                guest.digest != digest
                or (guest.unread and devices.fully_read)
                or _tells_more(guest.devices, devices)
            ):
                guest.is_due(self.cycle)
                late = True
            if late:
                due.append(uuid)
        return sorted(due, key=lambda uuid: self.guests[uuid].due or 0)

    def look_later(self, uuid: str) -> None:
        """It could not be looked at: in the next cycle, behind those that are due by then."""
        self.guests[uuid].due = self.cycle + 1

    def looked_at(self, uuid: str, digest: str, *, again: bool) -> None:
        """A guest was looked at.

        :param digest: the catalog's
        :param again: whether something of it is not known that may be any time
        """
        self.seen += 1
        guest = self.guests[uuid]
        guest.digest = digest
        guest.waits = min(max(1, guest.waits * 2), _MOST_CYCLES) if again else 0
        guest.due = self.cycle + guest.waits if again else None

    def done(self) -> None:
        """Nothing is left to do."""
        self.seen = self.completed = 0


def _tells_more(before: Mapping[Place, Told | None], devices: HostDevices) -> bool:
    """Whether a device of a guest tells something that it did not when the guest was looked at.

    One that tells less is no reason to look: what is recorded of it stays.
    """
    for (address, parent), told in before.items():
        now = _told(address, parent, devices)
        if now is None or now == told:
            continue
        if told is None or now[0] != told[0] or now[1] - told[1]:
            return True
    return False


def places_of(instance: Any, found: Findings, allocated: Iterable[str]) -> set[Place]:
    """Where a guest's devices are, with the addresses of those that only placement names."""
    parents = {pci.address: pci.parent_addr for pci in instance.pci_devices}
    addresses = {one.address for one in found.devices if one.address}.union(allocated)
    return {(address, parents.get(address)) for address in addresses}


def told(places: Iterable[Place], devices: HostDevices) -> dict[Place, Told | None]:
    """What some devices, and all that is of the host itself, tell now."""
    watched = {*places, *((family, OF_HOST) for family in devices.catalog.host_families)}
    return {place: _told(*place, devices) for place in watched}


def _told(address: str, parent: str | None, devices: HostDevices) -> Told | None:
    family = devices.host.get(address) if parent == OF_HOST else None
    device = family if family is not None else devices.find(address, parent)
    may_be = devices.may_be(address) if device is None else (device,)
    if len(may_be) != 1:
        return None
    return may_be[0].family, frozenset(may_be[0].offer.parsed)
