# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which devices are free, as placement has it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nova.compute import pci_placement_translator
from nova.objects.instance_pci_requests import InstancePCIRequest

from nova_devcompat.fleet.model import Host
from nova_devcompat.stores.assigned import is_device_class
from nova_devcompat.stores.placement import Placement
from nova_devcompat.wire import PublishedDevice

#: What a guest asks for of devices: units by resource class, sorted. A unit of a class is asked
#: for in one piece, so that one provider has all of it.
Asks = tuple[tuple[str, int], ...]

# So many different questions are asked of placement, at most; clouds have a few.
MOST_QUESTIONS = 100

_RESOURCE = re.compile(r"resources[a-zA-Z0-9_-]{0,64}:([A-Z0-9_]+)")
# Decimal digits of an amount, at most.
_AMOUNT = re.compile(r"[0-9]{1,9}", re.ASCII)


def asks_of(extra_specs: Mapping[str, str], pci_requests: Any, *, pci_in_placement: bool) -> Asks:
    """What a guest asks placement for of devices.

    :param extra_specs: of its flavor
    :param pci_requests: Nova's InstancePCIRequests, None without any
    :param pci_in_placement: whether these are asked of placement, those of ports aside
    """
    asks = []
    for name, value in extra_specs.items():
        match = _RESOURCE.fullmatch(name)
        if match and is_device_class(match[1]) and _AMOUNT.fullmatch(str(value)):
            asks.append((match[1], int(value)))
    if pci_in_placement and pci_requests is not None:
        asks += map(_one_of, _specs(pci_requests))
    return tuple(sorted(set(asks)))


def _specs(pci_requests: Any) -> Iterator[Mapping[str, Any]]:
    # As nova/objects/request_spec.py has it (generate_request_groups_from_pci_requests).
    for request in pci_requests.requests:
        if request.source != InstancePCIRequest.NEUTRON_PORT:
            yield from request.spec


def _one_of(spec: Mapping[str, Any]) -> tuple[str, int]:
    # Each function is a group of its own, and may come from another provider.
    named = (spec.get(name) for name in ("resource_class", "vendor_id", "product_id"))
    return pci_placement_translator.get_resource_class(*named), 1


class Room:
    """Which providers have units of device classes free.

    :param free: UUIDs of these by class and units
    """

    def __init__(self, free: Mapping[tuple[str, int], frozenset[str]]) -> None:
        self._free = free

    @classmethod
    def ask(cls, placement: Placement, asks: Iterable[Asks]) -> Room | None:
        """One request for each class and number of units, however many guests and hosts.

        :returns: None where placement does not tell, or there are too many to ask for
        """
        wanted = sorted({one for each in asks for one in each})
        if len(wanted) > MOST_QUESTIONS:
            return None
        free = {}
        for resource_class, units in wanted:
            providers = placement.providers_with_room(resource_class, units)
            if providers is None:
                return None
            free[resource_class, units] = providers
        return cls(free)

    def free_devices(self, host: Host, asks: Asks) -> list[PublishedDevice] | None:
        """The devices of a host that are free for a guest; None where that is not known."""
        if host.document is None:
            return None
        free = frozenset().union(*(self._free.get(one, frozenset()) for one in asks))
        return [
            device
            for device in host.document.devices
            # Devices that placement does not know may be free.
            if not device.providers or not free.isdisjoint(device.providers)
        ]
