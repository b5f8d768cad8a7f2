# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Guests with a real mediated device that can migrate, and two versions of its driver."""

from __future__ import annotations

from tests.e2e.playground import until
from tests.machines.hosts import Cloud


def test_there_and_back(cloud: Cloud) -> None:
    """The need is the device's, and hosts of equal version take the guest, its device with it."""
    version = cloud.srcversion("cmp1")
    assert cloud.srcversion("cmp2") == version
    logs = cloud.logs()
    server = cloud.boot_recorded("traveller", "cmp1")
    cloud.runs_with_device(server, "cmp1")
    needed = cloud.needed(server)
    assert needed["mtty"] == {"driver_srcversion": [version], "mdev_type": ["mtty-1", "mtty-2"]}
    assert logs.lines("nova-compute-cmp1", server, "Need recorded:", "mtty", version)

    for host in ("cmp2", "cmp1"):
        ran = cloud.mdev_of(server)
        moved = cloud.live_migrate(server, host)
        assert (moved.status, moved.host, moved.tried) == ("completed", host, [host])
        cloud.runs_with_device(server, host)
        assert cloud.mdev_of(server) != ran
        # What it needs is what it was started with, wherever it is.
        assert cloud.needed(server) == needed
        print(f"live migrated to {host} in {moved.seconds:.0f} s")


def test_a_version_that_refuses_the_other(cloud: Cloud) -> None:
    """Scheduler and destination refuse before anything moves; without them QEMU fails late."""
    version = cloud.srcversion("cmp1")
    cloud.load("cmp2", "2")
    other = cloud.srcversion("cmp2")
    assert other != version
    server = cloud.boot_recorded("guest", "cmp1")
    cloud.runs_with_device(server, "cmp1")

    logs = cloud.logs()
    moved = cloud.live_migrate(server, "cmp2")
    cloud.refused(server, moved, "cmp1")
    assert moved.tried == []
    (line,) = logs.wait_for("nova-scheduler", moved.request, "No host accepts")
    reason = f"mtty.driver_srcversion: needs {version}"
    assert f"cmp2: {reason}" in line
    print(line)

    with cloud.stock_scheduler():
        # Where no scheduler asks, the destination refuses, and nothing is even begun there.
        logs = cloud.logs()
        moved = cloud.live_migrate(server, "cmp2")
        cloud.refused(server, moved, "cmp1")
        assert moved.tried[0] == "cmp2"
        lines = logs.wait_for("nova-compute-cmp2", moved.request, reason)
        assert lines
        print(lines[0])
        assert cloud.mdevs("cmp2") == []

        logs = cloud.logs()
        with cloud.reporting():
            moved = cloud.live_migrate(server, "cmp2")
        # What they were right about: the driver itself, when the stopped guest's state is loaded.
        assert moved.status in ("failed", "error")
        assert (moved.host, moved.tried) == ("cmp1", ["cmp2"])
        said = cloud.emulator_log("cmp2", server).splitlines()
        (late,) = (line for line in said if "error while loading state section" in line)
        assert late.endswith("/vfio)")
        lines = logs.wait_for("libvirtd-cmp2", "load of migration failed: Bad address")
        assert lines
        assert logs.wait_for(
            "nova-compute-cmp1", "libvirtError: operation failed: migration failed"
        )
        print(late, lines[0], sep="\n")
        # It was stopped for that, and goes on where it was. But Nova, which has rolled back by
        # then, raises what libvirt said once more, and calls the migration and the server an error
        # (nova/virt/libvirt/driver.py, _live_migration, future.result()).
        until("Nova to be done", lambda: cloud.show(server)["status"] == "ERROR", limit=60)
        cloud.runs_with_device(server, "cmp1", status="ERROR")
