# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the cloud is for: boots, and live migrations to hosts that fit and to no others."""

from __future__ import annotations

import concurrent.futures

import pytest

from tests.e2e.playground import Cloud, values

NEEDS = {
    "vf": "mlx5_vf (fw_version 28.39)",
    "vgpu": "nvidia_vgpu (vgpu_version 14.1)",
}


def test_hosts_publish_what_they_accept(cloud: Cloud) -> None:
    # Settled by the fixture, so that this is about the atoms being what they should be.
    assert cloud.known_traits() >= {
        *("MLX5_VF__FW_VERSION__28_37", "MLX5_VF__FW_VERSION__28_39"),
        *("MLX5_VF__FW_VERSION__28_41", "NVIDIA_VGPU__VGPU_VERSION__1A_1"),
    }
    assert cloud.our_traits("cmp3") >= {"MLX5_VF__FW_VERSION__28_37"}
    assert "MLX5_VF__FW_VERSION__28_39" not in cloud.our_traits("cmp3")


@pytest.mark.parametrize("flavor", ["plain", "vf", "vgpu", "vf-vgpu"])
def test_boot(cloud: Cloud, flavor: str) -> None:
    logs = cloud.logs()
    anywhere = cloud.boot("anywhere", flavor)
    there = cloud.boot("there", flavor, "cmp1")

    assert cloud.host_of(there) == "cmp1"
    cloud.assert_placement({anywhere: (flavor, cloud.host_of(anywhere)), there: (flavor, "cmp1")})
    recorded = logs.lines("nova-compute-cmp1", there, "Need recorded:")
    needs = [need for name, need in NEEDS.items() if name in flavor.split("-")]
    assert len(recorded) == bool(needs)
    for need in needs:
        assert need in recorded[0]


@pytest.mark.parametrize("flavor", ["vf", "vgpu", "vf-vgpu"])
def test_forward_and_back(cloud: Cloud, flavor: str) -> None:
    """To newer hosts and back again, and the need stays what it was when the guest began."""
    server = cloud.boot("traveller", flavor, "cmp1")
    before = values(cloud.record(server))

    for host in ("cmp2", "cmp1", "cmp4", "cmp2", "cmp1"):
        logs = cloud.logs()
        moved = cloud.live_migrate(server, host)
        assert (moved.status, moved.host, moved.tried) == ("completed", host, [host])
        assert logs.lines("nova-scheduler", moved.request, "Placement is asked for hosts")
        assert not logs.lines("nova-compute-*", server, "refused")
        cloud.assert_placement({server: (flavor, host)})

    after = cloud.record(server)
    assert values(after) == before
    # By its host's own rules, at the addresses that it has there.
    assert {one["verdict"] for one in after} == {"accept"}


# By day both workers choose for four guests at once, and chaos has it choose for all.
@pytest.mark.slow
def test_the_scheduler_chooses_only_what_fits(cloud: Cloud) -> None:
    server = cloud.boot("guest", "vf-vgpu", "cmp1")
    for _ in range(4):
        moved = cloud.live_migrate(server)
        assert moved.status == "completed"
        assert moved.tried == [moved.host]
        assert moved.host in ("cmp1", "cmp2", "cmp4")
        cloud.assert_placement({server: ("vf-vgpu", moved.host)})


def test_a_requested_host_that_does_not_fit(cloud: Cloud) -> None:
    """A destination without force goes through the scheduler."""
    server = cloud.boot("guest", "vf", "cmp1")
    logs = cloud.logs()

    moved = cloud.live_migrate(server, "cmp3")

    assert (moved.status, moved.host, moved.tried) == ("error", "cmp1", [])
    assert cloud.show(server)["status"] == "ACTIVE"
    cloud.assert_placement({server: ("vf", "cmp1")})
    (line,) = logs.wait_for("nova-scheduler", moved.request, "No host accepts")
    assert "cmp3: mlx5_vf.fw_version: needs 28.39, offered 28.37.1014, too old" in line


def test_forced(cloud: Cloud) -> None:
    """With devices in placement Nova itself refuses what would bypass the scheduler."""
    server = cloud.boot("guest", "vf", "cmp1")
    for host in ("cmp3", "cmp2"):
        logs = cloud.logs()
        moved = cloud.live_migrate(server, host, force=True)
        assert (moved.status, moved.host) == ("error", "cmp1")
        assert logs.lines("nova-conductor", moved.request, "complex allocations")
        cloud.assert_placement({server: ("vf", "cmp1")})


def test_forced_without_devices(cloud: Cloud) -> None:
    """A guest that needs nothing goes wherever it is sent."""
    server = cloud.boot("guest", "plain", "cmp1")
    moved = cloud.live_migrate(server, "cmp3", force=True)
    assert (moved.status, moved.host) == ("completed", "cmp3")
    cloud.assert_placement({server: ("plain", "cmp3")})


def test_no_valid_host(cloud: Cloud) -> None:
    cloud.set_versions("cmp2", fw_version="28.43.1000")
    cloud.settle()
    server = cloud.boot("newest", "vf", "cmp2")
    # Hosts that reject it must have evaluated it, or the reason would be that they have not.
    cloud.cycle()
    logs = cloud.logs()

    moved = cloud.live_migrate(server)

    assert (moved.status, moved.host, moved.tried) == ("error", "cmp2", [])
    assert cloud.show(server)["status"] == "ACTIVE"
    cloud.assert_placement({server: ("vf", "cmp2")})
    (line,) = logs.wait_for("nova-scheduler", moved.request, "No host accepts")
    for host, offered in (("cmp1", "28.39.1002"), ("cmp3", "28.37.1014"), ("cmp4", "28.39.2048")):
        assert f"{host}: mlx5_vf.fw_version: needs 28.43, offered {offered}, too old" in line


def test_both_workers_of_the_scheduler_decide(cloud: Cloud) -> None:
    servers = [cloud.boot(f"guest{number}", "vf", "cmp1") for number in range(4)]
    logs = cloud.logs()
    expected = {}
    for _ in range(3):
        with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
            moves = list(pool.map(cloud.live_migrate, servers))
        for server, moved in zip(servers, moves, strict=True):
            assert moved.status == "completed"
            assert moved.tried == [moved.host]
            assert moved.host in ("cmp1", "cmp2", "cmp4")
            expected[server] = ("vf", moved.host)
        cloud.assert_placement(expected)

    asked = logs.lines("nova-scheduler", "Placement is asked for hosts that accept")
    assert len(asked) == 12
    # The third field of a line is the process that wrote it.
    assert len({line.split()[2] for line in asked}) == 2
