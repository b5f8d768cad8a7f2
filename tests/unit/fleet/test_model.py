# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What hosts published; with real ones in tests/functional/test_need_command.py."""

from __future__ import annotations

import types

import pytest

from nova_devcompat import wire
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.need import DeviceNeed, host_slot
from nova_devcompat.compat.rules import Semver, Superset
from nova_devcompat.fleet.model import Node

FAMILY = Family(name="nic", rules={"version": Semver(), "caps": Superset()})
PF = "0000:82:00.0"
VF = "0000:82:00.2"
PROVIDER = "e5a2e1f0-6a53-4f3c-8d57-6d3e6c8a2b10"


def nic(address: str, *, assumed=(), **values) -> DeviceNeed:
    return DeviceNeed.of("nic", values, slot="pci:1", address=address, assumed=assumed)


def node(*devices: wire.PublishedDevice, stats: str | None = "") -> Node:
    """A node that published these devices, or just that text, or nothing."""
    document = wire.HostDocument(catalog="", devices=devices)
    stats = stats or (None if stats is None else wire.dump_stats(document))
    return Node(
        types.SimpleNamespace(
            id=1,
            host="a",
            hypervisor_hostname="a",
            stats={} if stats is None else {wire.STATS_KEY: stats},
        ),
        wire.StatsReader(),
    )


def published(version: str) -> wire.PublishedDevice:
    offer = FAMILY.offer({"version": version, "caps": ["p2p"]})
    atoms = nic("", version=["1.2"], caps=["p2p"]).atoms
    return wire.PublishedDevice(address=PF, accepts=offer.accept_set(atoms), providers=(PROVIDER,))


def test_node_finds_devices():
    found = node(published("1.4"))
    device = found.find(PF, None)
    assert device is not None and device.address == PF
    assert found.find("pci_0000_82_00_0", None) is device
    assert found.find(VF, PF) is device
    assert found.find(VF, None) is None
    assert found.behind(PROVIDER) == (PF, device)
    assert found.behind("another") == ("", None)
    assert found.providers == [PROVIDER]


@pytest.mark.parametrize(
    ("where", "address", "parent", "outcome", "code"),
    [
        (node(published("1.4")), VF, PF, "accept", ""),
        (node(published("1.4")), "", None, "accept", ""),
        (node(published("1.0")), VF, PF, "reject", "minor-too-old"),
        (node(published("1.4")), VF, None, "unknown", "device-unknown"),
        (node(), VF, PF, "unknown", "device-unknown"),
        (node(stats=None), VF, PF, "unknown", "host-silent"),
        (node(stats="{"), VF, PF, "unknown", "host-unreadable"),
    ],
)
def test_node_judges(where, address, parent, outcome, code):
    verdict = where.judge(nic(address, version=["1.2"], caps=["p2p"]), parent)
    assert verdict.outcome == outcome
    assert [reason.code for reason in verdict.reasons] == [code] * bool(code)


def test_node_judges_what_is_needed_of_the_host():
    offer = FAMILY.offer({"version": "1.0", "caps": []})
    needed = DeviceNeed.of("nic", {"version": ["1.2"], "caps": []}, slot=host_slot("nic"))
    part = wire.PublishedDevice(address="nic", accepts=offer.accept_set(needed.atoms))
    text = wire.dump_stats(wire.HostDocument(catalog="", devices=(), host=(part,)))
    assert node(stats=text).judge(needed, None).outcome == "reject"
    assert node(published("1.4")).judge(needed, None).outcome == "unknown"
    assert node(stats=None).judge(needed, None).outcome == "unknown"
