# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading stats documents, each text once."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nova_devcompat.compat.accepts import Accepts, AcceptSet
from nova_devcompat.compat.conditions import COMPARERS, BadCondition, parse_condition
from nova_devcompat.compat.knownbad import Bad, Bads
from nova_devcompat.compat.runs import check_run
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Actor, Code
from nova_devcompat.kit.text import printable
from nova_devcompat.wire import checks
from nova_devcompat.wire.checks import Malformed
from nova_devcompat.wire.stats import SHAPE, HostDocument, PublishedDevice, dumps, shape_of
from nova_devcompat.wire.versions import WireError, reader_of

_WHAT = "stats document"

# What MySQL's Text holds; a writer stops at STATS_LIMIT.
_MOST_TEXT = 65_536

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
        self._kins: dict[tuple[bool, tuple[tuple[int, bool, bool], ...]], int] = {}
        # What several kinds of functions of one provider accept, by the numbers of each.
        self._together: dict[tuple[int, ...], int] = {}

    def read(self, text: str) -> HostDocument | WireError:
        """The document, or what is wrong with it. Never raises for what the text holds."""
        if not isinstance(text, str) or len(text) > _MOST_TEXT:
            # Not remembered: it may be of any length.
            return WireError(_WHAT, f"no text of at most {_MOST_TEXT} characters")
        known = self._documents.get(text)
        if known is not None:
            return known
        with self._lock:
            if len(self._documents) >= self._limit:
                self._documents.clear()
                self._accept_sets.clear()
                self._kins.clear()
                self._together.clear()
            read = self._documents[text] = self._parse(text)
        return read

    def accepting(self, atoms: Iterable[Atom]) -> dict[Atom, int]:
        """How many of the unlike accept-sets that were read accept each of some atoms."""
        counts = dict.fromkeys(atoms, 0)
        families = {atom.family for atom in counts}
        # A copy, made at once: other threads go on reading.
        for _, accepts in list(self._accept_sets.values()):
            if accepts.family not in families:
                continue
            for atom in counts:
                entry = accepts.attributes.get(atom.attribute)
                if atom.family == accepts.family and entry and atom.value in entry.accepted:
                    counts[atom] += 1
        return counts

    def _parse(self, text: str) -> HostDocument | WireError:
        try:
            content = checks.object_of(checks.parse(text, _MOST_TEXT), "")
            return reader_of(_WHAT, content.get("v"), STATS_READERS)(self, content, text)
        except Malformed as error:
            return WireError(_WHAT, f"malformed: {error}")
        except WireError as error:
            return error

    def _parse_1(self, content: Mapping[str, Any], text: str) -> HostDocument:
        """Format 1: devices that accept the same are a group.

        A group that cannot be read takes no other with it.
        """
        catalog = checks.text_of(checks.member(content, "c", ""), "c", empty=True)
        whole = checks.flag_of(content.get("w", False), "w")
        groups = checks.list_of(checks.member(content, "g", ""), "g", checks.MOST_DEVICES)
        devices: list[PublishedDevice] = []
        host: dict[str, list[PublishedDevice]] = {}
        # Accept-sets in order, whether of the host, and whether placement knows such devices.
        named: dict[tuple[int, bool, bool], None] = {}
        numbers: dict[str, tuple[int, ...]] = {}
        unreadable: dict[str, str] = {}
        lost: set[str] = set()
        for index, group in enumerate(groups):
            place = f"g[{index}]"
            try:
                number, of_host, parts = self._group(group, place)
            except Malformed as error:
                unreadable.setdefault(_family_of(group), str(error))
                lost |= _providers_of(group)
                continue
            named.update(dict.fromkeys((number, of_host, bool(one.providers)) for one in parts))
            for provider in itertools.chain.from_iterable(one.providers for one in parts):
                numbers[provider] = (*numbers.get(provider, ()), number)
            for part in parts:
                (host.setdefault(part.family, []) if of_host else devices).append(part)
        # A host is one thing: of two parts of a family nobody could tell which it is.
        for family in [family for family, parts in host.items() if len(parts) > 1]:
            unreadable.setdefault(family, f"{len(host.pop(family))} parts of the host")
        whole = whole and not unreadable
        shape = shape_of(groups, 1) if whole else None
        return HostDocument(
            catalog=catalog,
            devices=tuple(devices),
            whole=whole,
            host=tuple(part for parts in host.values() for part in parts),
            unreadable=unreadable,
            unreadable_providers=frozenset(lost),
            policies=_policies(content.get("m")),
            numbers={provider: self._number_of(each) for provider, each in numbers.items()},
            shape=shape if shape == text[SHAPE] else None,
            kin=None
            if unreadable
            else self._kins.setdefault((whole, tuple(named)), next(_numbers)),
        )

    def _number_of(self, numbers: tuple[int, ...]) -> int:
        """One number for those of several accept-sets, which are mostly one."""
        if len(numbers) == 1:
            return numbers[0]
        return self._together.setdefault(numbers, next(_numbers))

    def _group(self, content: object, place: str) -> tuple[int, bool, list[PublishedDevice]]:
        """The devices of a group.

        :returns: the number of their accept-set, whether they are parts of the host, and they
        :raises Malformed: any of it is not what it must be
        """
        group = checks.object_of(content, place)
        if "x" in group:
            raise Malformed(place, f"left out: {checks.text_of(group['x'], f'{place}.x')}")
        number, accepts = self._accept_set(group, place)
        of_host = checks.flag_of(group.get("h", False), f"{place}.h")
        at = f"{place}.d"
        listed = checks.mapping_of(checks.member(group, "d", place), at, checks.MOST_DEVICES)
        if not listed:
            raise Malformed(at, "no devices")
        functions = _functions(group.get("p", {}), f"{place}.p")
        parts = [
            PublishedDevice(
                address=checks.address_of(address, at),
                accepts=accepts,
                providers=tuple(
                    checks.uuid_of(provider, at)
                    for provider in checks.list_of(providers, at, checks.MOST_DEVICES)
                ),
                functions=functions.get(address, ()),
            )
            for address, providers in listed.items()
        ]
        return number, of_host, parts

    def _accept_set(self, group: Mapping[str, Any], place: str) -> tuple[int, AcceptSet]:
        """The accept-set of a group: one for all groups, of any host, that say the same."""
        family, rules = checks.member(group, "f", place), checks.member(group, "r", place)
        try:
            # Different content never has the same key: what JSON cannot write has none.
            key = dumps([family, rules])
        except (TypeError, RecursionError):
            why = "a key given twice, a number without bounds, or nested too deep"
            raise Malformed(f"{place}.r", why) from None
        known = self._accept_sets.get(key)
        if known is None:
            known = next(_numbers), _load_accepts(family, rules, place)
            self._accept_sets[key] = known
        return known


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


def _policies(content: object) -> dict[str, str] | None:
    """What the host makes of verdicts; None where that cannot be told, which decides nothing."""
    with contextlib.suppress(Malformed):
        told = {
            checks.text_of(key, "m", empty=True): checks.text_of(text, "m")
            for key, text in checks.mapping_of(content, "m", checks.MOST_VALUES).items()
        }
        return told if "" in told else None
    return None


def _functions(content: object, place: str) -> dict[str, tuple[str, ...]]:
    """The runs of functions that are devices of their own, by the address of their parent."""
    found = {}
    for parent, listed in checks.mapping_of(content, place, checks.MOST_DEVICES).items():
        runs = [
            checks.address_of(run, place)
            for run in checks.list_of(listed, place, checks.MOST_DEVICES)
        ]
        try:
            found[parent] = tuple(map(check_run, runs))
        except ValueError as error:
            raise Malformed(place, str(error)) from None
    return found


def _family_of(group: object) -> str:
    """The family of a group that cannot be read, '' where not even that can."""
    with contextlib.suppress(Malformed):
        return checks.name_of(checks.member_at_all(group, "f"), "")
    return ""


def _providers_of(group: object) -> set[str]:
    """Those of a group that cannot be read, as far as they can."""
    listed = checks.member_at_all(group, "d")
    return {
        provider
        for providers in (listed.values() if isinstance(listed, dict) else ())
        for provider in (providers if isinstance(providers, list) else ())
        if checks.is_uuid(provider)
    }


def _load_accepts(family: object, rules: object, place: str) -> AcceptSet:
    at = f"{place}.r"
    return AcceptSet(
        family=checks.name_of(family, f"{place}.f"),
        attributes={
            checks.name_of(name, at): _load_attribute(entry, name)
            for name, entry in checks.mapping_of(rules, at, checks.MOST_ATTRIBUTES).items()
        },
    )


def _load_attribute(content: object, place: str) -> Accepts:
    """What an attribute accepts; one that cannot be read is unknown, the others are not.

    :param place: within the family, since hosts that say the same share it
    """
    try:
        return _read_attribute(checks.object_of(content, place), place)
    except Malformed as error:
        return Accepts(unknown=(Code.HOST_UNREADABLE, printable(str(error))))


def _read_attribute(entry: Mapping[str, Any], place: str) -> Accepts:
    kind = checks.text_of(checks.member(entry, "k", place), f"{place}.k", empty=True)
    if "u" in entry:
        return Accepts(kind=kind, unknown=_read_unknown(entry["u"], f"{place}.u"))
    return Accepts(
        kind=kind,
        offered=checks.text_of(checks.member(entry, "o", place), f"{place}.o", empty=True),
        accepted=frozenset(checks.readable_texts_of(entry.get("y", []), f"{place}.y")),
        rejected=_read_causes(entry.get("n", {}), f"{place}.n"),
        doubtful=_read_causes(entry.get("d", {}), f"{place}.d"),
        open_world=checks.flag_of(entry.get("a", False), f"{place}.a"),
        frozen=frozenset(checks.texts_of(entry["z"], f"{place}.z")) if "z" in entry else None,
        bad=Bads(
            tuple(
                _read_bad(checks.object_of(item, f"{place}.b"), f"{place}.b")
                for item in checks.list_of(entry.get("b", []), f"{place}.b", checks.MOST_VALUES)
            )
        ),
    )


def _read_bad(entry: Mapping[str, Any], place: str) -> Bad:
    """An entry of a known-bad list. One that cannot be read makes the attribute UNKNOWN."""

    def text(key: str, *, empty: bool = False) -> str:
        return checks.text_of(checks.member(entry, key, place), f"{place}.{key}", empty=empty)

    by = COMPARERS.get(text("o"))
    if by is None:
        raise Malformed(f"{place}.o", f"{checks.shown(entry['o'])} compares nothing")
    try:
        condition = parse_condition(checks.texts_of(entry.get("c"), f"{place}.c"), by)
    except BadCondition as error:
        raise Malformed(f"{place}.c", str(error)) from None
    return Bad(
        name=text("i"),
        message=text("m", empty=True),
        url=text("l", empty=True),
        condition=condition,
        by=by.name,
        equal=text("e") if "e" in entry else "",
        certain=not checks.flag_of(entry.get("x", False), f"{place}.x"),
    )


def _read_causes(content: object, place: str) -> dict[str, tuple[str, Actor]]:
    """Values, each with why it is not accepted."""
    found: dict[str, tuple[str, Actor]] = {}
    for cause, values in checks.mapping_of(content, place, checks.MOST_VALUES).items():
        code, _, actor = cause.partition(" ")
        why = checks.code_of(code, place), checks.actor_of(actor, place)
        found.update(dict.fromkeys(checks.readable_texts_of(values, place), why))
    return found


def _read_unknown(content: object, place: str) -> tuple[str, str]:
    listed = checks.list_of(content, place, 2)
    if len(listed) != 2:
        raise Malformed(place, "no code and detail")
    code, detail = listed
    return checks.code_of(code, place), checks.text_of(detail, place, empty=True)
