# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The kind that compares versions under a named ordering."""

from __future__ import annotations

import dataclasses
from typing import Any

from nova_devcompat.compat.orderings import ORDERINGS
from nova_devcompat.compat.rules import BadOptions, Refusal, Rule
from nova_devcompat.compat.verdict import Actor, Code


def check_ordering(name: object) -> None:
    """See that the option ``ordering`` is one that there is.

    :raises BadOptions: it is not
    """
    if not isinstance(name, str) or name not in ORDERINGS:
        raise BadOptions(f"ordering: {name!r} is none of {', '.join(ORDERINGS)}")


@dataclasses.dataclass(frozen=True, slots=True)
class Ordered(Rule[Any, Any]):
    """A version that is no older under a named ordering: libvirt, QEMU, kernels.

    Offer and need: the version. UNKNOWN where the ordering cannot tell which of them is newer.

    :param ordering: ``numeric``, ``rpm_evr`` or ``debian``
    """

    kind = "ordered"
    ordering: str = "numeric"

    def __post_init__(self) -> None:
        check_ordering(self.ordering)

    def parse_offer(self, raw: object) -> Any:
        return ORDERINGS[self.ordering].parse(raw)

    def parse_need(self, text: str) -> Any:
        return self.parse_offer(text)

    def canonical(self, text: str) -> str:
        return str(ORDERINGS[self.ordering].canonical(self.parse_need(text)))

    def freeze(self, offer: Any) -> frozenset[str]:
        return frozenset([self.describe(offer)])

    def check(self, offer: Any, need: Any) -> Refusal | None:
        compared = ORDERINGS[self.ordering].compare(offer, need)
        if compared is None:
            return Refusal(Code.NOT_COMPARABLE, Actor.OPERATOR, certain=False)
        return Refusal(Code.TOO_OLD, Actor.HOST) if compared < 0 else None

    def describe(self, offer: Any) -> str:
        return str(ORDERINGS[self.ordering].canonical(offer))
