# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Brings the cloud up, or uses the one whose folder DEVCOMPAT_CLOUD names.

With DEVCOMPAT_CLOUD_STAYS=1, one that was brought up is left running, as the last scenario had it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.e2e import playground


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Scenarios that begin with stock Nova first: a cloud that comes up can begin with it.

    Last comes what looks at all that was logged meanwhile.
    """

    def place(item: pytest.Item) -> int:
        if item.path.name == "test_secrets.py":
            return 2
        return int("stock" not in getattr(item, "fixturenames", ()))

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    used = getattr(item, "funcargs", {}).get("running")
    if report.failed and used is not None:
        # Where it ended, services may be stopped that it would have started again.
        used.doubt()
    return report


@pytest.fixture(scope="session")
def running() -> Iterator[playground.Cloud]:
    """The cloud, which comes up with the first scenario; in the end it is as it was before."""
    data = pathlib.Path(os.environ.get("DEVCOMPAT_CLOUD") or playground.ROOT / ".cloud")
    cloud = playground.Cloud(data)
    with cloud.reserved():
        before = cloud.chosen() if cloud.runs() else None
        with cloud.files_kept():
            yield cloud
        if before is not None:
            cloud.become(before)
        elif os.environ.get("DEVCOMPAT_CLOUD_STAYS") != "1":
            cloud.tool("down", "--kill")


@pytest.fixture
def cloud(running: playground.Cloud) -> Iterator[playground.Cloud]:
    """The cloud with nova-devcompat on all hosts, which have published what they accept."""
    with _without_servers(running, playground.DEVCOMPAT):
        running.settle()
        yield running


@pytest.fixture
def stock(running: playground.Cloud, request: pytest.FixtureRequest) -> Iterator[playground.Cloud]:
    """The cloud with stock Nova, and no trait of ours left.

    A parameter says when the pretended hardware notices a device that does not fit.
    """
    unfit = getattr(request, "param", playground.STOCK.unfit)
    with _without_servers(running, dataclasses.replace(playground.STOCK, unfit=unfit)):
        assert running.forget_traits() == set()
        yield running


@contextlib.contextmanager
def _without_servers(cloud: playground.Cloud, variant: playground.Variant) -> Iterator[None]:
    """A cloud to begin with, whatever an earlier scenario has left; none may hold anything on."""
    cloud.become(variant)
    cloud.delete(*cloud.servers())
    cloud.forget_allocations()
    cloud.reset_files()
    yield
    cloud.delete(*cloud.servers())
    assert cloud.all_allocations() == {}
