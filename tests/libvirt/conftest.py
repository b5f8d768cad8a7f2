# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Brings the cloud with libvirt up, or uses the one that runs in the folder DEVCOMPAT_CLOUD."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.e2e.playground import ROOT
from tests.libvirt.hosts import Cloud


@pytest.fixture(scope="session")
def running() -> Iterator[Cloud]:
    """The cloud, which comes up with the first scenario and goes if it was not there before."""
    cloud = Cloud(pathlib.Path(os.environ.get("DEVCOMPAT_CLOUD") or ROOT / ".cloud"))
    with cloud.brought_up(again=True):
        yield cloud


@pytest.fixture
def cloud(running: Cloud) -> Iterator[Cloud]:
    """The cloud without servers, and all of it running, whatever an earlier scenario has left."""
    if not running.runs():
        running.up()
    running.delete(*running.servers())
    yield running
    running.delete(*running.servers())
    assert running.all_allocations() == {}
