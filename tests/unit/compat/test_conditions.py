# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Conditions of known-bad lists: what compares values, and what a condition can never meet."""

from __future__ import annotations

import pytest

from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.conditions import (
    COMPARERS,
    NUMERIC,
    TEXT,
    BadCondition,
    comparer_of,
    implies,
    parse_condition,
)
from nova_devcompat.compat.kinds import (
    Accepts,
    AtLeast,
    Equal,
    Floor,
    Ordered,
    Origin,
    Range,
    Same,
    Semver,
    Superset,
)
from nova_devcompat.compat.knownbad import values_of


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (Ordered(), "numeric"),
        (Ordered(ordering="rpm_evr"), "rpm_evr"),
        (Origin(ordering="debian"), "debian"),
        (Semver(), "dotted"),
        (Range(base=16), "hexadecimal"),
        (Accepts(), "dotted"),
        (AtLeast(), "integer"),
        (Equal(), "text"),
        (Same(), "text"),
        (Superset(), "text"),
        (Floor(at="1"), "text"),
    ],
)
def test_values_compare_as_their_rule_does(rule, name):
    assert comparer_of(rule) is COMPARERS[name]


@pytest.mark.parametrize(
    ("name", "less", "more"),
    [
        ("numeric", "9.2.0", "9.10"),
        ("rpm_evr", "6.2.0-53.el8", "6.2.0-54.el8"),
        ("debian", "1:8.2.2+ds-0ubuntu1.4", "1:8.2.2+ds-0ubuntu1.10"),
        ("dotted", "28.9", "28.10"),
        ("hexadecimal", "9.1", "1a.1"),
        ("integer", "9", "10"),
    ],
)
def test_orders(name, less, more):
    by = COMPARERS[name]
    assert parse_condition(f"<{more}", by).holds(less, by) is True
    assert parse_condition(f">={more}", by).holds(less, by) is False
    assert parse_condition(more, by).holds(more, by) is True


@pytest.mark.parametrize("by", [NUMERIC, COMPARERS["integer"]], ids=lambda by: by.name)
@pytest.mark.parametrize(
    ("operator", "met"),
    [
        ("<", ["1"]),
        ("<=", ["1", "2"]),
        (">", ["3"]),
        (">=", ["2", "3"]),
        ("", ["2"]),
        ("=", ["2"]),
        ("==", ["2"]),
        ("!=", ["1", "3"]),
    ],
)
def test_operators(operator, met, by):
    stated = parse_condition(f"{operator}2", by)
    assert [value for value in ("1", "2", "3") if stated.holds(value, by)] == met


def test_texts_are_the_same_or_not():
    assert [parse_condition("!=a", TEXT).holds(text, TEXT) for text in "Ab"] == [False, True]


def test_what_cannot_be_compared_is_neither_met_nor_not():
    by = COMPARERS["integer"]
    with pytest.raises(Unreadable):
        by.parse("ten")
    assert parse_condition("<10", by).holds("ten", by) is None
    # Two branches of builds, of which nobody can tell which is newer.
    assert parse_condition("<1.15.9-C-22", NUMERIC).holds("1.15.9-E-22", NUMERIC) is None
    # One of a list that surely holds, or does not, settles nothing else.
    listed = parse_condition(["<1.15.9-C-22", "<2"], NUMERIC)
    assert listed.holds("1.15.9-E-22", NUMERIC) is True
    both = parse_condition("!=1.15.9-C-22,>2", NUMERIC)
    assert both.holds("1.15.9-E-22", NUMERIC) is False
    # Nor does one that holds, or does not, beside one of which it cannot be told.
    for texts in (["<1.15.9-C-22", "<1"], ["<1", "<1.15.9-C-22"]):
        assert parse_condition(texts, NUMERIC).holds("1.15.9-E-22", NUMERIC) is None
    for text in ("!=1.15.9-C-22,<2", "<2,!=1.15.9-C-22"):
        assert parse_condition(text, NUMERIC).holds("1.15.9-E-22", NUMERIC) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no value"),
        ("<", "has no value"),
        ("<banana", "cannot be compared"),
        ("2,3", "can never be met"),
        (">3,<2", ">3 lies above <2"),
        (">2,<2", ">2 lies above <2"),
        (">=3,<2", "^'>=3,<2' can never be met: >=3 lies above <2$"),
        (">3,<=2", "^'>3,<=2' can never be met: >3 lies above <=2$"),
        ("9\n1", "has no value"),
        ("<2,same", "stands alone"),
    ],
)
def test_what_no_value_meets(text, told):
    with pytest.raises(BadCondition, match=told):
        parse_condition(text, NUMERIC)


def test_a_list_of_nothing():
    with pytest.raises(BadCondition, match=r"^is empty$"):
        parse_condition([], NUMERIC)


def test_what_is_no_integer_is_said_with_the_value():
    by = COMPARERS["integer"]
    with pytest.raises(BadCondition, match=r"^'ten' cannot be compared: is no integer$"):
        parse_condition("<ten", by)
    with pytest.raises(Unreadable, match="'ten'"):
        by.parse("ten")


@pytest.mark.parametrize("text", ["==2", "!=2", ">2,<3", "<2,!=1", ">1", "<3,<2"])
def test_what_some_value_meets(text):
    assert parse_condition(text, NUMERIC)


def test_as_people_read_them():
    assert str(parse_condition("same", TEXT)) == "same"
    assert str(parse_condition(["==9.0.1", ">=9.1, <9.1.2"], NUMERIC)) == "9.0.1 or >=9.1,<9.1.2"


def test_same_lies_in_nothing():
    same, other = parse_condition("same", NUMERIC), parse_condition("<2", NUMERIC)
    assert not implies(same, other, NUMERIC) and not implies(other, same, NUMERIC)


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        (" 9.1 ", ("9.1",)),
        ("  ", None),
        (7, ("7",)),
        (True, None),
        (["a ", 1, "b"], ("a", "1", "b")),
        ([], ()),
        # The item that cannot be told may be the one that an entry is about.
        (["a", None], None),
        (["a", ""], None),
        (["a", True], None),
        (["a", ["b"]], None),
        ({"min": "1", "max": "2"}, ("2",)),
        ({"version": "2.1", "accepts": "1-2"}, ("2.1",)),
        ({"features": ["a"]}, None),
        (None, None),
        (1.5, None),
    ],
)
def test_values_of_hosts(raw, values):
    assert values_of(raw) == values
