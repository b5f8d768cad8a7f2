#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""Which devices this host has, and what each offers."""

from __future__ import annotations

import dataclasses
import os
import re
import threading
from collections.abc import Iterator

from oslo_log import log as logging

from nova_devcompat.catalog.keeper import CatalogKeeper
from nova_devcompat.catalog.model import AmbiguousDevice, Catalog, UnknownFamily
from nova_devcompat.compat.family import Offer
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.plugins import PluginError
from nova_devcompat.sources import load_source
from nova_devcompat.sources.base import (
    Device,
    Source,
    SourceError,
    SourceOptions,
    normalise_address,
)

LOG = logging.getLogger(__name__)

_SYSFS_PCI = "/sys/bus/pci/devices"
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def is_pci(address: str) -> bool:
    """Whether an address, normalised, is a PCI function's."""
    return bool(_PCI_ADDRESS.fullmatch(address))


@dataclasses.dataclass(frozen=True, slots=True)
class HostDevice:
    """A device of this host that belongs to a family.

    :param address: its address, or that of the parent whose functions are assigned
    :param offer: what it can act as
    """

    address: str
    offer: Offer

    @property
    def family(self) -> str:
        """Name of its family."""
        return self.offer.family.name

    def freeze(self, *, slot: str, address: str, pin: DeviceNeed | None) -> DeviceNeed:
        """The need of a guest whose device is initialised now."""
        return self.offer.freeze(slot=slot, address=address, pin=pin)


class HostDevices:
    """The devices of one host, as read at one moment.

    :param catalog: the catalog that classified them
    :param devices: those that belong to a family
    :param sysfs_pci: folder of links that tell a virtual function's physical one
    """

    def __init__(
        self, catalog: Catalog, devices: list[HostDevice], sysfs_pci: str = _SYSFS_PCI
    ) -> None:
        self.catalog = catalog
        self._by_address = {device.address: device for device in devices}
        self._sysfs_pci = sysfs_pci

    def __iter__(self) -> Iterator[HostDevice]:
        return iter(self._by_address.values())

    def __len__(self) -> int:
        return len(self._by_address)

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


class Inventory:
    """Reads the sources that the catalog names and classifies what they find.

    :param keeper: hands out the catalog that is in force
    :param options: what nova.conf says to sources
    """

    def __init__(self, keeper: CatalogKeeper, options: SourceOptions) -> None:
        self._keeper = keeper
        self._options = options
        self._lock = threading.Lock()
        self._sources: dict[str, Source] = {}
        self._told: dict[tuple[str, str], str] = {}

    def check(self) -> None:
        """Load what the catalog names, so that mistakes show when the service starts.

        :raises CatalogError: the catalog is wrong
        :raises PluginError: a source does not exist
        :raises SourceError: a source cannot work as it is configured
        """
        for name in self._names(self._keeper.current()):
            self._source(name).check()

    def read(self, nodename: str) -> HostDevices:
        """The devices of a node now. What cannot be read is logged once and left out."""
        catalog = self._keeper.current()
        devices: dict[str, HostDevice] = {}
        for name in self._names(catalog):
            try:
                found = self._source(name).read(nodename)
            except (SourceError, PluginError) as error:
                self._tell(nodename, f"source {name}", str(error))
                continue
            self._tell(nodename, f"source {name}", "")
            for device in found:
                classified = self._classify(catalog, nodename, name, device)
                if classified is not None:
                    devices[classified.address] = classified
        return HostDevices(catalog, list(devices.values()))

    @staticmethod
    def _names(catalog: Catalog) -> list[str]:
        return sorted({family.source for family in catalog.families.values()})

    def _source(self, name: str) -> Source:
        with self._lock:
            if name not in self._sources:
                self._sources[name] = load_source(name, self._options)
            return self._sources[name]

    def _classify(
        self, catalog: Catalog, nodename: str, source: str, device: Device
    ) -> HostDevice | None:
        key = f"device {device.address} of source {source}"
        try:
            family = catalog.classify(device)
            if family is None and device.family is not None:
                catalog.rules_of(device)  # raises: it names a family that does not exist
        except (AmbiguousDevice, UnknownFamily) as error:
            self._tell(nodename, key, str(error))
            return None
        self._tell(nodename, key, "")
        # A device counts for the families of the source that read it, and for no others.
        if family is None or family.source != source:
            return None
        offer = family.family.offer(device.attributes)
        for attribute in family.family.rules:
            code, detail = offer.unknown.get(attribute, ("", ""))
            self._tell(nodename, f"{attribute} of {key}", detail or code)
        return HostDevice(normalise_address(device.address), offer)

    def _tell(self, nodename: str, key: str, problem: str) -> None:
        """One WARNING when a problem appears or changes, one INFO when it has gone."""
        known = self._told.get((nodename, key), "")
        if problem == known:
            return
        self._told[nodename, key] = problem
        if problem:
            LOG.warning(
                "%(node)s: %(what)s cannot be used: %(problem)s; guests are judged as on_unknown "
                "says until that is mended",
                {"node": nodename, "what": key, "problem": problem},
            )
        else:
            LOG.info("%(node)s: %(what)s can be used again", {"node": nodename, "what": key})
