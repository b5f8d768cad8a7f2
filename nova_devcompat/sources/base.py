# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The interface of sources: who reads what a host's devices are."""

from __future__ import annotations

import abc
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from nova_devcompat.compat.device import Device, Function, normalise_address
from nova_devcompat.compat.kinds import Floor
from nova_devcompat.compat.types import AttributeType
from nova_devcompat.kit.bounded import SECONDS

__all__ = [
    "API_VERSION",
    "Device",
    "Function",
    "Listing",
    "Source",
    "SourceError",
    "SourceOptions",
    "normalise_address",
]

#: The version of the interface below. A plugin states the one it was written for.
API_VERSION = (1, 3)


class SourceError(RuntimeError):
    """A source cannot tell what a host's devices are; the message says what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class SourceOptions:
    """What nova.conf has for sources.

    :param inventory: ``[devcompat] inventory``
    :param attributes: files that a catalog has the source read, see :meth:`Source.check_file`: an
        attribute's name to a glob relative to the device's folder, such as
        ``{"caps": "qat/cap_*"}``
    :param sysfs_root: where sysfs is mounted, for sources that read it. Since 1.2
    :param function_attributes: as ``attributes``, of each function and relative to its folder.
        Since 1.3
    :param libvirt_uri: what Nova's driver asks libvirt at, '' where it is not libvirt's. Since 1.3
    :param memory_source: what the hypervisor's configuration has guests' memory be, ``file`` or
        ``anonymous``; None where that is not known. Since 1.3
    :param seconds: how long :meth:`Source.read` may take, ``[devcompat] source_timeout``. Since
        1.3
    """

    inventory: pathlib.Path | None = None
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sysfs_root: str = "/sys"
    function_attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    libvirt_uri: str = ""
    memory_source: str | None = None
    seconds: float = SECONDS


class Listing(tuple[Device, ...]):
    """The devices of a host where some may be missing, of which nothing can be told. Since 1.3.

    What :meth:`Source.read` returns in place of any other sequence then, so that a device which is
    not among them is not taken for one of no family.

    :param devices: those that are known
    :param left_out: why others are not, by what is missing
    """

    left_out: Mapping[str, str]

    def __new__(cls, devices: Iterable[Device], left_out: Mapping[str, str]) -> Listing:
        listing = super().__new__(cls, devices)
        listing.left_out = left_out
        return listing


class Source(abc.ABC):
    """Reads the devices of the host that it runs on.

    nova-compute makes one object of each source that the catalog names, calls it at start and in
    each publish cycle, and may call it from several threads at once. An implementation guards its
    own state, gives up after ``options.seconds``, and keeps no reference to Nova.

    :param options: what nova.conf has for sources
    :raises SourceError: the options will not do
    """

    #: The name a catalog uses.
    name: ClassVar[str]
    api_version: ClassVar[tuple[int, int]] = API_VERSION
    #: The optional methods that a source brings, by name. Since 1.1.
    capabilities: ClassVar[frozenset[str]] = frozenset()
    #: Whether an operator wrote what it tells. For the families whose source it is it then tells
    #: all that others would, and a mistake in it keeps nova-compute from starting. Since 1.2.
    stands_in: ClassVar[bool] = False
    #: The attributes that it tells, and the type of each; None where it does not say. A catalog
    #: that asks for another is refused. Since 1.3.
    attribute_types: ClassVar[Mapping[str, AttributeType] | None] = None
    #: Likewise those that it tells of each function, of a source whose devices have functions.
    #: Since 1.3.
    function_attribute_types: ClassVar[Mapping[str, AttributeType] | None] = None
    #: Rules for attributes of functions that hold whatever the family of a device: of every family
    #: that reads the source. Since 1.3.
    implied: ClassVar[Mapping[str, Floor]] = {}
    #: Whether it can be read on every host, so that what it implies holds of every family of
    #: devices. Since 1.3.
    everywhere: ClassVar[bool] = False
    #: Whether it may tell others too, as text, whose names only the host knows. Since 1.3.
    tells_more: ClassVar[bool] = False

    def __init__(self, options: SourceOptions) -> None:
        self.options = options

    def check(self) -> None:  # noqa: B027  a source may have nothing to check
        """Look at what the source depends on, so that a mistake shows when the service starts.

        :raises SourceError: the source cannot work as it is configured
        """

    @classmethod
    def check_file(cls, attribute: str, pattern: str) -> None:
        """Look at a file that a catalog names for an attribute.

        A source that states this capability finds in ``options.attributes`` what it let through.
        Since 1.2.

        :param attribute: what the source is to call it
        :param pattern: a glob relative to the device's folder
        :raises ValueError: it cannot read that, and why
        """
        raise ValueError(f"source {cls.name!r} reads no files that a catalog names")

    @classmethod
    def is_of_function(cls, pattern: str) -> bool:
        """Whether a file that a catalog names is one of each function, although it is written as
        one of the device.

        Asked of a source with ``check_file``, which finds such in ``options.function_attributes``.
        Since 1.3.

        :param pattern: a glob that :meth:`check_file` has let through
        """
        return False

    @abc.abstractmethod
    def read(self, host: str) -> Sequence[Device]:
        """The devices of a host, as they are now; empty where it has none.

        An attribute that cannot be read is left out, the device is not: what is missing is
        UNKNOWN, and the family's policy decides. What is a fact of a function is told by
        :attr:`Device.functions`, since 1.3, and never of the device. Where a device is there of
        which nothing can be told, it is a :class:`Listing`.

        :param host: its hypervisor hostname
        :raises SourceError: nothing can be told; nothing else is ever raised
        """
