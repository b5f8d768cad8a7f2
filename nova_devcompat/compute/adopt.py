# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Adoption: guests whose record is not complete, or not of their present start, or not there.

Their needs are read off their devices as these are now, which may be newer than what the guests
depend on; hence they are marked as assumed.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping
from typing import Any

import oslo_messaging as messaging
from nova import context as nova_context
from nova import exception, objects
from nova.objects import fields
from oslo_log import log as logging

from nova_devcompat import wire
from nova_devcompat.compat import merging
from nova_devcompat.compat.merging import Findings
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.record import Incarnation, Record
from nova_devcompat.compat.ruling import Doubt
from nova_devcompat.compute.domain import Domains
from nova_devcompat.compute.guests import ATTRIBUTES, Guests
from nova_devcompat.compute.host import ThisHost
from nova_devcompat.host.inventory import HostDevices
from nova_devcompat.stores import asked, history, records, writer
from nova_devcompat.stores.instances import RUNNING
from nova_devcompat.stores.writer import Change

LOG = logging.getLogger(__name__)

# Adoption goes on in the cycles of the resource tracker, the first of which is part of the start
# of nova-compute. So much of each may go into it.
SECONDS_A_CYCLE = 5.0
_PROGRESS_EVERY = 100

# A record of which a part cannot be told, and nothing says when that will be, is looked at again
# after one cycle, two, four, and then after so many each time.
_MOST_CYCLES = 8

#: What a device tells: its family, and its attributes that can be read.
Told = tuple[str, frozenset[str]]


@dataclasses.dataclass(kw_only=True, slots=True)
class _Guest:
    """What is remembered of a guest between cycles, so that nobody need be asked in most of them.

    :ivar start: the token of the start that its record was looked at for
    :ivar digest: the catalog's then, '' for never
    :ivar devices: by address and parent of its devices, what each told then, None where nothing
    :ivar due: the cycle in which it is looked at again whatever happens; None for never
    :ivar waits: for how many cycles it waited last
    """

    start: str = ""
    digest: str = ""
    devices: Mapping[tuple[str, str | None], Told | None] = dataclasses.field(default_factory=dict)
    due: int | None = 0
    waits: int = 0


@dataclasses.dataclass(slots=True)
class _Node:
    """What is remembered of a node.

    :ivar cycle: how many there were
    :ivar guests: by UUID
    :ivar listed: the catalog's digest when Nova was asked for the guests; None for never
    :ivar seen: how many guests were looked at since there was nothing left to do
    :ivar completed: how many records were completed since
    """

    cycle: int = 0
    guests: dict[str, _Guest] = dataclasses.field(default_factory=dict)
    listed: str | None = None
    seen: int = 0
    completed: int = 0


class _Later(Exception):
    """Something is being done to the guest, so that it is looked at again in the next cycle."""


class _NoAnswer(Exception):
    """Placement or Nova's conductor does not answer: nobody else need be looked at now."""


class Adoption:
    """Keeps the records of one service's guests complete and of their present start.

    In each cycle those guests are looked at of which there is a reason to think that something is
    missing, as many as the time allows; the others cost nothing, neither a query nor a request to
    placement.

    :param host: this host
    :param guests: finds out what guests have
    :param domains: tells which of them run, and since which start
    """

    def __init__(self, host: ThisHost, guests: Guests, domains: Domains) -> None:
        self._host = host
        self._guests = guests
        self._domains = domains
        self._lock = threading.Lock()
        self._busy = threading.Lock()
        self._nodes: dict[str, _Node] = {}
        self._again: set[str] = set()

    def look_again(self, uuid: str) -> None:
        """Look at a guest in the next cycle: its devices were initialised, or it has arrived."""
        with self._lock:
            self._again.add(uuid)

    def go_on(self, nodename: str, seconds: float = SECONDS_A_CYCLE) -> None:
        """Do what is due on a node, for a bounded time; what is left is done in later cycles."""
        devices = self._host.publisher.devices(nodename)
        if devices is None:
            return
        # Two cycles of one node do not overlap in Nova; whoever comes second has nothing to do.
        if not self._busy.acquire(blocking=False):
            return
        try:
            node = self._nodes.setdefault(nodename, _Node())
            node.cycle += 1
            deadline = time.monotonic() + seconds
            context = nova_context.get_admin_context()
            due = self._due(context, node, nodename, devices)
            self._slice(context, node, nodename, devices, due, deadline)
        finally:
            self._busy.release()

    # --- who is due ------------------------------------------------------------------------------

    def _due(self, context: Any, node: _Node, nodename: str, devices: HostDevices) -> list[str]:
        """The guests to look at, those first that have waited longest."""
        digest = devices.catalog.digest
        starts = self._starts()
        if starts is None:
            starts = self._listed(context, node, nodename, digest)
        with self._lock:
            again = self._again
            self._again = set()
        again |= self._asked(context, nodename)
        for uuid in again:
            guest = node.guests.setdefault(uuid, _Guest())
            guest.due, guest.waits = node.cycle, 0
        if self._domains.tells_starts and starts:
            for uuid in node.guests.keys() - starts.keys() - again:
                del node.guests[uuid]
        due = []
        for uuid, start in starts.items():
            guest = node.guests.setdefault(uuid, _Guest(due=node.cycle))
            if guest.start != start:
                guest.start, guest.due, guest.waits = start, node.cycle, 0
        for uuid, guest in node.guests.items():
            if guest.due is not None and guest.due <= node.cycle:
                due.append(uuid)
            elif guest.digest != digest or _tells_more(guest.devices, devices):
                guest.due, guest.waits = node.cycle, 0
                due.append(uuid)
        return sorted(due, key=lambda uuid: node.guests[uuid].due or 0)

    def _starts(self) -> dict[str, str] | None:
        """By UUID, the starts of the guests that run; None where the driver cannot tell."""
        if not self._domains.tells_starts:
            return None
        try:
            return self._domains.starts()
        except Exception as error:  # noqa: BLE001  libvirtError, and whatever Nova makes of it
            LOG.warning("Which guests run cannot be told: %s", error)
            return {}

    def _listed(self, context: Any, node: _Node, nodename: str, digest: str) -> dict[str, str]:
        """The guests that run by what Nova knows: asked at the start and for a new catalog."""
        if node.listed != digest:
            found = objects.InstanceList.get_by_host_and_node(
                context, self._host.name, nodename, expected_attrs=[]
            )
            node.listed = digest
            return {each.uuid: "" for each in found if each.power_state in RUNNING}
        return dict.fromkeys(node.guests, "")

    def _asked(self, context: Any, nodename: str) -> set[str]:
        """The guests for which 'need backfill' asked."""
        try:
            return asked.guests(context, self._host.name, nodename)
        except Exception as error:  # noqa: BLE001  whatever the database layer raises
            LOG.warning("Whose records are to be completed cannot be told: %s", error)
            return set()

    # --- looking at them -------------------------------------------------------------------------

    def _slice(
        self,
        context: Any,
        node: _Node,
        nodename: str,
        devices: HostDevices,
        due: list[str],
        deadline: float,
    ) -> None:
        for uuid in due:
            # Those that are left then have waited longer than who comes due later.
            node.guests[uuid].due = min(node.cycle, node.guests[uuid].due or node.cycle)
        for index, uuid in enumerate(due):
            if time.monotonic() >= deadline:
                return
            try:
                self._look_at(context, node, uuid, nodename, devices)
            except _NoAnswer:
                return  # all that are left are due in the next cycle
            if node.seen and node.seen % _PROGRESS_EVERY == 0:
                LOG.info(
                    "%(node)s: adoption: %(seen)d guests looked at, %(completed)d records "
                    "completed, %(left)d to go",
                    {
                        "node": nodename,
                        "seen": node.seen,
                        "completed": node.completed,
                        "left": len(due) - index - 1,
                    },
                )
        if node.completed:
            LOG.info(
                "%(node)s: adoption done: %(seen)d guests looked at, %(completed)d records "
                "completed from the devices as they are now",
                {"node": nodename, "seen": node.seen, "completed": node.completed},
            )
        node.seen = node.completed = 0

    def _look_at(
        self, context: Any, node: _Node, uuid: str, nodename: str, devices: HostDevices
    ) -> None:
        guest = node.guests[uuid]
        again: bool | None
        try:
            again = self._adopt(context, node, uuid, nodename, devices)
        except (exception.UnexpectedTaskStateError, _Later):
            guest.due = node.cycle + 1
            return
        except (_NoAnswer, messaging.MessagingTimeout) as error:
            # Behind those that have not had their turn.
            guest.due = node.cycle + 1
            LOG.warning("Not adopted yet, for want of an answer: %s", error)
            raise _NoAnswer from error
        except exception.InstanceNotFound:
            again = False  # a domain that is none of Nova's, or deleted
        except Exception:
            LOG.exception("Instance %s could not be adopted", uuid)
            again = True
        node.seen += 1
        guest.digest = devices.catalog.digest
        guest.waits = min(max(1, guest.waits * 2), _MOST_CYCLES) if again else 0
        guest.due = node.cycle + guest.waits if again else None

    def _adopt(
        self, context: Any, node: _Node, uuid: str, nodename: str, devices: HostDevices
    ) -> bool:
        """Bring one guest's record up to date.

        :returns: whether it is to be looked at again though nothing happens, since something of it
            is not known that may be any time
        :raises _NoAnswer: placement does not say what it has
        :raises _Later: something is being done to it
        :raises UnexpectedTaskStateError: the same, since it was read
        :raises InstanceNotFound: there is none
        """
        guest = node.guests[uuid]
        instance = objects.Instance.get_by_uuid(context, uuid, expected_attrs=list(ATTRIBUTES))
        guest.devices = {}
        if instance.host != self._host.name or instance.node != nodename:
            return True  # it may be on its way here, or has left
        if instance.task_state is not None:
            raise _Later
        if instance.power_state not in RUNNING:
            # Nova may not have noticed yet that it was started behind its back.
            return bool(guest.start)
        try:
            recorded = records.load_whole(instance)
        except wire.WireError as error:
            LOG.warning(
                "Not adopted: %s. 'nova-devcompat need clear' and 'need backfill' make a new one",
                error,
                instance=instance,
            )
            return False
        here = self._guests.incarnation(context, instance, nodename, guest.start)
        stale = self._is_stale(context, instance, recorded, here)
        before = recorded.need if recorded is not None else Need()
        found = self._guests.findings(context, instance, nodename, devices, before)
        if not found.complete:
            raise _NoAnswer(f"placement does not say what instance {uuid} has")
        if self._record(context, instance, found, devices, here, stale=stale):
            node.completed += 1
        asked.answered(context, instance)
        guest.devices = _told_of(instance, found, devices)
        if found.untold:
            return True
        return any(values is None for one in found.host for _, values in one.values)

    def make_current(self, context: Any, instance: Any, nodename: str) -> Doubt | None:
        """Look at a guest that is about to leave, where nobody has since it was started.

        :param instance: its UUID is all that is taken from it
        :returns: what stands in place of its record, if that is of another start still
        """
        fresh = objects.Instance.get_by_uuid(
            context, instance.uuid, expected_attrs=list(ATTRIBUTES)
        )
        try:
            recorded = records.load_whole(fresh)
        except wire.WireError:
            return None  # the destination reads it, too
        here = self._guests.incarnation(context, fresh, nodename)
        if recorded is None or not self._is_stale(context, fresh, recorded, here):
            return None
        devices = self._host.devices(nodename)
        # What it has here is the migration's meanwhile (nova/conductor/tasks/live_migrate.py).
        of_migration = {
            "instance_uuid": fresh.uuid,
            "migration_type": fields.MigrationType.LIVE_MIGRATION,
            "status": ["accepted", "queued", "preparing"],
        }
        allocations = None
        for migration in objects.MigrationList.get_by_filters(context, of_migration):
            if migration.source_compute == self._host.name:
                allocations = self._host.allocations_of(context, migration)
        found = self._guests.findings(
            context, fresh, nodename, devices, recorded.need, allocations
        )
        if not found.complete or found.untold:
            assert recorded.incarnation is not None
            return records.stale(recorded.incarnation)
        self._record(context, fresh, found, devices, here, stale=True, idle=False)
        return None

    def _is_stale(
        self, context: Any, instance: Any, recorded: Record | None, here: Incarnation
    ) -> bool:
        """Whether a record is of another start than a guest's present one.

        Not where Nova's own history has only live migrations in between, as through a host without
        our driver.
        """
        if recorded is None or recorded.incarnation is None or recorded.incarnation.is_of(here):
            return False
        kept = history.only_live_migrated(
            context, instance.uuid, recorded.incarnation, instance.node
        )
        LOG.info(
            "The record is of another start of the guest (%(start)s); %(done)s",
            {
                "start": f"on {recorded.incarnation.node} at {recorded.incarnation.time}",
                "done": "kept, since it was only live migrated" if kept else "assumed anew",
            },
            instance=instance,
        )
        return not kept

    def _record(
        self,
        context: Any,
        instance: Any,
        found: Findings,
        devices: HostDevices,
        here: Incarnation,
        *,
        stale: bool,
        idle: bool = True,
    ) -> bool:
        """Record what was found of a guest.

        :param stale: whether what is recorded is of another start
        :param idle: whether only where nothing is being done to it
        :returns: whether its need changed
        """
        always = self._guests.needs_record(instance, devices)
        seen = records.load(instance)
        changed = False

        def merge(record: Record | None) -> Change | None:
            nonlocal changed
            if (record and record.need) != seen:
                raise _Later  # a port came or went since it was looked at
            before = record.need if record is not None else Need()
            if found.untold:
                # What was started when nobody looked has no record, so that nothing is known.
                changed = stale
                return Change(need=Need()) if stale else None
            need = merging.assumed(before, found) if stale else merging.completed(before, found)
            exists = record is not None
            changed = changed or need != before or exists is not (always or bool(need.devices))
            return Change(
                need=need,
                assigned=exists or always,
                incarnation=None if _tells_as_much(record, here) else here,
            )

        def read() -> Any:
            return objects.Instance.get_by_uuid(
                context, instance.uuid, expected_attrs=list(records.RECORD_ATTRIBUTES)
            )

        return writer.write(instance.uuid, read, merge, idle=idle) and changed


def _tells_as_much(record: Record | None, here: Incarnation) -> bool:
    """Whether a record names the start of a guest, as well as that can be told."""
    if record is None or record.incarnation is None:
        return False
    of = record.incarnation
    return of.is_of(here) and bool(of.start or not here.start)


def _tells_more(
    before: Mapping[tuple[str, str | None], Told | None], devices: HostDevices
) -> bool:
    """Whether a device of a guest tells something that it did not when the guest was looked at.

    One that tells less is no reason to look: what is recorded of it stays.
    """
    for (address, parent), told in before.items():
        now = _told(address, parent, devices)
        if now is None or now == told:
            continue
        if told is None or now[0] != told[0] or now[1] - told[1]:
            return True
    return False


def _told(address: str, parent: str | None, devices: HostDevices) -> Told | None:
    family = devices.host.get(address) if parent == _OF_HOST else None
    device = family if family is not None else devices.find(address, parent)
    may_be = devices.may_be(address) if device is None else (device,)
    if len(may_be) != 1:
        return None
    return may_be[0].family, frozenset(may_be[0].offer.parsed)


#: In place of the parent of what is of the host itself.
_OF_HOST = "host"


def _told_of(
    instance: Any, found: Findings, devices: HostDevices
) -> dict[tuple[str, str | None], Told | None]:
    parents = {pci.address: pci.parent_addr for pci in instance.pci_devices}
    watched = {(one.address, parents.get(one.address)) for one in found.devices if one.address}
    watched |= {(family, _OF_HOST) for family in devices.catalog.host_families}
    return {key: _told(*key, devices) for key in watched}
