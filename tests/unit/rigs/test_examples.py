# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The examples of tools/test.sh, in its help and in the documentation, select tests."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import pathlib
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

import pytest
from _pytest.mark.expression import Expression

from rigs import run_tests, suites

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGE = ROOT / "doc/source/contributor.rst"


def examples() -> list[str]:
    """What follows ``tools/test.sh`` in each example."""
    texts = (PAGE.read_text(), run_tests.EPILOG)
    lines = [line.partition("  #")[0] for text in texts for line in text.splitlines()]
    found = [re.fullmatch(r"\s+(?:\$ )?(?:\./)?tools/test\.sh(.*)", line) for line in lines]
    return list(dict.fromkeys(one[1].strip() for one in found if one))


def test_there_are_some():
    assert len(examples()) > 8
    assert {"", "--quick", "--unit"} <= set(examples())


@pytest.mark.parametrize("example", examples())
def test_an_example_is_accepted(example):
    assert suites.choose(run_tests.parse(shlex.split(example)).wanted)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Named:
    """A test as its file names it, without an import, since Nova's take long.

    :ivar names: the file's, the classes' and its own
    :ivar marks: its own, its classes' and its file's
    """

    names: tuple[str, ...]
    marks: frozenset[str]


def marks_of(nodes: Iterable[ast.expr]) -> Iterator[str]:
    for node in nodes:
        if found := re.match(r"pytest\.mark\.(\w+)", ast.unparse(node)):
            yield found[1]


def named(body: list[ast.stmt], names: tuple[str, ...], marks: frozenset[str]) -> Iterator[Named]:
    for statement in body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "pytestmark":
            marks |= set(marks_of([statement.value]))
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef):
            continue
        own = (*names, statement.name), marks | set(marks_of(statement.decorator_list))
        if isinstance(statement, ast.ClassDef):
            yield from named(statement.body, *own)
        elif statement.name.startswith("test"):
            yield Named(names=own[0], marks=own[1])


@functools.cache
def in_file(file: pathlib.Path) -> tuple[Named, ...]:
    return tuple(named(ast.parse(file.read_text()).body, (file.name,), frozenset()))


def collected(place: str) -> Iterator[Named]:
    """The tests of a folder, a file or a node id."""
    path, _, within = place.partition("::")
    wanted = set(filter(None, within.split("::")))
    for file in sorted((ROOT / path).rglob("test_*.py")) or [ROOT / path]:
        yield from (test for test in in_file(file) if wanted <= set(test.names))


def is_selected(test: Named, arguments: Sequence[str]) -> bool:
    """Whether pytest's ``-k`` and ``-m`` leave a test; pytest itself reads their expressions."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-k", type=Expression.compile)
    parser.add_argument("-m", type=Expression.compile)
    read, _others = parser.parse_known_args(arguments)
    words = " ".join(test.names).lower()
    return (read.k is None or read.k.evaluate(lambda name: name.lower() in words)) and (
        read.m is None or read.m.evaluate(lambda name: name in test.marks)
    )


def selections() -> dict[tuple[str, str], tuple[Sequence[str], Sequence[str]]]:
    """By example and suite: the places and the arguments for pytest."""
    found = {}
    for example in examples():
        arguments = run_tests.parse(shlex.split(example))
        for suite in suites.choose(arguments.wanted):
            places = suite.selected or (suite.folder,)
            found[example, suite.name] = places, (*suite.arguments, *arguments.pytest)
    return found


@pytest.mark.parametrize(("example", "suite"), selections())
def test_every_selection_has_tests(example, suite):
    places, arguments = selections()[example, suite]
    assert any(is_selected(test, arguments) for place in places for test in collected(place))


@pytest.mark.parametrize(
    "arguments", [("-k", "no_ratchet"), ("-m", "nothing"), ("-m", "quick and slow")]
)
def test_a_selection_without_tests_is_seen(arguments):
    assert not any(is_selected(test, arguments) for test in collected("tests/functional"))
    assert any(is_selected(test, ()) for test in collected("tests/functional"))
