# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What our formatters print is what cliff's own print."""

from __future__ import annotations

import argparse
import io
import json

import pytest
import yaml
from cliff.formatters import json_format, table, yaml_format
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nova_devcompat.cli import formatters

COLUMNS = ("source_host", "family", "verdict", "reason")
LONG = (
    "mlx5_vf.fw_version: needs 28.40, offered 28.39.1002, too old "
    "[semver, minor-too-old; host can act]; and the like, " * 3
)
ROWS = [
    ("cmp1", "mlx5_vf", "accept", ""),
    ("cmp2", "mlx5_vf", "reject", LONG),
    ("28.40", "no", "~", "- a: b"),
    ("cmp2", "mlx5_vf", "accept", ""),
    (" x ", "'", '"', "#\\é"),
]
TEXTS = st.text(
    alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30
) | st.text("ab -:'\"\\\n,{}[]#&*!|>%@`0.~", max_size=120)


def printed(formatter, rows, columns=COLUMNS, **options) -> str:
    stream = io.StringIO()
    defaults = {"noindent": False, "max_width": 0, "fit_width": False, "print_empty": False}
    # An iterator, as cliff passes one where columns are chosen.
    formatter.emit_list(columns, iter(rows), stream, argparse.Namespace(**(defaults | options)))
    return stream.getvalue()


ROWS_OF_TEXTS = st.lists(st.tuples(TEXTS, TEXTS, TEXTS, TEXTS), max_size=6)


@given(ROWS_OF_TEXTS, st.booleans())
@example(ROWS, True)
@example(ROWS, False)
@settings(max_examples=200, deadline=None)
def test_json(rows, noindent):
    text = printed(formatters.Json(), rows, noindent=noindent)
    assert text == printed(json_format.JSONFormatter(), rows, noindent=noindent)
    assert json.loads(text) == [dict(zip(COLUMNS, row, strict=True)) for row in rows]


@given(ROWS_OF_TEXTS)
@example(ROWS)
@settings(max_examples=200, deadline=None)
def test_yaml_means_the_same(rows):
    text = printed(formatters.Yaml(), rows)
    theirs = yaml.safe_load(printed(yaml_format.YAMLFormatter(), rows))
    assert yaml.safe_load(text) == theirs == [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def test_yaml_looks_the_same():
    assert printed(formatters.Yaml(), ROWS[:4]) == printed(yaml_format.YAMLFormatter(), ROWS[:4])
    assert printed(formatters.Yaml(), []) == printed(yaml_format.YAMLFormatter(), [])


PLAIN = st.text("ab c-", max_size=40).map(str.strip)


@given(st.lists(st.tuples(PLAIN, PLAIN, PLAIN, PLAIN), max_size=6))
@example(ROWS)
@example([("a\nbc", "d", "e\r\nf\n", "g\rh"), ("", "", "", "")])
@example([("日本", "é", "x", "y"), ("abc", "d", "e", "f")])
@settings(max_examples=200, deadline=None)
def test_table(rows):
    assert printed(formatters.Table(), rows) == printed(table.TableFormatter(), rows)


@given(st.lists(st.tuples(PLAIN, PLAIN, PLAIN, PLAIN), max_size=6), st.integers(1, 160))
@example(ROWS, 60)
@example(ROWS, 100)
@example(ROWS, 400)
@settings(max_examples=200, deadline=None)
def test_table_of_limited_width(rows, max_width):
    ours = printed(formatters.Table(), rows, max_width=max_width)
    assert ours == printed(table.TableFormatter(), rows, max_width=max_width)


@pytest.mark.parametrize("print_empty", [True, False])
def test_empty_table(print_empty):
    ours = printed(formatters.Table(), [], print_empty=print_empty)
    assert ours == printed(table.TableFormatter(), [], print_empty=print_empty)
    assert bool(ours.strip()) is print_empty


def test_what_is_replaced():
    assert set(formatters.REPLACED.values()) == {
        formatters.Json,
        formatters.Yaml,
        formatters.Table,
    }
    for theirs, ours in formatters.REPLACED.items():
        assert issubclass(ours, theirs)
