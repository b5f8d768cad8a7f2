# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The recorded needs of all instances of a cloud, shown on a controller."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

from nova_devcompat.compat.need import DeviceNeed, Need, host_slot
from nova_devcompat.compat.pins import is_pin
from nova_devcompat.compat.ruling import NO_RECORD, Doubt
from nova_devcompat.compat.verdict import Code
from nova_devcompat.fleet.cloud import ATTRIBUTES, Cloud, extra_specs, frozen
from nova_devcompat.fleet.counting import listed, many
from nova_devcompat.fleet.model import Host, Place
from nova_devcompat.fleet.restarts import Restarts
from nova_devcompat.kit.text import near
from nova_devcompat.stores import records
from nova_devcompat.stores.cells import Cells, instances, label_of

LOG = logging.getLogger(__name__)

#: What is recorded of a guest that has devices, none of which belongs to a family.
NOTHING = "nothing"
#: What a problem begins with that a restart of the guest would end.
RESTART = "restart pending"


class Row(NamedTuple):
    """A device need of an instance, or what is wrong with the record.

    :param instance: its UUID
    :param host: the host it is on
    :param family: the device's family
    :param address: the device's address on the host
    :param need: what is recorded: attributes and values
    :param assumed: the attributes that are assumed
    :param problem: a reason's code and what it concerns, '' for none; or :data:`RESTART` and the
        entries of known-bad lists that hold the guest back because of where it was started
    """

    instance: str
    host: str
    family: str
    address: str
    need: str
    assumed: str
    problem: str


class Records:
    """Questions about the records of instances.

    :param cells: all cells of the cloud
    """

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self._cloud = Cloud(cells)

    def recorded(
        self,
        *,
        cell: str | None = None,
        host: str | None = None,
        family: str | None = None,
        assumed: bool = False,
        restart: bool = False,
    ) -> Iterator[Row]:
        """What is recorded, ordered by cell and instance.

        :param cell: only instances of this cell
        :param host: only instances on this host
        :param family: only devices of this family
        :param assumed: only needs of which a part is assumed
        :param restart: only needs that keep a guest from hosts until it is started anew
        :raises BadRequest: there is no such cell or host; by the call itself, not on iteration
        :raises Refused: the API database does not answer; likewise
        """
        cells = self.cells.select(name=cell, host=host)
        filters = {} if host is None else {"host": host}

        def rows(context: Any) -> Iterator[Row]:
            # Of all hosts of the cell: a guest can go to any of them.
            restarts = Restarts(self._cloud.hosts(context))
            for instance in instances(context, filters, ["system_metadata"]):
                yield from _rows(instance, restarts)

        return (
            row
            for row in _of_family(self.cells.each(cells, rows), family)
            if (row.assumed or not assumed) and (row.problem.startswith(RESTART) or not restart)
        )

    def missing(
        self, *, cell: str | None = None, host: str | None = None, family: str | None = None
    ) -> Iterator[Row]:
        """What is not recorded of running guests: needs of devices and of their hosts.

        Judged by what the guest's host published: hosts that publish nothing are named at the end,
        as a warning. Parameters and errors as for :meth:`recorded`.
        """
        cells = self.cells.select(name=cell, host=host)
        families: set[str] = set()
        for at, instance, allocations in self._cloud.running(cells, host):
            families.update(one.family for one in at.parts)
            record = records.read(instance)
            if isinstance(record, Doubt) and record is not NO_RECORD:
                if family is None:
                    yield _unreadable(instance, record)
                continue
            old = record if isinstance(record, Need) else Need()
            new = old.completed(frozen(instance, at, allocations, Need()))
            for before, after in pairs(old, new):
                problem = _gaps(before, after)
                if problem and family in (None, after.family):
                    part = before or dataclasses.replace(after, values=(), assumed=frozenset())
                    yield _row(instance, part, problem)
            for part in missing_of_host(at, old):
                if family in (None, part.family):
                    problem = f"{Code.NEED_MISSING}: what it needs of its host is not recorded"
                    yield _row(instance, part, problem)
        if family is not None and family not in families:
            _say_nobody_has(family, families)
        if self._cloud.silent:
            LOG.warning(
                "Of %s nothing is known, since nothing is published there: %s",
                many(self._cloud.silent, "host"),
                listed(sorted(self._cloud.silent)),
            )

    def show(self, uuid: str) -> dict[str, Any]:
        """All that is known of one instance's need.

        :returns: ``uuid``, ``name``, ``cell``, ``host``, ``vm_state``, ``task_state``; ``needs``,
            a mapping for each device with the verdict of its own host as it is now; ``pins``, the
            flavor's extra specs; ``problem``, '' for none
        :raises BadRequest: there is no such instance
        :raises Refused: its cell does not answer
        """
        instance, cell = self.cells.instance(uuid, ATTRIBUTES)
        record = records.read(instance)
        parts = record.devices if isinstance(record, Need) else ()
        host = self._cloud.host_with(instance, cell) if parts else None
        parents = {pci.address: pci.parent_addr for pci in instance.pci_devices}
        return {
            "uuid": instance.uuid,
            "name": instance.display_name or "",
            "cell": label_of(cell),
            "host": instance.host or "",
            "vm_state": instance.vm_state or "",
            "task_state": instance.task_state or "",
            "needs": [_described(part, host, parents.get(part.address)) for part in parts],
            "pins": {
                key: value for key, value in sorted(extra_specs(instance).items()) if is_pin(key)
            },
            "problem": _problem(record),
        }


def _of_family(rows: Iterator[Row], family: str | None) -> Iterator[Row]:
    """Those of a family; None for all. Where none is, that is said: it may be misspelt."""
    families: set[str] = set()
    for row in rows:
        families.add(row.family)
        if family in (None, row.family):
            yield row
    if family is not None and family not in families:
        _say_nobody_has(family, families - {""})


def _say_nobody_has(family: str, families: set[str]) -> None:
    LOG.warning(
        "No instance that was looked at has anything of a family %r; families: %s%s",
        family,
        ", ".join(sorted(families)) or "none",
        near(family, families),
    )


def _rows(instance: Any, restarts: Restarts) -> Iterator[Row]:
    record = records.read(instance)
    if isinstance(record, Need):
        place = Place(instance.host or "", instance.node or "")
        if not record.devices:
            # Nor is this no record: a guest without one is UNKNOWN everywhere.
            yield Row(instance.uuid, instance.host or "", "", "", NOTHING, "", "")
        for part in record.devices:
            pending = ", ".join(restarts.pending(place, part))
            yield _row(instance, part, f"{RESTART}: {pending}" if pending else "")
    elif record is not NO_RECORD:
        yield _unreadable(instance, record)


def _row(instance: Any, part: DeviceNeed, problem: str) -> Row:
    return Row(
        instance=instance.uuid,
        host=instance.host or "",
        family=part.family,
        address=part.address,
        need=", ".join(f"{name} {text_of(values)}" for name, values in part.values),
        assumed=", ".join(sorted(part.assumed)),
        problem=problem,
    )


def _unreadable(instance: Any, record: Doubt) -> Row:
    return Row(instance.uuid, instance.host or "", "", "", "", "", _problem(record))


def _problem(record: Need | Doubt) -> str:
    """A reason's code and detail where there is a record that cannot be read, else ''."""
    if isinstance(record, Need) or record is NO_RECORD:
        return ""
    return f"{record.reason.code}: {record.reason.detail}"


def text_of(values: frozenset[str] | None) -> str:
    """Values of a need as a person reads them, and as a need prints them."""
    if values is None:
        return "unknown"
    return ",".join(sorted(values)) or "nothing"


def _gaps(old: DeviceNeed | None, new: DeviceNeed) -> str:
    """What is missing from a device's need, '' for nothing."""
    if old is None:
        return f"{Code.NEED_MISSING}: the device is not recorded"
    recorded = dict(old.values)
    missing = [name for name, _ in new.values if name not in recorded]
    unknown = [name for name, values in old.values if values is None]
    return "; ".join(
        f"{code}: {', '.join(names)}"
        for code, names in ((Code.NEED_MISSING, missing), (Code.NEED_UNKNOWN, unknown))
        if names
    )


def _described(part: DeviceNeed, host: Host | None, parent: str | None) -> dict[str, Any]:
    verdict = None if host is None else host.judge(part, parent)
    return {
        "family": part.family,
        "address": part.address,
        "slot": part.slot,
        "values": {
            name: None if values is None else sorted(values) for name, values in part.values
        },
        "assumed": sorted(part.assumed),
        "verdict": "" if verdict is None else verdict.outcome.value,
        "reasons": [] if verdict is None else [str(reason) for reason in verdict.reasons],
    }


def missing_of_host(host: Host, need: Need) -> list[DeviceNeed]:
    """A part for each host family of a guest's host of which nothing is recorded."""
    recorded = {part.family for part in need.host}
    published = host.document.by_family if host.document is not None else {}
    return [
        DeviceNeed.of(family, {}, slot=host_slot(family))
        for family in sorted(published.keys() - recorded)
    ]


def pairs(old: Need, new: Need) -> Iterator[tuple[DeviceNeed | None, DeviceNeed]]:
    """The devices of a need that was made from another, whose devices come first in it."""
    for index, device in enumerate(new.devices):
        yield (old.devices[index] if index < len(old.devices) else None), device
