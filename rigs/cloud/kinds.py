# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which kind of compute hosts a cloud has: the one place that asks."""

from __future__ import annotations

from rigs.cloud.fleet import PretendedHosts
from rigs.cloud.hosts import Hosts
from rigs.cloud.layout import Cloud
from rigs.cloud.libvirt.hosts import LibvirtHosts
from rigs.cloud.machines.hosts import MachineHosts


def hosts_of(cloud: Cloud) -> Hosts:
    if cloud.machines:
        return MachineHosts(cloud)
    return LibvirtHosts(cloud) if cloud.libvirt else PretendedHosts(cloud)
