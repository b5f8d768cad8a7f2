# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The packs: that they load, that sources deliver what they compare, and what they decide.

Facts of DECISIONS are those of the packs' own comments: NVIDIA's vgpu_version.h by release, the
kernel's adf_gen4_vf_mig.c, hisi_acc_vfio_pci.c and mtty.c, QEMU's virtio.c, and the threads of
2020 on openstack-discuss and libvir-list.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import pathlib
import re

import pynvml
import pytest
from oslo_config import cfg

from nova_devcompat import conf as devcompat_conf
from nova_devcompat.catalog import CatalogError, CatalogKeeper, nvidia, packs, xpaths
from nova_devcompat.compat import uses
from nova_devcompat.compat.verdict import Outcome
from nova_devcompat.host.inventory import HostReader
from nova_devcompat.service import catalog_keeper, load_catalog, problem_at_start
from nova_devcompat.sources import SourceOptions, nvml_reader, registered
from nova_devcompat.sources.devlink import DevlinkSource
from nova_devcompat.sources.libvirt import LibvirtSource
from nova_devcompat.sources.nvml import NvmlSource
from nova_devcompat.sources.nvml_answers import Answers
from nova_devcompat.sources.static import StaticSource
from nova_devcompat.sources.sysfs import SysfsSource
from tests.unit.sources import devlink_messages, fake_nvml, sysfs_trees
from tests.unit.sources.test_libvirt import Connection

NAMES = [
    "gvtg", "hisi_acc_vf", "libvirt", "mlx5_vf", "mtty", "nova_minima", "nvidia_vgpu",
    "nvidia_vgpu_same_driver", "pds_vf", "qat_gen4_vf", "qat_gen5_vf", "qat_gen6_vf", "qemu",
    "qemu_machine", "vfio_pci", "virtio_vdpa", "xe_vf",
]  # fmt: skip
DOCS = pathlib.Path(__file__).parents[3] / "doc/source"


@functools.cache
def catalog_of(*names, files=()):
    return load_catalog(packs.catalog_paths(names, files))


def family_of(pack, name):
    return catalog_of(pack).families[name].family


# --- names and files ----------------------------------------------------------------------------


def test_there_are_these():
    assert packs.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_loads_alone(name):
    assert catalog_of(name).families


def test_all_load_together():
    assert sorted(catalog_of(*NAMES).families) == [
        "gvtg", "hisi_hpre_vf", "hisi_sec_vf", "hisi_zip_vf", "libvirt", "mlx5_vf", "mtty",
        "nova_minima", "nvidia_vgpu", "pds_vf", "qat_401xx_vf", "qat_402xx_vf", "qat_420xx_vf",
        "qat_4xxx_vf", "qat_6xxx_vf", "qemu", "qemu_machine", "vfio_pci", "virtio_vdpa", "xe_vf",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_each_leaves_policies_to_the_operator(name):
    for family in catalog_of(name).families.values():
        assert (family.mode, family.on_unknown) == (None, None)


@pytest.mark.parametrize("name", NAMES)
def test_each_says_where_its_rules_are_from(name):
    text = (packs.FOLDER / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert re.search(r"\.(c|h|rst|py)\b|virConnect|User Guide|openstack-discuss", text)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_documented(name):
    text = (DOCS / "packs.rst").read_text()
    assert f"packs/{name}.yaml" in text


@pytest.mark.parametrize("name", NAMES)
def test_the_page_has_every_rule_of_each(name):
    """And where it is from, by file and function."""
    text = (DOCS / "packs.rst").read_text()
    section = text[text.index(f".. _{name}:") : text.index(f"packs/{name}.yaml")]
    for family in catalog_of(name).families.values():
        for attribute in family.family.rules:
            assert f"``{attribute}``" in section, attribute
    assert "Cannot be read: " in section
    assert "Assumed: " in section


def test_a_file_overrides_a_packs_family(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(
        "meta: {schema_version: '1.0'}\n"
        "families:\n"
        "  mlx5_vf:\n"
        "    match: {vendor_id: '15b3', product_id: '101e'}\n"
        "    source: devlink\n"
        "    rules: {fw_version: semver}\n"
    )
    rules = catalog_of("mlx5_vf", "qemu", files=(own,)).families["mlx5_vf"].family.rules
    assert {name: rule.kind for name, rule in rules.items()} == {"fw_version": "semver"}


@pytest.mark.parametrize("wrong", ["mlx5", "", "../packs/mtty", "Mtty", "mtty.yaml"])
def test_an_unknown_name_is_an_error_with_the_list(wrong):
    with pytest.raises(packs.UnknownPack) as error:
        packs.catalog_paths(["qemu", wrong])
    assert str(error.value).startswith(
        f"[devcompat] packs: {wrong!r} is no pack; packs: {', '.join(NAMES)}"
    )


def test_a_near_name_is_suggested():
    with pytest.raises(packs.UnknownPack, match="did you mean 'nvidia_vgpu'"):
        packs.catalog_paths(["nvidia_vgpus"])


def test_the_default_file_may_be_missing_with_packs_only(tmp_path, monkeypatch):
    default = str(tmp_path / "devcompat.yaml")
    monkeypatch.setattr(packs, "DEFAULT_FILE", default)
    assert packs.catalog_paths([], [default]) == [pathlib.Path(default)]
    assert len(packs.catalog_paths(["qemu"], [default])) == 1
    other = str(tmp_path / "other.yaml")
    assert packs.catalog_paths(["qemu"], ["", default, other])[1:] == [pathlib.Path(other)]
    # A broken link is somebody's mistake.
    pathlib.Path(default).symlink_to(other)
    assert packs.catalog_paths(["qemu"], [default])[1:] == [pathlib.Path(default)]


def test_an_empty_name_is_no_file(tmp_path):
    """It would be the folder that the service was started in."""
    assert packs.catalog_paths([], [""]) == []
    keeper = CatalogKeeper([""], registered=registered())
    with pytest.raises(CatalogError) as caught:
        keeper.current()
    assert str(caught.value) == "[devcompat] catalog: names no file"


def test_the_default_file_is_the_options_default():
    (option,) = (option for option in devcompat_conf.OPTS if option.name == "catalog")
    assert option.default == [packs.DEFAULT_FILE]


def test_keeper_notices_a_file_that_comes_later(tmp_path, monkeypatch):
    default = tmp_path / "devcompat.yaml"
    monkeypatch.setattr(packs, "DEFAULT_FILE", str(default))
    keeper = CatalogKeeper([str(default)], ["mtty"], min_interval=0, registered=registered())
    assert list(keeper.current().families) == ["mtty"]
    default.write_text((packs.FOLDER / "qemu.yaml").read_text())
    assert list(keeper.current().families) == ["mtty", "qemu"]


def test_keeper_raises_for_an_unknown_pack_when_it_is_asked():
    keeper = CatalogKeeper([], ["nope"], registered=registered())
    with pytest.raises(packs.UnknownPack):
        keeper.current()


def test_a_service_with_an_unknown_pack_says_so_in_a_line():
    conf = cfg.ConfigOpts()
    devcompat_conf.register_opts(conf)
    conf([])
    conf.set_override("packs", ["mlx5"], group="devcompat")
    problem = problem_at_start(conf, catalog_keeper(conf).current)
    conf.clear_override("packs", group="devcompat")
    assert problem.startswith(
        "the catalog cannot be used: [devcompat] packs: 'mlx5' is no pack; packs: gvtg, "
    )


def test_option():
    conf = cfg.ConfigOpts()
    devcompat_conf.register_opts(conf)
    conf([])
    assert conf.devcompat.packs == []
    conf.set_override("packs", ["nvidia_vgpu", "mlx5_vf"], group="devcompat")
    assert list(
        CatalogKeeper([""], conf.devcompat.packs, registered=registered()).current().families
    ) == [
        "mlx5_vf",
        "nvidia_vgpu",
    ]


# --- what sources deliver -----------------------------------------------------------------------

MLX5, QAT, HISI, PDS = "0000:81:00.0", "0000:6b:00.0", "0000:75:00.0", "0000:60:00.0"
XE = "0000:03:00.0"


@pytest.fixture
def host(tmp_path):
    """Makes the survey of a host that has a device of each pack."""
    tree = sysfs_trees.Tree(tmp_path / "sys")
    tree.pci(MLX5, driver="mlx5_core", totalvfs=8)
    tree.functions(MLX5, 2, driver="mlx5_vfio_pci")
    tree.pci(
        QAT, vendor="8086", device="4940", class_="0b4000", revision="40", driver="4xxx",
        totalvfs=16, vf_device="4941",
    )  # fmt: skip
    tree.functions(QAT, 4, driver="qat_vfio_pci")
    tree.write(f"{tree.folder(QAT)}/qat/cfg_services", "sym;asym\n")
    tree.pci(
        HISI, vendor="19e5", device="a250", class_="120000", revision="30", driver="hisi_zip",
        totalvfs=63, vf_device="a251",
    )  # fmt: skip
    tree.functions(HISI, 3, driver="hisi-acc-vfio-pci")
    tree.write("module/hisi_zip/parameters/pf_q_num", "256\n")
    tree.pci(
        PDS, vendor="1dd8", device="100c", class_="120000", driver="pds_core", totalvfs=4,
        vf_device="1003",
    )  # fmt: skip
    tree.functions(PDS, 1, driver="pds-vfio-pci")
    for gpu in fake_nvml.two_gpus():
        tree.pci(gpu.bus_id[4:].lower(), vendor="10de", class_="030200", driver="nvidia")
    tree.pci(
        XE, vendor="8086", device="e211", class_="030000", driver="xe", totalvfs=7,
        vf_device="e211",
    )  # fmt: skip
    tree.functions(XE, 2, driver="xe-vfio-pci")
    tree.pci("0000:05:00.0", vendor="8086", device="1572", driver="vfio-pci")
    tree.module("mtty", version="0.1", srcversion="DE2A1D66B5B3C4A0F0B3A11")
    tree.mdev_types("mtty", sysfs_trees.MTTY_TYPES, "devices/virtual/mtty/mtty")
    (tree.root / "class/mtty").mkdir(parents=True)
    tree.link("devices/virtual/mtty/mtty/subsystem", "class/mtty")
    kernel = devlink_messages.Kernel(
        {f"pci/{MLX5}": devlink_messages.mlx5(), f"pci/{PDS}": devlink_messages.PDS}
    )
    static = tmp_path / "inventory.yaml"
    static.write_text(
        "meta: {schema_version: '1.0'}\n"
        "hosts:\n"
        "  cmp1:\n"
        "    devices:\n"
        "      - address: '0000:00:02.0'\n"
        "        attributes:\n"
        "          {mdev_type: i915-GVTg_V5_4, aggregator: '2', pv_mode: [none, ppgtt]}\n"
        "      - address: '0000:41:04.3'\n"
        "        attributes: {bus: vdpa, features: [CSUM, CTRL_VQ, VERSION_1]}\n"
    )

    def load(name, options):
        match name:
            case "sysfs":
                return SysfsSource(options, root=tree.root)
            case "devlink":
                return DevlinkSource(options, connect=kernel.connect, root=tree.root)
            case "nvml":
                return NvmlSource(options, ask=_nvml)
            case "libvirt":
                return LibvirtSource(options, connect=Connection)
        return StaticSource(options)

    def survey(*names):
        keeper = CatalogKeeper([""], names, registered=registered())
        options = SourceOptions(inventory=static, memory_source="anonymous")
        return HostReader(keeper, options, load=load).survey("cmp1")

    yield survey
    fake_nvml.uninstall()


def _nvml():
    fake_nvml.install(fake_nvml.Library(gpus=fake_nvml.two_gpus()))
    lines = []
    nvml_reader.collect(
        pynvml, lambda name, answer, gpu: lines.append(nvml_reader.line(name, answer, gpu))
    )
    lines.append(nvml_reader.line("end", {}, None))
    return Answers(lines="".join(lines).encode())


# Families of which the host above has no device: the others of their pack have the same rules.
TWINS = {
    "hisi_sec_vf", "hisi_hpre_vf", "qat_401xx_vf", "qat_402xx_vf", "qat_420xx_vf", "qat_6xxx_vf",
}  # fmt: skip


def test_sources_deliver_what_every_pack_compares(host):
    found = host(*NAMES)
    assert found.failed == {}
    assert found.left_out == {}
    have = {}
    for device in found.devices:
        if device.family is not None:
            offer = device.family.family.offer(device.attributes)
            have.setdefault(device.family.name, []).append(offer.unknown)
    assert have.keys() == found.catalog.families.keys() - TWINS
    assert [name for name, unknown in have.items() if any(unknown)] == []


@pytest.mark.parametrize("name", NAMES)
def test_each_finds_its_devices_without_the_others(host, name):
    together = {
        (device.address, device.family.name)
        for device in host(*NAMES).devices
        if device.family is not None
    }
    found = host(name)
    if set(found.catalog.families) <= TWINS:
        return
    mine = {(one.address, one.family.name) for one in found.devices if one.family is not None}
    assert mine
    if all(one.fallback for one in found.catalog.families.values()):
        # Alone, it has what others have too.
        assert mine > {one for one in together if one[1] in found.catalog.families}
        return
    assert mine == {(address, own) for address, own in together if own in found.catalog.families}


def test_twins_have_the_same_rules():
    for packs_of, first in (
        (["hisi_acc_vf"], "hisi_zip_vf"),
        (["qat_gen4_vf", "qat_gen5_vf", "qat_gen6_vf"], "qat_4xxx_vf"),
    ):
        families = catalog_of(*packs_of).families
        for family in families.values():
            assert family.family.rules == families[first].family.rules
            assert (family.source, family.attributes) == (
                families[first].source,
                families[first].attributes,
            )


# --- what they decide ---------------------------------------------------------------------------

ACCEPT, REJECT, UNKNOWN = Outcome.ACCEPT, Outcome.REJECT, Outcome.UNKNOWN


def vgpu(release, **others):
    return {
        "vgpu_version": nvidia.published_range(release).attribute,
        "driver_version": release,
        "ecc_mode": "enabled",
        "product_id": "1eb8",
        "vgpu_migration": "1",
        "vgpu_type": "1561",
        **others,
    }


def gvtg(**others):
    return {"mdev_type": "i915-GVTg_V5_4", "aggregator": "2", "pv_mode": ["none"], **others}


def hisi(**others):
    return {"revision": "30", "pf_queues": "256", "vfs": "3", **others}


def mtty(**others):
    return {"mdev_type": ["mtty-1", "mtty-2"], "driver_srcversion": "DE2A1D66", **others}


def machines(types):
    return {"machine_types": types, "qemu_version": "9.2.4"}


def xe(**others):
    return {"product_id": "e211", "revision": "00", **others}


def libvirt(version):
    names = ("libvirt_version", "mdev_migration", "variant_migration")
    return {**dict.fromkeys(names, version), "memory_source": "file"}


#: What depends on the QEMU that a guest was started on.
STARTED_ON = ("s390_css", "virtio_gpu", "virtio_rng", "pcie_unc_mask")


def qemu(version, architecture="x86_64"):
    names = ("qemu_version", "mdev_migration", "variant_migration", "several_devices", *STARTED_ON)
    beside = {"architecture": architecture, "behind_viommu": "11.0.0"}
    return {**beside, **dict.fromkeys(names, version)}


def minima(libvirt_version, qemu_version):
    return {
        **dict.fromkeys(("mdev_libvirt", "variant_libvirt"), libvirt_version),
        **dict.fromkeys(("mdev_qemu", "variant_qemu"), qemu_version),
    }


DECISIONS = [
    # 580 to 550, a downgrade that works, and back.
    ("nvidia_vgpu", "nvidia_vgpu", vgpu("550.90.05"), vgpu("580.65.06"), ACCEPT),
    ("nvidia_vgpu", "nvidia_vgpu", vgpu("580.65.06"), vgpu("550.90.05"), REJECT),
    # 525 to 580: newer, and yet too new; but 575 takes it.
    ("nvidia_vgpu", "nvidia_vgpu", vgpu("525.147.05"), vgpu("580.65.06"), REJECT),
    ("nvidia_vgpu", "nvidia_vgpu", vgpu("525.147.05"), vgpu("575.64.05"), ACCEPT),
    # Hexadecimal: 1A is more than 19.
    ("nvidia_vgpu", "nvidia_vgpu", vgpu("580.65.06"), vgpu("575.64.05"), REJECT),
    # An administrator narrowed the range.
    (
        "nvidia_vgpu", "nvidia_vgpu", vgpu("550.90.05"),
        vgpu("580.65.06", vgpu_version={"min": "18.1", "max": "1A.1"}), REJECT,
    ),
    (
        "nvidia_vgpu", "nvidia_vgpu", vgpu("550.90.05"),
        vgpu("550.90.05", ecc_mode="disabled"), REJECT,
    ),
    ("nvidia_vgpu", "nvidia_vgpu", vgpu("550.90.05"), vgpu("550.90.05", ecc_mode=None), UNKNOWN),
    ("nvidia_vgpu", "nvidia_vgpu", vgpu("580.65.06"), vgpu("580.65.06", vgpu_type="1562"), REJECT),
    ("nvidia_vgpu", "nvidia_vgpu", vgpu("580.65.06"), vgpu("580.65.06", vgpu_type="none"), REJECT),
    # What a cloud's distribution supports may be less than what NVIDIA does.
    (
        "nvidia_vgpu_same_driver", "nvidia_vgpu", vgpu("550.90.05"), vgpu("550.90.05"), ACCEPT,
    ),
    (
        "nvidia_vgpu_same_driver", "nvidia_vgpu", vgpu("550.90.05"), vgpu("580.65.06"), REJECT,
    ),
    # The firmware decides; whose board it is, NVIDIA's documentation.
    *(
        ("mlx5_vf", "mlx5_vf", {"fw_psid": "MT_1", "fw_version": old},
         {"fw_psid": psid, "fw_version": new}, outcome)
        for old, new, psid, outcome in (
            ("28.39.1002", "28.39.1002", "MT_1", ACCEPT),
            ("28.39.1002", "28.41.1000", "MT_1", UNKNOWN),
            ("28.41.1000", "28.39.1002", "MT_1", UNKNOWN),
            ("28.41.1000", "28.41.1000", "MT_2", REJECT),
        )
    ),
    ("pds_vf", "pds_vf", {"fw": "1.60.0-73"}, {"fw": "1.60.0-73"}, ACCEPT),
    ("pds_vf", "pds_vf", {"fw": "1.60.0-73"}, {"fw": "1.68.0-8"}, UNKNOWN),
    # The ring-to-service map must be equal.
    *(
        (pack, name, {"cfg_services": "sym;asym"}, {"cfg_services": services}, outcome)
        for pack, name in (
            ("qat_gen4_vf", "qat_4xxx_vf"), ("qat_gen4_vf", "qat_401xx_vf"),
            ("qat_gen4_vf", "qat_402xx_vf"), ("qat_gen5_vf", "qat_420xx_vf"),
            ("qat_gen6_vf", "qat_6xxx_vf"),
        )
        for services, outcome in (
            ("sym;asym", ACCEPT),
            # As the driver prints what was written as sym;asym.
            ("asym;sym", ACCEPT),
            ("dc", REJECT),
            (None, UNKNOWN),
        )
    ),
    # The number of queue pairs must be equal.
    *(
        ("hisi_acc_vf", name, hisi(), hisi(**other), outcome)
        for name in ("hisi_zip_vf", "hisi_sec_vf", "hisi_hpre_vf")
        for other, outcome in (
            ({}, ACCEPT),
            ({"vfs": "7"}, REJECT),
            ({"pf_queues": "512"}, REJECT),
            ({"revision": "21"}, REJECT),
            ({"vfs": None}, UNKNOWN),
        )
    ),
    # Version and ports exactly equal.
    ("mtty", "mtty", mtty(), mtty(), ACCEPT),
    ("mtty", "mtty", mtty(), mtty(mdev_type=["mtty-1"]), REJECT),
    ("mtty", "mtty", mtty(), mtty(driver_srcversion="0A1B2C3D"), REJECT),
    ("mtty", "mtty", mtty(), mtty(driver_srcversion=None), UNKNOWN),
    # pv_mode=none can migrate to none+ppgtt, but not vice versa; and so on.
    *(
        ("gvtg", "gvtg", gvtg(pv_mode=need), gvtg(pv_mode=offer), outcome)
        for need, offer, outcome in (
            (["none"], ["none", "ppgtt"], ACCEPT),
            (["none", "ppgtt"], ["none"], REJECT),
            (["none", "ppgtt"], ["none", "context"], REJECT),
            (["none", "context"], ["none", "ppgtt", "context"], ACCEPT),
        )
    ),
    ("gvtg", "gvtg", gvtg(), gvtg(aggregator="1"), REJECT),
    ("gvtg", "gvtg", gvtg(), gvtg(mdev_type="i915-GVTg_V5_8"), REJECT),
    # Bits 40, 54, 55 and 56 are missing; and the way back.
    ("virtio_vdpa", "virtio_vdpa", {"features": ["32", "40"]}, {"features": ["32"]}, REJECT),
    ("virtio_vdpa", "virtio_vdpa", {"features": ["32"]}, {"features": ["32", "40"]}, ACCEPT),
    # An older machine type that the destination has, too.
    (
        "qemu_machine", "qemu_machine",
        machines({"values": ["pc-q35-8.2"], "in_use": "pc-q35-8.2"}),
        machines(["pc-q35-8.2", "pc-q35-9.2"]), ACCEPT,
    ),
    (
        "qemu_machine", "qemu_machine",
        machines({"values": ["pc-q35-9.2"], "in_use": "pc-q35-9.2"}),
        machines(["pc-q35-8.2"]), REJECT,
    ),
    (
        "qemu_machine", "qemu_machine", machines(["pc-q35-8.2"]), machines(["pc-q35-8.2"]),
        UNKNOWN,
    ),
    *(
        (
            "vfio_pci", "vfio_pci", {"vf_driver": "mlx5_vfio_pci", "vf_driver_migrates": "1"},
            {"vf_driver": driver, "vf_driver_migrates": migrates}, outcome,
        )
        for driver, migrates, outcome in (
            ("mlx5_vfio_pci", "1", ACCEPT),
            ("pds_vfio_pci", "1", REJECT),
            ("vfio_pci", "0", REJECT),
        )
    ),
    ("xe_vf", "xe_vf", xe(), xe(), ACCEPT),
    ("xe_vf", "xe_vf", xe(), xe(product_id="b080"), REJECT),
    ("xe_vf", "xe_vf", xe(), xe(revision="04"), REJECT),
    # Numbers, not text.
    ("libvirt", "libvirt", libvirt("10.5.0"), libvirt("10.4.0"), REJECT),
    ("libvirt", "libvirt", libvirt("10.4.0"), libvirt("10.10.0"), ACCEPT),
    ("qemu", "qemu", qemu("9.2.4"), qemu("8.2.10"), REJECT),
    ("qemu", "qemu", qemu("8.2.10"), qemu("9.2.4"), ACCEPT),
    ("nova_minima", "nova_minima", minima("10.0.0", "8.2.2"), minima("10.0.0", "8.2.2"), ACCEPT),
    ("nova_minima", "nova_minima", minima("10.0.0", "8.2.2"), minima("8.0.0", "6.2.0"), REJECT),
    ("nova_minima", "nova_minima", minima("8.0.0", "6.2.0"), minima("10.0.0", "8.2.2"), REJECT),
]  # fmt: skip


@pytest.mark.parametrize(("pack", "name", "source", "destination", "outcome"), DECISIONS)
def test_decisions(pack, name, source, destination, outcome):
    family = family_of(pack, name)
    need = family.offer(source).freeze()
    assert family.offer(destination).judge(need).outcome is outcome


def test_every_family_is_decided():
    assert {name for _, name, *_ in DECISIONS} == catalog_of(*NAMES).families.keys()


# --- what is known not to work -------------------------------------------------------------------

#: By entry: what guests were started on and where they go, some that are refused and some that
#: are not.
KNOWN_BAD = {
    "qemu-s390-css-9.1": (
        [("9.0.2", "9.1.0"), ("9.0.2", "9.1.1"), ("8.2.2", "9.1.1")],
        [("9.0.2", "9.1.2"), ("9.0.2", "9.2.0"), ("9.1.1", "9.1.0"), ("9.0.2", "9.0.2")],
        {"architecture": "s390x"},
    ),
    "qemu-virtio-gpu-9.0.0": (
        [("8.2.2", "9.0.0"), ("6.2.0", "9.0.0")],
        [("8.2.2", "9.0.1"), ("9.0.0", "9.0.0"), ("9.1.0", "9.0.0"), ("8.2.2", "8.2.10")],
        {},
    ),
    "qemu-virtio-gpu-from-9.0.0": (
        [("9.0.0", "8.2.2"), ("9.0.0", "8.2.10")],
        [("9.0.0", "9.0.1"), ("9.0.1", "8.2.2"), ("8.2.2", "8.2.0")],
        {},
    ),
    "qemu-virtio-rng-7.2.0": (
        [("7.1.0", "7.2.0"), ("6.2.0", "7.2.0"), ("7.2.1", "7.2.0"), ("8.0.0", "7.2.0")],
        [("7.1.0", "7.2.1"), ("7.1.0", "8.0.0"), ("7.2.0", "7.2.0"), ("7.2.11", "6.2.0")],
        {},
    ),
    "qemu-virtio-rng-from-7.2.0": (
        [("7.2.0", "7.1.0"), ("7.2.0", "7.2.1"), ("7.2.0", "9.1.0")],
        [("7.2.0", "7.2.0"), ("7.2.1", "7.1.0"), ("7.1.0", "6.2.0")],
        {},
    ),
    "qemu-pcie-unc-mask-from-8.0.0": (
        [("8.0.0", "7.2.0"), ("8.0.0", "8.0.1"), ("8.0.0", "9.1.0")],
        [("8.0.0", "8.0.0"), ("7.2.1", "8.0.0"), ("8.0.1", "8.0.0"), ("8.0.1", "7.2.1")],
        {},
    ),
}


def entries():
    for name in NAMES:
        for family in catalog_of(name).families.values():
            for one in family.family.known_bad.entries:
                yield family, one


def test_every_entry_has_a_test_and_a_source():
    found = {one.name: one for _, one in entries()}
    assert found.keys() == KNOWN_BAD.keys()
    for one in found.values():
        assert one.url.startswith("https://") and one.message


@pytest.mark.parametrize("name", KNOWN_BAD)
def test_known_bad(name):
    """Each refuses its pairs alone, one way, and says so by its name."""
    bad, fine, others = KNOWN_BAD[name]
    ((family, entry),) = ((one, found) for one, found in entries() if found.name == name)
    # What other entries are about, the guest has not.
    others = {**dict.fromkeys({*STARTED_ON} - {entry.need}), **others}
    for pairs, expected in ((bad, REJECT), (fine, ACCEPT)):
        for started, there in pairs:
            origin = {entry.need: frozenset([started])}
            offer = family.family.offer({**qemu(there), **others})
            verdict = offer.judge(offer.freeze_used(origin, slot="host:qemu"))
            assert verdict.outcome is expected, (started, there, str(verdict))
            if expected is REJECT:
                assert f"{name}: {entry.message}" in verdict.reasons[0].detail


def test_guests_of_another_architecture_are_not_concerned():
    family = family_of("qemu", "qemu")
    for architecture, outcome in (("x86_64", ACCEPT), ("s390x", REJECT), (None, UNKNOWN)):
        offer = family.offer(qemu("9.1.1", architecture))
        need = offer.freeze_used({"s390_css": frozenset(["9.0.2"])}, slot="host:qemu")
        assert offer.judge(need).outcome is outcome


# --- what guests use -----------------------------------------------------------------------------

#: For each row of a table: domains that it finds, and some like it that it does not.
MDEV = "<devices><hostdev mode='subsystem' type='mdev' model='vfio-pci'/></devices>"
VARIANT = "<devices><hostdev mode='subsystem' type='pci' managed='no'/></devices>"
MANAGED = "<devices><hostdev mode='subsystem' type='pci' managed='yes'/></devices>"
IGB = "<devices><interface><model type='igb'/></interface></devices>"
VIRTIO = "<devices><interface><model type='virtio'/></interface></devices>"
SOUND = "<devices><sound model='virtio'/></devices>"
IOMMU = "<devices><iommu model='intel'><driver intremap='on'/></iommu></devices>"
ICH9 = "<devices><sound model='ich9'/></devices>"
S390 = "<os><type arch='s390x' machine='s390-ccw-virtio-9.0'>hvm</type></os>"
VIRTIO_GPU = "<devices><video><model type='virtio' heads='1'/></video></devices>"
RNG = "<devices><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng></devices>"
PORT = "<devices><controller type='pci' index='1' model='pcie-root-port'/></devices>"
VGA = "<devices><video><model type='vga'/></video></devices>"


def machine(name):
    return f"<os><type arch='x86_64' machine='{name}'>hvm</type></os>"


def both(one, other):
    return one.replace("</devices>", "") + other.replace("<devices>", "")


#: What else is needed of a host by a guest that needs this.
BESIDE = {
    "several_devices": {"mdev_migration", "variant_migration"},
    "behind_viommu": {"mdev_migration"},
}
USES = [
    (
        "qemu_machine", "machine_types", "pc-q35-8.2",
        ["<os><type machine='pc-q35-8.2'>hvm</type></os>"],
        ["", "<os><type>hvm</type></os>"],
    ),
    ("qemu", "mdev_migration", "met", [MDEV], ["", MANAGED, VARIANT]),
    ("qemu", "variant_migration", "met", [VARIANT], ["", MANAGED, MDEV]),
    (
        "qemu", "several_devices", "met", [both(MDEV, VARIANT)],
        ["", MDEV, VARIANT, both(MDEV, MANAGED), both(MANAGED, MANAGED)],
    ),
    (
        "qemu", "behind_viommu", "met", [both(MDEV, IOMMU)],
        ["", MDEV, IOMMU, VARIANT, both(MANAGED, IOMMU)],
    ),
    ("qemu", "qemu_version", "8.0.0", [IGB], ["", VIRTIO]),
    ("qemu", "qemu_version", "8.2.0", [SOUND], [ICH9]),
    # The QEMU that it was started on.
    ("qemu", "s390_css", "8.2.2", [S390], ["", "<os><type arch='x86_64'>hvm</type></os>"]),
    (
        "qemu", "virtio_gpu", "8.2.2",
        [VIRTIO_GPU, machine("pc-q35-8.2") + VIRTIO_GPU, machine("pc-q35-noble") + VIRTIO_GPU],
        ["", VIRTIO, VGA] + [
            machine(name) + VIRTIO_GPU for name in ("pc-q35-rhel9.4.0", "virt-rhel9.4.0")
        ],
    ),
    (
        "qemu", "virtio_rng", "8.2.2",
        [machine(name) + RNG for name in ("pc-i440fx-7.1", "pc-q35-2.12", "virt-7.0")],
        [machine("pc-q35-7.1"), RNG] + [
            machine(name) + RNG
            for name in (
                *("pc-q35-7.2", "pc-q35-10.1", "pc-i440fx-9.0", "pc-q35-rhel9.2.0"),
                *("pc-i440fx-jammy", "s390-ccw-virtio-7.1"),
            )
        ],
    ),
    (
        "qemu", "pcie_unc_mask", "8.2.2",
        [machine(name) + PORT for name in ("pc-q35-7.2", "pc-q35-6.2", "virt-7.2")],
        [
            machine("pc-q35-7.2"), PORT, machine("pc-q35-8.0") + PORT, machine("virt-10.1") + PORT,
            machine("pc-q35-rhel8.6.0") + PORT, machine("pc-i440fx-7.2") + VIRTIO,
        ],
    ),
    ("libvirt", "mdev_migration", "met", [MDEV], ["", MANAGED, VARIANT]),
    ("libvirt", "variant_migration", "met", [VARIANT], ["", MANAGED, MDEV]),
    (
        "libvirt", "libvirt_version", "8.2.0",
        ["<memoryBacking><allocation mode='immediate' threads='8'/></memoryBacking>"],
        ["<memoryBacking><allocation mode='immediate'/></memoryBacking>"],
    ),
    (
        "libvirt", "memory_source", "file",
        ["<memoryBacking><source type='file'/></memoryBacking>"],
        ["", "<memoryBacking><source type='memfd'/></memoryBacking>"],
    ),
    (
        "libvirt", "libvirt_version", "8.3.0",
        ["<devices><iommu model='virtio'/></devices>"],
        ["<devices><iommu model='intel'/></devices>"],
    ),
    (
        "libvirt", "libvirt_version", "8.6.0",
        ["<os><loader stateless='yes'>/x.fd</loader></os>"],
        ["<os><loader stateless='no'>/x.fd</loader></os>"],
    ),
    (
        "libvirt", "libvirt_version", "8.7.0",
        ["<cpu><maxphysaddr mode='passthrough'/></cpu>"],
        ["<cpu mode='host-passthrough'/>"],
    ),
    ("libvirt", "libvirt_version", "9.3.0", [IGB], ["", VIRTIO]),
    ("libvirt", "libvirt_version", "10.4.0", [SOUND], [ICH9]),
]  # fmt: skip
HYPERVISOR = {
    "machine_types": ["pc-q35-8.1", "pc-q35-8.2"],
    **qemu("8.2.2"),
    **libvirt("10.4.0"),
    **minima("10.4.0", "8.2.2"),
}


@pytest.mark.parametrize(("name", "attribute", "value", "using", "others"), USES)
def test_uses(name, attribute, value, using, others):
    family = catalog_of(name).families[name]
    offer = family.family.offer(HYPERVISOR)

    def needed(content):
        domain = xpaths.parse(f"<domain type='kvm'>{content}</domain>")
        taken = uses.used(family.needs, offer, HYPERVISOR, lambda path: xpaths.find(path, domain))
        return offer.freeze_used(taken)

    for content in using:
        values = dict(needed(content).values)
        assert values.pop(attribute) == {value}
        assert {name for name in values if values[name]} == BESIDE.get(attribute, set())
        assert offer.judge(needed(content)).outcome is ACCEPT
    for content in others:
        assert not dict(needed(content).values)[attribute]


def test_vfio_devices_behind_an_iommu_of_the_guest():
    """QEMU blocks their migration before 11.0, at both ends."""
    family = catalog_of("qemu").families["qemu"]
    domain = xpaths.parse(f"<domain>{both(VARIANT, IOMMU)}</domain>")
    needs = {}
    for version in ("10.2.0", "11.0.0"):
        facts = {**qemu(version), "behind_viommu": version}
        offer = family.family.offer(facts)
        taken = uses.used(family.needs, offer, facts, lambda path: xpaths.find(path, domain))
        needs[version] = offer, offer.freeze_used(taken)
    outcomes = {
        (started, there): offer.judge(need).outcome
        for started, (_, need) in needs.items()
        for there, (offer, _) in needs.items()
    }
    assert outcomes.pop(("11.0.0", "11.0.0")) is ACCEPT
    assert {*outcomes.values()} == {REJECT}


@pytest.mark.parametrize("content", [both(MDEV, MDEV), both(VARIANT, VARIANT)])
def test_several_vfio_devices(content):
    """QEMU blocks their migration before 8.2.0, however good it is for one."""
    family = catalog_of("qemu").families["qemu"]

    def need_on(version):
        facts = qemu(version)
        domain = xpaths.parse(f"<domain>{content}</domain>")
        offer = family.family.offer(facts)
        find = functools.partial(xpaths.find, root=domain)
        return offer.freeze_used(uses.used(family.needs, offer, facts, find)), offer

    need, newer = need_on("8.2.2")
    older_need, older = need_on("8.1.5")
    assert newer.judge(need).outcome is ACCEPT
    assert older.judge(need).outcome is REJECT
    assert newer.judge(older_need).outcome is REJECT


@pytest.mark.parametrize("content", [MDEV, VARIANT])
def test_what_nova_demands_of_both_hosts(content):
    """The rows of nova_minima, which ask for two attributes each."""
    family = catalog_of("nova_minima").families["nova_minima"]

    def need_on(libvirt_version, qemu_version):
        facts = minima(libvirt_version, qemu_version)
        domain = xpaths.parse(f"<domain>{content}</domain>")
        offer = family.family.offer(facts)
        find = functools.partial(xpaths.find, root=domain)
        return offer.freeze_used(uses.used(family.needs, offer, facts, find)), offer

    need, noble = need_on("10.0.0", "8.2.2")
    _, jammy = need_on("8.0.0", "6.2.0")
    mixed, _ = need_on("8.6.0", "6.2.0")
    assert noble.judge(need).outcome is ACCEPT
    assert jammy.judge(need).outcome is REJECT
    # A guest whose own host is too old can go nowhere, until that is upgraded.
    assert noble.judge(mixed).outcome is REJECT


def test_nova_says_the_same():
    """What the packs state is what the Nova that is installed here states."""
    driver = (
        pathlib.Path(importlib.util.find_spec("nova").origin).parent / "virt/libvirt/driver.py"
    )
    stated = dict(
        re.findall(r"^(MIN_\w+) = \((\d+, \d+, \d+)\)$", driver.read_text(), re.MULTILINE)
    )
    named = set()
    for pack in ("libvirt", "qemu", "nova_minima"):
        text = (packs.FOLDER / f"{pack}.yaml").read_text()
        for name in re.findall(r"MIN_\w+", text):
            assert stated[name].replace(", ", ".") in text, name
            named.add(name)
    assert len(named) > 8


def test_every_row_has_a_test():
    packs_of_hosts = catalog_of("libvirt", "qemu", "qemu_machine").families.values()
    rows = {
        (one.name, attribute, value)
        for one in packs_of_hosts
        for use in one.needs
        for attribute, values in (
            use.requires or ({use.own: ["8.2.2"]} if use.own else {use.takes: ["pc-q35-8.2"]})
        ).items()
        for value in values
    }
    assert rows == {tested[:3] for tested in USES}
    assert len(USES) == sum(len(one.needs) for one in packs_of_hosts)
    assert all(use.because and use.source for one in packs_of_hosts for use in one.needs)


# --- rules of an operator's own, as documented --------------------------------------------------

OWN = DOCS / "_examples/own-rules.yaml"


@pytest.mark.parametrize(
    ("need", "offer", "outcome"),
    [
        # Masks 0b011 to 0b111, and back.
        ({"capabilities": ["0", "1"]}, {"capabilities": ["0", "1", "2"]}, ACCEPT),
        ({"capabilities": ["0", "1", "2"]}, {"capabilities": ["0", "1"]}, REJECT),
        ({"capabilities": "0x3"}, {"capabilities": "0x7"}, ACCEPT),
        ({"capabilities": "0x7"}, {"capabilities": "0x3"}, REJECT),
        ({"rate": 200}, {"rate": 200}, ACCEPT),
        ({"rate": 200}, {"rate": 100}, REJECT),
        ({}, {"rate": None}, UNKNOWN),
    ],
)
def test_own_rules_for_qat(need, offer, outcome):
    family = catalog_of("qat_gen4_vf", files=(OWN,)).families["qat_4xxx_vf"].family
    facts = {"cfg_services": "dc", "capabilities": ["0"], "rate": 1}
    frozen = family.offer({**facts, **need}).freeze()
    assert family.offer({**facts, **need, **offer}).judge(frozen).outcome is outcome


@pytest.mark.parametrize(
    ("need", "offer", "outcome"),
    [
        ("0x150008000", "0x10150008000", ACCEPT),
        ("0x10150008000", "0x10150008000", ACCEPT),
        ("0x10150008000", "0x150008000", REJECT),
        ("0x10150008000", None, UNKNOWN),
    ],
)
def test_own_rules_for_vhost_net(need, offer, outcome):
    family = catalog_of("mtty", files=(OWN,)).families["vhost_net"]
    here = family.family.offer({"vhost_net_features": need})
    domain = xpaths.parse(f"<domain>{VIRTIO}</domain>")
    find = functools.partial(xpaths.find, root=domain)
    frozen = here.freeze_used(uses.used(family.needs, here, {}, find))
    there = family.family.offer({"vhost_net_features": offer})
    assert there.judge(frozen).outcome is outcome


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        ("28.39.1002", "28.41.1000", ACCEPT),
        ("28.41.1000", "28.39.1002", REJECT),
        ("22.41.1000", "28.41.1000", REJECT),
    ],
)
def test_own_rules_for_mlx5(old, new, outcome):
    family = catalog_of("mlx5_vf", files=(OWN,)).families["mlx5_vf"].family
    need = family.offer({"fw_psid": "MT_1", "fw_version": old}).freeze()
    offer = family.offer({"fw_psid": "MT_1", "fw_version": new})
    assert offer.judge(need).outcome is outcome


# --- the same -----------------------------------------------------------------------------------


def test_firmware_without_a_published_rule_says_why_not():
    family = family_of("pds_vf", "pds_vf")
    need = family.offer({"fw": "1.60.0-73"}).freeze()
    (reason,) = family.offer({"fw": "1.60.0-74"}).judge(need).reasons
    assert str(reason) == (
        "pds_vf.fw: needs 1.60.0-73, offered 1.60.0-74, another one, and no rule is published for "
        "that [same, not-the-same; give the host the same one, or state a rule in the catalog]"
    )


def test_a_need_that_another_rule_recorded_holds(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text((packs.FOLDER / "pds_vf.yaml").read_text().replace("fw: same", "fw: equal"))
    recorded = catalog_of("pds_vf", files=(own,)).families["pds_vf"].family
    need = recorded.offer({"fw": "1.60.0-73"}).freeze()
    assert family_of("pds_vf", "pds_vf").offer({"fw": "1.60.0-73"}).judge(need).outcome is ACCEPT


# --- NVIDIA's table -----------------------------------------------------------------------------


def test_nvidia_spans_are_in_order_and_apart():
    for one, other in itertools.pairwise(nvidia.spans()):
        assert one.first in one
        assert one.last in one
        assert one.last not in other
        assert other.first not in one


@pytest.mark.parametrize(
    ("release", "lowest", "highest"),
    [
        ("525.147.05", "7.1", "10.1"),
        ("535.129.03", "7.1", "12.1"),
        ("545.29.06", "7.1", "13.1"),
        ("550.54.14", "7.1", "14.1"),
        ("555.58", "7.1", "15.1"),
        ("560.35.03", "7.1", "16.1"),
        ("565.77", "7.1", "17.1"),
        ("570.86.15", "7.1", "18.1"),
        ("570.133.20", "12.1", "18.2"),
        ("575.57.08", "7.1", "19.1"),
        ("580.65.06", "12.1", "1A.1"),
        ("595.45.04", "18.1", "1C.1"),
    ],
)
def test_nvidia_releases(release, lowest, highest):
    found = nvidia.published_range(release)
    assert found.attribute == {"min": lowest, "max": highest}
    assert not found.assumed


@pytest.mark.parametrize(
    ("release", "lowest", "highest", "beside"),
    [
        # Those of vGPU hosts, as operators name them.
        ("550.163.02", "7.1", "14.1", "what 550.163.01 has"),
        ("580.65.05", "12.1", "1A.1", "what 580.65.06 has"),
        ("580.159.01", "12.1", "1A.1", "what 580.142 has"),
        ("595.71.03", "18.1", "1C.1", "what 595.45.04 has"),
        # Between two that differ, what both have.
        ("570.100.1", "12.1", "18.1", "what 570.86.16 and 570.123.01 have"),
        ("570.124.03", "12.1", "18.1", "what 570.123.19 and 570.124.04 have"),
    ],
)
def test_what_is_assumed_of_releases_beside_published_ones(release, lowest, highest, beside):
    found = nvidia.published_range(release)
    assert found.attribute == {"min": lowest, "max": highest}
    assert found.assumed.endswith(beside)


@pytest.mark.parametrize("release", ["515.65.01", "540.1", "999.1", "550", "banana"])
def test_nvidia_releases_that_are_not_published(release):
    with pytest.raises(ValueError, match="NVIDIA's driver"):
        nvidia.published_range(release)
