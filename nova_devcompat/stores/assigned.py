# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which devices an instance has been given, told from what Nova and placement hold of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from nova_devcompat.compat.need import DeviceNeed, Need, pci_slot, resource_slot

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
        bool(pci_requests and pci_requests.requests)
        or _DEVICE_PROFILE in extra_specs
        or any(map(_DEVICE_RESOURCE.fullmatch, extra_specs))
    )


def has_devices(instance: Instance) -> bool:
    """Whether an instance has assigned devices, or may have: see :func:`asks_for_devices`."""
    return bool(instance.pci_devices) or asks_for_devices(
        instance.flavor.extra_specs or {}, instance.pci_requests
    )


class Device(Protocol):
    """What is known of a host's device: by nova-compute itself, or by what it published."""

    @property
    def family(self) -> str:
        """Name of its family."""

    def freeze(self, *, slot: str, address: str, pin: DeviceNeed | None) -> DeviceNeed:
        """The need of a guest whose device is initialised now."""


DeviceT = TypeVar("DeviceT", bound=Device)


@dataclasses.dataclass(frozen=True, slots=True)
class Provided(Generic[DeviceT]):
    """What a resource provider stands for on one host.

    :param address: of its device; '' for a provider that stands for no device of the host
    :param device: what is known of that, None for a device of no family
    :param told: whether it is known which device it is, so that None is one of no family
    """

    address: str = ""
    device: DeviceT | None = None
    told: bool = True


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
    :param device: what is known of it, None for a device of no family
    :param told: whether it is known which device it is, so that None is one of no family
    """

    slot: str
    address: str
    device: DeviceT | None
    told: bool = True


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
            if provided.device is not None or untold or slot in expected:
                one = Assigned(slot, provided.address, provided.device, provided.told)
                assigned += [one] * amount
    return assigned


def from_instance(
    instance: Instance,
    allocations: Mapping[str, Any] | None,
    find: Find[DeviceT],
    behind: Behind[DeviceT],
    node_id: int | None,
) -> list[Assigned[DeviceT]]:
    """All devices of an instance, those of no family too where Nova's PCI tracker knows them.

    :param node_id: its host's compute node, since an instance that is being resized holds devices
        of two; None where there can only be one
    """
    assigned = [
        Assigned(pci_slot(pci.request_id), pci.address, find(pci.address, pci.parent_addr))
        for pci in instance.pci_devices
        if node_id is None or pci.compute_node_id == node_id
    ]
    # With PCI in placement an allocation stands for the very devices the tracker assigned.
    tracked = {id(one.device) for one in assigned if one.device is not None}
    assigned += [
        one for one in from_allocations(allocations, behind) if id(one.device) not in tracked
    ]
    return assigned


def freeze(assigned: Iterable[Assigned[DeviceT]], pins: Need) -> Need:
    """The need of a guest whose devices are initialised now; devices of no family need nothing.

    :param pins: what its flavor wants it recorded as needing
    """
    pinned = {pin.family: pin for pin in pins.devices}
    return Need(
        devices=tuple(
            one.device.freeze(
                slot=one.slot, address=one.address, pin=pinned.get(one.device.family)
            )
            for one in assigned
            if one.device is not None
        )
    )
