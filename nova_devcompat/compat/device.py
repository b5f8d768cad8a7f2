# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A device as it is read, and how its address is written."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

_PCI = re.compile(
    r"(?:(?P<domain>[0-9a-f]{4,8}):)?(?P<bus>[0-9a-f]{2}):(?P<slot>[01][0-9a-f])\.(?P<function>[0-7])"
)
# How libvirt names node devices.
_NODE_DEVICE = re.compile(r"pci_([0-9a-f]{4,8})_([0-9a-f]{2})_([01][0-9a-f])_([0-7])")


def normalise_address(address: str) -> str:
    """One way to write a PCI address, ``0000:81:00.0``; any other address as it is.

    Takes ``0000:81:00.0``, ``81:00.0`` as lspci prints it, and libvirt's ``pci_0000_81_00_0``.
    """
    text = address.strip().lower()
    if match := _PCI.fullmatch(text):
        return f"{match['domain'] or '0000'}:{match['bus']}:{match['slot']}.{match['function']}"
    if match := _NODE_DEVICE.fullmatch(text):
        return "{}:{}:{}.{}".format(*match.groups())
    return address


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """A device as its source reads it now.

    :param address: of the device, or of the parent whose functions or mdevs are assigned, as
        :func:`normalise_address` writes it
    :param attributes: facts by name, in the shape that the rules read: text, an integer, a list
        of texts, or a mapping. What is not known is left out, or None
    :param family: the family it belongs to; None where the catalog's ``match`` is to tell
    :param problems: why an attribute could not be read and what to do, by the attribute's name
    """

    address: str
    attributes: Mapping[str, object]
    family: str | None = None
    problems: Mapping[str, str] = dataclasses.field(default_factory=dict)
