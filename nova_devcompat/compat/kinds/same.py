# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The kind for what nobody has published a rule for, and its name in earlier releases."""

from __future__ import annotations

import dataclasses

from nova_devcompat.compat.kinds.text import TextRule
from nova_devcompat.compat.rules import Refusal
from nova_devcompat.compat.verdict import Actor, Code


@dataclasses.dataclass(frozen=True, slots=True)
class Same(TextRule):
    """The same is accepted, of anything else nothing is known: the firmware knows, and no vendor
    says.

    Offer and need: the text. Case does not count, nor does white space around it. In the wild: the
    firmware of mlx5 and pds, whose vendors support one version on both sides.
    """

    kind = "same"

    def check(self, offer: str, need: str) -> Refusal | None:
        if offer.casefold() == need.casefold():
            return None
        return Refusal(Code.NOT_THE_SAME, Actor.OPERATOR, certain=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Undecided(Same):
    """What ``same`` was called before there was an answer for the same."""

    kind = "undecided"
