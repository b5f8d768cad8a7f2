# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Hosts in two cells: live migration stays in one, whatever hosts of the other would accept."""

from __future__ import annotations

import pytest

from tests.e2e.playground import Cloud, values


def test_there_and_back_in_the_second_cell(cloud: Cloud) -> None:
    server = cloud.boot("guest", "vf-vgpu", "cmp6")
    for host in ("cmp5", "cmp6"):
        moved = cloud.live_migrate(server)
        assert (moved.status, moved.host, moved.tried) == ("completed", host, [host])
        cloud.assert_placement({server: ("vf-vgpu", host)})
    assert values(cloud.record(server))["mlx5_vf"] == {"fw_version": ["28.37"]}


def test_no_valid_host_in_its_cell(cloud: Cloud) -> None:
    """cmp2 of the other cell would accept the guest, and is no option."""
    server = cloud.boot("guest", "vf", "cmp5")

    moved = cloud.live_migrate(server)

    assert (moved.status, moved.host, moved.tried) == ("error", "cmp5", [])
    assert cloud.show(server)["status"] == "ACTIVE"
    cloud.assert_placement({server: ("vf", "cmp5")})


def test_the_reason_where_another_cell_would_accept(cloud: Cloud) -> None:
    server = cloud.boot("guest", "vf", "cmp5")
    logs = cloud.logs()
    moved = cloud.live_migrate(server)
    (line,) = logs.wait_for("nova-scheduler", moved.request, "No host accepts")
    assert "cmp6: mlx5_vf.fw_version: needs 28.41, offered 28.37.1014, too old" in line


def test_the_reason_names_hosts_of_the_cell_only(cloud: Cloud) -> None:
    cloud.set_versions("cmp5", fw_version="28.43.1000")
    cloud.settle()
    server = cloud.boot("newest", "vf", "cmp5")
    cloud.cycle()
    logs = cloud.logs()
    moved = cloud.live_migrate(server)
    assert moved.status == "error"
    (line,) = logs.wait_for("nova-scheduler", moved.request, "No host accepts")
    assert "cmp6: mlx5_vf.fw_version: needs 28.43, offered 28.37.1014, too old" in line
    assert "cmp1" not in line


# By day chaos boots in both, and compares what they hold.
@pytest.mark.slow
def test_boots_go_to_both_cells(cloud: Cloud) -> None:
    servers = {cloud.boot(f"on-{host}", "vf", host): ("vf", host) for host in ("cmp1", "cmp6")}
    assert [cloud.host_of(server) for server in servers] == ["cmp1", "cmp6"]
    cloud.assert_placement(servers)
