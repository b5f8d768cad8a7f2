# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The compute hosts and the devices that they pretend to have."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import ClassVar

from rigs.cloud.hosts import Hosts, Sections, Value
from rigs.cloud.layout import Cloud, write

#: See ``nova_virt_playground``.
DRIVER = "playground.PlaygroundDriver"
GPU, PF = "0000:41:00.0", "0000:81:00.0"
PF_PRODUCT, VF_PRODUCT = "101d", "101e"
_VF = {"vendor_id": "15b3", "product_id": VF_PRODUCT, "live_migratable": "yes"}
DEVICE_SPEC = json.dumps({**_VF, "managed": "no", "resource_class": "CUSTOM_VF"})
ALIAS = json.dumps(
    {
        "name": "vf",
        "resource_class": "CUSTOM_VF",
        "device_type": "type-VF",
        "live_migratable": "yes",
    }
)

CATALOG = """\
# The catalog of this cloud. Change it as you like: it is read again when it changes, and written
# again only if it is gone.
meta:
  schema_version: '1.0'

families:
  # Virtual functions of a network card: flavor "vf".
  mlx5_vf:
    match: {vendor_id: '15b3', product_id: '101e'}
    source: static
    rules:
      fw_version: semver

  # vGPUs: flavor "vgpu".
  nvidia_vgpu:
    match: {mdev_type: 'nvidia-*'}
    source: static
    rules:
      vgpu_version: {kind: range, base: 16}
"""

#: Firmware of the network card, and the range of versions of the GPU, of cmp1 and so on; hosts
#: beyond begin anew. In cell1 guests of cmp1 can go to cmp2 and cmp4 and never to cmp3; in cell2
#: those of cmp5 to nowhere, and those of cmp6 to cmp5.
VERSIONS = (
    ("28.39.1002", "7.1", "14.1"),
    ("28.41.1000", "7.1", "1A.1"),
    ("28.37.1014", "7.1", "12.1"),
    ("28.39.2048", "7.1", "16.1"),
    ("28.41.1000", "7.1", "1A.1"),
    ("28.37.1014", "7.1", "12.1"),
)


def inventory_path(cloud: Cloud, host: str) -> pathlib.Path:
    """Where the static inventory of a host is. Its pretended hardware is what stands there."""
    return cloud / f"hosts/{host}/inventory.yaml"


def catalog_path(cloud: Cloud, host: str) -> pathlib.Path:
    """Where a host reads the catalog: a link to that of the cloud, to begin with."""
    return cloud / f"hosts/{host}/devcompat.yaml"


def inventory(host: str) -> str:
    """The inventory that a host begins with."""
    firmware, lowest, highest = VERSIONS[(int(host.removeprefix("cmp")) - 1) % len(VERSIONS)]
    vgpu_range = json.dumps({"min": lowest, "max": highest})
    return f"""\
# What {host} has. Change it as you like, and the host will have it within 30 seconds; it is
# written again only if it is gone.
meta:
  schema_version: '1.0'

hosts:
  {host}:
    devices:
      - address: '{PF}'
        attributes:
          vendor_id: '15b3'
          product_id: '101e'
          fw_version: '{firmware}'
      - address: '{GPU}'
        attributes:
          mdev_type: nvidia-558
          vgpu_version: {vgpu_range}
"""


class PretendedHosts(Hosts):
    """Hosts with pretended hardware, see ``nova_virt_playground``."""

    driver = DRIVER
    catalog = CATALOG
    flavors: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "plain": {},
        "vf": {"pci_passthrough:alias": "vf:1"},
        "vgpu": {"resources:VGPU": "1"},
        "vf-vgpu": {"pci_passthrough:alias": "vf:1", "resources:VGPU": "1"},
    }
    size: ClassVar[Mapping[str, int]] = {"ram": 512, "vcpus": 1, "disk": 1}
    image = b"\0" * 1024
    tests = "tests/e2e"

    def why_not(self) -> str:
        return ""

    def install(self) -> None:
        """They need nothing."""

    def write(self, host: str) -> None:
        write(self._cloud / "hosts/unfit", f"{self._cloud.settings.unfit}\n")
        # The cloud's, unless somebody gives this host another.
        catalog = catalog_path(self._cloud, host)
        if not os.path.lexists(catalog):
            catalog.symlink_to("../../etc/devcompat.yaml")
        # From then on it belongs to who plays with the cloud.
        path = inventory_path(self._cloud, host)
        if not path.exists():
            write(path, inventory(host))

    def compute(self, host: str) -> Sections:
        cloud = self._cloud
        return {
            "pci": {"device_spec": DEVICE_SPEC, "alias": ALIAS, "report_in_placement": True},
            "playground": {
                "hosts": str(cloud / "hosts"),
                "guests": str(cloud / "guests"),
            },
        }

    def devcompat(self, host: str) -> Mapping[str, Value]:
        return {
            "catalog": str(catalog_path(self._cloud, host)),
            "inventory": str(inventory_path(self._cloud, host)),
        }
