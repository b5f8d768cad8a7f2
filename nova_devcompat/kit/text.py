# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Texts of others, made safe for a log line, a terminal and a table; words for messages."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

#: Characters of one text of somebody else's, at most: as many as a value in Nova's databases has.
LINE = 255

_MORE = "..."


def is_printable(text: str, limit: int | None = LINE) -> bool:
    """Whether a text is one short line that a terminal prints as it is.

    :meth:`str.isprintable` is false for control and escape characters, line breaks of all kinds,
    what turns the direction of writing, characters without width, surrogates and unassigned ones.

    :param limit: characters, at most; None for any number
    """
    return (limit is None or len(text) <= limit) and text.isprintable()


def printable(text: str, limit: int | None = LINE) -> str:
    """A text as one line that a terminal prints as it is; what it would not print is spelled out.

    Escape becomes the four characters ``\\x1b``, a line break ``\\n``.

    :param limit: characters, at most; a longer text ends in ``...``. None for any number
    """
    if is_printable(text, limit):
        return text
    if limit is None:
        return "".join(map(_visible, text))
    # Each character takes at least one, so no more of them are looked at.
    shown = "".join(map(_visible, text[: limit + 1]))
    return shown if len(shown) <= limit else shown[: max(limit - len(_MORE), 0)] + _MORE[:limit]


def _visible(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


def near(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where some known name is near, else ''."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {close[0]!r}?" if close else ""


def printed(value: object, limit: int, show: Callable[[object], str] = str) -> str:
    """A value of which anything may be wrong, see :func:`printable`.

    :param limit: characters, at most
    :param show: makes text of it
    """
    try:
        return printable(show(value), limit)
    except (ValueError, RecursionError):
        return f"of type {type(value).__name__}"


def shown(value: object) -> str:
    """A value of a document, as a message names it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
