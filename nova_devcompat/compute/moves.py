# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a resize or a cold migration would be given at its destination, seen from the source.

Nova calls no driver on the destination between the claim and the moment when the guest is there.
So the source is the last that can keep it, just before it powers the guest off: the devices have
been claimed at the destination by then, and what they can act as is what the destination published
last. It cannot know of a change since the destination's last cycle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nova import objects
from nova.compute import rpcapi

from nova_devcompat import wire
from nova_devcompat.compat.ruling import NOTHING_KNOWN, Choice, Extra, Given, Guest
from nova_devcompat.compat.verdict import Reason
from nova_devcompat.stores.assigned import is_device_class
from nova_devcompat.stores.published import published


def destination_of(context: Any, instance: Any) -> Any:
    """The compute node that an instance is moving to.

    :raises NovaException: its migration or the node is not there
    """
    migration = _migration_of(context, instance)
    return objects.ComputeNode.get_by_host_and_nodename(
        context, migration.dest_compute, migration.dest_node
    )


def free_claims(context: Any, instance: Any, flavor: Any) -> None:
    """Have the destination give back what it claimed for an instance.

    Nova does not when the source refuses: it counts PCI devices as in use as long as there is a
    migration with the status ``error`` (nova/compute/resource_tracker.py,
    get_in_progress_and_error; nova/pci/manager.py, clean_usage). So it is asked for what a live
    migration that is rolled back has it do.

    :param flavor: that the instance would have had there
    :raises Exception: whatever Nova raises where the destination cannot be asked
    """
    there = instance.obj_clone()
    # The destination takes the flavor for the one that it claimed for.
    there.flavor = flavor
    rpcapi.ComputeAPI().drop_move_claim_at_destination(
        context, there, _migration_of(context, instance).dest_compute
    )


def _migration_of(context: Any, instance: Any) -> Any:
    return objects.Migration.get_by_id_and_instance(
        context, instance.migration_context.migration_id, instance.uuid
    )


def given_there(
    guest: Guest,
    document: wire.HostDocument | Reason,
    claimed: Iterable[Any],
    allocations: Mapping[str, Any],
) -> Given:
    """What a guest would be given whose devices are initialised at its destination.

    :param document: what the destination published, or why that is not known
    :param claimed: Nova's PCI devices that were claimed there
    :param allocations: what placement has for the instance there
    """
    if isinstance(document, Reason):
        return Given(silent=document)
    devices = [*_claimed(document, claimed), *_allocated(document, allocations)]
    return Given(
        extras=tuple(Extra(device=device) for device in devices),
        complete=True,
        host=document.by_family,
        unreadable=guest.concerned_by(document.problems),
    )


def read_published(node: Any) -> wire.HostDocument | Reason:
    """What a compute node published, or why that is not known."""
    return published(node.stats, wire.StatsReader())


def _claimed(document: wire.HostDocument, claimed: Iterable[Any]) -> Iterator[Choice]:
    for pci in claimed:
        device = document.find(pci.address, pci.parent_addr)
        yield NOTHING_KNOWN if device is None else (device.accepts,)


def _allocated(document: wire.HostDocument, allocations: Mapping[str, Any]) -> Iterator[Choice]:
    # Right after its first start a host does not know its providers' UUIDs yet.
    unplaced = tuple(device.accepts for device in document.devices if not device.providers)
    for provider, allocation in allocations.items():
        choice = document.by_provider.get(provider)
        if choice is not None:
            yield choice
        elif any(map(is_device_class, allocation["resources"])):
            yield unplaced
