# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What needs no cloud; the rest is in tests/functional/test_need_command.py."""

from __future__ import annotations

import pytest

from nova_devcompat.catalog import Catalog, CatalogFamily
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.kinds import Semver, Superset
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.fleet import edits, records
from nova_devcompat.stores.cells import BadRequest

FAMILY = Family(name="nic", rules={"version": Semver(), "caps": Superset()})
CATALOG = Catalog(
    digest="",
    families={"nic": CatalogFamily(family=FAMILY, match={"model": "x"}, source="static")},
)
PF = "0000:82:00.0"
VF = "0000:82:00.2"


def nic(address: str, *, assumed=(), **values) -> DeviceNeed:
    return DeviceNeed.of("nic", values, slot="pci:1", address=address, assumed=assumed)


def test_assignments():
    need = edits.read(["nic.version=01.2.3", "nic.caps=p2p, migration"], CATALOG)
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
        edits.read(assignments, CATALOG)
    assert str(error.value).startswith(told)


def test_values_are_set_where_they_are_recorded():
    other = nic("", version=["1.3"])
    present = Need(devices=(nic(PF, version=["1.3"], caps=None), nic(VF, version=["1.3"]), other))
    wanted = edits.read(["nic.version=1.2"], CATALOG)
    changed = edits.applied(present, wanted, VF)
    assert changed.devices == (present.devices[0], nic(VF, version=["1.2"]), other)
    everywhere = edits.applied(present, wanted, None)
    assert [dict(one.values)["version"] for one in everywhere.devices] == [{"1.2"}] * 3
    known = edits.applied(present, edits.read(["nic.caps=p2p"], CATALOG), None)
    assert known.devices == (nic(PF, version=["1.3"], caps=["p2p"]), *present.devices[1:])
    with pytest.raises(BadRequest, match=r"no device at 0000:82:00.2 with nic\.caps; it has: nic"):
        edits.applied(present, edits.read(["nic.caps=p2p"], CATALOG), VF)


def test_what_is_set_is_no_longer_assumed():
    present = Need(devices=(nic(PF, version=["1.2"], caps=["p2p"], assumed=["version", "caps"]),))
    changed = edits.applied(present, edits.read(["nic.version=1.2"], CATALOG), None)
    assert changed.devices[0].assumed == {"caps"}
    (change,) = edits.between("u", present, changed)
    assert change == ("u", PF, "nic", "version", "1.2 (assumed)", "1.2")


def test_only_what_became_known_is_a_change():
    old = Need(devices=(nic(PF, version=["1.2"]), nic(VF, version=None)))
    new = old.completed(
        Need(devices=(nic(PF, version=["1.4"], caps=None), nic(VF, version=["1.4"], caps=[])))
    )
    assert edits.between("u", old, new) == [
        ("u", VF, "nic", "caps", "", "nothing (assumed)"),
        ("u", VF, "nic", "version", "unknown", "1.4 (assumed)"),
    ]
    assert edits.between("u", new, new) == []
    assert [records._gaps(*pair) for pair in records.pairs(old, new)] == [
        "need-missing: caps",
        "need-missing: caps; need-unknown: version",
    ]
    assert records._gaps(None, old.devices[0]) == "need-missing: the device is not recorded"
