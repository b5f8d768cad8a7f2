# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is read of Nova's databases, without any; with real ones in tests/functional."""

from __future__ import annotations

import dataclasses
import types

import pytest
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids

from nova_devcompat import wire
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.kinds import Semver
from nova_devcompat.compat.need import DeviceNeed, InMigration, Need
from nova_devcompat.compat.ruling import NO_RECORD
from nova_devcompat.compat.verdict import Code, Reason
from nova_devcompat.fleet import cloud
from nova_devcompat.fleet.cloud import Cloud, guest_of, host_of
from nova_devcompat.stores.cells import Cells

GPU = Family(name="gpu", rules={"version": Semver()})
NEED = Need(devices=(DeviceNeed.of("gpu", {"version": ["1.2"]}, slot="rc:VGPU"),))


class _Instance(types.SimpleNamespace):
    """Tells what of it is loaded, as Nova's objects do."""

    def __contains__(self, name: str) -> bool:
        return hasattr(self, name)


def instance(uuid: str = "vm", record=None, **others) -> types.SimpleNamespace:
    """A running one; ``record`` is its system_metadata, that of NEED by default."""
    values = {
        "uuid": uuid,
        "host": "a",
        "node": "a.example.org",
        "vm_state": "active",
        "power_state": 1,
        "system_metadata": wire.dump_record(NEED) if record is None else record,
        "pci_devices": [],
        "pci_requests": None,
        "flavor": types.SimpleNamespace(extra_specs={}),
    }
    return _Instance(**{**values, **others})


def node(name: str, stats) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        id=1, host=name, hypervisor_hostname=name, hypervisor_type="QEMU", stats=stats
    )


objects.register_all()
PCI = objects.InstancePCIRequests(
    requests=[objects.InstancePCIRequest(request_id=uuids.vf, alias_name="vf", count=1)]
)
PORT = objects.InstancePCIRequests(
    requests=[objects.InstancePCIRequest(request_id=uuids.port, alias_name=None, count=1)]
)
OF_PORT = DeviceNeed.of("nic", {"version": ["1.2"]}, slot=f"pci:{uuids.port}")
VGPU = types.SimpleNamespace(extra_specs={"resources:VGPU": "1", "devcompat:gpu.version": "1.2"})


@pytest.mark.parametrize(
    ("others", "assigned", "pci"),
    [
        ({}, True, False),
        ({"record": {}}, False, False),
        ({"record": {}, "pci_requests": PCI}, True, True),
        # A port's device does not stay.
        ({"record": {}, "pci_requests": PORT}, False, True),
        (
            {"record": wire.dump_record(Need(devices=(OF_PORT,))), "pci_requests": PORT},
            False,
            True,
        ),
        ({"record": {}, "flavor": VGPU}, True, False),
        ({"record": {"devcompat:need": "x"}}, False, False),
    ],
)
def test_whether_a_guest_has_devices(others, assigned, pci):
    guest = guest_of(instance(**others))
    assert (guest.assigned, guest.pci) == (assigned, pci)
    assert guest.place == ("a", "a.example.org")


def test_a_record_that_does_not_tell_a_port():
    """As older releases have written it."""
    old = instance(record=wire.dump_record(Need(devices=(OF_PORT,))), pci_requests=PORT)
    (need,) = guest_of(old).record.devices
    assert need == dataclasses.replace(OF_PORT, in_migration=InMigration.REPLUGGED)


def test_what_a_guest_needs():
    guest = guest_of(instance(flavor=VGPU))
    assert (guest.record, guest.pins) == (NEED, (("devcompat:gpu.version", "1.2"),))
    assert guest_of(instance(record={})).record is NO_RECORD
    unreadable = guest_of(instance(record={"devcompat:need": "1 1 00000000 {}"})).record
    assert unreadable.reason.code == Code.RECORD_UNREADABLE


@pytest.mark.parametrize(
    ("stats", "code"),
    [
        (None, Code.HOST_SILENT),
        ({}, Code.HOST_SILENT),
        ({wire.STATS_KEY: None}, Code.HOST_SILENT),
        ({wire.STATS_KEY: ""}, Code.HOST_UNREADABLE),
        ({wire.STATS_KEY: "{"}, Code.HOST_UNREADABLE),
        ({wire.STATS_KEY: "[]"}, Code.HOST_UNREADABLE),
        ({wire.STATS_KEY: '{"v":1}'}, Code.HOST_UNREADABLE),
        ({wire.STATS_KEY: '{"v":9}'}, Code.HOST_UNREADABLE),
    ],
)
def test_a_host_of_which_nothing_is_known(stats, code):
    said = host_of(node("a", stats), wire.StatsReader()).said
    assert isinstance(said, Reason) and said.code == code


@pytest.fixture
def databases(monkeypatch):
    """One cell, whose nodes and instances are set on what this gives."""
    held = types.SimpleNamespace(nodes=[], instances=[], allocations={}, context=None)

    class OneCell(Cells):
        def select(self, **which):
            return [types.SimpleNamespace(name="cell1")]

        def each(self, cells, answers):
            for _ in cells:
                yield from answers(None)

    monkeypatch.setattr(cloud, "hosts_down", lambda context: {"down": "2027-01-01 00:00:00"})
    monkeypatch.setattr(cloud, "compute_nodes", lambda context, name=None: iter(held.nodes))
    monkeypatch.setattr(
        cloud, "instances", lambda context, filters, attributes: iter(held.instances)
    )
    held.cloud = Cloud(OneCell(None))
    held.cloud.placement = types.SimpleNamespace(allocations_from=held.allocations.get)
    return held


def test_what_is_garbage_is_no_reason_to_leave_others_out(databases, caplog):
    databases.nodes = [node("a", {wire.STATS_KEY: "{"}), node("b", {}), node("c", None)]
    bare = instance("without-a-flavor", flavor=None)
    databases.instances = [instance("one"), bare, instance("two"), instance("off", power_state=4)]
    fleet = databases.cloud.fleet()
    assert [host.place.host for host in fleet.hosts] == ["a", "b", "c"]
    assert [guest.uuid for guest in fleet.guests] == ["one", "two"]
    assert databases.cloud.cells.incomplete
    assert "Instance without-a-flavor is left out: AttributeError" in caplog.text


def test_ironic_takes_nobody(databases):
    databases.nodes = [node("a", {})]
    databases.nodes[0].hypervisor_type = "ironic"
    assert databases.cloud.fleet().hosts == []


def test_what_of_a_host_cannot_be_read_is_told_and_the_rest_looked_at(
    databases, caplog, monkeypatch
):
    document = wire.HostDocument(
        catalog="",
        devices=(
            wire.PublishedDevice(
                address="0000:81:00.0",
                accepts=GPU.offer({"version": "1.2"}).accept_set(NEED.atoms),
                providers=("provider",),
            ),
        ),
        unreadable={"nic": "torn"},
    )
    monkeypatch.setattr(wire.StatsReader, "read", lambda reader, text: document)
    databases.nodes = [node("a.example.org", {wire.STATS_KEY: "x"})]
    databases.nodes[0].host = "a"
    databases.instances = [instance()]
    allocation = {"resources": {"VGPU": 1}}
    databases.allocations["provider"] = {"vm": allocation}
    ((host, found, allocations),) = databases.cloud.running(["cell"], None)
    assert (host.place.host, found.uuid, allocations) == ("a", "vm", {"provider": allocation})
    assert databases.cloud.cells.incomplete
    assert "Host a is left out in part: nic: " in caplog.text
    # Placement does not tell.
    databases.allocations.clear()
    assert list(databases.cloud.running(["cell"], None)) == []
