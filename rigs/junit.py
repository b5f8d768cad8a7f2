# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Count what pytest wrote as JUnit XML.

    python -m rigs.junit FOLDER

prints how many tests passed and how many failed in all the files of a folder.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator

#: What marks a test that did not pass.
_FAILED = {"failure", "error"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
    """How many tests came to what."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            passed=self.passed + other.passed,
            failed=self.failed + other.failed,
            skipped=self.skipped + other.skipped,
        )


def count(path: pathlib.Path) -> Counts:
    """Count the tests in one file; none if pytest died before it could write it."""
    counts = Counts()
    for _, marks in _cases(path):
        if marks & _FAILED:
            counts += Counts(failed=1)
        elif "skipped" in marks:
            counts += Counts(skipped=1)
        else:
            counts += Counts(passed=1)
    return counts


def failed(path: pathlib.Path) -> Iterator[str]:
    """The names of the tests in one file that failed, each with its module and class."""
    return (name for name, marks in _cases(path) if marks & _FAILED)


def _cases(path: pathlib.Path) -> Iterator[tuple[str, set[str]]]:
    """The tests, each with its marks: several, where its body and its tear-down both fail."""
    try:
        tree = ET.parse(path)
    except (OSError, ET.ParseError):
        return
    for case in tree.iter("testcase"):
        name = f"{case.get('classname', '')}.{case.get('name', '')}"
        yield name, {child.tag for child in case}


if __name__ == "__main__":
    total = sum(map(count, sorted(pathlib.Path(sys.argv[1]).glob("*.xml"))), Counts())
    print(total.passed, total.failed)
