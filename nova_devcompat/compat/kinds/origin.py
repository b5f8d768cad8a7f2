# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The kind for where a guest comes from."""

from __future__ import annotations

import dataclasses
from typing import NoReturn

from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.kinds.ordered import check_ordering
from nova_devcompat.compat.kinds.text import TextRule
from nova_devcompat.compat.rules import SINCE_1_3, Refusal


@dataclasses.dataclass(frozen=True, slots=True)
class Origin(TextRule):
    """What a guest was started on, which sticks to it and speaks against no host by itself.

    Offer and need: the text, such as the version of QEMU that a guest was started on. Every offer
    meets every need but those that a host names as bad. A need costs no trait, placement is never
    asked for it, and no flavor can pin it.
    """

    kind = "origin"
    #: How entries of known-bad lists compare it.
    ordering: str = dataclasses.field(default="numeric", metadata=SINCE_1_3)
    capabilities = frozenset(["parse_pin", "values"])
    open_world = True

    def __post_init__(self) -> None:
        check_ordering(self.ordering)

    def parse_pin(self, text: str) -> NoReturn:
        raise Unreadable(text, "is where a guest was started, which no flavor can ask for")

    def values(self, offer: str) -> frozenset[str]:
        return frozenset()

    def check(self, offer: str, need: str) -> Refusal | None:
        return None
