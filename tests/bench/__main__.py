# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Measure what nova-devcompat costs beside what Nova and Placement cost in the same run.

One table of all benchmarks, or of those that are named. Figures are CPU, unless the unit says
otherwise; the ratio is of the least times of all rounds, ours to stock. Each benchmark runs in a
process of its own, or all in one with --quick, which shows only that they run. Exits 1 if a
benchmark fails, and 3 with --check if a budget is not met.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench import pages
from tests.bench.measuring import Row, Size, row_of, shown

ROOT = pathlib.Path(__file__).resolve().parents[2]

#: The modules, in the order of the table: what a request meets, then hosts, then the operator.
NAMES = (
    "filter",
    "chain",
    "weigher",
    "reader",
    "prefilter",
    "destinations",
    "placement",
    "cycle",
    "sources",
    "stranded",
    "drain",
    "metrics",
)


def measure(name: str, size: Size) -> list[Row]:
    """The rows of one benchmark, measured in this process."""
    module = importlib.import_module(f"tests.bench.{name}")
    # All that was imported stays, and need not be looked at whenever garbage is collected.
    gc.collect()
    gc.freeze()
    return list(module.rows(size))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    # Before Nova is imported: how it runs what it does at the same time must be settled by then.
    os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "true")
    size = Size(quick=arguments.quick, hosts=arguments.hosts)
    names = arguments.names or NAMES
    if size.quick or arguments.lines:
        _prepare()
    if arguments.lines:
        for name in names:
            print(json.dumps([row.plain() for row in measure(name, size)]))
        return 0
    found: dict[str, list[Row]] = {}
    seconds: dict[str, float] = {}
    failed = []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        start = time.monotonic()
        try:
            found[name] = measure(name, size) if size.quick else _apart(name, size)
        except subprocess.CalledProcessError:
            failed.append(name)
        seconds[name] = round(time.monotonic() - start, 1)
    print(shown(found))
    if failed:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
    whole = _whole(found, seconds, size)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(whole, indent=1) + "\n")
    if arguments.docs:
        pages.write(pages.merged(pages.read(), whole, NAMES))
    missed = [row for rows in found.values() for row in rows if row.met is False]
    return 1 if failed else 3 if arguments.check and missed else 0


def _prepare() -> None:
    """What must be done before anything of Nova is imported, for the benchmarks that start it."""
    importlib.import_module("tests.functional.bootstrap").prepare()
    # It registers options, which must be before any are parsed.
    importlib.import_module("nova.test")


def _apart(name: str, size: Size) -> list[Row]:
    """The rows of one benchmark, measured in a process of its own.

    :raises subprocess.CalledProcessError: it failed
    """
    command = [sys.executable, "-m", "tests.bench", name, "--lines"]
    if size.hosts:
        command += ["--hosts", str(size.hosts)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [row_of(plain) for plain in json.loads(done.stdout.splitlines()[-1])]


def _whole(
    found: Mapping[str, Sequence[Row]], seconds: Mapping[str, float], size: Size
) -> dict[str, Any]:
    from nova import version

    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "nova": version.version_string(),
        "processors": os.cpu_count(),
        "quick": size.quick,
        "seconds": seconds,
        "benchmarks": {name: [row.plain() for row in rows] for name, rows in found.items()},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/bench.sh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", choices=[*NAMES, []], metavar="NAME", help="of: " + ", ".join(NAMES)
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, all in one process")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all of it, too")
    parser.add_argument(
        "--docs", action="store_true", help="write what doc/source/costs.rst shows, too"
    )
    parser.add_argument("--hosts", type=int, metavar="N", help="instead of each one's own number")
    parser.add_argument("--check", action="store_true", help="exit 3 if a budget is not met")
    parser.add_argument("--lines", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
