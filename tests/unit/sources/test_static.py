# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import logging
import threading

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat.kit.problems import DocumentError
from nova_devcompat.service import load_catalog
from nova_devcompat.sources import Device, SourceError, SourceOptions
from nova_devcompat.sources.static import Inventory, StaticSource, load_inventory
from tests.budget import scaled

META = "meta: {schema_version: '1.0'}\n"
DESIGN = (
    META
    + """\
hosts:
  cmp1:
    devices:
      - address: '0000:81:00.0'
        family: mlx5_vf
        attributes: {fw_version: '28.39.1002', caps: [migration, p2p]}
"""
)
CATALOG = (
    META
    + """\
families:
  mlx5_vf:
    match: {vendor_id: '15b3'}
    source: static
    rules: {fw_version: semver, ports: at_least, vgpu: range}
  other:
    match: {mdev_type: '*'}
    source: static
    rules: {x: semver}
"""
)


def devices(*items: str) -> str:
    return META + "hosts:\n  cmp1:\n    devices:\n" + "".join(f"      - {i}\n" for i in items)


def attributes(text: str) -> str:
    return devices(f"{{address: a, attributes: {{{text}}}}}")


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "inv.yaml"


@pytest.fixture
def load(path):
    def _load(text: str, catalog=None) -> Inventory:
        path.write_text(text)
        return load_inventory("inv.yaml", catalog)

    return _load


@pytest.fixture
def catalog(tmp_path):
    (tmp_path / "cat.yaml").write_text(CATALOG)
    return load_catalog([tmp_path / "cat.yaml"])


@pytest.fixture
def problems_of(load):
    def _problems_of(text: str, catalog=None) -> list[str]:
        with pytest.raises(DocumentError) as caught:
            load(text, catalog)
        return str(caught.value).splitlines()

    return _problems_of


# --- what a good inventory is -------------------------------------------------------------------


def test_the_inventory_of_the_design(load):
    assert load(DESIGN) == Inventory(
        hosts={
            "cmp1": (
                Device(
                    address="0000:81:00.0",
                    attributes={"fw_version": "28.39.1002", "caps": ["migration", "p2p"]},
                    family="mlx5_vf",
                ),
            )
        }
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v: '28.40'", {"v": "28.40"}),
        ("v: 28.40.1", {"v": "28.40.1"}),
        ("n: 7, m: -3, z: 0", {"n": 7, "m": -3, "z": 0}),
        ("c: [], d: [a, '1']", {"c": [], "d": ["a", "1"]}),
        ("r: {min: '7.1', max: 14.1x}", {"r": {"min": "7.1", "max": "14.1x"}}),
        ("r: {features: [a, b], in_use: [a]}", {"r": {"features": ["a", "b"], "in_use": ["a"]}}),
        ("u: null, w: ~", {"u": None, "w": None}),
        ("e: ''", {"e": ""}),  # unreadable is UNKNOWN, not an error
        ("", {}),
    ],
)
def test_attributes(load, text, expected):
    (device,) = load(attributes(text)).hosts["cmp1"]
    assert device.attributes == expected
    assert device.family is None


def test_addresses_are_normalised(load):
    found = load(
        devices(
            "{address: '0000:AF:00.0', attributes: {}}",
            "{address: pci_0000_81_00_1, attributes: {}}",
            "{address: QEMU, attributes: {}}",
        )
    )
    assert [device.address for device in found.hosts["cmp1"]] == [
        "0000:af:00.0",
        "0000:81:00.1",
        "QEMU",
    ]


def test_hosts_without_devices_and_equal_addresses_on_two_hosts(load):
    found = load(
        DESIGN
        + "  cmp2.example.org: {devices: []}\n"
        + DESIGN.split("hosts:\n")[1].replace("cmp1", "cmp3")
    )
    assert list(found.hosts) == ["cmp1", "cmp2.example.org", "cmp3"]
    assert found.hosts["cmp2.example.org"] == ()
    assert found.hosts["cmp1"] == found.hosts["cmp3"]


def test_anchors_work(load):
    text = devices("{address: a, attributes: &x {v: '1.2'}}", "{address: b, attributes: *x}")
    one, other = load(text).hosts["cmp1"]
    assert one.attributes == other.attributes == {"v": "1.2"}


# --- what is refused ----------------------------------------------------------------------------

# A table, one mistake a line.
# ruff: noqa: E501
REFUSED = [
    ("", "inv.yaml: is empty"),
    (META, "inv.yaml:1: key 'hosts' is missing"),
    (META + "hosts: {}", "inv.yaml:2: hosts: is empty"),
    (DESIGN.replace("'1.0'", "1.0"), "meta.schema_version: 1.0 was read as the number 1.0; put it in quotes"),
    (DESIGN.replace("'1.0'", "'7.0'"), "meta.schema_version: '7.0' is not supported; supported: '1.0'"),
    (DESIGN + "host: {}", "host: unknown key 'host'; allowed: hosts, meta; did you mean 'hosts'?"),
    (META + "hosts:\n  cmp1: {devices: []}\n  cmp1: {devices: []}", "inv.yaml:4: hosts.cmp1: duplicate key 'cmp1'; it is first on line 3"),
    (META + "hosts:\n  12: {devices: []}", "inv.yaml:3: hosts: as a key, 12 was read as the number 12; put it in quotes: '12'"),
    (META + "hosts:\n  ' ': {devices: []}", "a host must have a name"),
    (META + "hosts:\n  cmp1:", "hosts.cmp1: nothing is written here; it must be a mapping"),
    (META + "hosts:\n  cmp1: {}", "hosts.cmp1: key 'devices' is missing"),
    (META + "hosts:\n  cmp1: {devices: {}}", "hosts.cmp1.devices: a mapping must be a list"),
    (META + "hosts:\n  cmp1: {devices: [], x: y}", "hosts.cmp1.x: unknown key 'x'; allowed: devices"),
    (devices("text"), "hosts.cmp1.devices.0: 'text' must be a mapping"),
    (devices("{attributes: {}}"), "hosts.cmp1.devices.0: key 'address' is missing"),
    (devices("{address: a}"), "hosts.cmp1.devices.0: key 'attributes' is missing"),
    (devices("{address: '', attributes: {}}"), "devices.0.address: is empty"),
    (devices("{address: ' ', attributes: {}}"), "devices.0.address: a device must have an address"),
    (devices("{address: 0000:41:00.0, attributes: {}}"), "devices.0.address: 0000:41:00.0 was read as the number 2460.0; put it in quotes: '0000:41:00.0'"),
    (devices("{address: a, attributes: {}, famly: x}"), "unknown key 'famly'; allowed: address, attributes, family, functions; did you mean 'family'?"),
    (devices("{address: a, attributes: {}, family: }"), "family: nothing is written here; it must be text"),
    (devices("{address: a, attributes: {}, family: 'Mlx-5'}"), "family: 'Mlx-5' is no name"),
    (devices("{address: a, attributes: []}"), "attributes: a list must be a mapping"),
    (devices("{address: a, attributes: {}}", "{address: a, attributes: {}}"), "inv.yaml:6: hosts.cmp1.devices.1.address: duplicate address 'a'; it is first on line 5"),
    (devices("{address: '0000:AF:00.0', attributes: {}}", "{address: pci_0000_af_00_0, attributes: {}}"), "duplicate address '0000:af:00.0'"),
    (attributes("Q: a"), "attributes.Q: 'Q' is no name"),
    (attributes("v: 28.40"), "hosts.cmp1.devices.0.attributes.v: 28.40 was read as the number 28.4; put it in quotes: '28.40'"),
    (attributes("v: 28.0"), "v: 28.0 was read as the number 28.0; put it in quotes: '28.0'"),
    (attributes("v: on"), "v: on was read as the truth value true; put it in quotes: 'on'"),
    (attributes("v: 2024-02-03"), "v: 2024-02-03 was read as the date 2024-02-03; put it in quotes: '2024-02-03'"),
    (attributes("v: 010"), "v: 010 was read as the number 8; put it in quotes: '010'"),
    (attributes("v: 0x1b"), "v: 0x1b was read as the number 27; put it in quotes: '0x1b'"),
    (attributes("v: 1_000"), "v: 1_000 was read as the number 1000"),
    (attributes("v: 12:30"), "v: 12:30 was read as the number 750"),
    (attributes("v: "), "v: nothing is written here; write null if it is not known"),
    (attributes("v: [a, 1.0]"), "v.1: 1.0 was read as the number 1.0"),
    (attributes("v: [a, 1]"), "v.1: 1 was read as the number 1"),
    (attributes("v: [[a]]"), "v.0: a list must be text"),
    (attributes("v: {min: 7.1, max: '9.1'}"), "v.min: 7.1 was read as the number 7.1"),
    (attributes("v: {min: 7, max: '9.1'}"), "v.min: 7 was read as the number 7; put it in quotes: '7'"),
    (attributes("v: {a: {b: c}}"), "v.a: a mapping must be text or a list"),
    (attributes("v: '1', v: '2'"), "attributes.v: duplicate key 'v'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_what_is_refused(problems_of, text, expected):
    (found,) = problems_of(text)
    assert expected in found
    assert found.startswith("inv.yaml")


def test_all_problems_at_once_in_the_order_of_lines(problems_of):
    text = devices(
        "{address: a, attributes: {v: 1.0}}",
        "{address: a, attributes: {Q: x}, family: X}",
        "{address: a, attributes: {v: '1', v: '2'}, extra: x}",
    )
    found = problems_of(text)
    assert [int(line.split(":")[1]) for line in found] == [5, 6, 6, 6, 7, 7, 7]


def test_missing(path):
    with pytest.raises(DocumentError) as caught:
        load_inventory(path)
    assert str(caught.value) == (
        f"{path}: there is no such file; write one, or name another with "
        "[devcompat] inventory in nova.conf or --inventory"
    )


# --- with a catalog at hand ---------------------------------------------------------------------


def test_a_family_that_no_catalog_has(problems_of, load, catalog):
    text = DESIGN.replace("mlx5_vf", "mlx5_fv")
    assert load(text).hosts
    (line,) = problems_of(text, catalog)
    assert line == (
        "inv.yaml:6: hosts.cmp1.devices.0.family: no catalog file has the family 'mlx5_fv'; "
        "families: mlx5_vf, other; did you mean 'mlx5_vf'?"
    )


@pytest.mark.parametrize(
    "by", ["family: mlx5_vf, attributes: {", "attributes: {vendor_id: 15b3, "]
)
def test_an_integer_where_the_rule_takes_none(problems_of, load, catalog, by):
    text = devices(f"{{address: a, {by}fw_version: 28, ports: 7, vgpu: 3, n: 1}}}}")
    assert load(text).hosts
    assert problems_of(text, catalog) == [
        f"inv.yaml:5: hosts.cmp1.devices.0.attributes.{name}: {value} was read as the number "
        f"{value}; put it in quotes: '{value}'"
        for name, value in (("fw_version", 28), ("vgpu", 3))
    ]


def test_identifiers_are_written_as_hosts_have_them(problems_of, load, catalog):
    text = attributes("product_id: '0x101E', revision: '0x0', v: '0x1', w: null")
    assert problems_of(text, catalog) == [
        "inv.yaml:5: hosts.cmp1.devices.0.attributes.product_id: '0x101E': identifiers are written "
        "without 0x; write '101E'",
        "inv.yaml:5: hosts.cmp1.devices.0.attributes.revision: '0x0': identifiers are written "
        "without 0x; write '00'",
    ]
    # nova-compute has started with it so far.
    assert load(text).hosts["cmp1"]


def test_an_ambiguous_device(problems_of, load, catalog):
    text = attributes("vendor_id: 15b3, mdev_type: x")
    assert load(text).hosts
    (line,) = problems_of(text, catalog)
    assert "hosts.cmp1.devices.0: device a matches several families: mlx5_vf, other" in line


def test_a_device_of_no_family_is_fine(load, catalog):
    assert load(attributes("v: 28"), catalog).hosts["cmp1"][0].attributes == {"v": 28}


# --- the source ---------------------------------------------------------------------------------


def source_of(path) -> StaticSource:
    return StaticSource(SourceOptions(inventory=path))


def test_source_reads_its_hosts_entry(path):
    path.write_text(DESIGN + "  cmp2: {devices: []}\n")
    source = source_of(path)
    assert [device.address for device in source.read("cmp1")] == ["0000:81:00.0"]
    assert list(source.read("cmp2")) == []


def test_source_warns_once_of_a_host_that_is_not_there(path, caplog):
    path.write_text(DESIGN)
    source = source_of(path)
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        assert list(source.read("cmp2")) == []
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"The static inventory {path} has no host 'cmp2', so it has no devices; "
        "did you mean 'cmp1'?"
    )
    source.read("cmp3")
    assert len(caplog.records) == 2
    path.write_text(DESIGN.replace("28.39", "28.40"))
    for _ in range(2):
        source.read("cmp2")
    assert len(caplog.records) == 3  # the file changed, and it still is not there


def test_source_raises_until_its_first_good_inventory(path):
    source = source_of(path)
    with pytest.raises(SourceError, match="there is no such file"):
        source.read("cmp1")
    path.write_text(DESIGN.replace("'28.39.1002'", "28.39"))
    with pytest.raises(SourceError, match=r"(?s)cannot be used:.*put it in quotes: '28\.39'"):
        source.read("cmp1")
    path.write_text(DESIGN)
    assert source.read("cmp1")


def test_source_follows_its_file_and_keeps_the_last_good(path, caplog):
    path.write_text(DESIGN)
    source = source_of(path)
    before = source.read("cmp1")
    assert source.read("cmp1") is before
    caplog.set_level(logging.WARNING)
    path.write_text(DESIGN.replace("'28.39.1002'", "28.39"))
    for _ in range(3):
        assert source.read("cmp1") is before
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "static inventory is wrong and not used" in record.getMessage()
    assert "put it in quotes: '28.39'" in record.getMessage()
    path.write_text(DESIGN.replace("28.39.1002", "28.41.7"))
    assert source.read("cmp1")[0].attributes["fw_version"] == "28.41.7"
    assert len(caplog.records) == 1


def test_source_in_many_threads_while_its_file_changes(path):
    """Each reading is of one file as it was at some time, and none raises."""

    def text_of(number: int) -> str:
        return devices(*(f"{{address: d{n}, attributes: {{n: {number}}}}}" for n in range(20)))

    path.write_text(text_of(0))
    source = source_of(path)
    stop = threading.Event()
    wrong: list[object] = []
    seen: set[object] = set()

    def work():
        while not stop.is_set():
            try:
                values = {device.attributes["n"] for device in source.read("cmp1")}
            except BaseException as error:  # noqa: BLE001 - reported below
                wrong.append(error)
                return
            seen.update(values)
            if len(values) != 1:
                wrong.append(values)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 30):
        fresh = path.with_suffix(".new")
        fresh.write_text(text_of(number))
        fresh.replace(path)
        stop.wait(0.01)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert len(seen) > 1
    assert {device.attributes["n"] for device in source.read("cmp1")} == {29}


# --- fuzz ---------------------------------------------------------------------------------------

SCALARS = (
    st.sampled_from(["a", "address", "attributes", "family", "devices", "1.0", "", "A"])
    | st.none()
    | st.booleans()
    | st.integers(-5, 50)
    | st.floats()
    | st.dates()
    | st.text(max_size=4)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=10,
)
DEVICES = st.fixed_dictionaries(
    {"address": SCALARS, "attributes": st.dictionaries(SCALARS, TREES, max_size=3) | TREES},
    optional={"family": SCALARS},
)
HOSTS = st.dictionaries(
    SCALARS,
    st.fixed_dictionaries({"devices": st.lists(DEVICES | TREES, max_size=3) | TREES}) | TREES,
    max_size=3,
)


@given(
    st.fixed_dictionaries({"meta": st.just({"schema_version": "1.0"}), "hosts": HOSTS | TREES})
    | TREES
)
@settings(max_examples=scaled(150))
def test_anything_is_an_inventory_or_a_document_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "inv.yaml"
    path.write_text(yaml.dump(content, allow_unicode=True), encoding="utf-8")
    try:
        inventory = load_inventory(path)
    except DocumentError as error:
        assert error.problems
        return
    assert inventory.hosts.keys() == content["hosts"].keys()
    for host, entry in content["hosts"].items():
        assert len(inventory.hosts[host]) == len(entry["devices"])
    source = source_of(path)
    for host in inventory.hosts:
        assert source.read(host) == inventory.hosts[host]
