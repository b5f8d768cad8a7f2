# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How near a host comes to taking a guest: what is left to do there, the least first."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from nova_devcompat.compat.verdict import Actor, Code, Reason

#: The smaller, the nearer; compared as tuples are.
Distance = tuple[bool, bool, int, int, tuple[tuple[int, int, int], ...]]

# Nothing is known of the host: what stands against it may be anything.
_UNTOLD = frozenset({Code.HOST_SILENT, Code.HOST_UNREADABLE})
# No upgrade of what is there does.
_LACKING = frozenset({Code.NO_DEVICE, Code.OTHER_FAMILY})

_NUMBER = re.compile(r"\d+")

# Longer numbers are no versions, and of more of them none is the first that differs.
_MOST_DIGITS = 18
_MOST_NUMBERS = 32


def distance(reasons: Sequence[Reason]) -> Distance:
    """How far a host is from taking a guest, by what stands against it.

    A host of which nothing is known is farthest, then one that lacks the device. What an upgrade
    of the host mends counts less than what takes more. Fewer reasons are nearer; of as many, those
    whose values are more alike.
    """
    codes = {reason.code for reason in reasons}
    return (
        not codes.isdisjoint(_UNTOLD),
        not codes.isdisjoint(_LACKING),
        sum(reason.actor is not Actor.HOST for reason in reasons),
        len(reasons),
        tuple(sorted(map(_of_values, reasons), reverse=True)),
    )


def _of_values(reason: Reason) -> tuple[int, int, int]:
    return _between(reason.needed, reason.offered)


# Few of them are distinct, however many hosts there are.
@functools.lru_cache(10_000)
def _between(needs: str, offers: str) -> tuple[int, int, int]:
    """0 where both values are known; how few of their leading numbers are equal; by how much the
    first differs that does.
    """
    if not needs or not offers:
        return 1, 0, 0
    needed, offered = _numbers(needs), _numbers(offers)
    equal = 0
    for one, other in zip(needed, offered, strict=False):
        if one != other:
            return 0, -equal, abs(one - other)
        equal += 1
    return 0, -equal, 0


def _numbers(text: str) -> list[int]:
    found = _NUMBER.findall(text)[:_MOST_NUMBERS]
    return [int(number[:_MOST_DIGITS]) for number in found]
