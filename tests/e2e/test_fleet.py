# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Twenty computes that do not fit, more than Nova would ever try."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.e2e.playground import Cloud

COUNT = 20
#: Bytes that a nova-compute takes, and some for those that serve it.
EACH = 160 * 2**20


@pytest.fixture
def fleet(cloud: Cloud) -> Iterator[list[str]]:
    """Names of twenty hosts of cell2 that do not take what begins on its first."""
    before = cloud.settings()["computes"]
    needed = (COUNT + 1 - before[1]) * EACH
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if free < needed:
        pytest.skip(f"{free / 2**30:.1f} GiB of memory are free, {needed / 2**30:.1f} needed")
    cloud.tool("up", "--computes", f"{before[0]},{COUNT + 1}", timeout=1200)
    try:
        hosts = cloud.hosts()[before[0] :]
        for host in hosts[1:]:
            cloud.set_versions(host, fw_version="28.37.1014")
        cloud.settle()
        yield hosts[1:]
    finally:
        cloud.delete(*cloud.servers())
        cloud.tool("up", "--computes", ",".join(map(str, before)))


@pytest.mark.slow
def test_an_unfit_fleet(cloud: Cloud, fleet: list[str]) -> None:
    server = cloud.boot("guest", "vf", "cmp5")
    logs = cloud.logs()

    moved = cloud.live_migrate(server)

    assert (moved.status, moved.host, moved.tried) == ("error", "cmp5", [])
    assert cloud.show(server)["status"] == "ACTIVE"
    cloud.assert_placement({server: ("vf", "cmp5")})
    (line,) = logs.wait_for("nova-scheduler", moved.request, "No host accepts")
    assert f"{COUNT} rejected:" in line

    # The one that is upgraded is found among them at once.
    cloud.set_versions(fleet[12], fw_version="28.41.1000")
    cloud.settle()
    moved = cloud.live_migrate(server)
    assert (moved.status, moved.host, moved.tried) == ("completed", fleet[12], [fleet[12]])
    cloud.assert_placement({server: ("vf", fleet[12])})
