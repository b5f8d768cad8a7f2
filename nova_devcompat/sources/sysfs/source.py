# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The source itself: what a catalog may ask of it, its bounds, and what it logs."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from nova_devcompat.compat.device import PCI_IDENTIFIERS, Device
from nova_devcompat.compat.kinds import Floor
from nova_devcompat.compat.traits import check_name
from nova_devcompat.compat.types import AttributeType
from nova_devcompat.kit.once import Once
from nova_devcompat.sources.base import Listing, Source, SourceError, SourceOptions
from nova_devcompat.sources.calls import SourceCall, TimedOut, Turns
from nova_devcompat.sources.sysfs.facts import Facts
from nova_devcompat.sources.sysfs.files import (
    PCI,
    ROOT,
    CannotRead,
    Reader,
)
from nova_devcompat.sources.sysfs.functions import VIRTUAL
from nova_devcompat.sources.sysfs.scan import Found, Scan, State
from nova_devcompat.sources.sysfs.vhost import VhostNet, ask

LOG = logging.getLogger(__name__)

T = TypeVar("T")

#: The attributes that the source has names for; a catalog cannot give these to its own files.
ATTRIBUTE_TYPES: Mapping[str, AttributeType] = {
    **dict.fromkeys(
        (
            *PCI_IDENTIFIERS,
            "driver",
            "driver_version",
            "driver_srcversion",
            "vf_driver_version",
            "vf_driver_srcversion",
            "kernel_release",
            "vhost_net_features",
            "component",
        ),
        AttributeType.TEXT,
    ),
    "sriov_totalvfs": AttributeType.INTEGER,
    "sriov_numvfs": AttributeType.INTEGER,
    "vf_driver": AttributeType.LIST,
    "mdev_type": AttributeType.LIST,
    **dict.fromkeys(
        (
            "mdev_name",
            "mdev_device_api",
            "mdev_description",
            "mdev_available_instances",
            "vgpu_creatable",
        ),
        AttributeType.MAPPING,
    ),
}

#: Those that it tells of each function.
FUNCTION_ATTRIBUTE_TYPES: Mapping[str, AttributeType] = dict.fromkeys(
    (
        "vf_driver",
        "vf_driver_version",
        "vf_driver_srcversion",
        "vf_driver_migrates",
        "vgpu_type",
    ),
    AttributeType.TEXT,
)

#: The names of all of them.
ATTRIBUTES = frozenset({*ATTRIBUTE_TYPES, *FUNCTION_ATTRIBUTE_TYPES})

#: The address of the kernel, and its name among the components of a host.
KERNEL = "kernel"

# So many threads may be left behind by files that hang.
_MAX_HUNG = 8


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
    if pattern.startswith("virtfn") and not (pattern.startswith(VIRTUAL) and pattern != VIRTUAL):
        raise ValueError(
            f"attribute {attribute!r}: {pattern!r} would be read of some functions and said of "
            "all; write the path below a function's folder, and 'of: function' beside it"
        )


class SysfsSource(Source):
    """Reads PCI devices and parents of mdevs from sysfs, which needs no privilege.

    A device is listed once: the virtual functions of a device that is there are part of it, and so
    are their drivers and mdev types. Bridges are left out, but for those that a VFIO driver has
    taken. Attributes:

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
    - ``kernel_release``: text, ``6.8.0-45-generic``, of the kernel that runs, the same of all. The
      kernel itself is a device too, a ``component`` of the name and address ``kernel``, for host
      families
    - ``vhost_net_features``: of the kernel alone, a mask such as ``0x10150008000``: what vhost-net
      offers, where the driver is there (``/dev/vhost-net``, VHOST_GET_FEATURES)
    - ``vgpu_creatable``: mapping from number to name of the vGPU types that a function of an
      NVIDIA GPU without one can be made now
    - what ``options.attributes`` names: the file's text; of a pattern with wildcards the list of
      its files' texts, in the order of their paths. A pattern that begins with ``virtfn*/`` is
      read of each function instead, as a list of one

    Of each function, or of a device without functions as of its only one:

    - ``vf_driver``: text, the driver that it is bound to, by the name of its module, ``none`` for
      none; ``vf_driver_version`` and ``vf_driver_srcversion``: what the module states;
      ``vf_driver_migrates``: ``1`` for a VFIO variant driver that hands on a device's state,
      ``0`` for ``vfio_pci`` and one that does not, or not of hardware of its revision, and for
      parents of mdevs whose driver does not, left out for other drivers
    - ``vgpu_type``: text, of an NVIDIA GPU's function: the number of the vGPU type that it has
      been made (``nvidia/current_vgpu_type``), ``none`` for none; ``mdev`` for one that makes
      mdevs, which have types of their own
    - what ``options.function_attributes`` names, likewise

    What is not there is left out; what is there and cannot be read is a problem of the device. A
    file that hangs is not asked again until the hanging call has returned.

    :param root: where sysfs is mounted, if not where the options say
    :param vhost: asks vhost-net for its features
    :param release: of the kernel whose sysfs it is; by default of the one that runs, and not known
        of a sysfs elsewhere
    :raises SourceError: ``options.attributes`` will not do
    """

    name = "sysfs"
    attribute_types = ATTRIBUTE_TYPES
    function_attribute_types = FUNCTION_ATTRIBUTE_TYPES
    capabilities = frozenset({"check_file"})
    # QEMU migrates no device whose driver hands on no state (hw/vfio/migration.c,
    # vfio_migration_realize: "VFIO migration is not supported in kernel").
    implied = MappingProxyType({"vf_driver_migrates": Floor(at="1")})
    everywhere = True

    def __init__(
        self,
        options: SourceOptions,
        *,
        root: str | os.PathLike[str] | None = None,
        release: str | None = None,
        vhost: Callable[[], int] = ask,
    ) -> None:
        super().__init__(options)
        named = (*options.attributes.items(), *options.function_attributes.items())
        for attribute, pattern in named:
            try:
                self.check_file(attribute, pattern)
            except ValueError as error:
                raise SourceError(f"source {self.name!r}: {error}") from error
        self._root = os.fspath(root or options.sysfs_root)
        self._release = release
        if release is None and self._root == ROOT:
            self._release = os.uname().release
        self._vhost = VhostNet(vhost)
        self._turns = Turns(self.name, options.seconds)
        self._state = State()
        self._hung: dict[str, SourceCall] = {}
        # What was logged of files that hang, and of devices.
        self._hanging = Once()
        self._unreadable = Once()

    @classmethod
    def check_file(cls, attribute: str, pattern: str) -> None:
        """Look at what a catalog says of a file, see :func:`check_pattern`."""
        check_pattern(attribute, pattern)

    @classmethod
    def is_of_function(cls, pattern: str) -> bool:
        """Whether a pattern begins with ``virtfn*/``: what is below is a fact of each function."""
        return pattern.startswith(VIRTUAL)

    def check(self) -> None:
        """Look whether sysfs is there.

        :raises SourceError: it is not
        """
        with self._alone():
            self._bounded(lambda reader: reader.entries(PCI), self.options.seconds / 2)

    def read(self, host: str) -> Sequence[Device]:
        """The devices of this host.

        :param host: of no concern: it is always this one
        :raises SourceError: sysfs cannot be read, or too much of it hangs
        """
        with self._alone():
            found = self._scan()
            self._state = found.state
            self._log(found)
            if self._release is None:
                return Listing(found.devices, found.unreadable)
            vhost = self._bounded(self._vhost.facts, self.options.seconds / 2)
        devices = self._with_kernel(found.devices, self._release, vhost)
        return Listing(devices, found.unreadable)

    def _with_kernel(
        self, devices: Sequence[Device], release: str, vhost: Facts
    ) -> Sequence[Device]:
        """The devices, and the kernel, with its release."""
        told = {"kernel_release": release}
        kernel = Device(
            KERNEL, {"component": KERNEL, **told, **vhost.attributes}, problems=vhost.problems
        )
        return [
            *(
                dataclasses.replace(device, attributes={**device.attributes, **told})
                for device in devices
            ),
            kernel,
        ]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._turns.turn():
            self._hung = {path: call for path, call in self._hung.items() if call.stuck}
            yield

    def _scan(self) -> Found:
        # Each attempt passes over the file at which the last one hung.
        seconds = self.options.seconds / 2
        while True:
            try:
                found = self._bounded(
                    lambda reader: Scan(
                        reader,
                        self._state,
                        self.options.attributes,
                        self.options.function_attributes,
                    ).run(),
                    seconds,
                )
            except TimedOut:
                seconds /= 2
                if seconds < self.options.seconds / 8:
                    raise
            else:
                for path in self._hanging.past(self._hung):
                    LOG.info("%s/%s answers again", self._root, path)
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
            if self._hanging.is_new(path):
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

    def _log(self, found: Found) -> None:
        for address in found.vanished:
            LOG.info("PCI device %s vanished while it was read; it is skipped", address)
        for address, problem in found.unreadable.items():
            if self._unreadable.is_new(address, problem):
                LOG.warning("PCI device %s cannot be read and is skipped: %s", address, problem)
        for address in self._unreadable.past(found.unreadable):
            if address in found.state.devices:
                LOG.info("PCI device %s can be read again", address)
