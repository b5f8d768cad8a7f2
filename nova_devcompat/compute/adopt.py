# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Adoption: guests whose record is not complete, or not of their present start, or not there.

Their needs are read off their devices as these are now, which may be newer than what the guests
depend on; hence they are marked as assumed.
"""

from __future__ import annotations

import enum
import threading
import time
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
from nova_devcompat.compute.todo import Todo, places_of, told
from nova_devcompat.host.devices import HostDevices
from nova_devcompat.stores import asked, history, records, writer
from nova_devcompat.stores.assigned import has_devices
from nova_devcompat.stores.instances import RUNNING
from nova_devcompat.stores.placement import PlacementError
from nova_devcompat.stores.writer import Change

LOG = logging.getLogger(__name__)

# Adoption goes on in the cycles of the resource tracker, the first of which is part of the start
# of nova-compute. So much of each may go into it.
SECONDS_A_CYCLE = 5.0
_PROGRESS_EVERY = 100


class Since(enum.Enum):
    """What became of a guest since its record was written."""

    #: It runs on where it was.
    NOTHING = enum.auto()
    #: It was live migrated, and nothing else.
    MOVED = enum.auto()
    #: It was started, or may have been.
    STARTED = enum.auto()


_MERGING = {
    Since.NOTHING: merging.completed,
    Since.MOVED: merging.followed,
    Since.STARTED: merging.assumed,
}


class _Later(Exception):
    """Of this guest nothing can be told now, so that it is looked at again in the next cycle."""


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
        self._todo: dict[str, Todo] = {}
        # By node, each of which has its own cycles.
        self._again: dict[str, set[str]] = {}

    def look_again(self, uuid: str, nodename: str) -> None:
        """Look at a guest in the next cycle of its node: its devices were initialised, or it has
        arrived.
        """
        with self._lock:
            self._again.setdefault(nodename, set()).add(uuid)

    def go_on(self, nodename: str, seconds: float = SECONDS_A_CYCLE) -> None:
        """Do what is due on a node, for a bounded time; what is left is done in later cycles."""
        devices = self._host.publisher.devices(nodename)
        if devices is None:
            return
        # Two cycles of one node do not overlap in Nova; whoever comes second has nothing to do.
        if not self._busy.acquire(blocking=False):
            return
        try:
            todo = self._todo.setdefault(nodename, Todo())
            deadline = time.monotonic() + seconds
            context = nova_context.get_admin_context()
            due = self._due(context, todo, nodename, devices)
            self._slice(context, todo, nodename, devices, due, deadline)
        finally:
            self._busy.release()

    # --- who is due ------------------------------------------------------------------------------

    def _due(self, context: Any, todo: Todo, nodename: str, devices: HostDevices) -> list[str]:
        """The guests to look at, those first that have waited longest."""
        starts = self._starts()
        if starts is None:
            starts = self._listed(context, todo, nodename, devices.catalog.digest)
        with self._lock:
            again = self._again.pop(nodename, set())
        again |= self._asked(context, nodename)
        return todo.begin(
            starts,
            again,
            devices,
            # An empty list may be no answer.
            others_are_gone=self._domains.tells_starts and bool(starts),
        )

    def _starts(self) -> dict[str, str] | None:
        """By UUID, the starts of the guests that run; None where the driver cannot tell."""
        if not self._domains.tells_starts:
            return None
        try:
            return self._domains.starts()
        except Exception as error:  # noqa: BLE001  libvirtError, and whatever Nova makes of it
            LOG.warning("Which guests run cannot be told: %s", error)
            return {}

    def _listed(self, context: Any, todo: Todo, nodename: str, digest: str) -> dict[str, str]:
        """The guests that run by what Nova knows: asked at the start and for a new catalog."""
        if todo.listed != digest:
            found = objects.InstanceList.get_by_host_and_node(
                context, self._host.name, nodename, expected_attrs=[]
            )
            todo.listed = digest
            return {each.uuid: "" for each in found if each.power_state in RUNNING}
        return dict.fromkeys(todo.guests, "")

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
        todo: Todo,
        nodename: str,
        devices: HostDevices,
        due: list[str],
        deadline: float,
    ) -> None:
        for index, uuid in enumerate(due):
            if time.monotonic() >= deadline:
                return
            try:
                self._look_at(context, todo, uuid, nodename, devices)
            except _NoAnswer:
                return  # all that are left are due in the next cycle
            if todo.seen and todo.seen % _PROGRESS_EVERY == 0:
                LOG.info(
                    "%(node)s: adoption: %(seen)d guests looked at, %(completed)d records "
                    "completed, %(left)d to go",
                    {
                        "node": nodename,
                        "seen": todo.seen,
                        "completed": todo.completed,
                        "left": len(due) - index - 1,
                    },
                )
        if todo.completed:
            LOG.info(
                "%(node)s: adoption done: %(seen)d guests looked at, %(completed)d records "
                "completed from the devices as they are now",
                {"node": nodename, "seen": todo.seen, "completed": todo.completed},
            )
        todo.done()

    def _look_at(
        self, context: Any, todo: Todo, uuid: str, nodename: str, devices: HostDevices
    ) -> None:
        again = True
        try:
            again = self._adopt(context, todo, uuid, nodename, devices)
        except (exception.UnexpectedTaskStateError, _Later):
            todo.look_later(uuid)
            return
        except (_NoAnswer, messaging.MessagingTimeout) as error:
            todo.look_later(uuid)
            LOG.warning("Not adopted yet, for want of an answer: %s", error)
            raise _NoAnswer from error
        except exception.InstanceNotFound:
            again = False  # a domain that is none of Nova's, or deleted
        except Exception:
            LOG.exception("Instance %s could not be adopted", uuid)
        todo.looked_at(uuid, devices.catalog.digest, again=again)

    def _adopt(
        self, context: Any, todo: Todo, uuid: str, nodename: str, devices: HostDevices
    ) -> bool:
        """Bring one guest's record up to date.

        :returns: whether it is to be looked at again though nothing happens, since something of it
            is not known that may be any time, or was recorded only now
        :raises _NoAnswer: placement does not say what it has
        :raises _Later: something is being done to it, or placement has lost what it has
        :raises UnexpectedTaskStateError: the same, since it was read
        :raises InstanceNotFound: there is none
        """
        guest = todo.guests[uuid]
        instance = objects.Instance.get_by_uuid(context, uuid, expected_attrs=list(ATTRIBUTES))
        guest.devices, guest.unread = {}, False
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
            asked.answered(context, instance)
            return False
        # It may have been started since all were listed.
        start = self._domains.start_of(instance) or guest.start
        here = self._guests.incarnation(context, instance, nodename, start)
        since = self._since(context, instance, recorded, here)
        before = recorded.need if recorded is not None else Need()
        try:
            allocations = self._guests.allocated.of(context, instance, before)
        except PlacementError as error:
            raise _NoAnswer(f"placement does not say what instance {uuid} has: {error}") from error
        if allocations is None:
            raise _Later
        found = self._guests.findings(context, instance, nodename, devices, before, allocations)
        written, changed = self._record(context, instance, found, devices, here, since)
        todo.completed += changed
        asked.answered(context, instance)
        allocated = self._guests.allocated.addresses(nodename, allocations)
        guest.devices = told(places_of(instance, found, allocated), devices)
        guest.unread = not devices.fully_read and has_devices(instance)
        if written or found.untold or not all(one.address for one in found.devices):
            # Somebody may have saved an older copy since, or a provider is not known yet.
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
        since = self._since(context, fresh, recorded, here)
        if recorded is None or since is Since.NOTHING:
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
                # None, to ask for its own, where Nova has not given them to it.
                allocations = self._host.allocations_of(context, migration) or None
        found = self._guests.findings(
            context, fresh, nodename, devices, recorded.need, allocations
        )
        if not found.complete or found.untold:
            assert recorded.incarnation is not None
            return records.stale(recorded.incarnation)
        self._record(context, fresh, found, devices, here, since, idle=False)
        return None

    def _since(
        self, context: Any, instance: Any, recorded: Record | None, here: Incarnation
    ) -> Since:
        """What became of a guest since its record was written.

        Nova's own history tells where it was only live migrated, as through a host without our
        driver.
        """
        if recorded is None or recorded.incarnation is None or recorded.incarnation.is_of(here):
            return Since.NOTHING
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
        return Since.MOVED if kept else Since.STARTED

    def _record(
        self,
        context: Any,
        instance: Any,
        found: Findings,
        devices: HostDevices,
        here: Incarnation,
        since: Since,
        *,
        idle: bool = True,
    ) -> tuple[bool, bool]:
        """Record what was found of a guest.

        :param idle: whether only where nothing is being done to it
        :returns: whether anything was written, and whether its need changed
        """
        always = self._guests.needs_record(instance, devices)
        seen = records.load_whole(instance)
        changed = False

        def merge(record: Record | None) -> Change | None:
            nonlocal changed
            if record != seen:
                raise _Later  # it was started, or a port came or went, since it was looked at
            before = record.need if record is not None else Need()
            if found.untold:
                # What was started when nobody looked has no record, so that nothing is known.
                changed = since is Since.STARTED
                return Change(need=Need()) if changed else None
            need = _MERGING[since](before, found)
            exists = record is not None
            changed = changed or need != before or exists is not (always or bool(need.devices))
            return Change(
                need=need,
                assigned=exists or always,
                incarnation=None if _tells_as_much(record, here) else here,
            )

        def read() -> Any:
            fresh = objects.Instance.get_by_uuid(
                context, instance.uuid, expected_attrs=list(records.RECORD_ATTRIBUTES)
            )
            if (fresh.host, fresh.node) != (instance.host, instance.node):
                raise _Later  # it has left since
            return fresh

        written = writer.write(instance.uuid, read, merge, idle=idle)
        return written, written and changed


def _tells_as_much(record: Record | None, here: Incarnation) -> bool:
    """Whether a record names the start of a guest, as well as that can be told."""
    if record is None or record.incarnation is None:
        return False
    of = record.incarnation
    return of.is_of(here) and bool(of.start or not here.start)
