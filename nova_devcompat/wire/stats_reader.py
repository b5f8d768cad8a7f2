# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading stats documents, each text once."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from nova_devcompat.compat.accepts import Accepts, AcceptSet
from nova_devcompat.compat.verdict import Actor
from nova_devcompat.wire.checks import text_of, texts_of
from nova_devcompat.wire.stats import SHAPE, HostDocument, PublishedDevice, shape_of
from nova_devcompat.wire.versions import WireError, dumps, guarded, reader_of

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
                read = guarded("stats document", lambda: self._parse(text))
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
            key = dumps([group["f"], group["r"]])
            if key not in self._accept_sets:
                self._accept_sets[key] = (next(_numbers), _load_accepts(group))
            number, accepts = self._accept_sets[key]
            named.update(dict.fromkeys((number, bool(placed)) for placed in group["d"].values()))
            (host if group.get("h") else devices).extend(
                PublishedDevice(
                    address=text_of(address, empty=True),
                    accepts=accepts,
                    providers=tuple(text_of(provider) for provider in providers),
                )
                for address, providers in group["d"].items()
            )
        whole = content.get("w") is True
        shape = shape_of(content["g"], 1) if whole else None
        return HostDocument(
            catalog=text_of(content["c"], empty=True),
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
        family=text_of(group["f"]),
        attributes={text_of(name): _load_attribute(entry) for name, entry in group["r"].items()},
    )


def _load_attribute(entry: Mapping[str, Any]) -> Accepts:
    kind = text_of(entry["k"], empty=True)
    if "u" in entry:
        code, detail = entry["u"]
        return Accepts(kind=kind, unknown=(text_of(code), text_of(detail, empty=True)))
    rejected: dict[str, tuple[str, Actor]] = {}
    for cause, values in entry.get("n", {}).items():
        code, _, actor = cause.partition(" ")
        for value in values:
            rejected[text_of(value)] = (code, Actor(actor))
    return Accepts(
        kind=kind,
        offered=text_of(entry["o"], empty=True),
        accepted=frozenset(texts_of(entry.get("y", ()))),
        rejected=rejected,
        frozen=frozenset(texts_of(entry["z"])) if "z" in entry else None,
    )
