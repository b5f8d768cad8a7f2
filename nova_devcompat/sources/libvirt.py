# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The ``libvirt`` source: the hypervisor of a host, and its parents of mdevs.

Each component of the host is a device of its own, with its name for an address, and in the
attribute ``component``. Each fact is from the libvirt call that is named:

- ``libvirt``

  - ``libvirt_version``: text, ``10.0.0``, of the daemon (virConnectGetLibVersion)
  - ``hypervisor_type``: text, ``QEMU`` (virConnectGetType)
  - ``hypervisor_version``: text, ``8.2.2`` (virConnectGetVersion)
  - ``memory_source``: text, ``file`` or ``anonymous``: what Nova has the memory of guests be
    (``[libvirt] file_backed_memory``), where that is known

- ``qemu``, where the hypervisor is QEMU

  - ``qemu_version``: text, ``8.2.2``, of the emulator that new guests get (virConnectGetVersion)
  - ``libvirt_version``: as above
  - ``architecture``: text, of the host's own CPU as libvirt calls it, ``s390x``
    (virConnectGetCapabilities; formatcaps.rst of libvirt)

- ``hypervisor``, where the hypervisor is QEMU: ``libvirt_version`` and ``qemu_version``, for rules
  that need both

- ``qemu_machine``, where the hypervisor is QEMU

  - ``qemu_version``: as above
  - ``machine_types``: list of the canonical names of the machine types that guests can have, of
    the host's architecture and of those that it emulates ([libvirt] hw_emulation_architecture is
    Nova's word for such a guest), deprecated ones among them (virConnectGetCapabilities;
    formatcaps.rst and capability.rng of libvirt). Where a name means unlike things in several
    architectures, it is a machine type of the host's own only, and no alias
  - ``machine_types_deprecated``: list of those that QEMU is going to drop
  - ``machine_aliases``: ``{alias: canonical}``, such as ``{q35: pc-q35-8.2}``; on another host the
    same alias stands for another machine type

The others are the parents of mdevs (virConnectListAllNodeDevices with the capability
``mdev_types``; formatnode.rst and nodedev.rng of libvirt), by PCI address, or by libvirt's name
for the node device where it is no PCI device:

- ``vendor_id``, ``product_id``: text of four hexadecimal digits, of a PCI device
- ``driver``: text, ``nvidia``
- ``mdev_type``: list of the types that it can make, such as ``nvidia-222``
- ``mdev_name``, ``mdev_device_api``, ``mdev_available_instances``: mappings from type to text:
  ``GRID T4-1B``, ``vfio-pci``, ``16``

Domain capabilities are not asked: virConnectGetDomainCapabilities is refused on a read-only
connection, and it tells of one machine type only, what the capabilities tell of all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nova_devcompat.compat.device import Device
from nova_devcompat.compat.types import AttributeType
from nova_devcompat.kit.once import Once
from nova_devcompat.sources.base import Listing, Source, SourceError, SourceOptions
from nova_devcompat.sources.calls import SourceCall
from nova_devcompat.sources.libvirt_answers import (
    ADVICE,
    LIBVIRT,
    LOOK,
    Answers,
    Failure,
    library,
    parse,
    shown,
)

#: Where libvirt is asked.
URI = "qemu:///system"

# virConnectListAllNodeDevicesFlags: VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV_TYPES
_WITH_MDEV_TYPES = 1 << 13

_NOT_CONNECTED = (
    "see that libvirtd or virtqemud runs, and that the user that nova-compute runs as may open "
    "its read-only socket"
)


def connect(uri: str = URI) -> Any:
    """A read-only connection.

    :returns: a ``virConnect``
    :raises SourceError: the library is not installed
    :raises Exception: libvirt's own errors
    """
    return library("libvirt", "libvirt-python").openReadOnly(uri)


def _connecting(uri: str) -> Callable[[], Any]:
    return lambda: connect(uri)


def ask(connect: Callable[[], Any]) -> Answers:
    """What libvirt answers on a connection of its own.

    :raises SourceError: there is no connection, or it breaks
    """
    try:
        connection = connect()
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(
            f"source 'libvirt' cannot connect: {shown(error)}; {_NOT_CONNECTED}"
        ) from error
    try:
        answers = Answers(
            lib_version=_answer("lib_version", connection.getLibVersion),
            hypervisor_type=_answer("hypervisor_type", connection.getType),
            version=_answer("version", connection.getVersion),
            capabilities=_answer("capabilities", connection.getCapabilities),
            node_devices=_node_devices(connection),
        )
    finally:
        _answer("close", connection.close)
    if isinstance(answers.lib_version, Failure) and isinstance(answers.capabilities, Failure):
        raise SourceError(f"source 'libvirt' can tell nothing: {answers.lib_version.why}")
    return answers


def _node_devices(connection: Any) -> Mapping[str, object] | Failure:
    found = _answer("node_devices", lambda: list(connection.listAllDevices(_WITH_MDEV_TYPES)))
    if isinstance(found, Failure):
        return found
    # A node device that goes away in between has no description any more.
    return {
        str(_answer("node_device", device.name)): _answer("node_device", device.XMLDesc)
        for device in found
    }


def _answer(what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001  libvirtError, of a module that may not be there
        return Failure(f"libvirt says: {shown(error)}; {ADVICE.get(what, LOOK)}")


class LibvirtSource(Source):
    """Reads what libvirt tells of its host.

    Each reading has a connection of its own, which takes some milliseconds: a libvirt that was
    restarted in between needs no care, and nothing has to run its event loop. What cannot be read
    of a host is logged once.

    :param options: of which the URI and ``memory_source`` are used
    :param connect: makes a read-only ``virConnect``; None to use the URI
    """

    name = "libvirt"
    attribute_types = {
        **dict.fromkeys(
            (
                "component",
                "architecture",
                "libvirt_version",
                "memory_source",
                "hypervisor_type",
                "hypervisor_version",
                "qemu_version",
                "vendor_id",
                "product_id",
                "driver",
            ),
            AttributeType.TEXT,
        ),
        **dict.fromkeys(
            ("machine_types", "machine_types_deprecated", "mdev_type"), AttributeType.LIST
        ),
        **dict.fromkeys(
            ("machine_aliases", "mdev_name", "mdev_device_api", "mdev_available_instances"),
            AttributeType.MAPPING,
        ),
    }

    def __init__(
        self,
        options: SourceOptions,
        *,
        connect: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(options)
        self._connect = connect or _connecting(options.libvirt_uri or URI)
        self._bounded = SourceCall(self.name, options.seconds)
        self._once = Once(f"Source {self.name}")

    def check(self) -> None:
        """Look for the libraries. Whether libvirt runs is not looked at: it may start later.

        :raises SourceError: one is not installed
        """
        library("libvirt", "libvirt-python")
        library("lxml.etree", "lxml")

    def read(self, host: str) -> Sequence[Device]:
        """The components of this host, whatever name it is given, and its parents of mdevs.

        :raises SourceError: libvirt cannot be asked at all
        """
        reading = parse(self._bounded.call(lambda: ask(self._connect)))
        self._once.update(reading.skipped)
        return Listing(map(self._with_memory_source, reading.devices), reading.skipped)

    def _with_memory_source(self, device: Device) -> Device:
        told = self.options.memory_source
        if told is None or device.address != LIBVIRT:
            return device
        return dataclasses.replace(device, attributes={**device.attributes, "memory_source": told})
