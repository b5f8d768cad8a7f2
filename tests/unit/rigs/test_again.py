# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A second run of a few tests that failed."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import textwrap

import pytest

from rigs import again

#: Fails at first, then passes; and fails always.
TESTS = """
    import pathlib

    class Test:
        def test_now_and_then(self, request):
            been = pathlib.Path("been")
            assert been.exists() or been.touch()

        def test_broken(self):
            assert False
"""


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder with results of tests of a tree in which pytest is what runs them."""
    path = tmp_path / "tests" / "area" / "test_some.py"
    path.parent.mkdir(parents=True)
    path.write_text(textwrap.dedent(TESTS))
    (tmp_path / "pytest.ini").touch()
    script = tmp_path / "run.sh"
    script.write_text('#!/bin/sh\nexec "$PYTHON" -m pytest -q -p no:cacheprovider "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr(again, "_COMMAND", (str(script),))
    monkeypatch.setattr(again.venvs, "ROOT", tmp_path)

    def first(name, *arguments):
        command = [script, f"--junitxml={tmp_path / name}.xml", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=False).returncode

    return tmp_path, first


def test_what_passes_again_is_named(results, capfd):
    folder, first = results
    assert first("native", "-k", "now_and_then") == 1
    assert again.main([str(folder), "unit", "native"]) == 0
    line = "native: tests.area.test_some.Test.test_now_and_then\n"
    assert (folder / again.UNSTABLE).read_text() == line
    assert f"UNSTABLE, passed when it was run again: {line}" in capfd.readouterr().out


def test_what_is_broken_stays_so(results):
    folder, first = results
    assert first("native") == 1
    assert again.main([str(folder), "native"]) == 1
    assert not (folder / again.UNSTABLE).exists()


def test_nothing_to_run(results):
    """No test of these failed, whatever ended the run; and those of the core count together."""
    folder, first = results
    first("native", "-k", "nothing")
    first("core", "-k", "now_and_then")
    for suites in (["native"], ["core"], []):
        assert again.main([str(folder), *suites]) == 1


def test_many_are_not_run(results, monkeypatch):
    folder, first = results
    first("native")
    monkeypatch.setattr(again, "MOST", 1)
    (folder / "been").unlink()
    assert again.main([str(folder), "native"]) == 1
    assert not (folder / "been").exists()


def test_a_test_whose_file_is_gone(results, capfd):
    folder, first = results
    first("native", "-k", "now_and_then")
    (folder / "tests" / "area" / "test_some.py").unlink()
    assert again.main([str(folder), "native"]) == 1
    assert "no file has the test tests.area.test_some.Test" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("tests.unit.rigs.test_again.test_one", "tests/unit/rigs/test_again.py::test_one"),
        (
            "tests.unit.rigs.test_again.A.test[a.b-1]",
            "tests/unit/rigs/test_again.py::A::test[a.b-1]",
        ),
    ],
)
def test_names_of_tests(name, found):
    root = pathlib.Path(__file__).parents[3]
    assert again.node_id(name, root) == found


def test_commands_of_all_suites():
    """A suite with a command of its own is one of .ci/run, and its command is there."""
    root = pathlib.Path(__file__).parents[3]
    steps = (root / ".ci" / "run").read_text()
    for suite, (program, *_) in {**again._COMMANDS, "native": again._COMMAND}.items():
        assert f" {suite}" in steps
        assert (root / program).is_file()
