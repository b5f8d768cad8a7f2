# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""That all benchmarks run. What they measure is not looked at here: tools/nightly.sh measures."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.bench import __main__ as command
from tests.bench import measuring
from tests.functional import older

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.skipif(older.NOVA < 34, reason="benchmarks are of the newest Nova that is supported")
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
