# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The project's own cases are right; those that are not yet are known, and leave in time."""

from __future__ import annotations

import functools
import pathlib

import pytest
import yaml

from tests import cases
from tests.cases.__main__ import run

FOLDER = pathlib.Path(cases.__file__).parent


@functools.cache
def stated(path):
    """The cases of a file, by name."""
    return yaml.safe_load(path.read_text())["cases"]


def named(folder):
    return [
        (path, name) for path in sorted((FOLDER / folder).glob("*.yaml")) for name in stated(path)
    ]


@pytest.fixture(scope="module")
def came():
    """What each case of a file came to; each file is run once."""
    known = {}

    def of(path, name):
        if path not in known:
            known[path] = run([path])
        return [answer for case, answer in known[path] if case == name]

    return of


@pytest.mark.parametrize(("path", "name"), named("field"), ids=str)
def test_right(came, path, name):
    answers = came(path, name)
    assert answers
    assert [answer.line(name) for answer in answers if not answer.right] == []


@pytest.mark.parametrize(("path", "name"), named("open"), ids=str)
def test_still_open(came, path, name):
    """One that has become right goes to the others."""
    answers = came(path, name)
    assert answers
    assert not all(answer.right for answer in answers)
    assert not any(answer.verdict == "crash" for answer in answers)


@pytest.mark.parametrize("folder", ["field", "open"])
def test_each_says_what_it_is(folder):
    names = [name for _, name in named(folder)]
    assert len(set(names)) == len(names)
    for path, name in named(folder):
        assert len(stated(path)[name]["told"].split()) > 2
