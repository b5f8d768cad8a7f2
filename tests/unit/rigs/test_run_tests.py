# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What tools/test.sh runs, in which environment."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import types

import pytest

from rigs import releases, run_tests, runner, suites, venvs
from rigs.junit import Counts
from rigs.runner import SuiteOutcome
from rigs.suites import Suite

ROOT = pathlib.Path(__file__).resolve().parents[3]
NAMES = [release.name for release in releases.RELEASES]
OLDEST, NEWEST = releases.RELEASES[0], releases.RELEASES[-1]
#: A file of functional tests, and a class and a test in it.
FILE = "tests/functional/test_lines_of_defence.py"


def chosen(*arguments: str, workers: int = 2) -> list[Suite]:
    return suites.choose(run_tests.parse(arguments).wanted, workers)


def summary(found: list[Suite]) -> list[tuple[str, tuple[str, ...], bool]]:
    return [(suite.name, suite.selected or suite.arguments, suite.shared) for suite in found]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of wrong arguments."""
    with pytest.raises(SystemExit) as ended:
        run_tests.parse(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


# --- environments --------------------------------------------------------------------------------


def test_environments_of_releases_are_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("NOVA_DEVCOMPAT_VENVS", str(tmp_path))
    environment = venvs.environment
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert environment("test") == environment("test", NEWEST.series)
    assert environment("test").path == tmp_path / f"test-{version}"
    older = environment("test", OLDEST.series)
    assert older.path == tmp_path / f"test-{OLDEST.name}-{version}"
    assert older.constraints == OLDEST.constraints


# --- whole suites --------------------------------------------------------------------------------


def test_all_suites_by_default():
    """Those that cannot be shared out begin first, so that none is alone at the end."""
    units = ["core", "unit-1", "unit-2", "unit-3"]
    assert [suite.name for suite in chosen()] == ["eventlet", *units, "native", "real"]
    older = [suite.name for suite in chosen("--nova", OLDEST.name)]
    assert older == ["eventlet-1", "eventlet-2", *units, "real"]


def test_the_gate_knows_all_suites():
    gate = (ROOT / ".ci" / "run").read_text()
    (told,) = re.findall(r"unless_again \"\$status\" (core .*)", gate)
    shell = ["bash", "-c", f"echo {told}"]
    names = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.split()
    assert sorted(names) == sorted(suite.name for suite in chosen())


def files_of(suite):
    """The files of tests that pytest finds for a suite, from the top of the tree."""
    given = suite.selected or (suite.folder,)
    ignored = [each.removeprefix("--ignore=") for each in suite.arguments if "--ignore=" in each]
    for path in sorted(path for each in given for path in (ROOT / each).rglob("test_*.py")):
        if not any(path.is_relative_to(ROOT / each) for each in ignored):
            yield path.relative_to(ROOT).as_posix()


def test_every_unit_test_is_run_once():
    found = chosen("--unit")
    assert [suite.name for suite in found if suite.arguments == suites.CORE_COVERAGE] == ["core"]
    files = [path for suite in found for path in files_of(suite)]
    there = (ROOT / "tests" / "unit").rglob("test_*.py")
    assert sorted(files) == sorted(path.relative_to(ROOT).as_posix() for path in there)
    assert all(list(files_of(suite)) for suite in found)


def test_every_unit_test_can_be_selected_from():
    core, unit = chosen("--unit", "--", "-x")
    assert {*files_of(core), *files_of(unit)} == {
        path for suite in chosen("--unit") for path in files_of(suite)
    }


@pytest.mark.parametrize("release", releases.RELEASES, ids=NAMES)
def test_all_functional_tests_run_once_at_least(release):
    found = summary(chosen("--functional", "--nova", release.name))
    if release.native:
        assert found == [("eventlet", ("-m", "threads"), False), ("native", (), True)]
    else:
        assert found == [
            ("eventlet-1", ("--share=1/2",), False),
            ("eventlet-2", ("--share=2/2",), False),
        ]


def test_one_way_of_concurrency():
    assert summary(chosen("--native")) == [("native", (), True)]
    shares = [("eventlet-1", ("--share=1/2",), False), ("eventlet-2", ("--share=2/2",), False)]
    assert summary(chosen("--eventlet")) == shares
    both = summary(chosen("--functional", "--native", "--eventlet"))
    assert both == [("eventlet", (), False), ("native", (), True)]


def test_a_selection_runs_in_one_process_and_need_not_cover_all():
    found = chosen("--nova", OLDEST.name, "--", "-x")
    assert [suite.name for suite in found] == ["eventlet", "core", "unit", "real"]
    assert not any(suite.shared for suite in found)
    assert not any(set(suite.arguments) & set(suites.CORE_COVERAGE) for suite in found)
    # All that is selected, whatever its marks.
    assert found[0].arguments == ()


def test_quick():
    assert summary(chosen("--quick")) == [("native", ("-m", "quick"), False), ("core", (), False)]
    older = chosen("--quick", "--nova", OLDEST.name)
    assert [suite.name for suite in older] == ["eventlet", "core"]
    assert older[0].arguments == ("-m", "quick")


# --- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([FILE], [("native", (FILE,), False)]),
        ([f"{FILE}::ForcedTest"], [("native", (f"{FILE}::ForcedTest",), False)]),
        (
            [f"{FILE}::ForcedTest::test_x[1]"],
            [("native", (f"{FILE}::ForcedTest::test_x[1]",), False)],
        ),
        (["--nova", OLDEST.name, FILE], [("eventlet", (FILE,), False)]),
        (["--eventlet", FILE], [("eventlet", (FILE,), False)]),
        (
            ["--native", "--eventlet", FILE],
            [("eventlet", (FILE,), False), ("native", (FILE,), False)],
        ),
        (["--functional", FILE, FILE], [("native", (FILE,), False)]),
        (["tests/functional"], [("native", ("tests/functional",), True)]),
        (["tests/unit/compat"], [("unit", ("tests/unit/compat",), True)]),
        (
            ["tests/real", "tests/unit/rigs/test_run_tests.py", "tests/unit/test_docs.py"],
            [
                ("unit", ("tests/unit/rigs/test_run_tests.py", "tests/unit/test_docs.py"), False),
                ("real", ("tests/real",), False),
            ],
        ),
        (["tests/page"], [("page", ("tests/page",), False)]),
        (["tests/packaging/"], [("packaging", ("tests/packaging",), False)]),
        (["tests/devstack/test_zuul.py"], [("devstack", ("tests/devstack/test_zuul.py",), False)]),
        (
            ["tests"],
            [
                ("unit", ("tests/unit",), True),
                ("real", ("tests/real",), False),
                ("native", ("tests/functional",), True),
            ],
        ),
    ],
)
def test_a_path_is_run_in_its_suite(arguments, expected):
    found = chosen(*arguments)
    assert summary(found) == expected
    # Some tests cannot cover everything, and none that is named is left out.
    assert all(suite.arguments == () for suite in found)


def test_environments_of_paths():
    assert [suite.environment for suite in chosen("tests/devstack")] == ["check"]
    assert [suite.environment for suite in chosen("tests/unit")] == ["test"]
    assert [suite.environment for suite in chosen("tests/page")] == ["page"]


def test_a_path_from_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "tests" / "unit" / "rigs")
    here = "tests/unit/rigs/test_run_tests.py"
    assert chosen("test_run_tests.py")[0].selected == (here,)
    assert chosen(str(ROOT / here))[0].selected == (here,)
    assert chosen("../../functional/test_need.py")[0].selected == (
        "tests/functional/test_need.py",
    )
    # As the documentation writes it, from anywhere.
    monkeypatch.chdir(tmp_path)
    assert chosen(f"{here}::test_quick")[0].selected == (f"{here}::test_quick",)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (
            "tests/unit/test_wires.py",
            r"there is no tests/unit/test_wires.py; in tests/unit are .*",
        ),
        ("tests/unit/rigs/test_run_test.py", r"in tests/unit/rigs are test_run_tests.py"),
        ("nonsense", "there is no nonsense; in . are .*tests"),
        (f"{FILE}::ForceTest", "test_lines_of_defence.py has no ForceTest; it has ForcedTest"),
        (f"{FILE}::Nix::test_x", "has no Nix; it has .*ForcedTest"),
        ("tests/unit::test_x", "unit is no file of tests, so it has no test_x"),
        (
            "tests/e2e/test_cells.py",
            "a command of its own: tools/cloud test tests/e2e/test_cells.py",
        ),
        (
            "tests/libvirt",
            "a command of its own: tools/cloud test --libvirt tests/libvirt",
        ),
        ("tests/machines", "a command of its own: tools/cloud test --machines tests/machines"),
        ("tests/bench", "a command of its own: python -m tests.bench"),
        ("rigs", "rigs has no tests; they are in tests/unit, tests/functional,"),
        ("/", "/ is not in "),
    ],
)
def test_an_unknown_path_is_refused_with_what_there_is(path, error, capsys):
    assert re.search(error, refused(capsys, path))


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--nova", "2024.2"], f"there are {OLDEST.name} (Nova {OLDEST.series}), "),
        (["--nova", OLDEST.name, "--native"], f"Nova {OLDEST.series} know eventlet only"),
        (["--quick", "--unit"], "--quick is a choice of its own"),
        (["--quick", FILE], "--quick is a choice of its own"),
        (["--quick", "--", "-x"], "--quick is a choice of its own"),
        (["--unit", FILE], f"{FILE} is none of the tests that --unit is about"),
        (["--unit", "--", "tests/unit/cli"], "give tests/unit/cli before --"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments, error, capsys):
    assert error in refused(capsys, *arguments)


def test_the_value_of_an_option_is_no_path():
    assert run_tests.parse(["--", "--deselect", "tests/unit/cli"]).pytest[-1] == "tests/unit/cli"


def test_it_fails_where_nothing_can_be_run():
    command = [sys.executable, "-m", "rigs.run_tests", "--nova", "2024.2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no supported release" in done.stderr


# --- how it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "counts", "expected"),
    [
        (0, Counts(passed=2), 0),
        (1, Counts(passed=1, failed=1), run_tests.TESTS_FAILED),
        # Who runs what failed again must not take the rest for run.
        (2, Counts(passed=1, failed=1), run_tests.BROKEN),
        (3, Counts(passed=1, failed=1), run_tests.BROKEN),
        (-9, Counts(passed=1, failed=1), run_tests.BROKEN),
        (1, Counts(passed=2), run_tests.BROKEN),
        (5, Counts(), run_tests.BROKEN),
    ],
)
def test_failed_tests_are_told_from_all_else(status, counts, expected):
    bad = SuiteOutcome(suite=suites.unit_suite(), status=status, seconds=1, counts=counts)
    good = SuiteOutcome(suite=suites.real_suite(), status=0, seconds=1, counts=Counts(passed=1))
    assert run_tests.summarise([bad, good], 1, selected=False) == expected


# --- where files are -----------------------------------------------------------------------------


def temporary(suite: Suite, tmp_path: pathlib.Path) -> list[str]:
    """What a suite's process is told of where temporary files are."""
    python, told = tmp_path / "python", tmp_path / "told"
    python.write_text(f"#!/bin/sh\nenv > {told}\n")
    python.chmod(0o700)
    runner.Runner({"test": python}, tmp_path, cache="x").run([suite])
    lines = told.read_text().splitlines()
    told.unlink()
    return [line for line in lines if line.startswith("TMPDIR=")]


def test_many_files_are_in_memory(tmp_path, monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(runner, "MEMORY", tmp_path)
    assert temporary(suites.unit_suite(), tmp_path) == [f"TMPDIR={tmp_path}"]
    assert temporary(suites.core_suite(), tmp_path) == []
    monkeypatch.setattr(runner, "MEMORY", tmp_path / "none")
    assert temporary(suites.unit_suite(), tmp_path) == []
    monkeypatch.setattr(runner, "MEMORY", tmp_path)
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    assert temporary(suites.unit_suite(), tmp_path) == ["TMPDIR=/elsewhere"]


@pytest.mark.parametrize(
    ("changed", "whether"),
    [
        ({}, True),
        ({"f_bavail": (32 << 20) // 4096 - 1}, False),
        ({"f_favail": 8_000}, False),
        ({"f_flag": os.ST_NOEXEC | os.ST_NOSUID}, False),
    ],
)
def test_what_memory_must_have(tmp_path, monkeypatch, changed, whether):
    facts = {"f_frsize": 4096, "f_bavail": 10_000, "f_favail": 10_000, "f_flag": os.ST_NOSUID}
    monkeypatch.setattr(os, "statvfs", lambda _: types.SimpleNamespace(**facts | changed))
    assert runner.roomy(tmp_path) is whether
