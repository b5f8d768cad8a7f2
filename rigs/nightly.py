# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Run what takes too long for each change, one part after the other, and say what came of it.

That is: the tests with the large budget for those that draw their inputs, all functional tests on
eventlet, mutation testing of compat, the benchmarks, the tests on the other releases of Nova, the
slow scenarios and random faults on clouds of processes, and Nova's own functional tests with
nova-devcompat in place. A part that fails keeps no other from running. Hours; --list says what
there is. Only the standard library is used here.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from rigs import interrupts, releases
from rigs.venvs import ROOT

#: tests/budget.py reads it.
LARGE = {"DEVCOMPAT_BUDGET": "night"}
#: Random operations of a night, all of one plan, and in how many shares they are done: each is a
#: part of its own, since a job of Zuul's may take three hours (.zuul.yaml).
OPERATIONS, SHARES = 10_000, 5
#: Minutes that each share's steps may take; rigs/chaos/command.py says what may come after them.
MINUTES = 130


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One command of the night.

    :ivar name: what --only takes
    :ivar what: it is about, in a few words
    :ivar command: from the top of the tree
    :ivar environ: variables beside this process's own
    """

    name: str
    what: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartOutcome:
    """What came of a part.

    :ivar status: the command's exit status; None if an interruption kept it from its end
    """

    part: Part
    status: int | None
    seconds: float


def parts() -> list[Part]:
    """All parts, in the order in which they are run."""
    others = [one for one in releases.RELEASES if one.name != releases.DEFAULT]
    return [
        Part(
            name="unit",
            what="unit tests, large budgets",
            command=("tools/test.sh", "--unit"),
            environ=LARGE,
        ),
        Part(
            name="native",
            what="functional tests on native threads, large budgets",
            command=("tools/test.sh", "--native"),
            environ=LARGE,
        ),
        Part(
            name="eventlet",
            what="all functional tests on eventlet",
            command=("tools/test.sh", "--eventlet"),
        ),
        Part(
            name="mutants",
            what="whether tests notice changes of compat",
            command=("tools/mutants.sh",),
        ),
        Part(
            name="costs",
            what="what it costs beside Nova and Placement, into .bench/costs.json",
            command=("tools/bench.sh", "--json", ".bench/costs.json"),
        ),
        Part(
            name="cloud",
            what="all scenarios on a cloud of processes, the slow ones too",
            command=("tools/cloud", "test"),
        ),
        *(_chaos(number) for number in range(1, SHARES + 1)),
        Part(
            name="libvirt",
            what="all scenarios on a cloud with real libvirt and QEMU, the slow ones too",
            command=("tools/cloud", "test", "--libvirt"),
        ),
        Part(
            name="machines",
            what="guests with a real mediated device, on hosts that are virtual machines",
            command=("tools/cloud", "test", "--machines"),
        ),
        *(
            Part(
                name=f"nova-{one.name}",
                what=f"unit, functional and packaging tests on Nova {one.series}",
                command=(
                    *("tools/test.sh", "--nova", one.name),
                    *("--unit", "--functional", "--packaging"),
                ),
            )
            for one in others
        ),
        *(
            Part(
                name=f"nova-suite-{one.name}",
                what=f"functional tests of Nova {one.series} itself, stock and with ours",
                command=("tools/nova-suite.sh", "--nova", one.name),
            )
            for one in reversed(releases.RELEASES)
        ),
    ]


def _chaos(number: int) -> Part:
    """A share of the random operations."""
    return Part(
        name=f"chaos-{number}",
        what=f"share {number} of {SHARES} of {OPERATIONS:,} random operations and faults on a "
        "cloud of processes, of the date's seed",
        command=(
            *("tools/cloud", "chaos", "--operations", str(OPERATIONS), "--seed", _date()),
            # As in .ci/run: a step waits for the slowest of its operations, however few they are.
            *("--slots", "10", "--at-once", "10"),
            *("--share", f"{number}/{SHARES}", "--minutes", str(MINUTES)),
        ),
    )


def _date() -> str:
    """Today's, a number that is another each night and can be found again."""
    return f"{datetime.date.today():%Y%m%d}"


def main(argv: Sequence[str] | None = None) -> int:
    known = {part.name: part for part in parts()}
    arguments = _parser(known).parse_args(argv)
    # For this process alone: what it starts finds its modules by itself.
    os.environ.pop("PYTHONPATH", None)
    chosen = [part for part in known.values() if part.name in (arguments.only or known)]
    if arguments.list:
        for part in chosen:
            print(f"{part.name:<20}{part.what}")
        return 0
    outcomes = run(chosen)
    return summarise(outcomes)


def _parser(names: Mapping[str, Part]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/nightly.sh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true", help="print the parts, and end")
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        choices=sorted(names),
        help="this part; may be given several times",
    )
    return parser


def run(chosen: Sequence[Part], root: pathlib.Path = ROOT) -> list[PartOutcome]:
    """Run parts one after the other, whatever comes of them.

    :returns: one for each; those that an interruption kept from running have no status
    """
    outcomes: list[PartOutcome] = []
    try:
        for number, part in enumerate(chosen, 1):
            print(f"\n##### {number}/{len(chosen)} {part.name}: {part.what}", flush=True)
            outcomes.append(_run(part, root))
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        done = {outcome.part.name for outcome in outcomes}
        left = [part for part in chosen if part.name not in done]
        outcomes += [PartOutcome(part=part, status=None, seconds=0) for part in left]
    return outcomes


def _run(part: Part, root: pathlib.Path) -> PartOutcome:
    started = time.monotonic()
    with subprocess.Popen(part.command, cwd=root, env=os.environ | dict(part.environ)) as process:
        try:
            status = process.wait()
        except BaseException:
            process.terminate()
            raise
    return PartOutcome(part=part, status=status, seconds=time.monotonic() - started)


def summarise(outcomes: Sequence[PartOutcome]) -> int:
    """Print what ran, for how long, and what failed.

    :returns: the exit status: 0 only if all that was chosen ran and passed
    """
    print(f"\n{'part':<20}{'time':>11}  outcome")
    for outcome in outcomes:
        minutes, seconds = divmod(round(outcome.seconds), 60)
        print(f"{outcome.part.name:<20}{minutes:>5} min {seconds:02}  {_words(outcome)}")
    failed = [outcome.part.name for outcome in outcomes if outcome.status != 0]
    print(f"\n{'FAILED: ' + ', '.join(failed) if failed or not outcomes else 'OK'}")
    return 1 if failed or not outcomes else 0


def _words(outcome: PartOutcome) -> str:
    if outcome.status is None:
        return "NOT RUN TO ITS END"
    if outcome.status == os.EX_UNAVAILABLE:
        return "FAILED: what it needs cannot be installed here"
    if outcome.status < 0:
        return f"FAILED: ended by signal {signal.Signals(-outcome.status).name}"
    return f"FAILED: status {outcome.status}" if outcome.status else "passed"


if __name__ == "__main__":
    sys.exit(interrupts.run(main))
