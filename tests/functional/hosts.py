# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Hosts that differ in their devices, and which of them the scheduler takes."""

import dataclasses
import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

import fixtures
import nova.conf
from nova import context as nova_context
from nova.scheduler import host_manager
from nova.tests.fixtures import libvirt as fakelibvirt

CONF = nova.conf.CONF

#: What ``--random-order`` says; with it the scheduler's choices are others, too.
SEED = ""

#: VFs as operators of VFIO variant drivers declare them.
VF_SPEC = {
    "vendor_id": "15b3",
    "product_id": "101e",
    "managed": "no",
    "live_migratable": "yes",
}
VF_BY_CLASS = {
    "name": "vf",
    "resource_class": "CUSTOM_VF",
    "device_type": "type-VF",
    "live_migratable": "yes",
}
VF_BY_ID = {
    "name": "vf",
    "vendor_id": "15b3",
    "product_id": "101e",
    "device_type": "type-VF",
    "live_migratable": "yes",
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A physical GPU that mediated devices are made of.

    It offers mdev types nvidia-11 (16 of them) and nvidia-12 (8); with ``generic`` mlx5_core
    (16) in place of nvidia-11. Which of them Nova uses, ``Fleet.MDEV_TYPES`` says for all hosts.
    Its provider is called ``<host>_pci_0000_81_00_0``.
    """

    address: str = "0000:81:00.0"
    generic: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pf:
    """A physical function with its virtual functions, which follow it: eight to a slot.

    Its provider is called ``<host>_0000:82:00.0``. With ``vdpa`` there is a vDPA device on each
    virtual function.
    """

    address: str = "0000:82:00.0"
    vfs: int = 2
    vendor_id: str = "15b3"
    product_id: str = "101d"
    vf_product_id: str = "101e"
    vdpa: bool = False


class Hosts:
    """What a fleet does with its hosts."""

    def use_mdev_types(self, types: Mapping[str, Sequence[str]]) -> None:
        """Set which mdev types hosts offer from now on; see ``MDEV_TYPES``.

        A host reads it when it starts.
        """
        self.flags(enabled_mdev_types=list(types), group="devices")
        # Each type has an option group of its own, which exists once the type is known.
        nova.conf.devices.register_dynamic_opts(CONF)
        for mdev_type, addresses in types.items():
            self.flags(device_addresses=list(addresses), group=f"mdev_{mdev_type}")

    def use_pci(
        self,
        device_spec: Sequence[Mapping[str, Any]],
        aliases: Sequence[Mapping[str, Any]],
        *,
        in_placement: bool,
    ) -> None:
        """Set which PCI devices hosts offer and how flavors ask for them.

        A host reads the device_spec when it starts, the API its aliases at every request.
        """
        self.flags(
            device_spec=[json.dumps(spec) for spec in device_spec],
            alias=[json.dumps(alias) for alias in aliases],
            report_in_placement=in_placement,
            group="pci",
        )
        self.flags(pci_in_placement=in_placement, group="filter_scheduler")

    def start_host(
        self,
        name: str,
        *,
        gpus: Sequence[Gpu] = (),
        pfs: Sequence[Pf] = (),
        cell: str | None = None,
    ) -> Any:
        """Start a nova-compute with devices of its own.

        The driver is what ``COMPUTE_DRIVER`` names. Nova's fixtures patch LibvirtDriver's class,
        and set ``driver._host.get_connection`` of each one: a subclass has both, a wrapper must
        pass ``_host`` through.

        :returns: the service; ``.manager``, ``.driver`` and ``.host`` are its parts
        """
        vdpa = fakelibvirt.HostVDPADevicesInfo()
        self.start_compute(
            hostname=name,
            pci_info=_devices(gpus, pfs, vdpa),
            vdpa_info=vdpa,
            libvirt_version=self.FAKE_LIBVIRT_VERSION,
            qemu_version=self.FAKE_QEMU_VERSION,
            cell_name=cell,
        )
        return self.computes[name]

    def restart_host(self, name: str, *, gpus: Sequence[Gpu] = (), pfs: Sequence[Pf] = ()) -> Any:
        """Restart a nova-compute: a new manager and driver over the same guests and devices.

        :param gpus: with ``pfs``, if any is given: the devices that the host has afterwards.
            Its guests stay, so they should be on devices that stay.
        :returns: the new service
        """
        if gpus or pfs:
            self.connection(name).pci_info = _devices(gpus, pfs)
        return self.restart_compute_service(name)

    def connection(self, host: str) -> Any:
        """The fake libvirt connection of a host: its domains, mdevs and devices."""
        return self.computes[host].driver._host.get_connection()

    def run_periodic(self, *hosts: str) -> None:
        """Run ``update_available_resource`` on the hosts named, on all by default."""
        for host in hosts or self.computes:
            with nova_context.target_cell(
                self.context, self.host_mappings[host].cell_mapping
            ) as context:
                self.computes[host].manager.update_available_resource(context)

    # The scheduler's choice: of hosts that pass the filters any may come first, so that no test
    # holds because weights happened to be equal or of a moment ago.

    def prefer_hosts(self, *hosts: str) -> None:
        """Let the scheduler take hosts in this order, whatever their weights; the others last."""
        self._preferred = list(hosts)

    def weigh_hosts(self) -> None:
        """Let the weights decide, as they do in a cloud."""
        self._shuffled = None

    def shuffle_hosts(self, seed: int | str) -> None:
        """Let the scheduler take hosts in a random order, another one for each request."""
        self._shuffled = random.Random(seed)

    def _patch_host_order(self) -> None:
        self._preferred: list[str] = []
        self._shuffled: random.Random | None = None
        self.shuffle_hosts(f"{self.id()} {SEED}")
        original = host_manager.HostManager.get_weighed_hosts

        def get_weighed_hosts(manager: Any, hosts: Any, spec_obj: Any) -> Any:
            weighed = original(manager, hosts, spec_obj)
            if self._shuffled is not None:
                # From one order, so that the same seed gives the same sequence.
                weighed.sort(key=lambda each: each.obj.host)
                self._shuffled.shuffle(weighed)
            rank = {host: place for place, host in enumerate(self._preferred)}
            weighed.sort(key=lambda each: rank.get(each.obj.host, len(rank)))
            return weighed

        self.useFixture(
            fixtures.MonkeyPatch(
                "nova.scheduler.host_manager.HostManager.get_weighed_hosts", get_weighed_hosts
            )
        )


def _devices(gpus: Sequence[Gpu], pfs: Sequence[Pf], vdpa: Any = None) -> Any:
    """Make fake libvirt's devices of a host.

    :param vdpa: fake libvirt's, which those of the host are added to
    """
    info = fakelibvirt.HostPCIDevicesInfo(num_pci=0, num_pfs=0, num_vfs=0)
    # Any numbers do, as long as each device has its own.
    groups = iter(range(40, 1000))
    for gpu in gpus:
        bus, slot, function = _numbers(gpu.address)
        info.add_device(
            dev_type="MDEV_TYPES",
            bus=bus,
            slot=slot,
            function=function,
            iommu_group=next(groups),
            numa_node=0,
            multiple_gpu_types=not gpu.generic,
            generic_types=gpu.generic,
        )
    for pf in pfs:
        bus, slot, function = _numbers(pf.address)
        shared = {
            "numa_node": 0,
            "vf_ratio": pf.vfs,
            "vend_id": pf.vendor_id,
        }
        info.add_device(
            dev_type="PF",
            bus=bus,
            slot=slot,
            function=function,
            iommu_group=next(groups),
            prod_id=pf.product_id,
            **shared,
        )
        for number in range(1, pf.vfs + 1):
            routing_id = (bus << 8 | slot << 3 | function) + number
            vf = info.add_device(
                dev_type="VF",
                bus=routing_id >> 8,
                slot=routing_id >> 3 & 31,
                function=routing_id & 7,
                iommu_group=next(groups),
                parent=(bus, slot, function),
                prod_id=pf.vf_product_id,
                **shared,
            )
            # Fake libvirt guesses the parent's address by that of the function.
            parent = vf.addr_templ % {"bus": bus, "slot": slot, "function": function}
            vf.pci_device = _PHYSFN.sub(rf"\g<1>{parent}", vf.pci_device)
            if pf.vdpa and vdpa is not None:
                index = len(vdpa.devices)
                vdpa.add_device(f"vdpa_vdpa{index}", index, vf)
    return info


_PHYSFN = re.compile("(<capability type='phys_function'>)<address [^>]*>")


def _numbers(address: str) -> tuple[int, int, int]:
    """Parse '0000:81:00.0' into bus, slot and function."""
    _domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return int(bus, 16), int(slot, 16), int(function, 16)
