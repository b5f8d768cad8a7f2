# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading stats documents, each text once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.traits import Atom
from nova_devcompat.wire import checks, stats_2
from nova_devcompat.wire.checks import Malformed
from nova_devcompat.wire.groups import (
    family_of,
    functions_of,
    load_accepts,
    policies_of,
    post_copy_of,
    reads_of,
)
from nova_devcompat.wire.stats import SHAPE, HostDocument, PublishedDevice, dumps, shape_of
from nova_devcompat.wire.stats_2_reader import BodyReader
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
        # Held while a document is put with the others, and never while one is parsed: what two
        # threads read at once, both parse.
        self._lock = threading.Lock()
        self._documents: dict[Any, HostDocument | WireError] = {}
        self._accept_sets: dict[str, tuple[int, AcceptSet]] = {}
        self._kins: dict[tuple[bool, tuple[Hashable, ...]], int] = {}
        # What a provider stands for, by the identities of the accept-sets.
        self._choices: dict[tuple[int, ...], tuple[AcceptSet, ...]] = {}
        self._bodies = BodyReader(self._accept_set, self._share)

    def read(self, text: str) -> HostDocument | WireError:
        """The document, or what is wrong with it. Never raises for what the text holds."""
        if not isinstance(text, str) or len(text) > _MOST_TEXT:
            # Not remembered: it may be of any length.
            return WireError(_WHAT, f"no text of at most {_MOST_TEXT} characters")
        # Those of format 2, which are many and long, by the digest that they state and the hash
        # of all of it.
        key = (text[stats_2.DIGEST], hash(text)) if text.startswith(stats_2.BEGIN) else text
        known = self._documents.get(key)
        if known is not None:
            return known
        read = self._parse(text)
        with self._lock:
            if len(self._documents) >= self._limit:
                self._documents.clear()
                self._accept_sets.clear()
                self._kins.clear()
                self._choices.clear()
                self._bodies.clear()
            return self._documents.setdefault(key, read)

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
        # Of each group: its accept-set, whether of the host, whether placement knows its devices.
        named: list[Hashable] = []
        unreadable: dict[str, str] = {}
        lost: set[str] = set()
        for index, group in enumerate(groups):
            place = f"g[{index}]"
            try:
                number, of_host, parts = self._group(group, place)
            except Malformed as error:
                unreadable.setdefault(family_of(group), str(error))
                lost |= _providers_of(group)
                continue
            placed = dict.fromkeys(bool(one.providers) for one in parts)
            named.append(tuple((number, of_host, one) for one in placed))
            for part in parts:
                (host.setdefault(part.family, []) if of_host else devices).append(part)
        # A host is one thing: of two parts of a family nobody could tell which it is.
        for family in [family for family, parts in host.items() if len(parts) > 1]:
            unreadable.setdefault(family, f"{len(host.pop(family))} parts of the host")
        whole = whole and not unreadable
        shape = shape_of(groups, 1) if whole else None
        document = HostDocument(
            catalog=catalog,
            devices=tuple(devices),
            whole=whole,
            host=tuple(part for parts in host.values() for part in parts),
            unreadable=unreadable,
            unreadable_providers=frozenset(lost),
            policies=policies_of(content.get("m")),
            reads=reads_of(content.get("q")),
            post_copy=post_copy_of(content.get("t")),
            shape=shape if shape == text[SHAPE] else None,
        )
        by_provider = {
            provider: self._share(choice) for provider, choice in document.by_provider.items()
        }
        object.__setattr__(document, "by_provider", by_provider)
        return self._known(document, named)

    def _parse_2(self, content: Mapping[str, Any], text: str) -> HostDocument:
        """Format 2."""
        document, found = self._bodies.read(checks.member(content, "d", ""), len(text))
        return self._known(document, found.named)

    def _known(self, document: HostDocument, named: Iterable[Hashable]) -> HostDocument:
        """A document with its kin.

        :param named: what it names, said alike by all that are read in its format
        """
        if not document.unreadable:
            kin = self._kins.setdefault((document.whole, tuple(named)), next(_numbers))
            # Frozen for all others: it was made just now.
            object.__setattr__(document, "kin", kin)
        return document

    def _share(self, choice: tuple[AcceptSet, ...]) -> tuple[AcceptSet, ...]:
        """What a provider stands for: one object for all that stand for the same."""
        return self._choices.setdefault(tuple(map(id, choice)), choice)

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
        functions = functions_of(group.get("p", {}), f"{place}.p")
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
            made = next(_numbers), load_accepts(family, rules, place)
            known = self._accept_sets.setdefault(key, made)
        return known


#: By version. A reader takes the document, and the text that it was parsed from.
STATS_READERS: dict[int, Callable[[StatsReader, Mapping[str, Any], str], HostDocument]] = {
    1: StatsReader._parse_1,
    2: StatsReader._parse_2,
}


def load_stats(text: str) -> HostDocument:
    """The document that was written, in any format that is read.

    :raises WireError: it cannot be read
    """
    read = StatsReader().read(text)
    if isinstance(read, WireError):
        raise read
    return read


def _providers_of(group: object) -> set[str]:
    """Those of a group that cannot be read, as far as they can."""
    listed = checks.member_at_all(group, "d")
    return {
        provider
        for providers in (listed.values() if isinstance(listed, dict) else ())
        for provider in (providers if isinstance(providers, list) else ())
        if checks.is_uuid(provider)
    }
