# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Functions as devlink's ports tell of them."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat.sources import SourceOptions
from nova_devcompat.sources.devlink import DevlinkSource
from nova_devcompat.sources.devlink.netlink import Garbled
from nova_devcompat.sources.devlink.ports import VfPort, parse_port
from tests.budget import scaled
from tests.unit.sources import devlink_messages as dm
from tests.unit.sources import sysfs_trees

PF, OTHER = "0000:81:00.0", "0000:85:00.0"


@pytest.fixture
def kernel():
    return dm.Kernel({f"pci/{PF}": dm.mlx5(), f"pci/{OTHER}": dm.mlx5()})


@pytest.fixture
def tree(tmp_path):
    tree = sysfs_trees.Tree(tmp_path)
    sysfs_trees.mlx5(tree, 2, 4)
    return tree


def functions(tree, kernel):
    source = DevlinkSource(SourceOptions(), connect=kernel.connect, root=tree.root)
    return {
        device.address: {
            address: dict(function.attributes) for address, function in device.functions.items()
        }
        for device in source.read("h")
    }


def test_whether_functions_are_migratable(tree, kernel):
    assert functions(tree, kernel) == {PF: {}, OTHER: {}}
    name = f"pci/{PF}"
    kernel.ports = [
        dm.port(name, 0),
        dm.port(name, 1, caps=(0b01, 0b11)),
        # A device without the choice, and one without any.
        dm.port(name, 2, caps=(0b01, 0b01)),
        dm.port(name, 3, caps=None),
        # Of another host, of the physical function, of one that there is not, of the other PF.
        dm.port(name, 2, external=1),
        dm.port(name, 2, flavour=dm.PCI_PF_PORT),
        dm.port(name, 9),
        dm.port(name, 2, pf=1),
        dm.port(f"pci/{OTHER}", 0),
    ]
    assert functions(tree, kernel) == {
        PF: {"0000:81:01.0": {"migratable": "1"}, "0000:81:01.1": {"migratable": "0"}},
        OTHER: {"0000:85:01.0": {"migratable": "1"}},
    }


def test_ports_that_cannot_be_asked(tree, kernel, caplog):
    kernel.ports = [dm.port(f"pci/{PF}", 0)[:-6]]
    source = DevlinkSource(SourceOptions(), connect=kernel.connect, root=tree.root)
    for _ in range(2):
        devices = source.read("h")
        assert [device.attributes["fw_version"] for device in devices] == ["22.39.1002"] * 2
        assert not any(device.functions for device in devices)
    assert len(caplog.messages) == 1 and "devlink's answer for ports" in caplog.text
    kernel.ports = []
    source.read("h")
    assert "can be used again" in caplog.text or len(caplog.messages) == 1


def test_no_functions_no_question(tmp_path, kernel):
    tree = sysfs_trees.Tree(tmp_path)
    sysfs_trees.mlx5(tree, 2, 0)
    functions(tree, kernel)
    assert dm.PORT_GET not in {command for command, _ in kernel.requests}
    kernel.failing = {f"pci/{PF}": errno.EIO}
    functions(tree, kernel)


@settings(max_examples=scaled(100))
@given(st.integers(0, 200), st.binary(max_size=8), st.binary(max_size=40))
def test_any_octets(at, junk, whole):
    body = struct.pack("=BBH", dm.PORT_NEW, 1, 0) + dm.port(f"pci/{PF}", 3)
    message = dm.message(dm.FAMILY, body)
    for octets in (message[:at] + junk + message[at + len(junk) :], message[:20] + whole):
        try:
            found = parse_port(octets)
        except Garbled:
            continue
        assert found is None or isinstance(found, VfPort)
    assert parse_port(message) == VfPort("pci", PF, 0, 3, True)
