# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What one process writes and another reads: instance records and stats documents.

Both are JSON with a format version. A table has a reader for each version that is read, the last
and the one before; any other raises :class:`WireError`, which callers turn into UNKNOWN. A release
that brings a version reads it, and goes on writing the one before; a later one writes it, once
everybody reads it (doc/source/support.rst). Keys within a version are never given another meaning;
unknown keys are passed over, so that a later release can add some.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from nova_devcompat.compat.accepts import Accepts, AcceptSet
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.verdict import Actor

#: Versions that are written; what is read, :data:`RECORD_READERS` and :data:`STATS_READERS` say.
RECORD_VERSION = 1
STATS_VERSION = 1

#: All keys of ours in ``instance.system_metadata`` begin with this.
METADATA_PREFIX = "devcompat:"
#: The key of ours in ``compute_nodes.stats``.
STATS_KEY = "devcompat"

# nova/db/main/models.py: InstanceSystemMetadata.value is a String(255).
_METADATA_SIZE = 255
_RECORD_KEY = METADATA_PREFIX + "need"

# nova/db/main/models.py: ComputeNode.stats is a Text, 64 KiB on MySQL, shared with Nova's keys.
STATS_LIMIT = 60_000
_OFFERED_SIZE = 80

T = TypeVar("T")


class WireError(ValueError):
    """A record or a document that cannot be read.

    :param what: ``record`` or ``stats document``
    :param why: what is wrong with it
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.why = why


class StatsTooLong(ValueError):
    """A stats document that the database would not take."""


def _dumps(value: object) -> str:
    # ASCII, because MySQL's utf8mb3 has no room for characters beyond the basic plane.
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=True)


def _guarded(what: str, read: Callable[[], T]) -> T:
    """Run a reader; whatever a malformed input makes it raise becomes a WireError."""
    try:
        return read()
    except WireError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise WireError(what, f"malformed: {type(error).__name__}: {error}") from error


def reader_of(what: str, version: object, readers: Mapping[int, T]) -> T:
    """The reader of a format.

    :param version: as it was written, a number if all is well
    :param readers: by version, without gaps
    :raises WireError: it is newer or older than all that are read, or no version at all
    """
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise WireError(what, f"no format version that is known: {str(version)[:40]!r}")
    if version in readers:
        return readers[version]
    read = " and ".join(map(str, sorted(readers)))
    if version > max(readers):
        raise WireError(
            what,
            f"written in format {version} by a newer nova-devcompat; this one reads {read}: "
            "upgrade it here",
        )
    raise WireError(
        what,
        f"written in format {version} by an older nova-devcompat; this one reads {read}: "
        "it has to be written anew",
    )


# --- the record of an instance's need -----------------------------------------------------------


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
    payload = _dumps(
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
    return _guarded("record", lambda: _load_record(system_metadata))


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
                    attribute: None if values is None else [_text(value) for value in values]
                    for attribute, values in device["need"].items()
                },
                slot=_text(device["slot"], empty=True),
                address=_text(device["address"], empty=True),
                assumed=_texts(device.get("assumed", ())),
            )
            for device in json.loads(payload)["devices"]
        )
    )


#: By version. A reader takes the first piece without the version, and all of system_metadata.
RECORD_READERS: dict[int, Callable[[str, Mapping[str, str | None]], Need]] = {1: _load_record_1}


def _text(value: object, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or empty):
        raise TypeError(f"{value!r} where a text is expected")
    return value


# --- the stats document of a host ---------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PublishedDevice:
    """What a host says of one device.

    :param address: the device's address, or that of the parent whose functions are assigned
    :param accepts: its accept-set
    :param providers: UUIDs of the resource providers that stand for it; empty where placement
        does not track it, or the host does not know yet
    """

    address: str
    accepts: AcceptSet
    providers: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """Name of its family."""
        return self.accepts.family

    def freeze(self, *, slot: str, address: str, pin: DeviceNeed | None) -> DeviceNeed:
        """The need of a guest whose device is initialised now."""
        return self.accepts.freeze(slot=slot, address=address, pin=pin)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HostDocument:
    """What a host says of its devices, in ``compute_nodes.stats``.

    :param catalog: digest of the catalog it was made with
    :param devices: its devices that belong to a family
    :param whole: whether these are all the devices that placement can allocate on the host, so
        that a candidate can take no other
    :param host: the parts of the host itself that belong to a host family, one for each
    """

    catalog: str
    devices: tuple[PublishedDevice, ...]
    whole: bool = False
    host: tuple[PublishedDevice, ...] = ()
    #: Accept-sets of host families.
    by_family: Mapping[str, AcceptSet] = dataclasses.field(init=False, compare=False)
    #: Accept-sets by resource provider.
    by_provider: Mapping[str, AcceptSet] = dataclasses.field(init=False, compare=False)
    #: What documents share where all devices of all these hosts accept the same, placement knows
    #: them all or none of them, and the documents are whole; None for other documents, and for one
    #: that no reader read. It stands in the text at :data:`SHAPE`.
    shape: str | None = dataclasses.field(default=None, compare=False)
    #: A number that documents of one reader share that are whole or not alike and name the same
    #: accept-sets, whichever and however many devices have them; None as above. No other reader
    #: uses it.
    kin: int | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        by_provider = {
            provider: device.accepts for device in self.devices for provider in device.providers
        }
        object.__setattr__(self, "by_provider", by_provider)
        by_family = {part.family: part.accepts for part in self.host}
        object.__setattr__(self, "by_family", by_family)


def dump_stats(document: HostDocument) -> str:
    """The text of a stats document: the same for the same content, so that nothing is written
    where nothing changed.

    Devices that accept the same are written once, with the addresses and providers of each.

    :raises StatsTooLong: over 60,000 bytes
    """
    groups: dict[str, dict[str, Any]] = {}
    listed = [(device, False) for device in document.devices]
    listed += [(part, True) for part in document.host]
    for device, of_host in sorted(listed, key=lambda item: item[0].address):
        body: dict[str, Any] = {"f": device.accepts.family, "r": _dump_accepts(device.accepts)}
        if of_host:
            body["h"] = True
        group = groups.setdefault(_dumps(body), {**body, "d": {}})
        group["d"][device.address] = sorted(device.providers)
    content: dict[str, Any] = {
        "v": STATS_VERSION,
        "c": document.catalog,
        "w": document.whole,
        "g": list(groups.values()),
    }
    shape = _shape_of(content["g"], STATS_VERSION) if document.whole else None
    if shape is not None:
        content["a"] = shape  # first of the sorted keys
    text = _dumps(content)
    if len(text) > STATS_LIMIT:
        raise StatsTooLong(
            f"the stats document has {len(text)} bytes, {STATS_LIMIT} are allowed: "
            f"{len(document.devices)} devices in {len(groups)} unlike groups"
        )
    return text


#: Where a text that has a shape has it. Nova makes new copies of all texts for each request, and
#: to look up the whole of each in a dict would take longer than all else that is done for a host.
SHAPE = slice(len('{"a":"'), len('{"a":"') + 16)


def _shape_of(groups: Sequence[Mapping[str, Any]], version: int) -> str | None:
    """A digest of all that decides, None where devices differ."""
    devices = [group for group in groups if not group.get("h")]
    host = sorted(_dumps([group["f"], group["r"]]) for group in groups if group.get("h"))
    if not groups or len(devices) > 1:
        return None
    decides: list[Any] = [version]
    for group in devices:
        placed = {bool(providers) for providers in group["d"].values()}
        if len(placed) != 1:
            return None
        decides += [group["f"], group["r"], *placed]
    text = _dumps([*decides, host] if host else decides)
    return hashlib.sha256(text.encode()).hexdigest()[: SHAPE.stop - SHAPE.start]


def _dump_accepts(accepts: AcceptSet) -> dict[str, Any]:
    return {name: _dump_attribute(entry) for name, entry in accepts.attributes.items()}


def _dump_attribute(accepts: Accepts) -> dict[str, Any]:
    entry: dict[str, Any] = {"k": accepts.kind}
    if accepts.unknown:
        code, detail = accepts.unknown
        entry["u"] = [code, detail[:_OFFERED_SIZE]]
        return entry
    offered = accepts.offered
    if len(offered) > _OFFERED_SIZE:
        offered = offered[: _OFFERED_SIZE - 3] + "..."
    entry["o"] = offered
    if accepts.frozen is not None:
        entry["z"] = sorted(accepts.frozen)
    if accepts.accepted:
        entry["y"] = sorted(accepts.accepted)
    refused: dict[str, list[str]] = {}
    for value, (code, actor) in sorted(accepts.rejected.items()):
        refused.setdefault(f"{code} {actor}", []).append(value)
    if refused:
        entry["n"] = refused
    return entry


# One for the whole process: a number can be remembered without saying whose it is.
_numbers = itertools.count(1)


class StatsReader:
    """Reads stats documents, and remembers what it has read.

    Nova keeps a host's stats as the same text until they change, so a text is parsed once. Hosts
    that accept the same share one :class:`AcceptSet` object, so that a verdict on it is computed
    once for all of them. Safe for use by several threads.

    :param limit: how many documents are remembered
    """

    def __init__(self, limit: int = 50_000) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._documents: dict[str, HostDocument | WireError] = {}
        self._accept_sets: dict[str, tuple[int, AcceptSet]] = {}
        self._kins: dict[tuple[bool, tuple[tuple[int, bool], ...]], int] = {}

    def read(self, text: str) -> HostDocument | WireError:
        """The document, or what is wrong with it. Never raises for what the text holds."""
        known = self._documents.get(text)
        if known is not None:
            return known
        read: HostDocument | WireError
        with self._lock:
            if len(self._documents) >= self._limit:
                self._documents.clear()
                self._accept_sets.clear()
                self._kins.clear()
            try:
                read = _guarded("stats document", lambda: self._parse(text))
            except WireError as error:
                read = error
            self._documents[text] = read
        return read

    def _parse(self, text: str) -> HostDocument:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise WireError("stats document", "is not a mapping")
        return reader_of("stats document", content.get("v"), STATS_READERS)(self, content, text)

    def _parse_1(self, content: Mapping[str, Any], text: str) -> HostDocument:
        """Format 1: devices that accept the same are a group."""
        devices: list[PublishedDevice] = []
        host: list[PublishedDevice] = []
        # Accept-sets, and whether placement knows devices that have them, in order.
        named: dict[tuple[int, bool], None] = {}
        for group in content["g"]:
            key = _dumps([group["f"], group["r"]])
            if key not in self._accept_sets:
                self._accept_sets[key] = (next(_numbers), _load_accepts(group))
            number, accepts = self._accept_sets[key]
            named.update(dict.fromkeys((number, bool(placed)) for placed in group["d"].values()))
            (host if group.get("h") else devices).extend(
                PublishedDevice(
                    address=_text(address, empty=True),
                    accepts=accepts,
                    providers=tuple(_text(provider) for provider in providers),
                )
                for address, providers in group["d"].items()
            )
        whole = content.get("w") is True
        shape = _shape_of(content["g"], 1) if whole else None
        return HostDocument(
            catalog=_text(content["c"], empty=True),
            devices=tuple(devices),
            whole=whole,
            host=tuple(host),
            shape=shape if shape == text[SHAPE] else None,
            kin=self._kins.setdefault((whole, tuple(named)), next(_numbers)),
        )


#: By version. A reader takes the document, and the text that it was parsed from.
STATS_READERS: dict[int, Callable[[StatsReader, Mapping[str, Any], str], HostDocument]] = {
    1: StatsReader._parse_1
}


def load_stats(text: str) -> HostDocument:
    """The document that :func:`dump_stats` wrote.

    :raises WireError: it cannot be read
    """
    read = StatsReader().read(text)
    if isinstance(read, WireError):
        raise read
    return read


def _load_accepts(group: Mapping[str, Any]) -> AcceptSet:
    return AcceptSet(
        family=_text(group["f"]),
        attributes={_text(name): _load_attribute(entry) for name, entry in group["r"].items()},
    )


def _load_attribute(entry: Mapping[str, Any]) -> Accepts:
    kind = _text(entry["k"], empty=True)
    if "u" in entry:
        code, detail = entry["u"]
        return Accepts(kind=kind, unknown=(_text(code), _text(detail, empty=True)))
    rejected: dict[str, tuple[str, Actor]] = {}
    for cause, values in entry.get("n", {}).items():
        code, _, actor = cause.partition(" ")
        for value in values:
            rejected[_text(value)] = (code, Actor(actor))
    return Accepts(
        kind=kind,
        offered=_text(entry["o"], empty=True),
        accepted=frozenset(_texts(entry.get("y", ()))),
        rejected=rejected,
        frozen=frozenset(_texts(entry["z"])) if "z" in entry else None,
    )


def _texts(values: Iterable[object]) -> list[str]:
    if isinstance(values, str):
        raise TypeError("a text where a list is expected")
    return [_text(value) for value in values]
