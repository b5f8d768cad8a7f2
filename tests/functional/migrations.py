# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Live migrations through Nova's API, with fake libvirt doing the hypervisors' part."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib import parse

import fixtures
from nova import objects
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.api import client as api_client

from tests.functional import capture
from tests.functional.guests import Server

#: What a live migration can end with (nova/objects/migration.py).
_ENDED = frozenset({"completed", "failed", "error", "cancelled"})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Migrated:
    """How a live migration ended.

    :ivar status: of the migration record: completed, failed, error or cancelled; '' when the
        request was refused before there was one
    :ivar host: where the server is now
    :ivar attempts: destinations that were asked, in order, with their refusals
    :ivar error: why it did not complete, as far as the API or the action's events tell
    :ivar uuid: of the migration, which is its consumer in placement as well
    """

    status: str
    host: str
    attempts: tuple[capture.Attempt, ...]
    error: str
    uuid: str

    @property
    def tried(self) -> list[str]:
        return [attempt.host for attempt in self.attempts]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """A live migration that was asked for.

    :ivar server: the guest
    :ivar before: UUIDs of its earlier migrations
    :ivar asked: how many destinations had been asked before, for all guests
    :ivar error: what the API answered, '' for 202
    """

    server: Server
    before: frozenset[str]
    asked: int
    error: str


class Migrations:
    """What a fleet does to move its guests."""

    def _begin_migrations(self) -> None:
        #: Set to True to let running migrations break, after the destination was prepared.
        self.migrations_break = False
        self._copying: set[str] = set()
        self._released = threading.Event()
        self._released.set()
        self.useFixture(
            fixtures.MonkeyPatch("nova.tests.fixtures.libvirt.Domain.abortJob", _abort_job)
        )

    def live_migrate(
        self, server: Server, host: str | None = None, *, force: bool = False
    ) -> Migrated:
        """Live-migrate a server and wait for the end of it, whatever that is.

        :param host: the destination; None: the scheduler chooses
        :param force: past the scheduler (microversion 2.67, the last with ``force``)
        """
        return self.end_live_migration(self.begin_live_migration(server, host, force=force))

    def begin_live_migration(
        self, server: Server, host: str | None = None, *, force: bool = False
    ) -> Begun:
        """Have a live migration begin; see :meth:`migrations_held` for one that goes on."""
        # How an earlier migration of the same domain ended must not be read as this one's end.
        for domain in self.connection(self.host_of(server))._vms.values():
            if domain.UUIDString() == server["id"]:
                domain._job_type = fakelibvirt.VIR_DOMAIN_JOB_NONE
        before = {migration.uuid for migration in self.migrations(server)}
        asked = len(self.progress.attempts)
        action: dict[str, Any] = {"host": host, "block_migration": "auto"}
        if force:
            action["force"] = True
        error = ""
        try:
            with self._microversion("2.67" if force else self.api.microversion):
                self.api.post_server_action(server["id"], {"os-migrateLive": action})
        except api_client.OpenStackApiException as exc:
            # Casts are calls in these tests (CASTS_WAIT), so that an error in the conductor
            # comes back through an API that would have answered 202.
            error = str(exc)
        return Begun(server=server, before=frozenset(before), asked=asked, error=error)

    def end_live_migration(self, begun: Begun) -> Migrated:
        """Wait for the end of a live migration, whatever that is."""
        server = begun.server

        def new() -> list[Any]:
            return [each for each in self.migrations(server) if each.uuid not in begun.before]

        def ended() -> bool:
            if self.progress.is_live_migrating(server["id"]):
                return False
            records = new()
            return all(each.status in _ENDED for each in records) and bool(records or begun.error)

        self.progress.wait_until(ended, f"live migration of {server['id']} to end")
        record = next(iter(new()), None)
        return Migrated(
            status=record.status if record else "",
            host=self.host_of(server),
            attempts=tuple(
                attempt
                for attempt in self.progress.attempts[begun.asked :]
                if attempt.server == server["id"]
            ),
            error="\n".join(filter(None, [begun.error, self._failure(server)])),
            uuid=record.uuid if record else "",
        )

    @contextlib.contextmanager
    def migrations_held(self) -> Iterator[None]:
        """Let no migration end in the block once the hypervisor has begun to copy."""
        self._released = threading.Event()
        try:
            yield
        finally:
            self._released.set()

    def wait_until_copying(self, server: Server) -> Any:
        """Wait for a migration that is held to reach the hypervisor.

        :returns: its migration object
        """
        self.progress.wait_until(
            lambda: server["id"] in self._copying, f"{server['id']} to be copied"
        )
        (migration,) = [each for each in self.migrations(server) if each.status == "running"]
        return migration

    def _migrate_stub(
        self, domain: Any, destination: str, params: Mapping[str, Any], flags: int
    ) -> None:
        """Stand in for what libvirt and QEMU do on both sides of a migration.

        :param domain: fake libvirt's, on the source
        :param destination: URI whose authority is the destination's name
        :param params: ``destination_xml`` is the domain as Nova wants it there
        """
        self._copying.add(domain.UUIDString())
        self.progress.note()
        released = self._released.wait(60)
        self._copying.discard(domain.UUIDString())
        if domain._job_type == fakelibvirt.VIR_DOMAIN_JOB_CANCELLED:
            return
        if self.migrations_break or not released:
            domain.fail_job()
            return
        there = self.connection(parse.urlsplit(destination).netloc)
        there.createXML(params["destination_xml"], 0)
        # Nova passes VIR_MIGRATE_UNDEFINE_SOURCE and, with shared storage and no mdevs, relies
        # on it. No lifecycle event: the real one comes while Nova ignores it.
        here = domain._connection
        here._vms.pop(domain.name(), None)
        for number in [key for key, each in here._running_vms.items() if each is domain]:
            del here._running_vms[number]
        # Last, as Nova may go on from here in another thread.
        domain.complete_job()

    @contextlib.contextmanager
    def _microversion(self, version: str) -> Iterator[None]:
        usual, self.api.microversion = self.api.microversion, version
        try:
            yield
        finally:
            self.api.microversion = usual

    @staticmethod
    def casts_that_fail() -> contextlib.AbstractContextManager[None]:
        """Take no notice of what a compute raises behind an API that would have answered 202."""
        return contextlib.suppress(api_client.OpenStackApiException)

    def migrations(self, server: Server) -> list[Any]:
        """Migration objects of a server, done ones as well."""
        return list(
            objects.MigrationList.get_by_filters(self.context, {"instance_uuid": server["id"]})
        )

    def _failure(self, server: Server) -> str:
        """Details of what failed in the server's newest action, '' if nothing did."""
        newest = self.api.get_instance_actions(server["id"])[0]
        events = self.api.get_instance_action_details(server["id"], newest["request_id"])["events"]
        return "\n".join(
            str(event.get("details") or event.get("traceback"))
            for event in events
            if event["result"] == "Error"
        )


def _abort_job(domain: Any) -> None:
    """Stand in for fake libvirt's Domain.abortJob, which does nothing."""
    domain._job_type = fakelibvirt.VIR_DOMAIN_JOB_CANCELLED
