# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Versions that change and computes that come and go while guests run and move."""

from __future__ import annotations

import concurrent.futures

import pytest

from tests.e2e.playground import Cloud, Migrated, until, values


def test_an_upgrade_under_a_running_compute(cloud: Cloud) -> None:
    """An unfit host becomes fit without a restart, and unfit again."""
    server = cloud.boot("guest", "vf", "cmp1")
    assert cloud.live_migrate(server, "cmp3").status == "error"

    logs = cloud.logs()
    cloud.set_versions("cmp3", fw_version="28.41.1000")
    # Nobody asks for a cycle: those that come by themselves do.
    cloud.settle(wait=True)
    lines = logs.lines("nova-compute-cmp3", "cmp3: traits added:")
    assert "CUSTOM_DEVCOMPAT_MLX5_VF__FW_VERSION__28_39" in lines[0]
    moved = cloud.live_migrate(server, "cmp3")
    assert (moved.status, moved.host, moved.tried) == ("completed", "cmp3", ["cmp3"])
    cloud.assert_placement({server: ("vf", "cmp3")})
    # Never raised to the new host's version: it can go back.
    assert values(cloud.record(server)) == {"mlx5_vf": {"fw_version": ["28.39"]}}
    assert cloud.live_migrate(server, "cmp1").host == "cmp1"

    logs = cloud.logs()
    cloud.set_versions("cmp3", fw_version="28.37.1014")
    cloud.settle()
    # Twice where an allocation came in between and nova-compute had to begin again.
    lines = logs.lines("nova-compute-cmp3", "cmp3: traits added: none; removed:")
    assert lines
    assert all("CUSTOM_DEVCOMPAT_MLX5_VF__FW_VERSION__28_39" in line for line in lines)
    assert cloud.live_migrate(server, "cmp3").status == "error"
    cloud.assert_placement({server: ("vf", "cmp1")})


def test_a_new_version_that_nobody_had(cloud: Cloud) -> None:
    """A guest that starts on it can go where the version comes to, and nowhere before."""
    cloud.set_versions("cmp2", fw_version="28.45.1000")
    cloud.settle()
    server = cloud.boot("newest", "vf", "cmp2")
    assert values(cloud.record(server)) == {"mlx5_vf": {"fw_version": ["28.45"]}}
    assert cloud.live_migrate(server).status == "error"

    cloud.set_versions("cmp1", fw_version="28.45.1002")
    cloud.settle()
    moved = cloud.live_migrate(server)
    assert (moved.status, moved.host, moved.tried) == ("completed", "cmp1", ["cmp1"])
    cloud.assert_placement({server: ("vf", "cmp1")})


def test_a_downgrade_that_the_scheduler_does_not_know_yet(cloud: Cloud) -> None:
    """Admission on the host has the last word."""
    server = cloud.boot("guest", "vf", "cmp1")
    for _ in range(5):
        logs = cloud.logs()
        cloud.set_versions("cmp2", fw_version="28.37.1000")
        moved = cloud.live_migrate(server, "cmp2")
        assert (moved.status, moved.host) == ("error", "cmp1")
        cloud.assert_placement({server: ("vf", "cmp1")})
        if moved.tried:
            break
        # The host's cycle was faster than the test.
        assert logs.wait_for("nova-scheduler", moved.request, "No host accepts")
        cloud.set_versions("cmp2", fw_version="28.41.1000")
        cloud.settle()

    assert moved.tried == ["cmp2"]
    (line, *_) = logs.lines("nova-compute-cmp2", server, "Live migration to this host refused:")
    assert "mlx5_vf.fw_version: needs 28.39, offered 28.37.1000, too old" in line


def restarted_meanwhile(cloud: Cloud, server: str, host: str, *, kill: bool) -> Migrated:
    """Live migrate from cmp1 to cmp2 while a nova-compute is restarted.

    Asked to end, it sees the guest in, or out, before it does; killed, it is back before the
    transfer has ended.
    """

    def during(_: str) -> None:
        if kill:
            cloud.tool("restart", "--kill", host)
            cloud.let_go(server)
            return
        logs = cloud.logs()
        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
            restarted = pool.submit(cloud.tool, "restart", host)
            try:
                until(
                    f"{host} to wait for what is in progress",
                    lambda: bool(logs.lines(f"nova-compute-{host}", "waiting up to")),
                )
            finally:
                cloud.let_go(server)
            restarted.result()

    cloud.hold(server)
    return cloud.live_migrate(server, "cmp2", during=during)


# Each device and each way by day, by night each device in each way.
@pytest.mark.parametrize(
    ("flavor", "how"),
    [
        ("vf", "term"),
        ("vgpu", "kill"),
        pytest.param("vf", "kill", marks=pytest.mark.slow),
        pytest.param("vgpu", "term", marks=pytest.mark.slow),
    ],
)
def test_the_destination_is_restarted_in_mid_flight(cloud: Cloud, flavor: str, how: str) -> None:
    """The record follows the guest although what admission remembered is lost."""
    server = cloud.boot("guest", flavor, "cmp1")
    # Take the first function, so that addresses differ there.
    other = cloud.boot("other", flavor, "cmp2")
    before = cloud.record(server)

    moved = restarted_meanwhile(cloud, server, "cmp2", kill=how == "kill")

    assert (moved.status, moved.host) == ("completed", "cmp2")
    cloud.assert_placement({server: (flavor, "cmp2"), other: (flavor, "cmp2")})
    after = cloud.record(server)
    assert values(after) == values(before)
    assert {one["verdict"] for one in after} == {"accept"}
    if flavor == "vf":
        # The function that the guest has there, which is not the other one's.
        assert after[0]["address"].startswith("0000:81:01.")
        assert after[0]["address"] != cloud.record(other)[0]["address"]
    # It is as mobile as it was.
    assert cloud.live_migrate(server, "cmp1").host == "cmp1"
    cloud.assert_placement({server: (flavor, "cmp1"), other: (flavor, "cmp2")})


def test_the_source_is_restarted_in_mid_flight(cloud: Cloud) -> None:
    """Asked to end, nova-compute sees the migration through first."""
    server = cloud.boot("guest", "vf", "cmp1")

    moved = restarted_meanwhile(cloud, server, "cmp1", kill=False)

    assert (moved.status, moved.host) == ("completed", "cmp2")
    assert values(cloud.record(server)) == {"mlx5_vf": {"fw_version": ["28.39"]}}
    cloud.assert_placement({server: ("vf", "cmp2")})


# By night, as chaos kills them; by day those that are restarted in mid-flight are looked at.
@pytest.mark.slow
def test_restarted_computes_publish_the_same(cloud: Cloud) -> None:
    server = cloud.boot("guest", "vf-vgpu", "cmp1")
    record = cloud.record(server)
    before = {host: cloud.our_traits(host) for host in cloud.hosts()}

    cloud.tool("restart", *cloud.hosts())

    cloud.cycle()
    assert {host: cloud.our_traits(host) for host in cloud.hosts()} == before
    assert cloud.record(server) == record
    moved = cloud.live_migrate(server)
    assert moved.status == "completed"
    assert moved.tried == [moved.host]
    cloud.assert_placement({server: ("vf-vgpu", moved.host)})
