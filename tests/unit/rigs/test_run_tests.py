# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What tools/test.sh runs, in which environment."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import pytest

from rigs import releases, run_tests, venvs

ROOT = pathlib.Path(__file__).resolve().parents[3]
NAMES = [release.name for release in releases.RELEASES]
OLDEST, NEWEST = releases.RELEASES[0], releases.RELEASES[-1]


def test_environments_of_releases_are_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("NOVA_DEVCOMPAT_VENVS", str(tmp_path))
    environment = venvs.environment
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert environment("test") == environment("test", NEWEST.series)
    assert environment("test").path == tmp_path / f"test-{version}"
    older = environment("test", OLDEST.series)
    assert older.path == tmp_path / f"test-{OLDEST.name}-{version}"
    assert older.constraints == OLDEST.constraints


def functional_suites(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(run_tests, "WORKERS", 2)
    parsed = run_tests.parse(["--functional", *arguments])
    (group,) = run_tests.choose(parsed, pathlib.Path())
    return [(suite.name, suite.arguments, suite.shared) for suite in group]


@pytest.mark.parametrize("release", releases.RELEASES, ids=NAMES)
def test_all_functional_tests_run_once_at_least(release, monkeypatch):
    suites = functional_suites(monkeypatch, "--nova", release.name)
    if release.native:
        assert suites == [("native", (), True), ("eventlet", ("-m", "threads"), False)]
    else:
        assert suites == [
            ("eventlet-1", ("--share=1/2",), False),
            ("eventlet-2", ("--share=2/2",), False),
        ]


def test_a_selection_runs_in_one_process(monkeypatch):
    suites = functional_suites(monkeypatch, "--nova", OLDEST.name, "--", "-x")
    assert suites == [("eventlet", (), False)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--nova", "2024.2"], f"there are {OLDEST.name} (Nova {OLDEST.series}), "),
        (["--nova", OLDEST.name, "--native"], f"Nova {OLDEST.series} know eventlet only"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments, told):
    command = [sys.executable, "-m", "rigs.run_tests", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert told in done.stderr
