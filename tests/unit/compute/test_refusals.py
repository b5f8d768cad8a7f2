# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is said beside the reasons of a ruling."""

from __future__ import annotations

import pytest
from nova.objects.instance import Instance
from nova.objects.instance_pci_requests import InstancePCIRequest, InstancePCIRequests
from nova.objects.pci_device import PciDevice, PciDeviceList
from oslo_utils.fixture import uuidsentinel as uuids

from nova_devcompat.compat.policy import Ruling
from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.compute import refusals

REQUESTS = InstancePCIRequests(
    requests=[
        InstancePCIRequest(count=1, request_id=uuids.flavor, alias_name="vf", spec=[]),
        InstancePCIRequest(count=1, request_id=uuids.port, spec=[], requester_id="a-port"),
    ]
)
NO_DEVICE = Reason(code=Code.NO_DEVICE, actor=Actor.HOST, family="nic")
UNRECORDED = Reason(code=Code.NEED_MISSING, actor=Actor.OPERATOR, family="nic")
TOO_OLD = Reason(code=Code.MINOR_TOO_OLD, actor=Actor.HOST, family="nic")


def instance_with(*devices):
    """Its PCI devices, each by the request that it is for and its status."""
    pci = [PciDevice(request_id=request, status=status) for request, status in devices]
    return Instance(
        uuid=uuids.instance, pci_requests=REQUESTS, pci_devices=PciDeviceList(objects=pci)
    )


WITH_BOTH = ((uuids.flavor, "allocated"), (uuids.port, "allocated"))
LOST = ((uuids.port, "allocated"),)
# What was claimed for a move is not the guest's.
CLAIMED = ((uuids.flavor, "claimed"), (uuids.port, "allocated"))


@pytest.mark.parametrize(
    ("devices", "lost"), [(WITH_BOTH, False), (LOST, True), (CLAIMED, True), ((), True)]
)
@pytest.mark.parametrize("reason", [NO_DEVICE, UNRECORDED])
def test_a_lost_claim_is_said_where_it_is_why(devices, lost, reason):
    instance = instance_with(*devices)
    for before in (Ruling(refused=(TOO_OLD, reason)), Ruling(reported=(reason,))):
        after = refusals.with_lost_claims(before, instance)
        if not lost:
            assert after is before
            continue
        # Of what speaks against nothing, nothing is made that does.
        assert bool(after.refused) is bool(before.refused)
        for said, was in ((after.refused, before.refused), (after.reported, before.reported)):
            assert said[1:] == was
            assert [one.code for one in said[:1]] == [Code.CLAIM_LOST] * bool(was)


def test_of_what_else_it_is_not_why():
    instance = instance_with(*LOST)
    for ruling in (Ruling(), Ruling(refused=(TOO_OLD,))):
        assert refusals.with_lost_claims(ruling, instance) is ruling


def test_nobody_is_asked_for_what_the_caller_does_not_know():
    instance = instance_with()
    del instance._obj_pci_devices
    ruling = Ruling(refused=(NO_DEVICE,))
    assert refusals.with_lost_claims(ruling, instance) is ruling
