# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The interface of sources: who reads what a host's devices are."""

from __future__ import annotations

import abc
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import ClassVar

from nova_devcompat.compat.device import Device, normalise_address

__all__ = [
    "API_VERSION",
    "Device",
    "Source",
    "SourceError",
    "SourceOptions",
    "normalise_address",
]

#: The version of the interface below. A plugin states the one it was written for.
API_VERSION = (1, 1)


class SourceError(RuntimeError):
    """A source cannot tell what a host's devices are; the message says what to do."""


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
