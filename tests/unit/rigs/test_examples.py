# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The examples of tools/test.sh, in its help and in the documentation, select tests."""

from __future__ import annotations

import json
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from rigs import run_tests, suites

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGE = ROOT / "doc/source/contributor.rst"
#: Collects tests several times in one process, since Nova takes long to import. It prints for each
#: list of arguments how many there are.
COLLECT = """
import json, sys, pytest

class Count:
    def pytest_collection_finish(self, session):
        self.count = len(session.items)

counts = []
for arguments in json.loads(sys.argv[1]):
    plugin = Count()
    status = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *arguments], [plugin])
    counts.append(plugin.count if status == 0 else 0)
print("\\n" + json.dumps(counts))
"""


def examples() -> list[str]:
    """What follows ``tools/test.sh`` in each example."""
    texts = (PAGE.read_text(), run_tests.EPILOG)
    lines = [line.partition("  #")[0] for text in texts for line in text.splitlines()]
    found = [re.fullmatch(r"\s+(?:\$ )?(?:\./)?tools/test\.sh(.*)", line) for line in lines]
    return list(dict.fromkeys(one[1].strip() for one in found if one))


def test_there_are_some():
    assert len(examples()) > 8
    assert {"", "--quick", "--unit"} <= set(examples())


@pytest.mark.parametrize("example", examples())
def test_an_example_is_accepted(example):
    assert suites.choose(run_tests.parse(shlex.split(example)).wanted)


def test_every_selection_has_tests():
    """A path has been looked up by then; marks and expressions are known to pytest alone."""
    selections = {}
    for example in examples():
        arguments = run_tests.parse(shlex.split(example))
        for suite in suites.choose(arguments.wanted):
            if arguments.pytest or "-m" in suite.arguments:
                folders = suite.selected or (suite.folder,)
                each = [*folders, *suite.arguments, *arguments.pytest]
                selections[example, suite.name] = each
    command = [sys.executable, "-c", COLLECT, json.dumps(list(selections.values()))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts = dict(zip(selections, json.loads(done.stdout.splitlines()[-1]), strict=True))
    assert counts
    assert all(counts.values()), counts
