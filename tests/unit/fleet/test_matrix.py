# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat.catalog import AmbiguousDevice, Catalog, CatalogFamily
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.kinds import AtLeast, OneOf, Ordered, Range, Semver, Superset
from nova_devcompat.compat.uses import Use
from nova_devcompat.compat.verdict import Verdict
from nova_devcompat.fleet.matrix import Matrix, Move, UnknownName
from nova_devcompat.sources import Device
from nova_devcompat.sources.static import Inventory
from tests.budget import scaled


def family(name: str, match: str, **rules) -> CatalogFamily:
    return CatalogFamily(
        family=Family(name=name, rules=rules), match={"model": match}, source="static"
    )


CATALOG = Catalog(
    digest="",
    families={
        found.name: found
        for found in (
            family("machine", "qemu", types=OneOf()),
            family("mlx", "cx?", fw=Semver(), caps=Superset()),
            family("qat", "qat*", rate=AtLeast()),
            family("vgpu", "nvidia-*", version=Range()),
        )
    },
)


def mlx(address: str, fw: object, caps: object = ()) -> Device:
    return Device(address, {"fw": fw, "caps": list(caps)}, "mlx")


def matrix_of(**hosts: list[Device]) -> Matrix:
    return Matrix(CATALOG, Inventory(hosts={name: tuple(found) for name, found in hosts.items()}))


def test_a_mixed_fleet():
    matrix = matrix_of(
        new=[mlx("b", "2.4"), mlx("a", "2.2")],
        old=[mlx("a", "2.0")],
        silent=[mlx("a", None)],
        bare=[],
    )
    rows = list(matrix.moves())
    assert [(row.source_host, row.source_address, row.destination_host) for row in rows] == [
        ("new", "a", "bare"), ("new", "a", "old"), ("new", "a", "silent"),
        ("new", "b", "bare"), ("new", "b", "old"), ("new", "b", "silent"),
        ("old", "a", "bare"), ("old", "a", "new"), ("old", "a", "silent"),
        ("silent", "a", "bare"), ("silent", "a", "new"), ("silent", "a", "old"),
    ]  # fmt: skip
    assert {row.family for row in rows} == {"mlx"}
    answers = {
        (row.source_host, row.source_address, row.destination_host): (row.verdict, row.reason)
        for row in rows
    }
    assert answers["old", "a", "new"] == ("accept", "")
    verdict, reason = answers["new", "b", "old"]
    assert verdict == "reject"
    assert reason == (
        "mlx.fw: needs 2.4, offered 2.0, too old [semver, minor-too-old; upgrade old]"
    )
    verdict, reason = answers["new", "a", "bare"]
    assert verdict == "reject"
    assert reason == (
        "mlx: needs a device, the host has no such device "
        "[no-device; choose a host that has such a device]"
    )
    verdict, reason = answers["new", "a", "silent"]
    assert verdict == "unknown"
    assert "mlx.fw" in reason and "offer-missing" in reason
    verdict, reason = answers["silent", "a", "new"]
    assert verdict == "unknown"
    assert "mlx.fw" in reason and "need-unknown" in reason


def test_the_device_that_fits_best_decides():
    """Accept before unknown before reject, wherever it stands."""
    need, old, silent, new = mlx("n", "2.2"), mlx("o", "2.0"), mlx("s", None), mlx("f", "2.3")

    def verdict(*offered: Device) -> str:
        (row,) = matrix_of(a=[need], b=list(offered)).moves(source="a")
        return row.verdict

    for order in itertools.permutations([old, silent, new]):
        assert verdict(*order) == "accept"
    assert verdict(old, silent) == verdict(silent, old) == "unknown"
    assert verdict(old, old) == "reject"


def test_reason_is_that_of_the_first_device_of_those_that_fit_equally_ill():
    (row,) = matrix_of(a=[mlx("n", "2.5")], b=[mlx("y", "2.1"), mlx("x", "2.3")]).moves(source="a")
    assert "offered 2.3" in row.reason


def test_several_reasons_stand_in_one_line():
    (row,) = matrix_of(a=[mlx("n", "2.5", ["x"])], b=[mlx("n", "2.1")]).moves(source="a")
    assert "minor-too-old" in row.reason and "feature-missing" in row.reason
    assert "; mlx." in row.reason and "\n" not in row.reason


def test_families_do_not_mix():
    gpu = Device("g", {"model": "nvidia-3", "version": {"min": "1.0", "max": "2.0"}})
    rows = list(matrix_of(a=[mlx("n", "2.5"), gpu], b=[mlx("n", "2.5")]).moves())
    assert [(row.family, row.destination_host, row.verdict) for row in rows] == [
        ("vgpu", "b", "reject"),
        ("mlx", "b", "accept"),
        ("mlx", "a", "accept"),
    ]
    assert "no-device" in rows[0].reason


def test_devices_of_no_family_are_passed_over():
    matrix = matrix_of(b=[Device("x", {"model": "cx"}), mlx("n", "1.0")], a=[Device("y", {})])
    assert matrix.passed_over == [("a", "y"), ("b", "x")]
    assert [(row.source_host, row.destination_host) for row in matrix.moves()] == [("b", "a")]


def test_an_ambiguous_device():
    catalog = Catalog(
        digest="", families={name: family(name, "cx*", fw=Semver()) for name in ("one", "two")}
    )
    inventory = Inventory(hosts={"a": (Device("x", {"model": "cx7"}),)})
    with pytest.raises(AmbiguousDevice, match="one, two"):
        Matrix(catalog, inventory)


def test_nothing_to_move():
    assert list(matrix_of().moves()) == []
    assert list(matrix_of(a=[mlx("n", "1.0")]).moves()) == []


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"source": "cmp9"}, "the inventory has no host 'cmp9'; there is cmp1, cmp2"),
        (
            {"destination": "cmp11"},
            "has no host 'cmp11'; there is cmp1, cmp2; did you mean 'cmp1'",
        ),
        ({"family": "mxl"}, "no family 'mxl'; there is machine, mlx, qat, vgpu"),
        ({"source": ""}, "the inventory has no host ''"),
    ],
)
def test_unknown_names_are_refused_at_once(asked, expected):
    matrix = matrix_of(cmp1=[], cmp2=[])
    with pytest.raises(UnknownName) as caught:
        matrix.moves(**asked)  # and not only on iteration
    assert expected in str(caught.value)


def test_unknown_names_list_a_few_of_many():
    matrix = matrix_of(**{f"cmp{number:03}": [] for number in range(25)})
    with pytest.raises(UnknownName, match=r"cmp000, .*, cmp009 and 15 more; did you mean 'cmp0"):
        matrix.moves(source="cmp30")


# --- against the core, device by device ---------------------------------------------------------

VERSIONS = st.sampled_from(["1.0", "1.1", "1.2", "2.0", "x", None])
CAPS = st.lists(st.sampled_from("abc"), max_size=3, unique=True) | st.none()
ATTRIBUTES = st.one_of(
    st.builds(lambda fw, caps: {"model": "cx7", "fw": fw, "caps": caps}, VERSIONS, CAPS),
    st.builds(lambda rate: {"model": "qat1", "rate": rate}, st.integers(0, 3)),
    st.builds(
        lambda low, high: {"model": "nvidia-1", "version": {"min": low, "max": high}},
        VERSIONS,
        VERSIONS,
    ),
    st.builds(lambda types: {"model": "qemu", "types": types}, CAPS),
    st.just({"model": "unheard of"}),
)
HOSTS = st.dictionaries(
    st.sampled_from("hgfedc"), st.lists(ATTRIBUTES, max_size=3), min_size=1, max_size=5
)


def slowly(inventory: Inventory) -> list[Move]:
    """What a matrix is, without caring how long it takes."""
    rows = []
    for source, devices in sorted(inventory.hosts.items()):
        for device in sorted(devices, key=lambda device: device.address):
            own = CATALOG.classify(device)
            if own is None:
                continue
            need = own.family.offer(device.attributes).freeze()
            for destination, others in sorted(inventory.hosts.items()):
                if destination == source:
                    continue
                verdicts = [
                    own.family.offer(other.attributes).judge(need)
                    for other in sorted(others, key=lambda other: other.address)
                    if CATALOG.classify(other) is own
                ]
                best: Verdict | None = None
                for verdict in verdicts:
                    if best is None or verdict.severity < best.severity:
                        best = verdict
                if best is None:
                    reason = (
                        f"{own.name}: needs a device, the host has no such device "
                        "[no-device; choose a host that has such a device]"
                    )
                    rows.append(
                        Move(source, device.address, own.name, destination, "reject", reason)
                    )
                else:
                    reason = "; ".join(
                        dataclasses.replace(
                            one,
                            detail=f"since the inventory does not say what {source} has"
                            if one.code == "need-unknown"
                            else one.detail,
                        ).of(destination)
                        for one in best.reasons
                    )
                    rows.append(
                        Move(source, device.address, own.name, destination, best.outcome, reason)
                    )
    return rows


@given(HOSTS)
@settings(max_examples=scaled(100))
def test_matrix_is_what_the_core_says(hosts):
    inventory = Inventory(
        hosts={
            host: tuple(Device(f"d{index}", facts) for index, facts in enumerate(devices))
            for host, devices in hosts.items()
        }
    )
    expected = slowly(inventory)
    assert list(Matrix(CATALOG, inventory).moves()) == expected
    for host, name in itertools.product(hosts, CATALOG.families):
        matrix = Matrix(CATALOG, inventory)
        assert list(matrix.moves(source=host, family=name)) == [
            row for row in expected if (row.source_host, row.family) == (host, name)
        ]
        assert list(matrix.moves(destination=host)) == [
            row for row in expected if row.destination_host == host
        ]


def test_a_host_family_is_compared_by_all_that_guests_could_use():
    table = (
        Use(xpath="/a", requires={"version": frozenset({"3.0"})}),
        Use(xpath="/b", requires={"version": frozenset({"9.0"})}),
    )
    family = CatalogFamily(
        family=Family(name="qemu", rules={"version": Ordered()}, subject=Subject.HOST),
        match={"component": "qemu"},
        source="static",
        needs=table,
    )
    hosts = {
        name: [Device("qemu", {"component": "qemu", "version": version})]
        for name, version in (("ancient", "2.0"), ("old", "7.0"), ("new", "8.0"))
    }
    matrix = Matrix(Catalog(digest="", families={"qemu": family}), Inventory(hosts=hosts))
    verdicts = {(m.source_host, m.destination_host): m.verdict for m in matrix.moves()}
    # A guest that uses what its own host is too old for needs what that has, as a real one does.
    assert verdicts == {
        ("ancient", "old"): "accept",
        ("ancient", "new"): "accept",
        ("old", "ancient"): "reject",
        ("old", "new"): "accept",
        ("new", "ancient"): "reject",
        ("new", "old"): "reject",
    }


def test_a_host_of_whose_own_parts_the_inventory_says_nothing_is_unknown():
    """As in the cloud: no inventory says that a host has no libvirt."""
    family = CatalogFamily(
        family=Family(name="libvirt", rules={"version": Ordered()}, subject=Subject.HOST),
        match={"component": "libvirt"},
        source="static",
    )
    hosts = {
        "a": [Device("libvirt", {"component": "libvirt", "version": "10.0"})],
        "b": [],
    }
    matrix = Matrix(Catalog(digest="", families={"libvirt": family}), Inventory(hosts=hosts))
    (move,) = matrix.moves()
    assert move.verdict == "unknown"
    assert "device-unknown" in move.reason


def test_a_host_with_two_parts_of_one_host_family():
    """In the cloud nothing is known of it then: which of them would count?"""
    family = CatalogFamily(
        family=Family(name="libvirt", rules={"version": Ordered()}, subject=Subject.HOST),
        match={"component": "libvirt"},
        source="static",
    )
    parts = [
        Device(name, {"component": "libvirt", "version": "10.0"}) for name in ("libvirt", "other")
    ]
    catalog = Catalog(digest="", families={"libvirt": family})
    with pytest.raises(ValueError, match="host b: libvirt and other are both of host family libv"):
        Matrix(catalog, Inventory(hosts={"a": parts[:1], "b": parts}))
