# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the documentation shows of the benchmarks: tables, and a figure.

Run ``python -m tests.bench.pages`` to write them anew from ``doc/source/_costs/costs.json``, which
``python -m tests.bench --docs`` writes. The figure has a ground of its own, so that it can be read
on a light page and on a dark one, and tells nothing by colour alone.
"""

from __future__ import annotations

import csv
import io
import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.sax import saxutils

from tests.bench.measuring import Row, row_of

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "doc" / "source" / "_costs"
FIGURES = "costs.json"

_HEADER = ("Case", "Beside", "Unit", "Ours", "Stock", "Ratio", "Budget", "Met")

_FORMAT = re.compile(r"\bformat \d+")
_ONE = {"queries": "query", "requests": "request"}

# The figure, in pixels: the longest bar is twice the budget.
_WIDTH, _LINE, _TOP, _LEFT = 900, 26, 64, 430
_WHOLE = 190
_GROUND, _INK, _FAINT, _MET, _MISSED = "#ffffff", "#1f2933", "#52606d", "#2f6fb0", "#b5520b"


def rows_of(whole: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The rows of what the command wrote, by benchmark."""
    return {name: list(map(row_of, rows)) for name, rows in whole["benchmarks"].items()}


def table(rows: Iterable[Row]) -> str:
    """The table of a benchmark, as CSV."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(_HEADER)
    for row in rows:
        writer.writerow(
            (
                row.case,
                row.beside,
                row.unit,
                number(row.ours.least),
                number(row.stock.least) if row.stock else "",
                "" if row.ratio is None else number(row.ratio),
                budget(row),
                {None: "", True: "yes", False: "no"}[row.met],
            )
        )
    return written.getvalue()


def budget(row: Row) -> str:
    """The budget in words."""
    if row.budget is None:
        return ""
    most = f"{row.budget:g}"
    if row.of == "ratio":
        return f"ratio {most}"
    unit = _ONE.get(row.unit, row.unit) if row.budget == 1 else row.unit
    return f"{most} {unit}" + (" more" if row.of == "more" else "")


def number(value: float) -> str:
    """Three digits that count."""
    if value and abs(value) < 1_000 and value != int(value):
        return f"{value:.3g}"
    return f"{value:,.0f}"


def used(row: Row) -> float:
    """The part of its budget that a row uses; 0 for what is below the stock's."""
    assert row.budget is not None
    if row.of == "ratio":
        return (row.ratio or 0) / row.budget
    cost = row.ours.least - (row.stock.least if row.of == "more" and row.stock else 0)
    if not row.budget:
        return 0 if cost <= 0 else 2
    return max(cost, 0) / row.budget


def worst(rows: Mapping[str, Sequence[Row]]) -> list[tuple[str, Row]]:
    """Of the rows of each benchmark that have one budget, that which uses the most of it.

    Each format of documents has its own.
    """
    found: dict[str, tuple[str, Row]] = {}
    for name, listed in rows.items():
        for row in listed:
            if row.met is None:
                continue
            key = repr((name, row.budget, row.of, row.unit, _FORMAT.findall(row.case)))
            if key not in found or used(row) > used(found[key][1]):
                found[key] = name, row
    return list(found.values())


def drawing(rows: Mapping[str, Sequence[Row]]) -> str:
    """The figure, as SVG: a bar for each budget, and what it is of."""
    chosen = worst(rows)
    height = _TOP + _LINE * len(chosen) + 24
    limit = _LEFT + _WHOLE
    title = "How much of each budget is used, in the worst case that has it"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-labelledby="title">',
        f'<title id="title">{title}</title>',
        f'<rect width="{_WIDTH}" height="{height}" rx="6" fill="{_GROUND}"/>',
        '<g font-family="system-ui, sans-serif" font-size="12">',
        _text(16, 26, title, size=15),
        _text(limit, _TOP - 10, "the budget", anchor="middle", ink=_FAINT),
        f'<line x1="{limit}" x2="{limit}" y1="{_TOP - 4}" y2="{height - 20}" '
        f'stroke="{_INK}" stroke-dasharray="4 3"/>',
    ]
    for place, (name, row) in enumerate(chosen):
        parts += _bar(name, row, _TOP + place * _LINE)
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _bar(name: str, row: Row, top: int) -> list[str]:
    part = used(row)
    length = max(round(min(part, 2) * _WHOLE), 1)
    ink = _MET if row.met else _MISSED
    said = f"{part:.0%} of {budget(row)}" + ("" if row.met else ", not met")
    inside = part > 1.4
    # At the end of a long bar there is room within it alone.
    end = _text(_LEFT + length - 6, top + 15, said, anchor="end", ink=_GROUND)
    behind = max(_LEFT + length, _LEFT + _WHOLE if 0.35 < part <= 1 else 0) + 6
    return [
        _text(_LEFT - 10, top + 15, f"{name}: {_short(row.case)}", anchor="end"),
        f'<rect x="{_LEFT}" y="{top + 2}" width="{length}" height="{_LINE - 8}" fill="{ink}"/>',
        end if inside else _text(behind, top + 15, said, ink=_FAINT),
    ]


def _short(case: str, most: int = 58) -> str:
    return case if len(case) <= most else case[: most - 1].rstrip(" ,") + "…"


def _text(
    x: int, y: int, text: str, *, size: int = 12, anchor: str = "start", ink: str = _INK
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{ink}">'
        f"{saxutils.escape(text)}</text>"
    )


def files(whole: Mapping[str, Any]) -> dict[str, str]:
    """What the documentation shows, by the names of the files."""
    rows = rows_of(whole)
    tables = {f"{name}.csv": table(listed) for name, listed in rows.items()}
    return {**tables, "costs.svg": drawing(rows)}


def merged(old: Mapping[str, Any], new: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What was measured now, and before what was not measured now, in the order of the table."""
    both = {**old.get("benchmarks", {}), **new["benchmarks"]}
    seconds = {**old.get("seconds", {}), **new["seconds"]}
    return {
        **new,
        "seconds": {name: seconds[name] for name in names if name in seconds},
        "benchmarks": {name: both[name] for name in names if name in both},
    }


def write(whole: Mapping[str, Any], folder: pathlib.Path = FOLDER) -> None:
    """Write the figures and all that is made of them."""
    folder.mkdir(exist_ok=True)
    (folder / FIGURES).write_text(json.dumps(whole, indent=1) + "\n")
    for name, text in files(whole).items():
        (folder / name).write_text(text)


def read(folder: pathlib.Path = FOLDER) -> dict[str, Any]:
    """The figures that are there; none where there are none."""
    path = folder / FIGURES
    return json.loads(path.read_text()) if path.exists() else {}


if __name__ == "__main__":
    write(read())
