# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What kinds have in common of which offer and need are the text that the source told."""

from __future__ import annotations

import dataclasses

from nova_devcompat.compat.attributes import text_of
from nova_devcompat.compat.rules import Rule


@dataclasses.dataclass(frozen=True, slots=True)
class TextRule(Rule[str, str]):
    """A guest needs the text that its device had; which others will do, each kind says itself."""

    def parse_offer(self, raw: object) -> str:
        return text_of(raw)

    def parse_need(self, text: str) -> str:
        return self.parse_offer(text)

    def canonical(self, text: str) -> str:
        return self.parse_need(text)

    def freeze(self, offer: str) -> frozenset[str]:
        return frozenset([offer])

    def describe(self, offer: str) -> str:
        return offer
