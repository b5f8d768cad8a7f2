# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""rigs.demo, as a user runs it: in a process of its own."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import pytest

from rigs.demo import page, story, telling
from tests.functional import bootstrap

ROOT = pathlib.Path(__file__).parents[2]

# The demo chooses its own concurrency: once is enough.
pytestmark = pytest.mark.skipif(
    not bootstrap.uses_threads(), reason="the demo runs on native threads by itself"
)

NEED = ["nic.fw_version=1.2"]


def start(*arguments, python=(sys.executable,), **environ):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OS_")} | environ
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.Popen(
        [*python, "-P", "-m", "rigs.demo", *arguments],
        cwd="/",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments, **kwargs):
    process = start(*arguments, **kwargs)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_json_and_nothing_else():
    """All goes as told, stdout is one JSON document, stderr is empty, nothing is left behind."""
    with tempfile.TemporaryDirectory() as scratch:
        status, out, err = run("--json", TMPDIR=scratch)
        left = os.listdir(scratch)

    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document["ok"]
    steps = {step["name"]: step["details"] for step in document["steps"] if step["ok"]}
    assert list(steps) == [
        "services",
        "fleet",
        "start",
        "destinations",
        "forward",
        "back",
        "named",
        "forced",
        "upgrade",
    ]
    assert len(steps) == len(document["steps"])
    accepts = {host["host"]: host["accepts"] for host in steps["fleet"]["hosts"]}
    assert accepts == {
        "cmp1": ["1.0"],
        "cmp2": ["1.0", "1.2"],
        "cmp3": ["1.0", "1.2", "1.4"],
        "cmp4": ["2.0"],
    }
    assert steps["start"]["need"] == steps["back"]["need"] == steps["upgrade"]["need"] == NEED
    assert steps["start"]["trait"] in steps["forward"]["asked"]["root_required"][0]
    assert steps["forward"]["offered"] == ["cmp2", "cmp3"]
    assert [
        steps[name]["tried"] for name in ("forward", "back", "named", "forced", "upgrade")
    ] == [
        ["cmp3"],
        ["cmp2"],
        [],
        ["cmp1"],
        ["cmp1"],
    ]
    assert "needs 1.2, offered 1.0" in steps["named"]["log"][0]
    assert "needs 1.2, offered 1.0" in steps["forced"]["refusals"][0]
    assert steps["upgrade"]["host"] == "cmp1"
    assert left == []


def test_interrupted():
    with tempfile.TemporaryDirectory() as scratch:
        process = start(TMPDIR=scratch)
        for line in process.stdout:
            if line.startswith("Loading Nova"):
                process.send_signal(signal.SIGINT)
                break
        _, err = process.communicate(timeout=30)
        left = os.listdir(scratch)
    assert (process.returncode, err, left) == (130, "", [])


def test_help():
    status, out, _ = run("--help")
    assert status == 0
    assert "--json" in out
    assert "tools/demo.sh" in out


def test_without_its_environment():
    """A Python that has no Nova: what to run instead."""
    status, out, err = run(python=(sys.executable, "-S"))
    assert (status, out) == (2, "")
    assert "has no module nova" in err
    assert "./tools/demo.sh" in err


class _Story:
    def __init__(self, *steps):
        self._steps = steps

    def steps(self):
        return [(step, step.__name__.title()) for step in self._steps]


def test_ends_at_what_was_not_expected(capsys):
    def good(details):
        details["seen"] = 1

    def bad(details):
        story.expect("host of the guest", "cmp2", "cmp1")

    told = telling.tell(_Story(good, bad, good), page.Page(quiet=True), verbose=False)

    assert [(one.name, one.ok) for one in told] == [("good", True), ("bad", False)]
    assert told[0].details == {"seen": 1}
    assert told[1].as_json()["error"] == {
        "what": "host of the guest",
        "expected": "cmp2",
        "got": "cmp1",
    }
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Step 2, 'Bad' did not go as told" in captured.err
    assert "expected  'cmp2'" in captured.err
    assert "got       'cmp1'" in captured.err


def test_ends_at_an_error(capsys):
    def broken(details):
        raise TimeoutError("waited 30 s")

    (told,) = telling.tell(_Story(broken), page.Page(quiet=True), verbose=False)

    assert not told.ok
    assert told.error["got"] == "TimeoutError: waited 30 s"
    err = capsys.readouterr().err
    assert "TimeoutError: waited 30 s" in err
    assert "Traceback" not in err
    assert "demo.sh -v" in err


def test_table():
    lines = page.tabulate(["a", "why"], [["x", "one two three four five six"], ["yy", ""]], 30)
    assert lines == [
        "     a   why",
        "     --  ---------------------",
        "     x   one two three four",
        "         five six",
        "     yy",
    ]
