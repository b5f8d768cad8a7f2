# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Brings the cloud up, or uses the one whose folder DEVCOMPAT_CLOUD names."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e import playground


@pytest.fixture(scope="session")
def running() -> Iterator[playground.Cloud]:
    """A cloud with nova-devcompat in two cells; stopped in the end if it was started here."""
    data = pathlib.Path(os.environ.get("DEVCOMPAT_CLOUD") or playground.ROOT / ".cloud")
    tool = [str(playground.ROOT / "tools/cloud"), "--data", str(data)]
    ran = subprocess.run([*tool, "status", "--quiet"]).returncode == 0
    done = subprocess.run([*tool, "up", "--devcompat", "--unfit", "stop-and-copy"])
    if done.returncode:
        pytest.exit("tools/cloud up failed; it says why above", returncode=1)
    cloud = playground.Cloud(data)
    cells = cloud.settings()["computes"]
    if len(cells) < 2 or cells[0] < 4 or cells[1] < 2:
        pytest.exit("the scenarios want four computes in cell1, two in cell2", returncode=1)
    try:
        yield cloud
    finally:
        if not ran:
            subprocess.run([*tool, "down"], check=True)


@pytest.fixture
def cloud(running: playground.Cloud) -> Iterator[playground.Cloud]:
    """The cloud, settled and without servers before and after each scenario."""
    running.delete(*running.servers())
    running.forget_allocations()
    running.settle()
    with playground.versions_restored(running):
        yield running
        running.delete(*running.servers())
        assert running.all_allocations() == {}
