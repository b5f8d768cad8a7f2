# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A source's calls into what may hang, and its turns where one reading needs the last."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from nova_devcompat.kit import bounded
from nova_devcompat.sources.base import SourceError

T = TypeVar("T")


class TimedOut(SourceError):
    """A source gave no answer in time, or an earlier call still has not."""


class SourceCall(bounded.Bounded):
    """A :class:`~nova_devcompat.kit.bounded.Bounded` whose errors are those of a source.

    :param source: its name
    :param seconds: how long a call may take
    """

    def __init__(self, source: str, seconds: float) -> None:
        super().__init__(
            f"source {source!r}",
            seconds,
            "look in dmesg for a driver that hangs; on a host that is only slow, raise "
            "[devcompat] source_timeout",
        )

    def call(self, function: Callable[[], T]) -> T:
        """What the function returns.

        :raises TimedOut: it took too long, or an earlier call still hangs
        :raises SourceError: no thread can be started
        :raises Exception: whatever the function raises
        """
        try:
            return super().call(function)
        except bounded.NoAnswer as error:
            raise TimedOut(str(error)) from error
        except bounded.CallError as error:
            raise SourceError(str(error)) from error


class Turns:
    """Lets one thread at a time read a source whose readings go on from the last.

    :param source: its name
    :param seconds: how long to wait for a turn
    """

    def __init__(self, source: str, seconds: float) -> None:
        self._source = source
        self._seconds = seconds
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and have it.

        :raises TimedOut: others have theirs for too long
        """
        if not self._lock.acquire(timeout=self._seconds):
            raise TimedOut(f"source {self._source!r} was busy for {self._seconds:g} s")
        try:
            yield
        finally:
            self._lock.release()
