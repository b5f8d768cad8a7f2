# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Functions that are devices of their own in a static inventory: written, read, dumped, judged."""

from __future__ import annotations

import json

import pytest
import yaml

from nova_devcompat.catalog.loader import load_catalog
from nova_devcompat.cli.main import main
from nova_devcompat.fleet.matrix import Matrix
from nova_devcompat.kit.problems import DocumentError
from nova_devcompat.sources import registered
from nova_devcompat.sources.static import load_inventory
from tests.unit.host.test_functions import RTX, Host

CATALOG = {"meta": {"schema_version": "1.0"}, "families": {"rtx": RTX}}

INVENTORY = """
meta: {schema_version: '1.0'}
hosts:
  a:
    devices:
      - address: '0001:04:00.0'
        attributes: &gpu {vendor_id: '10de', product_id: '2bb5', driver_version: '580.105.06',
          ecc_mode: enabled}
        functions:
          - addresses: ['0001:04:01.0-0001:04:01.2']
            attributes: {vgpu_type: '1561'}
          - addresses: ['0001:04:01.3', '01:00.0']
            attributes: {vgpu_type: none}
  b:
    devices:
      - address: '0001:04:00.0'
        attributes: *gpu
        functions:
          - {addresses: ['0001:04:01.0'], attributes: {vgpu_type: '1562'}}
          - {addresses: ['0001:04:01.1'], attributes: {vgpu_type: '1561'}}
  c:
    devices:
      - address: '0001:04:00.0'
        attributes: *gpu
        functions:
          - {addresses: ['0001:04:01.0'], attributes: {vgpu_type: null}}
  d:
    devices:
      # A function by its own address is a device as it is.
      - address: '0001:04:01.0'
        attributes: {vendor_id: '10de', product_id: '2bb5', driver_version: '580.105.06',
          ecc_mode: enabled, vgpu_type: '1562'}
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(CATALOG))
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    return tmp_path


def moves(files, inventory="inventory.yaml"):
    catalog = load_catalog([files / "catalog.yaml"], registered())
    matrix = Matrix(catalog, load_inventory(files / inventory, catalog))
    assert not matrix.passed_over
    return {
        (move.source_host, move.source_address, move.destination_host): move.verdict
        for move in matrix.moves()
    }


def test_the_matrix(files):
    found = moves(files)
    first = "0001:04:01.0"
    assert [found["a", first, host] for host in "bcd"] == ["accept", "unknown", "reject"]
    assert found["a", "0001:04:01.2", "b"] == "accept"
    assert found["a", "0001:04:01.3", "b"] == "reject"
    assert found["a", "0000:01:00.0", "d"] == "reject"
    assert [found["b", first, host] for host in "acd"] == ["reject", "unknown", "accept"]
    assert [found["d", first, host] for host in "abc"] == ["reject", "accept", "unknown"]
    assert len(found) == (5 + 2 + 1 + 1) * 3


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("['0001:04:01.3-0001:04:01.0']", "does not run from one address to a later one"),
        ("['0001:04:01.3-0002:04:01.4']", "does not run from one address to a later one"),
        ("['0000:00:00.0-0000:ff:1f.7']", "65536 functions; 4096 are allowed"),
        ("['0001:04:01.1']", "duplicate address '0001:04:01.1'"),
        ("[]", "addresses: is empty"),
        ("[0001:04:01.0]", "put it in quotes: '0001:04:01.0'"),
    ],
)
def test_what_is_refused(files, written, problem):
    text = INVENTORY.replace("['0001:04:01.3', '01:00.0']", written)
    (files / "inventory.yaml").write_text(text)
    with pytest.raises(DocumentError) as refused:
        load_inventory(files / "inventory.yaml")
    assert problem in str(refused.value), str(refused.value)


OF_TWO = "functions: [{addresses: ['0001:05:01.0', '0001:04:01.1'], attributes: {}}]"


@pytest.mark.parametrize(
    ("device", "problem"),
    [
        (
            f"{{address: '0001:05:00.0', attributes: {{}}, {OF_TWO}}}",
            "inventory.yaml:14: hosts.a.devices.1.functions.0.addresses.1: duplicate address "
            "'0001:04:01.1' of a function; it is first on line 10",
        ),
        (
            "{address: '0001:04:01.1', attributes: {}}",
            "inventory.yaml:10: hosts.a.devices.0.functions.0.addresses.0: function "
            "'0001:04:01.1' has an entry of its own on line 14; leave one of them out",
        ),
    ],
)
def test_a_function_that_is_written_twice(files, device, problem):
    """nova-scheduler and nova-compute would each take another of them."""
    text = INVENTORY.replace("  b:\n", f"      - {device}\n  b:\n")
    (files / "inventory.yaml").write_text(text)
    with pytest.raises(DocumentError) as refused:
        load_inventory(files / "inventory.yaml")
    assert str(refused.value) == f"{files}/{problem}"


def test_functions_of_other_hosts_and_a_device_without(files):
    alone = "{address: 'x', attributes: {}, functions: [{addresses: ['x'], attributes: {}}]}"
    text = INVENTORY.replace("  b:\n", f"      - {alone}\n  b:\n")
    (files / "inventory.yaml").write_text(text)
    assert set(load_inventory(files / "inventory.yaml").hosts["a"][1].functions) == {"x"}


def test_a_function_that_several_families_match(files, capsys):
    """The line says of which host it is."""
    other, rtx = (
        {**RTX, "match": {"vgpu_type": "1561", name: "*"}} for name in ("product_id", "vendor_id")
    )
    content = {**CATALOG, "families": {"other": other, "rtx": rtx}}
    (files / "catalog.yaml").write_text(yaml.safe_dump(content))
    argv = ["matrix", "--catalog", "catalog.yaml", "--inventory", "inventory.yaml"]
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith(
        "host a: device 0001:04:01.0 matches several families: other, rtx; "
    )


def run(capsys, *argv):
    assert main(list(argv)) == 0
    return capsys.readouterr().out


def test_a_host_and_its_dump_agree(files, monkeypatch, capsys):
    """What "device list" shows, "inventory dump" writes, and "matrix" reads."""
    host = Host(files / "h", 48, ["1561"] * 3)
    (files / "sysfs.yaml").write_text(
        yaml.safe_dump(
            {
                **CATALOG,
                "families": {
                    "rtx": {
                        **RTX,
                        "attributes": {"vgpu_type": RTX["attributes"]["vgpu_type"]},
                        "rules": {"driver_version": "equal", "vgpu_type": "equal"},
                    }
                },
            }
        )
    )
    options = ["--catalog", "sysfs.yaml", "--sysfs-root", str(host.tree.root)]
    rows = json.loads(run(capsys, "device", "list", *options, "-f", "json"))
    first, second = (f"0001:04:01.{number}" for number in (0, 2))
    assert [(row["address"], row["family"]) for row in rows] == [
        (f"{first}-{second}", "rtx"),
        ("0001:04:01.3-0001:04:06.7", "rtx"),
    ]
    assert [row["attributes"]["vgpu_type"] for row in rows] == ["1561", "none"]
    table = run(capsys, "device", "list", *options)
    assert f"{first}-{second}" in table and "vgpu_type=1561" in table

    dumps = {}
    for name in ("a", "b"):
        text = run(capsys, "inventory", "dump", *options, "--hostname", name)
        dumps |= yaml.safe_load(text)["hosts"]
    assert dumps["a"] == dumps["b"]
    (device,) = dumps["a"]["devices"]
    assert device["functions"][0] == {
        "addresses": [f"{first}-{second}"],
        "family": "rtx",
        "attributes": {"vgpu_type": "1561"},
    }
    assert "vgpu_type" not in device["attributes"]
    content = {"meta": {"schema_version": "1.0"}, "hosts": dumps}
    (files / "dumped.yaml").write_text(yaml.safe_dump(content))
    options = ["--catalog", "sysfs.yaml", "--inventory", "dumped.yaml"]
    rows = json.loads(run(capsys, "matrix", *options, "-f", "json"))
    assert len(rows) == 96 and {row["verdict"] for row in rows} == {"accept"}
