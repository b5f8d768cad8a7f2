# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The record of what an instance needs, which is kept with the instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oslo_log import log as logging

from nova_devcompat import wire
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.ruling import NO_RECORD, Doubt
from nova_devcompat.compat.verdict import Actor, Code, Reason

if TYPE_CHECKING:
    from nova.objects import Instance

LOG = logging.getLogger(__name__)


def store(instance: Instance, need: Need, *, assigned: bool = False) -> bool:
    """Put a need in ``instance.system_metadata``, which the caller's caller saves.

    :param assigned: whether the guest has assigned devices. Then it always has a record, which
        says so where none of them belongs to a family; a need without devices of any other guest
        leaves no record
    :returns: whether anything changed
    """
    wanted = wire.dump_record(need) if assigned or need.devices else {}
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
    """The recorded need, without devices where it is recorded that the guest needs nothing.

    :returns: None where there is no record
    :raises WireError: there is one that cannot be read
    """
    return wire.load_record(instance.system_metadata)


def read(instance: Instance) -> Need | Doubt:
    """The recorded need; a doubt where there is no record or it cannot be read. Never raises."""
    try:
        recorded = load(instance)
    except wire.WireError as error:
        return Doubt(
            reason=Reason(code=Code.RECORD_UNREADABLE, actor=Actor.OPERATOR, detail=str(error))
        )
    return NO_RECORD if recorded is None else recorded
