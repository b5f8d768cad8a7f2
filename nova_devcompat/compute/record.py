#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""The record of what an instance needs: frozen from its devices, kept with the instance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from oslo_log import log as logging

from nova_devcompat import wire
from nova_devcompat.compat.need import Need
from nova_devcompat.compute.inventory import HostDevice, HostDevices

if TYPE_CHECKING:
    from nova.objects import Instance

LOG = logging.getLogger(__name__)

#: Which device address a resource provider stands for, None if for none.
AddressOf = Callable[[str], str | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Assigned:
    """A device that an instance has been given.

    :param slot: which of its requests it answers, see
        :class:`nova_devcompat.compat.need.DeviceNeed`
    :param address: where it is on this host
    :param device: what the host knows of it, None for a device of no family
    """

    slot: str
    address: str
    device: HostDevice | None


def pci_slot(request_id: str | None) -> str:
    """The slot of a device that Nova's PCI tracker assigned."""
    return f"pci:{request_id or ''}"


def resource_slot(resource_class: str) -> str:
    """The slot of devices that are assigned by an allocation alone (vGPU, mdev)."""
    return f"rc:{resource_class}"


def from_allocations(
    allocations: Mapping[str, Any] | None,
    devices: HostDevices,
    address_of: AddressOf,
    expected: Iterable[str] = (),
) -> list[Assigned]:
    """The devices behind an allocation: one for each unit of a resource of a device's provider.

    :param allocations: ``{<provider uuid>: {'resources': {<class>: <amount>}}}``
    :param expected: slots that are known to be devices, listed even where nothing is known of the
        device that was allocated
    """
    expected = frozenset(expected)
    assigned = []
    for provider, allocation in (allocations or {}).items():
        address = address_of(provider)
        device = devices.find(address)
        for resource_class, amount in allocation["resources"].items():
            slot = resource_slot(resource_class)
            if device is not None or slot in expected:
                assigned += [Assigned(slot, address or "", device)] * amount
    return assigned


def from_instance(
    instance: Instance,
    allocations: Mapping[str, Any] | None,
    devices: HostDevices,
    address_of: AddressOf,
    node_id: int | None,
) -> list[Assigned]:
    """All devices of an instance, those of no family too where Nova's PCI tracker knows them.

    :param node_id: this host's compute node, since an instance that is being resized holds devices
        of two; None where there can only be one
    """
    assigned = [
        Assigned(pci_slot(pci.request_id), pci.address, devices.find(pci.address, pci.parent_addr))
        for pci in instance.pci_devices
        if node_id is None or pci.compute_node_id == node_id
    ]
    # With PCI in placement an allocation stands for the very devices the tracker assigned.
    tracked = {id(one.device) for one in assigned if one.device is not None}
    assigned += [
        one
        for one in from_allocations(allocations, devices, address_of)
        if id(one.device) not in tracked
    ]
    return assigned


def freeze(assigned: list[Assigned]) -> Need:
    """The need of a guest whose devices are initialised now; devices of no family need nothing."""
    return Need(
        devices=tuple(
            one.device.offer.freeze(slot=one.slot, address=one.address)
            for one in assigned
            if one.device is not None
        )
    )


def store(instance: Instance, need: Need) -> bool:
    """Put a need in ``instance.system_metadata``, which the caller's caller saves.

    :returns: whether anything changed
    """
    wanted = wire.dump_record(need)
    present = {
        key: value for key, value in instance.system_metadata.items() if wire.is_record_key(key)
    }
    if wanted == present:
        return False
    for key in present.keys() - wanted.keys():
        del instance.system_metadata[key]
    instance.system_metadata.update(wanted)
    LOG.info(
        "Need recorded: %s",
        "; ".join(map(str, need.devices)) or "none, no assigned device belongs to a family",
        instance=instance,
    )
    return True


def exists(instance: Instance) -> bool:
    """Whether the instance has a record, readable or not."""
    return any(wire.is_record_key(key) for key in instance.system_metadata)


def load(instance: Instance) -> Need | None:
    """The recorded need; None where there is no record.

    :raises WireError: there is one that cannot be read
    """
    return wire.load_record(instance.system_metadata)
