# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How the state of Nova and placement in this process is put back between tests.

The services run meanwhile, but nothing of a test does any more.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

import nova.conf
import nova.crypto
import nova.limit.utils
import nova.quota
from nova import context as nova_context
from nova import objects
from nova.compute import api as compute_api
from nova.compute import rpcapi as compute_rpcapi
from nova.db.api import api as api_db
from nova.db.main import api as main_db
from nova.pci import request as pci_request
from nova.scheduler import utils as scheduler_utils
from nova.scheduler.client import report
from nova.virt import images, node
from nova.virt.libvirt import driver as libvirt_driver
from oslo_messaging._drivers import impl_fake
from placement import db_api as placement_db

CONF = nova.conf.CONF

#: Tables of which none has a row before a host or a guest is there.
_EMPTY_AT_FIRST = frozenset(
    {
        "allocations",
        "build_requests",
        "compute_nodes",
        "consumers",
        "host_mappings",
        "instance_mappings",
        "instances",
        "migrations",
        "pci_devices",
        "request_specs",
        "resource_providers",
    }
)


class Options:
    """The overrides and defaults of all options of Nova, as they are now."""

    def __init__(self) -> None:
        self._infos = [(info, dict(info)) for info in self._all()]
        self._known = {id(info) for info, _values in self._infos}

    @staticmethod
    def _all() -> Iterator[dict[str, Any]]:
        """What oslo.config keeps of each option, overrides and defaults among it."""
        yield from CONF._opts.values()
        for group in CONF._groups.values():
            yield from group._opts.values()

    def restore(self) -> None:
        """Put them back; an option registered since loses what was set for it."""
        for info in self._all():
            if id(info) not in self._known:
                info.pop("override", None)
                info.pop("default", None)
        for info, values in self._infos:
            info.clear()
            info.update(values)
        # Values are cached, under a name that no subclass could take.
        CONF._ConfigOpts__cache.clear()


class Databases:
    """Copies of Nova's and placement's databases, as they are now.

    :param cells: mappings of all cells
    """

    def __init__(self, cells: Iterable[Any]) -> None:
        engines = {
            "the API database": api_db.get_engine(),
            "placement": placement_db.get_placement_engine(),
        }
        for cell in cells:
            # Nova's CellDatabases fixture has made it, and looks it up here.
            manager = main_db.create_context_manager(cell.database_connection)
            engines[cell.name] = manager.writer.get_engine()
        self._engines = engines
        self._copies = {name: self._copy(engine) for name, engine in engines.items()}

    @staticmethod
    def _copy(engine: Any) -> sqlite3.Connection:
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        with _connection(engine) as source:
            source.backup(copy)
        return copy

    def restore(self) -> None:
        """Put them back."""
        for name, engine in self._engines.items():
            with _connection(engine) as target:
                self._copies[name].backup(target)

    def written(self) -> str:
        """Names of tables that something wrote to that only tests should write to."""
        written = []
        for name, engine in self._engines.items():
            with _connection(engine) as connection:
                rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                for (table,) in rows.fetchall():
                    if table in _EMPTY_AT_FIRST:
                        (row,) = connection.execute(f"SELECT EXISTS (SELECT 1 FROM {table})")
                        written += [f"{table} of {name}"] if row[0] else []
        return ", ".join(written)


@contextlib.contextmanager
def _connection(engine: Any) -> Iterator[sqlite3.Connection]:
    """SQLite's own connection of an engine, for a block."""
    pooled = engine.raw_connection()
    try:
        yield pooled.driver_connection
    finally:
        pooled.close()


def caches() -> None:
    """Empty what Nova remembers in the process: what ``nova.test.TestCase.setUp`` empties."""
    pci_request.get_alias_from_config.cache_clear()
    libvirt_driver.LibvirtDriver._get_pci_passthrough_devices.cache_clear()
    objects.Service.clear_min_version_cache()
    compute_api.CELLS = []
    nova_context.reset_globals()
    images.QEMU_VERSION = None
    node.LOCAL_NODE_UUID = None
    compute_rpcapi.reset_globals()
    scheduler_utils.reset_globals()
    nova.quota.UID_QFD_POPULATED_CACHE_BY_PROJECT = set()
    nova.quota.UID_QFD_POPULATED_CACHE_ALL = False
    nova.crypto._KEYMGR = None
    nova.limit.utils.IDENTITY_CLIENT = None
    # Not replaced, as there: services that go on hold it.
    report.report_client_singleton().clear_provider_cache(init=True)


def messages() -> None:
    """Throw away what nobody has taken, and the queues of servers that are no more.

    A server makes its queue when it starts, or when the first message for it comes.
    """
    for exchange in impl_fake.FakeExchangeManager._exchanges.values():
        with exchange._queues_lock:
            for queues in (exchange._topic_queues, exchange._server_queues):
                for queue in queues.values():
                    queue.clear()
            for topic, server in list(exchange._server_queues):
                if topic.startswith("compute"):
                    del exchange._server_queues[topic, server]


def log(fixture: Any) -> str:
    """Empty the log of Nova's StandardLogging fixture.

    :returns: what was in it
    """
    text: str = fixture.logger.output
    stream = fixture.logger._output
    stream.seek(0)
    stream.truncate()
    return text
