# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a test has left behind in the process when its cleanups have run."""

from __future__ import annotations

import gc
import sys
import threading
import time
import traceback
import types
from collections.abc import Iterator, Sequence
from typing import Any

from futurist import _thread as futurist_thread

from tests.functional import older

#: What may take a while and is no leftover: seconds.
_PATIENCE = 10.0
#: How long what is left is only waited for before garbage is collected, and between collections:
#: to collect it takes a tenth of a second of this process.
_COLLECT_EVERY = 0.5

#: Modules whose functions and classes tests patch.
_WATCHED = frozenset(
    {"nova_devcompat", "nova", "placement", "oslo_messaging", "os", "time", "threading"}
)

#: What is replaced by assignment when it is patched, in modules and classes.
_PATCHED = (
    types.FunctionType,
    type,
    staticmethod,
    classmethod,
    property,
)
#: Constants are compared in our own modules; Nova keeps state in what looks like some.
_CONSTANTS = (int, float, str, tuple, frozenset)


class Watch:
    """Knows what there was before the test.

    :param services: that go on, with their ``rpcserver``
    """

    def __init__(self, services: Sequence[Any]) -> None:
        self._services = services
        self._threads = set(threading.enumerate())
        self._names = _Names()

    def left(self) -> list[str]:
        """What is left now, a line each. Tasks that still run are waited for, and pools ended."""
        end = time.monotonic() + _PATIENCE
        left = [f"{name} is still busy" for name in self._wait(self._busy, end)]
        if not left:
            older.end_pools()
        left += [f"thread {name} still runs" for name in self._wait(self._new_threads, end)]
        left += [f"{name} is still patched" for name in self._names.replaced()]
        return left

    @staticmethod
    def _wait(look: Any, end: float) -> list[str]:
        collect = time.monotonic() + _COLLECT_EVERY
        while (found := list(look())) and (now := time.monotonic()) < end:
            if now >= collect:
                # Nobody shuts down the pool of a looping call; its thread ends when the pool is
                # collected.
                gc.collect()
                collect = now + _COLLECT_EVERY
            time.sleep(0.01)
        return found

    def _busy(self) -> Iterator[str]:
        """Names of what has tasks to do."""
        for service in self._services:
            if _unfinished(service.rpcserver._work_executor):
                yield service.binary
        for name, executor in older.pools().items():
            if _unfinished(executor):
                yield f"the pool {name}"

    def _new_threads(self) -> Iterator[str]:
        """Names of threads that there were not and that are no idle workers of the services."""
        executors = [service.rpcserver._work_executor for service in self._services]
        for thread in threading.enumerate():
            if thread in self._threads:
                continue
            if (
                isinstance(thread, futurist_thread.ThreadWorker)
                and thread.executor_ref() in executors
            ):
                continue
            yield f"{thread.name}, in {_where(thread)},"


def _where(thread: threading.Thread) -> str:
    """The innermost function of a thread, and where it was called from."""
    frame = sys._current_frames().get(thread.ident or 0)
    calls = [
        f"{each.name} ({each.filename}:{each.lineno})" for each in traceback.extract_stack(frame)
    ]
    return ", called from ".join(calls[:-6:-1])


def _unfinished(executor: Any) -> int:
    """How many tasks an executor of futurist has still to end."""
    if hasattr(executor, "_work_queue"):
        unfinished: int = executor._work_queue.unfinished_tasks
    else:
        unfinished = executor._pool.running() + executor._delayed_work.unfinished_tasks
    return unfinished


class _Names:
    """What is watched of the process's modules and classes, as it is now.

    What a module or class holds is kept whole and compared whole, since that takes a tenth of the
    time of looking at each name.
    """

    def __init__(self) -> None:
        self._holders = [(name, holder, dict(vars(holder))) for name, holder in _holders()]

    def replaced(self) -> Iterator[str]:
        """The dotted names of what is another object now."""
        for name, holder, before in self._holders:
            now = dict(vars(holder))
            if list(map(id, now.values())) == list(map(id, before.values())):
                continue
            constants = name.partition(".")[0] == "nova_devcompat" and not isinstance(holder, type)
            watched = _PATCHED + _CONSTANTS if constants else _PATCHED
            for key, value in before.items():
                if isinstance(value, watched) and now.get(key, value) is not value:
                    yield f"{name}.{key}"


def _holders() -> Iterator[tuple[str, Any]]:
    """The modules that are watched and their classes, by their dotted names."""
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] not in _WATCHED:
            continue
        yield module_name, module
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and value.__module__ == module_name:
                yield f"{module_name}.{name}", value
