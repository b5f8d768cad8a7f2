# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a live migration does with a guest's devices, told by where Nova has them from.

A device that a flavor asked for (a PCI device or a mediated device) stays: its state is copied.
One of a Neutron port does not. Read off Nova 31 (2025.1) to 34 (2026.2), in which it is the same:

* nova/network/model.py, ``VNIC_TYPES_DIRECT_PASSTHROUGH`` and ``VNIC_TYPES_SRIOV``
* nova/virt/libvirt/driver.py, ``_live_migration_operation``: before the copy it has
  ``_detach_direct_passthrough_vifs`` detach all ports of the first list. At the destination
  ``post_live_migration_at_destination``, or at the source ``rollback_live_migration_at_source``,
  has ``_reattach_instance_vifs`` attach them again
* ``suspend`` and ``resume`` do the same with them by other means

``tests/unit/compute/nova_signatures.json`` has what each release says, and a test compares it with
the table here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nova.objects import fields
from nova.objects.instance_pci_requests import InstancePCIRequest

from nova_devcompat.compat.need import InMigration

if TYPE_CHECKING:
    from nova.objects import Instance

#: By the ``vnic_type`` of a port that has a device of its own. libvirt puts a macvtap on the
#: function, and a virtio forwarder is reached by vhost-user: with either the guest sees virtio.
VNIC_TYPES: Mapping[str, InMigration] = {
    "direct": InMigration.REPLUGGED,
    "direct-physical": InMigration.REPLUGGED,
    "vdpa": InMigration.REPLUGGED,
    "remote-managed": InMigration.REPLUGGED,
    "accelerator-direct": InMigration.REPLUGGED,
    "accelerator-direct-physical": InMigration.REPLUGGED,
    "macvtap": InMigration.HIDDEN,
    "virtio-forwarder": InMigration.HIDDEN,
}

#: What is done with the device at a PCI address that answers the request of an ID.
InMigrationOf = Callable[[str | None, str], InMigration]


def of_vnic_type(vnic_type: str | None) -> InMigration:
    """What is done with the device of a port.

    Of a type that no supported Nova has, nobody tells: it is taken to stay, so that what it needs
    is required. A port of which only that it is one is known is most likely replugged.

    :param vnic_type: None where it is not known
    """
    if vnic_type is None:
        return InMigration.REPLUGGED
    return VNIC_TYPES.get(vnic_type, InMigration.STAYS)


def address_of(vif: Mapping[str, Any]) -> str | None:
    """The PCI address of a port's device, None for a port without one of its own."""
    return (vif.get("profile") or {}).get("pci_slot")


def port_requests(pci_requests: Any) -> frozenset[str]:
    """The IDs of the PCI requests that come from ports, not from the flavor.

    :param pci_requests: Nova's InstancePCIRequests, None without any
    """
    return frozenset(
        request.request_id
        for request in (pci_requests.requests if pci_requests else ())
        if request.source == InstancePCIRequest.NEUTRON_PORT and request.request_id
    )


def flavor_requests(pci_requests: Any) -> frozenset[str | None]:
    """The IDs of the PCI requests whose devices stay in a live migration.

    :param pci_requests: Nova's InstancePCIRequests, None without any
    """
    return frozenset(
        request.request_id
        for request in (pci_requests.requests if pci_requests else ())
        if request.source != InstancePCIRequest.NEUTRON_PORT
    )


def lost_claims(instance: Instance) -> frozenset[str | None]:
    """The IDs of the PCI requests of its flavor for which Nova knows no device of a guest.

    One that was claimed and never allocated is not the guest's. Of a guest that runs, Nova has
    lost the claims (``PciDevTracker.clean_usage``, ``PciDevTracker.claim_instance``).

    :param instance: with its PCI requests and devices
    """
    held = {
        pci.request_id
        for pci in instance.pci_devices or ()
        if pci.status == fields.PciDeviceStatus.ALLOCATED
    }
    return flavor_requests(instance.pci_requests) - held


def asks_flavor(pci_requests: Any) -> bool:
    """Whether PCI devices are asked for that stay in a live migration."""
    return bool(flavor_requests(pci_requests))


def in_migration(instance: Instance) -> InMigrationOf:
    """What is done with each PCI device of an instance."""
    requests = port_requests(instance.pci_requests)
    types: dict[str, str] = {}
    # Whoever reads many instances does not load it.
    cache = instance.info_cache if requests and "info_cache" in instance else None
    for vif in (cache.network_info if cache else None) or ():
        address = address_of(vif)
        if address:
            types[address] = vif.get("vnic_type")

    def of(request_id: str | None, address: str) -> InMigration:
        if request_id not in requests:
            return InMigration.STAYS
        return of_vnic_type(types.get(address))

    return of
