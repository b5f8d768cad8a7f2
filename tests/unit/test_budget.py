# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Tests that draw their inputs have one budget, and no number or variable of their own."""

import pathlib
import re
import runpy

import pytest
from hypothesis import settings

TESTS = pathlib.Path(__file__).resolve().parents[1]
#: Where the budget is made.
MAKERS = ("budget.py", "unit/conftest.py", "unit/test_budget.py")


def budget(monkeypatch, value):
    """The module as it is with this value of the variable; None: it is not set."""
    if value is None:
        monkeypatch.delenv("DEVCOMPAT_BUDGET", raising=False)
    else:
        monkeypatch.setenv("DEVCOMPAT_BUDGET", value)
    return runpy.run_path(str(TESTS / "budget.py"))


@pytest.mark.parametrize(
    ("value", "name", "times"),
    [
        (None, "usual", 0.5),
        ("", "usual", 0.5),
        ("usual", "usual", 0.5),
        ("night", "night", 50),
        ("small", "small", 0.1),
    ],
)
def test_budgets(monkeypatch, value, name, times):
    made = budget(monkeypatch, value)
    assert made["NAME"] == name
    assert made["scaled"](200) == 200 * times


def test_a_part_by_day(monkeypatch):
    """It changes nothing at night."""
    counts = [budget(monkeypatch, name)["scaled"](200, by_day=8) for name in (None, "night")]
    assert counts == [25, 10_000]
    assert budget(monkeypatch, None)["scaled"](1) == 1


def test_another_budget_is_refused(monkeypatch):
    names = "usual, night, small"
    with pytest.raises(ValueError, match=f"DEVCOMPAT_BUDGET=large: it is one of {names}"):
        budget(monkeypatch, "large")


def test_each_has_a_profile():
    usual, night, small = map(settings.get_profile, ("usual", "night", "small"))
    assert small.max_examples * 5 == usual.max_examples
    assert small.derandomize
    assert night.max_examples == 100 * usual.max_examples
    # By day a failure is the same for everybody; by night other examples are looked for.
    assert (usual.derandomize, night.derandomize) == (True, False)
    # What is slow on a busy machine is no failure.
    assert (usual.deadline, night.deadline) == (None, None)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted(TESTS.rglob("*.py"))
        if path.relative_to(TESTS).as_posix() not in MAKERS and "max_examples" in path.read_text()
    ],
    ids=lambda path: path.relative_to(TESTS).as_posix(),
)
def test_no_test_has_a_number_of_its_own(path):
    numbers = re.findall(r"max_examples=\s*(\w+)", path.read_text())
    assert not [number for number in numbers if number.isdigit()]
    assert "deadline=" not in path.read_text() or "functional" in path.parts


def test_no_test_has_a_variable_of_its_own():
    """A number that is read from the environment is a budget."""
    for path in TESTS.rglob("*.py"):
        if path.relative_to(TESTS).as_posix() not in MAKERS:
            assert not re.search(r"\bint\(\s*os\.environ", path.read_text()), path
