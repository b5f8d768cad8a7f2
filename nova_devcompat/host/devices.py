# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which devices this host has, and what each offers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Container, Iterable, Iterator, Mapping

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.device import is_pci, normalise_address
from nova_devcompat.compat.family import Offer
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.traits import Atom

_SYSFS_PCI = "/sys/bus/pci/devices"


@dataclasses.dataclass(frozen=True, slots=True)
class HostDevice:
    """A device of this host that belongs to a family.

    :param address: its address, or that of the parent whose functions are assigned
    :param offer: what it can act as; one object for functions of a parent that are alike
    :param in_use: by attribute, what running guests use of it: values as needs have them, by the
        UUID of the guest or of its mdev
    :param facts: all that is known of it
    :param parent: address of the device whose function it is, where functions are devices of their
        own; '' for any other device
    """

    address: str
    offer: Offer
    in_use: Mapping[str, Mapping[str, frozenset[str]]] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, object] = dataclasses.field(default_factory=dict)
    parent: str = ""

    @property
    def family(self) -> str:
        """Name of its family."""
        return self.offer.family.name

    @property
    def place(self) -> str:
        """The address of the device that sources list: its own, or that of its parent."""
        return self.parent or self.address

    def atoms(self) -> frozenset[Atom]:
        """All atoms that a guest on this device needs, or might come to need."""
        return self.offer.atoms() | {
            Atom(self.family, attribute, value)
            for attribute, guests in self.in_use.items()
            for values in guests.values()
            for value in values
        }

    def freeze(self, *, slot: str, address: str, pin: DeviceNeed | None) -> DeviceNeed:
        """The need of a guest whose device is initialised now."""
        return self.offer.freeze(slot=slot, address=address, pin=pin)


class HostDevices:
    """The devices of one host, as read at one moment.

    :param catalog: the catalog that classified them
    :param devices: those that belong to a family
    :param sysfs_pci: folder of links that tell a virtual function's physical one
    :param host: the parts of the host itself that belong to a host family
    :param fully_read: whether each source answered and each device was told its family or that it
        has none, so that a device which is not among these belongs to no family
    :param of_none: addresses of devices that belong to no family, whatever could not be read
    :param listed: addresses of all devices that a source listed
    """

    def __init__(
        self,
        catalog: Catalog,
        devices: list[HostDevice],
        sysfs_pci: str = _SYSFS_PCI,
        host: Iterable[HostDevice] = (),
        *,
        fully_read: bool = True,
        of_none: Container[str] = (),
        listed: Container[str] = (),
    ) -> None:
        self.catalog = catalog
        self.fully_read = fully_read
        self._of_none = of_none
        self._listed = listed
        #: By family. They are no devices that anybody is assigned, so they are not iterated over.
        self.host = {part.family: part for part in host}
        self._by_address = {device.address: device for device in devices}
        # One of each kind of functions, by their parent.
        self._functions: dict[str, dict[int, HostDevice]] = {}
        for device in devices:
            if device.parent:
                self._functions.setdefault(device.parent, {})[id(device.offer)] = device
        self._sysfs_pci = sysfs_pci

    def __iter__(self) -> Iterator[HostDevice]:
        return iter(self._by_address.values())

    def __len__(self) -> int:
        return len(self._by_address)

    @property
    def everything(self) -> tuple[HostDevice, ...]:
        """The devices, and the parts of the host itself."""
        return (*self, *self.host.values())

    @property
    def unlike(self) -> list[HostDevice]:
        """One of each kind of all these, of which the others have the very offer."""
        return list({id(one.offer): one for one in self.everything}.values())

    def functions_of(self, parent: str) -> tuple[HostDevice, ...]:
        """One of each kind of a device's functions that are devices of their own.

        :param parent: the device's address, normalised
        """
        return tuple(self._functions.get(parent, {}).values())

    def may_be(self, address: str | None) -> tuple[HostDevice, ...]:
        """What a provider of an address may give: the device there, or a function of any kind."""
        device = self.find(address)
        if device is not None or not address:
            return () if device is None else (device,)
        return self.functions_of(normalise_address(address))

    def is_of_none(self, address: str, parent: str | None = None) -> bool:
        """Whether the device at an address is known to belong to no family.

        :param parent: the parent's address where the caller knows it; else sysfs is asked
        """
        if self.find(address, parent) is not None:
            return False
        address = normalise_address(address)
        known = [address, normalise_address(parent or "")]
        if is_pci(address):
            known.append(self._physical_function(address))
        if any(one in self._of_none for one in known):
            return True
        # A function that has come since its parent's functions were read may be of any family.
        return self.fully_read and not any(one in self._functions for one in known)

    def is_named(self, address: str) -> bool:
        """Whether sources name the device at an address as whoever asks does.

        A PCI device has one name for everybody. What else no source lists may be a device that
        they know by another one.

        :param address: normalised
        """
        return is_pci(address) or address in self._listed or bool(self.may_be(address))

    def find(self, address: str | None, parent: str | None = None) -> HostDevice | None:
        """The device at an address, else the parent that the address is a function of.

        :param parent: the parent's address where the caller knows it; else sysfs is asked
        """
        if not address:
            return None
        address = normalise_address(address)
        device = self._by_address.get(address)
        if device is None and parent:
            device = self._by_address.get(normalise_address(parent))
        if device is None and is_pci(address):
            device = self._by_address.get(self._physical_function(address))
        return device

    def _physical_function(self, address: str) -> str:
        # Documentation/ABI/testing/sysfs-bus-pci: physfn links a VF to its PF.
        try:
            return os.path.basename(os.readlink(f"{self._sysfs_pci}/{address}/physfn"))
        except OSError:
            return ""
