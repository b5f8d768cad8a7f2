# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which devices an instance has been given, told from what Nova and placement hold of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic

from nova.compute import vm_states

from nova_devcompat.compat.device import normalise_address
from nova_devcompat.compat.need import InMigration, Need, pci_slot, resource_slot
from nova_devcompat.stores import ports
from nova_devcompat.stores.provided import DeviceT, Provided

if TYPE_CHECKING:
    from nova.objects import Instance


# A flavor that has devices assigned by allocation names their class: VGPU, or a custom one
# ([mdev_<type>] mdev_class, cyborg). Suffixes as nova/scheduler/utils.py knows them.
_DEVICE_CLASS = re.compile(r"V?P?GPU|CUSTOM_[A-Z0-9_]+")
_DEVICE_RESOURCE = re.compile(rf"resources[a-zA-Z0-9_-]{{0,64}}:(?:{_DEVICE_CLASS.pattern})")
_DEVICE_PROFILE = "accel:device_profile"


def is_device_class(resource_class: str) -> bool:
    """Whether a unit of a resource class can be an assigned device."""
    return bool(_DEVICE_CLASS.fullmatch(resource_class))


def asks_for_devices(extra_specs: Mapping[str, str], pci_requests: Any) -> bool:
    """Whether a flavor and its PCI requests may have devices assigned.

    A custom resource class may stand for something else; nothing tells. Whoever answers so for a
    guest must do it everywhere: a guest that has devices always has a record.

    :param extra_specs: of the flavor
    :param pci_requests: Nova's InstancePCIRequests, None without any
    """
    return (
        asks_for_pci(pci_requests)
        or _DEVICE_PROFILE in extra_specs
        or any(map(_DEVICE_RESOURCE.fullmatch, extra_specs))
    )


def asks_for_pci(pci_requests: Any) -> bool:
    """Whether devices are asked for that placement need not know.

    :param pci_requests: Nova's InstancePCIRequests, None without any
    """
    return bool(pci_requests and pci_requests.requests)


def has_devices(instance: Instance) -> bool:
    """Whether an instance has assigned devices, or may have: see :func:`asks_for_devices`."""
    return bool(instance.pci_devices) or asks_for_devices(
        instance.flavor.extra_specs or {}, instance.pci_requests
    )


def may_have_staying(instance: Instance) -> bool:
    """Whether an instance has devices that stay in a live migration, or may have."""
    of_ports = ports.port_requests(instance.pci_requests)
    return any(pci.request_id not in of_ports for pci in instance.pci_devices) or asks_for_staying(
        instance.flavor.extra_specs or {}, instance.pci_requests
    )


def asks_for_staying(extra_specs: Mapping[str, str], pci_requests: Any) -> bool:
    """The same of a request, as :func:`asks_for_devices`."""
    return asks_for_devices(extra_specs, None) or ports.asks_flavor(pci_requests)


#: The device at an address, or of the parent given beside it; None for one of no family.
Find = Callable[[str, str | None], DeviceT | None]
#: What a resource provider stands for.
Behind = Callable[[str], Provided[DeviceT]]


@dataclasses.dataclass(frozen=True, slots=True)
class Assigned(Generic[DeviceT]):
    """A device that an instance has been given.

    :param slot: which of its requests it answers, see
        :class:`nova_devcompat.compat.need.DeviceNeed`
    :param address: where it is on its host
    :param device: what is known of it, None for a device of no family, or one of several
    :param told: whether it is known which device it is, so that None is one of no family
    :param may_be: of which it is one, where it is not known which: devices of several kinds
    :param in_migration: what a live migration does with it
    """

    slot: str
    address: str
    device: DeviceT | None
    told: bool = True
    may_be: tuple[DeviceT, ...] = ()
    in_migration: InMigration = InMigration.STAYS


def from_allocations(
    allocations: Mapping[str, Any] | None,
    behind: Behind[DeviceT],
    expected: Iterable[str] = (),
) -> list[Assigned[DeviceT]]:
    """The devices behind an allocation: one for each unit of a resource of a device's provider.

    :param allocations: ``{<provider uuid>: {'resources': {<class>: <amount>}}}``
    :param expected: slots that are known to be devices, listed even where nothing is known of the
        device that was allocated
    """
    expected = frozenset(expected)
    assigned = []
    for provider, allocation in (allocations or {}).items():
        provided = behind(provider)
        for resource_class, amount in allocation["resources"].items():
            slot = resource_slot(resource_class)
            untold = not provided.told and is_device_class(resource_class)
            if provided.devices or untold or slot in expected:
                assigned += [_assigned(slot, provided)] * amount
    return assigned


def _assigned(slot: str, provided: Provided[DeviceT]) -> Assigned[DeviceT]:
    """A device behind a provider: one of several, where functions of it are not alike."""
    if len(provided.devices) > 1:
        return Assigned(slot, provided.address, None, told=False, may_be=provided.devices)
    device = provided.devices[0] if provided.devices else None
    return Assigned(slot, provided.address, device, provided.told)


def from_instance(
    instance: Instance,
    allocations: Mapping[str, Any] | None,
    find: Find[DeviceT],
    behind: Behind[DeviceT],
    node_id: int | None,
    expected: Iterable[str] = (),
) -> list[Assigned[DeviceT]]:
    """All devices of an instance, those of no family too where Nova's PCI tracker knows them.

    :param node_id: its host's compute node, since an instance that is being resized holds devices
        of two; None where there can only be one
    :param expected: as of :func:`from_allocations`
    """
    in_migration = ports.in_migration(instance)
    left = _of_the_old_flavor(instance)
    pci_devices = [
        pci
        for pci in instance.pci_devices
        if (node_id is None or pci.compute_node_id == node_id)
        and (pci.compute_node_id, pci.address) not in left
    ]
    assigned = [
        Assigned(
            pci_slot(pci.request_id),
            pci.address,
            find(pci.address, pci.parent_addr),
            in_migration=in_migration(pci.request_id, pci.address),
        )
        for pci in pci_devices
    ]
    # With PCI in placement an allocation stands for the very devices the tracker assigned.
    tracked = Tracked.of(
        (pci.address, pci.parent_addr, one.device)
        for pci, one in zip(pci_devices, assigned, strict=True)
    )
    assigned += [
        one for one in from_allocations(allocations, behind, expected) if one not in tracked
    ]
    return assigned


@dataclasses.dataclass(frozen=True, slots=True)
class Tracked:
    """PCI devices that are known one by one, so that allocations of the same are no others.

    :param addresses: theirs and their parents'
    :param devices: identities of what is known of them
    """

    addresses: frozenset[str]
    devices: frozenset[int]

    @classmethod
    def of(cls, known: Iterable[tuple[str, str | None, object]]) -> Tracked:
        """Some devices: the address of each, of its parent, and what is known of it, or None."""
        listed = list(known)
        named = (address for one in listed for address in one[:2] if address)
        return cls(
            frozenset(map(normalise_address, named)),
            frozenset(id(device) for _, _, device in listed if device is not None),
        )

    def __contains__(self, one: Assigned[Any]) -> bool:
        return one.address in self.addresses or id(one.device) in self.devices


def _of_the_old_flavor(instance: Instance) -> set[tuple[int, str]]:
    """The PCI devices that a resized guest has left, as long as the resize can be reverted.

    On its own host Nova lists them with those that it has now.

    :returns: ID of the compute node, and address
    """
    context = instance.migration_context if "migration_context" in instance else None
    # Once it is being reverted, these are what it has.
    if context is None or instance.vm_state != vm_states.RESIZED or instance.task_state:
        return set()
    return {(pci.compute_node_id, pci.address) for pci in context.old_pci_devices or ()}


def freeze(assigned: Iterable[Assigned[DeviceT]], pins: Need) -> Need:
    """The need of a guest whose devices are initialised now; devices of no family need nothing.

    :param pins: what its flavor wants it recorded as needing
    """
    pinned = {pin.family: pin for pin in pins.devices}
    return Need(
        devices=tuple(
            dataclasses.replace(
                one.device.freeze(
                    slot=one.slot, address=one.address, pin=pinned.get(one.device.family)
                ),
                in_migration=one.in_migration,
            )
            for one in assigned
            if one.device is not None
        )
    )
