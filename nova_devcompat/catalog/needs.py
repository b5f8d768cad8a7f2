# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading ``needs``: the table of a host family, of what guests need of their host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nova_devcompat.catalog import xpaths
from nova_devcompat.catalog.kinds import AnyRule
from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.family import Subject
from nova_devcompat.compat.uses import Use
from nova_devcompat.kit.section import Section
from nova_devcompat.kit.text import near

# What a row asks, one of these.
_ASKS = ("requires", "takes", "own")

# Keys of a row whose text is an attribute that has a rule.
_OF_RULES = ("takes", "own", "unversioned")


def read_needs(family: Section, rules: Mapping[str, AnyRule]) -> tuple[Use, ...]:
    """The table of a host family; it must ask for each attribute, since nothing else does.

    :param rules: those of the family that can be had
    """
    subject = family.text("subject", absent=Subject.DEVICE)
    stated = family.at("needs")
    if subject != Subject.HOST:
        if subject == Subject.DEVICE and "needs" in family:
            stated.problem(
                "only a family with 'subject: host' has this; devices are needed as they are"
            )
        return ()
    if "needs" not in family:
        family.problem("a family with 'subject: host' has to have 'needs', what guests need of it")
    rows = [row for row in stated.elements() if isinstance(row.value, dict)]
    before = len(family.problems)
    uses = tuple(_use(row, rules) for row in rows)
    asked = {attribute for row in rows for attribute in _asked(row)}
    if asked and len(family.problems) == before:
        for attribute in [name for name in rules if name not in asked]:
            family.problem(
                f"no row of 'needs' asks for {attribute!r}, so no guest would ever need it",
                "rules",
                attribute,
            )
    return uses


def has_rule(section: Section, attribute: str, attributes: Iterable[str]) -> bool:
    """Whether an attribute is among those that have rules; report it if not."""
    names = sorted(attributes)
    if attribute in names:
        return True
    section.problem(
        f"'rules' has no {attribute!r}; it has: {', '.join(names)}{near(attribute, names)}"
    )
    return False


def _asked(row: Section) -> set[str]:
    """The attributes that a row asks for, right or wrong."""
    return {*map(row.text, _OF_RULES), *row.mapping("requires")} - {""}


def _use(row: Section, rules: Mapping[str, AnyRule]) -> Use:
    xpath, takes = row.text("xpath"), row.text("takes")
    if xpath:
        try:
            xpaths.check(xpath)
        except ValueError as error:
            row.problem(str(error), "xpath")
    if sum(key in row for key in _ASKS) != 1:
        row.problem(f"has just one of {', '.join(map(repr, _ASKS))}")
    for key in ("aliases", "unversioned"):
        if key in row and "takes" not in row:
            row.problem("goes with 'takes' only", key)
    requires = _requires(row, rules)
    for key in _OF_RULES:
        if row.text(key):
            has_rule(row.at(key), row.text(key), rules)
    return Use(
        xpath=xpath,
        requires=requires,
        takes=takes,
        own=row.text("own"),
        unversioned=row.text("unversioned"),
        aliases=row.text("aliases"),
        because=row.text("because"),
        source=row.text("source"),
    )


def _requires(row: Section, rules: Mapping[str, AnyRule]) -> dict[str, frozenset[str]]:
    """The values that a row requires, as needs have them, by attribute."""
    requires: dict[str, frozenset[str]] = {}
    for attribute, stated in row.mapping("requires").items():
        text = stated.value
        if not has_rule(stated, attribute, rules) or not isinstance(text, str) or not text:
            continue
        try:
            requires[attribute] = rules[attribute].parse_pin(text)
        except Unreadable as error:
            stated.problem(f"rule {rules[attribute].kind} cannot read the value: {error}")
    return requires
