# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Run the test suites, as many at a time as keep the processors busy, and end with a summary.

Without options: the unit tests with the branch coverage of the pure core, the tests against real
programs where these can be had, the functional tests on native threads, and on eventlet those of
them that the marker ``threads`` names; before OpenStack 2026.2 all of them on eventlet.

With PATHs, which are taken from where you are, or else from the top of the tree: only the tests
there; functional ones on native threads where Nova can, unless --eventlet says otherwise.
Only the standard library is used here.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import signal
import sys
import tempfile
import time
from collections.abc import Sequence

from rigs import coverage, interrupts, junit, releases, runner, selection, suites, venvs
from rigs.runner import SuiteOutcome
from rigs.suites import Suite, Wanted

#: Among the results: the suites of which nothing ran, and why.
SKIPPED = "skipped.txt"
#: pytest's exit status when nothing was collected.
NOTHING_COLLECTED = 5
#: Our exit statuses beside 0 and argparse's 2.
TESTS_FAILED, BROKEN = 1, 3
#: The suites by the option that names them.
FOLDERS = {
    "unit": "tests/unit",
    "real": "tests/real",
    "functional": "tests/functional",
    "page": "tests/page",
    "packaging": "tests/packaging",
}
_USAGE = "%(prog)s [options] [PATH[::TEST] ...] [-- pytest arguments]"
#: The examples in it are tried by a test.
EPILOG = """\
examples:
  tools/test.sh --quick
  tools/test.sh tests/unit/catalog tests/unit/test_docs.py
  tools/test.sh tests/functional/test_lines_of_defence.py::ForcedTest
  tools/test.sh --eventlet tests/functional/test_concurrency.py
  tools/test.sh --functional --native -- -k refused_by_admission -x

Arguments for pytest are read as in the top of the tree. With them each suite runs in one process,
and all that they select runs on eventlet, too, unless --native or PATH says otherwise.
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line.

    :returns: beside what the options say, ``wanted`` and ``pytest``
    :raises SystemExit: it is wrong, and stderr says how
    """
    given = list(sys.argv[1:] if argv is None else argv)
    # What follows "--" is pytest's, whatever it looks like.
    end = given.index("--") if "--" in given else len(given)
    parser = _parser()
    arguments = parser.parse_args(given[:end])
    arguments.pytest = given[end + 1 :]
    try:
        arguments.release = releases.find(arguments.nova)
    except releases.UnknownRelease as error:
        parser.error(f"--nova {arguments.nova}: {error}")
    if arguments.native and not arguments.release.native:
        parser.error(
            f"--native: the test fixtures of Nova {arguments.release.series} know eventlet only; "
            "leave it out"
        )
    named = {name for name in FOLDERS if getattr(arguments, name)}
    modes = {name for name in ("native", "eventlet") if getattr(arguments, name)}
    if arguments.quick and (named or modes or arguments.paths or arguments.pytest):
        parser.error("--quick is a choice of its own: leave out the others")
    arguments.wanted = Wanted(
        release=arguments.release,
        kinds=frozenset(modes if arguments.paths else _kinds(named, modes)),
        tests=_tests(parser, arguments.paths, named),
        quick=arguments.quick,
        alone=bool(arguments.pytest),
    )
    _refuse_paths(parser, arguments.pytest)
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/test.sh",
        description=__doc__,
        usage=_USAGE,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the pure core, and a functional test for each line of defence and for records: "
        "what fails soonest, in two minutes",
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
        "--page",
        action="store_true",
        help="the tests of the page in Chromium, which they install where that is possible; not "
        "run by default",
    )
    parser.add_argument(
        "--packaging",
        action="store_true",
        help="build the wheel and test it in fresh environments; not run by default",
    )
    parser.add_argument(
        "--serial", action="store_true", help="one suite after the other, nothing beside it"
    )
    parser.add_argument(
        "--coverage",
        action="store_true",
        help="measure line and branch coverage of the whole package over all that runs",
    )
    parser.add_argument(
        "--junit",
        metavar="FOLDER",
        type=pathlib.Path,
        help="keep the results as JUnit XML, and data of coverage",
    )
    parser.add_argument("paths", nargs="*", metavar="PATH[::TEST]", help="only these tests")
    return parser


def _kinds(named: set[str], modes: set[str]) -> set[str]:
    """The kinds of suites that options name; see :func:`suites.choose`."""
    if modes:
        named = (named - {"functional"}) | modes
    return named or {"unit", "real", "functional"}


def _tests(
    parser: argparse.ArgumentParser, paths: Sequence[str], named: set[str]
) -> tuple[selection.Selected, ...]:
    selected: list[selection.Selected] = []
    for path in paths:
        try:
            found = selection.select(path, pathlib.Path.cwd())
        except selection.UnknownTest as error:
            parser.error(str(error))
        folders = {FOLDERS[name] for name in named}
        if folders and not folders & {one.suite for one in found}:
            options = " ".join(f"--{name}" for name in sorted(named))
            parser.error(f"{path} is none of the tests that {options} is about")
        selected += [one for one in found if not folders or one.suite in folders]
    return tuple(dict.fromkeys(selected))


def _refuse_paths(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """A path among pytest's arguments would be run beside everything else."""
    before = ""
    for argument in arguments:
        names_file = "/" in argument or argument.partition("::")[0].endswith(".py")
        # It may be the value of the option before it.
        if names_file and not argument.startswith("-") and not before.startswith("-"):
            parser.error(f"give {argument} before --, which arguments of pytest follow")
        before = argument


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    # For this process alone: what it starts finds its modules by itself.
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory(prefix="nova-devcompat-test-") as scratch_name:
        results = (arguments.junit or pathlib.Path(scratch_name)).resolve()
        chosen = suites.choose(arguments.wanted)
        if missing := sorted({s.folder for s in chosen if not (venvs.ROOT / s.folder).is_dir()}):
            print(f"There is no {' and no '.join(missing)}: nothing was run.", file=sys.stderr)
            return 2
        try:
            pythons = _pythons(chosen, arguments.release)
        except venvs.InstallError as error:
            print(error, file=sys.stderr)
            return 1
        results.mkdir(parents=True, exist_ok=True)
        if arguments.coverage:
            chosen = [coverage.measured(suite, results) for suite in chosen]
        running = runner.Runner(
            pythons,
            results,
            cache=arguments.release.name,
            extra=arguments.pytest,
            serial=arguments.serial,
        )
        started = time.monotonic()
        outcomes = running.run(chosen)
        seconds = time.monotonic() - started
        lines = [f"{one.suite.folder}: {one.skipped}" for one in outcomes if one.skipped]
        (results / SKIPPED).write_text("".join(f"{line}\n" for line in lines))
        covered = None
        if arguments.coverage:
            data = [running.coverage_data(suite) for suite in chosen]
            covered = coverage.report(pythons["test"], data, results / "coverage")
    status = summarise(outcomes, seconds, selected=bool(arguments.pytest))
    if covered is not None:
        print(f"Coverage of {coverage.PACKAGE}: {covered}")
    return status


def _pythons(chosen: Sequence[Suite], release: releases.Release) -> dict[str, pathlib.Path]:
    """The interpreters of the suites' environments, which are made unless they are there.

    :raises venvs.InstallError: one cannot be made
    """
    # What needs no Nova is the same whatever Nova is tested.
    names = {"test": release.name, "check": releases.DEFAULT, "page": releases.DEFAULT}
    return {
        name: venvs.ensure(venvs.environment(name, names[name]))
        for name in sorted({suite.environment for suite in chosen})
    }


def summarise(outcomes: Sequence[SuiteOutcome], seconds: float, *, selected: bool) -> int:
    """Print the summary.

    :param selected: whether pytest arguments chose tests, so that a suite may have none
    :returns: the exit status: 0 only if tests ran and everything passed, :data:`TESTS_FAILED` if
        nothing is wrong but that tests failed, :data:`BROKEN` otherwise
    """
    total = sum((outcome.counts for outcome in outcomes), junit.Counts())
    bad = [outcome for outcome in outcomes if _is_bad(outcome, selected=selected)]
    good = total.passed + total.failed > 0 and not bad
    print(f"\n{'suite':<14}{'passed':>8}{'failed':>8}{'skipped':>9}{'time':>9}")
    for outcome in outcomes:
        counts = outcome.counts
        print(
            f"{outcome.suite.name:<14}{counts.passed:>8}{counts.failed:>8}{counts.skipped:>9}"
            f"{outcome.seconds:>7.0f} s{_remark(outcome, bad=outcome in bad)}"
        )
    for outcome in outcomes:
        for name in outcome.failed:
            print(f"failed: {outcome.suite.name}: {name}")
    text = f"{total.passed} passed, {total.failed} failed"
    if total.skipped:
        text += f", {total.skipped} skipped"
    print(f"\n{'OK' if good else 'FAILED'}: {text} in {seconds:.0f} s")
    if good:
        return 0
    return TESTS_FAILED if bad and not any(map(_explain, bad)) else BROKEN


def _is_bad(outcome: SuiteOutcome, *, selected: bool) -> bool:
    return outcome.status != 0 and not (selected and outcome.status == NOTHING_COLLECTED)


def _remark(outcome: SuiteOutcome, *, bad: bool) -> str:
    if bad:
        return f"  FAILED{_explain(outcome)}"
    if outcome.status == NOTHING_COLLECTED:
        return "  no test selected"
    return f"  NOTHING RAN: {outcome.skipped}" if outcome.skipped else ""


def _explain(outcome: SuiteOutcome) -> str:
    """What else is wrong with a suite than that tests of it failed; "" if nothing is."""
    if outcome.status < 0:
        return f": ended by signal {signal.Signals(-outcome.status).name}"
    if outcome.status == NOTHING_COLLECTED or outcome.counts == junit.Counts():
        return f": no test ran, pytest ended with status {outcome.status}"
    # With any other status pytest ended before all tests had run, whichever failed until then.
    if outcome.counts.failed and outcome.status == 1:
        return ""
    if outcome.status == 1 and suites.CORE_COVERAGE[0] in outcome.suite.arguments:
        return f": branch coverage of {suites.CORE} is below 100 %"
    return f": pytest ended with status {outcome.status}"


if __name__ == "__main__":
    sys.exit(interrupts.run(main))
