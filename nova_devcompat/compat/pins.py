# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Pins: what a flavor wants its guests' devices to act as, in its extra specs.

``devcompat:<family>.<attribute>`` = a value: guests are recorded as needing that value rather than
the one of the device they were started on, so that they can go wherever it is accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.device import bare_identifier
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.need import DeviceNeed, Need, host_slot
from nova_devcompat.compat.rules import Rule
from nova_devcompat.compat.traits import Atom

#: All extra specs of ours begin with this.
PREFIX = "devcompat:"


class BadPin(ValueError):
    """An extra spec under our prefix that no rule understands.

    :param key: the extra spec
    :param why: what is wrong with it, and what is allowed
    :param family: the family that it pins, None where it names none that there is
    """

    def __init__(self, key: str, why: str, family: str | None = None) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key
        self.family = family


def is_pin(key: str) -> bool:
    """Whether an extra spec is one of ours, right or wrong."""
    return key.startswith(PREFIX)


def has_pins(extra_specs: Iterable[str]) -> bool:
    """Whether any of a flavor's extra specs is one of ours."""
    return any(map(is_pin, extra_specs))


def parse_pins(extra_specs: Mapping[str, str], families: Mapping[str, Family]) -> Need:
    """What a flavor pins, see :func:`read_pins`.

    :raises BadPin: one of ours names no family or attribute, or a value that its rule cannot read
    """
    pins, bad = read_pins(extra_specs, families)
    if bad:
        raise bad[0]
    return pins


def read_pins(
    extra_specs: Mapping[str, str], families: Mapping[str, Family]
) -> tuple[Need, tuple[BadPin, ...]]:
    """What a flavor pins: an entry for each family, which has the pinned attributes only.

    :param extra_specs: of a flavor; those that are not ours are passed over
    :param families: the families of the catalog
    :returns: the pins, and what is wrong with those that cannot be read
    """
    pinned: dict[str, dict[str, frozenset[str]]] = {}
    bad = []
    for key, text in sorted(extra_specs.items()):
        if is_pin(key):
            try:
                family, attribute = _subject(key, families)
                values = _values(key, text, families[family], attribute)
            except BadPin as error:
                bad.append(error)
                continue
            pinned.setdefault(family, {})[attribute] = values
    pins = tuple(
        DeviceNeed.of(
            family,
            pinned[family],
            slot=host_slot(family) if families[family].subject is Subject.HOST else "",
        )
        for family in pinned
    )
    return Need(devices=pins), tuple(bad)


def in_another_case(
    pins: Need, known: Iterable[Atom], families: Mapping[str, Family]
) -> tuple[Atom, Atom] | None:
    """An atom that is pinned, and one that hosts have which differs from it in case alone.

    None where there is none, or the rule takes them for the same: no host has ever had the first,
    and most likely none will.

    :param known: all atoms that exist in the cloud
    """
    existing: dict[tuple[str, str, str], Atom] = {}
    there = frozenset(known)
    for atom in there:
        existing[atom.family, atom.attribute, atom.value.casefold()] = atom
    for atom in sorted(pins.atoms - there):
        other = existing.get((atom.family, atom.attribute, atom.value.casefold()))
        if other is None:
            continue
        if not _are_one(families[atom.family].rules[atom.attribute], other, atom):
            return atom, other
    return None


def _are_one(rule: Rule[Any, Any], one: Atom, other: Atom) -> bool:
    try:
        return rule.check(rule.parse_offer(one.value), rule.parse_need(other.value)) is None
    except Unreadable:
        return False


def _subject(key: str, families: Mapping[str, Family]) -> tuple[str, str]:
    name, dot, attribute = key.removeprefix(PREFIX).partition(".")
    if not dot:
        raise BadPin(key, f"is not of the form {PREFIX}<family>.<attribute>")
    if name not in families:
        raise BadPin(
            key, f"the catalog has no family {name!r}; families: {', '.join(sorted(families))}"
        )
    rules = families[name].rules
    if attribute not in rules:
        raise BadPin(
            key,
            f"family {name} has no attribute {attribute!r}; "
            f"attributes: {', '.join(sorted(rules))}",
            family=name,
        )
    return name, attribute


def _values(key: str, text: str, family: Family, attribute: str) -> frozenset[str]:
    rule = family.rules[attribute]
    bare = bare_identifier(attribute, text.strip())
    if bare is not None:
        raise BadPin(
            key, f"{text!r}: identifiers are written without 0x; write {bare}", family=family.name
        )
    try:
        return rule.parse_pin(text)
    except Unreadable as error:
        raise BadPin(
            key, f"rule {rule.kind} cannot read the value: {error}", family=family.name
        ) from error
