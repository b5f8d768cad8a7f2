# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Work that nobody waits for, done beside all else, a bounded amount of it."""

from __future__ import annotations

import collections
import logging
import os
import threading
import time
from collections.abc import Callable

LOG = logging.getLogger(__name__)

Task = Callable[[], None]


class Background:
    """Does tasks one after the other in a daemon thread, which ends when there are none.

    A task that hangs holds up those behind it and nobody else: once ``most`` wait, no more are
    taken. Safe for several threads, and in a process that was forked.

    :param name: what the tasks do, for the thread's name and messages
    :param most: how many may wait
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._waiting: collections.deque[Task] = collections.deque()
        self._running = False

    def submit(self, task: Task) -> bool:
        """Have a task done, at some time.

        :returns: whether it will be; not where too many wait, or no thread can be started
        """
        if self._pid != os.getpid():
            # Threads do not live on in a child.
            self._begin()
        with self._changed:
            if len(self._waiting) >= self._most:
                return False
            self._waiting.append(task)
            if self._running:
                return True
            self._running = True
        try:
            threading.Thread(target=self._run, name=f"devcompat-{self._name}", daemon=True).start()
        except RuntimeError:
            LOG.exception("No thread could be started for %s", self._name)
            self._end()
            return False
        return True

    def join(self, seconds: float) -> bool:
        """Wait until nothing is left to do.

        :returns: whether nothing is, after that time
        """
        end = time.monotonic() + seconds
        with self._changed:
            while self._running:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except Exception:
                LOG.exception("A task of %s failed", self._name)

    def _next(self) -> Task | None:
        with self._changed:
            if self._waiting:
                return self._waiting.popleft()
            self._running = False
            self._changed.notify_all()
        return None

    def _end(self) -> None:
        with self._changed:
            self._waiting.clear()
            self._running = False
            self._changed.notify_all()
