# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The ``devlink`` source: versions of firmware, as drivers report them to the kernel's devlink.

Sources: Documentation/networking/devlink/devlink-info.rst for what fixed, running and stored
mean, and the file of each driver beside it for names; Documentation/netlink/specs/devlink.yaml and
include/uapi/linux/devlink.h for messages, net/devlink/dev.c and netlink.c for when they come.

pyroute2 makes and decodes the messages. The exchange is ours: pyroute2's sockets wait without end,
pass over the error that ends a dump (NLMSG_DONE) and shorten an attribute that ends beyond its
message, which would make another version of a version.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import operator
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from nova_devcompat.compat.device import Device, normalise_address
from nova_devcompat.compat.traits import check_name
from nova_devcompat.sources import sysfs
from nova_devcompat.sources.base import Source, SourceError, SourceOptions
from nova_devcompat.sources.calls import SourceCall, TimedOut, Turns

LOG = logging.getLogger(__name__)

T = TypeVar("T")

_SECONDS = 4.0

_NETLINK_GENERIC = 16
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_GENERIC_HEADER = 4
_NOOP, _ERROR, _DONE, _OVERRUN = 1, 2, 3, 4
_F_REQUEST, _F_MULTI, _F_DUMP_INTERRUPTED, _F_DUMP = 0x1, 0x2, 0x10, 0x300
# The upper bits of an attribute's type are flags (NLA_TYPE_MASK).
_TYPE_MASK = 0x3FFF
_CMD_GET, _CMD_INFO_GET = 1, 51
_VERSIONS = {100: "fixed", 101: "running", 102: "stored"}
# Names of bus, device and driver; name and value of a version.
_TEXTS = frozenset({1, 2, 98, 103, 104})

# The kernel's dumps come in pieces of up to 32 KiB (netlink_recvmsg).
_RECEIVE = 64 * 1024

# A devlink instance without a device: several physical functions share it
# (Documentation/networking/devlink/devlink-shared.rst).
_NO_DEVICE = "devlink_index"

# What a rule asks for, where a device has never said what it has.
_USUAL = ("fw", "fw_version")


class Channel(Protocol):
    """What is needed of a netlink socket."""

    def settimeout(self, seconds: float | None, /) -> None:
        """As of a socket."""

    def send(self, data: bytes, /) -> int:
        """As of a socket."""

    def recv(self, size: int, /) -> bytes:
        """As of a socket."""

    def close(self) -> None:
        """As of a socket."""


class Garbled(Exception):
    """An answer that is not what the kernel sends, or not all of it."""


class Refused(Exception):
    """The kernel's answer is an error.

    :param code: errno
    """

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code))
        self.code = code


# Reading.


def open_socket() -> socket.socket:
    """A generic netlink socket, which needs no privilege.

    :raises OSError: there can be none here
    """
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC)
    try:
        channel.bind((0, 0))
    except BaseException:
        channel.close()
        raise
    return channel


def exchange(channel: Channel, request: bytes, seconds: float) -> list[bytes]:
    """Send a request and wait for the whole answer.

    :param request: as :func:`encode` makes it
    :param seconds: for all of it; the kernel itself may take longer
    :return: the messages in it, each with its header
    :raises Refused: the kernel's answer is an error, or ends in one
    :raises Garbled: some of it cannot be read
    :raises OSError: the socket does not work; TimeoutError if nothing came
    """
    deadline = time.monotonic() + seconds
    sequence = _HEADER.unpack_from(request)[3]
    channel.settimeout(seconds)
    channel.send(request)
    messages: list[bytes] = []
    interrupted = False
    while True:
        channel.settimeout(max(0.001, deadline - time.monotonic()))
        data = channel.recv(_RECEIVE)
        if not data:
            raise Garbled("the answer ends early")
        for kind, flags, number, message in split(data):
            if number != sequence or kind == _NOOP:
                continue
            interrupted = interrupted or bool(flags & _F_DUMP_INTERRUPTED)
            if kind == _OVERRUN:
                raise Garbled("messages were lost")
            if kind in (_ERROR, _DONE):
                code = outcome(message)
                if code:
                    raise Refused(code)
            else:
                messages.append(message)
            if kind in (_ERROR, _DONE) or not flags & _F_MULTI:
                if interrupted:
                    raise Garbled("devices came or went meanwhile")
                return messages


# Parsing.


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages in what a netlink socket received.

    :return: of each its type, flags, sequence number, and the whole of it
    :raises Garbled: one is cut off
    """
    at = 0
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise Garbled("a message is cut off in its header")
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, at)
        if not _HEADER.size <= length <= len(data) - at:
            raise Garbled(f"a message of {length} octets is cut off after {len(data) - at}")
        yield kind, flags, sequence, data[at : at + length]
        at += (length + 3) & ~3


def outcome(message: bytes) -> int:
    """The errno in a message that ends an answer, 0 for success.

    :raises Garbled: it is cut off
    """
    if len(message) < _HEADER.size + 4:
        raise Garbled("the end of an answer is cut off")
    code: int = struct.unpack_from("=i", message, _HEADER.size)[0]
    return abs(code)


def walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The types and contents of attributes.

    :raises Garbled: one does not end where it should
    """
    at = 0
    while at < len(data):
        if len(data) - at < _ATTRIBUTE.size:
            raise Garbled("an attribute is cut off in its header")
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= length <= len(data) - at:
            raise Garbled(f"an attribute of {length} octets is cut off after {len(data) - at}")
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


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
    body = message[_HEADER.size + _GENERIC_HEADER :]
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


def _library() -> Any:
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
    library = _library()
    message = library.ctrlmsg()
    message["cmd"] = library.CTRL_CMD_GETFAMILY
    message["version"] = 1
    message["attrs"] = [("CTRL_ATTR_FAMILY_NAME", "devlink")]
    return _encode(message, library.GENL_ID_CTRL, sequence, _F_REQUEST)


def encode_request(family: int, command: int, sequence: int, handle: Handle | None) -> bytes:
    """Ask for a device, or for all.

    :param command: number of a DEVLINK_CMD
    """
    message = _library().devlink.devlinkcmd()
    message["cmd"] = command
    message["version"] = 1
    if handle is None:
        return _encode(message, family, sequence, _F_REQUEST | _F_DUMP)
    message["attrs"] = [
        ("DEVLINK_ATTR_BUS_NAME", handle.bus),
        ("DEVLINK_ATTR_DEV_NAME", handle.device),
    ]
    return _encode(message, family, sequence, _F_REQUEST)


def _encode(message: Any, kind: int, sequence: int, flags: int) -> bytes:
    message["header"].update(type=kind, flags=flags, sequence_number=sequence, pid=0)
    message.encode()
    return bytes(message.data)


def _decode(message: bytes, *, control: bool = False) -> Any:
    library = _library()
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
    body = message[_HEADER.size + _GENERIC_HEADER :]
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
        except Refused as error:
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


# Deciding.


def facts_of(info: Info) -> sysfs.Facts:
    """Attributes of what devlink says: see :class:`DevlinkSource`."""
    facts = sysfs.Facts()
    if info.driver:
        facts.attributes["driver"] = info.driver
    # A name that is both fixed and running is what runs.
    for group, suffix in (("fixed", ""), ("running", ""), ("stored", "_stored")):
        facts.add(_facts_of_group(info, group, suffix))
    for name, stored in info.versions["stored"].items():
        running = info.versions["running"].get(name)
        doubtful = {("running", name), ("stored", name)} & info.doubtful.keys()
        if running is not None and running != stored and not doubtful:
            with contextlib.suppress(ValueError):
                facts.attributes[attribute_name(name) + "_pending"] = stored
    return facts


def _facts_of_group(info: Info, group: str, suffix: str) -> sysfs.Facts:
    facts = sysfs.Facts()
    names: dict[str, str] = {}
    doubtful = {name: why for (of, name), why in info.doubtful.items() if of == group}
    for name in {**info.versions[group], **doubtful}:
        try:
            attribute = attribute_name(name) + suffix
        except ValueError:
            LOG.debug("%s: version %r becomes no attribute", info.handle, name)
            continue
        first = names.setdefault(attribute, name)
        if first != name:
            facts.attributes.pop(attribute, None)
            facts.problems[attribute] = (
                f"devlink reports {first!r} and {name!r}, which would be one attribute"
            )
        elif name in doubtful:
            facts.problems[attribute] = (
                f"devlink's {group} version {name!r} {doubtful[name]}; look at its driver"
            )
        else:
            facts.attributes[attribute] = info.versions[group][name]
    return facts


def pending(facts: sysfs.Facts) -> dict[str, str]:
    """Versions that the next reset activates, by attribute."""
    return {
        name.removesuffix("_pending"): str(value)
        for name, value in facts.attributes.items()
        if name.endswith("_pending")
    }


class DevlinkSource(Source):
    """Reads versions from the kernel's devlink, which needs no privilege.

    Devices of PCI have their address, others devlink's handle (``auxiliary/mlx5_core.sf.2``). A
    virtual function whose parent is there is not listed: its parent is. Only instances in the
    network namespace of the process are seen. Attributes, all text:

    - for each *fixed* or *running* version one of its name, with ``_`` for what is no letter or
      digit: ``fw.version`` is ``fw_version``, ``fw.psid`` is ``fw_psid``
    - for each *stored* version ``<name>_stored``; ``<name>_pending`` too where it is not the one
      that runs: the next reset activates it
    - ``driver``: its driver
    - of PCI devices what identifies them, as :class:`nova_devcompat.sources.sysfs.SysfsSource` has
      it, so that a catalog can match them

    One request asks for all devices. If that fails or hangs (the kernel holds a device's lock
    while its firmware is flashed), each is asked on its own, so that the others are read.

    :param connect: opens a netlink socket
    :param root: where sysfs is mounted, if not where the options say
    :param seconds: how long :meth:`read` may take
    """

    name = "devlink"

    def __init__(
        self,
        options: SourceOptions,
        *,
        connect: Callable[[], Channel] = open_socket,
        root: str | os.PathLike[str] | None = None,
        seconds: float = _SECONDS,
    ) -> None:
        super().__init__(options)
        self._connect = connect
        self._seconds = seconds
        self._turns = Turns(self.name, seconds)
        self._all = SourceCall(self.name, seconds / 2)
        self._sysfs = SourceCall(self.name, seconds / 8)
        self._each: dict[Handle, SourceCall] = {}
        self._identities = sysfs.Identities(root or options.sysfs_root)
        # What each device said when it last did.
        self._known: dict[Handle, sysfs.Facts] = {}
        self._told: dict[str, str] = {}

    def check(self) -> None:
        """Look whether the kernel answers. That it has no devlink is no mistake.

        :raises SourceError: it cannot be asked
        """
        _library()
        with self._turns.turn(), contextlib.suppress(NoFamily):
            self._ask(self._all, lambda conversation: conversation.family)

    def read(self, host: str) -> Sequence[Device]:
        """The devices of this host; none where the kernel has no devlink.

        :param host: of no concern: it is always this one
        :raises SourceError: nothing can be told
        """
        _library()
        with self._turns.turn():
            return self._devices(self._answers(time.monotonic() + self._seconds * 7 / 8))

    def _answers(self, deadline: float) -> dict[Handle, Info | str]:
        """What devlink says of each device, or why it says nothing."""
        try:
            infos = self._ask(self._all, Conversation.infos)
        except NoFamily:
            if not self._told.get("family"):
                LOG.info("This kernel has no devlink, so source 'devlink' finds no devices")
            self._told["family"] = "none"
            return {}
        except SourceError as error:
            return self._one_by_one(error, deadline)
        self._told.pop("family", None)
        self._tell("devlink's answer for all devices", "")
        self._each.clear()
        return {info.handle: info for info in infos}

    def _one_by_one(self, problem: SourceError, deadline: float) -> dict[Handle, Info | str]:
        handles = list(self._known)
        if not isinstance(problem, TimedOut):
            # With what hangs, a list would hang too.
            with contextlib.suppress(SourceError, NoFamily):
                handles = self._ask(self._all, Conversation.handles)
        answers: dict[Handle, Info | str] = {}
        for handle in handles:
            call = self._each.get(handle)
            if call is None or not call.stuck:
                left = max(0.0, deadline - time.monotonic())
                call = self._each[handle] = SourceCall(self.name, min(left, self._seconds / 8))
            try:
                answers[handle] = self._ask(call, operator.methodcaller("info", handle))
            except _Passed:
                continue
            except (SourceError, NoFamily) as error:
                answers[handle] = str(error) or "there is no devlink any more"
        if not any(isinstance(answer, Info) for answer in answers.values()):
            raise problem
        self._tell("devlink's answer for all devices", f"{problem}; each is asked on its own")
        return answers

    def _ask(self, call: SourceCall, question: Callable[[Conversation], T]) -> T:
        def run() -> T:
            # Less than the bound around it, so that a lost answer leaves no thread behind.
            with contextlib.closing(self._connect()) as channel:
                return question(Conversation(channel, call.seconds * 0.4))

        try:
            return call.call(run)
        except Refused as error:
            if error.code in (errno.ENODEV, errno.EOPNOTSUPP):
                raise _Passed(str(error)) from error
            raise SourceError(
                f"devlink refuses to answer: {error}; look at the device's driver in dmesg, and "
                "whether the service may use netlink"
            ) from error
        except Garbled as error:
            raise SourceError(f"devlink's answer cannot be used: {error}") from error
        except TimeoutError as error:
            raise TimedOut("devlink gives no answer; look at its devices in dmesg") from error
        except OSError as error:
            raise SourceError(
                f"devlink cannot be asked: {error}; let the service use netlink sockets"
            ) from error

    def _devices(self, answers: Mapping[Handle, Info | str]) -> list[Device]:
        identities = self._identify(answers)
        known: dict[Handle, sysfs.Facts] = {}
        found: list[Device] = []
        for handle in sorted(answers, key=str):
            answer = answers[handle]
            problem = answer if isinstance(answer, str) else ""
            identity: sysfs.Facts | None = sysfs.Facts()
            if handle.bus == "pci":
                identity = identities.get(handle.device, identity)
            if identity is None or handle.bus == _NO_DEVICE:
                continue
            if isinstance(answer, Info):
                said = known[handle] = facts_of(answer)
            else:
                before = self._known.get(handle)
                if before is not None:
                    known[handle] = before
                said = _silent(before, answer)
            facts = sysfs.Facts()
            facts.add(identity)
            facts.add(said)
            self._tell(f"devlink's answer for {handle}", problem)
            if not problem:
                self._tell_pending(handle, pending(said))
            found.append(Device(handle.address, facts.attributes, problems=facts.problems))
        self._known = known
        return found

    def _identify(self, handles: Iterable[Handle]) -> Mapping[str, sysfs.Facts | None]:
        addresses = [handle.device for handle in handles if handle.bus == "pci"]
        try:
            return self._sysfs.call(lambda: self._identities.read(addresses))
        except SourceError as error:
            problem = {name: str(error) for name in ("vendor_id", "product_id")}
            return {address: sysfs.Facts(problems=problem) for address in addresses}

    def _tell(self, what: str, problem: str) -> None:
        """One WARNING when a problem appears, one INFO when it has gone."""
        if problem and what not in self._told:
            LOG.warning("%s: %s", what, problem)
            self._told[what] = problem
        elif not problem and what in self._told:
            del self._told[what]
            LOG.info("%s: can be used again", what)

    def _tell_pending(self, handle: Handle, versions: Mapping[str, str]) -> None:
        what = f"pending {handle}"
        text = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        if text == self._told.get(what, ""):
            return
        if text:
            self._told[what] = text
            LOG.warning(
                "%s has stored versions that do not run yet: %s. The next reset activates them, "
                "and changes which guests the device accepts",
                handle,
                text,
            )
        else:
            del self._told[what]
            LOG.info("%s runs the versions that it has stored", handle)


class _Passed(SourceError):
    """A device that has gone, or whose driver says nothing."""


def _silent(before: sysfs.Facts | None, problem: str) -> sysfs.Facts:
    """Of a device that gives no answer: what it would have, as problems."""
    if before is None:
        return sysfs.Facts(problems=dict.fromkeys(_USUAL, problem))
    names = {*before.attributes, *before.problems} - {"driver"}
    facts = sysfs.Facts(problems=dict.fromkeys(sorted(names), problem))
    if "driver" in before.attributes:
        facts.attributes["driver"] = before.attributes["driver"]
    return facts
