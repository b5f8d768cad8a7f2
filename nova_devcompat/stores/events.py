# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reasons in an instance's action events, which administrators read.

``openstack server event show SERVER REQUEST`` prints them. Nova shows ``details`` (since API
microversion 2.84) and ``traceback`` to administrators only, by the rules
``os_compute_api:os-instance-actions:events:details`` and ``os_compute_api:os-instance-actions:
events`` of nova/policies/instance_actions.py; the event's name and result to owners too.

One row is written for each event, with all that it has. To start and to finish it would be two,
and the second finds the first by the event's name alone (nova/db/main/api.py,
action_event_finish): of two destinations that refuse a guest, one would stay unfinished.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nova import context as nova_context
from nova import exception, objects
from oslo_log import log as logging
from oslo_utils import timeutils

LOG = logging.getLogger(__name__)

#: A host refused an instance.
REFUSED = "devcompat_refused"
#: Something was let pass because of an accepted risk.
RISK = "devcompat_risk"
#: No host was left for an instance.
NO_HOST = "devcompat_no_host"

# As many characters as Nova keeps of the message of an exception (nova/compute/utils.py,
# exception_to_dict), and what MySQL's TEXT holds whatever is escaped by whom.
_DETAILS = 255
_TRACEBACK = 16_000


def add(
    context: Any,
    instance_uuid: str,
    event: str,
    *,
    summary: str,
    lines: Iterable[str],
    host: str,
    result: str = "Error",
) -> None:
    """Add a finished event to the action that the request of a context is. Never raises.

    Nothing is added where there is no such action.

    :param context: of the cell that has the instance
    :param event: what it is called
    :param summary: its ``details``, of which 255 characters are kept
    :param lines: its ``traceback``, of which 16,000 characters are kept
    :param host: the host that says so, as Nova calls it; the API shows no event without one
    :param result: ``Error``, or ``Success`` where nothing failed
    """
    now = timeutils.utcnow()
    try:
        objects.InstanceActionEvent(
            context,
            event=event,
            start_time=now,
            finish_time=now,
            result=result,
            details=_cut(_plain(summary), _DETAILS),
            traceback=_cut("\n".join(map(_plain, lines)), _TRACEBACK),
            host=host,
        ).create(instance_uuid, context.request_id)
    except exception.InstanceActionNotFound:
        LOG.debug("Instance %s has no action that %s belongs to", instance_uuid, event)
    except Exception:
        # Only words: whatever the request does goes on.
        LOG.exception("No event %s could be added to instance %s", event, instance_uuid)


def add_in_cell(context: Any, instance_uuid: str, event: str, **values: Any) -> None:
    """The same for whoever is in no cell, as nova-scheduler. Never raises.

    At its first boot an instance is in no cell while it is scheduled, so it has no action either.
    """
    # Not get_admin_context(), under which later log lines would carry another request's ID.
    elevated = context.elevated()
    try:
        mapping = objects.InstanceMapping.get_by_instance_uuid(elevated, instance_uuid)
        if mapping.cell_mapping is None:
            return
        with nova_context.target_cell(elevated, mapping.cell_mapping) as cell:
            add(cell, instance_uuid, event, **values)
    except exception.InstanceMappingNotFound:
        return
    except Exception:
        LOG.exception("No event %s could be added to instance %s", event, instance_uuid)


def _plain(line: str) -> str:
    """One line of ASCII: MySQL's utf8mb3 has no room for characters beyond the basic plane."""
    return " ".join(line.splitlines()).encode("ascii", "backslashreplace").decode()


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 3]}..."
