# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Runs test suites, each in a process of its own, so that no processor is idle before the end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from rigs import junit
from rigs.suites import WORKERS, Suite
from rigs.venvs import ROOT

#: Seconds between two looks at whether a suite has ended.
_PULSE = 0.1
#: Linux has files here in memory. A container may have little of it, and run no programs there.
#: pytest makes a folder of its own in it.
MEMORY = pathlib.Path("/dev/shm")  # nosec B108
#: Bytes that are free there if all is well, and the size of a small file.
_ROOM, _FILE = 32 << 20, 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteOutcome:
    """What came of a suite.

    :ivar status: pytest's exit status; negative if a signal ended it
    :ivar failed: the tests that failed
    :ivar skipped: why nothing of it ran, where all of it was skipped
    """

    suite: Suite
    status: int
    seconds: float
    counts: junit.Counts
    failed: tuple[str, ...] = ()
    skipped: str = ""


@dataclasses.dataclass(kw_only=True)
class _Run:
    """A suite that runs."""

    suite: Suite
    process: subprocess.Popen[str]
    started: float
    relay: threading.Thread | None


class Runner:
    """Runs suites.

    :param pythons: the interpreter for each of the suites' environments
    :param results: the folder for JUnit XML and data of coverage
    :param cache: within ``.pytest_cache``, for what is kept from run to run
    :param extra: further arguments for pytest
    :param workers: as many processes are to be busy
    :param serial: one suite after the other
    """

    def __init__(
        self,
        pythons: Mapping[str, pathlib.Path],
        results: pathlib.Path,
        *,
        cache: str,
        extra: Sequence[str] = (),
        workers: int = WORKERS,
        serial: bool = False,
    ) -> None:
        self._pythons = pythons
        self._results = results
        self._cache = cache
        self._extra = extra
        self._workers = workers
        self._serial = serial

    def run(self, suites: Sequence[Suite]) -> list[SuiteOutcome]:
        """Run suites, in order as far as there is room for them, and wait for all."""
        together = len(suites) > 1 and not self._serial
        pending, outcomes = list(suites), []
        running: list[_Run] = []
        with _terminated_on_exit(running):
            while pending or running:
                for suite in list(pending):
                    if self._fits(suite, [run.suite for run in running]):
                        pending.remove(suite)
                        running.append(self._start(suite, piped=together))
                for run in [run for run in running if run.process.poll() is not None]:
                    running.remove(run)
                    outcomes.append(self._ended(run))
                time.sleep(_PULSE)
        return sorted(outcomes, key=lambda outcome: suites.index(outcome.suite))

    def _fits(self, suite: Suite, running: Sequence[Suite]) -> bool:
        """Two processes more than there are to be busy: most wait now and then."""
        if self._serial or not running:
            return not running
        used = sum(one.processes(self._workers) for one in running)
        return used + suite.processes(self._workers) <= self._workers + 2

    def _start(self, suite: Suite, *, piped: bool) -> _Run:
        print(f"\n=== {suite.name}: {' '.join(suite.selected) or suite.folder}", flush=True)
        self._junit(suite).unlink(missing_ok=True)
        process = subprocess.Popen(
            [self._pythons[suite.environment], "-m", "pytest", *self._arguments(suite, piped)],
            cwd=ROOT,
            env=self._environ(suite),
            text=True,
            errors="replace",
            stdout=subprocess.PIPE if piped else None,
            stderr=subprocess.STDOUT if piped else None,
        )
        relay = None
        if process.stdout is not None:
            relay = threading.Thread(target=_relay, args=(suite.name, process.stdout))
            relay.start()
        return _Run(suite=suite, process=process, started=time.monotonic(), relay=relay)

    def _arguments(self, suite: Suite, piped: bool) -> Iterator[str]:
        yield from suite.selected or (suite.folder,)
        yield f"--junitxml={self._junit(suite)}"
        # Interleaved output needs whole lines. Where tests take long, that is one for each.
        if piped and not suite.many:
            yield "-v"
        # Suites that run at the same time must not share it.
        yield from ("-o", f"cache_dir=.pytest_cache/{self._cache}/{suite.name}")
        yield from suite.arguments
        if (processes := suite.processes(self._workers)) > 1:
            yield from ("-n", str(processes), "--dist", suite.distribution)
        yield from self._extra

    def _environ(self, suite: Suite) -> dict[str, str]:
        environ = os.environ | suite.environ | {"PYTHONUNBUFFERED": "1"}
        environ["COVERAGE_FILE"] = str(self.coverage_data(suite))
        # A test that hangs ends with a traceback (nova.test and oslotest read this).
        environ.setdefault("OS_TEST_TIMEOUT", "300")
        if suite.files and "TMPDIR" not in environ and roomy(MEMORY):
            environ["TMPDIR"] = str(MEMORY)
        return environ

    def _ended(self, run: _Run) -> SuiteOutcome:
        if run.relay is not None:
            run.relay.join()
        path = self._junit(run.suite)
        counts = junit.count(path)
        return SuiteOutcome(
            suite=run.suite,
            status=run.process.returncode,
            seconds=time.monotonic() - run.started,
            counts=counts,
            failed=tuple(junit.failed(path)),
            skipped=_why_skipped(path, counts),
        )

    def coverage_data(self, suite: Suite) -> pathlib.Path:
        """The file for what coverage saw of a suite."""
        return self._results / f"{suite.name}.coverage"

    def _junit(self, suite: Suite) -> pathlib.Path:
        return self._results / f"{suite.name}.xml"


def roomy(folder: pathlib.Path) -> bool:
    """Whether files of tests can be in a folder: programs, too, and many at a time."""
    try:
        facts = os.statvfs(folder)
    except OSError:
        return False
    free = min(facts.f_bavail * facts.f_frsize, facts.f_favail * _FILE)
    usable = os.access(folder, os.W_OK | os.X_OK) and not facts.f_flag & os.ST_NOEXEC
    return usable and free >= _ROOM


def _why_skipped(path: pathlib.Path, counts: junit.Counts) -> str:
    """The reasons for which all tests of a suite were skipped; "" if some ran."""
    if counts.passed or counts.failed or not counts.skipped:
        return ""
    reasons = [mark.get("message", "") for mark in ET.parse(path).iter("skipped")]
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason)) or "no reason given"


def _relay(name: str, lines: TextIO) -> None:
    """Print the lines of one of several processes under its name."""
    for line in lines:
        sys.stdout.write(f"[{name}] {line}")
        sys.stdout.flush()


@contextlib.contextmanager
def _terminated_on_exit(running: Sequence[_Run]) -> Iterator[None]:
    """Leave no process behind, however this one ends."""
    try:
        yield
    except BaseException:
        for run in running:
            run.process.terminate()
        for run in running:
            try:
                run.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                run.process.kill()
        raise
