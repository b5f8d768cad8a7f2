# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which resource providers of a host will not do, remembered across requests."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from nova_devcompat import wire

#: What a provider stands for: the digests of what is said of its devices, in order.
Contents = tuple[str, ...]


class Prunings:
    """Providers that will not do, by what will not do and the digest of the document.

    What a document says of its providers does not change, so which of them stand for devices that
    will not do depends on nothing else. Safe for use by several threads: nothing is computed while
    the lock is held.

    :param limit: how many documents are remembered, each counted for each that will not do
    """

    def __init__(self, limit: int = 40_000) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._count = 0
        self._known: dict[frozenset[Contents], dict[str, frozenset[str]]] = {}

    def of(self, bad: frozenset[Contents]) -> Mapping[str, frozenset[str]]:
        """What is known, by the digests of documents.

        :param bad: what devices that will not do stand for
        """
        with self._lock:
            return self._known.setdefault(bad, {})

    def add(
        self, bad: frozenset[Contents], digest: str, document: wire.HostDocument
    ) -> frozenset[str]:
        """The providers of a document that will not do, from now on known.

        :param digest: of the document, which was read
        """
        gone = frozenset(
            provider for provider, stands_for in contents_of(document).items() if stands_for in bad
        )
        with self._lock:
            if self._count >= self._limit:
                self._known.clear()
                self._count = 0
            self._count += 1
            self._known.setdefault(bad, {})[digest] = gone
        return gone


def contents_of(
    document: wire.HostDocument, providers: Iterable[str] | None = None
) -> dict[str, Contents]:
    """What each provider of a document stands for.

    :param providers: those that are asked for; None for all
    """
    wanted = None if providers is None else frozenset(providers)
    found: dict[str, Contents] = {}
    for device in document.devices:
        for provider in device.providers:
            if wanted is None or provider in wanted:
                found[provider] = (*found.get(provider, ()), device.content)
    return found
