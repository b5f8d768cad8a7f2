# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What earlier releases wrote is read, from files that they wrote; what later ones write is named.

Files are added to ``recorded`` when a format gets a version. They are never changed, and go when
the version is no longer read.
"""

import datetime
import json
import pathlib
import re

import pytest
from oslo_config import cfg

from nova_devcompat import conf, wire
from nova_devcompat.catalog import CatalogError
from nova_devcompat.catalog.schema import VERSIONS
from nova_devcompat.catalog.stages import Moment
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Mode, OnUnknown, Policy
from nova_devcompat.compat.record import Record
from nova_devcompat.compat.verdict import Code, Outcome
from nova_devcompat.conf import register_opts
from nova_devcompat.fleet import upgrade
from nova_devcompat.kit.problems import DocumentError
from nova_devcompat.service import load_catalog
from nova_devcompat.sources.static import load_inventory
from nova_devcompat.wire import tokens

RECORDED = pathlib.Path(__file__).parents[1] / "recorded"

SHORT = DeviceNeed.of(
    "mlx5_vf",
    {"fw_version": ["28.39"], "caps": ["migration", "p2p"]},
    slot="pci:6f0c1b1e-5c0d-4c57-9a53-5b8f7c9f2a10",
    address="0000:81:00.2",
    assumed=["caps"],
)
LONG = (
    SHORT,
    DeviceNeed.of(
        "nvidia_vgpu",
        {"vgpu_version": ["14.1"], "ecc_mode": None, "caps": []},
        slot="rc:VGPU",
        address="pci_0000_41_00_0",
    ),
    DeviceNeed.of("mdev_demo", {"driver": ["Größe 7 電"]}, slot="rc:CUSTOM_DEMO", address=""),
)


def recorded(pattern):
    """Files by name, each with the version of the format in its name."""
    found = sorted(RECORDED.glob(pattern))
    assert found
    return [
        pytest.param(path, re.search(r"-(\d[.\d]*)[-.]", path.name)[1].rstrip("."), id=path.stem)
        for path in found
    ]


def tokens_of(document):
    """What stands in the text for readers that look no further, as it is made today."""
    return document.context + tokens.Tokens.read(document).text + ":"


def versions(pattern):
    return {parameter.values[1] for parameter in recorded(pattern)}


# --- which versions there are -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "readers", "pattern"),
    [
        (wire.RECORD_VERSION, wire.RECORD_READERS, "record-*.json"),
        (wire.STATS_VERSION, wire.STATS_READERS, "stats-*.json"),
    ],
)
def test_the_last_version_and_the_one_before_are_read(written, readers, pattern):
    last = max(readers)
    assert set(readers) == {one for one in (last - 1, last) if one > 0}
    # A version is not written before a release has read it.
    assert written in readers
    assert versions(pattern) == {str(version) for version in readers}


def test_what_can_be_written_is_read():
    (option,) = [one for one in conf.OPTS if one.name == "stats_format"]
    assert option.default == wire.STATS_VERSION
    assert (option.type.min, option.type.max) == (min(wire.STATS_READERS), wire.STATS_READ)
    assert max(wire.STATS_READERS) == wire.STATS_READ


def test_catalogs_of_all_versions_are_recorded():
    assert versions("catalog-*.yaml") == set(VERSIONS)


def test_the_page_says_the_same():
    page = (RECORDED.parents[2] / "doc" / "source" / "support.rst").read_text()
    rows = {
        cells[0]: cells[1:3]
        for row in re.findall(r"\n   \* - (.+(?:\n     - ?.*)+)", page)
        if len(cells := [cell.strip() for cell in row.split("\n     -")]) == 4
    }
    for name, written, readers in (
        ("the record", wire.RECORD_VERSION, wire.RECORD_READERS),
        ("the stats document", wire.STATS_VERSION, wire.STATS_READERS),
    ):
        assert rows[name] == [str(written), " and ".join(map(str, sorted(readers)))]
    assert rows["catalog, inventory"][1] == ", ".join(f"``{one!r}``" for one in VERSIONS)
    first, last = upgrade.SUPPORTED_NOVA[0], upgrade.SUPPORTED_NOVA[-1]
    assert re.search(rf"\* - Nova\n     - {first} \(.+?\) to {last} \(", page)


# --- what is recorded is read -------------------------------------------------------------------


@pytest.mark.parametrize(("path", "version"), recorded("record-*.json"))
def test_records(path, version):
    content = json.loads(path.read_text())
    assert wire.load_record(content["short"]) == Need(devices=(SHORT,))
    assert wire.load_record(content["long"]) == Need(devices=LONG)
    if version == str(wire.RECORD_VERSION):
        # Readers of the release that wrote it are there still.
        assert wire.dump_record(Need(devices=LONG)) == content["long"]


@pytest.mark.parametrize(("path", "version"), recorded("empty-record-*.json"))
def test_records_of_guests_that_need_nothing(path, version):
    """Not written by the first release, whose reader takes it all the same."""
    record = json.loads(path.read_text())
    assert wire.load_record(record) == Need()
    if version == str(wire.RECORD_VERSION):
        assert wire.dump_record(Need()) == record


@pytest.mark.parametrize(("path", "version"), recorded("stats-*-whole.json"))
def test_stats_of_a_host_whose_devices_are_alike(path, version):
    text = path.read_text().rstrip("\n")
    document = wire.load_stats(text)
    assert (document.catalog, document.whole) == ("fd2263e77c42", True)
    if version == "1":
        assert document.shape == text[wire.SHAPE]
    else:
        assert tokens_of(document) in text
        assert {device.classes for device in document.devices} == {("CUSTOM_VF",)}
        assert document.unnamed == {"VGPU"}
    assert [device.address for device in document.devices] == ["0000:81:00.0", "0000:82:00.0"]
    assert set(document.by_provider) == {
        "11111111-1111-4111-8111-111111111111",
        "22222222-2222-4222-8222-222222222222",
    }
    assert document.devices[0].accepts.judge(SHORT).outcome is Outcome.ACCEPT
    assert not wire.says_its_length(text)  # the first release did not
    if version == "1":
        assert re.sub(r'"b":"\d+",', "", wire.dump_stats(document)) == text
    else:
        assert wire.load_stats(wire.dump_stats(document, 2)) == document


@pytest.mark.parametrize(("path", "version"), recorded("stats-*-mixed.json"))
def test_stats_of_a_host_whose_devices_differ(path, version):
    text = path.read_text().rstrip("\n")
    document = wire.load_stats(text)
    assert (document.whole, document.shape) == (False, None)
    if version == "2":
        assert tokens_of(document) in text
    gpu, old, silent = (device.accepts for device in document.devices)
    vgpu = DeviceNeed.of("nvidia_vgpu", {"vgpu_version": ["14.1"]})
    assert gpu.judge(vgpu).outcome is Outcome.ACCEPT
    below = gpu.judge(DeviceNeed.of("nvidia_vgpu", {"vgpu_version": ["7.0"]}))
    assert [reason.code for reason in below.reasons] == [Code.BELOW_RANGE]
    newer = DeviceNeed.of("mlx5_vf", {"fw_version": ["28.41"], "caps": ["p2p"]})
    assert [reason.code for reason in old.judge(newer).reasons] == [Code.MINOR_TOO_OLD]
    verdict = silent.judge(newer)
    assert verdict.outcome is Outcome.UNKNOWN
    assert [reason.code for reason in verdict.reasons] == [Code.OFFER_MISSING]
    if version == "1":
        assert wire.dump_stats(document) == text
    else:
        assert wire.load_stats(wire.dump_stats(document, 2)) == document


def test_catalog_1_0():
    path = RECORDED / "catalog-1.0.yaml"
    catalog = load_catalog([path])
    assert catalog.digest == "af8cc0214582"
    assert sorted(catalog.families) == ["mlx5_vf", "nvidia_vgpu", "qat_vf", "qemu"]
    nvidia, qat = catalog.families["nvidia_vgpu"], catalog.families["qat_vf"]
    assert (nvidia.mode, nvidia.on_unknown) == (Mode.REPORT, OnUnknown.ACCEPT)
    assert nvidia.family.rules["vgpu_version"].base == 16
    assert qat.source_of("services").path == "qat/cfg_services"
    assert qat.source_of("fw_version").source == "devlink"
    moment = Moment(day=datetime.date(2027, 4, 1), release=35)
    policy = catalog.policies(Policy(), moment)
    assert (policy("qat_vf").mode, policy("qemu").mode) == (Mode.REPORT, Mode.ENFORCE)


def test_inventory_1_0():
    catalog = load_catalog([RECORDED / "catalog-1.0.yaml"])
    inventory = load_inventory(RECORDED / "inventory-1.0.yaml", catalog)
    assert {host: len(devices) for host, devices in inventory.hosts.items()} == {
        "cmp1": 1,
        "cmp2": 2,
        "cmp3": 2,
        "cmp4": 0,
    }


# --- what is not read is named ------------------------------------------------------------------


def test_a_later_record_is_named():
    content = json.loads((RECORDED / "record-1.json").read_text())["short"]
    text = content["devcompat:need"]
    with pytest.raises(
        wire.WireError,
        match=r"record: written in format 9 by a newer nova-devcompat; this one reads 1 and 2:",
    ):
        wire.load_record({"devcompat:need": f"9{text[1:]}"})


def test_a_later_stats_document_is_named():
    text = (RECORDED / "stats-1-whole.json").read_text().replace('"v":1', '"v":9')
    with pytest.raises(
        wire.WireError,
        match=r"stats document: written in format 9 by a newer .*; this one reads 1 and 2: upgr",
    ):
        wire.load_stats(text)


@pytest.mark.parametrize("name", ["catalog-1.0.yaml", "inventory-1.0.yaml"])
def test_a_later_file_is_named(name, tmp_path):
    path = tmp_path / name
    path.write_text((RECORDED / name).read_text().replace("'1.0'", "'2.0'"))
    load = load_catalog if name.startswith("catalog") else load_inventory
    with pytest.raises((CatalogError, DocumentError)) as caught:
        load([path] if load is load_catalog else path)
    assert re.search(
        r":\d+: meta\.schema_version: '2\.0' is not supported; supported: '1\.0'",
        str(caught.value),
    )


# --- how a version comes and goes ---------------------------------------------------------------


def test_a_version_comes_and_another_goes(monkeypatch):
    """The release that brings 3 reads 2 and 3 and writes 2; a later one writes 3; 2 goes last."""
    old = json.loads((RECORDED / "record-2.json").read_text())["short"]
    new = {"devcompat:need": "3 something else"}
    need = Need(devices=(SHORT,))

    monkeypatch.setitem(wire.RECORD_READERS, 3, lambda rest, metadata: Record(need=need))
    monkeypatch.delitem(wire.RECORD_READERS, 1)
    assert wire.load_record(old) == wire.load_record(new) == need
    assert wire.dump_record(need, version=2)["devcompat:need"].startswith("2 ")
    with pytest.raises(wire.WireError, match=r"format 4 by a newer .* reads 2 and 3: upgrade"):
        wire.load_record({"devcompat:need": "4 x"})

    monkeypatch.delitem(wire.RECORD_READERS, 2)
    assert wire.load_record(new) == need
    with pytest.raises(
        wire.WireError, match="format 2 by an older nova-devcompat; this one reads 3: it has to be"
    ):
        wire.load_record(old)


def test_the_older_format_is_written_until_another_is_asked_for():
    """So a release before can read what this one writes."""
    conf = cfg.ConfigOpts()
    register_opts(conf)
    assert conf.devcompat.record_format == wire.RECORD_VERSION == 1
    conf.set_override("record_format", max(wire.RECORD_READERS), group="devcompat")
    with pytest.raises(ValueError, match="less than or equal"):
        conf.set_override("record_format", max(wire.RECORD_READERS) + 1, group="devcompat")


def test_the_first_release_names_format_2(monkeypatch):
    """It is no JSON of format 1, and says so to whoever reads no other."""
    monkeypatch.delitem(wire.STATS_READERS, 2)
    text = (RECORDED / "stats-2-whole.json").read_text().rstrip("\n")
    with pytest.raises(wire.WireError, match=r"format 2 by a newer nova-devcompat; .* reads 1:"):
        wire.load_stats(text)


def test_a_version_of_stats_documents_comes(monkeypatch):
    empty = wire.HostDocument(catalog="", devices=())
    monkeypatch.setitem(wire.STATS_READERS, 3, lambda reader, content, text: empty)
    reader = wire.StatsReader()
    assert reader.read('{"v":3,"new":[]}') is empty
    assert reader.read((RECORDED / "stats-1-whole.json").read_text()).devices
