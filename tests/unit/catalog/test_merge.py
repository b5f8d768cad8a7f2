# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A device of which several sources tell."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat.catalog import AmbiguousDevice, Catalog, UnknownFamily
from nova_devcompat.catalog.stages import now
from nova_devcompat.service import load_catalog
from nova_devcompat.sources import Device

ADDRESS = "0000:81:00.0"

FAMILIES = {
    "mlx5_vf": {
        "match": {"vendor_id": "15b3", "vf_driver": "mlx5_*"},
        "source": "devlink",
        "attributes": {
            "caps": {"source": "sysfs", "path": "vendor/cap_*"},
            "ecc_mode": "nvml",
        },
        "rules": {"fw_version": "semver", "caps": "superset", "ecc_mode": "equal"},
    },
    "gpu": {
        "match": {"vendor_id": "10de", "mdev_type": "nvidia-*"},
        "source": "nvml",
        "rules": {"vgpu_version": "range"},
    },
    "paper": {
        "match": {"model": "x"},
        "source": "static",
        "attributes": {"version": "nvml"},
        "rules": {"version": "semver"},
    },
}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> Catalog:
    path = tmp_path_factory.mktemp("merge") / "catalog.yaml"
    path.write_text(yaml.safe_dump({"meta": {"schema_version": "1.0"}, "families": FAMILIES}))
    return load_catalog([path])


def device(family=None, problems=None, **attributes):
    return Device(ADDRESS, attributes, family, problems or {})


def key_of(catalog):
    """What the sysfs source calls mlx5_vf's file."""
    (key,) = catalog.paths["sysfs"]
    return key


def nic(catalog, *, sysfs=None, **sources):
    facts = {"vendor_id": "15b3", "vf_driver": ["mlx5_vfio_pci"], key_of(catalog): ["p2p"]}
    told = {
        "devlink": device(vendor_id="15b3", fw_version="22.39", driver="mlx5_core"),
        "sysfs": device(**facts | (sysfs or {})),
        **sources,
    }
    return {name: one for name, one in told.items() if one is not None}


def test_each_attribute_is_from_its_source(catalog):
    # nvml lists no NIC.
    merged = catalog.merge(ADDRESS, nic(catalog, sysfs={"fw_version": "9.9", "driver": "x"}))
    assert merged.family is catalog.families["mlx5_vf"]
    assert merged.attributes == {
        "vendor_id": "15b3",
        "vf_driver": ["mlx5_vfio_pci"],
        "driver": "mlx5_core",
        "fw_version": "22.39",
        "caps": ["p2p"],
    }
    assert merged.origins == {
        "vendor_id": "devlink",
        "vf_driver": "sysfs",
        "driver": "devlink",
        "fw_version": "devlink",
        "caps": "sysfs",
    }
    assert merged.problems == {"ecc_mode": f"source nvml does not list {ADDRESS}"}


def test_a_rule_takes_no_other_source_for_its_own(catalog):
    told = nic(
        catalog,
        devlink=device(vendor_id="15b3", ecc_mode="on", problems={"fw_version": "no answer"}),
        sysfs={"fw_version": "9.9", "caps": ["other"]},
    )
    del told["sysfs"].attributes[key_of(catalog)]
    merged = catalog.merge(ADDRESS, told)
    assert merged.family is not None
    assert not merged.attributes.keys() & {"fw_version", "caps", "ecc_mode"}
    assert merged.problems["fw_version"] == "no answer"
    assert "caps" not in merged.problems


def test_a_failed_source(catalog):
    merged = catalog.merge(ADDRESS, nic(catalog), {"nvml": "it is not there", "static": "y"})
    assert merged.problems == {"ecc_mode": "it is not there"}


def test_a_problem_of_what_is_known_all_the_same(catalog):
    told = nic(catalog, nvml=device(ecc_mode="on", problems={"ecc_mode": "one is odd"}))
    merged = catalog.merge(ADDRESS, told)
    assert merged.attributes["ecc_mode"] == "on"
    assert merged.problems == {"ecc_mode": "one is odd"}


def test_what_one_source_cannot_read_another_tells(catalog):
    told = nic(catalog, devlink=device(fw_version="1.0", problems={"vendor_id": "unreadable"}))
    merged = catalog.merge(ADDRESS, told)
    assert merged.family is catalog.families["mlx5_vf"]
    assert merged.origins["vendor_id"] == "sysfs"
    assert "vendor_id" not in merged.problems
    told["sysfs"] = device(problems={"vendor_id": "unreadable too"})
    merged = catalog.merge(ADDRESS, told)
    assert merged.family is None
    assert merged.problems == {"vendor_id": "unreadable"}


def test_a_device_that_its_primary_source_does_not_list_is_of_the_family_all_the_same(catalog):
    """It would need nothing else, and what that source would tell is what counts."""
    merged = catalog.merge(ADDRESS, nic(catalog, devlink=None))
    assert merged.family is catalog.families["mlx5_vf"]
    assert merged.problems["fw_version"] == f"source devlink does not list {ADDRESS}"
    offer = merged.family.family.offer(merged.attributes)
    assert "fw_version" in offer.unknown


def test_a_device_of_which_it_is_not_known_what_it_is_is_held_against_the_strictest(catalog):
    doubtful = catalog.in_doubt(ADDRESS, ["gpu", "mlx5_vf"], "two match", now())
    assert doubtful.family is not None
    assert doubtful.attributes == {}
    assert set(doubtful.problems) >= set(doubtful.family.family.rules)
    assert set(doubtful.problems.values()) == {"two match"}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("10de", "15b3", "gpu"), ("15b3", "10de", None), (None, "10de", "gpu")],
)
def test_the_primary_sources_word_counts_most(catalog, first, second, expected):
    told = {
        "libvirt": device(vendor_id=second, mdev_type=["nvidia-1"]),
        "nvml": device(vendor_id=first, vgpu_version={"min": "1.0", "max": "2.0"}),
    }
    merged = catalog.merge(ADDRESS, told)
    assert (merged.family and merged.family.name) == expected


def test_match_of_an_attribute_with_a_source_of_its_own(tmp_path):
    path = tmp_path / "catalog.yaml"
    family = {
        "match": {"services": "*sym*"},
        "source": "sysfs",
        "attributes": {"services": {"source": "sysfs", "path": "qat/cfg_services"}},
        "rules": {"revision": "equal"},
    }
    path.write_text(
        yaml.safe_dump({"meta": {"schema_version": "1.0"}, "families": {"qat": family}})
    )
    catalog = load_catalog([path])
    (key,) = catalog.paths["sysfs"]
    told = {"sysfs": device(services="none of ours", revision="40", **{key: "sym;asym"})}
    merged = catalog.merge(ADDRESS, told)
    assert merged.family is not None and merged.attributes["services"] == "sym;asym"
    told = {"sysfs": device(services="sym", revision="40")}
    assert catalog.merge(ADDRESS, told).family is None


def test_the_inventory_stands_in_for_all(catalog):
    told = {"static": device(model="x", version="1.0"), "nvml": device(version="2.0")}
    merged = catalog.merge(ADDRESS, told)
    assert merged.family is catalog.families["paper"]
    assert (merged.attributes["version"], merged.origins["version"]) == ("1.0", "static")


def test_a_family_that_a_source_names(catalog):
    told = nic(catalog, static=device("gpu"))
    merged = catalog.merge(ADDRESS, told)
    assert merged.family is catalog.families["gpu"]
    assert f"source nvml does not list {ADDRESS}" in merged.problems.values()
    told["nvml"] = device()
    assert catalog.merge(ADDRESS, told).family is catalog.families["gpu"]
    told["static"] = device("mlx5_vf")
    assert catalog.merge(ADDRESS, told).family is catalog.families["mlx5_vf"]


def test_what_cannot_be_classified(catalog):
    told = nic(catalog, nvml=device("gpu"), static=device("mlx5_vf"))
    with pytest.raises(AmbiguousDevice) as caught:
        catalog.merge(ADDRESS, told)
    assert caught.value.families == ("gpu", "mlx5_vf")
    told["static"] = device("gpus")
    with pytest.raises(UnknownFamily, match=r"'gpus'; families: .* did you mean 'gpu'"):
        catalog.merge(ADDRESS, told)
    told = nic(catalog, static=device(model="x"))
    with pytest.raises(AmbiguousDevice, match=f"device {ADDRESS} matches several .*mlx5_vf, pap"):
        catalog.merge(ADDRESS, told)


WORDS = st.sampled_from(["15b3", "10de", "mlx5_a", "nvidia-1", "x", "1.0"])
VALUES = WORDS | st.none() | st.lists(WORDS, max_size=2) | st.integers(0, 9)
NAMES = st.sampled_from(
    ["vendor_id", "vf_driver", "mdev_type", "model", "fw_version", "caps", "ecc_mode", "version"]
)
DEVICES = st.builds(
    lambda attributes, family, problems: Device(ADDRESS, attributes, family, problems),
    st.dictionaries(NAMES, VALUES),
    st.none() | st.sampled_from(sorted(FAMILIES)),
    st.dictionaries(NAMES, st.just("why")),
)


def named_by(catalog, told):
    """The families that sources name for a device."""
    names = {device.family for device in told.values()} - {None}
    return [catalog.families[name] for name in names]


@given(
    st.dictionaries(st.sampled_from(["devlink", "sysfs", "nvml", "static"]), DEVICES, min_size=1)
)
def test_merging(catalog, told):
    try:
        merged = catalog.merge(ADDRESS, told)
    except AmbiguousDevice:
        return
    assert merged.attributes.keys() == merged.origins.keys()
    for name, origin in merged.origins.items():
        key = key_of(catalog) if (name, origin) == ("caps", "sysfs") and merged.family else name
        assert merged.attributes[name] is not None
        assert merged.attributes[name] in (
            told[origin].attributes.get(key),
            told[origin].attributes.get(name),
        )
    if merged.family is None:
        return
    for name in merged.family.family.rules:
        assert merged.origins.get(name) in (None, merged.family.source_of(name).source)
    if merged.family.source not in told:
        assert all(family.source not in told for family in named_by(catalog, told))
        return
    # One source that tells it all is no other than the catalog's own classification.
    if len(told) == 1:
        (one,) = told.values()
        assert catalog.classify(one) is merged.family
