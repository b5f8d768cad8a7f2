# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A cursor over a parsed file, for readers that take values out of it and report what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from nova_devcompat.kit.document import Document, Schema
from nova_devcompat.kit.problems import KeyPath, Problem

T = TypeVar("T")


class Section:
    """A value of a document, and where it stands.

    Of what has another shape than it should the schema says so. Readers therefore ask for what
    they need, and get nothing where something else stands; what a schema cannot say they report
    here. All sections of a document report into one list.

    :param document: the document
    :param value: what stands there; None where nothing does
    :param path: the keys that lead there
    :param problems: what readers reported
    """

    __slots__ = ("document", "path", "problems", "value")

    def __init__(
        self, document: Document, value: Any, path: KeyPath, problems: list[Problem]
    ) -> None:
        self.document = document
        self.value = value
        self.path = path
        self.problems = problems

    @classmethod
    def of(cls, document: Document) -> Section:
        """The whole document."""
        return cls(document, document.content, (), [])

    @property
    def name(self) -> str:
        """The key that it stands under; '' for the document."""
        return str(self.path[-1]) if self.path else ""

    @property
    def line(self) -> int:
        """The line that it begins on, or that its key is on."""
        return self.document.line(self.path)

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.document.file}:{self.line}"

    @property
    def typed(self) -> str | None:
        """How a scalar was written; None for text, lists and mappings."""
        return self.document.typed(self.path)

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def at(self, key: str) -> Section:
        """What stands under a key of a mapping, if anything."""
        value = self.value.get(key) if isinstance(self.value, dict) else None
        return Section(self.document, value, (*self.path, key), self.problems)

    def text(self, key: str, absent: str = "") -> str:
        """The text under a key; '' where something else stands.

        :param absent: what it is where there is no such key
        """
        if key not in self:
            return absent
        value = self.value[key]
        return value if isinstance(value, str) else ""

    def mapping(self, key: str) -> dict[str, Section]:
        """The sections of the mapping under a key; none where there is no mapping."""
        return self.at(key).items()

    def rows(self, key: str) -> list[Section]:
        """The sections of the list under a key; none where there is no list."""
        return list(self.at(key).elements())

    def texts(self) -> set[str]:
        """The texts in it, if it is a mapping."""
        return {part.value for part in self.items().values() if isinstance(part.value, str)}

    def items(self) -> dict[str, Section]:
        """Its sections by key, if it is a mapping."""
        if not isinstance(self.value, dict):
            return {}
        return {
            key: Section(self.document, value, (*self.path, key), self.problems)
            for key, value in self.value.items()
        }

    def elements(self) -> Iterator[Section]:
        """Its sections, if it is a list."""
        for index, value in enumerate(self.value if isinstance(self.value, list) else ()):
            yield Section(self.document, value, (*self.path, index), self.problems)

    def problem(self, message: str, *at: str | int) -> None:
        """Report what is wrong.

        :param at: keys that lead on from here to what it concerns
        """
        self.problems.append(self.document.problem((*self.path, *at), message))

    def ask_for_quotes(self) -> None:
        """Report that it should have been text."""
        self.problem(self.document.quote_advice(self.path, self.value))


def read_sections(
    document: Document, versions: Sequence[str], schema: Schema, read: Callable[[Section], T]
) -> tuple[T | None, list[Problem]]:
    """What a reader makes of a document, and all that is wrong with it in the order of lines.

    :param versions: of the format, that are supported: of another one nothing is read, since
        nothing can be said
    :param schema: the shape that it should have
    :param read: takes what it needs; must bear with any shape
    """
    problems = document.check_version(versions)
    value = None
    if not problems:
        root = Section.of(document)
        problems = document.check(schema)
        value = read(root)
        problems += root.problems
    return value, sorted([*document.problems, *problems], key=lambda problem: problem.line)
