# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""That the table of benchmarks can be read again, and the page with it.

That they run is tested with Nova, in tests/functional.
"""

import json
import pathlib
from xml.etree import ElementTree

import pytest

from tests.bench import __main__ as command
from tests.bench import measuring, pages
from tests.bench.measuring import Row, Times

ROOT = pathlib.Path(__file__).resolve().parents[2]


def row(**values):
    given = {"case": "c", "unit": "ms", "ours": Times(least=3.0, median=4.0), "beside": "nothing"}
    return Row(**{**given, **values})


def test_each_module_with_rows_is_in_the_table():
    modules = {
        path.stem
        for path in (ROOT / "tests" / "bench").glob("*.py")
        if "\ndef rows(" in path.read_text()
    }
    assert modules == set(command.NAMES)


@pytest.mark.parametrize(
    ("values", "met"),
    [
        ({}, None),
        ({"budget": 5}, None),
        ({"budget": 3, "of": "ours"}, True),
        ({"budget": 2.9, "of": "ours"}, False),
        ({"budget": 2.9, "of": "ours", "enough": False}, None),
        ({"budget": 1.5, "stock": Times(least=2.0, median=9.0)}, True),
        ({"budget": 1.4, "stock": Times(least=2.0, median=9.0)}, False),
        ({"budget": 1, "of": "more", "stock": Times(least=2.0, median=9.0)}, True),
        ({"budget": 0, "of": "more", "stock": Times(least=2.0, median=9.0)}, False),
    ],
)
def test_whether_a_budget_is_met(values, met):
    made = row(**values)
    assert made.met is met
    assert measuring.row_of(json.loads(json.dumps(made.plain()))) == made
    assert {None: " - ", True: " yes ", False: " NO "}[met] in measuring.shown({"b": [made]})


def test_each_begins_every_other_round(monkeypatch):
    # All that other tests have left is much to look through.
    monkeypatch.setattr(measuring.gc, "collect", lambda: None)
    began = []
    times = measuring.in_turn(
        {"ours": lambda: began.append("ours"), "stock": lambda: began.append("stock")}, 3
    )
    assert set(times) == {"ours", "stock"}
    rounds = list(zip(began[::2], began[1::2], strict=True))
    assert len(rounds) == 4
    assert all(set(pair) == {"ours", "stock"} for pair in rounds)
    assert rounds[0] != rounds[1]


# --- the page -----------------------------------------------------------------------------------


def test_the_page_shows_the_figures_that_are_there():
    whole = pages.read()
    assert tuple(whole["benchmarks"]) == command.NAMES
    assert not whole["quick"]
    written = {path.name: path.read_text() for path in pages.FOLDER.iterdir()}
    written.pop(pages.FIGURES)
    assert written == pages.files(whole)
    page = (ROOT / "doc" / "source" / "costs.rst").read_text()
    for name in [*written, pages.FIGURES]:
        assert f"_costs/{name}" in page


def test_what_is_measured_again_takes_the_place_of_what_was():
    old = {"benchmarks": {"filter": [1], "cycle": [2]}, "seconds": {"filter": 1, "cycle": 2}}
    new = {"benchmarks": {"cycle": [3]}, "seconds": {"cycle": 4}, "python": "3"}
    assert pages.merged(old, new, command.NAMES) == {
        "benchmarks": {"filter": [1], "cycle": [3]},
        "seconds": {"filter": 1, "cycle": 4},
        "python": "3",
    }
    assert list(pages.merged(new, old, command.NAMES)["benchmarks"]) == ["filter", "cycle"]


def test_the_figure_has_the_worst_of_each_budget():
    rows = [
        row(case="good", budget=10, of="ours"),
        row(case="bad & worse", budget=10, of="ours", ours=Times(least=30.0, median=30.0)),
        row(case="nobody asked"),
        row(case="good, format 2", budget=10, of="ours"),
        row(case="none more", unit="queries", budget=0, of="more", stock=Times(least=3, median=3)),
    ]
    drawn = pages.drawing({"bench": rows})
    root = ElementTree.fromstring(drawn)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "bench: bad & worse" in texts
    assert {"300% of 10 ms, not met", "bench: good, format 2", "30% of 10 ms"} <= set(texts)
    assert "0% of 0 queries more" in texts
    assert not {"bench: good", "bench: nobody asked"} & set(texts)
    width = float(root.get("width"))
    for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(bar.get("x", 0)) + float(bar.get("width")) <= width
