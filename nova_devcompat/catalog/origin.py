# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Where a family is stated, and which files have a say in it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stated:
    """Where a family is stated.

    :param place: file and line
    :param pack: the pack that the file is, '' for a file of the operator's
    """

    place: str
    pack: str = ""

    def __str__(self) -> str:
        return f"pack {self.pack}" if self.pack else self.place

    @property
    def whole(self) -> str:
        """Pack and place."""
        return f"pack {self.pack} ({self.place})" if self.pack else self.place


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What the files say of a family.

    :param stated: where the family is that counts
    :param replaced: where others of the name are, which it took the place of
    :param policies: where its policy is changed, in order
    """

    stated: Stated
    replaced: tuple[Stated, ...] = ()
    policies: tuple[str, ...] = ()
