# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""That all benchmarks run, and that their table can be read again. What they measure is not
looked at here: tools/nightly.sh measures.
"""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.bench import __main__ as command
from tests.bench import measuring
from tests.bench.measuring import Row, Times

#: Not from tests.functional, which prepares the process for Nova's services when it is imported.
NOVA = int(importlib.metadata.version("nova").split(".")[0])
ROOT = pathlib.Path(__file__).resolve().parents[2]


def row(**values):
    given = {"case": "c", "unit": "ms", "ours": Times(least=3.0, median=4.0), "beside": "nothing"}
    return Row(**{**given, **values})


@pytest.mark.skipif(NOVA < 34, reason="benchmarks are of the newest Nova that is supported")
def test_all_of_them_run(tmp_path):
    written = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick", "--json", str(written)],
        cwd=ROOT,
        env={**os.environ, "OS_NOVA_DISABLE_EVENTLET_PATCHING": "true"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    whole = json.loads(written.read_text())
    assert tuple(whole["benchmarks"]) == command.NAMES
    found = {name: list(map(measuring.row_of, rows)) for name, rows in whole["benchmarks"].items()}
    for name, rows in found.items():
        assert rows, name
        for one in rows:
            assert one.ours.least <= one.ours.median, one
            assert one.beside
    # Nova logs to the same.
    assert done.stdout.rstrip("\n").endswith(measuring.shown(found))


def test_each_module_with_rows_is_in_the_table():
    modules = {
        path.stem
        for path in (ROOT / "tests" / "bench").glob("*.py")
        if "\ndef rows(" in path.read_text()
    }
    assert modules == set(command.NAMES)


@pytest.mark.parametrize(
    ("values", "met"),
    [
        ({}, None),
        ({"budget": 5}, None),
        ({"budget": 3, "of": "ours"}, True),
        ({"budget": 2.9, "of": "ours"}, False),
        ({"budget": 2.9, "of": "ours", "enough": False}, None),
        ({"budget": 1.5, "stock": Times(least=2.0, median=9.0)}, True),
        ({"budget": 1.4, "stock": Times(least=2.0, median=9.0)}, False),
        ({"budget": 1, "of": "more", "stock": Times(least=2.0, median=9.0)}, True),
        ({"budget": 0, "of": "more", "stock": Times(least=2.0, median=9.0)}, False),
    ],
)
def test_whether_a_budget_is_met(values, met):
    made = row(**values)
    assert made.met is met
    assert measuring.row_of(json.loads(json.dumps(made.plain()))) == made
    assert {None: " - ", True: " yes ", False: " NO "}[met] in measuring.shown({"b": [made]})


def test_each_begins_every_other_round():
    began = []
    times = measuring.in_turn(
        {"ours": lambda: began.append("ours"), "stock": lambda: began.append("stock")}, 3
    )
    assert set(times) == {"ours", "stock"}
    rounds = list(zip(began[::2], began[1::2], strict=True))
    assert len(rounds) == 4
    assert all(set(pair) == {"ours", "stock"} for pair in rounds)
    assert rounds[0] != rounds[1]
