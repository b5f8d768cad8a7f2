# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Going through all devices of a host, and again through what may have changed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Container, Iterable, Mapping
from typing import TypeVar

from nova_devcompat.compat.device import Device, Function, node_device_name, normalise_address
from nova_devcompat.sources.sysfs.facts import (
    Driver,
    Facts,
    Identity,
    Vanished,
    merge_types,
    module_of,
    read_count,
    read_driver,
    read_identity,
    read_mdev_instances,
    read_mdev_types,
    types_of,
)
from nova_devcompat.sources.sysfs.files import (
    DRIVERS,
    MDEV,
    PCI,
    CannotRead,
    NotThere,
    Reader,
    expand,
    is_wild,
)
from nova_devcompat.sources.sysfs.functions import (
    Bound,
    FunctionReader,
    VgpuFile,
    drivers_of,
    is_of_vfio,
    mdevs_migrate,
    read_bound,
)

T = TypeVar("T")

# PCI Code and ID Assignment Specification, base class 06h. Nothing of a bridge is assigned but of
# one that a VFIO driver has taken, such as an NVSwitch (class 0680h).
_BRIDGE = "06"


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """A PCI device that a scan has seen.

    :param inode: of its entry, which another device in its place would not have
    :param physfn: the address of its physical function, for a virtual one
    :param identity: None for a virtual function, of which it is not needed
    """

    inode: int
    physfn: str | None
    identity: Identity | None


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """What cannot change without another inode number, for the next scan to go on from."""

    devices: Mapping[str, Known] = dataclasses.field(default_factory=dict)
    drivers: Mapping[str, tuple[int | None, Driver]] = dataclasses.field(default_factory=dict)
    parents: Mapping[str, tuple[int, Facts]] = dataclasses.field(default_factory=dict)
    vgpu_files: Mapping[str, VgpuFile] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What a scan has found.

    :param devices: PCI devices in the order of their addresses, then other parents of mdevs
    :param state: for the next scan
    :param vanished: addresses of devices that were there when it began
    :param unreadable: why nothing of a device can be read, by address
    """

    devices: tuple[Device, ...]
    state: State
    vanished: tuple[str, ...]
    unreadable: Mapping[str, str]


class Scan:
    """All devices that could be assigned, or be parents of what is.

    Reads what may have changed, and of the rest only what is new.

    :param before: of the scan before this one
    :param patterns: of further attributes, see :class:`SourceOptions`
    :param function_patterns: the same of functions
    """

    def __init__(
        self,
        reader: Reader,
        before: State,
        patterns: Mapping[str, str],
        function_patterns: Mapping[str, str],
    ) -> None:
        self._reader = reader
        self._before = before
        self._patterns = patterns
        self._function_patterns = function_patterns
        self._entries: dict[str, int] = {}
        self._devices: dict[str, Known] = {}
        self._drivers: dict[str, tuple[int | None, Driver]] = {}
        self._parents: dict[str, tuple[int, Facts]] = {}
        self._holders: dict[str, int] | None = None
        self._functions: dict[str, list[str]] = {}
        self._named_drivers: dict[str, Driver] = {}
        self._bound: Mapping[str, Bound] = {}
        self._all_bound = False
        self._vanished: list[str] = []
        self._unreadable: dict[str, str] = {}

    def run(self) -> Found:
        """Do it.

        :raises CannotRead: there is no list of devices
        """
        self._entries = self._reader.entries(PCI)
        for address in sorted(self._entries):
            known = self._attempt(address, self._know)
            if known is not None:
                self._devices[address] = known
                if known.physfn is not None:
                    self._functions.setdefault(known.physfn, []).append(address)
        self._know_parents()
        self._bound, self._all_bound = read_bound(self._reader)
        self._function_reader = FunctionReader(
            self._reader,
            self._bound,
            self._before.vgpu_files,
            self._function_patterns,
            self._matching,
        )
        found = [self._attempt(address, self._pci_device) for address in self._devices]
        found += [self._parent(name) for name in self._parents if name not in self._entries]
        return Found(
            tuple(device for device in found if device is not None),
            State(
                self._devices,
                self._drivers,
                self._parents,
                self._function_reader.vgpu_files,
            ),
            tuple(self._vanished),
            self._unreadable,
        )

    def _attempt(self, address: str, read: Callable[[str], T | None]) -> T | None:
        try:
            return read(address)
        except Vanished:
            self._vanished.append(address)
        except CannotRead as error:
            self._unreadable[address] = str(error)
        return None

    def _know(self, address: str) -> Known:
        inode = self._entries[address]
        known = self._before.devices.get(address)
        if known is not None and known.inode == inode:
            if known.physfn in self._entries:
                return known
            # What could not be read may be readable now.
            if known.identity is not None and known.identity.whole:
                return known
        physfn = self._reader.link(f"{PCI}/{address}/physfn")
        # A function whose parent is not to be seen counts for itself.
        if physfn in self._entries:
            return Known(inode, physfn, None)
        return Known(inode, None, read_identity(self._reader, address))

    def _know_parents(self) -> None:
        try:
            entries = self._reader.entries(MDEV)
        except CannotRead:
            # No driver for mdevs is loaded.
            return
        for name, inode in sorted(entries.items()):
            before = self._before.parents.get(name)
            if before is None or before[0] != inode or before[1].problems:
                before = (inode, read_mdev_types(self._reader, name))
            self._parents[name] = before

    def _pci_device(self, address: str) -> Device | None:
        identity = self._devices[address].identity
        if identity is None:
            return None
        functions = self._functions.get(address, [])
        facts = identity.describe(functions=bool(functions))
        folder = f"{PCI}/{address}"
        driver = self._driver_of(address)
        is_bridge = str(facts.attributes.get("class", "")).startswith(_BRIDGE)
        if is_bridge and not (driver is not None and self._is_of_vfio(driver)):
            return None
        self._add_driver(facts, driver)
        if identity.vf_product_id is not None:
            facts.read(
                "sriov_totalvfs", lambda: read_count(self._reader, f"{folder}/sriov_totalvfs")
            )
            # The file of this name says the same, but waits for the device's lock while somebody
            # enables functions (sriov_numvfs_show in drivers/pci/iov.c).
            facts.attributes["sriov_numvfs"] = len(functions)
        read = self._read_functions(functions or [address], identity.facts.attributes)
        if functions:
            self._add_function_drivers(facts, read.values())
        self._function_reader.add_creatable(facts, read)
        self._add_mdevs(facts, address, functions)
        self._add_patterns(facts, folder)
        return Device(
            normalise_address(address),
            facts.attributes,
            problems=facts.problems,
            functions={normalise_address(name): function for name, function in read.items()},
        )

    def _read_functions(
        self, addresses: Iterable[str], of_device: Mapping[str, object]
    ) -> dict[str, Function]:
        """What is a fact of each function; those that have gone are left out."""
        read: dict[str, Function] = {}
        for address in addresses:
            try:
                name = self._driver_of(address)
                driver = None if name is None else (name, self._driver_named(name))
                read[address] = self._function_reader.read(
                    address,
                    self._entries[address],
                    driver,
                    of_device,
                    mdev_types=self._mdev_types(address),
                )
            except (Vanished, CannotRead):
                # It comes and goes without its parent.
                continue
        return read

    def _mdev_types(self, name: str) -> Iterable[str] | None:
        """The types of a parent of mdevs, None for what is none."""
        return types_of(self._parents[name][1]) if name in self._parents else None

    def _parent(self, name: str) -> Device:
        """A parent of mdevs on another bus, or on none, such as the kernel's sample mtty."""
        facts = Facts()
        folder = f"{MDEV}/{name}"
        subsystem = self._reader.link(f"{folder}/subsystem")
        # dev_driver_string(): without a driver, the bus or class stands for it.
        driver = self._reader.link(f"{folder}/driver") or subsystem
        if driver is not None:
            facts.attributes["driver"] = driver
            facts.add(self._driver(driver, f"module/{module_of(driver)}").facts, "driver_")
        self._add_mdevs(facts, name, [])
        self._add_patterns(facts, folder)
        address = normalise_address(
            name if subsystem is None else node_device_name(subsystem, name)
        )
        functions = {}
        if mdevs_migrate(self._mdev_types(name) or ()) is not None and driver is not None:
            told = {"vf_driver": module_of(driver), "vf_driver_migrates": "0"}
            functions[address] = Function(told)
        return Device(address, facts.attributes, problems=facts.problems, functions=functions)

    def _driver_of(self, address: str) -> str | None:
        bound = self._bound.get(address)
        if bound is not None:
            return bound.driver
        folder = f"{PCI}/{address}"
        driver = None if self._all_bound else self._reader.link(f"{folder}/driver")
        if driver is None and not self._reader.exists(folder):
            raise Vanished
        return driver

    def _is_of_vfio(self, driver: str) -> bool:
        return is_of_vfio(module_of(driver), variant=self._driver_named(driver).variant)

    def _driver_named(self, name: str) -> Driver:
        known = self._named_drivers.get(name)
        if known is None:
            known = self._named_drivers[name] = self._driver(name, f"{DRIVERS}/{name}/module")
        return known

    def _driver(self, name: str, module: str) -> Driver:
        known = self._drivers.get(module)
        if known is None:
            # Another inode: the module was unloaded and loaded since.
            inode = self._reader.inode(module)
            before = self._before.drivers.get(module)
            if before is None or before[0] != inode or before[1].facts.problems:
                before = (inode, read_driver(self._reader, name, module, self._vfio_modules()))
            known = self._drivers[module] = before
        return known[1]

    def _vfio_modules(self) -> Container[str]:
        if self._holders is None:
            try:
                self._holders = self._reader.entries("module/vfio_pci_core/holders")
            except CannotRead:
                # It is not loaded, or built in.
                self._holders = {}
        return self._holders

    def _add_driver(self, facts: Facts, driver: str | None) -> None:
        if driver is not None:
            facts.attributes["driver"] = driver
            facts.add(self._driver_named(driver).facts, "driver_")

    def _add_function_drivers(self, facts: Facts, functions: Iterable[Function]) -> None:
        bound = drivers_of(functions)
        variants = {
            module_of(name): known
            for name, known in self._named_drivers.items()
            if known.variant and module_of(name) in bound
        }
        facts.attributes["vf_driver"] = sorted(variants)
        if len(variants) == 1:
            facts.add(next(iter(variants.values())).facts, "vf_driver_")

    def _add_mdevs(self, facts: Facts, name: str, functions: Iterable[str]) -> None:
        if name in self._parents:
            facts.add(self._parents[name][1])
            read_mdev_instances(self._reader, name, facts)
            return
        # NVIDIA's SR-IOV GPUs make mdevs on virtual functions, one on each: what is free there
        # would be one file for each type and function to read, and decides nothing.
        for function in functions:
            if function in self._parents:
                merge_types(facts, self._parents[function][1])

    def _add_patterns(self, facts: Facts, folder: str) -> None:
        for name, pattern in self._patterns.items():
            facts.read(name, functools.partial(self._matching, folder, pattern), optional=True)

    def _matching(self, folder: str, pattern: str) -> str | list[str]:
        if not is_wild(pattern):
            return self._reader.text(f"{folder}/{pattern}")
        texts: list[str] = []
        for path in expand(self._reader, folder, pattern):
            with contextlib.suppress(NotThere):
                texts.append(self._reader.text(path))
        if not texts:
            raise NotThere(f"{folder}/{pattern} names no file")
        return texts
