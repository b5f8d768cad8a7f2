# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a refresh costs when nothing has changed: the sysfs and devlink sources, and all of it.

Run ``python -m tests.bench.sources [--parents N] [--functions N] [--rounds N] [--json]``. The tree
is laid out in the shape of sysfs in ``--folder``, best in memory (``/dev/shm``): a call to the
real sysfs costs about twice as much. CPU is that of the whole process, all threads. The devlink
figure is with answers from memory: it has all that is ours and pyroute2's, and leaves out what the
kernel and the devices take. ``inventory`` is a whole cycle with all packs: both sources, what they
tell brought together and classified, and offers made of it; sources that ask elsewhere find
nothing. ``functions`` is such a cycle on a host with one NVIDIA GPU, each function of which has a
vGPU type, is a device of its own and is compared by that type and by its driver.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from nova_devcompat.catalog import CatalogKeeper
from nova_devcompat.catalog.packs import names
from nova_devcompat.host.inventory import HostReader
from nova_devcompat.sources import Source, SourceOptions, registered
from nova_devcompat.sources.devlink import DevlinkSource
from nova_devcompat.sources.sysfs import SysfsSource
from tests.bench.measuring import Row, Size, Times
from tests.unit.sources import devlink_messages, sysfs_trees

BUDGET_MS = 50.0


FAMILY = """
meta: {schema_version: '1.0'}
families:
  vgpu:
    match: {vendor_id: '10de'}
    source: sysfs
    attributes:
      vgpu_type: {source: sysfs, of: function}
      vf_driver: {source: sysfs, of: function}
    rules: {driver_version: equal, vgpu_type: equal, vf_driver: equal}
"""


class Nothing(Source):
    """Stands for a source that finds no device."""

    name = "nothing"

    def read(self, host):
        return []


def measure(source, rounds: int) -> dict[str, float]:
    """CPU of the first read, and of those after it, in milliseconds."""
    began = time.process_time()
    count = len(source.read("host"))
    first = time.process_time() - began
    times = []
    for _ in range(rounds):
        began = time.process_time()
        assert len(source.read("host")) == count
        times.append(time.process_time() - began)
    return {
        "devices": count,
        "first_ms": round(first * 1000, 2),
        "again_least_ms": round(min(times) * 1000, 2),
        "again_median_ms": round(statistics.median(times) * 1000, 2),
        "again_worst_ms": round(max(times) * 1000, 2),
    }


def calls(source) -> dict[str, int]:
    """What one more read asks of the file system."""
    counted: collections.Counter[str] = collections.Counter()
    real = {name: getattr(os, name) for name in ("open", "readlink", "scandir", "stat")}

    def counter(name):
        def call(*args, **kwargs):
            counted[name] += 1
            return real[name](*args, **kwargs)

        return call

    for name in real:
        setattr(os, name, counter(name))
    try:
        source.read("host")
    finally:
        for name, function in real.items():
            setattr(os, name, function)
    return dict(counted)


def functions(folder: pathlib.Path, count: int, rounds: int) -> dict[str, object]:
    """A cycle on a host whose functions are devices of their own, with unlike types."""
    tree = sysfs_trees.Tree(folder / "gpu")
    sysfs_trees.rtx(tree, count, [str(1500 + number % 4) for number in range(count)])
    catalog = folder / "functions.yaml"
    catalog.write_text(FAMILY)
    sysfs = SysfsSource(SourceOptions(), root=tree.root)
    reader = HostReader(
        CatalogKeeper([str(catalog)], min_interval=0, registered=registered()),
        SourceOptions(),
        load=lambda name, options: sysfs,
    )
    return {
        "functions": measure(reader, rounds),
        "functions_sysfs": measure(sysfs, rounds),
        "functions_calls": calls(sysfs),
    }


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How much there is to read."""

    parents: int = 2
    functions: int = 128
    others: int = 120
    vgpus: int = 256
    rounds: int = 50
    folder: str | None = "/dev/shm" if os.path.isdir("/dev/shm") else None


def run(counts: Counts) -> dict[str, Any]:
    """The costs by source."""
    with tempfile.TemporaryDirectory(dir=counts.folder) as folder:
        tree = sysfs_trees.Tree(pathlib.Path(folder))
        parents = sysfs_trees.mlx5(tree, counts.parents, counts.functions)
        for number in range(counts.others):
            tree.pci(f"0000:{number >> 3:02x}:{number & 7:02x}.0", class_="088000", driver="ioat")
        kernel = devlink_messages.Kernel({f"pci/{p}": devlink_messages.mlx5() for p in parents})
        options = SourceOptions()
        sysfs = SysfsSource(options, root=tree.root)
        devlink = DevlinkSource(options, connect=kernel.connect, root=tree.root)
        known = {"sysfs": sysfs, "devlink": devlink}
        inventory = HostReader(
            CatalogKeeper([], names(), min_interval=0, registered=registered()),
            options,
            load=lambda name, options: (
                SysfsSource(options, root=tree.root)
                if name == "sysfs"
                else known.get(name, Nothing(options))
            ),
        )
        return {
            "physical_functions": counts.parents,
            "virtual_functions": counts.parents * counts.functions,
            "other_devices": counts.others,
            "sysfs": measure(sysfs, counts.rounds),
            "sysfs_calls": calls(sysfs),
            "devlink": measure(devlink, counts.rounds),
            "devlink_calls": calls(devlink),
            "inventory": measure(inventory, counts.rounds),
            "budget_ms": BUDGET_MS,
            **functions(pathlib.Path(folder), counts.vgpus, counts.rounds),
        }


def rows(size: Size) -> Iterator[Row]:
    """Those of both sources, and of whole cycles."""
    few = Counts(parents=1, functions=4, others=4, vgpus=4, rounds=2)
    found = run(few if size.quick else Counts(rounds=30))
    for name, what, budget in (
        ("sysfs", "the sysfs source", None),
        ("devlink", "the devlink source, answers from memory", None),
        ("inventory", "both, all packs", BUDGET_MS),
        ("functions", "a GPU whose functions are devices", BUDGET_MS),
    ):
        costs = found[name]
        yield Row(
            case=f"{what}, {costs['devices']} devices",
            unit="ms",
            ours=Times(least=costs["again_least_ms"], median=costs["again_median_ms"]),
            beside="nothing changed; Nova's own reading is libvirt's",
            budget=budget,
            of="ours",
            enough=not size.quick,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parents", type=int, default=2, help="physical functions")
    parser.add_argument("--functions", type=int, default=128, help="virtual ones of each")
    parser.add_argument("--others", type=int, default=120, help="other PCI devices")
    parser.add_argument("--vgpus", type=int, default=256, help="functions of the GPU")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--folder", default=Counts().folder)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    given = {one.name: getattr(arguments, one.name) for one in dataclasses.fields(Counts)}
    result = run(Counts(**given))
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name}: {value}")
    slowest = max(result[name]["again_median_ms"] for name in ("inventory", "functions"))
    raise SystemExit(slowest > BUDGET_MS)


if __name__ == "__main__":
    main()
