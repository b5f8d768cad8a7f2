# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Nova's minima for mediated devices are those of its driver."""

from __future__ import annotations

import types

import pytest
from nova.virt.libvirt import driver
from oslo_utils import versionutils

from nova_devcompat import wire
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.kinds import Ordered
from nova_devcompat.compat.verdict import Actor, Reason
from nova_devcompat.scheduler import minima

SILENT = Reason(code="host-silent", actor=Actor.OPERATOR)
LIBVIRT = Family(
    name="libvirt", rules={"libvirt_version": Ordered(ordering="numeric")}, subject=Subject.HOST
)


def test_they_are_those_of_novas_driver():
    assert minima.minima() == {
        "QEMU": driver.MIN_MDEV_LIVEMIG_QEMU_VERSION,
        "libvirt": driver.MIN_MDEV_LIVEMIG_LIBVIRT_VERSION,
    }


def host(qemu, libvirt=None, kind="QEMU"):
    version = versionutils.convert_version_to_int(qemu)
    node = types.SimpleNamespace(hypervisor_type=kind, hypervisor_version=version)
    if libvirt is None:
        return node, SILENT
    accepts = LIBVIRT.offer({"libvirt_version": libvirt}).accept_set(())
    part = wire.PublishedDevice(address="host", accepts=accepts)
    return node, wire.HostDocument(catalog="d", devices=(), host=(part,))


@pytest.mark.parametrize(
    ("qemu", "libvirt", "too_old"),
    [
        ("8.1.0", "8.6.0", []),
        ("8.0.99", "8.6.0", [("QEMU", "8.0.99 < 8.1.0")]),
        ("10.0.0", "8.5.0", [("libvirt", "8.5.0 < 8.6.0")]),
        ("6.2.0", "8.0.0", [("QEMU", "6.2.0 < 8.1.0"), ("libvirt", "8.0.0 < 8.6.0")]),
        # What is not known is not objected to.
        ("8.1.0", None, []),
        ("8.1.0", "unreadable", []),
    ],
)
def test_hosts(qemu, libvirt, too_old):
    assert list(minima.too_old(*host(qemu, libvirt))) == too_old


def test_other_hypervisors():
    assert list(minima.too_old(*host("1.0.0", kind="VMware vCenter Server"))) == []
    node, said = host("8.1.0")
    node.hypervisor_version = None
    assert list(minima.too_old(node, said)) == []


@pytest.mark.parametrize(
    ("name", "concerned"),
    [
        ("resources:VGPU", True),
        ("resources1:VGPU", True),
        ("resources:CUSTOM_VGPU", False),
        ("resources:VCPU", False),
        ("trait:VGPU", False),
    ],
)
def test_whom_they_concern(name, concerned):
    assert minima.concerns(types.SimpleNamespace(extra_specs={name: "1"})) is concerned
    assert minima.concerns(types.SimpleNamespace(extra_specs=None)) is False
