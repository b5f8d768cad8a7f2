# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import itertools
import pathlib

import os_traits
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat.catalog import (
    AmbiguousDevice,
    AttributeSource,
    Catalog,
    CatalogError,
    UnknownFamily,
)
from nova_devcompat.catalog.stages import MODES, now
from nova_devcompat.compat import traits
from nova_devcompat.compat.kinds import Ordered, Range, Semver, Superset
from nova_devcompat.compat.policy import Mode, OnUnknown, Policy
from nova_devcompat.compat.traits import Atom
from nova_devcompat.kit import plugins
from nova_devcompat.kit.problems import DocumentError
from nova_devcompat.service import load_catalog
from nova_devcompat.sources import Device, sysfs
from nova_devcompat.sources.static import load_inventory
from tests.budget import scaled
from tests.unit.distributions import install

META = "meta: {schema_version: '1.0'}\n"
DESIGN = (
    META
    + """\
families:
  mlx5_vf:
    match: {vendor_id: '15b3', product_id: '101e'}
    source: static
    rules:
      fw_version: semver
      caps: superset
  nvidia_vgpu:
    match: {mdev_type: 'nvidia-*'}
    source: static
    rules:
      vgpu_version: {kind: range, base: 16}
    mode: report
    on_unknown: accept
"""
)


def family(name: str = "fam", **keys: object) -> str:
    """One family in flow style on one line; a key given as None is left out."""
    content = {
        "match": "{vendor_id: '15b3'}",
        "source": "static",
        "rules": "{fw_version: semver}",
        **keys,
    }
    inner = ", ".join(f"{key}: {value}" for key, value in content.items() if value is not None)
    return f"  {name}: {{{inner}}}\n"


def catalog_of(*families: str) -> str:
    return META + "families:\n" + "".join(families)


ROW = "{xpath: /a, requires: {version: '3'}, because: b, source: s}"


def use(**keys: object) -> str:
    """A table of one row."""
    row = {"xpath": "/a", "requires": "{version: '3'}", "because": "b", "source": "s", **keys}
    return f"[{{{', '.join(f'{key}: {value}' for key, value in row.items())}}}]"


def host_family(**keys: object) -> str:
    return catalog_of(family(**{"subject": "host", "rules": "{version: ordered}", **keys}))


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = (f"{letter}.yaml" for letter in "abcdefgh")

    def _write(text: str | bytes) -> str:
        name = next(names)
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return name

    return _write


def problems_of(*paths: str) -> list[str]:
    with pytest.raises(CatalogError) as caught:
        load_catalog(paths)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


# --- what a good catalog is ---------------------------------------------------------------------


def test_the_catalog_of_the_design(write):
    catalog = load_catalog([write(DESIGN)])
    assert list(catalog.families) == ["mlx5_vf", "nvidia_vgpu"]
    mlx, nvidia = catalog.families.values()
    assert mlx.name == mlx.family.name == "mlx5_vf"
    assert mlx.match == {"vendor_id": "15b3", "product_id": "101e"}
    assert mlx.source == "static"
    assert (mlx.mode, mlx.on_unknown) == (None, None)
    assert mlx.family.rules == {"fw_version": Semver(), "caps": Superset()}
    assert nvidia.family.rules == {"vgpu_version": Range(base=16)}
    assert (nvidia.mode, nvidia.on_unknown) == (Mode.REPORT, OnUnknown.ACCEPT)


def test_later_files_add_and_override_whole_families(write):
    first = write(DESIGN)
    second = write(
        catalog_of(
            family("mlx5_vf", rules="{fw_version: ordered}"),
            family("qemu", match="{component: qemu}", rules="{version: ordered}"),
        )
    )
    catalog = load_catalog([first, second])
    assert list(catalog.families) == ["mlx5_vf", "nvidia_vgpu", "qemu"]
    assert catalog.families["mlx5_vf"].family.rules == {"fw_version": Ordered()}
    assert catalog.families["mlx5_vf"].match == {"vendor_id": "15b3"}
    other_way = load_catalog([second, first])
    assert other_way.families["mlx5_vf"].family.rules.keys() == {"fw_version", "caps"}


def test_an_override_can_end_an_overlap(write):
    first = write(catalog_of(family("one"), family("two", match="{vendor_id: '15b*'}")))
    second = write(catalog_of(family("two", match="{vendor_id: '8086'}")))
    assert "both match" in problems_of(first)[0]
    assert load_catalog([first, second]).families["two"].match == {"vendor_id": "8086"}


@pytest.mark.parametrize(
    "same",
    [
        DESIGN.replace("semver", "{kind: semver}"),
        DESIGN.replace("semver", "{base: 10, kind: semver}"),
        DESIGN.replace("'15b3'", '"15b3"').replace("semver", "semver  # as printed"),
        META + yaml.safe_dump({"families": yaml.safe_load(DESIGN)["families"]}),
    ],
)
def test_digest_is_of_what_the_catalog_says(write, same):
    digest = load_catalog([write(DESIGN)]).digest
    assert len(digest) == 12 and int(digest, 16) >= 0
    assert load_catalog([write(same)]).digest == digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("semver", "ordered"),
        ("base: 16", "base: 10"),
        ("mode: report", "mode: enforce"),
        ("    mode: report\n", ""),
        ("on_unknown: accept", "on_unknown: reject"),
        ("nvidia-*", "nvidia-?"),
        ("mlx5_vf", "mlx6_vf"),
        ("caps", "capa"),
    ],
)
def test_digest_changes_with_the_catalog(write, old, new):
    changed = DESIGN.replace(old, new)
    assert changed != DESIGN
    digests = {load_catalog([write(text)]).digest for text in (DESIGN, changed)}
    assert len(digests) == 2


def test_digest_knows_the_source(write, monkeypatch, tmp_path):
    entry = {"other": "nova_devcompat.sources.static:StaticSource"}
    install(monkeypatch, tmp_path / "dist", "acme", plugins.SOURCES, entry)
    one, other = (load_catalog([write(catalog_of(family(source=s)))]) for s in ("static", "other"))
    assert other.families["fam"].source == "other"
    assert one.digest != other.digest


ATTRIBUTES = "{driver_version: nvml, caps: {source: sysfs, path: 'vendor/cap_*'}}"


def test_where_attributes_come_from(write):
    rules = "{driver_version: semver, caps: superset, fw: equal}"
    text = catalog_of(
        family(source="devlink", rules=rules, attributes=ATTRIBUTES),
        family("other", source="sysfs", match="{vendor_id: '8086'}", rules="{revision: equal}"),
        family(
            "paper",
            match="{vendor_id: '10de'}",
            rules="{driver_version: equal}",
            attributes="{driver_version: nvml}",
        ),
    )
    catalog = load_catalog([write(text)])
    found = catalog.families["fam"]
    assert found.attributes == {
        "driver_version": AttributeSource(source="nvml"),
        "caps": AttributeSource(source="sysfs", path="vendor/cap_*"),
    }
    assert found.sources == {"devlink", "nvml", "sysfs"}
    assert found.source_of("caps").path == "vendor/cap_*"
    assert found.source_of("fw") == AttributeSource(source="devlink")
    assert catalog.families["other"].sources == {"sysfs"}
    # The inventory stands in for all.
    assert catalog.families["paper"].sources == {"static"}
    assert catalog.families["paper"].source_of("driver_version") == AttributeSource(
        source="static"
    )
    assert catalog.sources == {"devlink", "nvml", "sysfs", "static"}
    assert [*catalog.paths["sysfs"].values()] == ["vendor/cap_*"]


def test_the_documented_example_of_several_sources():
    folder = pathlib.Path(__file__).parents[3] / "doc" / "source" / "_examples"
    catalog = load_catalog([folder / "several-sources.yaml"])
    assert catalog.sources == {"devlink", "nvml", "sysfs"}


def test_facts_of_functions(write):
    rules = "{fw_version: semver, caps: superset, vf_driver_version: equal}"
    stated = (
        "{{caps: {{source: sysfs, path: caps, of: {}}}, "
        "vf_driver_version: {{source: sysfs, of: {}}}}}"
    )

    def load(caps, driver):
        text = catalog_of(
            family(source="devlink", rules=rules, attributes=stated.format(caps, driver))
        )
        return load_catalog([write(text)])

    catalog = load("function", "device")
    found = catalog.families["fam"]
    assert found.of_functions and found.sources == {"devlink", "sysfs"}
    assert found.source_of("caps") == AttributeSource(
        source="sysfs", path="caps", of_function=True
    )
    assert not found.source_of("vf_driver_version").of_function
    assert not found.source_of("fw_version").of_function
    assert not catalog.paths and [*catalog.function_paths["sysfs"].values()] == ["caps"]
    assert catalog.on_paper().families["fam"].source_of("caps") == AttributeSource(
        source="inventory", of_function=True
    )

    plain = load("device", "device")
    assert not plain.families["fam"].of_functions and not plain.function_paths
    # What a file of a device is called is not what one of a function is.
    assert plain.paths["sysfs"].keys().isdisjoint(catalog.function_paths["sysfs"])
    digests = {load(caps, driver).digest for caps in KINDS for driver in KINDS}
    assert len(digests) == 4


KINDS = ("device", "function")


def test_the_documented_example_of_functions():
    folder = pathlib.Path(__file__).parents[3] / "doc" / "source" / "_examples"
    catalog = load_catalog([folder / "functions.yaml"])
    inventory = load_inventory(folder / "functions-inventory.yaml", catalog)
    ((device,),) = inventory.hosts.values()
    assert len(device.functions) == 21
    (used, free, gpu), problems = catalog.on_paper().divide(device.address, {"inventory": device})
    assert (len(used.functions), len(free.functions), problems) == (17, 4, {})
    assert gpu.family is None and not gpu.functions
    assert (used.attributes["vgpu_type"], free.attributes["vgpu_type"]) == ("1561", "none")


def test_files_of_one_attribute_name_have_names_of_their_own(write):
    def of(name: str, vendor: str, path: str) -> str:
        return family(
            name,
            source="sysfs",
            match=f"{{vendor_id: '{vendor}'}}",
            attributes=f"{{fw_version: {{source: sysfs, path: '{path}'}}}}",
        )

    text = catalog_of(
        of("a", "0001", "x/caps"), of("b", "0002", "y/caps"), of("c", "0003", "x/caps")
    )
    paths = load_catalog([write(text)]).paths["sysfs"]
    assert sorted(paths.values()) == ["x/caps", "y/caps"]
    for name, path in paths.items():
        traits.check_name(name)
        sysfs.check_pattern(name, path)


def test_digest_and_where_attributes_come_from(write):
    def digest(driver: str = "", caps: str = "a") -> str:
        attributes = f"{{caps: {{source: sysfs, path: {caps}}}{driver}}}"
        rules = "{driver_version: semver, caps: superset}"
        keys = {"source": "sysfs", "rules": rules, "attributes": attributes}
        return load_catalog([write(catalog_of(family(**keys)))]).digest

    plain = digest()
    assert digest(", driver_version: sysfs") == plain
    other = digest(", driver_version: nvml")
    assert digest(", driver_version: {source: nvml}") == other
    named = digest(", driver_version: {source: sysfs, attribute: vf_driver_version}")
    assert len({plain, other, named, digest(caps="b")}) == 4


def test_digest_is_that_of_releases_without_these_keys(write):
    assert load_catalog([write(DESIGN)]).digest == "fd2263e77c42"


def test_sources_need_not_be_there_where_an_inventory_stands_in(write):
    path = write(catalog_of(family(source="acme", attributes="{fw_version: bolt}")))
    catalog = load_catalog([path], check_sources=False)
    assert catalog.families["fam"].sources == {"acme", "bolt"}
    assert len(problems_of(path)) == 2


@pytest.mark.parametrize("mode", [None, *MODES])
@pytest.mark.parametrize("on_unknown", [None, *OnUnknown])
@pytest.mark.parametrize("default", list(itertools.product(Mode, OnUnknown)))
def test_policy(write, mode, on_unknown, default):
    text = catalog_of(family(mode=mode and mode.value, on_unknown=on_unknown and on_unknown.value))
    catalog = load_catalog([write(text)])
    standard = Policy(mode=default[0], on_unknown=default[1])
    assert catalog.policy("fam", standard, now()) == Policy(
        mode=mode or default[0], on_unknown=on_unknown or default[1]
    )
    assert catalog.policy("not_there", standard, now()) is standard


# --- how devices match --------------------------------------------------------------------------


@pytest.fixture
def catalog(write) -> Catalog:
    return load_catalog([write(DESIGN)])


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"vendor_id": "15b3", "product_id": "101e"}, "mlx5_vf"),
        ({"vendor_id": "15B3", "product_id": " 101E "}, "mlx5_vf"),
        ({"vendor_id": "15b3", "product_id": "101e", "fw_version": "1.2"}, "mlx5_vf"),
        ({"vendor_id": "15b3"}, None),
        ({"vendor_id": "15b3", "product_id": None}, None),
        ({"vendor_id": "15b3", "product_id": "101e1"}, None),
        ({"vendor_id": "15b3", "product_id": ["101d", "101e"]}, "mlx5_vf"),
        ({"vendor_id": "15b3", "product_id": ["101d", "1017"]}, None),
        ({"vendor_id": "15b3", "product_id": []}, None),
        ({"vendor_id": "15b3", "product_id": {"101e": "101e"}}, None),
        ({"mdev_type": ["i915-GVTg_V5_4", "nvidia-35"]}, "nvidia_vgpu"),
        ({"mdev_type": "nvidia-35"}, "nvidia_vgpu"),
        ({"mdev_type": "nvidia-"}, "nvidia_vgpu"),
        ({"mdev_type": "xnvidia-35"}, None),
        ({}, None),
    ],
)
def test_classify_by_match(catalog, attributes, expected):
    found = catalog.classify(Device("a", attributes))
    assert (found and found.name) == expected


def test_classify_takes_integers_but_no_truth_values(write):
    catalog = load_catalog([write(catalog_of(family(match="{queues: '1?'}")))])
    assert catalog.classify(Device("a", {"queues": 16}))
    assert catalog.classify(Device("a", {"queues": 6})) is None
    catalog = load_catalog([write(catalog_of(family(match="{queues: 'true'}")))])
    assert catalog.classify(Device("a", {"queues": True})) is None


def test_classify_by_name(catalog):
    device = Device("a", {"mdev_type": "nvidia-35"}, "mlx5_vf")
    assert catalog.classify(device).name == "mlx5_vf"
    assert catalog.rules_of(device).keys() == {"fw_version", "caps"}
    stranger = Device("a", {"mdev_type": "nvidia-35"}, "mlx5_fv")
    assert catalog.classify(stranger) is None
    with pytest.raises(UnknownFamily) as caught:
        catalog.rules_of(stranger)
    assert "no catalog file has the family 'mlx5_fv'" in str(caught.value)
    assert "families: mlx5_vf, nvidia_vgpu; did you mean 'mlx5_vf'?" in str(caught.value)


def test_rules_of_a_device_of_no_family(catalog):
    assert catalog.rules_of(Device("a", {})) == {}


def test_ambiguous_device(catalog):
    """What no static check can see: unlike attributes tell the families apart, or should."""
    device = Device(
        "0000:81:00.0", {"vendor_id": "15b3", "product_id": "101e", "mdev_type": "nvidia-1"}
    )
    with pytest.raises(AmbiguousDevice) as caught:
        catalog.classify(device)
    assert caught.value.families == ("mlx5_vf", "nvidia_vgpu")
    assert caught.value.device is device
    assert "device 0000:81:00.0 matches several families: mlx5_vf, nvidia_vgpu" in str(
        caught.value
    )


# --- what is refused ----------------------------------------------------------------------------

LONG = "f" + "o" * 120

# A table, one mistake a line.
# ruff: noqa: E501
REFUSED = [
    # the file
    (b"", "a.yaml: is empty"),
    ("- a", "a.yaml:1: a list must be a mapping"),
    (b"\xff", "a.yaml:1: is not UTF-8"),
    ("families: [", "is not YAML"),
    # the top
    (DESIGN + "fammilies: {}\n", "fammilies: unknown key 'fammilies'; allowed: families, known_bad, meta, policies"),
    (META, "a.yaml:1: key 'families' is missing"),
    (META + "families: {}", "a.yaml:2: families: is empty"),
    (META + "families:", "a.yaml:2: families: nothing is written here; it must be a mapping"),
    (META + "families: [a]", "a.yaml:2: families: a list must be a mapping"),
    (DESIGN.replace(META, ""), "a.yaml:1: key 'meta' is missing"),
    (DESIGN.replace("'1.0'", "'2.0'"), "meta.schema_version: '2.0' is not supported; supported: '1.0'"),
    (DESIGN.replace("'1.0'", "1.0"), "meta.schema_version: 1.0 was read as the number 1.0; put it in quotes: '1.0'"),
    (DESIGN.replace("{schema_version: '1.0'}", "{}"), "a.yaml:1: meta: key 'schema_version' is missing"),
    # a family
    (catalog_of(family(), family()), "a.yaml:4: families.fam: duplicate key 'fam'; it is first on line 3"),
    (catalog_of("  fam:\n"), "families.fam: nothing is written here; it must be a mapping"),
    (catalog_of("  fam: 3\n"), "families.fam: 3 must be a mapping"),
    (catalog_of(family(match=None)), "families.fam: key 'match' is missing"),
    (catalog_of(family(source=None)), "families.fam: key 'source' is missing"),
    (catalog_of(family(rules=None)), "families.fam: key 'rules' is missing"),
    (catalog_of(family(moed="report")), "families.fam.moed: unknown key 'moed'; allowed: attributes, fallback, in_use, match, mode, needs, on_unknown, rules, source, stages, subject; did you mean 'mode'?"),
    (catalog_of(family("Fam-X")), "families.Fam-X: 'Fam-X' is no name: lower-case letters, digits and single underscores"),
    (catalog_of(family("Fam-X5")), "; for example 'fam_x5'"),
    (catalog_of(family("a__b")), "; for example 'a_b'"),
    (catalog_of(family("'9'")), "'9' is no name"),
    (catalog_of(family("9")), "families: as a key, 9 was read as the number 9; put it in quotes: '9'"),
    (catalog_of(family("no")), "families: as a key, no was read as the truth value false"),
    (catalog_of(family(LONG, rules=f"{{{LONG}: semver}}")), f"families.{LONG}.rules.{LONG}: no trait can be made: family and attribute have 242 characters, 233 are allowed"),
    (catalog_of(family(mode="off")), "families.fam.mode: off is none of: enforce, report"),
    (catalog_of(family(mode="enforc")), "families.fam.mode: 'enforc' is none of: enforce, report; did you mean 'enforce'?"),
    (catalog_of(family(on_unknown="[]")), "families.fam.on_unknown: a list is none of: reject, accept"),
    (catalog_of(family(match=f"{{vendor_id: '{'*a' * 128}'}}")), "families.fam.match.vendor_id: a pattern of 256 characters; 255 are allowed"),
    (catalog_of(family(fallback="sure")), "families.fam.fallback: 'sure' must be true or false"),
    (catalog_of(family(fallback="1")), "families.fam.fallback: 1 must be true or false"),
    (catalog_of(family(fallback="")), "families.fam.fallback: nothing is written here; it must be true or false"),
    # source
    (catalog_of(family(source="statik")), "families.fam.source: source 'statik' is not registered in nova_devcompat.sources; registered: "),
    (catalog_of(family(source="''")), "families.fam.source: is empty"),
    (catalog_of(family(source="7")), "families.fam.source: 7 was read as the number 7; put it in quotes: '7'"),
    # where attributes come from
    (catalog_of(family(attributes="{}")), "families.fam.attributes: is empty"),
    (catalog_of(family(attributes="nvml")), "families.fam.attributes: 'nvml' must be a mapping"),
    (catalog_of(family(attributes="{fw_version: }")), "families.fam.attributes.fw_version: nothing is written here; it must be text or a mapping"),
    (catalog_of(family(attributes="{fw_version: ''}")), "families.fam.attributes.fw_version: is empty"),
    (catalog_of(family(attributes="{fw_version: [nvml]}")), "families.fam.attributes.fw_version: a list must be text or a mapping"),
    (catalog_of(family(attributes="{fw_version: 7}")), "families.fam.attributes.fw_version: 7 was read as the number 7"),
    (catalog_of(family(attributes="{fw_version: nvlm}")), "families.fam.attributes.fw_version: source 'nvlm' is not registered in nova_devcompat.sources; registered: devlink, libvirt, nvml, static, sysfs; did you mean 'nvml'?"),
    (catalog_of(family(attributes="{fw_version: {source: nvlm}}")), "families.fam.attributes.fw_version.source: source 'nvlm' is not registered"),
    (catalog_of(family(attributes="{fw_version: {}}")), "families.fam.attributes.fw_version: key 'source' is missing"),
    (catalog_of(family(attributes="{fw_version: {source: sysfs, of: vf}}")), "families.fam.attributes.fw_version.of: 'vf'"),
    (catalog_of(family(subject="host", needs=use(requires="{fw_version: '3.1'}"), attributes="{fw_version: {source: sysfs, of: function}}")), "families.fam.attributes.fw_version.of: a host has no functions; leave 'of' out"),
    (catalog_of(family(attributes="{used: {source: sysfs, of: function}}", in_use="{fw_version: used}")), "families.fam.attributes.used.of: what guests use is told by the device; leave 'of' out"),
    (catalog_of(family(attributes="{fw_version: {source: nvml, file: x}}")), "families.fam.attributes.fw_version.file: unknown key 'file'; allowed: attribute, of, path, source"),
    (catalog_of(family(attributes="{fw_version: {source: sysfs, path: 7}}")), "families.fam.attributes.fw_version.path: 7 was read as the number 7"),
    (catalog_of(family(attributes="{fw_version: {source: sysfs, path: ''}}")), "families.fam.attributes.fw_version.path: is empty"),
    (catalog_of(family(attributes="{fw_version: {source: sysfs, path: ../x}}")), "families.fam.attributes.fw_version.path: attribute 'fw_version': '../x' is not a path relative to a device's folder; write one like 'vendor/caps'"),
    (catalog_of(family(attributes="{fw_version: {source: devlink, path: x}}")), "families.fam.attributes.fw_version.path: only source 'sysfs' reads files; leave 'path' out"),
    (catalog_of(family(attributes="{vendor_id: {source: sysfs, path: vendor}}")), "families.fam.attributes.vendor_id.path: attribute 'vendor_id' is one that the source reads itself; name it otherwise"),
    (catalog_of(family(in_use="{fw_verson: fw_used}")), "families.fam.in_use.fw_verson: 'rules' has no 'fw_verson'; it has: fw_version; did you mean 'fw_version'?"),
    (catalog_of(family(in_use="{fw_version: 7}")), "families.fam.in_use.fw_version: 7 was read as the number 7"),
    (catalog_of(family(in_use="{}")), "families.fam.in_use: is empty"),
    (catalog_of(family(attributes="{fw_verson: nvml}")), "families.fam.attributes.fw_verson: neither 'rules' nor 'match' has 'fw_verson'; they have: fw_version, vendor_id; did you mean 'fw_version'?"),
    (catalog_of(family(attributes="{Fw: nvml}")), "families.fam.attributes.Fw: 'Fw' is no name"),
    # match
    (catalog_of(family(match="{}")), "families.fam.match: is empty"),
    (catalog_of(family(match="nvidia")), "families.fam.match: 'nvidia' must be a mapping"),
    (catalog_of(family(match="{a: 1018}")), "families.fam.match.a: 1018 was read as the number 1018; put it in quotes: '1018'"),
    (catalog_of(family(match="{a: 1.e+5}")), "families.fam.match.a: 1.e+5 was read as the number 100000.0"),
    (catalog_of(family(match="{a: ''}")), "families.fam.match.a: is empty"),
    (catalog_of(family(match="{A: b}")), "families.fam.match.A: 'A' is no name"),
    (catalog_of(family(match="{a: 'x[12]'}")), "families.fam.match.a: 'x[12]': '[' cannot be used; the wildcards are * for any text and ? for one"),
    (catalog_of(family(match="{a: 'x|y'}")), "'|' cannot be used"),
    (catalog_of(family(match="{a: '{x,y}'}")), "'{' cannot be used"),
    (catalog_of(family(match="{a: '^x'}")), "'^' cannot be used"),
    # rules
    (catalog_of(family(rules="{}")), "families.fam.rules: is empty"),
    (catalog_of(family(rules="semver")), "families.fam.rules: 'semver' must be a mapping"),
    (catalog_of(family(rules="{fw: }")), "families.fam.rules.fw: nothing is written here; it must be text or a mapping"),
    (catalog_of(family(rules="{fw: ''}")), "families.fam.rules.fw: is empty"),
    (catalog_of(family(rules="{fw: [semver]}")), "families.fam.rules.fw: a list must be text or a mapping"),
    (catalog_of(family(rules="{fw: 28.40}")), "families.fam.rules.fw: 28.40 was read as the number 28.4; put it in quotes: '28.40'"),
    (catalog_of(family(rules="{fw: {}}")), "families.fam.rules.fw: key 'kind' is missing"),
    (catalog_of(family(rules="{fw: {kind: 7}}")), "families.fam.rules.fw.kind: 7 was read as the number 7"),
    (catalog_of(family(rules="{fw: semvr}")), "families.fam.rules.fw: rule kind 'semvr' is not registered in nova_devcompat.rules; registered: accepts, "),
    (catalog_of(family(rules="{FW: semver}")), "families.fam.rules.FW: 'FW' is no name"),
    (catalog_of(family(rules="{fw_: semver}")), "families.fam.rules.fw_: 'fw_' is no name"),
    (catalog_of(family(rules="{1.5: semver}")), "families.fam.rules: as a key, 1.5 was read as the number 1.5"),
    (catalog_of(family(rules="{fw: {kind: semver, basis: 10}}")), "families.fam.rules.fw: unknown option 'basis'; semver takes only: base"),
    (catalog_of(family(rules="{fw: {kind: equal, base: 10}}")), "families.fam.rules.fw: unknown option 'base'; equal takes only: case, separator, integer"),
    (catalog_of(family(rules="{fw: {kind: range, base: 12}}")), "families.fam.rules.fw: base: 12 is neither 10 nor 16"),
    (catalog_of(family(rules="{fw: {kind: range, base: 16.0}}")), "families.fam.rules.fw.base: 16.0 was read as the number 16.0"),
    (catalog_of(family(rules="{fw: {kind: range, base: }}")), "families.fam.rules.fw.base: nothing was read as null"),
    (catalog_of(family(rules="{fw: {kind: range, base: [{x: 1.5}]}}")), "families.fam.rules.fw.base.0.x: 1.5 was read as the number 1.5"),
    (catalog_of(family(rules="{fw: {kind: ordered, ordering: alphabetic}}")), "families.fam.rules.fw: ordering: 'alphabetic' is none of numeric, rpm_evr, debian"),
    (catalog_of(family(rules="{fw: {kind: ordered, ordering: [numeric]}}")), "families.fam.rules.fw: "),
    # host families
    (host_family(), "families.fam: a family with 'subject: host' has to have 'needs', what guests need of it"),
    (host_family(needs="[]"), "families.fam.needs: is empty"),
    (host_family(needs="{}"), "families.fam.needs: "),
    (host_family(needs="[7]"), "families.fam.needs.0: "),
    (host_family(subject="guest", needs=f"[{ROW}]"), "families.fam.subject: 'guest' is none of: device, host"),
    (host_family(subject="device", needs=f"[{ROW}]"), "families.fam.needs: only a family with 'subject: host' has this"),
    (host_family(needs="[{xpath: /a, requires: {version: '3'}, because: b}]"), "families.fam.needs.0: key 'source' is missing"),
    (host_family(needs=f"[{ROW}, {ROW[:-1]}, xpth: /a}}]"), "families.fam.needs.1.xpth: unknown key 'xpth'"),
    (host_family(needs=use(xpath="'/domain['")), "families.fam.needs.0.xpath: '/domain[' is no XPath that can be used: "),
    (host_family(needs=use(xpath="'nope(/domain)'")), "families.fam.needs.0.xpath: 'nope(/domain)' is no XPath that can be used: "),
    (host_family(needs=use(xpath="'/x:domain'")), "families.fam.needs.0.xpath: '/x:domain' is no XPath that can be used: "),
    (host_family(needs=use(requires="{version: 3.0}")), "families.fam.needs.0.requires.version: 3.0 was read as the number 3.0; put it in quotes: '3.0'"),
    (host_family(needs=use(requires="{version: banana}")), "families.fam.needs.0.requires.version: rule ordered cannot read the value: "),
    (host_family(needs=f"[{ROW}, {ROW.replace('version', 'verson')}]"), "families.fam.needs.1.requires.verson: 'rules' has no 'verson'; it has: version; did you mean 'version'?"),
    (host_family(needs=f"[{ROW}, {{xpath: /a, takes: machine, because: b, source: s}}]"), "families.fam.needs.1.takes: 'rules' has no 'machine'; it has: version"),
    (host_family(needs=f"[{ROW[:-1]}, own: version}}]"), "families.fam.needs.0: has just one of 'requires', 'takes', 'own'"),
    (host_family(needs="[{xpath: /a, own: versoin, because: b, source: s}]"), "families.fam.needs.0.own: 'rules' has no 'versoin'"),
    (host_family(needs=f"[{ROW[:-1]}, unversioned: version}}]"), "families.fam.needs.0.unversioned: goes with 'takes' only"),
    (catalog_of(family(rules="{fw: semver}", attributes="{fw: {source: sysfs, path: x, attribute: y}}")), "families.fam.attributes.fw.attribute: goes with no 'path'"),
    (host_family(needs=f"[{ROW[:-1]}, takes: version}}]"), "families.fam.needs.0: has just one of 'requires', 'takes', 'own'"),
    (host_family(needs="[{xpath: /a, because: b, source: s}]"), "families.fam.needs.0: has just one of 'requires', 'takes', 'own'"),
    (host_family(needs=f"[{ROW[:-1]}, aliases: names}}]"), "families.fam.needs.0.aliases: goes with 'takes' only"),
    (host_family(rules="{version: ordered, caps: superset}", needs=f"[{ROW}]"), "families.fam.rules.caps: no row of 'needs' asks for 'caps', so no guest would ever need it"),
]  # fmt: skip


def test_a_host_family(write):
    rows = f"[{ROW}, {{xpath: /b, takes: name, aliases: names, because: x, source: y}}]"
    text = host_family(rules="{version: ordered, name: one_of}", needs=rows)
    catalog = load_catalog([write(text)])
    found = catalog.families["fam"]
    assert found.of_host and catalog.has_host_families
    version, name = found.needs
    assert (version.requires, version.takes) == ({"version": frozenset({"3"})}, "")
    assert (name.requires, name.takes, name.aliases) == ({}, "name", "names")
    assert catalog.announced == {Atom("fam", "version", "3")}
    # Why, and who says so, is no part of what hosts must have in common.
    other = write(text.replace("because: x, source: y", "because: z, source: w"))
    assert load_catalog([other]).digest == catalog.digest
    other = write(text.replace("/b", "/c"))
    assert load_catalog([other]).digest != catalog.digest
    plain = load_catalog([write(catalog_of(family()))])
    assert not plain.has_host_families and not plain.announced


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_what_is_refused(write, text, expected):
    found = problems_of(write(text))
    assert len([line for line in found if expected in line]) == 1, found
    # One mistake is one problem.
    assert len(found) == 1, found
    assert found[0].startswith("a.yaml")


def test_all_problems_of_all_files_at_once(write):
    first = write(catalog_of(family("A"), family("b", rules="{x: semvr, y: 1.0}")))
    missing = "nope.yaml"
    second = write(b"")
    third = write(catalog_of(family("c", match="{vendor_id: '15B?'}", mode="x"), "  d:\n"))
    found = problems_of(first, missing, second, third)
    assert [line.split(": ")[0] for line in found] == [
        "a.yaml:3",
        "a.yaml:4",
        "a.yaml:4",
        "nope.yaml",
        "b.yaml",
        "c.yaml:3",
        "c.yaml:4",
        # Overlaps are looked for even so.
        "a.yaml:4",
        "c.yaml:3",
        "c.yaml:3",
    ]


def test_problems_are_in_the_order_of_lines(write):
    text = catalog_of(family("c", mode="x"), family("B"), family("a", moed="y"))
    lines = [line.split(":")[1] for line in problems_of(write(text)) if "both" not in line]
    assert lines == ["3", "4", "5"]


def test_a_missing_file_says_what_to_do():
    (line,) = problems_of("/nowhere/x.yaml")
    assert line == (
        "/nowhere/x.yaml: there is no such file; write one, or name another with "
        "[devcompat] catalog in nova.conf or --catalog"
    )


def test_no_file_at_all():
    assert problems_of() == ["[devcompat] catalog: names no file"]


def test_a_directory(tmp_path):
    assert problems_of(str(tmp_path)) == [f"{tmp_path}: cannot be read: Is a directory"]


def test_another_format_is_the_only_problem(write):
    (line,) = problems_of(write("meta: {schema_version: '2.0', more: 1}\nnew_things: []\n"))
    assert "supported: '1.0'" in line


@pytest.mark.parametrize(
    ("one", "other", "example"),
    [
        ("{a: '1'}", "{a: '1'}", "a: '1'"),
        ("{a: 'x*'}", "{a: '*Y'}", "a: 'xy'"),
        ("{a: '15b3'}", "{a: '15b3', b: '7'}", "a: '15b3', b: '7'"),
        ("{a: '15b3', b: '7'}", "{a: '15B?'}", "a: '15b3', b: '7'"),
        ("{a: '1', b: '2*'}", "{b: '*3', a: '*'}", "a: '1', b: '23'"),
        ("{a: '1'}", "{a: '2'}", None),
        ("{a: '1', b: '2'}", "{a: '1', b: '3'}", None),
        ("{a: '1?'}", "{a: '1'}", None),
        ("{a: '1'}", "{b: '1'}", None),
        ("{a: '1', b: '1'}", "{a: '1', c: '1'}", None),
    ],
)
def test_families_that_one_device_would_match(write, one, other, example):
    path = write(catalog_of(family("zed", match=one), family("fam", match=other)))
    if example is None:
        assert list(load_catalog([path]).families) == ["fam", "zed"]
        return
    (line,) = problems_of(path)
    assert line == (
        "a.yaml:3: families.zed.match: families fam (a.yaml:4) and zed (a.yaml:3) both match a "
        f"device with {example}; make them disjoint"
    )


def test_overlap_across_files_names_both(write):
    first, second = write(catalog_of(family("one"))), write(catalog_of(family("two")))
    (line,) = problems_of(first, second)
    assert "families one (a.yaml:3) and two (b.yaml:3) both match" in line


def test_a_source_registered_twice(write, monkeypatch, tmp_path):
    for name in ("acme", "bolt"):
        install(
            monkeypatch, tmp_path / name, name, plugins.SOURCES, {"twice": f"{name}_module:Source"}
        )
    (line,) = problems_of(write(catalog_of(family(source="twice"))))
    assert "families.fam.source: source 'twice' is registered" in line
    assert "by acme 1.5 and bolt 1.5" in line


PLUGIN = """
import dataclasses
from nova_devcompat.compat.kinds import Semver

@dataclasses.dataclass(frozen=True, slots=True)
class Ours(Semver):
    kind = "ours"
    where: str = "x"

    def __post_init__(self):
        {body}
"""


def test_rules_of_a_third_party(write, monkeypatch, tmp_path):
    install(
        monkeypatch, tmp_path / "dist", "acme", plugins.RULES,
        {"ours": "third_rule:Ours", "raises": "third_raises:Ours", "broken": "third_broken:Ours"},
        {
            "third_rule": PLUGIN.format(body="pass"),
            "third_raises": PLUGIN.format(body="self.where.nonsense"),
            "third_broken": "import nothing_of_that_name",
        },
    )  # fmt: skip
    catalog = load_catalog([write(catalog_of(family(rules="{fw: {kind: ours, where: y}}")))])
    assert catalog.families["fam"].family.rules["fw"].where == "y"
    found = problems_of(write(catalog_of(family(rules="{a: raises, b: broken, c: broken}"))))
    assert [line.split(": ")[1] for line in found] == [
        f"families.fam.rules.{attribute}" for attribute in "abc"
    ]
    assert "has no attribute 'nonsense'" in found[0]
    assert "from acme 1.5, cannot be imported: ModuleNotFoundError" in found[1]


# --- properties ---------------------------------------------------------------------------------

NAMES = st.from_regex(rf"\A{traits.NAME_PATTERN}\Z").filter(lambda name: len(name) < 150)


@given(NAMES, NAMES)
def test_names_that_are_taken_can_become_traits(tmp_path_factory, one, other):
    """What os-traits would make of each name is that name, so nothing is lost in a trait."""
    path = tmp_path_factory.mktemp("names") / "c.yaml"
    content = {
        "meta": {"schema_version": "1.0"},
        "families": {
            one: {"match": {"a": "b"}, "source": "static", "rules": {other: "semver"}},
        },
    }
    path.write_text(yaml.safe_dump(content))
    try:
        load_catalog([path])
    except CatalogError as error:
        assert len(one) + len(other) > 233
        assert "no trait can be made" in str(error)
        return
    name = traits.encode(traits.Atom(one, other, "0"))
    assert os_traits.is_custom(name) and len(name) <= 255
    for part in (one, other):
        assert os_traits.normalize_name(part) == os_traits.CUSTOM_NAMESPACE + part.upper()
        assert part.upper() in name


WORDS = st.sampled_from(
    ["a", "b", "kind", "semver", "range", "base", "match", "source", "static", "rules", "mode",
     "report", "on_unknown", "1.0", "", "*", "A"]
)  # fmt: skip
SCALARS = WORDS | st.none() | st.booleans() | st.integers(0, 20) | st.floats() | st.dates()
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=4),
    max_leaves=12,
)
RULES = st.dictionaries(WORDS, WORDS | st.dictionaries(WORDS, SCALARS, max_size=3) | TREES)
FAMILIES = st.dictionaries(
    WORDS,
    st.fixed_dictionaries(
        {"match": st.dictionaries(WORDS, WORDS) | TREES, "rules": RULES | TREES},
        optional={"source": WORDS | TREES, "mode": WORDS | TREES, "on_unknown": SCALARS},
    )
    | TREES,
    max_size=4,
)


@given(
    st.fixed_dictionaries(
        {"meta": st.just({"schema_version": "1.0"}), "families": FAMILIES | TREES}
    )
    | TREES,
)
@settings(max_examples=scaled(100))
def test_anything_is_a_catalog_or_a_catalog_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(yaml.dump(content, allow_unicode=True), encoding="utf-8")
    try:
        catalog = load_catalog([path])
    except CatalogError as error:
        assert error.problems
        assert isinstance(error, DocumentError)
        return
    assert catalog.families.keys() == content["families"].keys()
    for family_ in catalog.families.values():
        assert family_.match and family_.family.rules


# --- what sources tell, and what identifiers can be ----------------------------------------------


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"match": "{product_id: '0x101e'}"}, "match.product_id: '0x101e': identifiers are written without 0x; write '101e'"),
        ({"match": "{vendor_id: '0x8'}"}, "write '0008'"),
        ({"match": "{product_id: '101e '}"}, "match.product_id: '101e ' has blanks around it"),
        ({"match": "{vendor_id: \u201815b3\u2019}"}, "has typographic quotes in it"),
        ({"match": "{driver: \u201cmlx5_core\u201d}"}, "has typographic quotes in it"),
        ({"match": "{vendor_id: '15g3'}"}, "'15g3' is no identifier, which has 4 hexadecimal digits"),
        ({"match": "{vendor_id: '015b3'}"}, "'015b3' has 5 digits; an identifier has 4"),
        ({"match": "{vendor_id: '1e3'}"}, "'1e3' has 3 digits; an identifier has 4; write '01e3'"),
        ({"match": "{product_id: '1????'}"}, "'1????' has 5 digits"),
        ({"match": "{class: '0300'}"}, "'0300' has 4 digits; an identifier has 6"),
        ({"match": "{revision: 'a11'}"}, "'a11' has 3 digits; an identifier has 2"),
        ({"match": "{vendorid: '15b3'}"}, "match.vendorid: no source tells 'vendorid'; they tell: "),
        ({"match": "{vendorid: '15b3'}"}, "did you mean 'vendor_id'?"),
        ({"rules": "{fw_verison: semver}"}, "rules.fw_verison: source devlink does not tell 'fw_verison'; it tells: "),
        ({"rules": "{driver_srcversion: equal}"}, "source sysfs does: say so in 'attributes', {driver_srcversion: sysfs}"),
        ({"source": "sysfs", "rules": "{vgpu_type: equal}"}, "source sysfs tells 'vgpu_type' of functions, not of devices: say so in 'attributes', {vgpu_type: {source: sysfs, of: function}}"),
        ({"source": "nvml", "rules": "{vgpu_type: equal}"}, "source nvml does not tell 'vgpu_type', source sysfs does: say so in 'attributes', {vgpu_type: {source: sysfs, of: function}}"),
        ({"source": "sysfs", "rules": "{revision: equal}", "attributes": "{revision: {source: sysfs, of: function}}"}, "source sysfs tells 'revision' of devices, not of functions; leave 'of: function' out"),
        ({"source": "sysfs", "rules": "{vf_driver: superset}", "attributes": "{vf_driver: {source: sysfs, of: function}}"}, "source sysfs tells vf_driver as a text, which rule superset does not read"),
        ({"source": "nvml", "rules": "{ecc: equal}"}, "source nvml does not tell 'ecc'; it tells: driver_version, ecc_mode, "),
        ({"source": "sysfs", "rules": "{sriov_numvfs: equal}"}, "source sysfs tells sriov_numvfs as an integer, which rule equal does not read; use at_least, or {kind: equal, integer: true}"),
        ({"source": "sysfs", "rules": "{sriov_numvfs: semver}"}, "as an integer, which rule semver does not read"),
        ({"source": "sysfs", "rules": "{mdev_type: equal}"}, "as a list, which rule equal does not read; use superset or one_of"),
        ({"source": "sysfs", "rules": "{driver: superset}"}, "as a text, which rule superset does not read"),
        ({"source": "nvml", "rules": "{vgpu_version: semver}"}, "as a range, which rule semver does not read; use range"),
        ({"source": "sysfs", "rules": "{mdev_name: equal}"}, "as a mapping, which rule equal does not read"),
        ({"source": "nvml", "rules": "{ecc_mode: equal}", "in_use": "{ecc_mode: vgpu_negotiate}"}, "in_use.ecc_mode: source nvml does not tell 'vgpu_negotiate'"),
    ],
)  # fmt: skip
def test_what_no_device_can_be_is_refused(write, keys, message):
    (problem, *_) = problems_of(write(catalog_of(family(**{"source": "devlink", **keys}))))
    assert message in problem
    assert problem.startswith("a.yaml:3: families.fam.")


@pytest.mark.parametrize(
    "keys",
    [
        {"match": "{product_id: '101E'}"},
        {"match": "{product_id: '10*'}"},
        {"match": "{product_id: '10?e', vendor_id: '*'}"},
        {"match": "{vf_driver: mlx5_vfio_pci}"},
        # Of a driver's own versions no list is complete.
        {"rules": "{fw_someday_api: semver}"},
        {"source": "sysfs", "rules": "{sriov_numvfs: at_least}"},
        {"source": "sysfs", "rules": "{sriov_numvfs: {kind: equal, integer: true}}"},
        {"source": "sysfs", "rules": "{sriov_numvfs: {kind: floor, at: '1'}}"},
        {"source": "sysfs", "rules": "{caps: superset}", "attributes": "{caps: {source: sysfs, path: x}}"},
        # An inventory tells whatever its operator writes.
        {"source": "static", "match": "{bus: vdpa}", "rules": "{anything: semver}"},
    ],
)  # fmt: skip
def test_what_a_device_can_be_is_not(write, keys):
    assert load_catalog([write(catalog_of(family(**{"source": "devlink", **keys})))])


def test_a_mode_is_named_as_it_was_written(write):
    (problem,) = problems_of(write(catalog_of(family(mode="off"))))
    assert "families.fam.mode: off is none of: enforce, report" in problem


def test_families_that_may_match_one_device_are_told(write):
    one = family("one", match="{vendor_id: '15b3', product_id: '101e'}")
    other = family("other", match="{vendor_id: '15b3', driver: mlx5_core}")
    apart = family("apart", match="{vendor_id: '8086', driver: xe}")
    more = family("more", match="{class: '020000'}")
    (told,) = load_catalog([write(catalog_of(one, other, apart, more))]).may_overlap
    assert told == (
        "one and other may match one device, which is UNKNOWN then: product_id does not keep it "
        "from other, nor driver from one"
    )
