# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How many of a thing there are, what the first few are called, and names as one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import TypeVar

from nova_devcompat.kit.text import printable

T = TypeVar("T")

#: How many a line names.
NAMED = 10
# Characters of a name or a reason, at most: a need can have thousands of values.
_LINE_SIZE = 1_000


def shown(text: str) -> str:
    """A name or a reason of others, as one line that is not too long."""
    return printable(text, _LINE_SIZE)


def many(things: Sized, name: str) -> str:
    """How many there are."""
    return f"{len(things)} {name}{'s' if len(things) != 1 else ''}"


def listed(things: Iterable[T], separator: str = ", ", *, name: Callable[[T], str] = str) -> str:
    """The first few names.

    :param name: what a thing is called
    """
    named = list(things)
    more = [f"and {len(named) - NAMED} more"] if len(named) > NAMED else []
    return separator.join([*map(name, named[:NAMED]), *more])
