# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The installation guide, from stock Nova and back to it, with what it shows on the way."""

from __future__ import annotations

from tests.e2e.playground import Cloud, values
from tests.e2e.transcripts import check


def test_as_documented(stock: Cloud) -> None:
    cloud = stock
    hosts = cloud.hosts()
    guest = cloud.boot("guest", "vf", "cmp1")

    # Host by host, while the scheduler knows nothing of it and guests move.
    cloud.tool("up", "--devcompat", "cmp1", "--mode", "report")
    check(cloud, "install-first-host")
    cloud.assert_placement({guest: ("vf", "cmp1")})
    assert values(cloud.record(guest)) == {"mlx5_vf": {"fw_version": ["28.39"]}}
    cloud.tool("up", "--devcompat", ",".join(hosts))
    moved = cloud.live_migrate(guest, "cmp2")
    assert (moved.status, moved.host) == ("completed", "cmp2")
    moved = cloud.live_migrate(guest, "cmp1")
    assert (moved.status, moved.host) == ("completed", "cmp1")

    cloud.tool("up", "--devcompat")
    cloud.settle()
    check(cloud, "install-controller")
    check(cloud, "install-report")
    # Reporting leaves it to the hardware.
    assert cloud.migrations(guest)[0]["status"] == "failed"
    cloud.assert_placement({guest: ("vf", "cmp1")})

    cloud.tool("up", "--mode", "enforce")
    check(cloud, "install-enforce")
    assert cloud.migrations(guest)[0]["status"] == "error"
    cloud.assert_placement({guest: ("vf", "cmp1")})

    # The scheduler first.
    cloud.tool("up", "--devcompat", ",".join(hosts))
    assert cloud.live_migrate(guest, "cmp2").moved
    cloud.tool("up", "--stock")
    check(cloud, "remove")
    assert cloud.known_traits() == set()
    assert all(cloud.our_traits(host) == set() for host in hosts)
    moved = cloud.live_migrate(guest, "cmp4")
    assert (moved.status, moved.host) == ("completed", "cmp4")
    cloud.assert_placement({guest: ("vf", "cmp4")})
