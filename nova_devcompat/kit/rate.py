# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A bound on how often something is done for each of many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable


class Rate:
    """Allows something so many times in so many seconds, for each key by itself.

    A bucket of ``most`` tokens that fills again within ``seconds``. Safe for several threads.

    :param most: how many times at once
    :param seconds: after how long it may be as many again
    :param keys: how many keys are remembered; with more, all begin anew
    :param clock: tells seconds
    """

    def __init__(
        self,
        most: int,
        seconds: float,
        *,
        keys: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._seconds = seconds
        self._keys = keys
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[Hashable, tuple[float, float]] = {}

    def allows(self, key: Hashable) -> bool:
        """Whether it may be done once more now; if so, it counts."""
        now = self._clock()
        with self._lock:
            if key not in self._left and len(self._left) >= self._keys:
                self._left.clear()
            left, since = self._left.get(key, (float(self._most), now))
            left = min(float(self._most), left + (now - since) * self._most / self._seconds)
            allowed = left >= 1
            self._left[key] = (left - allowed, now)
        return allowed
