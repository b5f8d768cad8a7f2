# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The interface of rules, which the kinds implement (:mod:`nova_devcompat.compat.kinds`).

A rule is asked four things, each a function of its own: to read what a device offers
(:meth:`Rule.parse_offer`), to read one value that a guest may need (:meth:`Rule.parse_need`),
which values a guest that starts on the device needs (:meth:`Rule.freeze`), and whether an offer
meets a need (:meth:`Rule.check`). Rules hold options, never state.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Generic, Self, TypeVar

from nova_devcompat.compat.verdict import Actor

OfferT = TypeVar("OfferT")
NeedT = TypeVar("NeedT")

#: The version of the interface below. A plugin states the one it was written for.
API_VERSION = (1, 3)

#: Metadata of an option that a kind had not in the interface before: where it is its default, the
#: digest of a catalog is the one that earlier releases compute.
SINCE_1_3: Mapping[str, str] = MappingProxyType({"since": "1.3"})


class BadOptions(ValueError):
    """Options that a rule kind does not take; the message says which it does."""


class UseNotKnown(ValueError):
    """What a guest uses of an offer cannot be told from the offer alone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why an offer does not meet a need.

    :param code: stable identifier, see :class:`nova_devcompat.compat.verdict.Code`
    :param actor: who can change it
    :param certain: whether it is known not to: the verdict is REJECT, else UNKNOWN. Since 1.3
    """

    code: str
    actor: Actor
    certain: bool = True


class Rule(abc.ABC, Generic[OfferT, NeedT]):
    """Decides for one attribute whether an offer accepts an atom.

    A subclass is a frozen dataclass whose fields are its options. It must keep two promises, which
    ``tests/unit/compat`` tests for ours and which a plugin's tests should too: an offer meets each
    value of :meth:`freeze` and :meth:`values` of itself, and :meth:`canonical` of a canonical text
    is that text.
    """

    #: The name a catalog uses.
    kind: ClassVar[str]
    api_version: ClassVar[tuple[int, int]] = API_VERSION
    #: The optional methods that a kind brings, by name. Since 1.2.
    capabilities: ClassVar[frozenset[str]] = frozenset()
    #: Whether an offer meets every need that it does not name: no host can know all of them
    #: beforehand, so placement is never asked for one. Since 1.3.
    open_world: ClassVar[bool] = False

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> Self:
        """The rule with these options.

        :param options: what the catalog says beside ``kind``
        :raises BadOptions: an unknown option, or a value it cannot have
        """
        fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        unknown = sorted(set(options) - set(fields), key=str)
        if unknown:
            takes = f"takes only: {', '.join(fields)}" if fields else "takes no options"
            raise BadOptions(f"unknown option {unknown[0]!r}; {cls.kind} {takes}")
        return cls(**options)

    @abc.abstractmethod
    def parse_offer(self, raw: object) -> OfferT:
        """What a source read, as a value to compare.

        :raises Unreadable: it is not of the shape that the kind takes
        """

    @abc.abstractmethod
    def parse_need(self, text: str) -> NeedT:
        """One value of a need.

        :raises Unreadable: the text is no such value
        """

    @abc.abstractmethod
    def canonical(self, text: str) -> str:
        """The one way to write a value of a need, so that equal needs are equal atoms.

        :raises Unreadable: the text is no such value
        """

    def parse_pin(self, text: str) -> frozenset[str]:
        """Canonical values of a need that an operator wrote as one text. Since 1.1.

        :raises Unreadable: the text is no such need
        """
        return frozenset([self.canonical(text)])

    @abc.abstractmethod
    def freeze(self, offer: OfferT) -> frozenset[str]:
        """Canonical values that a guest needs whose device starts with this offer.

        :raises UseNotKnown: the offer does not tell
        """

    def values(self, offer: OfferT) -> frozenset[str]:
        """Canonical values that some guest might come to need on this offer.

        A host creates the traits of these when it starts, so that they exist before a guest
        depends on them.
        """
        return self.freeze(offer)

    @abc.abstractmethod
    def check(self, offer: OfferT, need: NeedT) -> Refusal | None:
        """None where the offer meets the need, else why not."""

    @abc.abstractmethod
    def describe(self, offer: OfferT) -> str:
        """The offer as an operator should read it in a reason."""
