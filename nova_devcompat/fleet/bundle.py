# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a report for the authors has of a cloud's databases and of placement."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nova import objects
from nova.db.main import api as main_api
from nova.db.main import models

from nova_devcompat import wire
from nova_devcompat.compat import traits
from nova_devcompat.compat.need import Need
from nova_devcompat.fleet.cloud import Cloud
from nova_devcompat.stores import events, records
from nova_devcompat.stores.cells import Cells, Refused, compute_nodes, hosts_down, label_of

#: Documents, at most: 57 KB each.
MOST_HOSTS = 1_000
#: Events of each cell, at most, and how many of the newest rows they are looked for in: the table
#: has no index by name.
_MOST_EVENTS = 500
_ROWS_LOOKED_AT = 200_000


class Told(Cells):
    """All cells; what had to be passed over is told to the report, too.

    :param context: an administrator's
    :param missing: takes a line for it
    """

    def __init__(self, context: Any, missing: Callable[[str], None]) -> None:
        super().__init__(context)
        self._missing = missing

    def pass_over(self, message: str, *args: object) -> None:
        """Tell of something that is left out."""
        super().pass_over(message, *args)
        self._missing(message % args)


def hosts(cells: Cells) -> Iterator[str]:
    """A line of JSON for each compute node: what it is, and the document that it published.

    :raises Refused: the API database does not answer
    """
    count = 0
    for cell in cells.select():

        def rows(context: Any, name: str = label_of(cell)) -> Iterator[dict[str, Any]]:
            down = hosts_down(context)
            for node in compute_nodes(context):
                yield {
                    "cell": name,
                    "host": node.host,
                    "node": node.hypervisor_hostname,
                    "hypervisor": f"{node.hypervisor_type} {node.hypervisor_version}",
                    "down": down.get(node.host, ""),
                    "document": (node.stats or {}).get(wire.STATS_KEY),
                }

        for row in cells.each([cell], rows):
            count += 1
            if count > MOST_HOSTS:
                cells.pass_over("Only the first %d hosts are told of", MOST_HOSTS)
                return
            yield json.dumps(row, sort_keys=True) + "\n"


def decisions(cells: Cells) -> Iterator[str]:
    """A line of JSON for each of the last events that a decision of ours left, newest first.

    :raises Refused: the API database does not answer
    """
    for cell in cells.select():
        for row in cells.each([cell], _last_events):
            yield json.dumps({"cell": label_of(cell), **row}, sort_keys=True) + "\n"


def _last_events(context: Any) -> Iterator[dict[str, Any]]:
    for event, action in _query(context):
        yield {
            "time": str(event.finish_time),
            "event": event.event,
            "host": event.host,
            "details": event.details,
            "reasons": event.traceback,
            "instance": action.instance_uuid,
            "request": action.request_id,
            "action": action.action,
        }


@main_api.pick_context_manager_reader  # type: ignore[untyped-decorator]
def _query(context: Any) -> Sequence[tuple[Any, Any]]:
    event, action = models.InstanceActionEvent, models.InstanceAction
    newest = context.session.query(event.id).order_by(event.id.desc()).limit(1).scalar() or 0
    found: Sequence[tuple[Any, Any]] = (
        context.session.query(event, action)
        .join(action, action.id == event.action_id)
        .filter(event.id > newest - _ROWS_LOOKED_AT)
        .filter(event.event.in_((events.REFUSED, events.NO_HOST, events.RISK)))
        .order_by(event.id.desc())
        .limit(_MOST_EVENTS)
        .all()
    )
    return found


def atoms(cloud: Cloud) -> Iterator[str]:
    """A line for each atom that placement knows, those that some host accepts marked so.

    :raises Refused: placement does not answer
    """
    known = cloud.placement.known_atoms()
    accepted = cloud.placement.known_atoms(associated=True)
    if known is None or accepted is None:
        raise Refused("placement does not tell which traits there are")
    for atom in sorted(known):
        by = "some host" if atom in accepted else "no host"
        yield f"{traits.encode(atom)} accepted by {by}\n"


def server(cells: Cells, uuid: str) -> Iterator[str]:
    """What is kept of one server, as it is and as it is read; but for what its owner called it.

    :raises BadRequest: there is no such server
    :raises Refused: its cell does not answer
    """
    instance, cell = cells.instance(uuid, records.RECORD_ATTRIBUTES)
    record = records.read(instance)
    read = record.devices if isinstance(record, Need) else (record.reason,)
    told = {
        "uuid": instance.uuid,
        "cell": label_of(cell),
        "host": instance.host,
        "node": instance.node,
        "vm_state": instance.vm_state,
        "task_state": instance.task_state,
        "kept": {
            key: value
            for key, value in sorted(instance.system_metadata.items())
            if key.startswith(wire.METADATA_PREFIX)
        },
        "read": [str(one) for one in read],
    }
    yield json.dumps(told, indent=1) + "\n"


def services(cells: Cells) -> Iterator[str]:
    """A line of JSON for each service of Nova's.

    :raises Refused: the API database does not answer
    """
    for cell in cells.select():

        def rows(context: Any, name: str = label_of(cell)) -> Iterator[dict[str, Any]]:
            for one in objects.ServiceList.get_all(context):
                yield {
                    "cell": name,
                    "binary": one.binary,
                    "host": one.host,
                    "version": one.version,
                    "disabled": one.disabled,
                    "last_seen": str(one.last_seen_up or ""),
                }

        for row in cells.each([cell], rows):
            yield json.dumps(row, sort_keys=True) + "\n"
