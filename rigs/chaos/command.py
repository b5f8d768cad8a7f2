# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``tools/cloud chaos``."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import pathlib
import random
import shlex
import time
from collections.abc import Callable, Iterator, Sequence

from rigs.chaos import plan
from rigs.chaos.access import Access
from rigs.chaos.checks import NOVAS
from rigs.chaos.model import Versions
from rigs.chaos.report import Report, added_up
from rigs.chaos.run import Run
from rigs.cloud import fleet
from rigs.cloud.layout import Cloud, CloudError, write

#: Violations after which to go on tells nothing more.
_ENOUGH = 10
_REPLAYS = 3
#: What of --minutes there is beyond it for doing doubtful steps again without nova-devcompat.
BEYOND = 0.2
#: The exit status of a run that has not done all operations, and has no violation.
CUT_SHORT = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Exit status: 0 without a violation, 1 with one, 4 if --minutes were over before all was "
        "done. The same seed and number of operations stand for the "
        "same operations and faults; a violation is told with the command that replays it. What "
        "stock Nova leaves behind where a service is interrupted is counted, and is no violation. "
        "Nor is what it shows when the violated steps are done once more without our plugin."
    )
    parser.add_argument("--operations", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, metavar="S", help="(default: drawn, and told)")
    parser.add_argument("--slots", type=int, default=8, metavar="N", help="guests at most")
    parser.add_argument(
        "--at-once", type=int, default=4, metavar="N", help="most operations of a step"
    )
    parser.add_argument(
        "--replays",
        type=int,
        default=_REPLAYS,
        metavar="N",
        help="how often a step is done without our plugin that has a violation which stock Nova "
        "may show too (default: %(default)s)",
    )
    parser.add_argument("--stock", action="store_true", help="the same, without nova-devcompat")
    parser.add_argument(
        "--faults",
        metavar="NAME[,NAME...]",
        default=",".join(plan.FAULTS),
        help=f"'none', 'cheap', or of: {', '.join(plan.FAULTS[1:])} (default: all)",
    )
    parser.add_argument("--only-steps", metavar="N[-N][,...]", help="of the same plan")
    parser.add_argument(
        "--share",
        metavar="K/N",
        help="the K-th of N parts of the same plan, each a run of its own that begins on an empty "
        "cloud",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help="begin no step after that; what has to be done again without our plugin may take a "
        "fifth more",
    )
    parser.add_argument(
        "--as-many",
        action="store_true",
        help="with --minutes: however many operations that were, it is no failure",
    )
    parser.add_argument("--list", action="store_true", help="print the plan, and end")
    parser.add_argument(
        "--add-up",
        type=pathlib.Path,
        nargs="+",
        metavar="REPORT",
        help="print the tables of several runs together, ours and stock, from what they left in "
        "'reports' of the folder, and end",
    )


def run(cloud: Cloud, arguments: argparse.Namespace, become: Callable[[bool], None]) -> int:
    """Run a plan.

    :param become: brings the cloud up, without nova-devcompat if it is given True
    :returns: the exit status
    :raises CloudError: the cloud does not do what it does without faults
    """
    if arguments.add_up:
        print("\n".join(_added_up(arguments.add_up)))
        return 0
    steps = planned(arguments)
    if arguments.list:
        print("\n".join(described(steps)))
        return 0
    began = time.monotonic()
    limit = arguments.minutes * 60 if arguments.minutes is not None else float("inf")
    become(arguments.stock)
    report = _go(cloud, arguments, steps, began + limit, stock=arguments.stock)
    novas = report.told_apart(
        _by_itself(cloud, arguments, steps, report, become, began + limit * (1 + BEYOND))
    )
    report.take_off(novas)
    ours, other = _paths(cloud, arguments)
    report.save(ours)
    print()
    print("\n".join(report.lines(Report.load(other))))
    print(f"\n{time.monotonic() - began:.0f} s; also in {ours}")
    for one in novas:
        print(f"Stock Nova shows it too: {one}")
    for one in report.violations:
        print(f"VIOLATION: {one}")
    return _status(arguments, report)


def _status(arguments: argparse.Namespace, report: Report) -> int:
    """The exit status, with a line for what is not 0."""
    if report.violations:
        print(f"Replay: {replay(arguments)}")
        if not arguments.only_steps:
            steps = ",".join(map(str, sorted({one.step for one in report.violations})))
            print(f"Those steps alone: {replay(arguments)} --only-steps {steps}")
        return 1
    if report.done < report.planned:
        print(f"CUT SHORT after {report.done} of {report.planned} operations")
        return 0 if arguments.as_many else CUT_SHORT
    return 0


def _paths(cloud: Cloud, arguments: argparse.Namespace) -> tuple[pathlib.Path, pathlib.Path]:
    """Where the report is kept, and where that of the other variant is."""
    words = [arguments.seed, arguments.operations, arguments.slots, arguments.at_once]
    if arguments.share:
        words.append(arguments.share.replace("/", "of"))
    plan_of = "-".join(map(str, words))
    names = ("stock", "ours") if arguments.stock else ("ours", "stock")
    ours, other = (cloud / f"reports/chaos-{name}-{plan_of}.json" for name in names)
    return ours, other


def _added_up(paths: Sequence[pathlib.Path]) -> Iterator[str]:
    for stock, report in sorted(added_up(paths).items()):
        yield f"{'Without' if stock else 'With'} nova-devcompat:"
        yield from report.lines()
        yield from (f"VIOLATION: {one}" for one in report.violations)
        short = "" if report.done >= report.planned else ", CUT SHORT"
        yield f"{report.done} of {report.planned} operations{short}"
        yield ""


def _by_itself(
    cloud: Cloud,
    arguments: argparse.Namespace,
    steps: Sequence[plan.Step],
    report: Report,
    become: Callable[[bool], None],
    end: float,
) -> Report:
    """What stock Nova does in the steps whose violations can be its own, so often as is asked.

    :param end: by the monotonic clock, after which no step is begun
    """
    stock = Report()
    for number in range(arguments.replays):
        shown = report.told_apart(stock)
        left = [one for one in report.violations if one.kind in NOVAS and one not in shown]
        wanted = sorted({one.step for one in left})
        if not wanted or time.monotonic() > end:
            break
        if not number:
            become(True)
        print(f"\nSteps {', '.join(map(str, wanted))} without nova-devcompat:")
        chosen = [step for step in steps if step.number in wanted]
        stock.findings += _go(cloud, arguments, chosen, end, stock=True).findings
    return stock


def _go(
    cloud: Cloud,
    arguments: argparse.Namespace,
    steps: Sequence[plan.Step],
    end: float,
    *,
    stock: bool,
) -> Report:
    """Do steps on a cloud that runs, and leave it without servers.

    :param end: by the monotonic clock, after which no step is begun
    """
    access = Access(cloud, stock=stock)
    versions = {host: _first(number) for number, host in enumerate(access.cells)}
    with _alone(cloud), _inventories_kept(cloud), access.commands():
        access.prepare()
        for host, one in versions.items():
            access.set_versions(host, one)
        going = Run(access, slots=arguments.slots, versions=versions)
        going.report.planned = sum(len(step.operations) for step in steps)
        going.clear()
        going.publish()
        for step in steps:
            if time.monotonic() > end:
                print(f"The time is over before step {step.number}")
                break
            going.step(step)
            if len(going.report.violations) >= _ENOUGH:
                print(f"{_ENOUGH} violations: enough")
                break
        going.clear()
    return going.report


def planned(arguments: argparse.Namespace) -> list[plan.Step]:
    """The steps that arguments stand for.

    :raises CloudError: they stand for none
    """
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1_000_000)
        print(f"--seed {arguments.seed}")
    names = arguments.faults.split(",")
    faults = {"none": (), "cheap": plan.CHEAP}.get(arguments.faults, names)
    if unknown := sorted(set(faults) - set(plan.FAULTS)):
        raise CloudError(f"no fault {', '.join(unknown)}; there are: {', '.join(plan.FAULTS)}")
    if min(arguments.operations, arguments.slots, arguments.at_once) < 1:
        raise CloudError("--operations, --slots and --at-once are numbers from 1 on")
    steps = plan.draw(
        operations=arguments.operations,
        seed=arguments.seed,
        slots=arguments.slots,
        at_once=arguments.at_once,
        faults=tuple(faults),
    )
    for option, chosen in (("share", plan.share), ("only_steps", plan.chosen_steps)):
        if text := getattr(arguments, option):
            try:
                steps = chosen(text, steps)
            except ValueError as error:
                raise CloudError(f"--{option.replace('_', '-')}: {error}") from error
    return steps


def described(steps: list[plan.Step]) -> Iterator[str]:
    """A plan, a line for each step."""
    for step in steps:
        what = ", ".join(f"{one.slot}:{one.name}" for one in step.operations)
        yield f"{step.number:>5}  {step.fault.name:<22} {what}"


def replay(arguments: argparse.Namespace) -> str:
    """The command that does the same once more."""
    words = ["tools/cloud", "chaos"]
    usual = {"faults": ",".join(plan.FAULTS), "replays": _REPLAYS}
    for name in (
        *("operations", "seed", "slots", "at_once", "faults", "share", "only_steps", "replays"),
        "minutes",
    ):
        value = getattr(arguments, name)
        if value not in (None, usual.get(name)):
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--as-many"] if arguments.as_many else []
    return shlex.join([*words, *(["--stock"] if arguments.stock else [])])


def _first(number: int) -> Versions:
    firmware, lowest, highest = fleet.VERSIONS[number % len(fleet.VERSIONS)]
    return Versions(firmware=firmware, lowest=lowest, highest=highest)


@contextlib.contextmanager
def _inventories_kept(cloud: Cloud) -> Iterator[None]:
    """In the end put back what hosts had."""
    paths = [fleet.inventory_path(cloud, host) for host, _ in cloud.hosts()]
    kept = {path: path.read_text() for path in paths}
    try:
        yield
    finally:
        for path, text in kept.items():
            write(path, text)


@contextlib.contextmanager
def _alone(cloud: Cloud) -> Iterator[None]:
    """Keep scenarios and other runs off a cloud."""
    with open(cloud / "scenarios.lock", "w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CloudError(f"scenarios run on the cloud in {cloud.data}") from error
        yield
