# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What costs processor time in tests and is none of Nova's own work.

Where Nova's fixtures, or the libraries under them, poll or do a thing anew each time, this has
them wait for the event or keep the thing. Nova's code runs as it is. Measured for the seventh boot
and live migration of a test on native threads: 3.3 s of processor time before, 1.3 s after.

- Pools of native threads (futurist): a worker with nothing to do looks up every 10 ms in Nova's
  tests, and each task starts another worker until there are as many as the pool may have, idle
  ones or not. Here a worker sleeps until there is work or the pool ends, and a new one starts
  only where none is idle.
- oslo.service leaves the pool of a looping call to the garbage collector. Here it ends with its
  call.
- oslo.messaging's fake driver looks for messages every 50 ms, for each server. Here a message
  wakes the servers.
- Nova's API makes a class of validators anew for each request and each answer. Here one is made
  for each schema.
- Placement checks its own JSON schemas anew for each request. Here a schema is checked once.
- Placement makes aliases of its tables anew for each query, and with them all their columns. Here
  those of one name are one.
- Nova, placement and their libraries log for debugging what no test looks at. Here they do not.
- oslo.db lets other threads run each time that a connection is put back, which greenlets need.
  Here it does so on eventlet only.
- oslo.db opens a file of SQLite anew for each transaction. Here connections are kept, as they
  are for every other database.
- Placement has each of its transactions written to the disk before it goes on. Here it does not
  wait, as Nova's fixtures have it for Nova's own databases.
- libvirt's driver runs ``uptime`` in each cycle, and to fork a process as large as this takes
  longer than the rest of what it asks there. Here the first answer is kept.
- Each host that starts, and each catalog that is loaded, looks for entry points, and Python opens
  a file of every distribution for it. Here it does so once for each folder of the path.
- Python looks for garbage each time 700 objects more have been made than were dropped, which in a
  process of this size is all the time. Here it waits for more.
"""

import functools
import gc
import importlib.metadata
import logging
import queue
import threading
import time
from typing import Any

import sqlalchemy
from futurist import _futures as futures
from futurist import _thread as thread
from nova.api.validation import validators
from nova.virt.libvirt import driver as libvirt_driver
from oslo_db.sqlalchemy import engines
from oslo_messaging._drivers import impl_fake
from placement import util as placement_util
from sqlalchemy import pool

from tests import entry_points

#: More than any test has transactions at the same time, so that none waits for a connection.
_CONNECTIONS = 100
#: How many new objects there are when Python looks for garbage, and how many looks at the young
#: ones come before one at older ones.
_GARBAGE = (50_000, 20, 50)

#: Loggers of what is not ours that log most.
_TALKATIVE = (
    "nova",
    "oslo_concurrency",
    "oslo_messaging",
    "oslo_service",
    "placement",
    # Four lines for each use of a connection: SQLAlchemy logs in the name of the pool's class.
    __name__,
)

#: Told of every message, and of every listener that stops.
_messages = threading.Condition()
_deliver = impl_fake.FakeExchange.deliver_message

_SchemaValidator = validators._SchemaValidator
_jsonschema = placement_util.jsonschema
_alias = sqlalchemy.alias
_uptime = libvirt_driver.LibvirtDriver.get_host_uptime


def install(*, threads: bool) -> None:
    """Replace what polls, in this process. Idempotent.

    :param threads: whether it runs Nova on native threads. On eventlet, futurist's pools do not
        poll, and databases are in memory.
    """
    if threads:
        thread.ThreadWorker._wait_for_work = _wait_for_work
        thread.ThreadWorker.stop = _stop_worker
        futures.ThreadPoolExecutor._maybe_spin_up = _maybe_spin_up
        engines.pool = _Pools
        # oslo.service of OpenStack 2025.1 has no such module, and its Nova no native threads.
        from oslo_service.backend._threading import loopingcall

        loopingcall.LoopingCallBase._spawn_loop = _spawn_loop
        engines._thread_yield = lambda *_connection: None
    impl_fake.FakeExchange.deliver_message = _deliver_and_tell
    impl_fake.FakeListener.poll = impl_fake.base.batch_poll_helper(_poll)
    impl_fake.FakeListener.stop = _stop_listener
    validators._SchemaValidator = _Validator
    placement_util.jsonschema = _JsonSchema
    libvirt_driver.LibvirtDriver.get_host_uptime = _get_host_uptime
    sqlalchemy.alias = _get_alias
    importlib.metadata.entry_points = entry_points.find_once
    gc.set_threshold(*_GARBAGE)
    for logger in _TALKATIVE:
        logging.getLogger(logger).setLevel(logging.INFO)
    # Not what runs within Nova's namespace for want of another.
    logging.getLogger("nova.virt.devcompat").setLevel(logging.DEBUG)


class _Kept(pool.QueuePool):
    """Stands in for NullPool, which takes the same arguments but for the size."""

    def __init__(self, creator: Any, **kwargs: Any) -> None:
        def create(record: Any) -> Any:
            connection = creator(record)
            connection.execute("PRAGMA synchronous = OFF")
            return connection

        super().__init__(create, **{"pool_size": _CONNECTIONS, **kwargs})


class _Validator:
    """Stands in for nova.api.validation.validators._SchemaValidator."""

    #: By identity of the schema, which is kept as well, so that no other takes its place.
    _made: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def __new__(
        cls, schema: Any, relax_additional_properties: bool = False, is_body: bool = True
    ) -> Any:
        key = id(schema), relax_additional_properties, is_body
        if key not in cls._made:
            cls._made[key] = schema, _SchemaValidator(schema, relax_additional_properties, is_body)
        return cls._made[key][1]


class _JsonSchema:
    """What placement.util takes from jsonschema."""

    FormatChecker = staticmethod(functools.cache(_jsonschema.FormatChecker))
    ValidationError = _jsonschema.ValidationError
    #: By identity of the schema, which is kept as well.
    _made: dict[int, tuple[Any, Any]] = {}

    @classmethod
    def validate(cls, instance: Any, schema: Any, format_checker: Any = None) -> None:
        """Stand in for jsonschema.validate."""
        if id(schema) not in cls._made:
            validator = _jsonschema.validators.validator_for(schema)
            validator.check_schema(schema)
            cls._made[id(schema)] = schema, validator(schema, format_checker=format_checker)
        error = _jsonschema.exceptions.best_match(cls._made[id(schema)][1].iter_errors(instance))
        if error is not None:
            raise error


class _Pools:
    """What oslo_db.sqlalchemy.engines chooses pools from."""

    NullPool = _Kept
    QueuePool = pool.QueuePool
    SingletonThreadPool = pool.SingletonThreadPool
    StaticPool = pool.StaticPool


def _get_alias(table: Any, name: str | None = None, flat: bool = False) -> Any:
    """Stand in for sqlalchemy.alias."""
    if name is None or not isinstance(table, sqlalchemy.Table):
        return _alias(table, name, flat)
    return _named_alias(table, name, flat)


_named_alias = functools.cache(_alias)


@functools.cache
def _uptime_once() -> Any:
    return _uptime(None)


def _get_host_uptime(_driver: Any) -> Any:
    """Stand in for LibvirtDriver.get_host_uptime, which asks nothing of the driver."""
    return _uptime_once()


def _wait_for_work(worker: Any) -> Any:
    """Stand in for ThreadWorker._wait_for_work."""
    worker.idle = True
    while True:
        try:
            # The timeout is for pools that nobody shuts down: futurist then sets a flag only.
            work = worker.work_queue.get(True, 1)
        except queue.Empty:
            work = None
        if work is not None:
            worker.idle = False
            return work
        if worker._is_dying():
            # For the next worker: it may be that this one has taken what was meant for it.
            worker.work_queue.put(None)
            raise thread._Stopping


def _stop_worker(worker: Any) -> None:
    """Stand in for ThreadWorker.stop, which says nothing to a worker that waits."""
    worker.should_stop = True
    # Without an executor this runs in the garbage collector, where no lock may be taken.
    if worker.executor_ref() is not None:
        worker.work_queue.put(None)


def _maybe_spin_up(executor: Any) -> bool:
    """Stand in for ThreadPoolExecutor._maybe_spin_up, which takes no notice of idle workers."""
    idle = sum(worker.idle for worker in executor._workers)
    if idle > executor._work_queue.qsize() or len(executor._workers) >= executor._max_workers:
        return False
    executor._add_thread()
    return True


def _spawn_loop(call: Any, loop: Any) -> Any:
    """Stand in for LoopingCallBase._spawn_loop."""
    executor = futures.ThreadPoolExecutor(max_workers=1)
    future = executor.submit(loop)
    future.add_done_callback(call._on_done)
    future.add_done_callback(lambda _done: executor.shutdown(wait=False))
    return future


def _deliver_and_tell(exchange: Any, *args: Any, **kwargs: Any) -> None:
    """Stand in for FakeExchange.deliver_message."""
    _deliver(exchange, *args, **kwargs)
    with _messages:
        _messages.notify_all()


def _poll(listener: Any, timeout: float | None = None) -> Any:
    """Stand in for FakeListener.poll."""
    end = None if timeout is None else time.monotonic() + timeout
    with _messages:
        while not listener._stopped.is_set():
            if (message := _next(listener)) is not None:
                return message
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            _messages.wait(left)
    return None


def _next(listener: Any) -> Any:
    for target in listener._targets:
        exchange = listener._exchange_manager.get_exchange(target.exchange)
        context, message, replies, requeue = exchange.poll(target, listener._pool)
        if message is not None:
            return impl_fake.FakeIncomingMessage(context, message, replies, requeue)
    return None


def _stop_listener(listener: Any) -> None:
    """Stand in for FakeListener.stop, which says nothing to a listener that waits."""
    with _messages:
        listener._stopped.set()
        _messages.notify_all()
