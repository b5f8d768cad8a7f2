# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Formatters for lists of a million rows, and for texts that others wrote.

cliff builds the whole list first and formats value by value: a million rows of ours take it 13
seconds in JSON, 26 as a table and 220 in YAML. Our values are texts, and few of them are distinct,
so these format each distinct value once. What they print is what cliff prints.

cliff prints texts as they are, and what is in tables comes from hosts, guests and flavors. JSON
and YAML are exact, since they escape what cannot be printed. In all other formats it is spelled
out (:func:`nova_devcompat.kit.text.printable`), and in CSV no cell is a formula.
"""

from __future__ import annotations

import argparse
import enum
import functools
import itertools
import json
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import prettytable
import yaml
from cliff.columns import FormattableColumn
from cliff.display import DisplayCommandBase
from cliff.formatters import commaseparated, json_format, shell, table, yaml_format
from cliff.formatters.base import Formatter, ListFormatter, SingleFormatter
from cliff.lister import Lister
from cliff.show import ShowOne

from nova_devcompat.kit.text import printable

Rows = Iterable[Sequence[str]]

# libyaml, where it is there.
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
# The distinct values of any but a contrived fleet, at some 200 bytes each.
_MEMORY = 200_000


class Json(json_format.JSONFormatter):
    """JSON, row by row."""

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Rows,
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        outer, inner = ("", "") if parsed_args.noindent else ("\n  ", "\n    ")
        space = " " if parsed_args.noindent else ""
        quote = functools.lru_cache(_MEMORY)(json.dumps)
        keys = [f"{inner}{json.dumps(name)}: " for name in column_names]
        rows = (
            f"{outer}{{"
            + f",{space}".join([key + quote(value) for key, value in zip(keys, row, strict=True)])
            + f"{outer}}}"
            for row in data
        )
        end = "" if parsed_args.noindent else "\n"
        stdout.write("[")
        first = next(rows, None)
        if first is not None:
            stdout.write(first)
            stdout.writelines(f",{space}{row}" for row in rows)
            stdout.write(end)
        stdout.write("]\n")


class Yaml(yaml_format.YAMLFormatter):
    """YAML, row by row."""

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Rows,
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        # cliff sorts the keys.
        order = sorted(range(len(column_names)), key=column_names.__getitem__)
        line = functools.lru_cache(_MEMORY)(_yaml_line)
        empty = True
        for row in data:
            empty = False
            lines = [line(column_names[index], row[index]) for index in order]
            stdout.write("-" + "".join(lines)[1:])
        if empty:
            stdout.write("[]\n")


class PlainYaml(yaml_format.YAMLFormatter):
    """YAML of any values."""

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        super().emit_list(column_names, [plain(list(row)) for row in data], stdout, parsed_args)

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        super().emit_one(column_names, plain(list(data)), stdout, parsed_args)


def plain(value: Any) -> Any:
    """A value with texts in place of members of enumerations, however deep they are in it."""
    if isinstance(value, enum.StrEnum):
        return value.value
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items()}
    return value


def _yaml_line(name: str, value: str) -> str:
    # As the first of a list, so that a long text is folded where it will stand.
    text: str = yaml.dump([{name: plain(value)}], Dumper=_Dumper, default_flow_style=False)
    return " " + text[1:]


class Table(table.TableFormatter):
    """A table whose columns are as wide as the widest value, or as cliff's options let them be."""

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Rows,
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        rows = list(data)
        if not rows:
            super().emit_list(column_names, rows, stdout, parsed_args)
            return
        distinct = [set(column) for column in zip(*rows, strict=True)]
        widest = [max(map(_widest_line, column)) for column in distinct]
        limits = self._limits(column_names, widest, parsed_args)
        widths = [
            max(len(name), width if limit is None else min(width, limit))
            for name, width, limit in zip(column_names, widest, limits, strict=True)
        ]
        cells = [
            {value: _cell(value, width) for value in column}
            for column, width in zip(distinct, widths, strict=True)
        ]
        rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+\n"
        header = [name.ljust(width) for name, width in zip(column_names, widths, strict=True)]
        stdout.write(f"{rule}| {' | '.join(header)} |\n{rule}")
        stdout.writelines(_lines(rows, cells, widths))
        stdout.write(rule)

    def _limits(
        self, column_names: Sequence[str], widest: list[int], parsed_args: argparse.Namespace
    ) -> list[int | None]:
        """How wide cliff lets each column be; None for any width."""
        # cliff decides by the widths of a table alone: ask it with one row of the widest.
        probe = prettytable.PrettyTable(list(column_names))
        probe.add_row(["x" * width for width in widest])
        self._assign_max_widths(probe, int(parsed_args.max_width), 8, parsed_args.fit_width)
        return [probe.max_width.get(name) for name in column_names]


def _lines(
    rows: list[Sequence[str]], cells: list[dict[str, list[str]]], widths: list[int]
) -> Iterator[str]:
    if all(len(lines) == 1 for column in cells for lines in column.values()):
        single = [{value: lines[0] for value, lines in column.items()} for column in cells]
        for row in rows:
            texts = [column[value] for column, value in zip(single, row, strict=True)]
            yield f"| {' | '.join(texts)} |\n"
        return
    blank = [" " * width for width in widths]
    for row in rows:
        found = [column[value] for column, value in zip(cells, row, strict=True)]
        for line in itertools.zip_longest(*found):
            texts = [text or empty for text, empty in zip(line, blank, strict=True)]
            yield f"| {' | '.join(texts)} |\n"


def _cell(value: str, width: int) -> list[str]:
    lines = [
        piece
        for line in _split(value)
        for piece in (textwrap.wrap(line, width) if _width(line) > width else [line])
    ]
    return [line + " " * (width - _width(line)) for line in lines]


def _split(value: str) -> list[str]:
    return value.replace("\r\n", "\n").replace("\r", " ").split("\n")


def _widest_line(value: str) -> int:
    return max(map(_width, _split(value)))


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


#: What to use in place of which of cliff's; a formatter of somebody else's stays.
REPLACED: dict[type, Callable[[], ListFormatter]] = {
    json_format.JSONFormatter: Json,
    yaml_format.YAMLFormatter: Yaml,
    table.TableFormatter: Table,
}

# These escape what cannot be printed, so that nothing of a text is lost.
_EXACT = (json_format.JSONFormatter, yaml_format.YAMLFormatter)


# --- texts of others ----------------------------------------------------------------------------

# What spreadsheets take for the beginning of a formula; tab and carriage return are spelled out.
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def shown(text: str) -> str:
    """A cell as one line that a terminal prints as it is."""
    return printable(text, None)


def shown_in_csv(text: str) -> str:
    """The same for a spreadsheet: one that would be a formula begins with a single quote."""
    return f"'{shown(text)}" if text.startswith(_FORMULA) else shown(text)


def shown_in_shell(text: str) -> str:
    """The same between double quotes of a shell, where cliff escapes no more than these."""
    return re.sub(r"[\\$`]", r"\\\g<0>", shown(text))


_SHOWN: dict[type, Callable[[str], str]] = {
    commaseparated.CSVLister: shown_in_csv,
    shell.ShellFormatter: shown_in_shell,
}


class _ShownColumn(FormattableColumn[Any]):
    """A column for people whose lines are of our making, and what is in them is not."""

    def __init__(self, column: FormattableColumn[Any], cell: Callable[[str], str]) -> None:
        super().__init__(column)
        self._cell = cell

    def human_readable(self) -> str:
        return "\n".join(map(shown, self._value.human_readable().split("\n")))

    def machine_readable(self) -> str:
        return self._cell(str(self._value.machine_readable()))


class Shown(ListFormatter, SingleFormatter):
    """A formatter that is given nothing but what can be printed.

    :param formatter: cliff's, ours or anybody's
    """

    def __init__(self, formatter: Formatter) -> None:
        self._formatter: Any = formatter
        self._cell = _SHOWN.get(type(formatter), shown)
        self._text = functools.lru_cache(_MEMORY)(self._cell)

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        """The formatter's own options."""
        self._formatter.add_argument_group(parser)

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print rows."""
        rows = (tuple(map(self._shown, row)) for row in data)
        self._formatter.emit_list(column_names, rows, stdout, parsed_args)

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print one object."""
        values = tuple(map(self._shown, data))
        self._formatter.emit_one(column_names, values, stdout, parsed_args)

    def _shown(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        return _ShownColumn(value, self._cell) if isinstance(value, FormattableColumn) else value


if TYPE_CHECKING:
    _DisplayCommand = DisplayCommandBase[Any]
else:
    # Generic for its types only, and not at all before cliff 4.13.
    _DisplayCommand = DisplayCommandBase


class _PrintsTextsOfOthers(_DisplayCommand):
    """A command whose output holds what others wrote."""

    def _load_formatter_plugins(self) -> Any:
        loaded = super()._load_formatter_plugins()
        for extension in loaded:
            if extension.obj is not None:
                formatter = self._formatter(extension.obj)
                exact = isinstance(formatter, _EXACT)
                extension.obj = formatter if exact else Shown(formatter)
        return loaded

    def _formatter(self, formatter: Formatter) -> Formatter:
        return PlainYaml() if type(formatter) is yaml_format.YAMLFormatter else formatter


class SafeLister(_PrintsTextsOfOthers, Lister):
    """A list of rows of any values."""


class SafeShowOne(_PrintsTextsOfOthers, ShowOne):
    """One object."""


class FastLister(SafeLister):
    """A list of rows of texts."""

    def _formatter(self, formatter: Formatter) -> Formatter:
        faster = REPLACED.get(type(formatter))
        return formatter if faster is None else faster()
