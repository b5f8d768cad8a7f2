# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Fixtures that record what Nova does: its calls to placement, its log, its progress."""

import collections
import contextlib
import dataclasses
import functools
import importlib
import json
import logging
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib import parse

import fixtures
from nova.compute import vm_states

WRITES = frozenset({"PUT", "POST", "DELETE"})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlacementCall:
    """One request of Nova's to placement and the answer.

    ``query`` is the parsed query string, every key with the list of its values; a list, because
    keys such as ``root_required`` may repeat. ``body`` is what was sent, ``answer`` the decoded
    JSON that came back (None for an empty answer).
    """

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    status: int
    answer: Any

    @property
    def is_write(self) -> bool:
        return self.method in WRITES

    @property
    def asks_candidates(self) -> bool:
        return self.method == "GET" and self.path == "/allocation_candidates"

    @property
    def required(self) -> set[str]:
        """All traits that any ``required``, ``root_required`` or ``required<suffix>`` names."""
        return {
            trait
            for key, values in self.query.items()
            if key.startswith("required") or key == "root_required"
            for value in values
            for trait in value.removeprefix("in:").split(",")
        }

    @property
    def offered(self) -> set[str]:
        """UUIDs of the providers that an allocation candidate in the answer allocates from.

        Not ``provider_summaries``, which lists every provider of a tree that has a candidate.
        """
        if not self.asks_candidates or self.status != 200:
            return set()
        return {
            provider
            for candidate in self.answer["allocation_requests"]
            for provider in candidate["allocations"]
        }

    @property
    def offered_roots(self) -> set[str]:
        """UUIDs of the root providers of :attr:`offered`, that is of the compute nodes."""
        summaries = self.answer["provider_summaries"] if self.offered else {}
        return {summaries[uuid]["root_provider_uuid"] for uuid in self.offered}

    def __str__(self) -> str:
        query = "&".join(f"{k}={v}" for k, vs in sorted(self.query.items()) for v in vs)
        return f"{self.method} {self.path}{'?' + query if query else ''} -> {self.status}"


class PlacementCalls(list[PlacementCall]):
    """Calls in the order of their answers."""

    @property
    def writes(self) -> "PlacementCalls":
        return PlacementCalls(call for call in self if call.is_write)

    @property
    def candidates(self) -> "PlacementCalls":
        """What the scheduler asked: GET /allocation_candidates."""
        return PlacementCalls(call for call in self if call.asks_candidates)


class PlacementLog(fixtures.Fixture):
    """Records every request that goes through Nova's SchedulerReportClient.

    Use it after Nova's PlacementFixture, which it wraps. What a test itself asks through
    ``self.placement`` does not pass there and is not recorded.
    """

    #: Waits for what goes on beside requests, before a block ends.
    finish: Callable[[], None] = staticmethod(lambda: None)

    def _setUp(self) -> None:
        from nova.scheduler.client import report

        self.calls = PlacementCalls()
        for method in ("get", "put", "post", "delete"):
            original = getattr(report.SchedulerReportClient, method)
            self.useFixture(
                fixtures.MonkeyPatch(
                    f"nova.scheduler.client.report.SchedulerReportClient.{method}",
                    self._recorder(method.upper(), original),
                )
            )

    def _recorder(self, method: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def record(client: Any, url: str, *args: Any, **kwargs: Any) -> Any:
            response = original(client, url, *args, **kwargs)
            body = kwargs.get("data", args[0] if args else None)
            self.calls.append(
                PlacementCall(
                    method=method,
                    path=parse.urlsplit(url).path,
                    query=parse.parse_qs(parse.urlsplit(url).query, keep_blank_values=True),
                    # A copy: callers go on with their dicts.
                    body=json.loads(json.dumps(body)) if method in {"PUT", "POST"} else None,
                    status=response.status_code,
                    answer=_decoded(response),
                )
            )
            return response

        return record

    @contextlib.contextmanager
    def during(self) -> Iterator[PlacementCalls]:
        """Yield a list that holds, after the block, what was asked in the block."""
        self.finish()
        start = len(self.calls)
        block = PlacementCalls()
        try:
            yield block
        finally:
            self.finish()
            block.extend(self.calls[start:])


def _decoded(response: Any) -> Any:
    """The JSON of an answer, None where there is none: a server before placement speaks HTML."""
    with contextlib.suppress(ValueError):
        return response.json()
    return None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """One line; the text of an error ends with its traceback, where it has one."""

    level: int
    logger: str
    text: str

    def __str__(self) -> str:
        return f"{logging.getLevelName(self.level)} {self.logger} {self.text}"


class LogLines(list[LogLine]):
    """Log lines in order."""

    def find(self, pattern: str = "", *, level: int | None = None, logger: str = "") -> "LogLines":
        """Lines whose text a regular expression is found in.

        :param level: exactly this level; any by default
        :param logger: prefix of the logger's name
        """
        return LogLines(
            line
            for line in self
            if line.logger.startswith(logger)
            and level in (None, line.level)
            and re.search(pattern, line.text)
        )

    @property
    def errors(self) -> "LogLines":
        """Lines of level ERROR or worse: where Nova logs an exception it did not expect."""
        return LogLines(line for line in self if line.level >= logging.ERROR)


class LogBook(fixtures.Fixture):
    """Records what is logged: INFO and above from everyone, DEBUG from the loggers named.

    :param debug: prefixes of loggers whose DEBUG lines are kept as well
    """

    #: Waits for what goes on beside requests, before a block ends.
    finish: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, debug: Sequence[str] = ()) -> None:
        super().__init__()
        self._debug = tuple(debug)

    def _setUp(self) -> None:
        self.lines = LogLines()
        handler = logging.Handler(logging.DEBUG)
        handler.emit = self._keep  # type: ignore[method-assign]
        # Not fixtures.LogHandler: it would set the level of the root logger as well.
        root = logging.getLogger()
        root.addHandler(handler)
        self.addCleanup(root.removeHandler, handler)

    def _keep(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.INFO or record.name.startswith(self._debug):
            text = record.getMessage()
            if record.exc_info and record.exc_info[0] is not None:
                text += "\n" + "".join(traceback.format_exception(*record.exc_info))
            self.lines.append(LogLine(level=record.levelno, logger=record.name, text=text))

    @contextlib.contextmanager
    def during(self) -> Iterator[LogLines]:
        """Yield a list that holds, after the block, what was logged in the block."""
        self.finish()
        start = len(self.lines)
        block = LogLines()
        try:
            yield block
        finally:
            self.finish()
            block.extend(self.lines[start:])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """A destination asked whether it takes a guest; ``refusal`` is '' when it does."""

    server: str
    host: str
    refusal: str


class Progress(fixtures.Fixture):
    """Tells when something changed, so that tests wait for events rather than sleep.

    It is woken by every save of an instance or a migration, by every fault that is recorded and by
    the end of every live migration thread, and counts which live migrations are under way and
    which destinations were asked.
    """

    def _setUp(self) -> None:
        from nova.compute import manager
        from nova.objects import instance, instance_fault, migration

        self._changed = threading.Condition()
        self._changes = 0
        self._running: collections.Counter[str] = collections.Counter()
        self._states: dict[str, tuple[Any, Any]] = {}
        self.attempts: list[Attempt] = []
        for owner in (instance.Instance, migration.Migration):
            self._patch(owner, "save", self._noting(owner.save))
        # Nova sets ERROR before it records the fault, and saves nothing after that.
        fault = instance_fault.InstanceFault
        self._patch(fault, "create", self._noting(fault.create))
        self._patch(
            manager.ComputeManager,
            "_do_live_migration",
            self._counting(manager.ComputeManager._do_live_migration),
        )
        self._patch(
            manager.ComputeManager,
            "check_can_live_migrate_destination",
            self._attempting(manager.ComputeManager.check_can_live_migrate_destination),
        )

    def _patch(self, owner: type, name: str, new: Callable[..., Any]) -> None:
        self.useFixture(fixtures.MonkeyPatch(f"{owner.__module__}.{owner.__name__}.{name}", new))

    def note(self) -> None:
        """Wake whoever waits, so that they look again."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def _noting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def save(obj: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(obj, *args, **kwargs)
            finally:
                if "vm_state" in obj and "task_state" in obj:
                    self._states[obj.uuid] = obj.vm_state, obj.task_state
                self.note()

        return save

    def _counting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        # The migration is "completed" before its allocation on the source is deleted
        # (nova/compute/manager.py:_post_live_migration): only the end of the thread is the end.
        @functools.wraps(original)
        def _do_live_migration(
            manager: Any, context: Any, dest: Any, instance: Any, *args: Any, **kwargs: Any
        ) -> Any:
            self._running[instance.uuid] += 1
            try:
                return original(manager, context, dest, instance, *args, **kwargs)
            finally:
                self._running[instance.uuid] -= 1
                self.note()

        return _do_live_migration

    def _attempting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def check_can_live_migrate_destination(
            manager: Any, ctxt: Any, instance: Any, *args: Any, **kwargs: Any
        ) -> Any:
            refusal = ""
            try:
                return original(manager, ctxt, instance, *args, **kwargs)
            except Exception as exc:
                refusal = str(exc)
                raise
            finally:
                self.attempts.append(
                    Attempt(server=instance.uuid, host=manager.host, refusal=refusal)
                )

        return check_can_live_migrate_destination

    def is_under_way(self, server_id: str) -> bool:
        """Whether something is being done with a server, as far as it has been saved."""
        vm_state, task_state = self._states.get(server_id, (None, None))
        return bool(task_state) or vm_state == vm_states.BUILDING

    def is_live_migrating(self, server_id: str) -> bool:
        return self._running[server_id] > 0

    def wait_until(self, predicate: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
        """Wait until a predicate is true; it is asked again after each change.

        :param what: what is waited for, for the error
        :returns: what the predicate returned
        :raises TimeoutError: after ``timeout`` seconds
        """
        end = time.monotonic() + timeout
        while True:
            # The predicate runs outside the lock: it may itself save objects.
            seen = self._changes
            if result := predicate():
                return result
            with self._changed:
                while self._changes == seen:
                    if not self._changed.wait(max(end - time.monotonic(), 0)):
                        raise TimeoutError(f"waited {timeout:g} s for {what}")


class CastIsCall(fixtures.Fixture):
    """Has every RPC without an answer wait for one, so that what it does is done when it returns.

    An error on the other side comes back as well. It does what Nova's CastAsCallFixture does;
    that one patches the class, and remembers how to undo it, at each call of ``prepare``.
    """

    def _setUp(self) -> None:
        client = importlib.import_module("oslo_messaging.rpc.client")
        for owner in (client.RPCClient, client._CallContext):
            for name, new in (("prepare", self._to_one(owner.prepare)), ("cast", owner.call)):
                self.useFixture(fixtures.MockPatchObject(owner, name, new))

    @staticmethod
    def _to_one(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def prepare(context: Any, *args: Any, **kwargs: Any) -> Any:
            # Nobody could wait for the answers of all.
            if "fanout" in kwargs:
                kwargs["fanout"] = False
            return original(context, *args, **kwargs)

        return prepare
