# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading ``known_bad``: what the rules accept and is known not to work.

An entry is about what a guest needs, as its record has it; or about what it was started on, where
the record says nothing of that. Then the family gains an attribute of kind ``origin``, so that it
is recorded from then on.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

from nova_devcompat.catalog.family import AttributeSource, CatalogFamily
from nova_devcompat.catalog.kinds import AnyRule
from nova_devcompat.catalog.names import check_name
from nova_devcompat.catalog.policies import listed
from nova_devcompat.catalog.registry import NamedSources
from nova_devcompat.compat.attributes import MAX_TEXT, Unreadable
from nova_devcompat.compat.conditions import (
    COMPARERS,
    NUMERIC,
    TEXT,
    BadCondition,
    Comparer,
    Condition,
    comparer_of,
    implies,
    parse_condition,
)
from nova_devcompat.compat.kinds import Floor, Origin
from nova_devcompat.compat.knownbad import Asked, KnownBad, KnownBads
from nova_devcompat.compat.need import ORIGIN
from nova_devcompat.compat.uses import Use
from nova_devcompat.kit.section import Section
from nova_devcompat.kit.text import near

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}[a-z0-9]")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An entry of a list as it stands in a file.

    :param section: where
    """

    section: Section

    @property
    def name(self) -> str:
        """What it is called."""
        return self.section.text("name")

    @property
    def family(self) -> str:
        """The family that it is about."""
        return self.section.text("family")


def read_known_bad(root: Section) -> list[Entry]:
    """The entries of a file, what is wrong with their names reported."""
    entries = [Entry(section=row) for row in root.rows("known_bad") if isinstance(row.value, dict)]
    seen: dict[str, Section] = {}
    for entry in entries:
        name = entry.name
        if not name:
            continue  # the schema says so
        if not _NAME.fullmatch(name):
            entry.section.problem(
                f"{name!r} is no name: 2 to 64 lower-case letters, digits, hyphens and dots, such "
                "as 'qemu-s390-css-9.1'",
                "name",
            )
        elif name in seen:
            entry.section.problem(f"{name!r} is also in line {seen[name].line}", "name")
        seen.setdefault(name, entry.section)
    return entries


class KnownBadReader:
    """Makes entries of sections, and reports there what is wrong.

    :param families: all families of the catalog
    :param sources: what is known of their sources
    :param check_sources: whether these must tell what entries ask for
    """

    def __init__(
        self,
        families: Mapping[str, CatalogFamily],
        sources: NamedSources,
        *,
        check_sources: bool,
    ) -> None:
        self._families = dict(families)
        self._sources = sources
        self._check_sources = check_sources
        self._entries: dict[str, list[KnownBad]] = {}

    def add(self, entry: Entry) -> None:
        """Add an entry to its family."""
        section = entry.section
        family = self._families.get(entry.family)
        if family is None:
            if entry.family:
                names = sorted(self._families)
                section.problem(
                    f"no file or pack has the family {entry.family!r}; {listed(names)}"
                    f"{near(entry.family, names)}",
                    "family",
                )
            return
        if sum(key in section for key in ("need", "origin")) != 1:
            section.problem(
                "has just one of 'need', what a guest needs, and 'origin', what it was started on"
            )
            return
        of_guest = section.at("need" if "need" in section else "origin")
        if len(of_guest.items()) != 1:
            of_guest.problem("names one attribute of the guest")
            return
        before = len(section.problems)
        ((attribute, stated),) = of_guest.items().items()
        if not check_name(stated):
            return
        family, need, by = self._need(family, section, of_guest.name, attribute, stated)
        condition = _condition(stated, by) if by is not None else None
        if condition is not None and by is not None:
            _check_held(stated, family.family.rules[need], condition, by)
        offer = self._asked(family, section.at("offer"), section)
        until = self._asked(family, section.at("until").at("offer"), section)
        if len(section.problems) > before or condition is None or by is None:
            return
        _check_until(section, offer, until)
        self._families[family.name] = family
        self._entries.setdefault(family.name, []).append(
            KnownBad(
                name=entry.name,
                need=need,
                condition=condition,
                by=by.name,
                offer=offer,
                until=until,
                # In one line: a folded block of YAML ends in a line break.
                message=" ".join(section.text("message").split()),
                url=section.text("url"),
            )
        )

    def families(self) -> dict[str, CatalogFamily]:
        """The families with what is known not to work, sorted by name."""
        return {
            name: dataclasses.replace(
                family,
                family=dataclasses.replace(
                    family.family, known_bad=KnownBads(tuple(self._entries[name]))
                ),
            )
            if name in self._entries
            else family
            for name, family in sorted(self._families.items())
        }

    # --- the guest -------------------------------------------------------------------------------

    def _need(
        self,
        family: CatalogFamily,
        section: Section,
        key: str,
        attribute: str,
        stated: Section,
    ) -> tuple[CatalogFamily, str, Comparer | None]:
        """The family, the attribute of records that an entry is about, and how it is compared."""
        rules = family.family.rules
        rule = rules.get(attribute)
        if key == "need" and rule is not None and _is_recorded(family, attribute, rule):
            return family, attribute, comparer_of(rule)
        if rule is not None and rule.open_world:
            return family, attribute, comparer_of(rule)
        origin = family.source_of(attribute)
        problem = self._untold(family, attribute, origin.attribute or attribute)
        if rule is None and problem:
            stated.problem(problem)
            return family, attribute, None
        name = f"{attribute}{ORIGIN}"
        if name not in rules:
            ordering = _ordering(section, rule)
            family = _with_origin(family, attribute, name, Origin(ordering=ordering))
        return family, name, comparer_of(family.family.rules[name])

    def _untold(self, family: CatalogFamily, attribute: str, key: str) -> str:
        """Why no host can have an attribute; '' if one can, or nobody can tell."""
        if not self._check_sources or family.stands_in or attribute in family.attributes:
            return ""
        told: set[str] = set(family.family.rules)
        tells_more = False
        for source in {one for other in self._families.values() for one in other.sources}:
            attributes = self._sources.attributes_of(source)
            tells_more |= attributes is None or self._sources.is_open(source)
            told |= attributes or set()
        names = sorted(told)
        if key in told or (tells_more and not near(key, names)):
            return ""
        return f"no source tells {attribute!r}; they tell: {', '.join(names)}{near(key, names)}"

    # --- the host --------------------------------------------------------------------------------

    def _asked(
        self, family: CatalogFamily, stated: Section, section: Section
    ) -> tuple[Asked, ...]:
        asked = []
        for attribute, one in stated.items().items():
            if not check_name(one):
                continue
            rule = family.family.rules.get(attribute)
            problem = self._untold(family, attribute, attribute) if rule is None else ""
            if problem:
                one.problem(problem)
                continue
            by = _of_host(section, rule, one)
            condition = _condition(one, by)
            if condition is not None:
                asked.append(Asked(attribute=attribute, condition=condition, by=by.name))
        return tuple(asked)


def _is_recorded(family: CatalogFamily, attribute: str, rule: AnyRule) -> bool:
    """Whether records tell what a guest has of an attribute, not only what it asks for."""
    if isinstance(rule, Floor):
        return False
    if not family.of_host:
        return True
    return any(attribute in (use.takes, use.own, use.unversioned) for use in family.needs)


def _with_origin(family: CatalogFamily, attribute: str, name: str, rule: Origin) -> CatalogFamily:
    """A family whose guests' records say what they were started on, too."""
    stated = family.attributes.get(attribute, AttributeSource(source=family.source))
    if stated.path is None:
        stated = dataclasses.replace(stated, attribute=stated.attribute or attribute)
    needs = family.needs
    if family.of_host:
        because = "what it was started on is known not to work with some hosts"
        needs = (*needs, Use(xpath="/domain", own=name, because=because, source="known_bad"))
    return dataclasses.replace(
        family,
        family=dataclasses.replace(family.family, rules={**family.family.rules, name: rule}),
        attributes={**family.attributes, name: stated},
        needs=needs,
    )


def _ordering(section: Section, rule: AnyRule | None) -> str:
    stated = section.text("ordering")
    if stated in COMPARERS:
        return stated
    return str(getattr(rule, "ordering", "numeric"))


def _of_host(section: Section, rule: AnyRule | None, stated: Section) -> Comparer:
    """How an attribute of the host is compared: as its rule does, else as its values look."""
    if isinstance(rule, Floor):
        return COMPARERS[rule.ordering]
    if rule is not None:
        return comparer_of(rule)
    ordering = section.text("ordering")
    if ordering in COMPARERS:
        return COMPARERS[ordering]
    texts = [stated.value] if isinstance(stated.value, str) else stated.value
    try:
        parse_condition(_texts(texts), NUMERIC)
    except BadCondition:
        return NUMERIC if any(set("<>") & set(text) for text in _texts(texts)) else TEXT
    return NUMERIC


def _texts(value: object) -> list[str]:
    listed: Iterable[object] = value if isinstance(value, list) else [value]
    return [text for text in listed if isinstance(text, str)]


def _condition(stated: Section, by: Comparer) -> Condition | None:
    """The condition that stands somewhere; None where it is none."""
    texts = _texts(stated.value)
    if not texts or (isinstance(stated.value, list) and len(texts) < len(stated.value)):
        return None  # the schema says so
    if max(map(len, texts)) > MAX_TEXT:
        stated.problem(f"is longer than {MAX_TEXT} characters; write a list")
        return None
    try:
        return parse_condition(texts, by)
    except BadCondition as error:
        stated.problem(str(error))
        return None


def _check_held(stated: Section, rule: AnyRule, condition: Condition, by: Comparer) -> None:
    """Report values that no record can hold, so that the entry would never match."""
    if condition.same:
        stated.problem("of the guest a value is asked for; 'same' is for 'offer'")
        return
    for choice in condition.choices:
        for one in choice:
            if one.operator != "=":
                continue
            try:
                held = rule.canonical(one.text)
            except Unreadable as error:
                stated.problem(f"rule {rule.kind} can hold no {one.text!r}: {error.why}")
                continue
            if by.compare(by.parse(held), by.parse(one.text)) != 0:
                stated.problem(
                    f"rule {rule.kind} holds {held!r} of {one.text!r}, so this never matches; "
                    f"write '{held}', or 'origin' in place of 'need' for what a guest was "
                    "started on"
                )


def _check_until(section: Section, offer: Sequence[Asked], until: Sequence[Asked]) -> None:
    """Report an entry that has ended wherever it would hold."""
    held = {one.attribute: one for one in offer}
    if until and all(
        one.attribute in held
        and implies(held[one.attribute].condition, one.condition, COMPARERS[one.by])
        for one in until
    ):
        section.problem(
            "every host that 'offer' is about has met this, so it never holds", "until"
        )
