#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

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
