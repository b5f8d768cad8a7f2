# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A bound on calls that may never return: into a driver, a firmware, a library, a socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: How long what is outside may take, where nobody says otherwise.
SECONDS = 5.0


class CallError(RuntimeError):
    """A call could not be made, or gave no answer; what the function raises is no such error."""


class NoAnswer(CallError):
    """A call gave no answer in time, or an earlier one still has not."""


class _ThreadedCall(Generic[T]):
    """What a call in another thread has come to."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function: Callable[[], T] | None = function
        self.ended = threading.Event()
        self.result: T
        self.error: BaseException | None = None

    def run(self) -> None:
        function, self._function = self._function, None
        assert function is not None
        try:
            self.result = function()
        except BaseException as error:  # noqa: BLE001  it is raised again where it was called
            self.error = error
        finally:
            # What the call held on to must not live as long as a caller's reference to this.
            del function
            self.ended.set()


class Bounded:
    """Runs a function in a daemon thread, and gives up waiting after a time.

    A call that hangs in the kernel or in a C library cannot be ended. Its thread is left behind,
    and until it returns each new call fails at once: there is at most one stuck thread, however
    often one calls. Calls of several threads run one after the other; the wait for an
    earlier one counts as part of a call's own time.

    Under eventlet's monkey patching the thread is a green one: a call that blocks in C holds the
    process then, as it would without this.

    :param name: of what is called, for messages
    :param seconds: how long a call may take
    :param advice: where to look if it gives no answer
    """

    def __init__(self, name: str, seconds: float, advice: str = "") -> None:
        self.name = name
        self.seconds = seconds
        self._advice = f"; {advice}" if advice else ""
        self._lock = threading.Lock()
        # The call that was given up and had not returned when last looked at.
        self._stuck: _ThreadedCall[Any] | None = None

    @property
    def stuck(self) -> bool:
        """Whether a call that was given up has not returned yet."""
        stuck = self._stuck
        return stuck is not None and not stuck.ended.is_set()

    def call(self, function: Callable[[], T]) -> T:
        """What the function returns.

        :raises NoAnswer: it took too long, or an earlier call still hangs
        :raises CallError: no thread can be started
        :raises Exception: whatever the function raises
        """
        deadline = time.monotonic() + self.seconds
        self._refuse_if_stuck()
        if not self._lock.acquire(timeout=self.seconds):
            raise NoAnswer(f"{self.name} was busy with an earlier call for {self.seconds:g} s")
        try:
            # The call that was waited for may be the one that hangs.
            self._refuse_if_stuck()
            running = _ThreadedCall(function)
            self._start(running)
            if not running.ended.wait(max(0.0, deadline - time.monotonic())):
                self._stuck = running
                raise self._no_answer()
        finally:
            self._lock.release()
        if running.error is not None:
            try:
                raise running.error
            finally:
                # The error's traceback refers to this frame: keep no cycle through it.
                del running
        return running.result

    def _refuse_if_stuck(self) -> None:
        stuck = self._stuck
        if stuck is None:
            return
        if not stuck.ended.is_set():
            raise self._no_answer()
        self._stuck = None

    def _no_answer(self) -> NoAnswer:
        # One text for the first time and for later: who logs what changes logs this once.
        return NoAnswer(f"{self.name} gives no answer{self._advice}")

    def _start(self, running: _ThreadedCall[Any]) -> None:
        thread = threading.Thread(target=running.run, name=f"devcompat-{self.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise CallError(f"{self.name} cannot start a thread: {error}") from error
