# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The record of what an instance needs, which is kept with the instance."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import nova.conf
from oslo_log import log as logging

from nova_devcompat import conf as devcompat_conf
from nova_devcompat import wire
from nova_devcompat.compat.need import InMigration, Need
from nova_devcompat.compat.record import Incarnation, Record
from nova_devcompat.compat.ruling import NO_RECORD, Doubt, Guest
from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.stores import ports, risks
from nova_devcompat.wire import checks

if TYPE_CHECKING:
    from nova.objects import Instance

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

devcompat_conf.register_opts(CONF)

#: What must be loaded of an instance whose record is read.
RECORD_ATTRIBUTES = ("system_metadata", "pci_requests")


def store(
    instance: Instance,
    need: Need,
    *,
    assigned: bool = False,
    incarnation: Incarnation | None = None,
) -> bool:
    """Put a record in ``instance.system_metadata``, for the caller to save.

    :param assigned: whether the guest has assigned devices. Then it always has a record, which
        says so where none of them belongs to a family; a need without devices of any other guest
        leaves no record
    :param incarnation: which start of the guest it is of; None where that is not known
    :returns: whether anything changed
    """
    wanted = {}
    if assigned or need.devices:
        wanted = wire.dump_record(need, incarnation, CONF.devcompat.record_format)
    present = entries(instance)
    # What others wrote in another format is left as it is until there is something to change.
    if wanted == present or wire.same_record(wanted, present):
        return False
    try:
        before = load(instance)
    except wire.WireError:
        before = None
    for key in present.keys() - wanted.keys():
        del instance.system_metadata[key]
    instance.system_metadata.update(wanted)
    # What it is of may be all that is new.
    if not present or not wanted or before != need:
        none = "none, no assigned device belongs to a family" if wanted else "none any more"
        LOG.info("Need recorded: %s", "; ".join(map(str, need.devices)) or none, instance=instance)
    return True


def entries(instance: Instance) -> dict[str, str]:
    """The entries of ``instance.system_metadata`` that are the record."""
    return {
        key: value for key, value in instance.system_metadata.items() if wire.is_record_key(key)
    }


def exists(instance: Instance) -> bool:
    """Whether the instance has a record, readable or not."""
    return any(wire.is_record_key(key) for key in instance.system_metadata)


def load(instance: Instance) -> Need | None:
    """The recorded need, without devices where it is recorded that the guest needs nothing.

    :returns: None where there is no record
    :raises WireError: there is one that cannot be read
    """
    recorded = load_whole(instance)
    return None if recorded is None else recorded.need


def load_whole(instance: Instance) -> Record | None:
    """The record; None where there is none.

    :raises WireError: there is one that cannot be read
    """
    recorded = wire.load_whole_record(instance.system_metadata)
    if recorded is None:
        return None
    return dataclasses.replace(recorded, need=_told_from_ports(recorded.need, instance))


def _told_from_ports(need: Need, instance: Instance) -> Need:
    """With what a live migration does with the devices of ports.

    An older release did not record that.
    """
    requests = ports.port_requests(instance.pci_requests if "pci_requests" in instance else None)
    if not requests:
        return need
    return Need(
        devices=tuple(
            dataclasses.replace(one, in_migration=InMigration.REPLUGGED)
            if one.request_id in requests and one.in_migration is InMigration.STAYS
            else one
            for one in need.devices
        )
    )


def read(instance: Instance) -> Need | Doubt:
    """The recorded need. Never raises.

    :returns: a doubt where there is no record, it cannot be read, or it is of a start on another
        node than the instance is on
    """
    try:
        recorded = load_whole(instance)
    except wire.WireError as error:
        return Doubt(
            reason=Reason(code=Code.RECORD_UNREADABLE, actor=Actor.OPERATOR, detail=str(error))
        )
    if recorded is None:
        return NO_RECORD
    of = recorded.incarnation
    if of is not None and instance.node and of.node != node_name(instance.node):
        return stale(of)
    return recorded.need


def stale(incarnation: Incarnation) -> Doubt:
    """What stands in place of a record that is of another start than the guest's present one.

    :param incarnation: which start it is of
    """
    since = f" at {incarnation.time}" if incarnation.time else ""
    reason = Reason(
        code=Code.RECORD_STALE,
        actor=Actor.OPERATOR,
        detail=f"it was recorded on {incarnation.node}{since}",
    )
    return Doubt(reason=reason)


def node_name(name: str) -> str:
    """The name of a compute node as records have it."""
    return checks.fit_address(name)


def moving_guest(instance: Instance, *, assigned: bool) -> Guest:
    """A guest that is to be live migrated, as its record has it, without its flavor's pins.

    :param assigned: whether Nova's own lists say that it has devices that stay
    """
    record = read(instance)
    recorded = isinstance(record, Need) and bool(record.required.assigned)
    return Guest(record=record, assigned=assigned or recorded, risks=risks.of_instance(instance))


def needs_nothing(guest: Guest) -> bool:
    """Whether neither a guest's record nor Nova's lists tell of what a host must accept."""
    return (guest.record is NO_RECORD or isinstance(guest.record, Need)) and not (
        guest.need.devices or guest.assigned
    )
