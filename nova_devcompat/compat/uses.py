# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What guests need of their host, told from what they use.

A host family has a table of uses. A row says where a use shows in the guest's domain XML and what
it asks of the host. Reading the XML is others' business; this only says what follows of what was
found in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.family import Family, Offer
from nova_devcompat.compat.machines import is_versioned
from nova_devcompat.compat.rules import Rule, UseNotKnown
from nova_devcompat.compat.traits import Atom

#: The texts that an XPath finds in a guest's domain; empty where it finds nothing.
Find = Callable[[str], frozenset[str]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """One row of the table: a use, and what it asks of the host.

    :param xpath: what finds it in the domain XML
    :param requires: the values that it requires, by attribute
    :param takes: the attribute of which the value needed is the text that was found; '' for none
    :param own: the attribute of which the value needed is what the guest's host has itself; '' for
        none
    :param unversioned: the same, where a machine type that is taken has no version, see
        :mod:`nova_devcompat.compat.machines`; '' for none
    :param aliases: the attribute of the host that maps other names of such a value to the one that
        counts; '' for none
    :param because: why
    :param source: who says so
    """

    xpath: str
    requires: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    takes: str = ""
    own: str = ""
    unversioned: str = ""
    aliases: str = ""
    because: str = ""
    source: str = ""


def used(
    uses: Iterable[Use],
    offer: Offer,
    facts: Mapping[str, object],
    find: Find | None,
) -> dict[str, frozenset[str] | None]:
    """What a guest takes of the host that it has just been started on.

    :param uses: the family's table
    :param offer: the host's
    :param facts: all that is known of the host, of which aliases are looked up
    :param find: looks into the guest's domain; None where that cannot be read
    :returns: values by attribute, None where they are not known; attributes that the guest does
        not use are left out
    """
    if find is None:
        return dict.fromkeys(offer.family.rules)
    taken: dict[str, frozenset[str] | None] = {}
    for use in uses:
        found = find(use.xpath)
        if not found:
            continue
        if use.takes:
            known = _known(found, use, offer, facts)
            _add(taken, use.takes, known)
            if use.unversioned and known and not all(map(is_versioned, known)):
                _add(taken, use.unversioned, _own(offer, use.unversioned))
        if use.own:
            _add(taken, use.own, _own(offer, use.own))
        for attribute, values in use.requires.items():
            _add(taken, attribute, values)
    return {
        attribute: values and highest(offer.family.rules[attribute], values)
        for attribute, values in taken.items()
    }


def most(uses: Iterable[Use], offer: Offer) -> dict[str, frozenset[str] | None]:
    """What a guest takes that uses everything; not known where it takes one of several.

    Of what its own host refuses, such a guest needs what that has, as it is frozen
    (:meth:`AcceptSet.freeze_used`); but for what then no host would accept: a guest that cannot
    leave is none to plan for.
    """
    taken: dict[str, frozenset[str] | None] = {}
    for use in uses:
        if use.takes:
            taken[use.takes] = None
        if use.own:
            _add(taken, use.own, _own(offer, use.own))
        for attribute, values in use.requires.items():
            own = _own(offer, attribute)
            if _accepts(offer, attribute, values):
                _add(taken, attribute, values)
            elif own is not None and _accepts(offer, attribute, own):
                _add(taken, attribute, own)
    return {
        attribute: values and highest(offer.family.rules[attribute], values)
        for attribute, values in taken.items()
    }


def _add(
    taken: dict[str, frozenset[str] | None], attribute: str, values: frozenset[str] | None
) -> None:
    before = taken.get(attribute, frozenset())
    taken[attribute] = None if before is None or values is None else before | values


def _known(
    found: frozenset[str], use: Use, offer: Offer, facts: Mapping[str, object]
) -> frozenset[str] | None:
    """The values that count for those found, None where one of them cannot be told.

    A value that the host accepts counts as it is. Any other may be an alias, which stands for
    something else on the next host, so it is never taken as it is.
    """
    known = set()
    aliases = facts.get(use.aliases)
    for text in found:
        value: object = text
        if not _accepts(offer, use.takes, [text]):
            value = aliases.get(text) if isinstance(aliases, Mapping) else None
        if not isinstance(value, str) or not _accepts(offer, use.takes, [value]):
            return None
        known.add(offer.family.rules[use.takes].canonical(value))
    return frozenset(known)


def _own(offer: Offer, attribute: str) -> frozenset[str] | None:
    """What a guest needs that needs what its host has; None where that cannot be told."""
    if attribute not in offer.parsed:
        return None
    try:
        return offer.family.rules[attribute].freeze(offer.parsed[attribute])
    except UseNotKnown:
        return None


def _accepts(offer: Offer, attribute: str, values: Iterable[str]) -> bool:
    rule = offer.family.rules[attribute]
    if attribute not in offer.parsed:
        return False
    try:
        return all(
            rule.check(offer.parsed[attribute], rule.parse_need(value)) is None for value in values
        )
    except Unreadable:
        return False


def highest(rule: Rule[Any, Any], values: Iterable[str]) -> frozenset[str]:
    """Of several values needed, those that imply the others.

    One implies another where a host that offers just the one meets the other: of versions the
    newest is left. Where a value is no offer, as a feature is no set of features, all are.
    """
    left: list[str] = []
    for value in sorted(values):
        if not any(_implies(rule, other, value) for other in left):
            left = [other for other in left if not _implies(rule, value, other)]
            left.append(value)
    return frozenset(left)


def _implies(rule: Rule[Any, Any], value: str, other: str) -> bool:
    try:
        return rule.check(rule.parse_offer(value), rule.parse_need(other)) is None
    except Unreadable:
        return False


def announced(family: Family, uses: Iterable[Use]) -> frozenset[Atom]:
    """The atoms that the table names: guests may come to need them."""
    return frozenset(
        Atom(family.name, attribute, value)
        for use in uses
        for attribute, values in use.requires.items()
        for value in values
    )
