# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The record of an instance's need, in ``instance.system_metadata``."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping

from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.wire.checks import text_of, texts_of
from nova_devcompat.wire.versions import WireError, dumps, guarded, reader_of

#: The version that is written; what is read, :data:`RECORD_READERS` says.
RECORD_VERSION = 1

#: All keys of ours in ``instance.system_metadata`` begin with this.
METADATA_PREFIX = "devcompat:"

# nova/db/main/models.py: InstanceSystemMetadata.value is a String(255).
_METADATA_SIZE = 255
_RECORD_KEY = METADATA_PREFIX + "need"


def is_record_key(key: str) -> bool:
    """Whether a key of ``system_metadata`` belongs to the record."""
    return key == _RECORD_KEY or key.startswith(_RECORD_KEY + ".")


def dump_record(need: Need) -> dict[str, str]:
    """The entries of ``system_metadata`` that hold a need; none for a need without devices.

    Values are at most 255 characters, so the record is cut in pieces. The first begins with the
    format version, the number of pieces and a checksum, so that pieces of two records, or a part
    of one, are told from a whole one.
    """
    if not need.devices:
        return {}
    payload = dumps(
        {
            "devices": [
                {
                    "family": device.family,
                    "slot": device.slot,
                    "address": device.address,
                    "need": {
                        attribute: None if values is None else sorted(values)
                        for attribute, values in device.values
                    },
                    **({"assumed": sorted(device.assumed)} if device.assumed else {}),
                }
                for device in need.devices
            ]
        }
    )
    checksum = format(zlib.crc32(payload.encode()), "08x")
    count = 1
    while True:
        header = f"{RECORD_VERSION} {count} {checksum} "
        text = header + payload
        pieces = [text[at : at + _METADATA_SIZE] for at in range(0, len(text), _METADATA_SIZE)]
        if len(pieces) == count:
            break
        count = len(pieces)
    return {_record_key(index): piece for index, piece in enumerate(pieces)}


def load_record(system_metadata: Mapping[str, str | None]) -> Need | None:
    """The need that ``system_metadata`` holds; None where there is no record.

    :raises WireError: there is one, but it cannot be read
    """
    if not any(is_record_key(key) for key in system_metadata):
        return None
    return guarded("record", lambda: _load_record(system_metadata))


def _record_key(index: int) -> str:
    return f"{_RECORD_KEY}.{index}" if index else _RECORD_KEY


def _load_record(system_metadata: Mapping[str, str | None]) -> Need:
    first = system_metadata.get(_RECORD_KEY)
    if not first:
        raise WireError("record", f"its first piece, {_RECORD_KEY}, is missing")
    version, _, rest = first.partition(" ")
    number = int(version) if version.isdecimal() else version
    return reader_of("record", number, RECORD_READERS)(rest, system_metadata)


def _load_record_1(rest: str, system_metadata: Mapping[str, str | None]) -> Need:
    """Format 1: the number of pieces, a checksum and JSON.

    :param rest: the first piece without the version
    """
    count, checksum, payload = rest.split(" ", 2)
    pieces = [payload]
    for index in range(1, int(count)):
        piece = system_metadata.get(_record_key(index))
        if piece is None:
            raise WireError("record", f"piece {index + 1} of {count} is missing")
        pieces.append(piece)
    payload = "".join(pieces)
    if format(zlib.crc32(payload.encode()), "08x") != checksum:
        raise WireError("record", "its checksum does not match")
    return Need(
        devices=tuple(
            DeviceNeed.of(
                device["family"],
                {
                    attribute: None if values is None else [text_of(value) for value in values]
                    for attribute, values in device["need"].items()
                },
                slot=text_of(device["slot"], empty=True),
                address=text_of(device["address"], empty=True),
                assumed=texts_of(device.get("assumed", ())),
            )
            for device in json.loads(payload)["devices"]
        )
    )


#: By version. A reader takes the first piece without the version, and all of system_metadata.
RECORD_READERS: dict[int, Callable[[str, Mapping[str, str | None]], Need]] = {1: _load_record_1}
