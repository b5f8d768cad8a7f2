# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The interface of sources: who reads what a host's devices are."""

from __future__ import annotations

import abc
import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

#: The version of the interface below. A plugin states the one it was written for.
API_VERSION = (1, 1)

_PCI = re.compile(
    r"(?:(?P<domain>[0-9a-f]{4,8}):)?(?P<bus>[0-9a-f]{2}):(?P<slot>[01][0-9a-f])\.(?P<function>[0-7])"
)
# How libvirt names node devices.
_NODE_DEVICE = re.compile(r"pci_([0-9a-f]{4,8})_([0-9a-f]{2})_([01][0-9a-f])_([0-7])")


class SourceError(RuntimeError):
    """A source cannot tell what a host's devices are; the message says what to do."""


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


@dataclasses.dataclass(frozen=True, slots=True)
class SourceOptions:
    """What nova.conf has for sources.

    :param inventory: ``[devcompat] inventory``
    :param attributes: files that a catalog names for the ``sysfs`` source: an attribute's name to
        a glob relative to the device's folder, such as ``{"caps": "qat/cap_*"}``
    """

    inventory: pathlib.Path | None = None
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Source(abc.ABC):
    """Reads the devices of the host that it runs on.

    nova-compute makes one object of each source that the catalog names, calls it at start and in
    each publish cycle, and may call it from several threads at once. An implementation guards its
    own state, gives up after a bounded time (a few seconds), and keeps no reference to Nova.

    :param options: what nova.conf has for sources
    :raises SourceError: the options will not do
    """

    #: The name a catalog uses.
    name: ClassVar[str]
    api_version: ClassVar[tuple[int, int]] = API_VERSION
    #: The optional methods that a source brings, by name. Since 1.1.
    capabilities: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, options: SourceOptions) -> None:
        self.options = options

    def check(self) -> None:  # noqa: B027  a source may have nothing to check
        """Look at what the source depends on, so that a mistake shows when the service starts.

        :raises SourceError: the source cannot work as it is configured
        """

    @abc.abstractmethod
    def read(self, host: str) -> Sequence[Device]:
        """The devices of a host, as they are now; empty where it has none.

        An attribute that cannot be read is left out, the device is not: what is missing is
        UNKNOWN, and the family's policy decides.

        :param host: its hypervisor hostname
        :raises SourceError: nothing can be told; nothing else is ever raised
        """
