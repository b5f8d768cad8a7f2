# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a cycle costs in which nothing has changed, on a host with many guests and functions.

Run ``python -m tests.bench.cycle [--functions N] [--guests N] [--idle N] [--known-bad N] [--atoms
N] [--rounds N] [--against REVISION] [--json]``. The host has two network cards with virtual
functions and a GPU; half of the guests have a function, the other half a vGPU, and ``--idle`` more
have nothing; ``--atoms`` are known in the cloud. Measured is what the driver does in a cycle of
the resource tracker once all records are complete: CPU of the process, queries to Nova's database,
and requests to placement, over what the wrapped driver does. Beside it stands what Nova's resource
tracker takes in such a cycle to read the same guests and functions from its database. Then the CPU
of a cycle that finds other versions and publishes them, and all of it with a list of N known-bad
pairs, each about the guest's version and two attributes of the device. Each line is a process of
its own; ``--against`` adds those of an earlier revision, from the same git repository.

It fails where a cycle asks more than which traits there are and which guests an operator wants
looked at, however many guests there are, or where known-bad pairs make one dearer by a tenth.
"""

from __future__ import annotations

import argparse
import configparser
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import types
import unittest
import uuid
from collections.abc import Iterator
from typing import Any

from tests.bench.measuring import Row, Size, Times, figure, timed

ROOT = pathlib.Path(__file__).resolve().parents[2]

GPU, PFS = "0000:81:00.0", ("0000:82:00.0", "0000:83:00.0")
HOST = "bench"

#: What is compared of the devices of each family.
RULED = {"gpu": ("version", "driver"), "nic": ("fw_version", "phy_version")}


# --- one measurement, in a process of its own ----------------------------------------------------


def measure(
    functions: int, guests: int, idle: int, rounds: int, known_bad: int = 0, atoms: int = 0
) -> dict[str, float]:
    """Costs of one cycle.

    :param known_bad: how many entries there are of one family
    :param atoms: how many are known in the cloud beside those of the host
    :returns: ``cpu_ms``, ``queries``, ``requests``, and ``publish_ms`` of a cycle with changes;
        ``reads_ms`` is of Nova's own part
    """
    os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "true"
    from tests.functional import bootstrap

    bootstrap.prepare()
    import fixtures
    import yaml
    from nova import context as nova_context
    from nova import objects, test
    from nova.compute import power_state, provider_tree, vm_states
    from nova.scheduler.client import report
    from nova.tests.functional import fixtures as func_fixtures

    from nova_devcompat import wire
    from nova_devcompat.compute import driver as devcompat_driver
    from tests.bench import counting

    found: dict[str, float] = {}
    counter = counting.Counted()
    counted = counter.counts

    class Host(test.TestCase):
        TIMEOUT_SCALING_FACTOR = 10

        def setUp(self) -> None:
            super().setUp()
            self.useFixture(func_fixtures.PlacementFixture())
            self.context = nova_context.get_admin_context()
            self.client = report.report_client_singleton()
            folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
            meta = {"schema_version": "1.0"}
            rules = {
                name: dict.fromkeys(attributes, "semver") for name, attributes in RULED.items()
            }
            families = {
                name: {"match": {"device": name}, "source": "static", "rules": of}
                for name, of in rules.items()
            }
            (folder / "catalog.yaml").write_text(
                yaml.safe_dump({"meta": meta, "families": families})
            )
            self.inventory = folder / "inventory.yaml"
            self.write_inventory("1.2")
            entries = [
                {
                    "name": f"pair-{number}",
                    "family": "gpu",
                    "need": {"version": f"1.{number + 100}"},
                    "offer": {"version": f">=1.{number + 101}", "driver": f"5.{number}"},
                    "message": "the state does not load",
                    "url": "https://example.org",
                }
                for number in range(known_bad)
            ]
            (folder / "known-bad.yaml").write_text(
                yaml.safe_dump({"meta": meta, "known_bad": entries})
            )
            self.flags(
                known_bad=[str(folder / "known-bad.yaml")] if entries else [],
                group="devcompat",
            )
            self.flags(
                virt_driver="fake.FakeDriverWithoutFakeNodes",
                catalog=[str(folder / "catalog.yaml")],
                inventory=str(self.inventory),
                group="devcompat",
            )

        def write_inventory(self, version: str) -> None:
            gpu = {"version": version, "driver": "5.1"}
            devices = [{"address": GPU, "family": "gpu", "attributes": gpu}]
            devices += [
                {
                    "address": pf,
                    "family": "nic",
                    "attributes": {"fw_version": version, "phy_version": "2.1"},
                }
                for pf in PFS
            ]
            content = {"meta": {"schema_version": "1.0"}, "hosts": {HOST: {"devices": devices}}}
            self.inventory.write_text(yaml.safe_dump(content))

        def runTest(self) -> None:
            self.make_host()
            domains = {}
            for number in range(guests + idle):
                domains[self.make_guest(number)] = number + 1
            driver = devcompat_driver.DeviceCompatDriver(None)
            driver.init_host(HOST)
            driver._host = _hypervisor(domains)
            self.settle(driver)
            found["alone_bytes"] = self.document_size(driver)
            _make_traits(atoms)
            self.settle(driver)
            times, stock = [], []
            counted.clear()
            for _ in range(rounds):
                times.append(timed(lambda: self.cycle(driver)))
                asked = counted.copy()
                stock.append(timed(self.reads))
                # Nova's own are not counted.
                counted.clear()
                counted.update(asked)
            for name, listed in (("cpu", times), ("reads", stock)):
                found[f"{name}_ms"] = round(min(listed) * 1000, 2)
                found[f"{name}_median_ms"] = round(statistics.median(listed) * 1000, 2)
            found["queries"] = counted["queries"] / rounds
            found["requests"] = counted["requests"] / rounds
            found["writes"] = counted["writes"] / rounds
            found["document_bytes"] = self.document_size(driver)
            times = []
            counted.clear()
            for number in range(rounds):
                self.write_inventory(f"1.{3 - number % 2}")
                begin = time.process_time()
                self.cycle(driver)
                times.append(time.process_time() - begin)
            found["publish_ms"] = round(min(times) * 1000, 2)
            found["publish_median_ms"] = round(statistics.median(times) * 1000, 2)
            found["publish_requests"] = counted["requests"] / rounds

        def cycle(self, driver: Any) -> None:
            driver.get_available_resource(HOST)
            tree = provider_tree.ProviderTree()
            tree.new_root(HOST, self.node.uuid)
            tree.new_child(f"{HOST}_pci_0000_81_00_0", HOST, uuid=self.gpu)
            tree.update_inventory(f"{HOST}_pci_0000_81_00_0", {"VGPU": {"total": 1000}})
            driver.update_provider_tree(tree, HOST)

        def settle(self, driver: Any) -> None:
            """Until all records are complete, and providers are not looked for any more."""
            for _ in range(100):
                before = counted["requests"]
                self.cycle(driver)
                # Which traits there are is asked in each.
                if self.complete() and counted["requests"] - before <= 1:
                    break
            self.assertTrue(self.complete())

        def document_size(self, driver: Any) -> int:
            """Bytes of what the host publishes, as the column has it."""
            published = driver.get_available_resource(HOST)["stats"][wire.STATS_KEY]
            return wire.column_size(published)

        def reads(self) -> None:
            """What nova/compute/resource_tracker.py reads of guests and functions in a cycle."""
            instances = objects.InstanceList.get_by_host_and_node(
                self.context,
                HOST,
                HOST,
                expected_attrs=[
                    "system_metadata",
                    "numa_topology",
                    "flavor",
                    "migration_context",
                    "resources",
                ],
            )
            devices = objects.PciDeviceList.get_by_compute_node(self.context, self.node.id)
            self.assertEqual((guests + idle, functions), (len(instances), len(devices)))

        def complete(self) -> bool:
            found = objects.InstanceList.get_by_host(
                self.context, HOST, expected_attrs=["system_metadata"]
            )
            having = [
                each
                for each in found
                if any(key.startswith("devcompat") for key in each.system_metadata)
            ]
            return len(having) == guests

        def make_host(self) -> None:
            self.node = objects.ComputeNode(
                self.context,
                uuid=str(uuid.uuid4()),
                host=HOST,
                hypervisor_hostname=HOST,
                hypervisor_type="fake",
                hypervisor_version=1,
                cpu_info="{}",
                **dict.fromkeys(("vcpus", "memory_mb", "local_gb"), 8),
                **dict.fromkeys(("vcpus_used", "memory_mb_used", "local_gb_used"), 0),
            )
            self.node.create()
            self.gpu = str(uuid.uuid4())
            for number, name, parent in (
                (self.node.uuid, HOST, None),
                (self.gpu, f"{HOST}_pci_0000_81_00_0", self.node.uuid),
            ):
                self.call(
                    "post",
                    "/resource_providers",
                    {"uuid": number, "name": name, "parent_provider_uuid": parent},
                )
            self.call(
                "put",
                f"/resource_providers/{self.gpu}/inventories",
                {
                    "resource_provider_generation": 0,
                    "inventories": {"VGPU": {"total": 1000}},
                },
            )
            self.functions = [
                self.make_function(PFS[number % 2], number // 2) for number in range(functions)
            ]

        def make_function(self, parent: str, number: int) -> Any:
            bus = parent.rpartition(":")[0]
            address = f"{bus}:{(number + 1) // 8:02x}.{(number + 1) % 8}"
            function = objects.PciDevice.create(
                self.context,
                {
                    "compute_node_id": self.node.id,
                    "address": address,
                    "product_id": "101e",
                    "vendor_id": "15b3",
                    "status": "available",
                    "dev_type": "type-VF",
                    "parent_addr": parent,
                    "numa_node": 0,
                    "dev_id": f"pci_{address}",
                    "label": "label_15b3_101e",
                },
            )
            function.save()
            return function

        def make_guest(self, number: int) -> str:
            with_vgpu = number < guests and number % 2
            instance = objects.Instance(
                self.context,
                host=HOST,
                node=HOST,
                compute_id=self.node.id,
                project_id="project",
                user_id="user",
                vm_state=vm_states.ACTIVE,
                power_state=power_state.RUNNING,
                task_state=None,
                flavor=objects.Flavor(
                    self.context,
                    id=1,
                    name="f",
                    flavorid="f",
                    rxtx_factor=1.0,
                    disabled=False,
                    is_public=True,
                    extra_specs={"resources:VGPU": "1"} if with_vgpu else {},
                    **dict.fromkeys(("memory_mb", "vcpus", "root_gb"), 1),
                    **dict.fromkeys(("ephemeral_gb", "swap", "vcpu_weight"), 0),
                ),
                system_metadata={"image_min_disk": "1"},
            )
            instance.create()
            if with_vgpu:
                self.allocate(instance.uuid)
            elif number < guests:
                function = self.functions[number // 2]
                function.status = "allocated"
                function.instance_uuid = instance.uuid
                function.request_id = str(uuid.uuid4())
                function.save()
            return str(instance.uuid)

        def allocate(self, consumer: str) -> None:
            self.call(
                "put",
                f"/allocations/{consumer}",
                {
                    "allocations": {self.gpu: {"resources": {"VGPU": 1}}},
                    "project_id": "project",
                    "user_id": "user",
                    "consumer_generation": None,
                },
            )

        def call(self, method: str, url: str, body: Any) -> None:
            answer = getattr(self.client, method)(url, body, version="1.28")
            self.assertIn(answer.status_code, (200, 201, 204), answer.text)

    with counter.counting():
        outcome = unittest.TestResult()
        Host().run(outcome)
    for _, text in (*outcome.errors, *outcome.failures):
        raise SystemExit(text)
    return found


def _make_traits(count: int) -> None:
    """Have placement know so many atoms, of all attributes that are compared alike."""
    from placement import db_api
    from placement.db.sqlalchemy import models

    from nova_devcompat.compat import traits

    ruled = [(family, one) for family, attributes in RULED.items() for one in attributes]
    names = [
        traits.encode(traits.Atom(*ruled[number % len(ruled)], _version(number // len(ruled))))
        for number in range(count)
    ]
    if names:
        with db_api.get_placement_engine().begin() as connection:
            connection.execute(models.Trait.__table__.insert(), [{"name": one} for one in names])


def _version(number: int) -> str:
    """Ten minors of each major; those of the host are other ones."""
    return f"{number // 10 + 11}.{number % 10}"


def _hypervisor(domains: dict[str, int]) -> Any:
    """What libvirt's driver has, with the numbers of its domains."""

    def guest_of(number: str) -> Any:
        return types.SimpleNamespace(
            uuid=number, id=domains[number], get_xml_desc=lambda: "<domain/>"
        )

    return types.SimpleNamespace(
        get_guest=lambda instance: guest_of(instance.uuid),
        list_guests=lambda only_running: list(map(guest_of, domains)),
    )


# --- all of them ---------------------------------------------------------------------------------


def _package_of(revision: str, folder: pathlib.Path) -> None:
    """Unpack the package as it was, and what names its rules and sources."""
    archive = subprocess.run(
        ["git", "archive", revision, "nova_devcompat", "setup.cfg"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(folder, filter="data")
    config = configparser.ConfigParser()
    config.read(folder / "setup.cfg")
    metadata = folder / "nova_devcompat-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: nova-devcompat\nVersion: 0\n")
    lines = []
    for group, entries in config["options.entry_points"].items():
        lines += [f"[{group}]", *entries.strip().splitlines()]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")


def _measured(
    path: list[str], arguments: argparse.Namespace, idle: int = 0, known_bad: int = 0
) -> dict[str, float]:
    # Without -P the folder that it is run in would come before that of the other revision.
    command = [sys.executable, "-P", "-m", "tests.bench.cycle", "--measure"]
    for name in ("functions", "guests", "rounds", "atoms"):
        command += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run(
        [*command, "--idle", str(idle), "--known-bad", str(known_bad)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(ROOT)])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def problems(result: dict[str, dict[str, float]]) -> list[str]:
    """What must not be so of this revision."""
    now, idle = result["now"], result["now_idle"]
    found = []
    for name, most in (("requests", 1), ("queries", 2)):
        if now[name] > most:
            found.append(f"a cycle costs {now[name]} {name}, which should be {most} at most")
    for name in ("queries", "requests"):
        if idle[name] > now[name]:
            found.append(f"guests that need nothing cost {name}: {idle}, without them {now}")
    listed = result["now_known_bad"]
    for name in ("cpu_ms", "publish_ms"):
        if listed[name] > 1.1 * now[name]:
            found.append(f"known-bad pairs cost {name}: {listed[name]}, without them {now[name]}")
    return found


def rows(size: Size) -> Iterator[Row]:
    """Those of a cycle in which nothing has changed, and of one that publishes."""
    many = (8, 4, 4) if size.quick else (256, 200, 200)
    atoms = 40 if size.quick else 1000
    found = measure(*many, rounds=size.rounds(15), atoms=atoms)
    enough = not size.quick
    beside = "Nova's reading of the same guests and functions in such a cycle"
    case = f"{many[0]} VFs, {many[1]} guests, {atoms:,} atoms"
    for name, unit, what, budget in (
        ("cpu", "ms", "nothing changed", 50),
        ("publish", "ms", "other versions published", None),
    ):
        yield Row(
            case=f"{case}, {what}",
            unit=unit,
            ours=Times(least=found[f"{name}_ms"], median=found[f"{name}_median_ms"]),
            stock=Times(least=found["reads_ms"], median=found["reads_median_ms"]),
            beside=beside,
            budget=budget,
            of="ours",
            enough=enough,
        )
    document = "what the host publishes, as the column has it"
    for name, unit, what, to, budget in (
        ("requests", "requests", case, "to placement", 1),
        ("writes", "writes", case, "to placement", 0),
        ("queries", "queries", case, "to Nova's database", 2),
        ("document_bytes", "bytes", case, document, None),
        ("alone_bytes", "bytes", f"{many[0]} VFs, no atoms of other hosts", document, 2048),
    ):
        yield Row(
            case=f"{what}, nothing changed",
            unit=unit,
            ours=figure(found[name]),
            beside=to,
            budget=budget,
            of="ours",
            enough=enough,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", type=int, default=256, help="virtual functions")
    parser.add_argument("--guests", type=int, default=200, help="guests with a device")
    parser.add_argument("--idle", type=int, default=200, help="guests that need nothing")
    parser.add_argument("--known-bad", type=int, default=1000, help="known-bad pairs")
    parser.add_argument("--atoms", type=int, default=1000, help="that are known in the cloud")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--against", metavar="REVISION", help="an earlier one, measured too")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measured = measure(
            *(arguments.functions, arguments.guests, arguments.idle),
            *(arguments.rounds, arguments.known_bad, arguments.atoms),
        )
        print(json.dumps(measured))
        return
    result = {
        "now": _measured([], arguments),
        "now_idle": _measured([], arguments, idle=arguments.idle),
        "now_known_bad": _measured([], arguments, known_bad=arguments.known_bad),
    }
    if arguments.against:
        with tempfile.TemporaryDirectory() as folder:
            _package_of(arguments.against, pathlib.Path(folder))
            result["before"] = _measured([folder], arguments)
            result["before_idle"] = _measured([folder], arguments, idle=arguments.idle)
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, costs in result.items():
            print(f"{name}: {costs}")
    found = problems(result)
    for problem in found:
        print(problem, file=sys.stderr)
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
