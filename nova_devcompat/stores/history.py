# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What Nova's own books say of an instance since its record was written."""

from __future__ import annotations

import datetime
from typing import Any

from nova import objects
from nova.compute import instance_actions
from nova.objects import fields

from nova_devcompat.compat.record import Incarnation
from nova_devcompat.stores.records import node_name

#: How far the clocks of two hosts may be apart. What began so shortly before the record was
#: written may have been done after it.
CLOCKS_APART = datetime.timedelta(seconds=5)

#: Actions that neither start a guest nor initialise devices that stay in a live migration. Any
#: other, of a later release too, may.
_HARMLESS = frozenset(
    {
        instance_actions.LIVE_MIGRATION,
        instance_actions.LIVE_MIGRATION_CANCEL,
        instance_actions.LIVE_MIGRATION_FORCE_COMPLETE,
        instance_actions.CONFIRM_RESIZE,
        instance_actions.PAUSE,
        instance_actions.UNPAUSE,
        instance_actions.LOCK,
        instance_actions.UNLOCK,
        instance_actions.CHANGE_PASSWORD,
        instance_actions.TRIGGER_CRASH_DUMP,
        instance_actions.EXTEND_VOLUME,
        instance_actions.ATTACH_INTERFACE,
        instance_actions.DETACH_INTERFACE,
        instance_actions.ATTACH_VOLUME,
        instance_actions.DETACH_VOLUME,
        instance_actions.SWAP_VOLUME,
    }
)

_ERROR = "error"
#: A live migration of which something fails once the guest has arrived ends as one that failed
#: before (nova/compute/manager.py, _post_live_migration_update_host).
_MAY_HAVE_MOVED = frozenset({"completed", _ERROR})


def only_live_migrated(context: Any, uuid: str, since: Incarnation, node: str) -> bool:
    """Whether all that was done to a guest was to live migrate it from one node to another.

    :param since: where it was, and when
    :param node: where it is now
    :raises Exception: whatever Nova raises where its database cannot be asked
    """
    moment = _parsed(since.time)
    if moment is None or not nothing_else(context, uuid, since):
        return False
    found = sorted(
        (
            each
            for each in objects.MigrationList.get_by_filters(context, {"instance_uuid": uuid})
            if each.status in _MAY_HAVE_MOVED and each.updated_at and each.updated_at >= moment
        ),
        key=lambda each: int(each.id),
    )
    at = since.node
    moved = False
    for index, each in enumerate(found):
        left, reached = node_name(each.source_node or ""), node_name(each.dest_node or "")
        if not moved and left != at and reached == at:
            continue  # it brought the guest, and was completed after the record was written
        if each.status == _ERROR:
            # Where the guest was next tells.
            later = found[index + 1 :]
            then = node_name((later[0].source_node if later else node) or "")
            if then != reached:
                continue
        if each.migration_type != fields.MigrationType.LIVE_MIGRATION or left != at:
            return False
        at = reached
        moved = True
    return moved and at == node_name(node)


def nothing_else(context: Any, uuid: str, since: Incarnation) -> bool:
    """Whether nothing was done to a guest that may have initialised devices which stay.

    :param since: when its record was written
    :raises Exception: whatever Nova raises where its database cannot be asked
    """
    moment = _parsed(since.time)
    if moment is None:
        return False
    moment -= CLOCKS_APART
    actions = objects.InstanceActionList.get_by_instance_uuid(context, uuid)
    return all(
        each.action in _HARMLESS
        for each in actions
        if (each.start_time is None or each.start_time >= moment)
        # The record is what came of this one.
        and not (since.request and each.request_id == since.request)
    )


def _parsed(time: str) -> datetime.datetime | None:
    """As Nova's objects have times, with a zone."""
    try:
        moment = datetime.datetime.fromisoformat(time)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
