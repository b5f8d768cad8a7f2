# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the files of sysfs tell of a device, of drivers, and of parents of mdevs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Container, Iterable

from nova_devcompat.compat.device import PCI_IDENTIFIERS
from nova_devcompat.sources.sysfs.files import (
    MDEV,
    PCI,
    ROOT,
    CannotRead,
    NotThere,
    Reader,
)

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


# The files of what identifies a device, by attribute.
_IDENTITY = {
    "vendor_id": "vendor",
    "product_id": "device",
    "subsystem_vendor_id": "subsystem_vendor",
    "subsystem_product_id": "subsystem_device",
    "class": "class",
    "revision": "revision",
}


class Vanished(Exception):
    """A device that is not there any more."""


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
    folder = f"{PCI}/{address}"
    facts = Facts()
    for name, file in _IDENTITY.items():
        digits = PCI_IDENTIFIERS[name]
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


def read_count(reader: Reader, path: str) -> int:
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
    folder = f"{MDEV}/{parent}/mdev_supported_types"
    facts = Facts()
    facts.read("mdev_type", lambda: sorted(reader.entries(folder)))
    _by_type(facts, "mdev_name", lambda name: reader.text(f"{folder}/{name}/name"))
    _by_type(facts, "mdev_device_api", lambda name: reader.text(f"{folder}/{name}/device_api"))
    _by_type(facts, "mdev_description", lambda name: reader.text(f"{folder}/{name}/description"))
    return facts


def read_mdev_instances(reader: Reader, parent: str, facts: Facts) -> None:
    """Add how many more mdevs of each type the parent can make now."""
    folder = f"{MDEV}/{parent}/mdev_supported_types"
    _by_type(
        facts,
        "mdev_available_instances",
        lambda name: str(read_count(reader, f"{folder}/{name}/available_instances")),
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


def merge_types(facts: Facts, other: Facts) -> None:
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
            entries = reader.entries(PCI)
            for address in addresses:
                if address not in entries:
                    continue
                inode, folder = entries[address], f"{PCI}/{address}"
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
