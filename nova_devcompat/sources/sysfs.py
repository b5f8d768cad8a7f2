# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The ``sysfs`` source: PCI devices, their functions and drivers, and parents of mdevs.

Where each fact comes from:

- ``/sys/bus/pci/devices``: Documentation/ABI/testing/sysfs-bus-pci and drivers/pci/pci-sysfs.c,
  for SR-IOV drivers/pci/iov.c
- ``/sys/bus/pci/drivers/<driver>/module``: Documentation/ABI/stable/sysfs-module and
  Documentation/ABI/testing/sysfs-module; kernel/module/sysfs.c for ``holders``
- ``mdev_supported_types``: Documentation/ABI/testing/sysfs-bus-vfio-mdev,
  Documentation/driver-api/vfio-mediated-device.rst and drivers/vfio/mdev/mdev_sysfs.c
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fnmatch
import functools
import logging
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from nova_devcompat.compat.device import Device, normalise_address
from nova_devcompat.compat.traits import check_name
from nova_devcompat.sources.base import Source, SourceError, SourceOptions
from nova_devcompat.sources.calls import SourceCall, TimedOut, Turns

LOG = logging.getLogger(__name__)

T = TypeVar("T")

ROOT = "/sys"

#: More of a file than any text in sysfs has is not read.
MAX_BYTES = 64 * 1024

#: How many files one pattern may name.
MAX_FILES = 64

#: VFIO variant drivers of the kernel (drivers/vfio/pci/*/), by the names of their modules. Others
#: are recognised because their module uses vfio_pci_core.
VARIANT_DRIVERS = frozenset(
    {
        "hisi_acc_vfio_pci",
        "ism_vfio_pci",
        "mlx5_vfio_pci",
        "nvgrace_gpu_vfio_pci",
        "pds_vfio_pci",
        "qat_vfio_pci",
        "virtio_vfio_pci",
        "xe_vfio_pci",
    }
)

#: The attributes that the source has names for; a catalog cannot give these to its own files.
ATTRIBUTES = frozenset(
    {
        "vendor_id",
        "product_id",
        "pf_product_id",
        "subsystem_vendor_id",
        "subsystem_product_id",
        "class",
        "revision",
        "driver",
        "driver_version",
        "driver_srcversion",
        "sriov_totalvfs",
        "sriov_numvfs",
        "vf_driver",
        "vf_driver_version",
        "vf_driver_srcversion",
        "mdev_type",
        "mdev_name",
        "mdev_device_api",
        "mdev_description",
        "mdev_available_instances",
    }
)

_PCI = "bus/pci/devices"
_DRIVERS = "bus/pci/drivers"
_MDEV = "class/mdev_bus"

_SECONDS = 4.0

# So many threads may be left behind by files that hang.
_MAX_HUNG = 8

# Of a bridge nothing is assigned (PCI Code and ID Assignment Specification, base class 06h).
_BRIDGE = "06"

# Attribute, file, hexadecimal digits.
_IDENTITY = (
    ("vendor_id", "vendor", 4),
    ("product_id", "device", 4),
    ("subsystem_vendor_id", "subsystem_vendor", 4),
    ("subsystem_product_id", "subsystem_device", 4),
    ("class", "class", 6),
    ("revision", "revision", 2),
)

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO})

_ADVICE = {
    errno.EACCES: "let the user that nova-compute runs as read it",
    errno.EPERM: "let the user that nova-compute runs as read it",
    errno.EISDIR: "name a file, not a folder",
    errno.ELOOP: "name a file, not a loop of links",
    errno.EMFILE: "raise the limit of open files",
}


class CannotRead(Exception):
    """A file that cannot be read, or not understood; the message says what to do."""


class NotThere(CannotRead):
    """A file that does not exist, perhaps not any more."""


class Vanished(Exception):
    """A device that is not there any more."""


# Reading.


class Reader:
    """Reads files of sysfs, and knows at any time which.

    :param root: where sysfs is mounted
    :param hung: files that are not asked because an earlier question still hangs
    """

    def __init__(self, root: str | os.PathLike[str] = ROOT, hung: Iterable[str] = ()) -> None:
        self.root = os.fspath(root)
        self.at = ""
        self._hung = frozenset(hung)

    def text(self, path: str) -> str:
        """The text of a file, without white space around it.

        :raises CannotRead: and why
        """
        self._go(path)
        try:
            descriptor = os.open(f"{self.root}/{path}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(descriptor, MAX_BYTES + 1)
                # An attribute comes whole (fs/seq_file.c), a binary file may come in pieces.
                while len(data) <= MAX_BYTES:
                    more = os.read(descriptor, MAX_BYTES + 1 - len(data))
                    if not more:
                        break
                    data += more
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _cannot_read(path, error) from None
        try:
            return decode(data)
        except ValueError as error:
            raise CannotRead(f"{path} {error}") from None

    def link(self, path: str) -> str | None:
        """The last part of what a link points to; None where there is no such link.

        :raises CannotRead: and why
        """
        self._go(path)
        try:
            return os.path.basename(os.readlink(f"{self.root}/{path}"))
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise _cannot_read(path, error) from None

    def entries(self, path: str) -> dict[str, int]:
        """The names in a folder, each with its inode number.

        Numbers of sysfs are handed out in turn (fs/kernfs/dir.c), so an entry that was taken away
        and made again has another one.

        :raises CannotRead: and why
        """
        self._go(path)
        try:
            with os.scandir(f"{self.root}/{path}") as found:
                return {entry.name: entry.inode() for entry in found}
        except OSError as error:
            raise _cannot_read(path, error) from None

    def inode(self, path: str) -> int | None:
        """The inode number of a file or folder, through links; None where it is not there.

        :raises CannotRead: it hangs
        """
        self._go(path)
        try:
            return os.stat(f"{self.root}/{path}").st_ino
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        """Whether something has this name, be it a link to nothing.

        :raises CannotRead: it hangs
        """
        self._go(path)
        return os.path.lexists(f"{self.root}/{path}")

    def _go(self, path: str) -> None:
        if path in self._hung:
            raise CannotRead(f"{path} gives no answer; look for its driver's trouble in dmesg")
        self.at = path


def _cannot_read(path: str, error: OSError) -> CannotRead:
    code = error.errno or 0
    advice = _ADVICE.get(code, "look for its driver's trouble in dmesg")
    kind = NotThere if code in _GONE else CannotRead
    return kind(f"{path} cannot be read: {os.strerror(code)}; {advice}")


def expand(reader: Reader, folder: str, pattern: str) -> list[str]:
    """The paths under a folder that a pattern names, sorted; none where there are none.

    :param pattern: relative; ``*``, ``?`` and ``[...]`` in any part, as :mod:`fnmatch` takes them
    :raises CannotRead: a folder on the way is there and cannot be read, or there are too many
    """
    paths = [folder]
    for part in pattern.split("/"):
        if not is_wild(part):
            paths = [f"{path}/{part}" for path in paths]
            continue
        found: list[str] = []
        for path in paths:
            with contextlib.suppress(NotThere):
                names = fnmatch.filter(sorted(reader.entries(path)), part)
                found.extend(f"{path}/{name}" for name in names)
            if len(found) > MAX_FILES:
                raise CannotRead(
                    f"{folder}/{pattern} names more than {MAX_FILES} files; write a narrower one"
                )
        paths = found
    return paths


def is_wild(pattern: str) -> bool:
    """Whether a pattern can name several files."""
    return any(character in pattern for character in "*?[")


# Parsing.


def decode(data: bytes) -> str:
    """The text in a file's content, without white space around it.

    :raises ValueError: there is none, or what is there is no text
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"holds more than {MAX_BYTES // 1024} KiB, which no version has")
    try:
        text = data.rstrip(b"\0").decode().strip()
    except UnicodeDecodeError:
        raise ValueError("is not text but binary") from None
    if not text:
        raise ValueError("is empty")
    if not all(character.isprintable() or character in "\n\t" for character in text):
        raise ValueError("is not text but binary")
    return text


def parse_id(text: str, digits: int) -> str:
    """An identifier as lspci and Nova write it: ``0x15b3`` is ``15b3``.

    :param text: with ``0x``, or without it and without leading zeros (``sriov_vf_device``)
    :raises ValueError: it is none of so many hexadecimal digits
    """
    match = re.fullmatch(f"(?:0[xX])?([0-9a-fA-F]{{1,{digits}}})", text)
    if not match:
        raise ValueError(f"has {text[:40]!r} in it, not up to {digits} hexadecimal digits")
    return match[1].lower().zfill(digits)


def parse_count(text: str) -> int:
    """A number of functions or instances.

    :raises ValueError: it is none
    """
    if not re.fullmatch("[0-9]{1,10}", text):
        raise ValueError(f"has {text[:40]!r} in it, not a number")
    return int(text)


def check_pattern(attribute: str, pattern: str) -> None:
    """Look at what a catalog says of a file.

    :raises ValueError: the attribute or the pattern will not do, and why
    """
    check_name(attribute)
    if attribute in ATTRIBUTES:
        raise ValueError(
            f"attribute {attribute!r} is one that the source reads itself; name it otherwise"
        )
    parts = pattern.split("/")
    # "..", because a device's folder is meant; "**", because sysfs is full of loops.
    if any(part in ("", ".", "..") or "**" in part or "\0" in part for part in parts):
        raise ValueError(
            f"attribute {attribute!r}: {pattern!r} is not a path relative to a device's folder; "
            "write one like 'vendor/caps' or 'vendor/cap_*', without '..' and '**'"
        )


# Deciding.


@dataclasses.dataclass(slots=True)
class Facts:
    """What was read of a device.

    :param attributes: by name
    :param problems: why one is missing, by name
    """

    attributes: dict[str, object] = dataclasses.field(default_factory=dict)
    problems: dict[str, str] = dataclasses.field(default_factory=dict)

    def read(self, name: str, read: Callable[[], object], *, optional: bool = False) -> None:
        """Add what is read, or why it could not be.

        :param optional: that it is not there is no problem
        """
        try:
            self.attributes[name] = read()
        except NotThere as error:
            if not optional:
                self.problems[name] = str(error)
        except CannotRead as error:
            self.problems[name] = str(error)

    def add(self, other: Facts, prefix: str = "") -> None:
        """Add all of another's, each name with the prefix before it; that counts from then on."""
        for name, value in other.attributes.items():
            self.problems.pop(prefix + name, None)
            self.attributes[prefix + name] = value
        for name, problem in other.problems.items():
            self.attributes.pop(prefix + name, None)
            self.problems[prefix + name] = problem


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """What does not change of a PCI device while it is there.

    :param facts: its identifiers
    :param vf_product_id: of its virtual functions, ``""`` if that cannot be read; None for a
        device that has none
    """

    facts: Facts
    vf_product_id: str | None

    @property
    def whole(self) -> bool:
        """Whether all could be read, so that it need not be read again."""
        return not self.facts.problems and self.vf_product_id != ""

    def describe(self, *, functions: bool) -> Facts:
        """The identifiers of what is assigned: the functions where there are some.

        A catalog matches a virtual function's ``product_id``, as Nova's ``device_spec`` does; the
        physical function's own is ``pf_product_id`` then. A virtual function has its parent's
        ``vendor_id`` (PCI Express Base Specification, SR-IOV capability).
        """
        facts = Facts(dict(self.facts.attributes), dict(self.facts.problems))
        if self.vf_product_id is None:
            return facts
        own = facts.attributes.get("product_id")
        if own is not None:
            facts.attributes["pf_product_id"] = own
        if not functions:
            return facts
        facts.attributes.pop("product_id", None)
        facts.problems.pop("product_id", None)
        if self.vf_product_id:
            facts.attributes["product_id"] = self.vf_product_id
        else:
            facts.problems["product_id"] = (
                "sriov_vf_device cannot be read, so which functions the device has is not known"
            )
        return facts


def read_identity(reader: Reader, address: str) -> Identity:
    """What does not change of a PCI device while it is there.

    :param address: the name of its folder
    :raises Vanished: it is not there any more
    :raises CannotRead: nothing of it can be read
    """
    folder = f"{_PCI}/{address}"
    facts = Facts()
    for name, file, digits in _IDENTITY:
        facts.read(name, functools.partial(_id, reader, f"{folder}/{file}", digits))
    vf_product_id = None
    if reader.exists(f"{folder}/sriov_totalvfs"):
        try:
            vf_product_id = _id(reader, f"{folder}/sriov_vf_device", 4)
        except CannotRead:
            vf_product_id = ""
    if facts.problems and not reader.exists(folder):
        raise Vanished
    if not facts.attributes:
        raise CannotRead("; ".join(facts.problems.values()))
    return Identity(facts, vf_product_id)


def _id(reader: Reader, path: str, digits: int) -> str:
    text = reader.text(path)
    try:
        return parse_id(text, digits)
    except ValueError as error:
        raise CannotRead(f"{path} {error}") from None


def _count(reader: Reader, path: str) -> int:
    text = reader.text(path)
    try:
        return parse_count(text)
    except ValueError as error:
        raise CannotRead(f"{path} {error}") from None


@dataclasses.dataclass(frozen=True, slots=True)
class Driver:
    """A driver as it is loaded.

    :param variant: whether it is a VFIO variant driver
    :param facts: ``version`` and ``srcversion`` of its module, where that states them
    """

    variant: bool
    facts: Facts


def module_of(driver: str) -> str:
    """A driver's name as modules are named: older kernels have ``hisi-acc-vfio-pci``."""
    return driver.replace("-", "_")


def read_driver(reader: Reader, driver: str, folder: str, holders: Container[str]) -> Driver:
    """A driver and what its module says of itself.

    :param folder: of the module, or a link to it; a driver that is built in may have none
    :param holders: the modules that use vfio_pci_core
    """
    facts = Facts()
    # Few modules of the kernel itself state a version.
    for name in ("version", "srcversion"):
        facts.read(name, functools.partial(reader.text, f"{folder}/{name}"), optional=True)
    module = module_of(driver)
    variant = module in VARIANT_DRIVERS or (module in holders and module != "vfio_pci")
    return Driver(variant, facts)


def read_mdev_types(reader: Reader, parent: str) -> Facts:
    """The types of mdevs that a parent can make, which stay as long as it is registered.

    :param parent: its name in ``class/mdev_bus``
    """
    folder = f"{_MDEV}/{parent}/mdev_supported_types"
    facts = Facts()
    facts.read("mdev_type", lambda: sorted(reader.entries(folder)))
    _by_type(facts, "mdev_name", lambda name: reader.text(f"{folder}/{name}/name"))
    _by_type(facts, "mdev_device_api", lambda name: reader.text(f"{folder}/{name}/device_api"))
    _by_type(facts, "mdev_description", lambda name: reader.text(f"{folder}/{name}/description"))
    return facts


def read_mdev_instances(reader: Reader, parent: str, facts: Facts) -> None:
    """Add how many more mdevs of each type the parent can make now."""
    folder = f"{_MDEV}/{parent}/mdev_supported_types"
    _by_type(
        facts,
        "mdev_available_instances",
        lambda name: str(_count(reader, f"{folder}/{name}/available_instances")),
    )


def types_of(facts: Facts) -> list[str]:
    """The types in what :func:`read_mdev_types` read."""
    types = facts.attributes.get("mdev_type")
    return types if isinstance(types, list) else []


def _by_type(facts: Facts, attribute: str, read: Callable[[str], str]) -> None:
    values: dict[str, str] = {}
    for name in types_of(facts):
        try:
            values[name] = read(name)
        except NotThere:
            # A type may have no description, and the interface lets drivers leave out names.
            pass
        except CannotRead as error:
            facts.problems[attribute] = str(error)
    if values:
        facts.attributes[attribute] = values


def _merge(facts: Facts, other: Facts) -> None:
    """Add the types of another parent, which are mostly the same."""
    for name, value in other.attributes.items():
        present = facts.attributes.get(name)
        if isinstance(present, list) and isinstance(value, list):
            facts.attributes[name] = sorted({*present, *value})
        elif isinstance(present, dict) and isinstance(value, dict):
            facts.attributes[name] = {**present, **value}
        else:
            facts.attributes[name] = value
    facts.problems.update(other.problems)


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
    """

    def __init__(self, reader: Reader, before: State, patterns: Mapping[str, str]) -> None:
        self._reader = reader
        self._before = before
        self._patterns = patterns
        self._entries: dict[str, int] = {}
        self._devices: dict[str, Known] = {}
        self._drivers: dict[str, tuple[int | None, Driver]] = {}
        self._parents: dict[str, tuple[int, Facts]] = {}
        self._holders: dict[str, int] | None = None
        self._functions: dict[str, list[str]] = {}
        self._vanished: list[str] = []
        self._unreadable: dict[str, str] = {}

    def run(self) -> Found:
        """Do it.

        :raises CannotRead: there is no list of devices
        """
        self._entries = self._reader.entries(_PCI)
        for address in sorted(self._entries):
            known = self._attempt(address, self._know)
            if known is not None:
                self._devices[address] = known
                if known.physfn is not None:
                    self._functions.setdefault(known.physfn, []).append(address)
        self._know_parents()
        found = [self._attempt(address, self._pci_device) for address in self._devices]
        found += [self._parent(name) for name in self._parents if name not in self._entries]
        return Found(
            tuple(device for device in found if device is not None),
            State(self._devices, self._drivers, self._parents),
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
        physfn = self._reader.link(f"{_PCI}/{address}/physfn")
        # A function whose parent is not to be seen counts for itself.
        if physfn in self._entries:
            return Known(inode, physfn, None)
        return Known(inode, None, read_identity(self._reader, address))

    def _know_parents(self) -> None:
        try:
            entries = self._reader.entries(_MDEV)
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
        if str(facts.attributes.get("class", "")).startswith(_BRIDGE):
            return None
        folder = f"{_PCI}/{address}"
        self._add_driver(facts, self._driver_of(address))
        if identity.vf_product_id is not None:
            facts.read("sriov_totalvfs", lambda: _count(self._reader, f"{folder}/sriov_totalvfs"))
            # The file of this name says the same, but waits for the device's lock while somebody
            # enables functions (sriov_numvfs_show in drivers/pci/iov.c).
            facts.attributes["sriov_numvfs"] = len(functions)
        if functions:
            self._add_function_drivers(facts, functions)
        self._add_mdevs(facts, address, functions)
        self._add_patterns(facts, folder)
        return Device(normalise_address(address), facts.attributes, problems=facts.problems)

    def _parent(self, name: str) -> Device:
        """A parent of mdevs on another bus, or on none, such as the kernel's sample mtty."""
        facts = Facts()
        folder = f"{_MDEV}/{name}"
        # dev_driver_string(): without a driver, the bus or class stands for it.
        driver = self._reader.link(f"{folder}/driver") or self._reader.link(f"{folder}/subsystem")
        if driver is not None:
            facts.attributes["driver"] = driver
            facts.add(self._driver(driver, f"module/{module_of(driver)}").facts, "driver_")
        self._add_mdevs(facts, name, [])
        self._add_patterns(facts, folder)
        return Device(name, facts.attributes, problems=facts.problems)

    def _driver_of(self, address: str) -> str | None:
        folder = f"{_PCI}/{address}"
        driver = self._reader.link(f"{folder}/driver")
        if driver is None and not self._reader.exists(folder):
            raise Vanished
        return driver

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
            facts.add(self._driver(driver, f"{_DRIVERS}/{driver}/module").facts, "driver_")

    def _add_function_drivers(self, facts: Facts, functions: Iterable[str]) -> None:
        variants: dict[str, Driver] = {}
        for address in functions:
            try:
                name = self._driver_of(address)
            except (Vanished, CannotRead):
                # It comes and goes without its parent.
                continue
            if name is not None:
                driver = self._driver(name, f"{_DRIVERS}/{name}/module")
                if driver.variant:
                    variants[module_of(name)] = driver
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
                _merge(facts, self._parents[function][1])

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


class Identities:
    """What identifies PCI devices, for sources that read the rest from elsewhere.

    :param root: where sysfs is mounted
    """

    def __init__(self, root: str | os.PathLike[str] = ROOT) -> None:
        self._root = os.fspath(root)
        self._known: dict[str, tuple[int, Identity]] = {}

    def read(self, addresses: Iterable[str]) -> dict[str, Facts | None]:
        """The identifiers of some devices, each read once while the device is there.

        :return: as :meth:`Identity.describe` has them; None for a virtual function whose parent is
            there; nothing for a device that is not
        """
        reader = Reader(self._root)
        found: dict[str, Facts | None] = {}
        known: dict[str, tuple[int, Identity]] = {}
        with contextlib.suppress(CannotRead):
            entries = reader.entries(_PCI)
            for address in addresses:
                if address not in entries:
                    continue
                inode, folder = entries[address], f"{_PCI}/{address}"
                if reader.link(f"{folder}/physfn") in entries:
                    found[address] = None
                    continue
                before = self._known.get(address)
                try:
                    if before is None or before[0] != inode or not before[1].whole:
                        before = (inode, read_identity(reader, address))
                    functions = reader.exists(f"{folder}/virtfn0")
                except (CannotRead, Vanished):
                    continue
                known[address] = before
                found[address] = before[1].describe(functions=functions)
        self._known = known
        return found


class SysfsSource(Source):
    """Reads PCI devices and parents of mdevs from sysfs, which needs no privilege.

    A device is listed once: the virtual functions of a device that is there are part of it, and so
    are their drivers and mdev types. Bridges are left out. Attributes:

    - ``vendor_id``, ``product_id`` (four hexadecimal digits, ``15b3``): of what is assigned, so of
      the virtual functions where there are some; ``pf_product_id`` is the physical function's own,
      for every device that can have virtual ones
    - ``subsystem_vendor_id``, ``subsystem_product_id``, ``class`` (six digits), ``revision``
      (two): of the device at the address
    - ``driver``: that is bound; ``driver_version`` and ``driver_srcversion``: what its module
      states, which in the kernel's own is seldom a version
    - ``sriov_totalvfs``, ``sriov_numvfs``: integers, how many functions there can be and are
    - ``vf_driver``: list of the VFIO variant drivers that are bound to functions, by the names of
      their modules; ``vf_driver_version`` and ``vf_driver_srcversion`` if it is just one
    - ``mdev_type``: list of types; ``mdev_name``, ``mdev_device_api``, ``mdev_description``,
      ``mdev_available_instances``: mappings from type to text, the last not for functions
    - what ``options.attributes`` names: the file's text; of a pattern with wildcards the list of
      its files' texts, in the order of their paths

    What is not there is left out; what is there and cannot be read is a problem of the device. A
    file that hangs is not asked again until the hanging call has returned.

    :param root: where sysfs is mounted, if not where the options say
    :param seconds: how long :meth:`read` may take
    :raises SourceError: ``options.attributes`` will not do
    """

    name = "sysfs"
    capabilities = frozenset({"check_file"})

    def __init__(
        self,
        options: SourceOptions,
        *,
        root: str | os.PathLike[str] | None = None,
        seconds: float = _SECONDS,
    ) -> None:
        super().__init__(options)
        for attribute, pattern in options.attributes.items():
            try:
                self.check_file(attribute, pattern)
            except ValueError as error:
                raise SourceError(f"source {self.name!r}: {error}") from error
        self._root = os.fspath(root or options.sysfs_root)
        self._seconds = seconds
        self._turns = Turns(self.name, seconds)
        self._state = State()
        self._hung: dict[str, SourceCall] = {}
        self._told: set[str] = set()
        self._unreadable: Mapping[str, str] = {}

    @classmethod
    def check_file(cls, attribute: str, pattern: str) -> None:
        """Look at what a catalog says of a file, see :func:`check_pattern`."""
        check_pattern(attribute, pattern)

    def check(self) -> None:
        """Look whether sysfs is there.

        :raises SourceError: it is not
        """
        with self._alone():
            self._bounded(lambda reader: reader.entries(_PCI), self._seconds / 2)

    def read(self, host: str) -> Sequence[Device]:
        """The devices of this host.

        :param host: of no concern: it is always this one
        :raises SourceError: sysfs cannot be read, or too much of it hangs
        """
        with self._alone():
            found = self._scan()
            self._state = found.state
            self._tell(found)
        return found.devices

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._turns.turn():
            self._hung = {path: call for path, call in self._hung.items() if call.stuck}
            yield

    def _scan(self) -> Found:
        # Each attempt passes over the file at which the last one hung.
        seconds = self._seconds / 2
        while True:
            try:
                found = self._bounded(
                    lambda reader: Scan(reader, self._state, self.options.attributes).run(),
                    seconds,
                )
            except TimedOut:
                seconds /= 2
                if seconds < self._seconds / 8:
                    raise
            else:
                for path in self._told - self._hung.keys():
                    LOG.info("%s/%s answers again", self._root, path)
                self._told &= self._hung.keys()
                return found

    def _bounded(self, read: Callable[[Reader], T], seconds: float) -> T:
        if len(self._hung) >= _MAX_HUNG:
            raise TimedOut(
                f"source {self.name!r} is not asked: {len(self._hung)} files below {self._root} "
                f"hang: {', '.join(sorted(self._hung))}; look in dmesg"
            )
        reader = Reader(self._root, self._hung)
        call = SourceCall(self.name, seconds)
        try:
            return call.call(lambda: read(reader))
        except TimedOut as error:
            path = reader.at
            self._hung[path] = call
            if path not in self._told:
                self._told.add(path)
                LOG.warning(
                    "%s/%s gives no answer; it is passed over until it does. Look for its "
                    "driver's trouble in dmesg",
                    self._root,
                    path,
                )
            raise TimedOut(f"{error} ({self._root}/{path})") from None
        except CannotRead as error:
            raise SourceError(
                f"source {self.name!r}: {error} (below {self._root}); is sysfs mounted there?"
            ) from error

    def _tell(self, found: Found) -> None:
        for address in found.vanished:
            LOG.info("PCI device %s vanished while it was read; it is skipped", address)
        for address, problem in found.unreadable.items():
            if self._unreadable.get(address) != problem:
                LOG.warning("PCI device %s cannot be read and is skipped: %s", address, problem)
        for address in self._unreadable:
            if address not in found.unreadable and address in found.state.devices:
                LOG.info("PCI device %s can be read again", address)
        self._unreadable = found.unreadable
