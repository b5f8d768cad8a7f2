# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The tests that somebody names: ``PATH[::TEST]``."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import os
import pathlib
from collections.abc import Iterable

from rigs.venvs import ROOT

#: The folders of the suites that can be named. Those that run by default come first.
DEFAULT_FOLDERS = ("tests/unit", "tests/functional", "tests/real")
FOLDERS = (*DEFAULT_FOLDERS, "tests/page", "tests/packaging", "tests/devstack")
#: What runs the tests of other folders.
ELSEWHERE = {
    "tests/e2e": "tools/cloud test {path}",
    "tests/libvirt": "tools/cloud test --libvirt {path}",
    "tests/machines": "tools/cloud test --machines {path}",
    "tests/bench": "python -m tests.bench",
}
#: So many names of what there is are enough.
_MANY = 12


class UnknownTest(ValueError):
    """There is no such test; the text says what there is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selected:
    """A folder or file of tests, or one test.

    :ivar suite: the folder of the suite that it belongs to, one of :data:`FOLDERS`
    :ivar path: from the top of the tree
    :ivar test: what stands behind ``::`` in pytest's node ids; "" for all
    """

    suite: str
    path: str
    test: str = ""

    @property
    def node_id(self) -> str:
        return f"{self.path}::{self.test}" if self.test else self.path

    @property
    def is_folder(self) -> bool:
        return (ROOT / self.path).is_dir()


def select(text: str, here: pathlib.Path) -> list[Selected]:
    """Find the tests that a text names.

    :param text: a path, from ``here`` or else from the top of the tree, perhaps with ``::TEST``
    :param here: the folder that the caller is in
    :returns: one, or one for each suite that is in the folder
    :raises UnknownTest: there is no such file or test, or it belongs to no suite
    """
    name, _, test = text.partition("::")
    path = _find(name, here)
    if not path.is_relative_to(ROOT):
        raise UnknownTest(f"{name} is not in {ROOT}")
    place = path.relative_to(ROOT).as_posix()
    for folder, command in ELSEWHERE.items():
        if path.is_relative_to(ROOT / folder):
            raise UnknownTest(f"{name} has a command of its own: {command.format(path=place)}")
    if test:
        _check(path, test)
    for folder in FOLDERS:
        if path.is_relative_to(ROOT / folder):
            return [Selected(suite=folder, path=place, test=test)]
    within = [each for each in DEFAULT_FOLDERS if (ROOT / each).is_relative_to(path)]
    if not within:
        raise UnknownTest(f"{name} has no tests; they are in {', '.join(FOLDERS)}")
    return [Selected(suite=folder, path=folder) for folder in within]


def _find(name: str, here: pathlib.Path) -> pathlib.Path:
    for start in (here, ROOT):
        path = pathlib.Path(os.path.normpath(start / name))
        if path.exists():
            return path.resolve()
    # What is there is told for the longest part of the path that exists.
    there = pathlib.Path(os.path.normpath(ROOT / name))
    missing = there.name
    while not (there := there.parent).is_dir():
        missing = there.name
    names = sorted(
        each.name
        for each in there.iterdir()
        if each.name.startswith("test_") or (each.is_dir() and each.name[:1] not in "._")
    )
    shown = there.relative_to(ROOT) if there.is_relative_to(ROOT) else there
    raise UnknownTest(f"there is no {name}; in {shown} are {_listed(missing, names)}")


def _check(path: pathlib.Path, test: str) -> None:
    """What a class inherits is not known here, so only the first name is looked at."""
    if path.suffix != ".py":
        raise UnknownTest(f"{path.name} is no file of tests, so it has no {test}")
    names = list(dict.fromkeys(_names(ast.parse(path.read_text()).body)))
    wanted = test.partition("::")[0].partition("[")[0]
    if wanted not in names:
        tests = [name for name in names if name.lower().startswith("test") or "Test" in name]
        raise UnknownTest(f"{path.name} has no {wanted}; it has {_listed(wanted, tests)}")


def _names(body: Iterable[ast.stmt]) -> Iterable[str]:
    """The names of tests, classes, and of what is assigned, such as a state machine's."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Assign):
            yield from (each.id for each in statement.targets if isinstance(each, ast.Name))


def _listed(wanted: str, names: list[str]) -> str:
    """Some names, the most alike first."""
    near = difflib.get_close_matches(wanted, names, n=_MANY)
    shown = list(dict.fromkeys([*near, *names]))[:_MANY]
    more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return f"{', '.join(shown) or 'none'}{more}"
