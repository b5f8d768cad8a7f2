# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What hosts published; with real ones in tests/functional/test_need_command.py."""

from __future__ import annotations

import dataclasses
import types

import pytest

from nova_devcompat import wire
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.kinds import Semver, Superset
from nova_devcompat.compat.need import DeviceNeed, host_slot
from nova_devcompat.fleet.cloud import host_of
from nova_devcompat.fleet.model import Fleet, Host, Place
from nova_devcompat.stores.provided import Provided

FAMILY = Family(name="nic", rules={"version": Semver(), "caps": Superset()})
PF = "0000:82:00.0"
VF = "0000:82:00.2"
PROVIDER = "e5a2e1f0-6a53-4f3c-8d57-6d3e6c8a2b10"


def nic(address: str, *, assumed=(), **values) -> DeviceNeed:
    return DeviceNeed.of("nic", values, slot="pci:1", address=address, assumed=assumed)


def host(*devices: wire.PublishedDevice, whole: bool = False, stats: str | None = "") -> Host:
    """A host that published these devices, or just that text, or nothing."""
    document = wire.HostDocument(catalog="", devices=devices, whole=whole)
    stats = stats or (None if stats is None else wire.dump_stats(document))
    node = types.SimpleNamespace(
        id=1,
        host="a",
        hypervisor_hostname="a.example.org",
        stats={} if stats is None else {wire.STATS_KEY: stats},
    )
    return host_of(node, wire.StatsReader())


def published(version: str) -> wire.PublishedDevice:
    offer = FAMILY.offer({"version": version, "caps": ["p2p"]})
    atoms = nic("", version=["1.2"], caps=["p2p"]).atoms
    return wire.PublishedDevice(address=PF, accepts=offer.accept_set(atoms), providers=(PROVIDER,))


def test_a_host_finds_its_devices():
    found = host(published("1.4"))
    assert (found.id, found.place) == (1, ("a", "a.example.org"))
    device = found.find(PF, None)
    assert device is not None and device.address == PF
    assert found.find("pci_0000_82_00_0", None) is device
    assert found.find(VF, PF) is device
    assert found.find(VF, None) is None
    assert found.behind(PROVIDER) == Provided(PF, (device,))
    assert found.behind("another") == Provided()
    assert found.providers == [PROVIDER]


@pytest.mark.parametrize("stats", [None, "{"])
def test_a_host_of_which_nothing_is_known_has_nothing(stats):
    found = host(stats=stats)
    assert found.document is None and found.problem is not None
    assert (found.find(PF, None), found.behind("provider")) == (None, Provided())
    assert (found.providers, found.accepts) == ([], ())


@pytest.mark.parametrize(
    ("where", "address", "parent", "outcome", "code"),
    [
        (host(published("1.4")), VF, PF, "accept", ""),
        (host(published("1.4")), "", None, "accept", ""),
        (host(published("1.0")), VF, PF, "reject", "minor-too-old"),
        (host(published("1.4")), VF, None, "unknown", "device-unknown"),
        (host(), VF, PF, "unknown", "device-unknown"),
        (host(), "", None, "unknown", "device-unknown"),
        (host(stats=None), VF, PF, "unknown", "host-silent"),
        (host(stats="{"), VF, PF, "unknown", "host-unreadable"),
        # Devices of PCI requests need not be in placement, so there may be others.
        (host(whole=True), "", None, "unknown", "device-unknown"),
    ],
)
def test_a_host_judges_a_need(where, address, parent, outcome, code):
    verdict = where.judge(nic(address, version=["1.2"], caps=["p2p"]), parent)
    assert verdict.outcome == outcome
    assert [reason.code for reason in verdict.reasons] == [code] * bool(code)


def test_a_host_that_says_what_it_has_all_told_has_no_other():
    need = dataclasses.replace(nic("", version=["1.2"]), slot="rc:VGPU")
    (reason,) = host(whole=True).judge(need).reasons
    assert reason.code == "no-device"


def test_a_host_judges_what_is_needed_of_itself():
    offer = FAMILY.offer({"version": "1.0", "caps": []})
    needed = DeviceNeed.of("nic", {"version": ["1.2"], "caps": []}, slot=host_slot("nic"))
    part = wire.PublishedDevice(address="nic", accepts=offer.accept_set(needed.atoms))
    text = wire.dump_stats(wire.HostDocument(catalog="", devices=(), whole=True, host=(part,)))
    assert host(stats=text).judge(needed).outcome == "reject"
    for other in (host(published("1.4")), host(whole=True), host(stats=None)):
        assert other.judge(needed).outcome == "unknown"


def test_what_cannot_be_read_concerns_its_family_alone():
    document = wire.HostDocument(
        catalog="", devices=(published("1.4"),), unreadable={"gpu": "its version is a list"}
    )
    found = Host(place=Place("a", "a"), said=document)
    assert found.judge(nic("", version=["1.2"], caps=["p2p"])).outcome == "accept"
    verdict = found.judge(DeviceNeed.of("gpu", {"version": ["1.2"]}))
    assert verdict.outcome == "unknown"
    assert [(one.code, one.family, one.detail) for one in verdict.reasons] == [
        ("host-unreadable", "gpu", "its version is a list")
    ]


def test_hosts_are_alike_that_take_the_same_guests():
    reader = wire.StatsReader()

    def numbered(number: int, *versions: str, **others) -> Host:
        document = wire.HostDocument(catalog="", devices=tuple(map(published, versions)), **others)
        text = wire.dump_stats(document) if versions else None
        node = types.SimpleNamespace(
            id=number,
            host=f"h{number}",
            hypervisor_hostname="n",
            stats={wire.STATS_KEY: text},
        )
        return host_of(node, reader)

    hosts = [
        numbered(0, "1.4"),
        numbered(1),
        numbered(2, "1.0"),
        numbered(3),
        numbered(4),
        numbered(5, "1.0", "1.0"),
        numbered(6, "1.0", whole=True),
    ]
    alike = [sorted(place.host for place in kind.places) for kind in Fleet(hosts=hosts).alike]
    assert alike == [["h1", "h3", "h4"], ["h2", "h5"], ["h0"], ["h6"]]
