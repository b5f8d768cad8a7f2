# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What our formatters print is what cliff's own print, of texts that can be printed."""

from __future__ import annotations

import argparse
import csv
import enum
import io
import json
import re
import subprocess

import pytest
import yaml
from cliff.columns import FormattableColumn
from cliff.formatters import commaseparated, json_format, shell, table, value, yaml_format
from hypothesis import example, given
from hypothesis import strategies as st

from nova_devcompat.cli import formatters

COLUMNS = ("source_host", "family", "verdict", "reason")
LONG = (
    "mlx5_vf.fw_version: needs 28.40, offered 28.39.1002, too old "
    "[semver, minor-too-old; upgrade the host]; and the like, " * 3
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
def test_json(rows, noindent):
    text = printed(formatters.Json(), rows, noindent=noindent)
    assert text == printed(json_format.JSONFormatter(), rows, noindent=noindent)
    assert json.loads(text) == [dict(zip(COLUMNS, row, strict=True)) for row in rows]


@given(ROWS_OF_TEXTS)
@example(ROWS)
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
def test_table(rows):
    assert printed(formatters.Table(), rows) == printed(table.TableFormatter(), rows)


@given(st.lists(st.tuples(PLAIN, PLAIN, PLAIN, PLAIN), max_size=6), st.integers(1, 160))
@example(ROWS, 60)
@example(ROWS, 100)
@example(ROWS, 400)
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


# --- texts of others ----------------------------------------------------------------------------

EVIL = "1.0\x1b]0;title\x07\x1b[2J\n2026-11-26 12:00:00.000 1 CRITICAL forged\u202e"
SPELLED = r"1.0\x1b]0;title\x07\x1b[2J\n2026-11-26 12:00:00.000 1 CRITICAL forged\u202e"
FORMULA = "=+-@\t\r\uff1d\uff0b\uff0d\uff20"
ANYTHING = st.text(st.characters(), max_size=40) | st.sampled_from([EVIL, "=1+1", "\t=1+1"])


class Lines(FormattableColumn):
    """A line for each text."""

    def human_readable(self):
        return "\n".join(self._value)

    def machine_readable(self):
        return list(self._value)


def formatters_of(kind):
    class Asked(kind):
        def __init__(self):
            pass

        def take_action(self, parsed_args):
            raise NotImplementedError

    return {one.name: one.obj for one in Asked()._load_formatter_plugins()}


OPTIONS = {
    "quote_mode": "nonnumeric",
    "prefix": "",
    "variables": [],
}


@pytest.mark.parametrize("kind", [formatters.FastLister, formatters.SafeLister])
def test_all_formats_of_lists_are_exact_or_printable(kind):
    for name, formatter in formatters_of(kind).items():
        text = printed(formatter, [(EVIL, "a", "b", "=1+1")], **OPTIONS)
        assert all(line.isprintable() for line in text.split("\n")), name
        if name in ("json", "yaml"):
            (row,) = yaml.safe_load(text)
            assert row == dict(zip(COLUMNS, [EVIL, "a", "b", "=1+1"], strict=True))
        else:
            # cliff's CSV doubles backslashes.
            assert SPELLED in text.replace("\\\\", "\\"), name
            assert not re.search("^2026", text, re.MULTILINE), name


def test_all_formats_of_one_object_are_exact_or_printable():
    for name, formatter in formatters_of(formatters.SafeShowOne).items():
        stream = io.StringIO()
        options = {"noindent": False, "max_width": 0, "fit_width": False, "print_empty": False}
        formatter.emit_one(
            ("name", "lines", "number"),
            (EVIL, Lines(["one", EVIL.replace("\n", " ")]), 7),
            stream,
            argparse.Namespace(**(options | OPTIONS)),
        )
        text = stream.getvalue()
        assert all(line.isprintable() for line in text.split("\n")), name
        if name in ("json", "yaml"):
            assert yaml.safe_load(text)["name"] == EVIL


class Answer(enum.StrEnum):
    YES = "yes: it does"


@pytest.mark.parametrize("kind", [formatters.FastLister, formatters.SafeLister])
def test_members_of_enumerations_are_texts(kind):
    """Verdicts, reasons and policies are such members, in each format."""
    row = (Answer.YES, "a", Answer.YES, "b")
    for name, formatter in formatters_of(kind).items():
        text = printed(formatter, [row], **OPTIONS)
        assert text == printed(formatter, [tuple(map(str, row))], **OPTIONS), name
        assert "yes: it does" in text


def test_members_of_enumerations_within_one_object():
    options = {"noindent": False, "max_width": 0, "fit_width": False, "print_empty": False}

    def shown(formatter, answer):
        stream = io.StringIO()
        values = (answer, [answer, {answer: (answer, 1, None)}])
        formatter.emit_one(("one", "many"), values, stream, argparse.Namespace(**options))
        return stream.getvalue()

    loaded = formatters_of(formatters.SafeShowOne)
    for name in ("json", "yaml"):
        assert shown(loaded[name], Answer.YES) == shown(loaded[name], str(Answer.YES)), name


@given(st.lists(st.tuples(ANYTHING, ANYTHING, ANYTHING, ANYTHING), max_size=6))
def test_no_line_of_a_table_is_forged(rows):
    text = printed(formatters.Shown(formatters.Table()), rows)
    lines = text.splitlines() if rows else []
    assert all(line.isprintable() for line in lines)
    # A line each, a header, and three rules.
    assert len(lines) == (len(rows) + 4 if rows else 0)
    assert len(printed(formatters.Shown(value.ValueFormatter()), rows).splitlines()) == len(rows)


@given(st.lists(st.tuples(ANYTHING, ANYTHING, ANYTHING, ANYTHING), max_size=6))
@example([("=1+1", "+1", "-1", "@SUM(A1)"), ("\t=1", "\r=1", "\uff1d1", "a=1")])
def test_no_cell_of_csv_is_a_formula(rows):
    text = printed(formatters.Shown(commaseparated.CSVLister()), rows, quote_mode="all")
    read = list(csv.reader(io.StringIO(text), escapechar="\\"))[1:]
    assert len(read) == len(rows)
    for cells in read:
        assert not any(
            cell.startswith(tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")) for cell in cells
        )
        assert all(cell.isprintable() for cell in cells)


def test_a_cell_that_would_be_a_formula_is_quoted():
    assert formatters.shown_in_csv("=1+1") == "'=1+1"
    assert formatters.shown_in_csv("1=1") == "1=1"
    assert formatters.shown_in_csv("") == ""


@pytest.mark.parametrize(
    "text", ["$(echo x)", "`echo x`", "${HOME}", 'a"; echo "x', "\\$(echo x)"]
)
def test_a_shell_takes_texts_for_what_they_are(text):
    stream = io.StringIO()
    formatters.Shown(shell.ShellFormatter()).emit_one(
        ("name",), (text,), stream, argparse.Namespace(**OPTIONS)
    )
    script = stream.getvalue() + 'printf %s "$name"'
    assert subprocess.check_output(["sh", "-c", script], text=True) == text
