# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The table of what a live migration does with devices is what each release of Nova does."""

import pytest
from nova import objects
from nova.network import model
from oslo_utils.fixture import uuidsentinel as uuids

from nova_devcompat.compat.need import InMigration
from nova_devcompat.stores import ports
from rigs import driver_signatures

objects.register_all()
RECORDED = driver_signatures.recorded()


@pytest.mark.parametrize("series", RECORDED)
def test_what_a_release_does_with_ports(series):
    recorded = RECORDED[series]["ports"]
    replugged = {name for name, done in ports.VNIC_TYPES.items() if done is InMigration.REPLUGGED}
    assert replugged == set(recorded["VNIC_TYPES_DIRECT_PASSTHROUGH"])
    assert set(ports.VNIC_TYPES) == replugged | set(recorded["VNIC_TYPES_SRIOV"])
    # Before the copy, by that list.
    assert "_detach_direct_passthrough_vifs" in recorded["_live_migration_operation"]
    for method in ("_detach_direct_passthrough_vifs", "_reattach_instance_vifs"):
        assert "VNIC_TYPES_DIRECT_PASSTHROUGH" in recorded[method]
    # Through methods that we stand around.
    assert "detach_interface" in recorded["_detach_direct_passthrough_vifs"]
    assert "attach_interface" in recorded["_reattach_instance_vifs"]
    assert "detach_interface" in recorded["_detach_direct_passthrough_ports"]
    assert "_detach_direct_passthrough_ports" in recorded["suspend"]
    # Afterwards, wherever the guest is then.
    for method in ("post_live_migration_at_destination", "rollback_live_migration_at_source"):
        assert recorded[method] == ["_reattach_instance_vifs"]


def instance(vifs=()):
    made = objects.Instance(
        pci_requests=objects.InstancePCIRequests(
            requests=[
                objects.InstancePCIRequest(request_id=uuids.flavor, alias_name="vf", count=1),
                objects.InstancePCIRequest(request_id=uuids.port, alias_name=None, count=1),
            ]
        )
    )
    if vifs is not None:
        made.info_cache = objects.InstanceInfoCache(network_info=model.NetworkInfo(vifs))
    return made


@pytest.mark.parametrize(
    ("vnic_type", "done"),
    [
        *ports.VNIC_TYPES.items(),
        ("normal", InMigration.STAYS),
        ("of-a-later-release", InMigration.STAYS),
    ],
)
def test_a_port_of_each_kind(vnic_type, done):
    vif = model.VIF(id="x", vnic_type=vnic_type, profile={"pci_slot": "0000:82:00.1"})
    in_migration = ports.in_migration(instance([model.VIF(id="y", profile=None), vif]))
    assert in_migration(uuids.port, "0000:82:00.1") is done
    assert in_migration(uuids.flavor, "0000:82:00.1") is InMigration.STAYS
    assert in_migration(None, "0000:82:00.1") is InMigration.STAYS


@pytest.mark.parametrize("vifs", [None, [], [model.VIF(id="y", profile={})]])
def test_a_port_of_which_no_more_is_known(vifs):
    assert ports.in_migration(instance(vifs))(uuids.port, "a") is InMigration.REPLUGGED


def test_what_a_request_asks_for():
    both = instance().pci_requests
    assert ports.port_requests(both) == {uuids.port} and ports.asks_flavor(both)
    only = objects.InstancePCIRequests(requests=both.requests[1:])
    assert not ports.asks_flavor(only)
    assert not ports.port_requests(None) and not ports.asks_flavor(None)
