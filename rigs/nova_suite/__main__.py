# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Run Nova's own functional tests, stock and with nova-devcompat in place, and compare them.

The released Nova is installed twice, once with our wheel beside it. There every virt driver
that a test configures is wrapped in ours, our filter and weigher are added to those that the test
enables, each host has versions, and all is enforced. Each test must come to the same in both.

A test that does not is run again in both variants, alone. It counts if it differs again, and is
named if not. Exit status: 0 without a difference, 1 with one, or where the comparison would mean
nothing; 2 for a wrong argument.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from rigs import interrupts, releases, venvs
from rigs.nova_suite import compare, environments
from rigs.nova_suite.runner import Group, Runner, TestOutcome, WorkerError

PREFIX = "nova.tests.functional."
#: What is run by default: patterns of module, class and test, after PREFIX.
AREAS = {
    "live migration": (
        r"compute\.test_live_migration\.|test_servers\.ServerMovingTests\..*live_migrat|"
        r"libvirt\.test_(live_migration|migration_addr)\.|"
        r"libvirt\.test_numa_live_migration\.NUMALiveMigration(Positive|Negative|Rollback)Tests\."
    ),
    "vGPU": r"libvirt\.test_vgpu\.",
    "PCI": r"libvirt\.test_pci_sriov_servers\.PCIServersTest\.|regressions\.test_bug_1983753\.",
    "SR-IOV": (
        r"libvirt\.test_pci_sriov_servers\.((SRIOV|VDPA)ServersTest\..*(migrat|resize|evac)|"
        r"SRIOVAttachDetach)"
    ),
    "PCI in Placement": (
        r"libvirt\.test_pci_in_placement\.(PlacementPCIAllocationHealing|(Simple)?RCAndTrait|"
        r"PlacementPCIInventoryReportingTests\..*(vf|pf))"
    ),
    "ports with resources": (
        r"test_servers_resource_request\.(ServerMoveWithPortResourceRequestTest\..*live_migrate|"
        r"LiveMigrateAbortWithPortResourceRequestTest\.|CrossCellResizeWithQoSPort\.)"
    ),
    "resize and cold migration": (
        r"test_cold_migrate\.|test_servers\.ServerMovingTests\..*(resize|cold_migrat|migrate)"
    ),
    "evacuation": r"libvirt\.test_evacuate\.|test_servers\.ServerMovingTests\..*evacuat",
    "rebuild": (
        r"test_servers\.(ServerRebuildTestCase|ServerMovingTests\..*rebuild)|"
        r"libvirt\.test_numa_servers\.NUMAServersRebuild"
    ),
    "unshelve": (
        r"test_servers\.(ServerUnshelve|ServerMovingTests\..*shelve)|"
        r"test_availability_zones\..*unshelve"
    ),
    "other moves": r"test_servers\.ServerMovingTests\.",
    "provider tree": (
        r"test_servers_provider_tree\.|libvirt\.test_(reshape|report_cpu_traits)\.|"
        r"compute\.test_resource_tracker\."
    ),
    "scheduler": (
        r"test_scheduler\.|test_json_filter\.|test_aggregates\.TestAggregateFiltersTogether\."
    ),
}
#: What cannot be run, by pattern, and why.
EXCLUDED = {
    r"api_sample_tests\.|notification_sample_tests\.": (
        "they compare with files of Nova's source tree that its wheel does not have"
    ),
}
EXCLUDED_ON_THREADS = {
    r"test_init_host\..*\.test_migrate_disk_and_power_off_crash_finish_revert_migration$": (
        "it leaves a thread asleep for 1,000,000 s, which stock Nova waits for, too"
    ),
}
#: What our code must have done at least once for the comparison to mean anything.
MUST_HAVE = ("drivers", "stats documents", "provider trees")
#: The same, of a run that is no selection of somebody's.
MUST_HAVE_UNSELECTED = (
    "filter calls",
    "needs of vgpu",
    "needs of sriov_nic",
    "needs of nic",
    "needs of hypervisor",
    "prefilter requirements",
    "filter decisions",
    "weigher calls",
    "admissions",
)
#: So many tests that differ are run again; more than that is no accident.
AGAIN = 40
#: Seconds between two lines of progress.
PULSE = 30


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/nova-suite.sh",
        description=__doc__,
        epilog="example: tools/nova-suite.sh --jobs 4 'test_vgpu' 'test_servers\\..*resize'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "patterns", nargs="*", metavar="PATTERN", help="run the tests that it is found in"
    )
    parser.add_argument("--all", action="store_true", help="all tests, which takes hours")
    parser.add_argument("--list", action="store_true", help="print what would be run, and end")
    parser.add_argument(
        "--nova",
        metavar="RELEASE",
        default=releases.DEFAULT,
        help="the release of OpenStack to test with (default: %(default)s)",
    )
    backend = parser.add_mutually_exclusive_group()
    backend.add_argument("--native", action="store_true", help="on native threads (default)")
    backend.add_argument("--eventlet", action="store_true", help="on eventlet")
    parser.add_argument(
        "--jobs", type=int, default=min(os.cpu_count() or 1, 8), help="processes at a time"
    )
    parser.add_argument(
        "--keep",
        metavar="DIR",
        type=pathlib.Path,
        help="keep the results, tracebacks and logs among them, in this new folder",
    )
    arguments = parser.parse_args(argv)
    if arguments.all and arguments.patterns:
        parser.error("--all is no selection: give it or patterns")
    try:
        arguments.release = releases.find(arguments.nova)
    except releases.UnknownRelease as error:
        parser.error(f"--nova {arguments.nova}: {error}")
    # Before 2026.2 its tests run on eventlet only.
    arguments.eventlet = arguments.eventlet or not arguments.release.native
    if arguments.native and arguments.eventlet:
        parser.error(f"--native: the tests of {arguments.release.name} run on eventlet only")
    if arguments.jobs < 1:
        parser.error("--jobs: at least 1")
    for pattern in arguments.patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            parser.error(f"{pattern!r} is no regular expression: {error}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    # For this process alone: what it starts finds its modules by itself.
    os.environ.pop("PYTHONPATH", None)
    if arguments.keep:
        try:
            arguments.keep.mkdir(parents=True)
        except FileExistsError:
            print(f"--keep: there is a {arguments.keep} already", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory(prefix="nova-suite-") as scratch:
        folder = (arguments.keep or pathlib.Path(scratch)).resolve()
        try:
            pythons = {
                variant: environments.ensure(variant, arguments.release)
                for variant in environments.REQUIREMENTS
            }
            runners = {
                variant: Runner(variant, python, folder, threads=not arguments.eventlet)
                for variant, python in pythons.items()
            }
            return _Suite(runners, folder, arguments).run()
        except (venvs.InstallError, WorkerError) as error:
            print(error, file=sys.stderr)
            return 1


def select(
    classes: Mapping[str, Group], patterns: Sequence[str], excluded: Mapping[str, str]
) -> list[Group]:
    """The tests that one of the patterns is found in, but for those that cannot be run."""
    out = re.compile("|".join(excluded))
    wanted = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    selected = []
    for group in classes.values():
        short = {test: test.removeprefix(PREFIX) for test in group.tests}
        tests = tuple(
            test for test in group.tests if wanted.search(short[test]) and not out.search(test)
        )
        if tests:
            selected.append(Group(module=group.module, tests=tests))
    return selected


class _Suite:
    """One comparison.

    :param runners: by variant
    :param folder: for the results
    """

    def __init__(
        self, runners: Mapping[str, Runner], folder: pathlib.Path, arguments: argparse.Namespace
    ) -> None:
        self._runners = runners
        self._folder = folder
        self._arguments = arguments
        self._outcomes: dict[str, dict[str, TestOutcome]] = {}

    def run(self) -> int:
        """Run both variants and print the difference.

        :returns: the exit status
        """
        arguments = self._arguments
        excluded = dict(EXCLUDED)
        if not arguments.eventlet:
            excluded |= EXCLUDED_ON_THREADS
        patterns = ["."] if arguments.all else arguments.patterns or list(AREAS.values())
        groups = {
            variant: select(runner.list_tests(), patterns, excluded)
            for variant, runner in self._runners.items()
        }
        names = sorted(test for group in groups["stock"] for test in group.tests)
        if arguments.list:
            print("\n".join(names))
        if not names:
            print("No test is selected.", file=sys.stderr)
            return 2
        if arguments.list:
            return 0
        self._introduce(names, excluded)
        for variant, runner in self._runners.items():
            self._run(variant, runner, groups[variant])
        first = self._differences()
        unsteady = self._again(first, groups)
        (self._folder / "results.json").write_text(
            json.dumps(
                {
                    variant: {test: vars(outcome) for test, outcome in sorted(outcomes.items())}
                    for variant, outcomes in self._outcomes.items()
                },
                indent=1,
            )
        )
        return self._report(unsteady)

    def _introduce(self, names: Sequence[str], excluded: Mapping[str, str]) -> None:
        for area, pattern in AREAS.items():
            found = [test for test in names if re.search(pattern, test.removeprefix(PREFIX))]
            if found:
                print(f"{area:<28}{len(found):>5} tests")
        print(f"{'selected':<28}{len(names):>5} tests")
        for pattern, why in excluded.items():
            print(f"never run: {pattern}: {why}")

    def _run(self, variant: str, runner: Runner, groups: Sequence[Group]) -> None:
        total = sum(len(group.tests) for group in groups)
        started = told = time.monotonic()

        def tell(outcomes: Mapping[str, TestOutcome]) -> None:
            nonlocal told
            now = time.monotonic()
            if now - told >= PULSE or len(outcomes) == total:
                told = now
                print(
                    f"{variant}: {len(outcomes)} of {total} in {now - started:.0f} s: "
                    f"{compare.by_status(outcomes.values())}",
                    flush=True,
                )

        self._outcomes[variant] = runner.run(groups, self._arguments.jobs, tell)

    def _differences(self) -> tuple[compare.Difference, ...]:
        return compare.differences(self._outcomes["stock"], self._outcomes["ours"])

    def _again(
        self, found: Sequence[compare.Difference], groups: Mapping[str, Sequence[Group]]
    ) -> list[str]:
        """Run the tests that differ again, each in a process of its own.

        :returns: what is to be said of those that do not differ then
        """
        unsteady: list[str] = []
        if len(found) > AGAIN:
            print(f"{len(found)} tests differ, which is too many to run them again")
            return unsteady
        for difference in found:
            print(f"again, alone: {difference}", flush=True)
            for variant, runner in self._runners.items():
                for group in groups[variant]:
                    if difference.test in group.tests:
                        alone = Group(module=group.module, tests=(difference.test,))
                        self._outcomes[variant] |= runner.run([alone], 1)
        left = {difference.test for difference in self._differences()}
        for difference in found:
            if difference.test not in left:
                status = self._outcomes["stock"][difference.test].status
                unsteady.append(f"{difference}; alone, {status} in both")
        return unsteady

    def _report(self, unsteady: Sequence[str]) -> int:
        stock, ours = self._outcomes["stock"], self._outcomes["ours"]
        did = compare.what_ours_did(ours.values())
        used = sum(1 for outcome in ours.values() if outcome.ours.get("drivers"))
        left = self._differences()

        print("\nWhat our code did, all tests together:")
        for what, count in sorted(did.items()):
            print(f"  {count:>7}  {what}")
        for test in compare.failed_in_both(stock, ours):
            print(f"fails in both: {test}: {_last_line(stock[test].why)}")
        for line in unsteady:
            print(f"differed once, not counted: {line}")
        for difference in left:
            print(f"\nDIFFERENT: {difference}")
            for variant, outcome in (("stock", difference.stock), ("ours", difference.ours)):
                if outcome and outcome.status != "pass":
                    print(f"--- {variant}\n{_end(outcome.why)}")

        print(f"\nstock: {len(stock)} tests: {compare.by_status(stock.values())}")
        print(f"ours:  {len(ours)} tests: {compare.by_status(ours.values())}")
        print(f"       {used} of them ran our driver")
        wanted = MUST_HAVE + (() if self._arguments.patterns else MUST_HAVE_UNSELECTED)
        problems = [f"no {what}" for what in wanted if not did[what]]
        problems += self._wrongly_installed()
        if left:
            problems.append(f"tests that differ: {len(left)}")
        if problems:
            print(f"FAILED: {'; '.join(problems)}")
            return 1
        print("OK: no test differs")
        return 0

    def _wrongly_installed(self) -> list[str]:
        installed = self._runners["ours"].installed
        if installed is None:
            return ["our code was not loaded"]
        tree = str(venvs.ROOT)
        # The environments themselves are within the tree by default.
        prefix = str(environments.environment("ours", self._arguments.release).path)
        return [
            f"{path} is on the path: the tree, not what is installed"
            for path in (*installed["files"], *installed["path"])
            if path.startswith(tree) and not path.startswith(prefix)
        ]


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _end(text: str) -> str:
    # What was logged comes first.
    _, mark, traceback = text.rpartition("Traceback (most recent call last)")
    return "\n".join((mark + traceback).splitlines()[-40:])


if __name__ == "__main__":
    sys.exit(interrupts.run(main))
