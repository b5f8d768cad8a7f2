# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Questions to devlink and what it answers: messages, which pyroute2 makes and decodes."""

from __future__ import annotations

import dataclasses
import errno
import re
from collections.abc import Mapping
from typing import Any

from nova_devcompat.compat.device import normalise_address
from nova_devcompat.compat.traits import check_name
from nova_devcompat.sources.base import SourceError
from nova_devcompat.sources.devlink.netlink import (
    F_DUMP,
    F_REQUEST,
    GENERIC_HEADER,
    HEADER,
    Channel,
    Garbled,
    KernelError,
    exchange,
    walk,
)
from nova_devcompat.sources.devlink.ports import CMD_PORT_GET, VfPort, parse_port

_CMD_GET, _CMD_INFO_GET = 1, 51
_VERSIONS = {100: "fixed", 101: "running", 102: "stored"}
# Names of bus, device and driver; name and value of a version.
_TEXTS = frozenset({1, 2, 98, 103, 104})


@dataclasses.dataclass(frozen=True, slots=True)
class Handle:
    """How devlink calls a device: ``pci/0000:81:00.0``."""

    bus: str
    device: str

    def __str__(self) -> str:
        return f"{self.bus}/{self.device}"

    @property
    def address(self) -> str:
        """A PCI device's address; of others the handle."""
        return normalise_address(self.device) if self.bus == "pci" else str(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Info:
    """What devlink says of a device.

    :param driver: ``""`` if it does not say
    :param versions: by group (``fixed``, ``running``, ``stored``), then by name
    :param doubtful: why what is said of a version cannot be used, by group and name
    """

    handle: Handle
    driver: str
    versions: Mapping[str, Mapping[str, str]]
    doubtful: Mapping[tuple[str, str], str]


def parse_info(message: bytes) -> Info:
    """The answer for one device, of DEVLINK_CMD_INFO_GET or DEVLINK_CMD_GET.

    :param message: with its header
    :raises Garbled: it is no such answer, or not all of it
    """
    _check_whole(message)
    decoded = _decode(message)
    versions: dict[str, dict[str, str]] = {}
    doubtful: dict[tuple[str, str], str] = {}
    for group in _VERSIONS.values():
        found = versions[group] = {}
        for nest in decoded.get_attrs(f"DEVLINK_ATTR_INFO_VERSION_{group.upper()}"):
            name = _text(nest.get_attr("DEVLINK_ATTR_INFO_VERSION_NAME"))
            try:
                value = _text(nest.get_attr("DEVLINK_ATTR_INFO_VERSION_VALUE"))
            except Garbled as error:
                doubtful[group, name] = str(error)
                continue
            # "Each version can be reported at most once in each version group."
            if found.setdefault(name, value) != value:
                doubtful[group, name] = f"is reported as {found[name]} and as {value}"
    handle = Handle(
        _text(decoded.get_attr("DEVLINK_ATTR_BUS_NAME")),
        _text(decoded.get_attr("DEVLINK_ATTR_DEV_NAME")),
    )
    driver = decoded.get_attr("DEVLINK_ATTR_INFO_DRIVER_NAME")
    return Info(handle, "" if driver is None else _text(driver), versions, doubtful)


def _check_whole(message: bytes) -> None:
    """Look whether each attribute ends where it says, and each text in it.

    :raises Garbled: one does not
    """
    body = message[HEADER.size + GENERIC_HEADER :]
    if not body:
        raise Garbled("a message is empty")
    for kind, content in walk(body):
        if kind in _TEXTS and not content.endswith(b"\0"):
            raise Garbled("a text is cut off")
        if kind in _VERSIONS:
            for inner, text in walk(content):
                if inner in _TEXTS and not text.endswith(b"\0"):
                    raise Garbled("a version is cut off")


def _text(value: object) -> str:
    # pyroute2 gives octets where they are not UTF-8.
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise Garbled(f"{value!r:.60} is not text")
    return value.strip()


def attribute_name(name: str) -> str:
    """The attribute that a version becomes: ``fw.mgmt.api`` is ``fw_mgmt_api``.

    :raises ValueError: it becomes none
    """
    attribute = re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")
    check_name(attribute)
    return attribute


# Making and decoding messages, with pyroute2.


def load_pyroute2() -> Any:
    """pyroute2's netlink messages.

    :raises SourceError: it is not installed
    """
    try:
        import pyroute2.netlink.devlink
    except ImportError as error:
        raise SourceError(
            f"source 'devlink' needs the Python package pyroute2: {error}; install it where "
            "nova-compute runs"
        ) from error
    return pyroute2.netlink


def encode_family_request(sequence: int) -> bytes:
    """Ask for the number of the devlink family."""
    library = load_pyroute2()
    message = library.ctrlmsg()
    message["cmd"] = library.CTRL_CMD_GETFAMILY
    message["version"] = 1
    message["attrs"] = [("CTRL_ATTR_FAMILY_NAME", "devlink")]
    return _encode(message, library.GENL_ID_CTRL, sequence, F_REQUEST)


def encode_request(family: int, command: int, sequence: int, handle: Handle | None) -> bytes:
    """Ask for a device, or for all.

    :param command: number of a DEVLINK_CMD
    """
    message = load_pyroute2().devlink.devlinkcmd()
    message["cmd"] = command
    message["version"] = 1
    if handle is None:
        return _encode(message, family, sequence, F_REQUEST | F_DUMP)
    message["attrs"] = [
        ("DEVLINK_ATTR_BUS_NAME", handle.bus),
        ("DEVLINK_ATTR_DEV_NAME", handle.device),
    ]
    return _encode(message, family, sequence, F_REQUEST)


def _encode(message: Any, kind: int, sequence: int, flags: int) -> bytes:
    message["header"].update(type=kind, flags=flags, sequence_number=sequence, pid=0)
    message.encode()
    return bytes(message.data)


def _decode(message: bytes, *, control: bool = False) -> Any:
    library = load_pyroute2()
    decoded = library.ctrlmsg(message) if control else library.devlink.devlinkcmd(message)
    try:
        decoded.decode()
        # Attributes are decoded when they are asked for: ask now.
        for _name, value in decoded["attrs"]:
            if isinstance(value, Mapping):
                list(value.get("attrs", ()))
    except Exception as error:
        raise Garbled(f"a message cannot be decoded: {error!r:.80}") from error
    return decoded


def parse_family(message: bytes) -> int:
    """The number of a family.

    :raises Garbled: the message has none
    """
    body = message[HEADER.size + GENERIC_HEADER :]
    for _kind, _content in walk(body):
        pass
    number = _decode(message, control=True).get_attr("CTRL_ATTR_FAMILY_ID")
    if not isinstance(number, int):
        raise Garbled("the answer has no family")
    return number


class NoFamily(Exception):
    """This kernel has no devlink."""


class Conversation:
    """Questions to the kernel's devlink over one socket.

    :param seconds: for the answer to each
    :raises NoFamily: there is no devlink
    """

    def __init__(self, channel: Channel, seconds: float) -> None:
        self._channel = channel
        self._seconds = seconds
        self._sequence = 1
        try:
            answer = exchange(channel, encode_family_request(self._sequence), seconds)
        except KernelError as error:
            # GETFAMILY of a family that nobody registered (net/netlink/genetlink.c).
            if error.code == errno.ENOENT:
                raise NoFamily from error
            raise
        if not answer:
            raise Garbled("there is no answer")
        self.family = parse_family(answer[0])

    def infos(self) -> list[Info]:
        """What devlink says of all devices."""
        return self._ask(_CMD_INFO_GET, None)

    def handles(self) -> list[Handle]:
        """All devices."""
        return [info.handle for info in self._ask(_CMD_GET, None)]

    def ports(self) -> list[VfPort]:
        """The ports of virtual functions of this host, of all devices."""
        self._sequence += 1
        request = encode_request(self.family, CMD_PORT_GET, self._sequence, None)
        parsed = map(parse_port, exchange(self._channel, request, self._seconds))
        return [port for port in parsed if port is not None]

    def info(self, handle: Handle) -> Info:
        """What devlink says of one device."""
        answer = self._ask(_CMD_INFO_GET, handle)
        if len(answer) != 1 or answer[0].handle != handle:
            raise Garbled("the answer is for another device")
        return answer[0]

    def _ask(self, command: int, handle: Handle | None) -> list[Info]:
        self._sequence += 1
        request = encode_request(self.family, command, self._sequence, handle)
        return [parse_info(message) for message in exchange(self._channel, request, self._seconds)]
