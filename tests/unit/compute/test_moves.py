# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a guest would be given at its destination, and what the rulings on it are."""

import types

import pytest

from nova_devcompat import wire
from nova_devcompat.compat.accepts import AcceptSet, Evaluation
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import OnUnknown, Policies, Policy
from nova_devcompat.compat.ruling import Guest, rule
from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.compute.moves import given_there

PF, PF_2, STRANGER = "0000:82:00.0", "0000:83:00.0", "0000:84:00.0"
PROVIDER, PROVIDER_2 = (f"8d1b0ef4-5b0b-4a3e-a1e9-7c2f6a9a2d1{number}" for number in range(2))
OLD = AcceptSet(
    family="nic",
    attributes={
        "fw": Evaluation(kind="semver", offered="1.1", rejected={"1.3": ("too-old", Actor.HOST)})
    },
)
NEW = AcceptSet(
    family="nic",
    attributes={"fw": Evaluation(kind="semver", offered="1.5", accepted=frozenset({"1.3"}))},
)
GUEST = Guest(keeps_devices=False, pins=Need(devices=(DeviceNeed.of("nic", {"fw": ["1.3"]}),)))
STRICT = Policies(Policy(), {"nic": Policy()})
LENIENT = Policies(
    Policy(on_unknown=OnUnknown.ACCEPT), {"nic": Policy(on_unknown=OnUnknown.ACCEPT)}
)


def document(*, placed=True, **more):
    providers = ((PROVIDER,), (PROVIDER_2,)) if placed else ((), ())
    return wire.HostDocument(
        catalog="c",
        devices=(
            wire.PublishedDevice(address=PF, accepts=OLD, providers=providers[0]),
            wire.PublishedDevice(address=PF_2, accepts=NEW, providers=providers[1]),
        ),
        **more,
    )


def vf(parent):
    return types.SimpleNamespace(address=parent.replace(".0", ".1"), parent_addr=parent)


def allocation(provider, resource_class):
    return {provider: {"resources": {resource_class: 1}}}


def codes(document, claimed=(), allocations=(), policies=STRICT):
    given = given_there(GUEST, document, claimed, dict(allocations))
    return [reason.code for reason in rule(GUEST, given, policies).refused]


@pytest.mark.parametrize(
    ("claimed", "expected"),
    [
        ([vf(PF_2)], []),
        ([vf(PF)], ["too-old"]),
        ([vf(PF_2), vf(PF)], ["too-old"]),
        ([vf(PF_2), vf(STRANGER)], []),
        ([], [Code.NO_DEVICE]),
    ],
)
def test_the_very_devices_that_were_claimed(claimed, expected):
    assert codes(document(placed=False), claimed) == expected


def test_devices_that_placement_allocates():
    assert codes(document(), (), allocation(PROVIDER_2, "VGPU")) == []
    assert codes(document(), (), allocation(PROVIDER, "VGPU")) == ["too-old"]


def test_processors_are_no_devices():
    root = allocation("8d1b0ef4-5b0b-4a3e-a1e9-7c2f6a9a2d19", "VCPU")
    assert codes(document(), (), root) == [Code.NO_DEVICE]


def test_a_provider_of_which_nothing_is_known():
    strange = allocation("8d1b0ef4-5b0b-4a3e-a1e9-7c2f6a9a2d19", "CUSTOM_VF")
    assert len(codes(document(), (), strange)) == 1
    assert codes(document(), (), strange, LENIENT) == []
    # It may be any device whose provider is not known yet.
    assert codes(document(placed=False), (), strange) == []


def test_a_destination_of_which_nothing_is_known():
    silent = Reason(code=Code.HOST_SILENT, actor=Actor.OPERATOR)
    assert codes(silent, [vf(PF_2)]) == [Code.HOST_SILENT]
    assert codes(silent, [vf(PF_2)], policies=LENIENT) == []


def test_what_cannot_be_read_of_another_family_does_not_matter():
    assert codes(document(unreadable={"gpu": "no"}), [vf(PF_2)]) == []
    assert codes(document(unreadable={"nic": "no"}), [vf(PF_2)]) == [Code.HOST_UNREADABLE]
    assert codes(document(unreadable={"": "no"}), [vf(PF_2)]) == [Code.HOST_UNREADABLE]
