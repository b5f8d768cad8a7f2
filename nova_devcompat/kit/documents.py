# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Strict YAML: what the catalog and the static inventory share.

A file is read, parsed and checked by three functions, :func:`read`, :func:`parse` and
:meth:`Document.check`. Whatever is wrong becomes a :class:`Problem` with file, line and key path,
and all problems are reported at once. PyYAML alone would keep the last of two equal keys, expand
aliases without a limit, and forget how a number was written.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import jsonschema
import yaml

from nova_devcompat.kit.text import printable

LOG = logging.getLogger(__name__)

#: Ten times an inventory of 10,000 hosts.
MAX_BYTES = 16 * 1024 * 1024
#: Our formats nest six deep. libyaml takes time quadratic in the depth.
MAX_DEPTH = 32
#: Characters of a number: YAML 1.1 takes time quadratic in the length of 1:1:1:1.
MAX_NUMBER = 255
#: Values once aliases are expanded, which is what a validator walks through.
MAX_VALUES = 2_000_000
# Characters of a problem's text: a key can be as long as a file.
_PROBLEM_SIZE = 2_000

KeyPath = tuple[str | int, ...]
T = TypeVar("T")

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TAG = "tag:yaml.org,2002:"
# 28.0 is a float here; jsonschema's own integer would take it.
_TYPES = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
    "integer", lambda checker, value: isinstance(value, int) and not isinstance(value, bool)
)
_Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=_TYPES)
_TYPE_NAMES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "an integer",
    "null": "null",
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong with a file.

    :param file: the file, as the operator named it
    :param line: the line, from 1; 0 where it concerns the file as a whole
    :param path: the keys that lead there, joined by dots, '' where there are none
    :param message: what is wrong, and what is allowed or what to do
    """

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        text = ": ".join(part for part in (place, self.path, self.message) if part)
        # One line, whatever is in the file: keys can hold anything.
        return printable(text, _PROBLEM_SIZE)


class DocumentError(ValueError):
    """Files that cannot be used; its text has one line for each problem.

    :param problems: what is wrong with them, at least one
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def near(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where some known name is near, else ''."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {close[0]!r}?" if close else ""


@dataclasses.dataclass(slots=True)
class _Place:
    """Where a value stands, and how it was written if it is a scalar that is no text."""

    line: int
    typed: str | None = None
    children: dict[str | int, _Place] = dataclasses.field(default_factory=dict)
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
        self, file: str, content: dict[str, Any], problems: list[Problem], place: _Place
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
        return Problem(file=self.file, line=self.line(path), path=_dotted(path), message=message)

    def quote_advice(self, path: KeyPath, value: object) -> str:
        """What to say about a scalar that should have been text."""
        return _quote_advice(self.typed(path) or "", value)

    def check_version(self, supported: Sequence[str]) -> list[Problem]:
        """The problem with ``meta.schema_version``, if it is text but none of these."""
        meta = self.content.get("meta")
        version = meta.get("schema_version") if isinstance(meta, dict) else None
        if not isinstance(version, str) or version in supported:
            return []
        known = ", ".join(map(repr, supported))
        message = f"{_shown(version)} is not supported; supported: {known}"
        return [self.problem(("meta", "schema_version"), message)]

    def check(self, schema: Schema) -> list[Problem]:
        """What is wrong with the content by a schema, in the order of lines."""
        problems: dict[Problem, None] = {}
        for error in schema.validator.iter_errors(self.content):
            problems.update(dict.fromkeys(self._explain(error)))
        return sorted(problems, key=lambda problem: problem.line)

    def _at(self, path: KeyPath) -> _Place:
        place = self._place
        for key in path:
            if key not in place.children:
                break
            place = place.children[key]
        return place

    def _explain(self, error: jsonschema.ValidationError) -> Iterator[Problem]:
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
                yield self.problem(
                    path, f"{_shown(value)} is none of: {', '.join(allowed)}{close}"
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
        return f"{_shown(value)} must be {allowed}"


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


def read(path: str | os.PathLike[str], *, missing: str = "") -> Document:
    """The document in a file.

    :param missing: what the operator is to do where there is no such file
    :raises DocumentError: it cannot be read, or is no YAML mapping
    """
    file = os.fspath(path)
    try:
        with open(file, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        advice = f"; {missing}" if missing else ""
        raise _fatal(file, 0, f"there is no such file{advice}") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        why = getattr(error, "strerror", None) or error
        raise _fatal(file, 0, f"cannot be read: {why}") from None
    return parse(raw, file)


def parse(raw: bytes, file: str) -> Document:
    """The document in the bytes of a file.

    :param file: how to name it in problems
    :raises DocumentError: it is no UTF-8, no YAML, empty, too large, nested too deeply, has
        several documents, or is something else than a mapping
    """
    if len(raw) > MAX_BYTES:
        raise _fatal(file, 0, f"is larger than {MAX_BYTES // 1024 // 1024} MiB")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _fatal(file, line, f"is not UTF-8: byte 0x{raw[error.start]:02x}") from None
    try:
        return _Parser(text, file).parse()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = ", ".join(part for part in (error.context, error.problem) if part)
        raise _fatal(file, mark.line + 1 if mark else 0, f"is not YAML: {why}") from None
    except yaml.YAMLError as error:
        # A ReaderError: a character that YAML does not allow, of which it tells the position.
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 0
        why = str(error).splitlines()[0]
        raise _fatal(file, line, f"is not YAML: {why}") from None


def _fatal(file: str, line: int, message: str) -> DocumentError:
    return DocumentError([Problem(file=file, line=line, path="", message=message)])


def _dotted(path: KeyPath) -> str:
    return ".".join(
        key if isinstance(key, str) and key and key.isprintable() else repr(key) for key in path
    )


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _quote_advice(typed: str, value: object) -> str:
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
            read_as = f"the number {_shown(value)}"
    return f"{typed} was read as {read_as}; put it in quotes: '{typed}'"


class _Parser:
    """Builds values from the events of libyaml, and keeps where each stands."""

    def __init__(self, text: str, file: str) -> None:
        self.loader = _Loader(text)
        self.file = file
        self.problems: list[Problem] = []
        # None while the anchored value is still being built.
        self.anchors: dict[str, tuple[Any, _Place] | None] = {}
        self.values = 0

    def parse(self) -> Document:
        try:
            return self._document()
        finally:
            self.loader.dispose()

    def _document(self) -> Document:
        self.loader.get_event()  # the stream's start
        event = self.loader.get_event()
        if isinstance(event, yaml.StreamEndEvent):
            raise _fatal(self.file, 0, "is empty")
        content, place = self._value(self.loader.get_event(), ())
        self.loader.get_event()  # the document's end
        event = self.loader.get_event()
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._stop(event, (), "a second document begins here; write one in a file")
        if content is None:
            raise _fatal(self.file, 0, "is empty")
        if not isinstance(content, dict):
            raise _fatal(self.file, place.line, f"{_shown(content)} must be a mapping")
        return Document(self.file, content, self.problems, place)

    def _value(self, event: Any, path: KeyPath) -> tuple[Any, _Place]:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        self._count(1, event, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            value, place = self._scalar(event, path)
        else:
            if len(path) >= MAX_DEPTH:
                raise self._stop(event, (), f"is nested deeper than {MAX_DEPTH} levels")
            self._check_tag(event, path, "seq", "map")
            if isinstance(event, yaml.MappingStartEvent):
                value, place = self._mapping(event, path)
            else:
                value, place = self._sequence(event, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = value, place
        return value, place

    def _alias(self, event: Any, path: KeyPath) -> tuple[Any, _Place]:
        if event.anchor not in self.anchors:
            raise self._stop(
                event, path, f"no anchor &{event.anchor} comes before *{event.anchor}"
            )
        known = self.anchors[event.anchor]
        if known is None:
            raise self._stop(event, path, f"*{event.anchor} stands within what it refers to")
        self._count(known[1].size, event, path)
        return known

    def _count(self, number: int, event: Any, path: KeyPath) -> None:
        self.values += number
        if self.values > MAX_VALUES:
            raise self._stop(event, path, f"more than {MAX_VALUES} values, aliases expanded")

    def _mapping(self, event: Any, path: KeyPath) -> tuple[dict[str, Any], _Place]:
        place = _Place(event.start_mark.line + 1)
        mapping: dict[str, Any] = {}
        while not isinstance(event := self.loader.get_event(), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            key = self._key(event, path)
            inner = (*path, "?" if key is None else key)
            value, child = self._value(self.loader.get_event(), inner)
            place.size += child.size
            if key is None:
                place.refused_keys = True
                continue
            if key in mapping:
                self._report(
                    line,
                    inner,
                    f"duplicate key {key!r}; it is first on line {place.key_lines[key]}",
                )
                continue
            mapping[key] = value
            place.children[key] = child
            place.key_lines[key] = line
        return mapping, place

    def _key(self, event: Any, path: KeyPath) -> str | None:
        """The key, or None where it is none that we take."""
        line = event.start_mark.line + 1
        if not isinstance(event, yaml.ScalarEvent):
            if not isinstance(event, yaml.AliasEvent):
                self._value(event, (*path, "?"))
            self._report(line, path, "a key must be text")
            return None
        value, place = self._scalar(event, path)
        if isinstance(value, str) and place.typed is None:
            return value
        if event.value == "<<":
            self._report(line, path, "merge keys ('<<') are not supported; write the keys out")
        else:
            self._report(line, path, "as a key, " + _quote_advice(event.value, value))
        return None

    def _sequence(self, event: Any, path: KeyPath) -> tuple[list[Any], _Place]:
        place = _Place(event.start_mark.line + 1)
        values: list[Any] = []
        while not isinstance(event := self.loader.get_event(), yaml.SequenceEndEvent):
            value, child = self._value(event, (*path, len(values)))
            place.size += child.size
            place.children[len(values)] = child
            values.append(value)
        return values, place

    def _scalar(self, event: Any, path: KeyPath) -> tuple[Any, _Place]:
        place = _Place(event.start_mark.line + 1)
        text = event.value
        self._check_tag(event, path, "str")
        if event.tag not in (None, "!") or not event.implicit[0]:
            return text, place
        tag = self.loader.resolve(yaml.ScalarNode, text, event.implicit)
        if tag == _TAG + "str":
            return text, place
        place.typed = text
        return self._convert(tag, text, place.line, path), place

    def _convert(self, tag: str, text: str, line: int, path: KeyPath) -> Any:
        node = yaml.ScalarNode(tag, text)
        try:
            if len(text) > MAX_NUMBER:
                raise ValueError
            match tag.removeprefix(_TAG):
                case "null":
                    return None
                case "bool":
                    return self.loader.construct_yaml_bool(node)
                case "int":
                    return self.loader.construct_yaml_int(node)
                case "float":
                    return self.loader.construct_yaml_float(node)
                case "timestamp":
                    return self.loader.construct_yaml_timestamp(node)
        except (ValueError, OverflowError):
            # 2024-13-01 is one, too.
            shown = text if len(text) <= 60 else text[:57] + "..."
            self._report(line, path, f"{shown} was read as a number; put it in quotes: '{shown}'")
        return text  # also "<<" and "=", which have tags of their own

    def _check_tag(self, event: Any, path: KeyPath, *known: str) -> None:
        if event.tag not in (None, "!", *(_TAG + name for name in known)):
            self._report(
                event.start_mark.line + 1,
                path,
                f"tag {event.tag!r} is not supported; leave it out",
            )

    def _report(self, line: int, path: KeyPath, message: str) -> None:
        self.problems.append(
            Problem(file=self.file, line=line, path=_dotted(path), message=message)
        )

    def _stop(self, event: Any, path: KeyPath, message: str) -> DocumentError:
        """What is fatal, after what was found so far."""
        self._report(event.start_mark.line + 1, path, message)
        return DocumentError(self.problems)


Signature = tuple[tuple[int, ...] | None, ...]


class Keeper(Generic[T]):
    """What was read from some files, read again when they change.

    The first reading raises what is wrong. Afterwards a changed file that is wrong is logged, once
    for each change, and the last good value stays in use. Safe for use by several threads: while
    one reads, the others get the last good value.

    :param paths: the files that ``load`` reads
    :param load: reads them; raises nothing but :class:`DocumentError`
    :param what: how to name it in the log
    :param min_interval: seconds between two looks at the files, 0 to look at each call
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        load: Callable[[], T],
        *,
        what: str,
        min_interval: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = tuple(os.fspath(path) for path in paths)
        self._load = load
        self._what = what
        self._min_interval = min_interval
        self._clock = clock
        self._lock = threading.Lock()
        # One object, so that a thread without the lock never sees halves of two.
        self._state: tuple[T, Signature, float] | None = None

    def current(self) -> T:
        """The value of the files as they are, or were when they last were good.

        :raises DocumentError: no value has ever been read, and none can be
        """
        state = self._state
        if state is None:
            with self._lock:
                if self._state is None:
                    # Looked at before it is read: a change in between is seen the next time.
                    signature = self._signature()
                    self._state = self._load(), signature, self._clock()
                return self._state[0]
        if self._clock() - state[2] < self._min_interval or not self._lock.acquire(blocking=False):
            return state[0]
        try:
            return self._refresh(*(self._state or state)[:2])
        finally:
            self._lock.release()

    def _refresh(self, value: T, known: Signature) -> T:
        signature = self._signature()
        if signature != known:
            try:
                value = self._load()
            except DocumentError as error:
                LOG.error(
                    "The changed %s is wrong and not used; the last good one stays in use:\n%s",
                    self._what,
                    error,
                )
            else:
                LOG.info("Read the changed %s: %s", self._what, ", ".join(self._paths))
        self._state = value, signature, self._clock()
        return value

    def _signature(self) -> Signature:
        return tuple(map(_signature_of, self._paths))


def _signature_of(path: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    # ctime: a file that could not be read for its mode may be readable now.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev
