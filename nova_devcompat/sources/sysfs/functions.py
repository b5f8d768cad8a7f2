# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the files of sysfs tell of each function of a device, and not of the device.

What can change without a trace is read in each scan, one small file for each function that has a
vGPU type; all else of a function is known by the folder of its driver, which one look lists whole.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping

from nova_devcompat.compat.device import Function
from nova_devcompat.sources.sysfs.facts import Driver, Facts, module_of
from nova_devcompat.sources.sysfs.files import DRIVERS, PCI, CannotRead, Reader

#: The driver of a function that has none, and the vGPU type of one that has none.
NONE = "none"
#: The vGPU type of what makes mdevs: these have types, and Nova keeps them apart.
MDEV = "mdev"

#: What a pattern begins with that is read below each function, and gives a list.
VIRTUAL = "virtfn*/"

_NVIDIA = "10de"
_TYPE_FILE = "nvidia/current_vgpu_type"
_CREATABLE_FILE = "nvidia/creatable_vgpu_types"
_TYPE = re.compile("[0-9]{1,9}")
_CREATABLE = re.compile(r"([0-9]{1,9})\s*:\s*(\S.*)")

# Drivers of drivers/vfio/pci in Linux 7.2 that hand no state on: they set no vfio_migration_ops.
_CANNOT_MIGRATE = frozenset({"ism_vfio_pci", "nvgrace_gpu_vfio_pci", "vfio_pci"})

# Drivers that do so only for hardware of a revision or a later one: QM_HW_V3 of include/linux/
# hisi_acc_qm.h, which hisi_acc_vfio_pci_probe asks for. A function has its device's revision.
_MIGRATES_FROM = {"hisi_acc_vfio_pci": 0x30}

# Drivers of mdevs in Linux 7.2 (drivers/gpu/drm/i915/gvt, drivers/s390, samples/vfio-mdev) that
# hand no state on: they set no mig_ops. The kernel names their types after them
# (drivers/vfio/mdev/mdev_sysfs.c, mdev_type_add).
_MDEVS_CANNOT_MIGRATE = frozenset({"i915", "mbochs", "mdpy", "vfio_ap", "vfio_ccw"})


@dataclasses.dataclass(frozen=True, slots=True)
class Bound:
    """The driver of a device.

    :param driver: its name
    :param inode: of the link to the device, which is another one each time it is bound
    """

    driver: str
    inode: int


def read_bound(reader: Reader) -> tuple[dict[str, Bound], bool]:
    """The drivers of all PCI devices that have one, by address.

    :returns: these, and whether they are all
    """
    bound: dict[str, Bound] = {}
    whole = True
    try:
        drivers = reader.entries(DRIVERS)
    except CannotRead:
        return bound, False
    for driver in sorted(drivers):
        try:
            entries = reader.entries(f"{DRIVERS}/{driver}")
        except CannotRead:
            whole = False
            continue
        bound.update((name, Bound(driver, inode)) for name, inode in entries.items())
    return bound, whole


def is_of_vfio(driver: str, *, variant: bool) -> bool:
    """Whether a driver is one that hands devices to guests.

    :param driver: by the name of its module
    :param variant: whether it is a VFIO variant driver
    """
    return variant or driver in _CANNOT_MIGRATE


def migrates(driver: str, revision: object, *, variant: bool) -> str | None:
    """``1`` for a driver that hands on a device's state, ``0`` for one that does not.

    :param driver: by the name of its module
    :param revision: of the device, two hexadecimal digits; None where it is not known
    :param variant: whether it is a VFIO variant driver
    :returns: None where that is not known
    """
    if driver in _CANNOT_MIGRATE:
        return "0"
    if not variant:
        return None
    lowest = _MIGRATES_FROM.get(driver)
    if lowest is None:
        return "1"
    if not isinstance(revision, str):
        return None
    return "1" if int(revision, 16) >= lowest else "0"


def mdevs_migrate(types: Iterable[str]) -> str | None:
    """``0`` for a parent of mdevs whose driver hands on no state of them, else None.

    :param types: that it can make, ``i915-GVTg_V5_4``
    """
    drivers = {kind.partition("-")[0] for kind in types}
    return "0" if drivers and drivers <= _MDEVS_CANNOT_MIGRATE else None


def parse_vgpu_type(text: str) -> str:
    """The number of a vGPU type, as ``nvidia/current_vgpu_type`` has it; 0 is none.

    NVIDIA's Virtual GPU Software User Guide, "Creating an NVIDIA vGPU on a Linux with KVM
    Hypervisor that uses a vendor-specific VFIO framework".

    :raises ValueError: it is no number
    """
    if not _TYPE.fullmatch(text):
        raise ValueError(f"has {text[:40]!r} in it, not the number of a vGPU type")
    return str(int(text)) if int(text) else NONE


def parse_creatable_types(text: str) -> dict[str, str]:
    """Names of vGPU types by number, as ``nvidia/creatable_vgpu_types`` lists them.

    :param text: a heading, then a line each: ``1561 : NVIDIA RTX Pro 6000 Blackwell DC-48Q``
    """
    lines = (_CREATABLE.fullmatch(line.strip()) for line in text.splitlines())
    return {match[1]: match[2].strip() for match in lines if match}


@dataclasses.dataclass(frozen=True, slots=True)
class VgpuFile:
    """Whether a function has a file with its vGPU type.

    It comes and goes with the driver, so it is looked for once each time that one is bound.
    """

    entry: int
    bound: int
    there: bool


class FunctionReader:
    """Reads functions, and makes one object of all that are alike.

    :param bound: drivers by address
    :param before: what was known of files with vGPU types, by address
    :param patterns: of further attributes of functions
    :param matching: reads the files of a pattern in a folder
    """

    def __init__(
        self,
        reader: Reader,
        bound: Mapping[str, Bound],
        before: Mapping[str, VgpuFile],
        patterns: Mapping[str, str],
        matching: Callable[[str, str], str | list[str]],
    ) -> None:
        self._reader = reader
        self._bound = bound
        self._before = before
        self._patterns = patterns
        self._matching = matching
        #: What is known now of files with vGPU types.
        self.vgpu_files: dict[str, VgpuFile] = {}
        self._of_driver: dict[tuple[str, str | None], Function] = {}
        self._alike: dict[object, Function] = {}

    def read(
        self,
        address: str,
        entry: int,
        driver: tuple[str, Driver] | None,
        of_device: Mapping[str, object],
        *,
        mdev_types: Iterable[str] | None,
    ) -> Function:
        """The facts of one function, or of a device without functions.

        :param entry: inode number of its entry
        :param driver: that is bound, by name; None for none
        :param of_device: what identifies its device, by attribute
        :param mdev_types: those that it can make as a parent of mdevs; None for none
        """
        facts = Facts()
        makes_mdevs = mdev_types is not None
        migrate = mdevs_migrate(mdev_types or ())
        if migrate is not None:
            facts.attributes["vf_driver_migrates"] = migrate
        folder = f"{PCI}/{address}"
        if of_device.get("vendor_id") == _NVIDIA:
            facts.attributes["vgpu_type"] = MDEV if makes_mdevs else NONE
            if not makes_mdevs and self._has_type(address, entry):
                read = functools.partial(self._type, folder)
                del facts.attributes["vgpu_type"]
                facts.read("vgpu_type", read, optional=True)
        for name, pattern in self._patterns.items():
            facts.read(name, functools.partial(self._file, folder, pattern), optional=True)
        plain = self._plain(driver, of_device.get("revision"))
        if not (facts.attributes or facts.problems):
            return plain
        key = (id(plain), _frozen(facts.attributes), _frozen(facts.problems))
        function = self._alike.get(key)
        if function is None:
            function = self._alike[key] = Function(
                {**plain.attributes, **facts.attributes},
                {**plain.problems, **facts.problems},
            )
        return function

    def _file(self, folder: str, pattern: str) -> str | list[str]:
        if not pattern.startswith(VIRTUAL):
            return self._matching(folder, pattern)
        value = self._matching(folder, pattern.removeprefix(VIRTUAL))
        return [value] if isinstance(value, str) else value

    def add_creatable(self, facts: Facts, functions: Mapping[str, Function]) -> None:
        """Add the types that a function of a device can be made now, if it has one without a type.

        They are the same for all of its functions, so one is asked.
        """
        for address, function in functions.items():
            if function.attributes.get("vgpu_type") == NONE:
                read = functools.partial(self._creatable, f"{PCI}/{address}/{_CREATABLE_FILE}")
                facts.read("vgpu_creatable", read, optional=True)
                return

    def _creatable(self, path: str) -> dict[str, str]:
        return parse_creatable_types(self._reader.text(path))

    def _plain(self, driver: tuple[str, Driver] | None, revision: object) -> Function:
        """A function of which nothing else is known than its driver."""
        name = NONE if driver is None else module_of(driver[0])
        told = None if driver is None else migrates(name, revision, variant=driver[1].variant)
        function = self._of_driver.get((name, told))
        if function is None:
            facts = Facts({"vf_driver": name})
            if driver is not None:
                facts.add(driver[1].facts, "vf_driver_")
            if told is not None:
                facts.attributes["vf_driver_migrates"] = told
            elif driver is not None and driver[1].variant:
                facts.problems["vf_driver_migrates"] = (
                    f"{name} hands on the state of devices by their revision, which is not known"
                )
            function = Function(facts.attributes, facts.problems)
            self._of_driver[name, told] = function
        return function

    def _has_type(self, address: str, entry: int) -> bool:
        bound = self._bound[address].inode if address in self._bound else 0
        known = self._before.get(address)
        if known is None or (known.entry, known.bound) != (entry, bound):
            there = self._reader.exists(f"{PCI}/{address}/{_TYPE_FILE}")
            known = VgpuFile(entry, bound, there)
        # The driver may make the file a moment after it was bound.
        if known.there:
            self.vgpu_files[address] = known
        return known.there

    def _type(self, folder: str) -> str:
        path = f"{folder}/{_TYPE_FILE}"
        try:
            return parse_vgpu_type(self._reader.text(path))
        except ValueError as error:
            raise CannotRead(f"{path} {error}") from None


def _frozen(values: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    return tuple(
        (name, tuple(value) if isinstance(value, list) else value)
        for name, value in values.items()
    )


def drivers_of(functions: Iterable[Function]) -> set[str]:
    """The drivers that functions are bound to."""
    return {str(function.attributes["vf_driver"]) for function in functions}
