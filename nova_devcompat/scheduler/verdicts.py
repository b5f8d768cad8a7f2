# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Verdicts, remembered across requests by all that decides them."""

from __future__ import annotations

import threading

from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.verdict import Verdict

# What decides: the accept-set, by identity, and what is needed.
_Key = tuple[int, str, tuple[tuple[str, frozenset[str] | None], ...]]


class Verdicts:
    """The verdicts of accept-sets on needs.

    An accept-set never changes, and which slot or device a need is of does not matter to it. Safe
    for use by several threads: nothing is judged while the lock is held.

    :param limit: how many are remembered
    """

    def __init__(self, limit: int = 50_000) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        # With the accept-set, so that no other gets its identity.
        self._known: dict[_Key, tuple[AcceptSet, Verdict]] = {}

    def of(self, accepts: AcceptSet, need: DeviceNeed) -> Verdict:
        """The verdict of an accept-set on a need."""
        key = (id(accepts), need.family, need.values)
        known = self._known.get(key)
        if known is not None:
            return known[1]
        verdict = accepts.judge(need)
        with self._lock:
            if len(self._known) >= self._limit:
                self._known.clear()
            self._known[key] = accepts, verdict
        return verdict
