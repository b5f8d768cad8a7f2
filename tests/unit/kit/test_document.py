# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import pytest

from nova_devcompat.kit.document import Document, Schema
from nova_devcompat.kit.yamlfile import parse


def parsed(text: str) -> Document:
    document = parse(text.encode(), "f.yaml")
    assert document.problems == []
    return document


SCHEMA = Schema(
    {
        "type": "object",
        "required": ["name", "size"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "size": {"type": "integer"},
            "mode": {"enum": ["enforce", "report"]},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "either": {"type": ["string", "object"]},
            "maybe": {"type": ["string", "null"]},
            "map": {"type": "object", "minProperties": 1},
            "odd": {"type": "string", "pattern": "^x"},
        },
    }
)
GOOD = "name: n\nsize: 3\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: n", ["f.yaml:1: key 'size' is missing"]),
        ("{}", ["f.yaml:1: key 'name' is missing", "f.yaml:1: key 'size' is missing"]),
        (
            GOOD + "moed: x",
            [
                "f.yaml:3: moed: unknown key 'moed'; allowed: either, map, maybe, mode, name, "
                "odd, size, tags; did you mean 'mode'?"
            ],
        ),
        (
            "name: 28.40\nsize: 3",
            ["f.yaml:1: name: 28.40 was read as the number 28.4; put it in quotes: '28.40'"],
        ),
        (
            "name: 010\nsize: 3",
            ["f.yaml:1: name: 010 was read as the number 8; put it in quotes: '010'"],
        ),
        (
            "name: no\nsize: 3",
            ["f.yaml:1: name: no was read as the truth value false; put it in quotes: 'no'"],
        ),
        (
            "name: 2024-02-03\nsize: 3",
            ["name: 2024-02-03 was read as the date 2024-02-03; put it in quotes: '2024-02-03'"],
        ),
        ("name:\nsize: 3", ["f.yaml:1: name: nothing is written here; it must be text"]),
        ("name: []\nsize: 3", ["f.yaml:1: name: a list must be text"]),
        ("name: {}\nsize: 3", ["f.yaml:1: name: a mapping must be text"]),
        ("name: ''\nsize: 3", ["f.yaml:1: name: is empty"]),
        ("name: n\nsize: 3.0", ["f.yaml:2: size: 3.0 must be an integer"]),
        ("name: n\nsize: yes", ["f.yaml:2: size: True must be an integer"]),
        ("name: n\nsize: '3'", ["f.yaml:2: size: '3' must be an integer"]),
        (GOOD + "mode: enforc", ["'enforc' is none of: enforce, report; did you mean 'enforce'?"]),
        (GOOD + "mode: 7", ["f.yaml:3: mode: 7 is none of: enforce, report"]),
        (
            GOOD + "mode:",
            ["f.yaml:3: mode: nothing is written here; it must be enforce or report"],
        ),
        (GOOD + "tags: []", ["f.yaml:3: tags: is empty"]),
        (GOOD + "tags: [a, 1.0]", ["f.yaml:3: tags.1: 1.0 was read as the number 1.0"]),
        (GOOD + "tags: a", ["f.yaml:3: tags: 'a' must be a list"]),
        (GOOD + "either: []", ["f.yaml:3: either: a list must be text or a mapping"]),
        (GOOD + "maybe: []", ["f.yaml:3: maybe: a list must be text"]),
        (GOOD + "map: {}", ["f.yaml:3: map: is empty"]),
        (GOOD + "odd: y", ["f.yaml:3: odd: 'y' does not match '^x'"]),
        (GOOD + "either:\nextra: 1", ["f.yaml:3: either: nothing", "f.yaml:4: extra: unknown"]),
    ],
)
def test_what_a_schema_refuses(text, expected):
    found = [str(problem) for problem in parsed(text).check(SCHEMA)]
    assert len(found) == len(expected)
    for line, part in zip(found, expected, strict=True):
        assert part in line


@pytest.mark.parametrize("extra", ["", "maybe:", "either: {}", "map: {a: }", "mode: report"])
def test_what_a_schema_takes(extra):
    assert parsed(GOOD + extra).check(SCHEMA) == []


def test_check_version():
    assert parsed("meta: {schema_version: '1.0'}").check_version(["1.0"]) == []
    assert parsed("meta: 3").check_version(["1.0"]) == []  # the schema's affair
    (problem,) = parsed("meta:\n  schema_version: '2.0'").check_version(["1.0", "1.1"])
    assert str(problem) == (
        "f.yaml:2: meta.schema_version: '2.0' is not supported; supported: '1.0', '1.1'"
    )
