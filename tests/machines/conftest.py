# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Brings the cloud of virtual machines up, or uses the one that runs in DEVCOMPAT_CLOUD."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.e2e.playground import ROOT
from tests.machines.hosts import Cloud


@pytest.fixture(scope="session")
def running() -> Iterator[Cloud]:
    """The cloud, which comes up with the first scenario and goes if it was not there before."""
    cloud = Cloud(pathlib.Path(os.environ.get("DEVCOMPAT_CLOUD") or ROOT / ".cloud"))
    with cloud.brought_up(again=False):
        yield cloud


@pytest.fixture
def cloud(running: Cloud) -> Iterator[Cloud]:
    """The cloud without servers, the first version of mtty on each host."""
    running.delete(*running.servers())
    for host in running.hosts():
        running.load(host, "1")
    yield running
    running.delete(*running.servers())
    assert running.all_allocations() == {}
