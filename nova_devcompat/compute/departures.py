# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the host that a guest leaves cannot tell of it, asked of Nova at the destination."""

from __future__ import annotations

from typing import Any

from nova import objects

from nova_devcompat import wire
from nova_devcompat.compat.record import Incarnation
from nova_devcompat.compat.ruling import Doubt
from nova_devcompat.stores import history, records


def doubt_of(context: Any, instance: Any) -> Doubt | None:
    """What stands in place of the record of a guest whose host has no driver of ours.

    Where it has, that looks at each start of the guest. Where it has not, and something was done
    to the guest since it was recorded that may have started it, the record may be of another.

    :param instance: with its ``system_metadata``, as it is now
    :returns: None where there is nothing to doubt
    :raises Exception: whatever Nova raises where its database cannot be asked
    """
    try:
        recorded = records.load_whole(instance)
    except wire.WireError:
        return None
    if recorded is None or recorded.incarnation is None or not recorded.need.required.devices:
        return None
    if _kept_there(context, instance, recorded.incarnation):
        return None
    return records.stale(recorded.incarnation)


def is_current(context: Any, instance: Any, of: Incarnation | None) -> bool:
    """Whether a record is of the guest as it was when it left, as far as Nova knows.

    :param instance: that names the host and node that it has left
    :param of: which start the record is of
    :raises Exception: whatever Nova raises where its database cannot be asked
    """
    if of is None:
        return True
    if of.node == records.node_name(instance.node or ""):
        return _kept_there(context, instance, of)
    return history.only_live_migrated(context, instance.uuid, of, instance.node or "")


def _kept_there(context: Any, instance: Any, of: Incarnation) -> bool:
    """Whether the host that a guest is on looks at it, or nothing was done that would matter."""
    node = objects.ComputeNode.get_by_host_and_nodename(context, instance.host, instance.node)
    return wire.STATS_KEY in (node.stats or {}) or history.nothing_else(context, instance.uuid, of)
