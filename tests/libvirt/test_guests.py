# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Guests of a real libvirt and QEMU: the record is what the live domain asks for."""

from __future__ import annotations

from tests.e2e.playground import until
from tests.libvirt.hosts import Cloud, trait


def test_there_and_back(cloud: Cloud) -> None:
    qemu = cloud.qemu_version("cmp1")
    logs = cloud.logs()
    server = cloud.boot("traveller", "plain", "cmp1")
    cloud.check(server, qemu)
    # What libvirt made of Nova's alias.
    machine = cloud.machine_type(server)
    assert logs.lines("nova-compute-cmp1", server, "Need recorded:", machine)

    for host in ("cmp2", "cmp1"):
        logs = cloud.logs()
        moved = cloud.live_migrate(server, host)
        assert (moved.status, moved.host, moved.tried) == ("completed", host, [host])
        assert logs.lines("nova-scheduler", moved.request, "Placement is asked for hosts")
        cloud.check(server, qemu)
        assert trait(machine) in cloud.our_traits(host)
        assert list(cloud.allocations(server)) == [host]


def test_started_anew(cloud: Cloud) -> None:
    """By all ways that define or launch a domain; then it can still go."""
    qemu = cloud.qemu_version("cmp1")
    server = cloud.boot("guest", "plain", "cmp1")
    actions = (
        {"reboot": {"type": "SOFT"}},
        {"reboot": {"type": "HARD"}},
        {"suspend": None, "then": {"resume": None}},
        {"os-stop": None, "then": {"os-start": None}},
    )
    for action in actions:
        ran = cloud.domain_id(server)
        logs = cloud.logs()
        cloud.act(server, {name: how for name, how in action.items() if name != "then"})
        if "then" in action:
            cloud.act(server, action["then"])
        until("the server to be active", lambda: cloud.show(server)["status"] == "ACTIVE")
        assert cloud.domain_id(server) != ran, action
        # No soft reboot that has become a hard one.
        if action == {"reboot": {"type": "SOFT"}}:
            assert not logs.lines("nova-compute-cmp1", server, "Failed to soft reboot")
        cloud.check(server, qemu)
    assert cloud.live_migrate(server, "cmp2").status == "completed"
    cloud.check(server, qemu)


def test_cold_migration(cloud: Cloud) -> None:
    """Confirmed and reverted: the domain is made anew, so is the need; then it can go live."""
    qemu = cloud.qemu_version("cmp1")
    server = cloud.boot("guest", "plain", "cmp1")
    cloud.cold_migrate(server)
    assert cloud.host_of(server) == "cmp2"
    cloud.check(server, qemu)
    assert list(cloud.allocations(server)) == ["cmp2"]

    cloud.act(server, {"migrate": None})
    assert (cloud.show(server)["status"], cloud.host_of(server)) == ("VERIFY_RESIZE", "cmp1")
    cloud.act(server, {"revertResize": None})
    until("the server to be back", lambda: cloud.show(server)["status"] == "ACTIVE")
    assert cloud.host_of(server) == "cmp2"
    cloud.check(server, qemu)
    moved = cloud.live_migrate(server, "cmp1")
    assert (moved.status, moved.host) == ("completed", "cmp1")
    cloud.check(server, qemu)


def test_behind_novas_back(cloud: Cloud) -> None:
    """A domain that virsh ends and starts, one whose QEMU is killed, and libvirtd restarted."""
    qemu = cloud.qemu_version("cmp1")
    server = cloud.boot("guest", "plain", "cmp1")
    before = cloud.needed(server)

    def status() -> str:
        return cloud.show(server)["status"]

    for end in (lambda: cloud.virsh("cmp1", "destroy", server), lambda: cloud.kill_qemu(server)):
        end()
        until("Nova to see that the guest is off", lambda: status() == "SHUTOFF")
        # Started again, it will be what it was or not: nobody forgets a need meanwhile.
        assert cloud.needed(server) == before
        cloud.act(server, {"os-start": None})
        until("the server to be active", lambda: status() == "ACTIVE")
        cloud.check(server, qemu)

    traits, ran = cloud.our_traits("cmp1"), cloud.domain_id(server)
    cloud.tool("restart", "libvirtd-cmp1", "--kill")
    assert cloud.domain_id(server) == ran
    cloud.check(server, qemu)
    moved = cloud.live_migrate(server, "cmp2")
    assert moved.status == "completed"
    cloud.check(server, qemu)
    assert cloud.our_traits("cmp1") == traits


def test_a_machine_type_that_one_host_lacks(cloud: Cloud) -> None:
    server = cloud.boot("guest", "plain", "cmp1")
    qemu, machine = cloud.qemu_version("cmp1"), cloud.machine_type(server)
    ran = cloud.domain_id(server)
    with cloud.lacking("cmp2", machine):
        cloud.wait_for_trait("cmp2", trait(machine), there=False)
        logs = cloud.logs()
        moved = cloud.live_migrate(server, "cmp2")
        assert (moved.status, moved.host, moved.tried) == ("error", "cmp1", [])
        (line,) = logs.wait_for("nova-scheduler", moved.request, "No host accepts")
        assert f"cmp2: qemu_machine.machine_types: needs {machine}" in line
        # It has not noticed anything.
        assert cloud.domain_id(server) == ran
        cloud.check(server, qemu)
    cloud.wait_for_trait("cmp2", trait(machine), there=True)
    assert cloud.live_migrate(server, "cmp2").status == "completed"
    cloud.check(server, qemu)
