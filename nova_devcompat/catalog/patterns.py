# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Patterns of ``match``: text in which ``*`` is any text and ``?`` any one character.

Case does not count: PCI ids are printed either way.
"""

from __future__ import annotations

import fnmatch
from collections import deque

#: What other pattern languages make something of; refused, so that nobody relies on it.
NOT_TAKEN = frozenset("[]{}\\|^$")


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits the pattern.

    :param pattern: without any of :data:`NOT_TAKEN`
    """
    return fnmatch.fnmatchcase(text.lower(), pattern.lower())


def common_text(left: str, right: str) -> str | None:
    """A shortest text that fits both patterns, in lower case; None where there is none.

    A breadth-first search through pairs of positions, so at most the product of the lengths.
    """
    left, right = left.lower(), right.lower()
    start = (0, 0)
    texts: dict[tuple[int, int], str] = {start: ""}
    # Steps that add no character go to the front, so that a shortest text is found first.
    queue = deque([start])
    done: set[tuple[int, int]] = set()
    while queue:
        position = queue.popleft()
        if position in done:
            continue
        done.add(position)
        at_left, at_right = position
        if at_left == len(left) and at_right == len(right):
            return texts[position]
        text = texts[position]
        one = left[at_left : at_left + 1]
        other = right[at_right : at_right + 1]
        silent = [(at_left + 1, at_right)] * (one == "*") + [(at_left, at_right + 1)] * (
            other == "*"
        )
        for following in silent:
            if following not in done:
                texts[following] = text
                queue.appendleft(following)
        if not one or not other:
            continue
        literals = {char for char in (one, other) if char not in "*?"}
        if len(literals) > 1:
            continue
        following = (at_left + (one != "*"), at_right + (other != "*"))
        if following not in texts:
            texts[following] = text + (literals.pop() if literals else "x")
            queue.append(following)
    return None
