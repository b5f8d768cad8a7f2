# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A device as it is read, and the one way in which its address is written.

A device has a name each from the kernel, from libvirt and from Nova, and operators write whichever
they are used to. All of them meet here: what sources list, what inventories and records say and
what Nova calls resource providers is compared by what these functions make of it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

#: What identifies PCI devices, by attribute: how many hexadecimal digits it has, as all sources
#: write it (Documentation/ABI/testing/sysfs-bus-pci).
PCI_IDENTIFIERS: Mapping[str, int] = {
    "vendor_id": 4,
    "product_id": 4,
    "pf_product_id": 4,
    "subsystem_vendor_id": 4,
    "subsystem_product_id": 4,
    "class": 6,
    "revision": 2,
}


def bare_identifier(name: str, text: str) -> str | None:
    """An identifier as all sources write it, where it is written with ``0x``, which none does.

    :param name: of the attribute
    :returns: None where the text is no such identifier, or written as it should be
    """
    digits = PCI_IDENTIFIERS.get(name)
    if digits is None or text[:2].lower() != "0x":
        return None
    return text[2:].rjust(digits, "0")


_PCI = re.compile(
    r"(?:(?P<domain>[0-9a-f]{4,8}):)?(?P<bus>[0-9a-f]{2}):(?P<slot>[01][0-9a-f])\.(?P<function>[0-7])"
)
# How libvirt names node devices: see node_device_name().
_PCI_NODE_DEVICE = re.compile(
    r"pci_(?P<domain>[0-9a-f]{4,8})_(?P<bus>[0-9a-f]{2})_(?P<slot>[01][0-9a-f])_(?P<function>[0-7])"
)
_CSS_NODE_DEVICE = re.compile(r"css_[0-9a-f]{1,2}_[0-3]_[0-9a-f]{4}")
# Subchannels of s390: bus ID, as the kernel and lscss have it (Documentation/arch/s390/vfio-ccw).
_CSS = re.compile(r"(?P<css>[0-9a-f]{1,2})\.(?P<set>[0-3])\.(?P<number>[0-9a-f]{4})")
# The one device of the kernel's vfio_ap (Documentation/arch/s390/vfio-ap.rst).
_AP_MATRIX = "ap_matrix"


def normalise_address(address: str) -> str:
    """The one way to write a device's address: of PCI ``0000:81:00.0``, else libvirt's name.

    Takes, in either case, ``0000:81:00.0``, ``81:00.0`` as lspci prints it, a domain with leading
    zeros as NVML prints it, and libvirt's ``pci_0000_81_00_0``; of s390 ``0.0.0070`` (which is
    ``css_0_0_0070``) and ``matrix`` (``ap_matrix``). Anything else is left as it is.
    """
    text = address.strip().lower()
    if match := _PCI.fullmatch(text) or _PCI_NODE_DEVICE.fullmatch(text):
        # The kernel writes four digits of the domain, and more where it has more ("%04x").
        domain = int(match["domain"] or "0", 16)
        return f"{domain:04x}:{match['bus']}:{match['slot']}.{match['function']}"
    if match := _CSS.fullmatch(text):
        return node_device_name("css", text)
    if _CSS_NODE_DEVICE.fullmatch(text):
        return text
    if text in ("matrix", _AP_MATRIX):
        return _AP_MATRIX
    return address


def node_device_name(subsystem: str, name: str) -> str:
    """What libvirt calls a device of the kernel's, and Nova after it.

    libvirt: udevGenerateDeviceName and udevProcessAPMatrix, src/node_device/node_device_udev.c.

    :param subsystem: its bus or class, ``mtty``
    :param name: its name there
    """
    if subsystem == name == "matrix":
        return _AP_MATRIX
    return re.sub("[^0-9A-Za-z]", "_", f"{subsystem}_{name}")


def provider_address(provider: str, nodename: str) -> str | None:
    """The address of the device that one of a node's resource providers stands for.

    :param provider: the provider's name: ``<node>_0000:41:00.0`` of a PCI device, in capital
        letters (nova/compute/pci_placement_translator.py, _get_rp_name_for_address);
        ``<node>_pci_0000_81_00_0`` or ``<node>_mtty_mtty``, by libvirt's name, of a parent of
        mdevs (nova/virt/libvirt/driver.py, _ensure_pgpu_providers)
    :returns: None where the provider is the node itself, or not named after it
    """
    prefix = f"{nodename}_"
    if not provider.startswith(prefix) or len(provider) == len(prefix):
        return None
    return normalise_address(provider[len(prefix) :])


def is_pci(address: str) -> bool:
    """Whether an address, normalised, is a PCI function's."""
    return bool(_PCI.fullmatch(address))


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """What is a fact of one function of a device, and not of the device or its other functions.

    :param attributes: facts by name, in the shapes of :class:`Device`
    :param problems: why an attribute could not be read and what to do, by the attribute's name
    :param family: the family that the function belongs to; None where ``match`` is to tell
    """

    attributes: Mapping[str, object]
    problems: Mapping[str, str] = dataclasses.field(default_factory=dict)
    family: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """A device as its source reads it now.

    :param address: of the device, or of the parent whose functions or mdevs are assigned, as
        :func:`normalise_address` writes it
    :param attributes: facts by name, in the shape that the rules read: text, an integer, a list
        of texts, or a mapping. What is not known is left out, or None
    :param family: the family it belongs to; None where the catalog's ``match`` is to tell
    :param problems: why an attribute could not be read and what to do, by the attribute's name
    :param functions: what can be assigned of it, by address: its functions; itself where it has
        none. One object for all that are alike. Empty where the source tells nothing of functions:
        then its attributes are those of whatever is assigned
    """

    address: str
    attributes: Mapping[str, object]
    family: str | None = None
    problems: Mapping[str, str] = dataclasses.field(default_factory=dict)
    functions: Mapping[str, Function] = dataclasses.field(default_factory=dict)
