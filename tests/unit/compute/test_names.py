# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""One name for one device: the kernel's, libvirt's and Nova's meet.

Nova's names are made by Nova's own code, libvirt's are in descriptions of node devices.
"""

from __future__ import annotations

import pathlib
import types

import pytest
from nova.compute import pci_placement_translator, provider_tree
from nova.virt.libvirt import config as libvirt_config
from nova.virt.libvirt import driver as libvirt_driver
from oslo_utils import uuidutils

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.device import (
    node_device_name,
    normalise_address,
    provider_address,
)
from nova_devcompat.compute.host import ThisHost
from nova_devcompat.host.devices import HostDevices
from nova_devcompat.sources import SourceOptions
from nova_devcompat.sources.libvirt_answers import parse_node_device
from nova_devcompat.sources.sysfs import SysfsSource
from nova_devcompat.stores.assigned import from_allocations
from tests.unit.sources import sysfs_trees

# A node's name may have in it what separates it from the device's.
NODES = ("cmp1", "cmp_1", "cmp_pci.example.org")

TYPES = """<type id='t-1'><name>T</name><deviceAPI>vfio-pci</deviceAPI>
<availableInstances>1</availableInstances></type>"""

PCI = """<device><name>pci_{}</name><capability type='pci'><domain>{}</domain><bus>{}</bus>
<slot>{}</slot><function>{}</function><product id='0x1eb8'/><vendor id='0x10de'/>
<capability type='mdev_types'>{}</capability></capability></device>"""

# examples of libvirt's documentation and tests (tests/nodedevschemadata), and of a real mtty
OTHERS = {
    "mtty_mtty": ("mtty", "mtty", "mdev_types"),
    "css_0_0_0070": ("css", "0.0.0070", "css"),
    "ap_matrix": ("matrix", "matrix", "ap_matrix"),
}


def pgpu_providers(nodename, *names):
    """The names of the providers that Nova makes for parents of mdevs."""
    tree = provider_tree.ProviderTree()
    tree.new_root(nodename, uuidutils.generate_uuid())
    driver = types.SimpleNamespace(_get_resource_class_for_device=lambda name: "VGPU")
    made = libvirt_driver.LibvirtDriver._ensure_pgpu_providers(
        driver, {name: {"total": 1} for name in names}, tree, nodename
    )
    return {name: made[name].name for name in names}


def novas_name(description):
    """What Nova's driver calls a node device."""
    device = libvirt_config.LibvirtConfigNodeDevice()
    device.parse_str(description)
    return device.name


@pytest.mark.parametrize("nodename", NODES)
@pytest.mark.parametrize(
    "address", ["0000:81:00.0", "0000:AF:1f.7", "0001:04:00.2", "10000:e1:00.0"]
)
def test_pci_devices(nodename, address):
    wanted = address.lower()
    assert normalise_address(address) == wanted
    domain, bus, rest = wanted.split(":")
    slot, function = rest.split(".")
    name = "_".join((domain, bus, slot, function))
    numbers = [int(number, 16) for number in (domain, bus, slot, function)]
    description = PCI.format(name, *numbers, TYPES)
    assert parse_node_device(description).address == wanted
    assert node_device_name("pci", wanted) == novas_name(description) == f"pci_{name}"

    (provider,) = pgpu_providers(nodename, novas_name(description)).values()
    assert provider_address(provider, nodename) == wanted
    view = pci_placement_translator.PlacementView(nodename, [])
    tracked = view._get_rp_name_for_address(address)
    assert tracked.isupper() or nodename in tracked
    assert provider_address(tracked, nodename) == wanted


@pytest.mark.parametrize("nodename", NODES)
@pytest.mark.parametrize("name", sorted(OTHERS))
def test_devices_that_are_not_pci(tmp_path, nodename, name):
    subsystem, kernel, capability = OTHERS[name]
    tree = sysfs_trees.Tree(pathlib.Path(tmp_path))
    folder = f"devices/some/{kernel}"
    (tree.root / f"bus/{subsystem}").mkdir(parents=True)
    tree.link(f"{folder}/subsystem", f"bus/{subsystem}")
    tree.mdev_types(kernel, {"t-1": {"device_api": "vfio-pci"}}, folder)
    (device,) = SysfsSource(SourceOptions(), root=tree.root).read("")
    description = (
        f"<device><name>{name}</name><capability type='{capability}'>"
        f"<capability type='mdev_types'>{TYPES}</capability></capability></device>"
    )
    (provider,) = pgpu_providers(nodename, novas_name(description)).values()
    names = {
        device.address,
        parse_node_device(description).address,
        provider_address(provider, nodename),
        normalise_address(name),
    }
    assert names == {name}


def test_providers_of_no_device():
    for provider in ("cmp1", "cmp1_", "cmp2_pci_0000_81_00_0", "cmp11", "share", "cmp1:NIC:eth0"):
        assert provider_address(provider, "cmp1") is None


@pytest.mark.parametrize("nodename", NODES)
def test_a_device_that_sources_call_otherwise_is_not_one_of_no_family(nodename):
    """What Nova allocates of a provider with a device that nobody here knows by that name."""
    names = ["mtty_mtty", "mdpy_mdpy", "pci_0000_81_00_0"]
    devices = HostDevices(
        Catalog(families={}, digest="d"), [], fully_read=True, listed={"mtty_mtty"}
    )
    here = ThisHost(None)
    uuids = {uuidutils.generate_uuid(): name for name in names}
    providers = pgpu_providers(nodename, *names)
    here._publisher = types.SimpleNamespace(
        address_of=lambda node, uuid: provider_address(providers[uuids[uuid]], node)
    )
    for uuid, name in uuids.items():
        for resource_class in ("VGPU", "CUSTOM_MTTY"):
            assigned = from_allocations(
                {uuid: {"resources": {resource_class: 1}}}, here.behind(nodename, devices)
            )
            untold = [one.address for one in assigned if not one.told]
            assert untold == ([name] if name == "mdpy_mdpy" else []), (name, assigned)
