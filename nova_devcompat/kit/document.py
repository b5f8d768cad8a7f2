# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A parsed file: its values, where each stands, and whether they have the shape they should."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from typing import Any

import jsonschema

from nova_devcompat.kit.problems import KeyPath, Problem, dotted
from nova_devcompat.kit.text import near, shown

# 28.0 is a float here; jsonschema's own integer would take it.
_TYPES = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
    "integer", lambda checker, value: isinstance(value, int) and not isinstance(value, bool)
)
_extend: Any = jsonschema.validators.extend
_Validator: Any = _extend(jsonschema.Draft202012Validator, type_checker=_TYPES)
_TYPE_NAMES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "an integer",
    "boolean": "true or false",
    "null": "null",
}


@dataclasses.dataclass(slots=True)
class Place:
    """Where a value stands, and how it was written if it is a scalar that is no text."""

    line: int
    typed: str | None = None
    children: dict[str | int, Place] = dataclasses.field(default_factory=dict)
    key_lines: dict[str, int] = dataclasses.field(default_factory=dict)
    size: int = 1
    refused_keys: bool = False


class Document:
    """One parsed file.

    :param file: the file, as the operator named it
    :param content: the top-level mapping; values are text, int, float, bool, date, None, lists
        and mappings of text to such
    :param problems: what is wrong already: duplicate keys, keys that are no text, tags
    """

    def __init__(
        self, file: str, content: dict[str, Any], problems: list[Problem], place: Place
    ) -> None:
        self.file = file
        self.content = content
        self.problems = problems
        self._place = place

    def typed(self, path: KeyPath) -> str | None:
        """How the scalar at ``path`` was written; None for text, lists and mappings."""
        return self._at(path).typed

    def line(self, path: KeyPath) -> int:
        """The line that the value at ``path`` begins on, or that its key is on."""
        if path and isinstance(path[-1], str):
            parent = self._at(path[:-1])
            return parent.key_lines.get(path[-1], parent.line)
        return self._at(path).line

    def problem(self, path: KeyPath, message: str) -> Problem:
        """A problem with what stands at ``path``."""
        return Problem(file=self.file, line=self.line(path), path=dotted(path), message=message)

    def quote_advice(self, path: KeyPath, value: object) -> str:
        """What to say about a scalar that should have been text."""
        return quote_advice(self.typed(path) or "", value)

    def check_version(self, supported: Sequence[str]) -> list[Problem]:
        """The problem with ``meta.schema_version``, if it is text but none of these."""
        meta = self.content.get("meta")
        version = meta.get("schema_version") if isinstance(meta, dict) else None
        if not isinstance(version, str) or version in supported:
            return []
        known = ", ".join(map(repr, supported))
        message = f"{shown(version)} is not supported; supported: {known}"
        return [self.problem(("meta", "schema_version"), message)]

    def check(self, schema: Schema) -> list[Problem]:
        """What is wrong with the content by a schema, in the order of lines."""
        problems: dict[Problem, None] = {}
        for error in schema.validator.iter_errors(self.content):
            problems.update(dict.fromkeys(self._explain(error)))
        return sorted(problems, key=lambda problem: problem.line)

    def _at(self, path: KeyPath) -> Place:
        place = self._place
        for key in path:
            if key not in place.children:
                break
            place = place.children[key]
        return place

    def _explain(self, error: Any) -> Iterator[Problem]:
        """What a ValidationError of jsonschema comes to, of our own schemas."""
        path: KeyPath = tuple(error.absolute_path)
        value, wanted = error.instance, error.validator_value
        match error.validator:
            case "additionalProperties":
                allowed = sorted(error.schema["properties"])
                for key in value:
                    if key not in allowed:
                        yield self.problem(
                            (*path, key),
                            f"unknown key {key!r}; allowed: {', '.join(allowed)}"
                            + near(key, allowed),
                        )
            case "required":
                for key in wanted:
                    if key not in value:
                        yield self.problem(path, f"key {key!r} is missing")
            case "type":
                yield self.problem(path, self._wrong_type(path, value, wanted))
            case "enum" if value is None:
                yield self.problem(
                    path, f"nothing is written here; it must be {' or '.join(map(str, wanted))}"
                )
            case "enum":
                allowed = [str(item) for item in wanted]
                close = near(value, allowed) if isinstance(value, str) else ""
                # As it was written: YAML 1.1 takes on, off, yes and no for truth values.
                told = self.typed(path) if isinstance(value, bool | int | float) else None
                yield self.problem(
                    path, f"{told or shown(value)} is none of: {', '.join(allowed)}{close}"
                )
            case "minProperties" if self._at(path).refused_keys:
                pass  # it is not empty, and what is wrong with it has been said
            case "minProperties" | "minItems" | "minLength":
                yield self.problem(path, "is empty")
            case _:
                yield self.problem(path, error.message)

    def _wrong_type(self, path: KeyPath, value: object, wanted: str | list[str]) -> str:
        names = [wanted] if isinstance(wanted, str) else wanted
        allowed = " or ".join(_TYPE_NAMES[name] for name in names if name != "null")
        if value is None:
            return f"nothing is written here; it must be {allowed}"
        if "string" in names and not isinstance(value, list | dict):
            return self.quote_advice(path, value)
        return f"{shown(value)} must be {allowed}"


#: What stands under ``meta`` in every kind of file; see :meth:`Document.check_version`.
META_SCHEMA = {
    "type": "object",
    "required": ["schema_version"],
    "additionalProperties": False,
    "properties": {"schema_version": {"type": "string"}},
}


class Schema:
    """A JSON schema (draft 2020-12), ready for use by several threads.

    Of its keywords, :meth:`Document.check` explains those that our schemas use in words of its
    own: type, enum, required, additionalProperties, minProperties, minItems, minLength.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        _Validator.check_schema(schema)
        self.validator = _Validator(schema)


def quote_advice(typed: str, value: object) -> str:
    if len(typed) > 60:
        typed = typed[:57] + "..."
    match value:
        case bool():
            read_as = f"the truth value {str(value).lower()}"
        case datetime.date():
            read_as = f"the date {value}"
        case None:
            return f"{typed or 'nothing'} was read as null; if it is text, put it in quotes"
        case _:
            read_as = f"the number {shown(value)}"
    return f"{typed} was read as {read_as}; put it in quotes: '{typed}'"
