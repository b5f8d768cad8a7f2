# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A host as it would be is as the host is, once it is so."""

from __future__ import annotations

import dataclasses

import pytest

from nova_devcompat.catalog.nvidia import published_range
from nova_devcompat.catalog.packs import catalog_paths
from nova_devcompat.compat.device import Device
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.ruling import Guest, Need
from nova_devcompat.compat.verdict import Actor, Reason
from nova_devcompat.fleet.assume import Assumption, Assumptions, assumptions
from nova_devcompat.fleet.model import Host, Place
from nova_devcompat.fleet.paper import Paper
from nova_devcompat.service import load_catalog
from nova_devcompat.sources.static import Inventory
from tests.unit.fleet.test_stranded import ENFORCE, every

OLD, NEW = "550.144.02", "570.133.20"
SILENT = Reason(code="host-silent", actor=Actor.OPERATOR)


@pytest.fixture(scope="module", params=["nvidia_vgpu", "nvidia_vgpu_same_driver"])
def catalog(request):
    return load_catalog(catalog_paths([request.param]), check_sources=False)


def device(release: str, address: str = "0000:41:00.0", **attributes: object) -> Device:
    told = {
        "driver_version": release,
        "ecc_mode": "enabled",
        "product_id": "26b9",
        "vgpu_migration": "1",
        "vgpu_type": "any",
        "vgpu_version": published_range(release).attribute,
    }
    return Device(address, {**told, **attributes}, "nvidia_vgpu")


def document(catalog, *devices, atoms=()):
    paper = Paper(catalog, Inventory(hosts={"h": tuple(devices)}), atoms)
    said = paper.fleet.hosts[0].document
    provided = [dataclasses.replace(one, providers=(f"p{one.address}",)) for one in said.devices]
    return dataclasses.replace(said, devices=tuple(provided))


def guests(catalog):
    """What guests of both releases need."""
    paper = Paper(catalog, Inventory(hosts={"o": (device(OLD),), "n": (device(NEW),)}))
    return [start.need for starts in paper.starts.values() for start in starts]


def takes(said, need: DeviceNeed) -> tuple[bool, list[str]]:
    host = Host(place=Place("h", "h"), said=said)
    placed = dataclasses.replace(need, slot="rc:VGPU")
    ruling = host.rule(Guest(record=Need(devices=(placed,))), every(ENFORCE))
    return ruling.accepts, [reason.attribute for reason in ruling.refused]


def test_another_release(catalog):
    assumed = Assumptions(catalog, [Assumption(host="h", said="", release=NEW)])
    needs = guests(catalog)
    atoms = {atom for need in needs for atom in need.atoms}
    now, then = (document(catalog, device(one), atoms=atoms) for one in (OLD, NEW))
    would = assumed.document("h", now, atoms)
    assert [one.providers for one in would.devices] == [one.providers for one in now.devices]
    for need in needs:
        assert takes(would, need) == takes(then, need)
    # What is assumed makes a difference.
    assert any(takes(now, need) != takes(then, need) for need in needs)


@pytest.mark.parametrize("release", [OLD, NEW])
def test_other_devices(catalog, release):
    others = (device(release, ecc_mode="disabled"), device(release, address="0000:42:00.0"))
    assumed = Assumptions(catalog, [Assumption(host="h", said="", devices=others)])
    needs = guests(catalog)
    atoms = {atom for need in needs for atom in need.atoms}
    then = document(catalog, *others, atoms=atoms)
    now = document(catalog, device(OLD), atoms=atoms)
    for said in (now, SILENT):
        would = assumed.document("h", said, atoms)
        for need in needs:
            assert takes(would, need) == takes(then, need)
    # Where a device was, its provider is; of another, none is known.
    providers = {one.address: one.providers for one in assumed.document("h", now, atoms).devices}
    assert providers == {"0000:41:00.0": ("p0000:41:00.0",), "0000:42:00.0": ()}


def test_nothing_to_release(catalog):
    assumed = assumptions(catalog, [], [f"h={NEW}"])
    assert assumed.hosts == ["h"]
    assert "release 570.133.20 of the driver of nvidia_vgpu" in assumed.said[0]
    for now in (SILENT, document(catalog)):
        with pytest.raises(ValueError, match=r"h has .* publishes no device of nvidia_vgpu"):
            assumed.document("h", now, ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("h", "'h' is not HOST=RELEASE, such as cmp4="),
        ("=570.133.20", "is not HOST=RELEASE"),
        ("h=", "is not HOST=RELEASE"),
        ("h=new", "h=new: release of NVIDIA's driver"),
        ("h=1.2.3", "h=1.2.3: nothing is published for release 1.2.3 .*known are branches 5"),
    ],
)
def test_bad_releases(catalog, text, said):
    with pytest.raises(ValueError, match=said):
        assumptions(catalog, [], [text])


def test_a_release_that_nothing_is_published_of(catalog):
    (said,) = assumptions(catalog, [], ["h=570.999.01"]).said
    assert "nothing is published for release 570.999.01; it is taken to have what" in said
