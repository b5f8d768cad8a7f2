# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``device list`` and ``inventory``: over a sysfs of our own, and on whatever this host is."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import subprocess
import sys

import pytest
import yaml

from nova_devcompat.catalog.packs import catalog_paths
from nova_devcompat.cli import hosts
from nova_devcompat.cli.main import main
from nova_devcompat.host.inventory import HostReader
from nova_devcompat.service import load_catalog
from nova_devcompat.sources import Device
from nova_devcompat.sources.base import Listing, Source, SourceError
from nova_devcompat.sources.static import load_inventory
from tests.unit.sources import sysfs_trees

QAT, NIC = "0000:6b:00.0", "0000:81:00.0"
EXAMPLES = pathlib.Path(__file__).parents[3] / "doc/source/_examples"
CATALOG = """\
meta: {schema_version: '1.0'}
families:
  nic:
    match: {vendor_id: '15b3'}
    source: sysfs
    rules: {driver: equal, revision: equal}
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(CATALOG)
    tree = sysfs_trees.Tree(tmp_path / "sys")
    tree.pci(NIC, driver="mlx5_core", revision="01")
    tree.pci(
        QAT, vendor="8086", device="4940", class_="0b4000", driver="4xxx", totalvfs=16,
        vf_device="4941",
    )  # fmt: skip
    tree.functions(QAT, 4, driver="qat_vfio_pci")
    tree.write(f"{tree.folder(QAT)}/qat/cfg_services", "sym;asym\n")
    tree.pci("0000:00:02.0", vendor="8086", device="4680", class_="030000")
    return tree


@pytest.fixture
def run(tree, capsys):
    """Run the command on the tree: its status, what it printed, and its errors."""

    def _run(*argv):
        status = main([*argv, "--sysfs-root", str(tree.root), "--hostname", "cmp1"])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return _run


@pytest.fixture
def plan(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def _plan(*argv):
        status = main(["inventory", "plan", *argv])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return _plan


BOTH = ("--pack", "qat_gen4_vf", "--catalog", "c.yaml")


# --- device list --------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_for_machines(run, form, read):
    status, out, err = run("device", "list", *BOTH, "-f", form)
    assert status == 0
    assert err == f"{IN_FORCE}No device belongs to these families: qat_401xx_vf, qat_402xx_vf\n"
    qat, nic = read(out)
    assert (qat["address"], qat["family"]) == (QAT, "qat_4xxx_vf")
    assert qat["attributes"]["cfg_services"] == "sym;asym"
    assert qat["attributes"]["vf_driver"] == ["qat_vfio_pci"]
    assert qat["attributes"]["sriov_numvfs"] == 4
    assert set(qat["source"].values()) == {"sysfs"}
    assert qat["source"].keys() == qat["attributes"].keys()
    assert qat["problems"] == {}
    assert (nic["address"], nic["family"]) == (NIC, "nic")


#: What is in force of BOTH.
IN_FORCE = """\
nic: the mode of [devcompat]; from c.yaml:3; source sysfs
qat_401xx_vf: the mode of [devcompat]; from pack qat_gen4_vf; source sysfs
qat_402xx_vf: the mode of [devcompat]; from pack qat_gen4_vf; source sysfs
qat_4xxx_vf: the mode of [devcompat]; from pack qat_gen4_vf; source sysfs
"""


def test_for_people(run):
    status, out, err = run("device", "list", *BOTH, "--family", "nic")
    assert status == 0
    assert err == f"{IN_FORCE}No device belongs to these families: qat_401xx_vf, qat_402xx_vf\n"
    assert out == (
        "+--------------+--------+------------------+--------+----------+\n"
        "| address      | family | attributes       | source | problems |\n"
        "+--------------+--------+------------------+--------+----------+\n"
        "| 0000:81:00.0 | nic    | driver=mlx5_core | sysfs  |          |\n"
        "|              |        | revision=01      |        |          |\n"
        "|              |        | vendor_id=15b3   |        |          |\n"
        "+--------------+--------+------------------+--------+----------+\n"
    )


def test_csv(run):
    status, out, _ = run("device", "list", *BOTH, "-f", "csv", "-c", "address", "-c", "family")
    assert status == 0
    assert list(csv.reader(io.StringIO(out))) == [
        ["address", "family"],
        [QAT, "qat_4xxx_vf"],
        [NIC, "nic"],
    ]


def test_devices_of_no_family(run):
    _, out, _ = run("device", "list", *BOTH, "--all", "-f", "json")
    rows = {row["address"]: row["family"] for row in json.loads(out)}
    assert rows == {"0000:00:02.0": "", QAT: "qat_4xxx_vf", NIC: "nic"}


def test_devices_that_several_families_match_are_said(run, tmp_path):
    """And those that their primary source does not list."""
    (tmp_path / "d.yaml").write_text(
        "meta: {schema_version: '1.0'}\n"
        "families:\n"
        "  other: {match: {class: '020000'}, source: sysfs, rules: {revision: equal}}\n"
        "  gpu: {match: {vendor_id: '8086', product_id: '4941'}, source: static, "
        "rules: {version: equal}}\n"
    )
    (tmp_path / "i.yaml").write_text("meta: {schema_version: '1.0'}\nhosts: {cmp1: {devices: []}}")
    files = ("--catalog", "c.yaml", "--catalog", "d.yaml", "--inventory", "i.yaml")
    status, out, _ = run("device", "list", *files, "-f", "json")
    rows = {row["address"]: row for row in json.loads(out)}
    assert status == 0
    assert "matches several families: nic, other" in str(rows[NIC]["problems"])
    assert rows[QAT]["family"] == "gpu"
    assert rows[QAT]["problems"]["version"] == f"source static does not list {QAT}"


def test_what_cannot_be_read_is_said(run, tree):
    file = tree.root / tree.folder(QAT) / "qat/cfg_services"
    file.write_bytes(b"\xff\xfe\n")
    _, out, _ = run("device", "list", *BOTH, "-f", "json", "--family", "qat_4xxx_vf")
    (row,) = json.loads(out)
    assert "cfg_services" not in row["attributes"]
    assert "cfg_services" in row["problems"]
    _, out, _ = run("device", "list", *BOTH, "--family", "qat_4xxx_vf")
    assert "cfg_services: " in out


ODD = {
    "vendor_id": "15b3",
    "set": {"b", "a"},
    "number": 1.5,
    "deep": {"a": [1]},
    "two": 2,
    "texts": {"k": ["v"]},
    "yes": True,
}


class Broken(Source):
    name = "broken"

    def read(self, host):
        raise SourceError("there is no such bus; look for it")


class Twofold(Source):
    """Lists a device of a family that the catalog does not have, and values of odd types."""

    name = "sysfs"

    def read(self, host):
        assert host == "cmp1"
        return [
            Device("odd", dict(ODD)),
            Device("lost", {}, family="nobody"),
        ]


@pytest.fixture
def own_sources(monkeypatch):
    found = {"devlink": Broken, "sysfs": Twofold}
    monkeypatch.setitem(
        HostReader.__init__.__kwdefaults__, "load", lambda name, options: found[name](options)
    )


def test_a_source_that_fails_has_a_row(run, own_sources):
    status, out, err = run(
        "device", "list", "--pack", "pds_vf", "--catalog", "c.yaml", "-f", "json"
    )
    assert status == 0
    assert err.endswith("\nNo device belongs to these families: pds_vf\n")
    odd, lost, failed = json.loads(out)
    assert odd["attributes"]["set"] == ["a", "b"]
    assert odd["attributes"]["deep"] == {"a": [1]}
    assert odd["problems"] == {
        "driver": "source sysfs does not tell it",
        "revision": "source sysfs does not tell it",
    }
    assert lost["address"] == "lost"
    assert "no catalog file has the family 'nobody'" in lost["problems"]["device"]
    assert failed == {
        "address": "",
        "family": "",
        "attributes": {},
        "source": {"source": "devlink"},
        "problems": {"source": "there is no such bus; look for it"},
    }


def test_a_value_that_the_rule_cannot_read_is_said(run, own_sources, monkeypatch, tmp_path):
    monkeypatch.setitem(ODD, "driver", ["mlx5_core"])
    _, out, _ = run("device", "list", "--catalog", "c.yaml", "-f", "json")
    odd, _ = json.loads(out)
    assert odd["problems"]["driver"] == "['mlx5_core']: is not text"


def test_a_source_that_does_not_concern_the_family_has_none(run, own_sources):
    _, out, _ = run(
        "device",
        "list",
        "--pack",
        "pds_vf",
        "--catalog",
        "c.yaml",
        "-f",
        "json",
        "--family",
        "nic",
    )
    assert [row["address"] for row in json.loads(out)] == ["odd", "lost"]


def test_an_unknown_family(run):
    status, _, err = run("device", "list", *BOTH, "--family", "nix")
    assert status == 2
    assert "the catalog has no family 'nix'; families: nic, qat_401xx_vf" in err


def test_an_unknown_pack(run):
    status, _, err = run("device", "list", "--pack", "qemu,mlx5")
    assert status == 2
    assert "--pack: 'mlx5' is no pack; packs: gvtg, " in err


def test_a_wrong_catalog(run, tmp_path):
    (tmp_path / "c.yaml").write_text("families: {}")
    status, _, err = run("device", "list", *BOTH)
    assert status == 2
    assert "c.yaml:1: key 'meta' is missing" in err


def test_a_root_that_is_no_sysfs(run, tree):
    _, out, _ = run("device", "list", "--pack", "mtty", "-f", "json", "--sysfs-root", "nowhere")
    rows = json.loads(out)
    # The last --sysfs-root counts, and it is the tree's.
    assert rows == []


def test_packs_that_need_nothing_written_are_the_default():
    live = hosts.live_packs()
    assert {"nvidia_vgpu", "mlx5_vf", "qemu"} <= set(live)
    assert not {"gvtg", "virtio_vdpa"} & set(live)


# --- inventory dump -----------------------------------------------------------------------------


def test_dump_can_be_loaded_again(run, tmp_path):
    status, out, err = run("inventory", "dump", *BOTH)
    assert (status, err) == (0, "")
    file = tmp_path / "dumped.yaml"
    file.write_text(out)
    catalog = load_catalog(catalog_paths(["qat_gen4_vf"], ["c.yaml"]))
    (devices,) = load_inventory(file, catalog).hosts.values()
    _, out, _ = run("device", "list", *BOTH, "-f", "json")
    listed = {row["address"]: (row["family"], row["attributes"]) for row in json.loads(out)}
    assert {one.address: (one.family, one.attributes) for one in devices} == listed


def test_dump_replayed_says_what_the_host_says(run, tmp_path):
    """A listing of the dump, through the static source, is the listing of the host."""
    _, dumped, _ = run("inventory", "dump", *BOTH)
    (tmp_path / "dumped.yaml").write_text(dumped)
    static = CATALOG.replace("source: sysfs", "source: static")
    (tmp_path / "replay.yaml").write_text(static)
    _, out, err = run(
        "device", "list", "--catalog", "replay.yaml", "--inventory", "dumped.yaml",
        "--family", "nic", "-f", "json",
    )  # fmt: skip
    assert err == "nic: the mode of [devcompat]; from replay.yaml:3; source static\n"
    replayed = {row["address"]: row for row in json.loads(out)}
    _, out, _ = run("device", "list", *BOTH, "--family", "nic", "-f", "json")
    (live,) = json.loads(out)
    assert replayed[NIC]["attributes"] == live["attributes"]
    assert set(replayed[NIC]["source"].values()) == {"static"}


def test_dump_writes_what_is_not_known_as_null(run, tree):
    (tree.root / tree.folder(QAT) / "qat/cfg_services").write_bytes(b"\xff\xfe\n")
    _, out, _ = run("inventory", "dump", *BOTH)
    qat, _ = yaml.safe_load(out)["hosts"]["cmp1"]["devices"]
    assert qat["attributes"]["cfg_services"] is None


def test_dump_of_all(run):
    _, out, _ = run("inventory", "dump", *BOTH, "--all")
    first, *_ = yaml.safe_load(out)["hosts"]["cmp1"]["devices"]
    assert first["address"] == "0000:00:02.0"
    assert "family" not in first


def test_dump_leaves_out_what_an_inventory_cannot_hold(run, own_sources, tmp_path):
    status, out, err = run("inventory", "dump", "--pack", "pds_vf", "--catalog", "c.yaml")
    assert status == 0
    assert "Source devlink could not be asked: there is no such bus; look for it" in err
    assert "Device lost is left out: " in err
    for name in ("number", "deep", "yes"):
        assert f"Device odd: {name} is left out: an inventory cannot hold " in err
    (tmp_path / "dumped.yaml").write_text(out)
    (device,) = load_inventory(tmp_path / "dumped.yaml").hosts["cmp1"]
    assert device.attributes == {
        "driver": None, "revision": None, "set": ["a", "b"], "texts": {"k": ["v"]}, "two": 2,
        "vendor_id": "15b3",
    }  # fmt: skip


class Partial(Source):
    name = "sysfs"

    def read(self, host):
        known = Device(NIC, {"driver": "mlx5_core"}, problems={"vendor_id": "it is garbled"})
        return Listing([known], {"GPU 1": "it is lost"})


def test_dump_says_what_may_be_missing(run, monkeypatch):
    monkeypatch.setitem(
        HostReader.__init__.__kwdefaults__, "load", lambda name, options: Partial(options)
    )
    status, out, err = run("inventory", "dump", "--catalog", "c.yaml")
    assert status == 0
    assert yaml.safe_load(out)["hosts"] == {"cmp1": {"devices": []}}
    assert "Source sysfs does not tell of all devices: GPU 1: it is lost" in err
    assert f"Device {NIC} may be of a family, but for vendor_id: it is garbled" in err


def test_dump_of_a_host_without_devices(run, tmp_path):
    status, out, _ = run("inventory", "dump", "--pack", "mtty")
    assert status == 0
    assert yaml.safe_load(out)["hosts"] == {"cmp1": {"devices": []}}
    (tmp_path / "dumped.yaml").write_text(out)
    assert load_inventory(tmp_path / "dumped.yaml").hosts == {"cmp1": ()}


# --- inventory plan -----------------------------------------------------------------------------


def test_plan_feeds_the_matrix(plan, capsys, tmp_path):
    alike = ("--ecc-mode", "enabled", "--product-id", "26b9")
    status, out, _ = plan(*alike, "old=550.90.05", "new=580.65.06")
    assert status == 0
    (tmp_path / "plan.yaml").write_text(out)
    argv = ["matrix", "--pack", "nvidia_vgpu", "--inventory", "plan.yaml"]
    columns = ["-c", "source_host", "-c", "destination_host", "-c", "verdict"]
    assert main([*argv, *columns]) == 0
    assert capsys.readouterr().out == (EXAMPLES / "plan.txt").read_text()


def test_plan_without_an_ecc_mode_is_never_accepted(plan, capsys, tmp_path):
    _, out, _ = plan("one=550.90.05", "other=550.90.05")
    (tmp_path / "plan.yaml").write_text(out)
    main(["matrix", "--pack", "nvidia_vgpu", "--inventory", "plan.yaml", "-f", "json"])
    assert [row["verdict"] for row in json.loads(capsys.readouterr().out)] == ["unknown"] * 2


def test_plan_of_gpus_without_ecc(plan, capsys, tmp_path):
    _, out, _ = plan("--ecc-mode", "none", "--product-id", "13bd", "a=550.90.05", "b=550.90.05")
    (tmp_path / "plan.yaml").write_text(out)
    main(["matrix", "--pack", "nvidia_vgpu", "--inventory", "plan.yaml", "-f", "json"])
    assert [row["verdict"] for row in json.loads(capsys.readouterr().out)] == ["accept"] * 2


def test_plan_answers_for_the_others_where_one_release_is_unknown(plan):
    status, out, err = plan("a=550.163.02", "b=999.1")
    assert status == 0
    hosts = yaml.safe_load(out)["hosts"]
    ranges = [hosts[name]["devices"][0]["attributes"]["vgpu_version"] for name in "ab"]
    assert ranges == [{"min": "7.1", "max": "14.1"}, None]
    assert "Host a: nothing is published for release 550.163.02; it is taken to have what" in err
    assert "Host b: nothing is published for release 999.1 of NVIDIA's driver; known are" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["550.90.05"], "'550.90.05' is not HOST=RELEASE"),
        (["a="], "'a=' is not HOST=RELEASE"),
        (["=550.90.05"], "'=550.90.05' is not HOST=RELEASE"),
        (["a=550.90.05", "a=580.65.06"], "host 'a' is there twice"),
        (["a=new"], "release of NVIDIA's driver: 'new': is not a version"),
    ],
)
def test_plan_refuses(plan, arguments, message):
    status, out, err = plan(*arguments)
    assert (status, out) == (2, "")
    assert message in err


# --- catalog validate and matrix ----------------------------------------------------------------


def test_validate_takes_packs(capsys, tree):
    assert main(["catalog", "validate", "--pack", "qemu,libvirt", "--pack", "mtty", "c.yaml"]) == 0
    assert capsys.readouterr().out.startswith("OK: families: 4, rules: 17, digest: ")


@pytest.mark.parametrize(
    "argv", [["catalog", "validate"], ["matrix", "--inventory", "i.yaml"]], ids=" ".join
)
def test_no_catalog_at_all(capsys, argv):
    assert main(argv) == 2
    assert "no catalog is named; name a file, or a pack with --pack" in capsys.readouterr().err


# --- without Nova -------------------------------------------------------------------------------


def test_neither_nova_nor_a_nova_conf_is_needed(tmp_path):
    program = (
        "import json, sys\n"
        "sys.modules['nova'] = None\n"
        "from nova_devcompat.cli.main import main\n"
        "for argv in json.loads(sys.argv[1]):\n"
        "    print(main(argv), *argv[:2], file=sys.stderr)\n"
    )
    sysfs_trees.Tree(tmp_path / "sys")
    of_here = ["--pack", "mtty", "--sysfs-root", str(tmp_path / "sys")]
    # One process for all: most of what it takes is its start.
    commands = [
        ["device", "list", *of_here],
        ["inventory", "dump", *of_here],
        ["inventory", "plan", "a=580.65.06"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(commands)],
        cwd=tmp_path,
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line for line in done.stderr.splitlines() if line[:2] in ("0 ", "No")]
    assert told == [
        "No device belongs to these families: mtty",
        "0 device list",
        "0 inventory dump",
        "0 inventory plan",
    ], done.stderr
