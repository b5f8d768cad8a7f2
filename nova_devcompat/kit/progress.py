# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How what takes long is followed: whoever goes through many things hands them through this."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Follows what is gone through."""

    def __call__(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """The items, one by one.

        :param what: what they are, and what is done with them
        :param total: how many there are; None where that is not known
        """


def untracked(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Follows nothing."""
    yield from items
