# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Several sources read and merged, as nova-compute does it.

Trees of sysfs and messages of devlink are in the shape of the kernel's, see
``tests/unit/sources``; answers of NVML are made up.
"""

from __future__ import annotations

import errno
import logging

import pytest
import yaml

from nova_devcompat.catalog import CatalogKeeper
from nova_devcompat.compat.verdict import Code
from nova_devcompat.host.inventory import HostReader
from nova_devcompat.kit.plugins import PluginError
from nova_devcompat.sources import (
    Device,
    Listing,
    Source,
    SourceError,
    SourceOptions,
    registered,
)
from nova_devcompat.sources.devlink import DevlinkSource
from nova_devcompat.sources.static import StaticSource
from nova_devcompat.sources.sysfs import SysfsSource
from tests.unit.sources import devlink_messages, sysfs_trees

FIRST, SECOND = "0000:81:00.0", "0000:85:00.0"
GPU = "0000:c1:00.0"

MLX5 = {
    "match": {"vendor_id": "15b3", "product_id": "101e", "vf_driver": "mlx5_vfio_pci"},
    "source": "devlink",
    "attributes": {"caps": {"source": "sysfs", "path": "features/cap_*"}},
    "rules": {"fw_version": "semver", "fw_psid": "equal", "caps": "superset"},
}
NVIDIA = {
    "match": {"vendor_id": "10de", "mdev_type": "nvidia-*"},
    "source": "sysfs",
    "attributes": {"vgpu_version": "nvml", "ecc_mode": "nvml"},
    "rules": {
        "driver_version": {"kind": "ordered", "ordering": "numeric"},
        "vgpu_version": {"kind": "range", "base": 16},
        "ecc_mode": "equal",
    },
}


class Nvml(Source):
    """Answers what it is told to."""

    name = "nvml"

    def __init__(self, options):
        super().__init__(options)
        self.reads = 0
        self.error = None
        self.facts = {"vgpu_version": {"min": "7.1", "max": "1A.1"}, "ecc_mode": "enabled"}
        self.problems = {}

    def check(self):
        if self.error is not None:
            raise self.error

    def read(self, host):
        self.reads += 1
        if self.error is not None:
            raise self.error
        # In another spelling than the kernel's.
        return [Device(GPU.upper(), dict(self.facts), problems=dict(self.problems))]


class Host:
    """A host with two NICs and a GPU, and its HostReader."""

    def __init__(self, folder, families):
        self.tree = sysfs_trees.server(folder / "sys")
        for address in (FIRST, SECOND):
            for name in ("migration", "p2p"):
                self.tree.write(f"{self.tree.folder(address)}/features/cap_{name}", f"{name}\n")
        self.kernel = devlink_messages.Kernel(
            {f"pci/{FIRST}": devlink_messages.mlx5(), f"pci/{SECOND}": devlink_messages.mlx5()}
        )
        self.catalog = folder / "catalog.yaml"
        self.loaded = []
        self.nvml = Nvml(SourceOptions())
        self.unusable = set()
        self.inventory_file = folder / "inventory.yaml"
        self.set(families)
        self.inventory = HostReader(
            CatalogKeeper([self.catalog], min_interval=0, registered=registered()),
            SourceOptions(inventory=self.inventory_file),
            load=self.load,
        )

    def set(self, families):
        content = {"meta": {"schema_version": "1.0"}, "families": families}
        self.catalog.write_text(yaml.safe_dump(content))

    def load(self, name, options):
        self.loaded.append(name)
        if name in self.unusable:
            raise PluginError(f"{name!r} cannot be imported")
        match name:
            case "sysfs":
                return SysfsSource(options, root=self.tree.root)
            case "devlink":
                return DevlinkSource(options, connect=self.kernel.connect, root=self.tree.root)
            case "static":
                return StaticSource(options)
        assert name == "nvml"
        return self.nvml

    def read(self):
        return {device.address: device for device in self.inventory.read("cmp1")}

    def devices(self):
        return self.inventory.read("cmp1")

    def survey(self):
        found = self.inventory.survey("cmp1")
        return {device.address: device for device in found.devices}


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path, {"mlx5_vf": MLX5, "nvidia_vgpu": NVIDIA})


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "nova_devcompat.kit.once")

    def take():
        found = [
            (record.levelname, record.getMessage())
            for record in caplog.records
            if record.name == "nova_devcompat.kit.once"
        ]
        caplog.clear()
        return found

    return take


def atoms(device):
    return {str(atom) for atom in device.offer.atoms()}


# What is read.


def test_devices_of_several_sources(host, log):
    devices = host.read()
    assert {address: device.family for address, device in devices.items()} == {
        FIRST: "mlx5_vf",
        SECOND: "mlx5_vf",
        GPU: "nvidia_vgpu",
    }
    assert atoms(devices[FIRST]) == {
        "mlx5_vf.fw_version=22.39",
        "mlx5_vf.fw_psid=MT_0000000359",
        "mlx5_vf.caps=migration",
        "mlx5_vf.caps=p2p",
    }
    assert devices[GPU].offer.parsed.keys() == {"driver_version", "vgpu_version", "ecc_mode"}
    assert not devices[FIRST].offer.unknown and not devices[GPU].offer.unknown
    assert log() == []
    nic = host.survey()[FIRST]
    assert nic.origins["caps"] == nic.origins["vf_driver"] == "sysfs"
    assert nic.origins["fw_version"] == nic.origins["driver"] == "devlink"
    assert nic.attributes["vf_driver"] == ["mlx5_vfio_pci"]


def test_each_source_is_read_once_a_cycle(host):
    host.read()
    before = len(host.kernel.requests), host.nvml.reads
    host.read()
    assert (len(host.kernel.requests), host.nvml.reads) == (before[0] + 3, before[1] + 1)
    assert sorted(host.loaded) == ["devlink", "nvml", "sysfs"]


def test_sources_that_no_family_needs_are_not_read(host):
    host.set({"mlx5_vf": MLX5})
    assert host.read().keys() == {FIRST, SECOND}
    assert host.nvml.reads == 0


def test_another_catalog_reads_other_files(host, log):
    host.read()
    other = {"caps": {"source": "sysfs", "path": "qat/num_rp?"}}
    host.set({"mlx5_vf": {**MLX5, "attributes": other}})
    device = host.read()[FIRST]
    assert device.offer.unknown["caps"] == (Code.OFFER_MISSING, "")
    (_, text) = log()[0]
    assert text.endswith("source sysfs finds no file qat/num_rp? (offer-missing)")
    host.tree.write(f"{host.tree.folder(FIRST)}/qat/num_rps", "64\n")
    assert "mlx5_vf.caps=64" in atoms(host.read()[FIRST])
    # Only the source that reads files is made anew.
    assert host.loaded.count("sysfs") == 2
    assert host.loaded.count("devlink") == 1


def test_the_static_inventory_stands_in(host):
    host.set({"mlx5_vf": {**MLX5, "source": "static"}})
    attributes = {"fw_version": "28.39", "fw_psid": "X", "caps": ["p2p"]}
    devices = [{"address": "81:00.0", "family": "mlx5_vf", "attributes": attributes}]
    host.inventory_file.write_text(
        yaml.safe_dump(
            {"meta": {"schema_version": "1.0"}, "hosts": {"cmp1": {"devices": devices}}}
        )
    )
    devices = host.read()
    assert devices.keys() == {FIRST}
    assert "mlx5_vf.fw_version=28.39" in atoms(devices[FIRST])
    assert host.loaded == ["static"]


# What goes wrong.


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (SourceError("it needs a driver"), "it needs a driver"),
        (KeyError("x"), "it raised KeyError: 'x'; tell those who wrote it"),
    ],
)
def test_a_failing_source_makes_its_attributes_unknown(host, log, error, why):
    healthy = host.read()
    host.nvml.error = error
    for _ in range(3):
        devices = host.read()
        assert devices.keys() == healthy.keys()
        assert atoms(devices[FIRST]) == atoms(healthy[FIRST])
        offer = devices[GPU].offer
        assert offer.parsed.keys() == {"driver_version"}
        assert offer.unknown == dict.fromkeys(
            ("vgpu_version", "ecc_mode"),
            (Code.OFFER_MISSING, f"source nvml cannot be used: {why}"),
        )
    assert log() == [("WARNING", f"cmp1: source nvml cannot be used until this is mended: {why}")]
    host.nvml.error = None
    assert not host.read()[GPU].offer.unknown
    assert log() == [("INFO", "cmp1: source nvml can be used again, or is gone")]


def test_a_failing_primary_source(host, log):
    host.read()
    host.kernel.refuses = 1
    for _ in range(3):
        # Another source lists them: they are devices of which nothing is known.
        assert host.read().keys() == {FIRST, SECOND, GPU}
        assert "fw_version" in host.read()[FIRST].offer.unknown
    ((level, text),) = log()
    assert level == "WARNING" and text.startswith("cmp1: source devlink cannot be used until")
    host.kernel.refuses = 0
    assert host.read().keys() == {FIRST, SECOND, GPU}


def test_a_plugin_that_cannot_be_loaded(host, log):
    host.unusable.add("nvml")
    host.inventory.check()
    for _ in range(2):
        assert host.read()[GPU].offer.unknown.keys() == {"vgpu_version", "ecc_mode"}
    why = "'nvml' cannot be imported"
    assert log() == [
        ("WARNING", f"This host: source nvml cannot be used until this is mended: {why}")
    ]
    host.unusable.clear()
    assert not host.read()[GPU].offer.unknown


def test_a_library_that_is_missing_here_stops_nothing(host, log):
    host.nvml.error = SourceError("source 'nvml' needs nvidia-ml-py")
    host.inventory.check()
    for _ in range(2):
        assert "vgpu_version" in host.read()[GPU].offer.unknown
    (told,) = log()
    assert told[0] == "WARNING" and told[1].startswith("This host: source nvml cannot be used")
    host.nvml.error = SourceError("source 'nvml' can tell nothing: no driver is loaded")
    host.read()
    (told,) = log()
    assert told[0] == "WARNING" and "no driver is loaded" in told[1]


def test_a_static_inventory_that_is_wrong_stops_the_service(host):
    host.set({"mlx5_vf": {**MLX5, "source": "static"}})
    with pytest.raises(SourceError, match="there is no such file"):
        host.inventory.check()


def test_a_problem_of_a_device(host, log):
    host.nvml.facts.pop("ecc_mode")
    host.nvml.problems = {"ecc_mode": "NVML says Not Supported", "power": "nobody asks for it"}
    for _ in range(3):
        offer = host.read()[GPU].offer
        assert offer.unknown == {"ecc_mode": (Code.OFFER_MISSING, "NVML says Not Supported")}
        assert "vgpu_version" in offer.parsed
    assert log() == [
        (
            "WARNING",
            f"cmp1: ecc_mode of device {GPU} cannot be used until this is mended: "
            "NVML says Not Supported",
        )
    ]
    host.nvml.problems["ecc_mode"] = "NVML says GPU is lost " + "x" * 300
    (_, detail) = host.read()[GPU].offer.unknown["ecc_mode"]
    assert len(detail) == 160 and detail.startswith("NVML says GPU is lost")
    assert [level for level, _ in log()] == ["WARNING"]


def test_attributes_with_one_problem_are_told_together(host, log):
    host.nvml.facts.clear()
    host.nvml.problems = dict.fromkeys(("vgpu_version", "ecc_mode"), "NVML crashed")
    host.read()
    assert log() == [
        (
            "WARNING",
            f"cmp1: ecc_mode, vgpu_version of device {GPU} cannot be used until this is mended: "
            "NVML crashed",
        )
    ]


def test_an_attribute_that_is_not_told_or_not_read(host, log):
    host.nvml.facts = {"vgpu_version": "seven"}
    offer = host.read()[GPU].offer
    assert offer.unknown["ecc_mode"] == (Code.OFFER_MISSING, "")
    assert offer.unknown["vgpu_version"][0] == Code.OFFER_UNREADABLE
    texts = sorted(text for _, text in log())
    assert len(texts) == 2
    assert f"ecc_mode of device {GPU}" in texts[0]
    assert texts[0].endswith("mended: source nvml does not tell it (offer-missing)")
    assert "'seven'" in texts[1]


def test_a_device_that_a_source_does_not_list(host):
    host.nvml.read = lambda name: []
    offer = host.read()[GPU].offer
    assert offer.unknown["ecc_mode"] == (
        Code.OFFER_MISSING,
        f"source nvml does not list {GPU}",
    )


def test_a_file_that_cannot_be_read_is_a_problem_of_its_device_only(host, log):
    host.tree.write(f"{host.tree.folder(FIRST)}/features/cap_p2p", b"\xff\xfe\0binary")
    devices = host.read()
    assert devices[FIRST].offer.unknown.keys() == {"caps"}
    assert "is not text but binary" in devices[FIRST].offer.unknown["caps"][1]
    assert not devices[SECOND].offer.unknown
    ((level, text),) = log()
    assert level == "WARNING" and f"caps of device {FIRST} cannot be used" in text


def test_what_would_tell_a_devices_family(host, log):
    host.set({"nvidia_vgpu": NVIDIA})
    host.tree.write(f"{host.tree.folder(GPU)}/vendor", "garbage\n")
    host.tree.write(f"{host.tree.folder(SECOND)}/revision", "garbage\n")
    for _ in range(2):
        assert host.read() == {}
    ((level, text),) = log()
    assert level == "WARNING" and f"vendor_id of device {GPU} cannot be used" in text
    assert "not up to 4 hexadecimal digits" in text


def test_a_device_of_two_families(host, log):
    other = {**NVIDIA, "match": {"driver": "nvidia"}}
    host.set({"nvidia_vgpu": NVIDIA, "gpu": other, "mlx5_vf": MLX5})
    for _ in range(2):
        assert host.read().keys() == {FIRST, SECOND, GPU}
    doubtful = host.read()[GPU].offer
    assert doubtful.unknown.keys() == doubtful.family.rules.keys()
    assert not doubtful.parsed
    ((level, text),) = log()
    assert level == "WARNING"
    assert f"cmp1: device {GPU} cannot be used" in text
    assert "matches several families: gpu, nvidia_vgpu" in text
    assert host.inventory.survey("cmp1").left_out.keys() == {GPU}


def test_a_family_that_matches_nothing_is_told_once(host, caplog):
    caplog.set_level("INFO")
    absent = {**MLX5, "match": {"vendor_id": "15b3", "product_id": "1021"}}
    host.set({"nvidia_vgpu": NVIDIA, "absent": absent})
    for _ in range(3):
        host.read()
    told = [record.getMessage() for record in caplog.records if "belongs to" in record.message]
    assert told == ["cmp1: no device belongs to these families: absent"]
    assert host.inventory.survey("cmp1").unmatched == ("absent",)


STRANGER = "0000:01:00.0"


def with_stranger(host):
    """A device of a vendor that no family matches."""
    host.tree.pci(STRANGER, vendor="8086", device="37c8", subsystem=("8086", "0000"))


def test_devices_that_belong_to_no_family(host):
    with_stranger(host)
    devices = host.devices()
    assert devices.fully_read
    assert devices.is_of_none(STRANGER)
    assert devices.is_of_none("0000:01:00.1", STRANGER)
    assert devices.is_of_none("0000:77:00.0"), "no source lists it, and all have answered"
    assert not devices.is_of_none(GPU)
    assert not devices.is_of_none("0000:81:00.2", FIRST)


def test_a_silent_source_leaves_open_what_it_could_tell_only(host):
    """Another vendor's device is of none all the same."""
    with_stranger(host)
    host.kernel.refuses = 1  # devlink's, which lists those of MLX5
    devices = host.devices()
    assert not devices.fully_read
    assert devices.is_of_none(STRANGER)
    assert devices.is_of_none("0000:01:00.1", STRANGER)
    assert not devices.is_of_none(FIRST), "of none so far, for want of its primary source"
    assert not devices.is_of_none("0000:77:00.0"), "it may be one that was not listed"


def test_a_device_that_its_primary_source_does_not_list_is_not_of_none(host):
    rules = {"driver_version": "equal"}
    elsewhere = {"match": MLX5["match"], "source": "nvml", "rules": rules}
    host.set({"mlx5_vf": elsewhere, "nvidia_vgpu": NVIDIA})
    devices = host.devices()
    assert devices.find(FIRST).offer.unknown
    assert not devices.is_of_none(FIRST)
    assert not devices.is_of_none(GPU), "it is of a family"


#: As operators write it, with nothing that only sysfs tells.
PLAIN = {
    "match": {"vendor_id": "15b3", "product_id": "101e"},
    "source": "devlink",
    "rules": {"fw_version": "semver"},
}


def test_a_device_that_no_source_of_its_family_lists(host):
    """devlink has no instances in a network namespace of nova-compute's own."""
    host.set({"mlx5_vf": PLAIN})
    assert host.read().keys() == {FIRST, SECOND}
    known = host.devices().find(FIRST).offer
    host.kernel.devices = {}
    devices = host.devices()
    assert {device.address for device in devices} == {FIRST, SECOND}
    assert devices.find(FIRST).offer.unknown == {
        "fw_version": (Code.OFFER_MISSING, f"source devlink does not list {FIRST}")
    }
    assert not devices.is_of_none(FIRST)
    assert not devices.is_of_none("0000:81:00.2", FIRST)
    # Nor is it taken for something else.
    assert devices.is_of_none(GPU) and known.parsed
    # An inventory has all there is of its families.
    host.set({"mlx5_vf": PLAIN, "gpu": {**NVIDIA, "source": "static", "attributes": {}}})
    host.inventory_file.write_text(
        yaml.safe_dump({"meta": {"schema_version": "1.0"}, "hosts": {"cmp1": {"devices": []}}})
    )
    devices = host.devices()
    assert {device.address for device in devices} == {FIRST, SECOND}
    assert devices.is_of_none(GPU)


def test_what_tells_a_devices_family_is_told_by_another_source(host):
    """devlink does not even tell the driver of a device whose firmware is dead."""
    host.set({"mlx5_vf": {**PLAIN, "match": {**PLAIN["match"], "driver": "mlx5_core"}}})
    host.kernel.failing = {f"pci/{FIRST}": errno.EOPNOTSUPP}
    devices = host.devices()
    assert devices.find(FIRST).offer.unknown.keys() == {"fw_version"}
    assert not devices.is_of_none(FIRST)
    assert not devices.find(SECOND).offer.unknown
    host.tree.bind(FIRST, None)
    devices = host.devices()
    assert devices.find(FIRST) is None
    assert devices.is_of_none(FIRST)
    host.kernel.failing = {}
    assert not host.read()[FIRST].offer.unknown


def test_a_source_that_may_not_tell_of_all_devices(host):
    of_nvml = {
        "match": {"vendor_id": "10de", "virtualization_mode": "host_vgpu"},
        "source": "nvml",
        "attributes": {"driver_srcversion": "sysfs"},
        "rules": {"ecc_mode": "equal", "driver_srcversion": "same"},
    }
    host.set({"nvidia_vgpu": of_nvml})
    with_stranger(host)
    for left_out, of_none in (({}, True), ({"GPU 0": "it is lost"}, False)):
        host.nvml.read = lambda name, why=left_out: Listing([], why)
        devices = host.devices()
        assert devices.fully_read is of_none
        assert devices.is_of_none(GPU) is of_none
        assert devices.is_of_none(STRANGER), "of another vendor"
        assert devices.is_of_none("0000:77:00.0") is of_none, "it may be the one that is missing"
    # What the source lists, it tells of.
    other = Device(GPU, {"vendor_id": "10de", "virtualization_mode": "passthrough"})
    host.nvml.read = lambda name: Listing([other], {"GPU 1": "it is lost"})
    assert host.devices().is_of_none(GPU)
    # Of a source that tells of the host alone, nothing that is assigned is missing.
    host.set(
        {
            "qemu": {
                **HOST_FAMILY,
                "source": "nvml",
                "rules": {"ecc_mode": "ordered"},
                "needs": [
                    {"xpath": "/x", "requires": {"ecc_mode": "8"}, "because": "b", "source": "s"}
                ],
            }
        }
    )
    assert host.devices().fully_read


def test_a_device_of_which_it_cannot_be_told_is_not_of_none(host):
    host.set({"nvidia_vgpu": NVIDIA})
    host.tree.write(f"{host.tree.folder(GPU)}/vendor", "garbage\n")
    devices = host.devices()
    assert not devices.fully_read
    assert not devices.is_of_none(GPU)
    assert devices.is_of_none(FIRST)


HOST_FAMILY = {
    "subject": "host",
    "match": {"component": "qemu*"},
    "source": "static",
    "rules": {"version": "ordered"},
    "needs": [
        {"xpath": "/domain", "requires": {"version": "8"}, "because": "b", "source": "s"},
    ],
}


def test_parts_of_the_host_are_no_devices(tmp_path, caplog):
    host = Host(tmp_path, {"qemu": HOST_FAMILY})

    def write(*addresses):
        listed = [
            {"address": one, "attributes": {"component": one, "version": "8.2", "more": "x"}}
            for one in addresses
        ]
        content = {"meta": {"schema_version": "1.0"}, "hosts": {"cmp1": {"devices": listed}}}
        host.inventory_file.write_text(yaml.safe_dump(content))

    write("qemu")
    found = host.inventory.read("cmp1")
    assert not len(found) and not list(found) and found.find("qemu") is None
    part = found.host["qemu"]
    assert (part.address, part.facts["more"]) == ("qemu", "x")
    # Which of several would count?
    write("qemu", "qemu-kvm")
    assert not host.inventory.read("cmp1").host
    assert "it is one of 2 that match host family qemu, which can have one" in caplog.text
