# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Functions that are devices of their own: what is read of each, published, and decided on.

The tree is in the shape of sysfs; NVML's and devlink's parts are told by a source of the test.
"""

from __future__ import annotations

import json

import pytest
import yaml

from nova_devcompat import wire
from nova_devcompat.catalog import CatalogKeeper
from nova_devcompat.compat.need import pci_slot
from nova_devcompat.compat.verdict import Code, Outcome
from nova_devcompat.host.inventory import HostReader
from nova_devcompat.sources import Device, Function, Source, SourceOptions, registered
from nova_devcompat.sources.static import StaticSource
from nova_devcompat.sources.sysfs import SysfsSource
from tests.unit.sources import sysfs_trees

GPU = sysfs_trees.RTX

RTX = {
    "match": {"vendor_id": "10de", "product_id": "2bb5"},
    "source": "sysfs",
    "attributes": {
        "vgpu_type": {"source": "sysfs", "of": "function"},
        "ecc_mode": "nvml",
    },
    "rules": {"driver_version": "equal", "vgpu_type": "equal", "ecc_mode": "equal"},
}


class Told(Source):
    """Tells what it is told to."""

    name = "nvml"
    devices: tuple[Device, ...] = ()

    def read(self, host):
        return self.devices


class Host:
    """A host with an NVIDIA GPU whose functions have types."""

    def __init__(self, folder, functions, types=(), families=None):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.tree = sysfs_trees.Tree(folder / "sys")
        self.functions = sysfs_trees.rtx(self.tree, functions, types)
        self.nvml = Told(SourceOptions())
        self.nvml.devices = (Device(GPU, {"ecc_mode": "enabled"}),)
        self.catalog = folder / "devcompat.yaml"
        self.use({"rtx": RTX} if families is None else families)
        self.reader = HostReader(
            CatalogKeeper([str(self.catalog)], min_interval=0, registered=registered()),
            SourceOptions(inventory=folder / "inventory.yaml"),
            load=self.load,
        )

    def load(self, name, options):
        if name == "sysfs":
            return SysfsSource(options, root=self.tree.root)
        return StaticSource(options) if name == "static" else self.nvml

    def use(self, families):
        self.catalog.write_text(
            yaml.safe_dump({"meta": {"schema_version": "1.0"}, "families": families})
        )

    def retype(self, index, kind):
        path = f"{self.tree.folder(self.functions[index])}/nvidia/current_vgpu_type"
        self.tree.write(path, f"{kind}\n")

    def read(self):
        devices = self.reader.read("h")
        devices._sysfs_pci = str(self.tree.root / "bus/pci/devices")
        return devices


def need_of(devices, address):
    return devices.find(address).freeze(slot=pci_slot("r"), address=address, pin=None)


def test_each_function_is_a_device(tmp_path, caplog):
    host = Host(tmp_path, 48, ["1561", "1561", "1562"])
    devices = host.read()
    assert sorted(device.address for device in devices) == sorted(host.functions)
    assert {device.parent for device in devices} == {GPU}
    assert len({id(device.offer) for device in devices}) == 3
    first, second, third, fourth = (need_of(devices, one) for one in host.functions[:4])
    assert dict(first.values) == {
        "driver_version": {"580.105.06"},
        "vgpu_type": {"1561"},
        "ecc_mode": {"enabled"},
    }
    assert first.address == host.functions[0] and first.values == second.values
    assert dict(third.values)["vgpu_type"] == {"1562"}
    assert dict(fourth.values)["vgpu_type"] == {"none"}
    # The parent is none of these; what it may give is one of each kind.
    assert devices.find(GPU) is None and not devices.is_of_none(GPU)
    kinds = devices.may_be(GPU)
    assert {dict(one.offer.freeze().values)["vgpu_type"] for one in kinds} == {
        frozenset({"1561"}),
        frozenset({"1562"}),
        frozenset({"none"}),
    }
    assert devices.may_be(host.functions[2])[0].address == host.functions[2]
    # One that has come since is of no family as far as anybody knows, which is not enough.
    late = "0001:04:1f.7"
    assert devices.find(late, GPU) is None and not devices.is_of_none(late, GPU)
    assert devices.is_named(GPU) and caplog.messages == []


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [("1561", Outcome.ACCEPT), ("1562", Outcome.REJECT), ("0", Outcome.REJECT)],
)
def test_a_guest_goes_to_a_function_of_its_type(tmp_path, kind, outcome):
    source = Host(tmp_path / "a", 48, ["1561"])
    destination = Host(tmp_path / "b", 48, [kind])
    need = need_of(source.read(), source.functions[0])
    offered = destination.read().find(destination.functions[0]).offer
    assert offered.judge(need).outcome is outcome
    # Two equal hosts take each other's guests, and a host its own.
    assert need_of(source.read(), source.functions[0]) == need
    assert source.read().find(source.functions[0]).offer.judge(need).outcome is Outcome.ACCEPT


def test_a_function_that_is_made_another_type(tmp_path):
    host = Host(tmp_path, 4, ["1561"] * 4)
    before = need_of(host.read(), host.functions[1])
    host.retype(1, 0)
    devices = host.read()
    assert devices.find(host.functions[1]).offer.judge(before).outcome is Outcome.REJECT
    assert devices.find(host.functions[2]).offer.judge(before).outcome is Outcome.ACCEPT
    host.retype(1, "what?")
    verdict = host.read().find(host.functions[1]).offer.judge(before)
    assert verdict.outcome is Outcome.UNKNOWN
    assert "not the number of a vGPU type" in verdict.reasons[0].detail


def test_facts_that_their_family_does_not_ask_for_part_nothing(tmp_path):
    params = {"source": "sysfs", "of": "function", "path": "nvidia/vgpu_params"}
    other = {
        "match": {"vendor_id": "1002"},
        "source": "sysfs",
        "attributes": {"params": params},
        "rules": {"params": "equal"},
    }
    host = Host(tmp_path, 4, ["1561"] * 4, {"rtx": RTX, "other": other})
    host.tree.write(f"{host.tree.folder(host.functions[0])}/nvidia/vgpu_params", "x=1\n")
    devices = host.read()
    assert len(devices) == 4 and len({id(device.offer) for device in devices}) == 1


def test_a_device_without_functions_is_what_is_assigned(tmp_path):
    families = {"rtx": {**RTX, "match": {"vendor_id": "10de"}}}
    host = Host(tmp_path, 0, families=families)
    t4 = "0000:c1:00.0"
    host.tree.pci(t4, vendor="10de", device="1eb8", driver="nvidia")
    host.tree.mdev_types(t4, sysfs_trees.NVIDIA_T4_TYPES)
    host.nvml.devices = (Device(t4, {"ecc_mode": "enabled"}),)
    devices = host.read()
    assert dict(need_of(devices, t4).values)["vgpu_type"] == {"mdev"}
    assert devices.find(t4).parent == ""


def test_families_of_functions_and_of_their_device(tmp_path, caplog):
    """What a function is bound to can say of which family it is."""
    driver = {"vf_driver": {"source": "sysfs", "of": "function"}}
    nic = {"vendor_id": "15b3", "product_id": "101e"}
    families = {
        "mlx5_vf": {
            "match": {**nic, "vf_driver": "mlx5_vfio_pci"},
            "source": "sysfs",
            "attributes": driver,
            "rules": {"vf_driver": "equal"},
        },
        "vfio_pci": {
            "match": {"vf_driver": "vfio_pci"},
            "source": "sysfs",
            "attributes": driver,
            "rules": {"vf_driver_migrates": "equal"},
        },
    }
    families["vfio_pci"]["attributes"] = {
        **driver,
        "vf_driver_migrates": {"source": "sysfs", "of": "function"},
    }
    host = Host(tmp_path, 0, families=families)
    (pf,) = sysfs_trees.mlx5(host.tree, 1, 8)
    functions = [f"0000:81:01.{number}" for number in range(8)]
    host.tree.driver("vfio-pci")
    host.tree.bind(functions[1], "vfio-pci")
    host.tree.bind(functions[2], "mlx5_core")
    devices = host.read()
    assert [devices.find(one) and devices.find(one).family for one in functions[:4]] == [
        "mlx5_vf",
        "vfio_pci",
        None,
        "mlx5_vf",
    ]
    assert devices.is_of_none(functions[2], pf) and not devices.is_of_none("0000:81:02.0", pf)
    verdict = devices.find(functions[1]).offer.judge(need_of(devices, functions[0]))
    assert verdict.outcome is Outcome.REJECT
    assert [reason.code for reason in verdict.reasons] == [Code.OTHER_FAMILY]

    # A device of a family as a whole, and a function of it of another: nobody can tell which.
    families["nic"] = {
        "match": {"driver": "mlx5_core"},
        "source": "sysfs",
        "rules": {"driver": "equal"},
    }
    host.use(families)
    devices = host.read()
    assert devices.find(functions[2]).address == pf and not devices.fully_read
    assert "device 0000:81:01.0" in caplog.text and "nic, mlx5_vf" in caplog.text
    doubtful = devices.find(functions[0])
    assert (doubtful.address, doubtful.parent) == (functions[0], pf)
    assert doubtful.family in ("nic", "mlx5_vf") and not doubtful.offer.parsed
    assert "nic, mlx5_vf" in str(doubtful.offer.unknown)


def test_a_source_that_does_not_know_a_function(tmp_path):
    host = Host(tmp_path, 2, ["1561"] * 2)
    families = {
        "rtx": {
            **RTX,
            "attributes": {"ecc_mode": {"source": "nvml", "of": "function"}},
            "rules": {"ecc_mode": "equal"},
        }
    }
    host.use(families)
    known = {host.functions[0]: Function({"ecc_mode": "enabled"})}
    host.nvml.devices = (Device(GPU, {}, functions=known),)
    first, second = (host.read().find(address).offer for address in host.functions)
    assert first.parsed == {"ecc_mode": "enabled"}
    assert second.unknown["ecc_mode"][1] == f"source nvml does not list {host.functions[1]}"
    # Where it tells nothing of functions, what it tells is of whatever is assigned.
    host.nvml.devices = (Device(GPU, {"ecc_mode": "disabled"}),)
    assert host.read().find(host.functions[1]).offer.parsed == {"ecc_mode": "disabled"}
    host.nvml.devices = ()
    assert "does not list 0001:04:00.0" in str(
        host.read().find(host.functions[1]).offer.unknown["ecc_mode"]
    )


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [("1561", Outcome.ACCEPT), ("1562", Outcome.REJECT), ("0", Outcome.REJECT)],
)
def test_the_pack_for_nvidia(tmp_path, kind, outcome):
    """Functions under the vendor's framework, by what NVML and sysfs tell together."""

    def host(folder, *types):
        made = Host(folder, 48, types)
        made.reader = HostReader(
            CatalogKeeper([], ["nvidia_vgpu"], min_interval=0, registered=registered()),
            SourceOptions(),
            load=made.load,
        )
        version = {"min": "14.1", "max": "1A.1"}
        facts = {
            "vendor_id": "10de",
            "product_id": "2bb5",
            "virtualization_mode": "host_vgpu",
            "vgpu_version": version,
            "ecc_mode": "enabled",
            "vgpu_migration": "1",
            "vgpu_negotiated": {},
        }
        made.nvml.devices = (Device(GPU, facts),)
        return made

    source, destination = host(tmp_path / "a", "1561"), host(tmp_path / "b", kind)
    need = need_of(source.read(), source.functions[0])
    assert dict(need.values)["vgpu_type"] == {"1561"}
    offered = destination.read().find(destination.functions[0]).offer
    assert offered.judge(need).outcome is outcome
    # The same of GPUs that make mdevs, or whose functions are not enabled.
    assert need_of(source.read(), source.functions[9]).atoms == {
        *need_of(host(tmp_path / "c").read(), source.functions[0]).atoms
    }


def test_what_guests_use_is_told_once_for_all_functions(tmp_path):
    guest = "6f1c1d1e-0000-4000-8000-000000000001"
    families = {
        "rtx": {
            **RTX,
            "attributes": {**RTX["attributes"], "vgpu_version": "nvml", "used": "nvml"},
            "rules": {"vgpu_type": "equal", "vgpu_version": {"kind": "range", "base": 16}},
            "in_use": {"vgpu_version": "used"},
        }
    }
    del families["rtx"]["attributes"]["ecc_mode"]
    host = Host(tmp_path, 48, ["1561", "1562"], families)
    facts = {"vgpu_version": {"min": "14.1", "max": "1A.1"}, "used": {guest: "15.1"}}
    host.nvml.devices = (Device(GPU, facts),)
    devices = host.read()
    assert {device.place for device in devices} == {GPU}
    assert len({id(device.in_use) for device in devices}) == 3
    assert {device.in_use["vgpu_version"][guest] for device in devices} == {frozenset({"15.1"})}


def test_functions_in_few_words(tmp_path):
    """What is published of many functions, and read of it."""
    host = Host(tmp_path, 256, ["1561"] * 128 + ["1562"] * 127)
    devices = host.read()
    published = [
        wire.PublishedDevice(
            address=GPU,
            accepts=kind.offer.accept_set([]),
            providers=("7f9a1c34-0d3c-4d6b-9a53-3f0f2f4a8e11",),
            functions=(f"{host.functions[first]}-{host.functions[last]}",),
        )
        for kind, first, last in zip(
            sorted(devices.may_be(GPU), key=lambda kind: kind.address),
            (0, 128, 255),
            (127, 254, 255),
            strict=True,
        )
    ]
    document = wire.HostDocument(catalog="c", devices=tuple(published), whole=True)
    text = wire.dump_stats(document)
    assert len(text) < 2048
    read = wire.load_stats(text)
    assert read == document
    (choice,) = read.by_provider.values()
    assert len(choice) == 3 and read.shape is None
    need = need_of(devices, host.functions[200])
    for address in (host.functions[200], host.functions[200].upper()):
        assert read.find(address, GPU).accepts.judge(need).outcome is Outcome.UNKNOWN
        assert need.atoms.isdisjoint(read.find(host.functions[0]).accepts.atoms)
    assert read.find("0001:06:00.0", None) is None
    # A run that is none takes its own group only.
    content = json.loads(text)
    content["g"][0]["p"] = {GPU: [f"{host.functions[9]}-{host.functions[3]}"]}
    broken = wire.load_stats(json.dumps(content))
    assert len(broken.devices) == 2 and not broken.whole
    assert "does not run from one address" in broken.unreadable["rtx"]
