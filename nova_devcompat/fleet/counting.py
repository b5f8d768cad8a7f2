# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How many of a thing there are, and what the first few are called."""

from __future__ import annotations

from collections.abc import Iterable, Sized

#: How many a line names.
NAMED = 10


def many(things: Sized, name: str) -> str:
    """How many there are."""
    return f"{len(things)} {name}{'s' if len(things) != 1 else ''}"


def listed(names: Iterable[object], separator: str = ", ") -> str:
    """The first few names."""
    texts = [str(name) for name in names]
    more = [f"and {len(texts) - NAMED} more"] if len(texts) > NAMED else []
    return separator.join([*texts[:NAMED], *more])
