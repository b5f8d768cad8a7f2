# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Runs Nova's tests in worker processes, and takes down what came of each."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import select
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

WORKER = pathlib.Path(__file__).with_name("worker.py")
#: Seconds in which a test must end by itself (nova.test and oslotest read OS_TEST_TIMEOUT), and
#: after which a worker that has not said a word is taken to hang.
TEST_TIMEOUT = 300
SILENCE = 5 * TEST_TIMEOUT  # some classes of Nova's multiply the former by 4


class WorkerError(Exception):
    """A worker could not do what it is there for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestOutcome:
    """What came of a test.

    :param status: ``pass``, ``fail``, ``skip``, ``expected failure``, ``unexpected success`` or
        ``not run``
    :param why: the traceback, or why it was skipped
    :param ours: how often our code did what, by what it is
    """

    status: str
    why: str = ""
    seconds: float = 0.0
    ours: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """The tests of a class, which one worker runs."""

    module: str
    tests: tuple[str, ...]


class Runner:
    """Runs tests in one of the environments.

    :param variant: ``stock`` or ``ours``
    :param python: the environment's
    :param folder: for what the tests print and leave behind
    :param threads: on native threads, not on eventlet
    """

    def __init__(
        self, variant: str, python: pathlib.Path, folder: pathlib.Path, *, threads: bool
    ) -> None:
        self.variant = variant
        self._python = python
        self._folder = folder
        self._threads = threads
        self._numbers = iter(range(1_000_000))
        self._lock = threading.Lock()
        self._workers: set[_Worker] = set()
        self._ending = threading.Event()
        #: Where our code was imported from; None in the stock variant.
        self.installed: dict[str, list[str]] | None = None

    def list_tests(self) -> dict[str, Group]:
        """All tests, by class."""
        found = {}
        with self._worker() as worker:
            for module in worker.ask(do="modules")["modules"]:
                for name, tests in worker.ask(do="list", module=module)["classes"].items():
                    found[name] = Group(module=module, tests=tuple(tests))
        return found

    def run(
        self,
        groups: Collection[Group],
        jobs: int,
        tell: Callable[[Mapping[str, TestOutcome]], None] = lambda outcomes: None,
    ) -> dict[str, TestOutcome]:
        """Run tests.

        :param jobs: in so many processes at a time
        :param tell: called with the outcomes so far, whenever there is another
        """
        pending: queue.SimpleQueue[Group] = queue.SimpleQueue()
        # The largest first, so that no worker is left alone with one at the end.
        for group in sorted(groups, key=lambda group: len(group.tests), reverse=True):
            pending.put(group)
        outcomes: dict[str, TestOutcome] = {}
        problems: list[Exception] = []

        def note(test: str, outcome: TestOutcome) -> None:
            with self._lock:
                outcomes[test] = outcome
                tell(outcomes)

        def work() -> None:
            try:
                self._work(pending, note)
            except Exception as error:  # noqa: BLE001  raised again below
                problems.append(error)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException:
            self._ending.set()
            with self._lock:
                workers = list(self._workers)
            for worker in workers:
                worker.stop()
            raise
        if problems:
            raise problems[0]
        # Where a class's own setup failed.
        for group in groups:
            for test in group.tests:
                outcomes.setdefault(test, TestOutcome(status="not run"))
        return outcomes

    def _work(
        self, pending: queue.SimpleQueue[Group], note: Callable[[str, TestOutcome], None]
    ) -> None:
        while not self._ending.is_set():
            with self._worker() as worker:
                while True:
                    try:
                        group = pending.get_nowait()
                    except queue.Empty:
                        return
                    left = worker.run(group, note)
                    if left is not None:
                        break
            # It died, so the rest gets another one.
            if left:
                pending.put(dataclasses.replace(group, tests=left))

    @contextlib.contextmanager
    def _worker(self) -> Iterator[_Worker]:
        with self._lock:
            folder = self._folder / f"{self.variant}-{next(self._numbers)}"
            folder.mkdir()
            worker = _Worker(self._python, folder, self.variant == "ours", self._threads)
            self._workers.add(worker)
        try:
            if self.variant == "ours":
                self.installed = worker.read()["installed"]
            yield worker
        finally:
            worker.stop()
            with self._lock:
                self._workers.discard(worker)


class _Worker:
    """One process of worker.py."""

    def __init__(
        self, python: pathlib.Path, folder: pathlib.Path, ours: bool, threads: bool
    ) -> None:
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "OS_"))}
        environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = str(threads).lower()
        environ["OS_TEST_TIMEOUT"] = str(TEST_TIMEOUT)
        # What a test writes into its current or temporary folder goes with ours.
        environ["TMPDIR"] = str(folder)
        self._log = folder / "output.txt"
        reading, writing = os.pipe()
        self._reading, self._buffer = reading, b""
        with open(self._log, "wb") as log:
            # -I: what is found is what is installed, not what is in some folder or variable.
            self._process = subprocess.Popen(
                [python, "-I", WORKER, f"--report={writing}", *(["--ours"] if ours else [])],
                cwd=folder,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[writing],
            )
        os.close(writing)

    def ask(self, **order: object) -> dict[str, Any]:
        """Have something done that has one answer.

        :raises WorkerError: the process ended instead
        """
        self._order(order)
        return self.read()

    def run(
        self, group: Group, note: Callable[[str, TestOutcome], None]
    ) -> tuple[str, ...] | None:
        """Run the tests of a class.

        :returns: those that are left because the process ended; None if it lives
        """
        self._order({"do": "run", "module": group.module, "tests": group.tests})
        ended: set[str] = set()
        running: str | None = None
        while True:
            try:
                event = self.read()
            except WorkerError as error:
                if running is None and not ended:
                    raise
                if running is not None:
                    note(running, TestOutcome(status="fail", why=str(error)))
                    ended.add(running)
                return tuple(test for test in group.tests if test not in ended)
            if "done" in event:
                return None
            if "started" in event:
                running = event["started"]
                continue
            name = event.pop("test")
            ended.add(name)
            running = None
            note(name, TestOutcome(**event))

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def read(self) -> dict[str, Any]:
        """What it reports next.

        :raises WorkerError: nothing, since the process ended or hangs
        """
        deadline = time.monotonic() + SILENCE
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._reading], [], [], deadline - time.monotonic())
            if not ready:
                self.stop()
                raise WorkerError(f"the process was ended: it hung for {SILENCE} s")
            read = os.read(self._reading, 1 << 16)
            if not read:
                status = self._process.wait()
                tail = self._log.read_text(errors="replace")[-2000:]
                raise WorkerError(f"the process ended with status {status}: {tail}")
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        return event

    def _order(self, order: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # read() tells why
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
