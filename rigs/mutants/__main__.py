# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Change nova_devcompat.compat in small ways, one at a time, and see whether a test notices.

Each such change is a mutant: a comparison turned round, an argument left out, a text altered. A
mutant that a test of tests/unit/compat fails for is killed. One that survives is code that no test
states the behaviour of, unless rigs/mutants/explained.toml says why it is none. Fails if there is
a survivor without such a reason, or a reason without its survivor, or if the share killed is under
the floor.

What came of a mutant is kept in .mutants until its function changes, so a run that was interrupted
goes on where it was; survivors are run each time.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence

from rigs import interrupts
from rigs.mutants import explained
from rigs.mutants.folder import Folder, MutmutError, Outcome, modules
from rigs.venvs import ROOT

#: Of the mutants that were run, at least so many percent are killed, whatever is explained.
FLOOR = 95
#: Those of which every survivor was looked at, which are run unless others are named: what decides
#: first. One that is added here gets its survivors killed or explained.
LOOKED_AT = (
    *("ruling", "judging", "given", "accepts", "conditions", "rules", "policy", "pins"),
    *("verdict", "merging", "choice", "knownbad", "orderings", "builds", "record", "types"),
    *("need", "traits", "device", "runs", "family", "attributes", "machines", "uses"),
    *("kinds.floor", "kinds.ordered", "kinds.origin", "kinds.same", "kinds.sets"),
    *("kinds.shapes", "kinds.text", "kinds.values", "kinds.versions"),
)


def main(argv: Sequence[str] | None = None) -> int:
    known = modules()
    arguments = _parser(known).parse_args(argv)
    chosen = known if arguments.all else arguments.modules or LOOKED_AT
    folder = Folder(ROOT / ".mutants")
    try:
        reasons = explained.load()
        if not arguments.report:
            _run(folder, chosen, again=arguments.again)
    except (explained.ExplainedError, MutmutError) as error:
        print(error, file=sys.stderr)
        return 1
    return report(folder, chosen, reasons)


def _parser(known: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/mutants.sh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "modules",
        metavar="MODULE",
        nargs="*",
        # Without choices: argparse holds the empty list against them.
        type=_one_of(known),
        help=f"ruling, kinds.sets, for example; without any, {', '.join(LOOKED_AT)}",
    )
    parser.add_argument("--all", action="store_true", help="all modules of compat")
    parser.add_argument("--again", action="store_true", help="run what was killed before as well")
    parser.add_argument("--report", action="store_true", help="run nothing, say what is known")
    return parser


def _one_of(known: Sequence[str]) -> Callable[[str], str]:
    def module(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"no module {text}; there are {', '.join(known)}")
        return text

    return module


def _run(folder: Folder, chosen: Sequence[str], *, again: bool) -> None:
    """Run the mutants of some modules of which it is not known that they are killed.

    :raises MutmutError: mutmut did not run to its end
    """
    changed = folder.update()
    if again:
        folder.forget(chosen)
        changed |= set(chosen)
    patterns = [f"nova_devcompat.compat.{one}.x*__mutmut_1" for one in chosen if one in changed]
    if patterns:
        # mutmut makes its list of all mutants as it begins to run, and runs again whatever it is
        # told to, so it is told of the first of each function.
        folder.run(patterns)
    outcomes = folder.outcomes(chosen)
    # Tests that are new since may kill what was alive.
    pending = [outcome.name for outcome in outcomes if outcome.alive or not outcome.known]
    if pending:
        folder.run(pending)


def report(folder: Folder, chosen: Sequence[str], reasons: Sequence[explained.Reason]) -> int:
    """Print what is known.

    :returns: the exit status
    """
    outcomes = folder.outcomes(chosen)
    survivors = {}
    for outcome in outcomes:
        if outcome.alive:
            removed, added = folder.changes(outcome)
            key = explained.key_of(outcome.function, removed, added)
            survivors[key] = (outcome, removed, added)
    unknown = {outcome.module for outcome in outcomes if not outcome.known}
    compared = explained.compare(survivors, reasons, set(chosen) - unknown)
    for key in compared.unexplained:
        outcome, removed, added = survivors[key]
        print(f"\n{outcome.function}: {outcome.status} ({outcome.name})")
        print("\n".join([*(f"-{line}" for line in removed), *(f"+{line}" for line in added)]))
        print(f"    '''{key}''',")
    for key in compared.outdated:
        print(f"\nexplained, but no survivor: {key}")
    share = _table(outcomes, chosen)
    with_reason, without = compared.explained, len(compared.unexplained)
    print(f"\nsurvivors: {with_reason} explained, {without} not")
    return _status(outcomes, compared, share)


def _status(outcomes: Sequence[Outcome], compared: explained.Comparison, share: float) -> int:
    faults = []
    if not outcomes or not all(outcome.known for outcome in outcomes):
        faults.append("not all mutants were run")
    if compared.unexplained:
        faults.append("there are survivors that nothing explains")
    if compared.outdated:
        faults.append("what is explained is not as it is")
    if share < FLOOR:
        faults.append(f"fewer than {FLOOR} % are killed")
    print(f"FAILED: {'; '.join(faults)}" if faults else "OK")
    return 1 if faults else 0


def _table(outcomes: Sequence[Outcome], chosen: Sequence[str]) -> float:
    """Print how many mutants of each module were killed.

    :returns: percent killed of all that were run
    """
    print(f"\n{'module':<20}{'mutants':>8}{'killed':>8}{'alive':>8}{'not run':>8}{'share':>8}")
    total: Counter[str] = Counter()
    for module in chosen:
        counts = Counter(_word(one) for one in outcomes if one.module == module)
        if counts:
            print(f"{module:<20}{_line(counts)}")
        total += counts
    print(f"{'all':<20}{_line(total)}")
    return _share(total)


def _line(counts: Counter[str]) -> str:
    numbers = [counts.total(), counts["killed"], counts["alive"], counts["unknown"]]
    return f"{''.join(f'{number:>8}' for number in numbers)}{_share(counts):>6.1f} %"


def _share(counts: Counter[str]) -> float:
    ran = counts["killed"] + counts["alive"]
    return 100 * counts["killed"] / ran if ran else 0.0


def _word(outcome: Outcome) -> str:
    if not outcome.known:
        return "unknown"
    # One that runs into its limit is noticed too.
    return "alive" if outcome.alive else "killed"


if __name__ == "__main__":
    os.nice(10)
    sys.exit(interrupts.run(main))
