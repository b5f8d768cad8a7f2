# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What needs no cloud; the rest is in tests/functional/test_need_command.py."""

from __future__ import annotations

import types

import pytest
from nova import exception, objects

from nova_devcompat import wire
from nova_devcompat.catalog import Catalog, CatalogFamily
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.need import DeviceNeed, Need, host_slot
from nova_devcompat.compat.rules import Semver, Superset
from nova_devcompat.fleet import needs
from nova_devcompat.stores import cells
from nova_devcompat.stores.cells import BadRequest, Refused

FAMILY = Family(name="nic", rules={"version": Semver(), "caps": Superset()})
CATALOG = Catalog(
    digest="",
    families={"nic": CatalogFamily(family=FAMILY, match={"model": "x"}, source="static")},
)
PF = "0000:82:00.0"
VF = "0000:82:00.2"
PROVIDER = "e5a2e1f0-6a53-4f3c-8d57-6d3e6c8a2b10"


def nic(address: str, *, assumed=(), **values) -> DeviceNeed:
    return DeviceNeed.of("nic", values, slot="pci:1", address=address, assumed=assumed)


def node(*devices: wire.PublishedDevice, stats: str | None = "") -> needs.Node:
    """A node that published these devices, or just that text, or nothing."""
    document = wire.HostDocument(catalog="", devices=devices)
    stats = stats or (None if stats is None else wire.dump_stats(document))
    return needs.Node(
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


# --- what a node published ----------------------------------------------------------------------


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


# --- changes to needs ---------------------------------------------------------------------------


def test_assignments():
    need = needs._parse(["nic.version=01.2.3", "nic.caps=p2p, migration"], CATALOG)
    assert need.atoms == nic("", version=["1.2"], caps=["p2p", "migration"]).atoms


@pytest.mark.parametrize(
    ("assignments", "told"),
    [
        (["nic.version"], "'nic.version' is not of the form FAMILY.ATTRIBUTE=VALUE"),
        (["version=1.2"], "'version=1.2' is not of the form FAMILY.ATTRIBUTE=VALUE"),
        (["nic.version=1.2", "nic.version=1.3"], "nic.version is given twice"),
        (["nic.version=x"], "nic.version: rule semver cannot read the value: 'x': is not a"),
        (["nic.caps="], "nic.caps: rule superset cannot read the value: "),
        (["gpu.version=1.2"], "gpu.version: the catalog has no family 'gpu'; families: nic"),
        (["nic.speed=1"], "nic.speed: family nic has no attribute 'speed'; attributes: caps, ver"),
    ],
)
def test_bad_assignments(assignments, told):
    with pytest.raises(BadRequest) as error:
        needs._parse(assignments, CATALOG)
    assert str(error.value).startswith(told)


def test_values_are_set_where_they_are_recorded():
    other = nic("", version=["1.3"])
    present = Need(devices=(nic(PF, version=["1.3"], caps=None), nic(VF, version=["1.3"]), other))
    wanted = needs._parse(["nic.version=1.2"], CATALOG)
    changed = needs._with_values(present, wanted, VF)
    assert changed.devices == (present.devices[0], nic(VF, version=["1.2"]), other)
    everywhere = needs._with_values(present, wanted, None)
    assert [dict(one.values)["version"] for one in everywhere.devices] == [{"1.2"}] * 3
    known = needs._with_values(present, needs._parse(["nic.caps=p2p"], CATALOG), None)
    assert known.devices == (nic(PF, version=["1.3"], caps=["p2p"]), *present.devices[1:])
    with pytest.raises(BadRequest, match=r"no device at 0000:82:00.2 with nic\.caps; it has: nic"):
        needs._with_values(present, needs._parse(["nic.caps=p2p"], CATALOG), VF)


def test_what_is_set_is_no_longer_assumed():
    present = Need(devices=(nic(PF, version=["1.2"], caps=["p2p"], assumed=["version", "caps"]),))
    changed = needs._with_values(present, needs._parse(["nic.version=1.2"], CATALOG), None)
    assert changed.devices[0].assumed == {"caps"}
    (change,) = needs._changes("u", present, changed)
    assert change == ("u", PF, "nic", "version", "1.2 (assumed)", "1.2")


def test_only_what_became_known_is_a_change():
    old = Need(devices=(nic(PF, version=["1.2"]), nic(VF, version=None)))
    new = old.completed(
        Need(devices=(nic(PF, version=["1.4"], caps=None), nic(VF, version=["1.4"], caps=[])))
    )
    assert needs._changes("u", old, new) == [
        ("u", VF, "nic", "caps", "", "nothing (assumed)"),
        ("u", VF, "nic", "version", "unknown", "1.4 (assumed)"),
    ]
    assert needs._changes("u", new, new) == []
    assert [needs._gaps(*pair) for pair in needs._pairs(old, new)] == [
        "need-missing: caps",
        "need-missing: caps; need-unknown: version",
    ]
    assert needs._gaps(None, old.devices[0]) == "need-missing: the device is not recorded"


# --- pages --------------------------------------------------------------------------------------


@pytest.fixture
def instances(monkeypatch):
    """UUIDs of instances that pages of two are read from; take one out to purge it."""
    present = list("abcdef")

    def get_by_filters(context, filters, *, limit, marker, **others):
        assert filters == {"deleted": False, "host": "a"}
        if marker is not None and marker not in present:
            raise exception.MarkerNotFound(marker=marker)
        left = [uuid for uuid in present if marker is None or uuid > marker]
        return [types.SimpleNamespace(uuid=uuid) for uuid in left[:limit]]

    monkeypatch.setattr(objects, "InstanceList", types.SimpleNamespace(), raising=False)
    objects.InstanceList.get_by_filters = get_by_filters
    monkeypatch.setattr(cells, "_PAGE", 2)
    return present


def test_pages(instances):
    read = cells.instances(None, {"host": "a"}, [])
    assert [instance.uuid for instance in read] == list("abcdef")


def test_an_instance_is_purged_between_two_pages(instances):
    read = cells.instances(None, {"host": "a"}, [])
    assert [next(read).uuid, next(read).uuid] == ["a", "b"]
    instances.remove("b")
    assert [instance.uuid for instance in read] == list("cdef")


def test_a_whole_page_is_purged(instances):
    read = cells.instances(None, {"host": "a"}, [])
    assert [next(read).uuid, next(read).uuid] == ["a", "b"]
    del instances[:2]
    with pytest.raises(Refused, match="purged"):
        next(read)


def test_errors_in_one_line():
    assert cells.brief(ValueError("what\nwhy")) == "ValueError: what"
    assert cells.brief(KeyError()) == "KeyError"
