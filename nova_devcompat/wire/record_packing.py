# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Short ASCII texts for long JSON ones, as format 2 of the record has them.

UUIDs become their 16 bytes, the whole is deflated (RFC 1951) with a dictionary of what records
hold, and put in the characters of base 85 (RFC 1924). The dictionary is part of the format: it
never changes.
"""

from __future__ import annotations

import base64
import re
import uuid
import zlib

from nova_devcompat.wire import packing
from nova_devcompat.wire.checks import Malformed

_DICTIONARY = (
    b'"in_migration":"replugged"hidden"host:qemu_machine","need":{"machine_type":["pc-q35-'
    b'","qemu_version":["libvirt_version":["null,true"features":["virtio_net_f_"migration","p2p"],'
    b'"vgpu_type":["nvidia-"ecc_mode":["off"],"vgpu_version":["1"driver_version":["5'
    b'{"devices":[{"address":"","assumed":["caps":["fw_version"],"family":"nvidia_vgpu",'
    b'"need":{"caps":["fw_version":["2"]},"slot":"rc:VGPU"},{"address":"0000:00:00.0",'
    b'"family":"mlx5_vf","need":{"fw_version":["28."]},"slot":"pci:"}],"incarnation":{"node":"compute'
    b'","request":"req-","start":"1@","time":"2026-12-01T00:00:00Z"}}'
)

# A UUID as everybody writes it, and what stands for it: JSON has no such character.
_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MARK = b"\x01"
_MARKED = re.compile(_MARK + b"(.{16})", re.DOTALL)


def pack(text: str) -> str:
    """The short text of a JSON text.

    :param text: ASCII, without control characters
    """
    content = _UUID.sub(
        lambda found: _MARK + uuid.UUID(found[0].decode()).bytes, text.encode("ascii")
    )
    deflate = zlib.compressobj(level=9, wbits=-zlib.MAX_WBITS, memLevel=9, zdict=_DICTIONARY)
    return base64.b85encode(deflate.compress(content) + deflate.flush()).decode()


def unpack(packed: str, limit: int) -> str:
    """The JSON text that was packed, or whatever else somebody put in its place.

    :param limit: characters of it, at most
    :raises Malformed: nothing was packed so, or it is longer
    """
    try:
        data = base64.b85decode(packed)
    except ValueError as error:
        raise Malformed("", f"cannot be unpacked: {error}") from error
    content = packing.inflate(data, "", limit, dictionary=_DICTIONARY)
    content = _MARKED.sub(lambda found: str(uuid.UUID(bytes=found[1])).encode(), content)
    if len(content) > limit:
        raise Malformed("", f"more than {limit} characters")
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        raise Malformed("", f"cannot be unpacked: {error}") from error
