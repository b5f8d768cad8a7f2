# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What tools/nightly.sh runs, and what it says of it at the end."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

import pytest

from rigs import nightly, releases, run_tests, suites
from rigs.chaos import command as chaos
from rigs.chaos import plan
from rigs.cloud import commands as cloud_commands

ROOT = pathlib.Path(__file__).resolve().parents[3]
PARTS = nightly.parts()


def part(name: str, code: str, **environ: str) -> nightly.Part:
    """A part that is a program in Python."""
    return nightly.Part(
        name=name, what="a test", command=(sys.executable, "-c", code), environ=environ
    )


def test_a_failure_keeps_no_other_part_from_running(tmp_path, capfd):
    chosen = [
        part("first", "import sys; sys.exit(3)"),
        part("killed", "import os; os.kill(os.getpid(), 9)"),
        part("elsewhere", "import sys; sys.exit(69)"),
        part("last", "import os; print(os.environ['DEVCOMPAT_BUDGET'])", **nightly.LARGE),
    ]
    outcomes = nightly.run(chosen, tmp_path)
    assert [outcome.status for outcome in outcomes] == [3, -9, 69, 0]
    assert nightly.summarise(outcomes) == 1
    out = capfd.readouterr().out
    assert "\nnight\n" in out
    assert re.search(r"^first +0 min 0\d  FAILED: status 3$", out, re.M)
    assert re.search(r"^killed .*FAILED: ended by signal SIGKILL$", out, re.M)
    assert re.search(r"^elsewhere .*FAILED: what it needs cannot be installed here$", out, re.M)
    assert re.search(r"^last .*  passed$", out, re.M)
    assert out.splitlines()[-1] == "FAILED: first, killed, elsewhere"


def test_all_passed(tmp_path, capsys):
    assert nightly.summarise(nightly.run([part("only", "")], tmp_path)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "OK"


def test_nothing_is_no_pass():
    assert nightly.summarise([]) == 1


def test_an_interruption_is_reported(tmp_path, capfd, monkeypatch):
    """What runs is ended, what was to follow is not begun, and both are named."""

    class Interrupted(subprocess.Popen):
        def wait(self, timeout=None):
            if self.returncode is None and not getattr(self, "told", False):
                self.told = True
                raise KeyboardInterrupt
            return super().wait(timeout)

    chosen = [part("sleeps", "import time; time.sleep(60)"), part("next", "")]
    monkeypatch.setattr(nightly.subprocess, "Popen", Interrupted)
    began = time.monotonic()
    outcomes = nightly.run(chosen, tmp_path)
    assert time.monotonic() - began < 30
    assert [outcome.status for outcome in outcomes] == [None, None]
    assert nightly.summarise(outcomes) == 1
    assert capfd.readouterr().out.splitlines()[-1] == "FAILED: sleeps, next"


@pytest.mark.parametrize("one", PARTS, ids=[part.name for part in PARTS])
def test_a_part_is_a_command_of_the_tree(one):
    """tools/test.sh would accept its arguments; the others' have patterns of their own."""
    program, *arguments = one.command
    assert os.access(ROOT / program, os.X_OK)
    if program == "tools/test.sh":
        assert suites.choose(run_tests.parse(arguments).wanted)


def test_all_releases_are_tested():
    commands = [shlex.join(part.command) for part in PARTS]
    for release in releases.RELEASES:
        assert any(f"tools/nova-suite.sh --nova {release.name}" in text for text in commands)
        if release.name != releases.DEFAULT:
            assert any(f"tools/test.sh --nova {release.name}" in text for text in commands)


def test_the_shares_of_random_operations_are_the_whole_of_one_plan():
    """Each of them, as long as the time reaches, is a part of a night's 10,000."""
    commands = [part.command[1:] for part in PARTS if part.name.startswith("chaos-")]
    chosen = [cloud_commands._parser().parse_args(line) for line in commands]
    steps = [chaos.planned(one) for one in chosen]
    assert sum(len(step.operations) for share in steps for step in share) == 10_000
    numbers = [step.number for share in steps for step in share]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {step.fault.name for share in steps for step in share} == set(plan.FAULTS)
    # What is cut short is no pass.
    assert all(one.minutes == nightly.MINUTES and not one.as_many for one in chosen)


def test_a_list_and_a_choice(capsys):
    assert nightly.main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == [part.name for part in PARTS]
    assert nightly.main(["--list", "--only", "cloud", "--only", "unit"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["unit", "cloud"]
    with pytest.raises(SystemExit) as ended:
        nightly.main(["--only", "nix"])
    assert ended.value.code == 2
    assert "'nix'" in capsys.readouterr().err
