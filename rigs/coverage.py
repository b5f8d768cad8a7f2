# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Line and branch coverage of the whole package, over several test suites."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
from collections.abc import Sequence

from rigs.suites import CORE_COVERAGE, Suite
from rigs.venvs import ROOT

PACKAGE = "nova_devcompat"
#: For coverage.py, which must know what switches between threads. Commands that tests start in
#: processes of their own are measured, too.
_CONFIGURATION = """\
[run]
branch = true
source = {package}
concurrency = {concurrency}
patch = subprocess
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Covered:
    """How much of the package ran."""

    lines: int
    lines_of: int
    branches: int
    branches_of: int

    def __str__(self) -> str:
        return (
            f"{_percent(self.lines, self.lines_of)} % of {self.lines_of} lines, "
            f"{_percent(self.branches, self.branches_of)} % of {self.branches_of} branches"
        )


def measured(suite: Suite, folder: pathlib.Path) -> Suite:
    """The suite with coverage of the whole package.

    :param folder: for its configuration
    """
    eventlet = suite.environ.get("OS_NOVA_DISABLE_EVENTLET_PATCHING") == "false"
    configuration = folder / f"{suite.name}.coveragerc"
    configuration.write_text(
        _CONFIGURATION.format(package=PACKAGE, concurrency="eventlet" if eventlet else "thread")
    )
    arguments = [each for each in suite.arguments if each not in CORE_COVERAGE]
    arguments += [f"--cov={PACKAGE}", "--cov-branch", "--cov-report="]
    arguments += [f"--cov-config={configuration}"]
    return dataclasses.replace(suite, arguments=tuple(arguments))


def report(
    python: pathlib.Path, data: Sequence[pathlib.Path], combined: pathlib.Path
) -> Covered | None:
    """Combine what several suites saw and print what none of them ran.

    :param python: of an environment that has coverage.py
    :param data: files of coverage data; those that are not there are left out
    :param combined: the file to write
    :returns: None if nothing was measured
    """
    files = [str(path) for path in data if path.exists()]
    if not files:
        return None
    coverage = [str(python), "-m", "coverage"]
    at = f"--data-file={combined}"
    subprocess.run([*coverage, "combine", "--quiet", "--keep", at, *files], cwd=ROOT, check=True)
    print(flush=True)
    subprocess.run([*coverage, "report", at], cwd=ROOT, check=True)
    done = subprocess.run(
        [*coverage, "json", "--quiet", at, "-o", "-"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    totals = json.loads(done.stdout)["totals"]
    return Covered(
        lines=totals["covered_lines"],
        lines_of=totals["num_statements"],
        branches=totals["covered_branches"],
        branches_of=totals["num_branches"],
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}" if whole else "100.00"
