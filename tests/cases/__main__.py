# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``python -m tests.cases [CASE ...]``."""

from __future__ import annotations

import argparse
import logging
import pathlib
import sys
from collections.abc import Sequence

from tests.cases import asking, reading

#: The project's own.
FIELD = pathlib.Path(__file__).parent / "field"


def run(paths: Sequence[pathlib.Path]) -> list[tuple[str, asking.Answer]]:
    """What the cases at some paths come to, by the case's name."""
    came: list[tuple[str, asking.Answer]] = []
    for path in paths:
        try:
            below = list(reading.found(path))
        except reading.BadCase as error:
            came.append((str(path), _cannot(error)))
            continue
        for one in below:
            came += _run(one)
    return came


def _run(path: pathlib.Path) -> list[tuple[str, asking.Answer]]:
    came: list[tuple[str, asking.Answer]] = []
    with reading.opened(path) as cases:
        for one in cases:
            if isinstance(one, reading.Case):
                came += _asked(one)
            else:
                came.append((one[0], _cannot(one[1])))
    return came


def _asked(case: reading.Case) -> list[tuple[str, asking.Answer]]:
    came = []
    try:
        for answer in asking.answers(case):
            came.append((case.name, answer))
    except reading.BadCase as error:
        came.append((case.name, _cannot(error)))
    except Exception as error:  # noqa: BLE001  the next case is asked all the same
        why = f"{type(error).__name__}: {error}"
        came.append((case.name, _cannot(why, "crash")))
    return came


def _cannot(why: object, verdict: str = "error") -> asking.Answer:
    """What stands for a case, or the rest of one, that cannot be asked."""
    return asking.Answer(
        what="the case", verdict=verdict, reason=str(why), expected=frozenset({"to be asked"})
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what each expectation came to.

    :returns: 0 where all are right, 1 where one is not
    """
    parser = argparse.ArgumentParser(prog="python -m tests.cases", description=__doc__)
    parser.add_argument(
        "cases",
        metavar="CASE",
        nargs="*",
        type=pathlib.Path,
        help="a folder with a case.yaml, a file of cases, or a folder of these; by default the "
        "project's own",
    )
    parsed = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    try:
        came = run(parsed.cases or [FIELD])
    finally:
        logging.disable(logging.NOTSET)
    for name, answer in came:
        print(answer.line(name))
    wrong = sum(not answer.right for _, answer in came)
    print(f"{len(came) - wrong} right, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
