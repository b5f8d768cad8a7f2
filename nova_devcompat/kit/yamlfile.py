# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Strict YAML: what the catalog and the static inventory share.

A file is read, parsed and checked by three functions, :func:`read`, :func:`parse` and
:meth:`~nova_devcompat.kit.document.Document.check`. Whatever is wrong becomes a
:class:`~nova_devcompat.kit.problems.Problem` with file, line and key path, and all problems are
reported at once. PyYAML alone would keep the last of two equal keys, expand aliases without a
limit, and forget how a number was written.
"""

from __future__ import annotations

import os
from typing import Any

import yaml

from nova_devcompat.kit.document import Document, Place, quote_advice
from nova_devcompat.kit.problems import DocumentError, KeyPath, Problem, dotted
from nova_devcompat.kit.text import shown
from nova_devcompat.kit.yamladvice import advice

#: Ten times an inventory of 10,000 hosts.
MAX_BYTES = 16 * 1024 * 1024
#: Our formats nest six deep. libyaml takes time quadratic in the depth.
MAX_DEPTH = 32
#: Characters of a number: YAML 1.1 takes time quadratic in the length of 1:1:1:1.
MAX_NUMBER = 255
#: Values once aliases are expanded, which is what a validator walks through.
MAX_VALUES = 2_000_000


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TAG = "tag:yaml.org,2002:"


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
        byte = f"byte 0x{raw[error.start]:02x}"
        raise _fatal(file, line, f"is not UTF-8: {byte}; save the file as UTF-8") from None
    try:
        return _Parser(text, file).parse()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = ", ".join(part for part in (error.context, error.problem) if part)
        if mark is None:
            raise _fatal(file, 0, f"is not YAML: {why}") from None
        begun = error.context_mark
        if begun is not None and "quoted scalar" in (error.context or ""):
            why = f"{why}; the quote that begins here does not end"
            raise _fatal(file, begun.line + 1, f"is not YAML: {why}") from None
        line, remedy = advice(text, mark.line + 1)
        raise _fatal(file, line, f"is not YAML: {why}{remedy}") from None
    except yaml.YAMLError as error:
        # A ReaderError: a character that YAML does not allow, of which it tells the position.
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 0
        why = str(error).splitlines()[0]
        raise _fatal(file, line, f"is not YAML: {why}") from None


def _fatal(file: str, line: int, message: str) -> DocumentError:
    return DocumentError([Problem(file=file, line=line, path="", message=message)])


class _Parser:
    """Builds values from the events of libyaml, and keeps where each stands."""

    def __init__(self, text: str, file: str) -> None:
        self.loader = _Loader(text)
        self.file = file
        self.problems: list[Problem] = []
        # None while the anchored value is still being built.
        self.anchors: dict[str, tuple[Any, Place] | None] = {}
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
            raise _fatal(self.file, place.line, f"{shown(content)} must be a mapping")
        return Document(self.file, content, self.problems, place)

    def _value(self, event: Any, path: KeyPath) -> tuple[Any, Place]:
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

    def _alias(self, event: Any, path: KeyPath) -> tuple[Any, Place]:
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

    def _mapping(self, event: Any, path: KeyPath) -> tuple[dict[str, Any], Place]:
        place = Place(event.start_mark.line + 1)
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
        if event.anchor is not None:
            self.anchors[event.anchor] = value, place
        if isinstance(value, str) and place.typed is None:
            return value
        if event.value == "<<":
            self._report(line, path, "merge keys ('<<') are not supported; write the keys out")
        else:
            self._report(line, path, "as a key, " + quote_advice(event.value, value))
        return None

    def _sequence(self, event: Any, path: KeyPath) -> tuple[list[Any], Place]:
        place = Place(event.start_mark.line + 1)
        values: list[Any] = []
        while not isinstance(event := self.loader.get_event(), yaml.SequenceEndEvent):
            value, child = self._value(event, (*path, len(values)))
            place.size += child.size
            place.children[len(values)] = child
            values.append(value)
        return values, place

    def _scalar(self, event: Any, path: KeyPath) -> tuple[Any, Place]:
        place = Place(event.start_mark.line + 1)
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
            Problem(file=self.file, line=line, path=dotted(path), message=message)
        )

    def _stop(self, event: Any, path: KeyPath, message: str) -> DocumentError:
        """What is fatal, after what was found so far."""
        self._report(event.start_mark.line + 1, path, message)
        return DocumentError(self.problems)
