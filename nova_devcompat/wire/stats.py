# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The stats document of a host, in ``compute_nodes.stats``: its content, and format 1 of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nova_devcompat.compat.accepts import AcceptSet, Evaluation
from nova_devcompat.compat.device import normalise_address
from nova_devcompat.compat.knownbad import Bad
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.runs import is_in
from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.kit.text import is_printable, printable
from nova_devcompat.wire import checks

#: The version that is written by default; what is read, :data:`STATS_READERS` says.
STATS_VERSION = 1

#: The last version that this release reads.
STATS_READ = 2

#: The key of ours in ``compute_nodes.stats``.
STATS_KEY = "devcompat"

#: What a document may take of the column: nova/db/main/models.py has ComputeNode.stats as a Text,
#: 65,535 bytes on MySQL, of which Nova's own keys take some 50 for each project on the host.
STATS_LIMIT = 57_344
_OFFERED_SIZE = 80


# ASCII, because MySQL's utf8mb3 has no room for characters beyond the basic plane. Made once,
# since a reader writes each group that it reads.
_ENCODER = json.JSONEncoder(separators=(",", ":"), sort_keys=True, ensure_ascii=True)


def dumps(value: object) -> str:
    """The one JSON text of a value."""
    return _ENCODER.encode(value)


class StatsTooLong(ValueError):
    """A stats document that the database would not take."""


def column_size(text: str) -> int:
    """The bytes that a text takes in the column, which has a JSON object of texts.

    So what is JSON in the text is escaped once more; the text is ASCII.
    """
    return len(_ENCODER.encode(text))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PublishedDevice:
    """What a host says of one device.

    :param address: the device's address, or that of the parent whose functions are assigned
    :param accepts: its accept-set, or that of the functions
    :param providers: UUIDs of the resource providers that stand for it; empty where placement
        does not track it, or the host does not know yet
    :param functions: runs of the addresses of functions that are devices of their own and accept
        this, see :mod:`nova_devcompat.compat.runs`; empty where the device is meant
    :param classes: resource classes of devices that its providers have units of; None where that
        is not known. Not in format 1
    """

    address: str
    accepts: AcceptSet
    providers: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    #: Of one that was read in format 2, the digest of what is said of it.
    content: str = dataclasses.field(default="", compare=False)

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
    :param unreadable: families of which the host says something that cannot be read, each with
        why. ``devices`` and ``host`` have what can be read; what else there is of such a family is
        UNKNOWN (``host-unreadable``), and never a device that the host does not have. Under ''
        stands what is of a family that cannot be told, hence perhaps of any. A document that has
        these is not ``whole``
    :param policies: what the host makes of verdicts, as
        :attr:`nova_devcompat.compat.policy.Policies.told` has it; None where it does not say
    :param unreadable_providers: resource providers known to stand for devices that cannot be
        read. Others that no device of the document has may do so too
    :param post_copy: whether Nova's configuration there permits post-copy in live migration; None
        where it does not say
    :param reads: the last format of such documents that the host reads, 1 where it does not say
    :param unnamed: resource classes of devices of which the host has providers that no device of
        the document has; None where that is not known. Not in format 1
    """

    catalog: str
    devices: tuple[PublishedDevice, ...]
    whole: bool = False
    host: tuple[PublishedDevice, ...] = ()
    unreadable: Mapping[str, str] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    unreadable_providers: frozenset[str] = frozenset()
    policies: Mapping[str, str] | None = None
    reads: int = 1
    post_copy: bool | None = None
    unnamed: frozenset[str] | None = None
    #: Of one that was read, the version of its format.
    version: int = dataclasses.field(default=STATS_VERSION, compare=False)
    #: Accept-sets of host families.
    by_family: Mapping[str, AcceptSet] = dataclasses.field(init=False, compare=False)
    #: Accept-sets by resource provider: of its device, or one for each kind of its functions.
    by_provider: Mapping[str, tuple[AcceptSet, ...]] = dataclasses.field(init=False, compare=False)
    #: Of one that was read in format 2, the digest of what decides for every request; None where
    #: not all of it could be read, and in format 1.
    context: str | None = dataclasses.field(default=None, compare=False)
    #: What documents share where all devices of all these hosts accept the same, placement knows
    #: them all or none of them, and the documents are whole; None for other documents, and for one
    #: that no reader read. It stands in the text at :data:`SHAPE`.
    shape: str | None = dataclasses.field(default=None, compare=False)
    #: A number that documents of one reader share that are whole or not alike and name the same
    #: accept-sets, whichever and however many devices have them; None as above. No other reader
    #: uses it. Documents that have one share the values of :attr:`by_provider`, too: the same is
    #: the same object.
    kin: int | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        by_provider: dict[str, tuple[AcceptSet, ...]] = {}
        for device in self.devices:
            for provider in device.providers:
                by_provider[provider] = (*by_provider.get(provider, ()), device.accepts)
        object.__setattr__(self, "by_provider", by_provider)
        by_family = {part.family: part.accepts for part in self.host}
        object.__setattr__(self, "by_family", by_family)

    def find(self, address: str, parent: str | None = None) -> PublishedDevice | None:
        """The device or function at an address, else the one whose parent is given beside it."""
        wanted = normalise_address(address)
        for device in self.devices:
            if any(is_in(run, wanted) for run in device.functions):
                return device
        for place in (wanted, normalise_address(parent or "")):
            for device in self.devices:
                if device.address == place and not device.functions:
                    return device
        return None

    @property
    def problems(self) -> dict[str, Reason]:
        """Why what the host says of a family cannot be read; '' where the family cannot either."""
        return {
            family: Reason(
                code=Code.HOST_UNREADABLE, actor=Actor.OPERATOR, family=family, detail=why
            )
            for family, why in self.unreadable.items()
        }

    def problem_of(self, family: str) -> Reason | None:
        """Why what the host says of a family cannot be read, or may not; None where it can."""
        problems = self.problems
        reason = problems.get(family) or problems.get("")
        return None if reason is None else dataclasses.replace(reason, family=family)


def dump_stats_1(document: HostDocument) -> str:
    """The text of a stats document in format 1: the same for the same content, so that nothing is
    written where nothing changed.

    Devices that accept the same are written once, with the addresses and providers of each. A
    family of ``document.unreadable`` is written as one that was left out, and why.

    :raises StatsTooLong: it would take more than 57,344 bytes of the column
    """
    groups = groups_of(document)
    content: dict[str, Any] = {
        "v": 1,
        "c": document.catalog,
        "w": document.whole,
        "g": groups,
    }
    shape = shape_of(groups, 1) if document.whole else None
    if document.policies is not None:
        content["m"] = dict(document.policies)
    if document.reads > 1:
        content["q"] = document.reads
    if document.post_copy is not None:
        content["t"] = document.post_copy
    if shape is not None:
        # First of the sorted keys.
        content["a"], content["b"] = shape, "0" * _DIGITS
    text = dumps(content)
    if shape is not None:
        text = f"{text[: _SIZE.start]}{_length(text)}{text[_SIZE.stop :]}"
    return check_size(text, document, len(groups))


def check_size(text: str, document: HostDocument, groups: int) -> str:
    """The text, if the column takes it.

    :param groups: how many unlike groups of devices the document has
    :raises StatsTooLong: the column does not take it
    """
    size = column_size(text)
    if size > STATS_LIMIT:
        raise StatsTooLong(
            f"the stats document has {size} bytes, {STATS_LIMIT} are allowed: "
            f"{len(document.devices)} devices in {groups} unlike groups"
        )
    return text


def groups_of(document: HostDocument) -> list[dict[str, Any]]:
    """The groups of a document as they are written."""
    groups: dict[str, dict[str, Any]] = {}
    listed = [(device, False) for device in document.devices]
    listed += [(part, True) for part in document.host]
    for device, of_host in sorted(listed, key=lambda item: item[0].address):
        body: dict[str, Any] = {"f": device.accepts.family, "r": _dump_accepts(device.accepts)}
        if of_host:
            body["h"] = True
        group = groups.setdefault(dumps(body), {**body, "d": {}})
        address = checks.fit_address(device.address)
        group["d"][address] = sorted({*group["d"].get(address, ()), *device.providers})
        if device.functions:
            runs = group.setdefault("p", {}).setdefault(address, [])
            runs += map(checks.fit_address, device.functions)
    for family, why in sorted(document.unreadable.items()):
        # No devices: readers that know no such key cannot read the group either.
        groups[family] = {"f": family, "r": {}, "d": {}, "x": printable(why)}
    return list(groups.values())


#: Where a text that has a shape has it. Nova makes new copies of all texts for each request, and
#: to look up the whole of each in a dict would take longer than all else that is done for a host.
SHAPE = slice(len('{"a":"'), len('{"a":"') + 16)

# After it stands how long the text is, in as many digits as any may have.
_BETWEEN = '","b":"'
_DIGITS = 5
#: Where it says that.
_SIZE = slice(SHAPE.stop + len(_BETWEEN), SHAPE.stop + len(_BETWEEN) + _DIGITS)

#: Where it has both. A text that says so much, and is as long as it says, is not one that was cut
#: off or changed on its way: neither its end nor the rest, far away in memory, is looked at.
HEAD = slice(SHAPE.start, _SIZE.stop)


def says_its_length(text: object) -> bool:
    """Whether a text is as long as it says at :data:`HEAD`.

    The first release says nothing of it.

    :param text: whatever stands in a host's stats
    """
    return (
        isinstance(text, str)
        and text[SHAPE.stop : _SIZE.start] == _BETWEEN
        and text[_SIZE] == _length(text)
    )


def _length(text: str) -> str:
    return f"{len(text):0{_DIGITS}}"


def shape_of(groups: Sequence[Mapping[str, Any]], version: int) -> str | None:
    """A digest of all that decides, None where devices differ."""
    devices = [group for group in groups if not group.get("h")]
    host = sorted(dumps([group["f"], group["r"]]) for group in groups if group.get("h"))
    if not groups or len(devices) > 1:
        return None
    decides: list[Any] = [version]
    for group in devices:
        placed = {bool(providers) for providers in group["d"].values()}
        if len(placed) != 1:
            return None
        decides += [group["f"], group["r"], *placed]
    text = dumps([*decides, host] if host else decides)
    return hashlib.sha256(text.encode()).hexdigest()[: SHAPE.stop - SHAPE.start]


def _dump_accepts(accepts: AcceptSet) -> dict[str, Any]:
    return {name: _dump_attribute(entry) for name, entry in accepts.attributes.items()}


def _dump_attribute(accepts: Evaluation) -> dict[str, Any]:
    entry: dict[str, Any] = {"k": printable(accepts.kind)}
    if accepts.unknown:
        code, detail = accepts.unknown
        entry["u"] = [checks.fit_code(code), printable(detail, _OFFERED_SIZE)]
        return entry
    entry["o"] = printable(accepts.offered, _OFFERED_SIZE)
    if accepts.frozen is not None and all(map(is_printable, accepts.frozen)):
        entry["z"] = sorted(accepts.frozen)
    # A value that cannot be printed is of somebody's trait: no need that can be read has it.
    if accepted := sorted(filter(is_printable, accepts.accepted)):
        entry["y"] = accepted
    # Readers of releases that know no "d" and "a" take what is there for not evaluated.
    for key, values in (("n", accepts.rejected), ("d", accepts.doubtful)):
        if causes := _dump_causes(values):
            entry[key] = causes
    if accepts.open_world:
        entry["a"] = True
    if accepts.bad:
        entry["b"] = [_dump_bad(bad) for bad in accepts.bad.entries]
    return entry


def _dump_bad(bad: Bad) -> dict[str, Any]:
    """An entry of a known-bad list; releases that know no such key go by the refused values."""
    entry: dict[str, Any] = {
        "i": printable(bad.name),
        "m": printable(bad.message),
        "l": printable(bad.url),
        "c": [printable(text) for text in bad.condition.texts],
        "o": bad.by,
    }
    if bad.equal:
        entry["e"] = printable(bad.equal)
    if not bad.certain:
        entry["x"] = True
    return entry


def _dump_causes(values: Mapping[str, tuple[str, Actor]]) -> dict[str, list[str]]:
    """Values by why they are not accepted."""
    causes: dict[str, list[str]] = {}
    for value, (code, actor) in sorted(values.items()):
        if is_printable(value):
            causes.setdefault(f"{checks.fit_code(code)} {actor}", []).append(value)
    return causes
