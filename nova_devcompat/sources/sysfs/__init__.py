# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The ``sysfs`` source: PCI devices, their functions and drivers, and parents of mdevs.

Where each fact comes from:

- ``/sys/bus/pci/devices``: Documentation/ABI/testing/sysfs-bus-pci and drivers/pci/pci-sysfs.c,
  for SR-IOV drivers/pci/iov.c
- ``/sys/bus/pci/drivers/<driver>/module``: Documentation/ABI/stable/sysfs-module and
  Documentation/ABI/testing/sysfs-module; kernel/module/sysfs.c for ``holders``
- ``mdev_supported_types``: Documentation/ABI/testing/sysfs-bus-vfio-mdev,
  Documentation/driver-api/vfio-mediated-device.rst and drivers/vfio/mdev/mdev_sysfs.c
"""

from nova_devcompat.sources.sysfs.facts import Facts, Identities
from nova_devcompat.sources.sysfs.source import ATTRIBUTES, SysfsSource, check_pattern

__all__ = ["ATTRIBUTES", "Facts", "Identities", "SysfsSource", "check_pattern"]
