# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The compute hosts and the devices that they pretend to have."""

from __future__ import annotations

import json
import pathlib

from rigs.cloud.layout import Cloud

#: See ``nova_virt_playground``.
DRIVER = "playground.PlaygroundDriver"
GPU, PF = "0000:41:00.0", "0000:81:00.0"

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
# What {host} has. Change it as you like, and the host will have it within 10 seconds; it is
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
