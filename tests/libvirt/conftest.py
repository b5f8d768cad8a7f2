# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Brings the cloud with libvirt up, or uses the one that runs in the folder DEVCOMPAT_CLOUD."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.e2e.playground import ROOT, until
from tests.libvirt.hosts import Cloud, processes_in


@pytest.fixture(scope="session")
def running() -> Iterator[Cloud]:
    """The cloud, which comes up with the first scenario and goes if it was not there before."""
    cloud = Cloud(pathlib.Path(os.environ.get("DEVCOMPAT_CLOUD") or ROOT / ".cloud"))
    with cloud.reserved():
        before = cloud.runs()
        try:
            cloud.up()
            yield cloud
        finally:
            if not before:
                spaces = cloud.namespaces()
                cloud.tool("down", "--kill")
                # Nor a mount then: those go with the last process that sees them.
                until("the hosts' processes to end", lambda: not processes_in(spaces), limit=10)
                assert str(cloud.data) not in pathlib.Path("/proc/self/mounts").read_text()


@pytest.fixture
def cloud(running: Cloud) -> Iterator[Cloud]:
    """The cloud without servers, and all of it running, whatever an earlier scenario has left."""
    if not running.runs():
        running.up()
    running.delete(*running.servers())
    yield running
    running.delete(*running.servers())
    assert running.all_allocations() == {}
