# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""An odd value or key at any place of the files that operators write is an error of that file.

Services read them while they run, and bear with nothing but that.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat.catalog import packs
from nova_devcompat.fleet.matrix import Matrix
from nova_devcompat.kit.problems import DocumentError
from nova_devcompat.service import load_catalog
from nova_devcompat.sources.static import load_inventory
from nova_devcompat.stores import risks
from tests.budget import scaled

ROOT = pathlib.Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "doc" / "source" / "_examples"

TEXTS = (
    "", " ", "\n", "x", "*", "a.b", "A-b", "0x1f", "1.2", "-", "1-2", "<1", ">=1,<2", "same", "é",
    "\u202e", "\U0001f600", "9" * 5000, "a" * 300, "2027-01-01", "9999-12-31T23:59-05:00",
    "nova 35", "//*", "/domain[", "../..", "virtfn*/x",
)  # fmt: skip
OTHERS = (
    0, -1, 10**30, 1.5, float("nan"), True, None, datetime.date(2027, 1, 1), [], {}, [[]], [{}],
    [None], ["x", "x"], [1], {"x": "y"}, {"": ""}, {"a": {"b": []}}, {"kind": "semver"},
    {"source": "sysfs"}, {"features": ["a"], "in_use": ["b"]},
)  # fmt: skip

Path = tuple[str | int, ...]


def places(value: object, path: Path = ()) -> Iterator[Path]:
    """All places of a document, the keys that lead there."""
    yield path
    items: Iterator[tuple[str | int, object]] = iter(())
    if isinstance(value, dict):
        items = iter(value.items())
    elif isinstance(value, list):
        items = iter(enumerate(value))
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed(document: object, path: Path, value: object, *, key: bool) -> object:
    """The document with something else at a place, or as the key there."""
    if not path:
        return value
    document = copy.deepcopy(document)
    at: Any = document
    for step in path[:-1]:
        at = at[step]
    if key and isinstance(at, dict) and isinstance(value, str):
        at[value] = at.pop(path[-1])
    else:
        at[path[-1]] = value
    return document


def read(path: pathlib.Path) -> object:
    return yaml.safe_load(path.read_text("utf-8"))


def is_catalog(document: object) -> bool:
    keys = ("families", "policies", "known_bad")
    return isinstance(document, dict) and any(key in document for key in keys)


CATALOGS = [
    document
    for path in (*sorted(packs.FOLDER.glob("*.yaml")), *sorted(EXAMPLES.glob("*.yaml")))
    if is_catalog(document := read(path))
]
RISK = {"name": "a:unknown", "host": "a", "until": "2027-01-01", "who": "b", "reason": "c"}
RISKS = {"meta": {"schema_version": "1.0"}, "risks": [{**RISK, "accepted": "2026-01-01"}]}
#: Inventories, each with the catalog that it is for.
INVENTORIES = [
    (read(EXAMPLES / f"{name}-inventory.yaml"), EXAMPLES / f"{name}.yaml")
    for name in ("fleet", "functions")
]

odd = st.tuples(st.sampled_from(TEXTS + OTHERS), st.booleans())


def put(
    tmp_path_factory, draw: st.DataObject, document: object, load: Callable[[pathlib.Path], object]
) -> None:
    """Load the document with something odd in it."""
    path = tmp_path_factory.getbasetemp() / "odd.yaml"
    value, key = draw.draw(odd)
    place = draw.draw(st.sampled_from(list(places(document))))
    written = yaml.safe_dump(changed(document, place, value, key=key), allow_unicode=True)
    path.write_text(written, "utf-8")
    try:
        load(path)
    except DocumentError as error:
        assert error.problems
        assert all(str(one).startswith(f"{path}") for one in error.problems)


@given(st.data())
@settings(max_examples=scaled(300))
def test_catalogs(tmp_path_factory, data):
    put(
        tmp_path_factory,
        data,
        data.draw(st.sampled_from(CATALOGS)),
        lambda path: load_catalog([path], check_sources=data.draw(st.booleans())),
    )


@given(st.data())
@settings(max_examples=scaled(200))
def test_inventories(tmp_path_factory, data):
    document, of = data.draw(st.sampled_from(INVENTORIES))
    catalog = load_catalog([of], check_sources=False)

    def load(path: pathlib.Path) -> None:
        inventory = load_inventory(path, catalog)
        # What can be told of the whole fleet only, as that several families match a function.
        with contextlib.suppress(ValueError):
            list(Matrix(catalog, inventory).moves())

    put(tmp_path_factory, data, document, load)


@given(st.data())
@settings(max_examples=scaled(100))
def test_accepted_risks(tmp_path_factory, data):
    put(tmp_path_factory, data, RISKS, risks.read_file)
