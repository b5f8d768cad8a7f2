# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Exchanges over a netlink socket, and what every message of it has.

pyroute2's sockets wait without end, pass over the error that ends a dump (NLMSG_DONE) and shorten
an attribute that ends beyond its message, which would make another version of a version.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Protocol

_NETLINK_GENERIC = 16
HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
GENERIC_HEADER = 4
_NOOP, _ERROR, _DONE, _OVERRUN = 1, 2, 3, 4
F_REQUEST, _F_MULTI, _F_DUMP_INTERRUPTED, F_DUMP = 0x1, 0x2, 0x10, 0x300
# The upper bits of an attribute's type are flags (NLA_TYPE_MASK).
_TYPE_MASK = 0x3FFF


# The kernel's dumps come in pieces of up to 32 KiB (netlink_recvmsg).
_RECEIVE = 64 * 1024


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


class KernelError(Exception):
    """The kernel's answer is an error.

    :param code: errno
    """

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code))
        self.code = code


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
    :raises KernelError: the kernel's answer is an error, or ends in one
    :raises Garbled: some of it cannot be read
    :raises OSError: the socket does not work; TimeoutError if nothing came
    """
    deadline = time.monotonic() + seconds
    sequence = HEADER.unpack_from(request)[3]
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
                    raise KernelError(code)
            else:
                messages.append(message)
            if kind in (_ERROR, _DONE) or not flags & _F_MULTI:
                if interrupted:
                    raise Garbled("devices came or went meanwhile")
                return messages


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages in what a netlink socket received.

    :return: of each its type, flags, sequence number, and the whole of it
    :raises Garbled: one is cut off
    """
    at = 0
    while at < len(data):
        if len(data) - at < HEADER.size:
            raise Garbled("a message is cut off in its header")
        length, kind, flags, sequence, _port = HEADER.unpack_from(data, at)
        if not HEADER.size <= length <= len(data) - at:
            raise Garbled(f"a message of {length} octets is cut off after {len(data) - at}")
        yield kind, flags, sequence, data[at : at + length]
        at += (length + 3) & ~3


def outcome(message: bytes) -> int:
    """The errno in a message that ends an answer, 0 for success.

    :raises Garbled: it is cut off
    """
    if len(message) < HEADER.size + 4:
        raise Garbled("the end of an answer is cut off")
    code: int = struct.unpack_from("=i", message, HEADER.size)[0]
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
