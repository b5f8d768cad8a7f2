# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a running instance depends on: one need for each of its assigned devices."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from nova_devcompat.compat.traits import Atom, check_name

NeedT = TypeVar("NeedT")
DeviceT = TypeVar("DeviceT")

_PCI = "pci:"
_CLASS = "rc:"
_HOST = "host:"

#: What ends the name of an attribute that tells what a guest was started on.
ORIGIN = "_origin"


def pci_slot(request_id: str | None) -> str:
    """The slot of a device that Nova's PCI tracker assigned."""
    return f"{_PCI}{request_id or ''}"


def resource_slot(resource_class: str) -> str:
    """The slot of devices that are assigned by an allocation alone (vGPU, mdev)."""
    return f"{_CLASS}{resource_class}"


def host_slot(family: str) -> str:
    """The slot of what is needed not of a device but of the host, for one host family."""
    return f"{_HOST}{family}"


class InMigration(enum.StrEnum):
    """What a live migration does with a device of the guest."""

    #: Its state is copied, so the device at the destination must accept what is needed of it.
    STAYS = "stays"
    #: It is detached before the copy, and another one attached at the destination.
    REPLUGGED = "replugged"
    #: The guest does not see it, but a virtio device.
    HIDDEN = "hidden"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DeviceNeed:
    """What an instance depends on of one assigned device, frozen when that was initialised.

    What it depends on of its host, for one host family, is another: it has no address.

    :param family: the family of the device
    :param values: by attribute, sorted, the canonical values needed of it; an empty set where
        nothing is needed, None where the need is not known
    :param slot: which of the instance's device requests it answers, the same on every host: as
        :func:`pci_slot` or :func:`resource_slot` writes it; or :func:`host_slot`
    :param address: the device's address on the host the instance is on, '' where not known
    :param assumed: attributes whose values were read off the device later than at its
        initialisation, so that they may be newer than what the guest depends on
    :param in_migration: what a live migration does with the device
    :raises ValueError: a family or attribute that is no name, an attribute given twice, an empty
        value, or an assumed attribute that is not there
    """

    family: str
    values: tuple[tuple[str, frozenset[str] | None], ...]
    slot: str = ""
    address: str = ""
    assumed: frozenset[str] = frozenset()
    in_migration: InMigration = InMigration.STAYS

    def __post_init__(self) -> None:
        check_name(self.family)
        for attribute, listed in self.values:
            check_name(attribute)
            if listed and "" in listed:
                raise ValueError(f"{self.family}.{attribute}: an empty value")
        if len({attribute for attribute, _ in self.values}) < len(self.values):
            raise ValueError(f"{self.family}: an attribute is given twice")
        if not self.assumed.issubset(attribute for attribute, _ in self.values):
            raise ValueError(f"{self.family}: an attribute is assumed that is not there")
        object.__setattr__(self, "values", tuple(sorted(self.values, key=lambda item: item[0])))

    @classmethod
    def of(
        cls,
        family: str,
        values: Mapping[str, Iterable[str] | None],
        *,
        slot: str = "",
        address: str = "",
        assumed: Iterable[str] = (),
        in_migration: InMigration = InMigration.STAYS,
    ) -> DeviceNeed:
        """A need from a mapping of attributes to the values needed, None where not known.

        :raises ValueError: see the class; or one text where values are expected
        """
        for name, listed in values.items():
            if isinstance(listed, str):  # which is an iterable of texts too, one a letter
                raise ValueError(f"{family}.{name}: {listed!r} is a text, not a list of texts")
        return cls(
            family=family,
            values=tuple(
                (name, None if listed is None else frozenset(listed))
                for name, listed in values.items()
            ),
            slot=slot,
            address=address,
            assumed=frozenset(assumed),
            in_migration=in_migration,
        )

    @property
    def atoms(self) -> frozenset[Atom]:
        """The atoms of all attributes whose need is known."""
        return frozenset(
            Atom(self.family, attribute, value)
            for attribute, listed in self.values
            for value in listed or ()
        )

    def __str__(self) -> str:
        values = ", ".join(
            f"{attribute} {'unknown' if listed is None else ','.join(sorted(listed)) or 'nothing'}"
            + (" (assumed)" if attribute in self.assumed else "")
            for attribute, listed in self.values
        )
        return f"{self.family} ({values})" + (f" at {self.address}" if self.address else "")

    @property
    def request_id(self) -> str | None:
        """Of the PCI request that it answers; None for other devices."""
        return self.slot.removeprefix(_PCI) if self.slot.startswith(_PCI) else None

    @property
    def resource_class(self) -> str | None:
        """Of the allocation that it is a unit of; None for other devices."""
        return self.slot.removeprefix(_CLASS) if self.slot.startswith(_CLASS) else None

    @property
    def of_host(self) -> bool:
        """Whether it is needed of the host, whichever devices are assigned."""
        return self.slot.startswith(_HOST)

    def assuming(self) -> DeviceNeed:
        """The same need, all that is known of it assumed."""
        known = frozenset(attribute for attribute, listed in self.values if listed is not None)
        return dataclasses.replace(self, assumed=known)

    def moved(self, address: str) -> DeviceNeed:
        """The same need of a device at another address."""
        return dataclasses.replace(self, address=address)

    def without(self, attributes: Collection[str]) -> DeviceNeed:
        """The same need without some of its attributes."""
        return dataclasses.replace(
            self,
            values=tuple(each for each in self.values if each[0] not in attributes),
            assumed=self.assumed.difference(attributes),
        )

    def completed(self, frozen: DeviceNeed) -> DeviceNeed:
        """With what ``frozen`` knows and this one does not, values marked as assumed."""
        known = {attribute for attribute, listed in self.values if listed is not None}
        added = {
            attribute: listed for attribute, listed in frozen.values if attribute not in known
        }
        assumed = {attribute for attribute, listed in added.items() if listed is not None}
        return dataclasses.replace(
            self,
            values=tuple({**dict(self.values), **added}.items()),
            address=self.address or frozen.address,
            assumed=self.assumed | assumed,
            in_migration=frozen.in_migration,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """All that an instance depends on; without devices, an instance that needs nothing.

    :param devices: one entry for each assigned device that belongs to a family, and for each host
        family
    """

    devices: tuple[DeviceNeed, ...] = ()

    @property
    def assigned(self) -> tuple[DeviceNeed, ...]:
        """What is needed of assigned devices."""
        return tuple(one for one in self.devices if not one.of_host)

    @property
    def required(self) -> Need:
        """What a live migration requires of the destination."""
        staying = tuple(one for one in self.devices if one.in_migration is InMigration.STAYS)
        return self if len(staying) == len(self.devices) else Need(devices=staying)

    @property
    def host(self) -> tuple[DeviceNeed, ...]:
        """What is needed of the host."""
        return tuple(one for one in self.devices if one.of_host)

    @property
    def families(self) -> frozenset[str]:
        """Names of the families concerned."""
        return frozenset(device.family for device in self.devices)

    @property
    def atoms(self) -> frozenset[Atom]:
        """All atoms that are known."""
        return frozenset(atom for device in self.devices for atom in device.atoms)

    def by_slot(self) -> dict[str, list[DeviceNeed]]:
        """The needs of assigned devices grouped by the device request they answer."""
        groups: dict[str, list[DeviceNeed]] = {}
        for device in self.devices:
            if not device.of_host:
                groups.setdefault(device.slot, []).append(device)
        return groups

    def completed(self, frozen: Need) -> Need:
        """With the devices and attributes that are missing here, marked as assumed.

        :param frozen: what a guest would need that started on the same devices now
        """
        devices = list(self.devices)
        single = set(range(len(devices)))
        left = list(frozen.devices)
        # A request can have got a new ID, and an address be unknown, but hardly both.
        for same in (_same_device, _same_address, _same_slot):
            for one in left[:]:
                at = next((index for index in sorted(single) if same(devices[index], one)), None)
                if at is not None:
                    single.remove(at)
                    left.remove(one)
                    devices[at] = devices[at].completed(one)
        return Need(devices=(*devices, *(one.assuming() for one in left)))


def _same_address(one: DeviceNeed, other: DeviceNeed) -> bool:
    return one.family == other.family and bool(one.address) and one.address == other.address


def _same_slot(one: DeviceNeed, other: DeviceNeed) -> bool:
    return one.family == other.family and one.slot == other.slot


def _same_device(one: DeviceNeed, other: DeviceNeed) -> bool:
    return _same_address(one, other) and one.slot == other.slot


def assign(
    needs: Sequence[NeedT],
    devices: Sequence[DeviceT],
    fits: Callable[[NeedT, DeviceT], bool],
) -> list[int | None]:
    """Give each need a device of its own, as many as possible (augmenting paths, Kuhn 1955).

    :param fits: whether a device may serve a need
    :returns: for each need the index of its device; None for one that is left without
    """
    owner: dict[int, int] = {}

    def find(need: int, seen: set[int]) -> bool:
        for index, device in enumerate(devices):
            if index in seen or not fits(needs[need], device):
                continue
            seen.add(index)
            if index not in owner or find(owner[index], seen):
                owner[index] = need
                return True
        return False

    for need in range(len(needs)):
        find(need, set())
    given: list[int | None] = [None] * len(needs)
    for index, need in owner.items():
        given[need] = index
    return given
