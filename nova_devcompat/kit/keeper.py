# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What was read from files, and is read again when they change."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from nova_devcompat.kit.problems import DocumentError

LOG = logging.getLogger(__name__)


T = TypeVar("T")


Signature = tuple[tuple[int, ...] | None, ...]


class Keeper(Generic[T]):
    """What was read from some files, read again when they change.

    The first reading raises what is wrong. Afterwards a changed file that is wrong is logged, once
    for each change, and the last good value stays in use. Safe for use by several threads: while
    one reads, the others get the last good value.

    :param paths: the files that ``load`` reads
    :param load: reads them; raises :class:`DocumentError`. Anything else is a fault, of which
        whoever has a good value hears in the log alone
    :param what: how to name it in the log
    :param min_interval: seconds between two looks at the files, 0 to look at each call
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        load: Callable[[], T],
        *,
        what: str,
        min_interval: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = tuple(os.fspath(path) for path in paths)
        self._load = load
        self._what = what
        self._min_interval = min_interval
        self._clock = clock
        self._lock = threading.Lock()
        # One object, so that a thread without the lock never sees halves of two.
        self._state: tuple[T, Signature, float] | None = None

    def current(self) -> T:
        """The value of the files as they are, or were when they last were good.

        :raises DocumentError: no value has ever been read, and none can be
        """
        state = self._state
        if state is None:
            with self._lock:
                if self._state is None:
                    # Looked at before it is read: a change in between is seen the next time.
                    signature = self._signature()
                    self._state = self._load(), signature, self._clock()
                return self._state[0]
        if self._clock() - state[2] < self._min_interval or not self._lock.acquire(blocking=False):
            return state[0]
        try:
            return self._refresh(*(self._state or state)[:2])
        finally:
            self._lock.release()

    def _refresh(self, value: T, known: Signature) -> T:
        signature = self._signature()
        if signature != known:
            wrong = ""
            try:
                value = self._load()
            except DocumentError as error:
                wrong = error.told
            except Exception:
                # A fault of ours, or of somebody's plugin: what works is not to end by it.
                LOG.exception(
                    "The changed %s could not be read; the last good one stays in use: %s",
                    self._what,
                    ", ".join(self._paths),
                )
            else:
                LOG.info("Read the changed %s: %s", self._what, ", ".join(self._paths))
            if wrong:
                # Not while it is handled: oslo.log would say it again at the end of the line.
                LOG.error(
                    "The changed %s is wrong and not used; the last good one stays in use: %s",
                    self._what,
                    wrong,
                )
        self._state = value, signature, self._clock()
        return value

    def _signature(self) -> Signature:
        return tuple(map(_signature_of, self._paths))


def _signature_of(path: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    # ctime: a file that could not be read for its mode may be readable now.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev
