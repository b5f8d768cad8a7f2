# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The kind that compares versions under a named ordering."""

from __future__ import annotations

import dataclasses
from typing import Any

from nova_devcompat.compat.orderings import ORDERINGS
from nova_devcompat.compat.rules import BadOptions, Refusal, Rule
from nova_devcompat.compat.verdict import Actor, Code


@dataclasses.dataclass(frozen=True, slots=True)
class Ordered(Rule[Any, Any]):
    """A version that is no older under a named ordering: libvirt, QEMU, kernels.

    Offer and need: the version.

    :param ordering: ``numeric``, ``rpm_evr`` or ``debian``
    """

    kind = "ordered"
    ordering: str = "numeric"

    def __post_init__(self) -> None:
        if not isinstance(self.ordering, str) or self.ordering not in ORDERINGS:
            raise BadOptions(f"ordering: {self.ordering!r} is none of {', '.join(ORDERINGS)}")

    def parse_offer(self, raw: object) -> Any:
        return ORDERINGS[self.ordering].parse(raw)

    def parse_need(self, text: str) -> Any:
        return self.parse_offer(text)

    def canonical(self, text: str) -> str:
        return str(ORDERINGS[self.ordering].canonical(self.parse_need(text)))

    def freeze(self, offer: Any) -> frozenset[str]:
        return frozenset([self.describe(offer)])

    def check(self, offer: Any, need: Any) -> Refusal | None:
        if ORDERINGS[self.ordering].compare(offer, need) < 0:
            return Refusal(Code.TOO_OLD, Actor.HOST)
        return None

    def describe(self, offer: Any) -> str:
        return str(ORDERINGS[self.ordering].canonical(offer))
