# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The record of an instance's need, in ``instance.system_metadata``."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nova_devcompat.compat.need import DeviceNeed, InMigration, Need
from nova_devcompat.compat.record import Incarnation, Record
from nova_devcompat.kit.text import is_printable
from nova_devcompat.wire import checks, record_packing
from nova_devcompat.wire.checks import Malformed
from nova_devcompat.wire.versions import WireError, reader_of

#: The version that is written unless another is asked for; what is read, :data:`RECORD_READERS`
#: says.
RECORD_VERSION = 1

#: All keys of ours in ``instance.system_metadata`` begin with this.
METADATA_PREFIX = "devcompat:"

# nova/db/main/models.py: InstanceSystemMetadata.value is a String(255).
_METADATA_SIZE = 255
_RECORD_KEY = METADATA_PREFIX + "need"

# The longest record met has 55 pieces in format 1, and 4 in format 2: 8 devices of 60 features.
_MOST_PIECES = 1_024
# Of the JSON text, in any format.
_MOST_CHARACTERS = _MOST_PIECES * _METADATA_SIZE


def is_record_key(key: str) -> bool:
    """Whether a key of ``system_metadata`` belongs to the record."""
    return key == _RECORD_KEY or key.startswith(_RECORD_KEY + ".")


def dump_record(
    need: Need, incarnation: Incarnation | None = None, version: int = RECORD_VERSION
) -> dict[str, str]:
    """The entries of ``system_metadata`` that hold a record.

    :param version: the format, one of :data:`RECORD_READERS`

    A need without devices is a record too: the guest needs nothing, which is not the same as that
    nothing is known of it.

    Values are at most 255 characters, so the record is cut in pieces. The first begins with the
    format version, the number of pieces and a checksum, so that pieces of two records, or a part
    of one, are told from a whole one.
    """
    # ASCII, because MySQL's utf8mb3 has no room for characters beyond the basic plane.
    content: dict[str, Any] = {"devices": [_dump_device(device) for device in need.devices]}
    if incarnation is not None:
        content["incarnation"] = _dump_incarnation(incarnation)
    payload = json.dumps(content, separators=(",", ":"), sort_keys=True)
    if version > 1:
        payload = record_packing.pack(payload)
    checksum = format(zlib.crc32(payload.encode()), "08x")
    count = 1
    while True:
        text = f"{version} {count} {checksum} {payload}"
        pieces = [text[at : at + _METADATA_SIZE] for at in range(0, len(text), _METADATA_SIZE)]
        if len(pieces) == count:
            break
        count = len(pieces)
    return {_record_key(index): piece for index, piece in enumerate(pieces)}


def _dump_device(device: DeviceNeed) -> dict[str, Any]:
    values = {attribute: _fit_values(listed) for attribute, listed in device.values}
    dumped: dict[str, Any] = {
        "family": device.family,
        "slot": checks.fit_address(device.slot),
        "address": checks.fit_address(device.address),
        "need": values,
    }
    if device.assumed:
        dumped["assumed"] = sorted(device.assumed)
    if device.in_migration is not InMigration.STAYS:
        dumped["in_migration"] = device.in_migration.value
    return dumped


def _dump_incarnation(incarnation: Incarnation) -> dict[str, str]:
    return {
        name: checks.fit_address(text)
        for name, text in dataclasses.asdict(incarnation).items()
        if text
    }


def _fit_values(values: Iterable[str] | None) -> list[str] | None:
    """Values as readers take them; a need that cannot be written is one that is not known."""
    if values is None or not all(map(is_printable, values)):
        return None
    return sorted(values)


def same_record(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether the same is recorded in both, in whatever formats, and nothing is there besides.

    :param one: entries of ``system_metadata`` whose keys are those of records; so is the other
    """
    try:
        return all(map(_has_no_more, (one, other))) and load_whole_record(
            one
        ) == load_whole_record(other)
    except WireError:
        return False


def _has_no_more(entries: Mapping[str, str]) -> bool:
    """Whether there are as many pieces as the first one says."""
    parts = entries.get(_RECORD_KEY, "").split(" ", 2)
    return len(parts) > 1 and parts[1] == str(len(entries))


def load_record(system_metadata: Mapping[str, str | None]) -> Need | None:
    """The need that ``system_metadata`` holds; None where there is no record.

    :raises WireError: there is one, but it cannot be read
    """
    record = load_whole_record(system_metadata)
    return None if record is None else record.need


def load_whole_record(system_metadata: Mapping[str, str | None]) -> Record | None:
    """The record that ``system_metadata`` holds; None where there is none.

    :raises WireError: there is one, but it cannot be read
    """
    if not any(is_record_key(key) for key in system_metadata):
        return None
    try:
        return _load_record(system_metadata)
    except Malformed as error:
        raise WireError("record", f"malformed: {error}") from error


def _record_key(index: int) -> str:
    return f"{_RECORD_KEY}.{index}" if index else _RECORD_KEY


def _load_record(system_metadata: Mapping[str, str | None]) -> Record:
    first = system_metadata.get(_RECORD_KEY)
    if not first:
        raise WireError("record", f"its first piece, {_RECORD_KEY}, is missing")
    version, _, rest = first.partition(" ")
    number = int(version) if _is_number(version) else version
    return reader_of("record", number, RECORD_READERS)(rest, system_metadata)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 4


def _load_record_1(rest: str, system_metadata: Mapping[str, str | None]) -> Record:
    """Format 1: the number of pieces, a checksum and JSON.

    :param rest: the first piece without the version
    """
    return _load_content(_payload(rest, system_metadata))


def _load_record_2(rest: str, system_metadata: Mapping[str, str | None]) -> Record:
    """Format 2: the number of pieces, a checksum, and the JSON of format 1, packed.

    :param rest: the first piece without the version
    """
    return _load_content(record_packing.unpack(_payload(rest, system_metadata), _MOST_CHARACTERS))


def _payload(rest: str, system_metadata: Mapping[str, str | None]) -> str:
    """What all pieces hold behind the number of them and the checksum, which is right."""
    head = rest.split(" ", 2)
    if len(head) < 3 or not _is_number(head[0]) or int(head[0]) > _MOST_PIECES:
        raise Malformed("its first piece", "no number of pieces, checksum and content")
    count, checksum, payload = head
    pieces = [payload]
    for index in range(1, int(count)):
        piece = system_metadata.get(_record_key(index))
        if piece is None:
            raise WireError("record", f"piece {index + 1} of {count} is missing")
        pieces.append(piece)
    payload = "".join(pieces)
    if format(zlib.crc32(payload.encode(errors="surrogatepass")), "08x") != checksum:
        raise WireError("record", "its checksum does not match")
    return payload


def _load_content(text: str) -> Record:
    content = checks.object_of(checks.parse(text, _MOST_CHARACTERS), "")
    devices = checks.list_of(checks.member(content, "devices", ""), "devices", checks.MOST_DEVICES)
    need = Need(
        devices=tuple(
            _load_device(device, f"devices[{index}]") for index, device in enumerate(devices)
        )
    )
    return Record(need=need, incarnation=_load_incarnation(content.get("incarnation")))


def _load_incarnation(content: object) -> Incarnation | None:
    if content is None:
        return None
    place = "incarnation"
    told = checks.object_of(content, place)
    node = checks.address_of(checks.member(told, "node", place), f"{place}.node")
    if not node:
        raise Malformed(f"{place}.node", "an empty text")
    return Incarnation(
        node=node,
        start=checks.address_of(told.get("start", ""), f"{place}.start"),
        time=checks.address_of(told.get("time", ""), f"{place}.time"),
        request=checks.address_of(told.get("request", ""), f"{place}.request"),
    )


def _load_device(content: object, place: str) -> DeviceNeed:
    device = checks.object_of(content, place)
    need = checks.mapping_of(
        checks.member(device, "need", place), f"{place}.need", checks.MOST_ATTRIBUTES
    )
    values = {
        checks.name_of(attribute, f"{place}.need"): None
        if listed is None
        else checks.texts_of(listed, f"{place}.need.{attribute}")
        for attribute, listed in need.items()
    }
    assumed = checks.texts_of(device.get("assumed", []), f"{place}.assumed")
    if not values.keys() >= set(assumed):
        raise Malformed(f"{place}.assumed", "an attribute that is not needed")
    return DeviceNeed.of(
        checks.name_of(checks.member(device, "family", place), f"{place}.family"),
        values,
        slot=checks.address_of(checks.member(device, "slot", place), f"{place}.slot"),
        address=checks.address_of(checks.member(device, "address", place), f"{place}.address"),
        assumed=assumed,
        in_migration=_load_in_migration(device.get("in_migration")),
    )


def _load_in_migration(value: object) -> InMigration:
    """Whatever is not known, as what a later release may write, asks for most."""
    known = {one.value: one for one in InMigration}
    return known.get(value, InMigration.STAYS) if isinstance(value, str) else InMigration.STAYS


#: By version. A reader takes the first piece without the version, and all of system_metadata.
RECORD_READERS: dict[int, Callable[[str, Mapping[str, str | None]], Record]] = {
    1: _load_record_1,
    2: _load_record_2,
}
