# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is wrong with a file, and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from nova_devcompat.kit.text import printable

KeyPath = tuple[str | int, ...]

# Characters of a problem's text: a key can be as long as a file.
_PROBLEM_SIZE = 2_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong with a file.

    :param file: the file, as the operator named it
    :param line: the line, from 1; 0 where it concerns the file as a whole
    :param path: the keys that lead there, joined by dots, '' where there are none
    :param message: what is wrong, and what is allowed or what to do
    """

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        text = ": ".join(part for part in (place, self.path, self.message) if part)
        # One line, whatever is in the file: keys can hold anything.
        return printable(text, _PROBLEM_SIZE)


class DocumentError(ValueError):
    """Files that cannot be used; its text has one line for each problem.

    :param problems: what is wrong with them, at least one
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    @property
    def told(self) -> str:
        """All problems in one line, as a log has it."""
        return "; ".join(map(str, self.problems))


def dotted(path: KeyPath) -> str:
    return ".".join(
        key if isinstance(key, str) and key and key.isprintable() else repr(key) for key in path
    )
