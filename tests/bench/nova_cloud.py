# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A Nova and a Placement in this process, with as many hosts as a benchmark wants.

Hosts have rows in the databases, no nova-compute: what a scheduler and placement look at is what
those of :mod:`tests.bench.hosts` publish. Databases are Nova's own fixtures', SQLite in files.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
import pathlib
import random
import unittest
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "true")

from tests.functional import bootstrap

bootstrap.prepare()

import fixtures  # noqa: E402
import nova.conf  # noqa: E402
import os_traits  # noqa: E402
import sqlalchemy  # noqa: E402
import yaml  # noqa: E402
from nova import context as nova_context  # noqa: E402
from nova import objects, test  # noqa: E402
from nova.scheduler.client import report  # noqa: E402
from nova.tests.functional import fixtures as func_fixtures  # noqa: E402
from oslo_utils import timeutils  # noqa: E402
from placement import db_api  # noqa: E402
from placement.db.sqlalchemy import models  # noqa: E402

from nova_devcompat import conf as devcompat_conf  # noqa: E402
from nova_devcompat import wire  # noqa: E402
from nova_devcompat.compat import traits  # noqa: E402
from tests.bench import hosts  # noqa: E402
from tests.bench.counting import Counted  # noqa: E402
from tests.bench.hosts import Kind  # noqa: E402

devcompat_conf.register_opts(nova.conf.CONF)

#: Traits that a host has of Nova's: what libvirt's driver and a processor of today have.
TRAITS_OF_NOVA = 60

#: Units of each device.
TOTAL = 8

_INVENTORY = (("VCPU", 64, 4.0), ("MEMORY_MB", 512_000, 1.0), ("DISK_GB", 2_000, 1.0))


# --- hosts ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """One host, as it is in the databases.

    :param name: of its service and its node
    :param uuid: of its node, and of its root provider
    :param document: what it publishes
    :param traits: those of ours on its root provider
    """

    name: str
    uuid: str
    document: wire.HostDocument
    traits: tuple[str, ...]


def make_hosts(kind: Kind, count: int) -> list[Host]:
    """Hosts of a kind, at versions of their own."""
    draw = random.Random(7)
    return [
        Host(
            name=f"cmp{number:05d}.example.org",
            uuid=str(uuid.UUID(int=draw.getrandbits(128))),
            document=document,
            traits=tuple(sorted(_traits(document))),
        )
        for number, (document, _) in enumerate(hosts.documents(kind, count))
    ]


def _traits(document: wire.HostDocument) -> set[str]:
    """The names of all that the devices of a host, and its parts, accept."""
    return {
        traits.encode(traits.Atom(one.family, attribute, value))
        for one in (*document.devices, *document.host)
        for attribute, evaluation in one.accepts.attributes.items()
        for value in evaluation.accepted
    }


def traits_of_nova() -> list[str]:
    """Traits such as libvirt's driver reports."""
    names = sorted(
        one for one in os_traits.get_traits() if one.startswith(("COMPUTE_", "HW_CPU_X86_"))
    )
    names.remove("COMPUTE_STATUS_DISABLED")
    # Nova asks for it in each request.
    return ["OWNER_NOVA", *random.Random(3).sample(names, TRAITS_OF_NOVA - 1)]


# --- placement's rows ----------------------------------------------------------------------------


class Providers:
    """The providers of hosts in placement's database: a root, and one for each device."""

    def __init__(self, of: Sequence[Host]) -> None:
        self._hosts = of
        self._engine = db_api.get_placement_engine()
        self._ours: list[dict[str, int]] = []

    def write(self) -> None:
        """Write them all, with Nova's traits and ours."""
        numbers = itertools.count(1)
        classes = {
            name
            for host in self._hosts
            for one in host.document.devices
            for name in one.classes or ()
        }
        ours = {name for host in self._hosts for name in host.traits}
        with self._engine.begin() as connection:
            class_ids = _ids(connection, models.ResourceClass, classes)
            trait_ids = _ids(connection, models.Trait, ours)
            of_nova = [trait_ids[name] for name in traits_of_nova()]
            rows: dict[Any, list[dict[str, Any]]] = collections.defaultdict(list)
            for host in self._hosts:
                root = next(numbers)
                rows[models.ResourceProvider].append(_provider(root, host.uuid, host.name, root))
                for name, total, ratio in _INVENTORY:
                    rows[models.Inventory].append(_inventory(root, class_ids[name], total, ratio))
                rows[models.ResourceProviderTrait] += [_has(root, one) for one in of_nova]
                self._ours += [_has(root, trait_ids[name]) for name in host.traits]
                for device in host.document.devices:
                    name = f"{host.name}_pci_{device.address.replace(':', '_').replace('.', '_')}"
                    for provider in device.providers:
                        number = next(numbers)
                        rows[models.ResourceProvider].append(
                            _provider(number, provider, name, root, root)
                        )
                        for one in device.classes or ():
                            rows[models.Inventory].append(
                                _inventory(number, class_ids[one], TOTAL, 1.0)
                            )
            for model, listed in rows.items():
                _insert(connection, model, listed)
        self.put_ours()

    def put_ours(self) -> None:
        """Give the roots our traits."""
        with self._engine.begin() as connection:
            _insert(connection, models.ResourceProviderTrait, self._ours)

    def take_ours(self) -> None:
        """Take them away."""
        table = models.ResourceProviderTrait.__table__
        ids = {row["trait_id"] for row in self._ours}
        with self._engine.begin() as connection:
            connection.execute(table.delete().where(table.c.trait_id.in_(ids)))


def _ids(connection: Any, model: Any, names: Iterable[str]) -> dict[str, int]:
    """The numbers of all names that there are, after those are added that are not."""
    table = model.__table__
    columns = sqlalchemy.select(table.c.name, table.c.id)
    known = {name for name, _ in connection.execute(columns)}
    _insert(connection, model, [{"name": name} for name in sorted(set(names) - known)])
    return dict(connection.execute(columns).all())


def _insert(connection: Any, model: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(model.__table__.insert(), rows)


def _provider(number: int, of: str, name: str, root: int, parent: int | None = None) -> dict:
    return {
        "id": number,
        "uuid": of,
        "name": name,
        "generation": 1,
        "root_provider_id": root,
        "parent_provider_id": parent,
    }


def _inventory(provider: int, of: int, total: int, ratio: float) -> dict[str, Any]:
    return {
        "resource_provider_id": provider,
        "resource_class_id": of,
        "total": total,
        "reserved": 0,
        "min_unit": 1,
        "max_unit": total,
        "step_size": 1,
        "allocation_ratio": ratio,
    }


def _has(provider: int, trait: int) -> dict[str, int]:
    return {"resource_provider_id": provider, "trait_id": trait}


# --- the cloud -----------------------------------------------------------------------------------


class Cloud(test.TestCase):
    """Databases, placement and options.

    :param counted: counts what is asked
    :param measured: what is to be measured in it
    """

    TIMEOUT_SCALING_FACTOR = 100

    def __init__(self, counted: Counted, measured: Callable[[Cloud], None]) -> None:
        super().__init__()
        self.counted = counted
        self._measured = measured

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(func_fixtures.PlacementFixture())
        self.context = nova_context.get_admin_context()
        self.client = report.report_client_singleton()

    def runTest(self) -> None:
        self._measured(self)

    def write_catalog(self, kind: Kind) -> None:
        """The catalog of a kind's families, as an operator would have it."""
        families = {
            family.name: {
                "match": {"device": family.name},
                "source": "static",
                "rules": {"version": "semver", "caps": "superset"},
            }
            for family in map(hosts.family_of, range(kind.families))
        }
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        path = folder / "catalog.yaml"
        content = {"meta": {"schema_version": "1.0"}, "families": families}
        path.write_text(yaml.safe_dump(content))
        self.flags(catalog=[str(path)], packs=[], group="devcompat")

    def write_nodes(self, of: Iterable[Host], version: int) -> None:
        """Services, nodes and mappings, in Nova's databases.

        :param version: of the format of what hosts publish
        """
        cell = next(one for one in self.cell_mappings.values() if not one.is_cell0())
        with nova_context.target_cell(self.context, cell) as context:
            for number, host in enumerate(of):
                objects.HostMapping(self.context, host=host.name, cell_mapping=cell).create()
                objects.Service(
                    context,
                    host=host.name,
                    binary="nova-compute",
                    topic="compute",
                    report_count=1,
                    last_seen_up=timeutils.utcnow(),
                ).create()
                objects.ComputeNode(
                    context,
                    uuid=host.uuid,
                    host=host.name,
                    hypervisor_hostname=host.name,
                    hypervisor_type="QEMU",
                    hypervisor_version=9_000_000 + number % 2,
                    cpu_info="{}",
                    vcpus=64,
                    memory_mb=512_000,
                    local_gb=2_000,
                    free_ram_mb=500_000,
                    free_disk_gb=2_000,
                    disk_available_least=2_000,
                    cpu_allocation_ratio=4.0,
                    ram_allocation_ratio=1.0,
                    disk_allocation_ratio=1.0,
                    host_ip="192.0.2.1",
                    supported_hv_specs=[objects.HVSpec.from_list(["x86_64", "kvm", "hvm"])],
                    stats={
                        "num_instances": "0",
                        wire.STATS_KEY: wire.dump_stats(host.document, version),
                    },
                    **dict.fromkeys(("vcpus_used", "memory_mb_used", "local_gb_used"), 0),
                    **dict.fromkeys(("current_workload", "running_vms"), 0),
                ).create()


def run(measured: Callable[[Cloud], None]) -> None:
    """Start a cloud, have something measured in it, and stop it.

    :raises SystemExit: something failed
    """
    counted = Counted()
    outcome = unittest.TestResult()
    with counted.counting():
        Cloud(counted, measured).run(outcome)
    for _, text in (*outcome.errors, *outcome.failures):
        raise SystemExit("\n".join(text.splitlines()[-90:]))
