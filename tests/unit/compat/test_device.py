# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import pytest

from nova_devcompat.compat.device import (
    is_pci,
    node_device_name,
    normalise_address,
    provider_address,
)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("0000:81:00.0", "0000:81:00.0"),
        ("0000:AF:1f.7", "0000:af:1f.7"),
        (" 0000:81:00.0 ", "0000:81:00.0"),
        ("81:00.0", "0000:81:00.0"),
        ("pci_0000_AF_00_3", "0000:af:00.3"),
        ("10000:01:00.0", "10000:01:00.0"),
        ("00000000:3B:00.0", "0000:3b:00.0"),
        ("0001:04:00.2", "0001:04:00.2"),
        # s390
        ("0.0.0070", "css_0_0_0070"),
        ("FE.1.00aB", "css_fe_1_00ab"),
        ("css_0_0_00AB", "css_0_0_00ab"),
        ("matrix", "ap_matrix"),
        ("AP_MATRIX", "ap_matrix"),
        # of no bus
        ("mtty_mtty", "mtty_mtty"),
        ("pci_10000_01_00_0", "10000:01:00.0"),
        # no PCI addresses
        ("0000:81:00.8", "0000:81:00.8"),
        ("0000:81:20.0", "0000:81:20.0"),
        ("0000:81:00", "0000:81:00"),
        ("0.4.0070", "0.4.0070"),
        ("QEMU", "QEMU"),
        ("mdev_4b20d080-1b54-4048-85b3-a6a62d165c01", "mdev_4b20d080-1b54-4048-85b3-a6a62d165c01"),
        ("net_eth0_AA", "net_eth0_AA"),
        ("", ""),
    ],
)
def test_normalise_address(address, expected):
    assert normalise_address(address) == expected
    assert normalise_address(expected) == expected


@pytest.mark.parametrize(
    ("subsystem", "name", "expected"),
    [
        ("mtty", "mtty", "mtty_mtty"),
        ("matrix", "matrix", "ap_matrix"),
        ("pci", "0000:81:00.0", "pci_0000_81_00_0"),
        # Letters and digits of any kind stay; all else does not.
        ("scsi", "Disk-9Z", "scsi_Disk_9Z"),
    ],
)
def test_node_device_name(subsystem, name, expected):
    assert node_device_name(subsystem, name) == expected


@pytest.mark.parametrize(
    ("provider", "address"),
    [
        ("cmp1", None),
        ("cmp1_", None),
        ("cmp2_0000:81:00.0", None),
        ("cmp1_0000:AF:00.0", "0000:af:00.0"),
        ("cmp1_pci_0000_81_00_0", "0000:81:00.0"),
        ("cmp1_mtty_mtty", "mtty_mtty"),
    ],
)
def test_provider_address(provider, address):
    assert provider_address(provider, "cmp1") == address


def test_is_pci():
    assert is_pci("0001:81:00.7")
    assert not is_pci("mtty_mtty")
