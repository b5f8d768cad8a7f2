# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Run the test suites, each in a process of its own, and end with a summary.

Without options: the unit tests with the branch coverage of the pure core, the tests against real
programs where these can be had, the functional tests on native threads, and on eventlet those of
them that the marker ``threads`` names; before OpenStack 2026.2 all of them on eventlet.
Only the standard library is used here.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from typing import TextIO

from rigs import interrupts, junit, releases, venvs

ROOT = venvs.ROOT
#: The pure core: decided without a host, so there is no excuse for a branch not tested.
COVERED = "nova_devcompat.compat"
COVERAGE = 100
#: More of Nova's services at a time would not fit into the memory of a small machine.
WORKERS = min(os.cpu_count() or 1, 8)
#: Among the results: the suites of which nothing ran, and why.
SKIPPED = "skipped.txt"
#: pytest's exit status when nothing was collected.
NOTHING_COLLECTED = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """One run of pytest over one folder."""

    name: str
    folder: str
    environ: dict[str, str] = dataclasses.field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    #: whether its tests can be shared out to several processes
    shared: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a suite."""

    suite: Suite
    status: int
    seconds: float
    counts: junit.Counts
    #: Why nothing of it ran, where all of it was skipped.
    skipped: str = ""


def native_suite() -> Suite:
    return Suite(
        name="native",
        folder="tests/functional",
        environ={"OS_NOVA_DISABLE_EVENTLET_PATCHING": "true"},
        shared=True,
    )


def eventlet_suites(*, whole: bool, shares: int = 1) -> list[Suite]:
    """The functional tests on eventlet, as suites that can run at the same time.

    :param whole: all of them, rather than those that depend on what threads do
    :param shares: how many suites; see --share in tests/functional/conftest.py
    """
    selected = () if whole else ("-m", "threads")
    return [
        Suite(
            name="eventlet" if shares == 1 else f"eventlet-{share}",
            folder="tests/functional",
            environ={"OS_NOVA_DISABLE_EVENTLET_PATCHING": "false"},
            arguments=selected if shares == 1 else (*selected, f"--share={share}/{shares}"),
        )
        for share in range(1, shares + 1)
    ]


def real_suite() -> Suite:
    return Suite(name="real", folder="tests/real")


def packaging_suite(release: releases.Release) -> Suite:
    return Suite(
        name="packaging",
        folder="tests/packaging",
        environ={"NOVA_DEVCOMPAT_RELEASE": release.name},
    )


def unit_suite(*, coverage: bool, scratch: pathlib.Path) -> Suite:
    arguments: tuple[str, ...] = ()
    if coverage:
        arguments = (
            f"--cov={COVERED}",
            "--cov-branch",
            f"--cov-fail-under={COVERAGE}",
            "--cov-report=term-missing:skip-covered",
        )
    return Suite(
        name="unit",
        folder="tests/unit",
        environ={"COVERAGE_FILE": str(scratch / "coverage")},
        arguments=arguments,
        shared=True,
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/test.sh",
        description=__doc__,
        usage="%(prog)s [options] [-- pytest arguments]",
        epilog="example: tools/test.sh --functional --native -- -k no_ratchet -x",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--unit", action="store_true", help="the unit tests")
    parser.add_argument(
        "--real",
        action="store_true",
        help="the tests against libvirtd and QEMU, which they install where that is possible",
    )
    parser.add_argument("--functional", action="store_true", help="the functional tests")
    parser.add_argument(
        "--native", action="store_true", help="functional tests on native threads (only)"
    )
    parser.add_argument(
        "--eventlet", action="store_true", help="all functional tests on eventlet (only)"
    )
    parser.add_argument(
        "--nova",
        metavar="RELEASE",
        default=releases.DEFAULT,
        help="the release of OpenStack to test with, such as 2025.1, or 31 for its Nova "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--packaging",
        action="store_true",
        help="build the wheel and test it in fresh environments; not run by default",
    )
    parser.add_argument(
        "--serial",
        action="store_true",
        help="one functional run after the other (default: both at the same time)",
    )
    parser.add_argument(
        "--junit", metavar="FOLDER", type=pathlib.Path, help="keep the results as JUnit XML"
    )
    parser.add_argument("pytest", nargs="*", metavar="-- pytest arguments")
    arguments = parser.parse_args(argv)
    try:
        arguments.release = releases.find(arguments.nova)
    except releases.UnknownRelease as error:
        parser.error(f"--nova {arguments.nova}: {error}")
    if arguments.native and not arguments.release.native:
        parser.error(
            f"--native: the test fixtures of Nova {arguments.release.series} know eventlet only; "
            "leave it out"
        )
    if arguments.native or arguments.eventlet:
        arguments.functional = True
    if not (arguments.unit or arguments.real or arguments.functional or arguments.packaging):
        arguments.unit = arguments.real = arguments.functional = True
    return arguments


def choose(arguments: argparse.Namespace, scratch: pathlib.Path) -> list[list[Suite]]:
    """The suites to run: a list of groups, the suites of a group at the same time."""
    groups = []
    if arguments.unit:
        # A selection of tests cannot cover everything.
        groups.append([unit_suite(coverage=not arguments.pytest, scratch=scratch)])
    if arguments.real:
        groups.append([real_suite()])
    if arguments.functional:
        both = arguments.native == arguments.eventlet
        native = arguments.release.native and (both or arguments.native)
        functional = [native_suite()] if native else []
        if both or arguments.eventlet:
            whole = not native or arguments.eventlet or bool(arguments.pytest)
            # As with pytest-xdist: one process for somebody who looks for something.
            alone = native or arguments.pytest or arguments.serial
            functional += eventlet_suites(whole=whole, shares=1 if alone else WORKERS)
        groups += [[suite] for suite in functional] if arguments.serial else [functional]
    if arguments.packaging:
        groups.append([packaging_suite(arguments.release)])
    return groups


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    # For this process alone: what it starts finds its modules by itself.
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory(prefix="nova-devcompat-test-") as scratch_name:
        scratch = pathlib.Path(scratch_name)
        groups = choose(arguments, scratch)
        suites = [suite for group in groups for suite in group]
        if missing := sorted({s.folder for s in suites if not (ROOT / s.folder).is_dir()}):
            print(f"There is no {' and no '.join(missing)}: nothing was run.", file=sys.stderr)
            return 2
        try:
            python = venvs.ensure(venvs.environment("test", arguments.nova))
        except venvs.InstallError as error:
            print(error, file=sys.stderr)
            return 1
        results = (arguments.junit or scratch).resolve()
        results.mkdir(parents=True, exist_ok=True)
        runner = Runner(python, results, arguments.pytest, arguments.release)
        started = time.monotonic()
        outcomes = []
        for group in groups:
            outcomes += runner.run(group)
        lines = [f"{one.suite.folder}: {one.skipped}" for one in outcomes if one.skipped]
        (results / SKIPPED).write_text("".join(f"{line}\n" for line in lines))
    return summarise(outcomes, time.monotonic() - started, selected=bool(arguments.pytest))


class Runner:
    """Runs suites with one interpreter."""

    def __init__(
        self,
        python: pathlib.Path,
        results: pathlib.Path,
        extra: Sequence[str],
        release: releases.Release,
    ) -> None:
        self._python = python
        self._results = results
        self._extra = extra
        self._release = release

    def run(self, group: Sequence[Suite]) -> list[Outcome]:
        """Run the suites of a group at the same time and wait for all of them."""
        started = time.monotonic()
        together = len(group) > 1
        processes: list[subprocess.Popen[str]] = []
        relays = []
        with _terminated_on_exit(processes):
            for suite in group:
                print(f"\n=== {suite.name}: {suite.folder}", flush=True)
                # Interleaved output needs whole lines: -v prints one a test.
                process = self._start(suite, ["-v"] if together else [], piped=together)
                processes.append(process)
                if together:
                    assert process.stdout is not None
                    relay = threading.Thread(target=_relay, args=(suite.name, process.stdout))
                    relay.start()
                    relays.append(relay)
            outcomes = []
            # In the order in which they end, so that each has its own time.
            waiting = list(zip(group, processes, strict=True))
            while waiting:
                for suite, process in waiting:
                    if process.poll() is not None:
                        outcome = Outcome(
                            suite=suite,
                            status=process.returncode,
                            seconds=time.monotonic() - started,
                            counts=junit.count(self._junit(suite)),
                            skipped=_why_skipped(self._junit(suite)),
                        )
                        outcomes.append(outcome)
                        waiting.remove((suite, process))
                        break
                else:
                    time.sleep(0.1)
            for relay in relays:
                relay.join()
        return sorted(outcomes, key=lambda outcome: group.index(outcome.suite))

    def _start(self, suite: Suite, verbose: list[str], *, piped: bool) -> subprocess.Popen[str]:
        junit = self._junit(suite)
        junit.unlink(missing_ok=True)
        environ = os.environ | suite.environ | {"PYTHONUNBUFFERED": "1"}
        # A test that hangs ends with a traceback (nova.test and oslotest read this).
        environ.setdefault("OS_TEST_TIMEOUT", "300")
        return subprocess.Popen(
            [
                self._python,
                *("-m", "pytest", suite.folder, f"--junitxml={junit}", *verbose),
                # Suites that run at the same time must not share it.
                *("-o", f"cache_dir=.pytest_cache/{self._release.name}/{suite.name}"),
                *suite.arguments,
                # With pytest arguments somebody looks for something, perhaps with a debugger.
                *(("-n", str(WORKERS), "--dist", "worksteal") if self._shares(suite) else ()),
                *self._extra,
            ],
            cwd=ROOT,
            env=environ,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE if piped else None,
            stderr=subprocess.STDOUT if piped else None,
        )

    def _shares(self, suite: Suite) -> bool:
        return suite.shared and WORKERS > 1 and not self._extra

    def _junit(self, suite: Suite) -> pathlib.Path:
        return self._results / f"{suite.name}.xml"


def summarise(outcomes: Sequence[Outcome], seconds: float, *, selected: bool) -> int:
    """Print the summary.

    :param selected: whether pytest arguments chose tests, so that a suite may have none
    :returns: the exit status: 0 only if tests ran and everything passed
    """
    total = sum((outcome.counts for outcome in outcomes), junit.Counts())
    good = total.passed + total.failed > 0
    print(f"\n{'suite':<14}{'passed':>8}{'failed':>8}{'skipped':>9}{'time':>9}")
    for outcome in outcomes:
        remark = ""
        if outcome.status == NOTHING_COLLECTED and selected:
            remark = "  no test selected"
        elif outcome.status:
            remark, good = f"  FAILED{_explain(outcome)}", False
        elif outcome.skipped:
            remark = f"  NOTHING RAN: {outcome.skipped}"
        counts = outcome.counts
        print(
            f"{outcome.suite.name:<14}{counts.passed:>8}{counts.failed:>8}{counts.skipped:>9}"
            f"{outcome.seconds:>7.0f} s{remark}"
        )
    text = f"{total.passed} passed, {total.failed} failed"
    if total.skipped:
        text += f", {total.skipped} skipped"
    print(f"\n{'OK' if good else 'FAILED'}: {text} in {seconds:.0f} s")
    return 0 if good else 1


def _explain(outcome: Outcome) -> str:
    if outcome.status < 0:
        return f": ended by signal {signal.Signals(-outcome.status).name}"
    if outcome.status == NOTHING_COLLECTED or outcome.counts == junit.Counts():
        return f": no test ran, pytest ended with status {outcome.status}"
    if outcome.counts.failed:
        return ""
    if outcome.status == 1 and outcome.suite.name == "unit":
        return f": branch coverage of {COVERED} is below {COVERAGE} %"
    return f": pytest ended with status {outcome.status}"


def _why_skipped(path: pathlib.Path) -> str:
    """The reasons for which all tests of a suite were skipped; "" if some ran."""
    counts = junit.count(path)
    if counts.passed or counts.failed or not counts.skipped:
        return ""
    reasons = [mark.get("message", "") for mark in ET.parse(path).iter("skipped")]
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason)) or "no reason given"


def _relay(name: str, lines: TextIO) -> None:
    """Print the lines of one of several processes under its name."""
    for line in lines:
        print(f"[{name}] {line}", end="", flush=True)


@contextlib.contextmanager
def _terminated_on_exit(processes: list[subprocess.Popen[str]]) -> Iterator[None]:
    """Leave no process behind, however this one ends."""
    try:
        yield
    except BaseException:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        raise


if __name__ == "__main__":
    sys.exit(interrupts.run(main))
