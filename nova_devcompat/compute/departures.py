# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the host that a guest leaves cannot tell of it, asked of Nova at the destination."""

from __future__ import annotations

from typing import Any

from nova import objects

from nova_devcompat import wire
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
    node = objects.ComputeNode.get_by_host_and_nodename(context, instance.host, instance.node)
    if wire.STATS_KEY in (node.stats or {}):
        return None
    if history.nothing_else(context, instance.uuid, recorded.incarnation):
        return None
    return records.stale(recorded.incarnation)
