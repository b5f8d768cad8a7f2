# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Texts in little room, of characters that JSON never escapes, and digests of them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib

from nova_devcompat.wire.checks import Malformed

# Raw DEFLATE: what holds it has a digest, so neither a header nor a checksum is needed.
_RAW = -zlib.MAX_WBITS
_LEVEL = 6


def digest(text: str, size: int) -> str:
    """The first characters of a text's SHA-256 in base64url.

    :param size: characters, each of 6 bits
    """
    return to_base64(hashlib.sha256(text.encode()).digest())[:size]


def to_base64(data: bytes) -> str:
    """Bytes in base64url, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64(text: str, place: str) -> bytes:
    """What :func:`to_base64` wrote.

    :raises Malformed: it is no base64url
    """
    try:
        data = text.encode("ascii")
        return base64.b64decode(data + b"=" * (-len(data) % 4), b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise Malformed(place, f"no base64: {error}") from None


def pack(text: str) -> str:
    """An ASCII text, compressed."""
    return to_base64(zlib.compress(text.encode("ascii"), _LEVEL, _RAW))


def unpack(packed: str, place: str, most: int) -> str:
    """What :func:`pack` was given.

    :param most: characters that it may have; no more are ever made of it
    :raises Malformed: it cannot be read, has more, or something comes after it
    """
    try:
        return inflate(from_base64(packed, place), place, most).decode("ascii")
    except UnicodeDecodeError:
        raise Malformed(place, "no ASCII") from None


def inflate(data: bytes, place: str, most: int, *, dictionary: bytes = b"") -> bytes:
    """What was compressed as raw DEFLATE (RFC 1951).

    :param most: bytes that it may have; no more are ever made of it
    :param dictionary: that it was compressed with
    :raises Malformed: it cannot be read, has more, or something comes after it
    """
    reader = zlib.decompressobj(_RAW, zdict=dictionary)
    try:
        found = reader.decompress(data, most + 1)
    except zlib.error as error:
        raise Malformed(place, f"cannot be unpacked: {error}") from None
    if len(found) > most:
        raise Malformed(place, f"more than {most} characters")
    if not reader.eof:
        raise Malformed(place, "cannot be unpacked: its end is missing")
    if reader.unused_data:
        raise Malformed(place, "cannot be unpacked: there is more behind its end")
    return found
