# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading a family out of a catalog file. Of what has another shape the schema says so."""

from __future__ import annotations

from collections.abc import Mapping

from nova_devcompat.catalog import patterns
from nova_devcompat.catalog.family import AttributeOf, AttributeSource, CatalogFamily
from nova_devcompat.catalog.kinds import AnyRule, RuleKinds
from nova_devcompat.catalog.names import check_name
from nova_devcompat.catalog.needs import has_rule, read_needs
from nova_devcompat.catalog.registry import NamedSources
from nova_devcompat.catalog.source_checks import SourceChecks, check_pattern
from nova_devcompat.catalog.stages import MODES, BadStage, Stages, parse_stages
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.kinds import Floor
from nova_devcompat.compat.policy import Mode, OnUnknown
from nova_devcompat.kit.section import Section
from nova_devcompat.kit.text import near

# Each is compared with those of all other families, in a time that is the product of the lengths.
_LONGEST_PATTERN = 255


class FamilyReader:
    """Makes families of sections, and reports there what is wrong.

    :param sources: what is known of the sources that they name
    :param check_sources: whether these must be installed here
    """

    def __init__(self, sources: NamedSources, *, check_sources: bool) -> None:
        self._sources = sources
        self._check_sources = check_sources
        self._kinds = RuleKinds()
        self._source_checks = SourceChecks(sources)

    def read(self, family: Section, match: Mapping[str, str] | None) -> CatalogFamily | None:
        """The family; None where it is too wrong to be one.

        :param match: what :func:`read_match` made of its ``match``
        """
        rules = self._kinds.read(family)
        source = family.text("source")
        self._check_source(family.at("source"))
        attributes = self._attributes(family)
        in_use = _in_use(family)
        stages, rule_stages = _family_stages(family)
        needs = read_needs(family, rules)
        if self._check_sources:
            self._source_checks.check(family, source, attributes, rules)
        if not match or not rules:
            return None
        implied = self._implied(family, source, attributes, rules)
        mode, on_unknown = family.text("mode"), family.text("on_unknown")
        try:
            return CatalogFamily(
                family=_rules_of(family, rules, {name: one for name, (_, one) in implied.items()}),
                match=match,
                source=source,
                stands_in=self._sources.stands_in(source),
                attributes=attributes,
                in_use=in_use,
                mode=Mode(mode) if mode else None,
                on_unknown=OnUnknown(on_unknown) if on_unknown else None,
                stages=stages,
                rule_stages=rule_stages,
                implied={name: told for name, (told, _) in implied.items()},
                fallback=family.at("fallback").value is True,
                needs=needs,
            )
        except ValueError:
            return None  # a name, a mode: reported by its place

    def _check_source(self, stated: Section) -> None:
        name = stated.value
        if not self._check_sources or not isinstance(name, str) or not name:
            return  # of what is no name, the schema says so
        problem = self._sources.problem(name)
        if problem:
            stated.problem(problem)

    def _implied(
        self,
        family: Section,
        source: str,
        attributes: Mapping[str, AttributeSource],
        rules: Mapping[str, AnyRule],
    ) -> dict[str, tuple[str, Floor]]:
        """The rules that hold although the family does not state them, and who tells of them."""
        if family.text("subject", absent=Subject.DEVICE) == Subject.HOST:
            return {}
        named = {source, *(stated.source for stated in attributes.values())}
        stands_in = self._sources.stands_in(source)
        return {
            name: (source if stands_in else told, rule)
            for name, (told, rule) in self._sources.implied(named).items()
            if name not in rules
        }

    def _attributes(self, family: Section) -> dict[str, AttributeSource]:
        """Where attributes come from that the primary source does not tell."""
        attributes: dict[str, AttributeSource] = {}
        for name, stated in family.mapping("attributes").items():
            if check_name(stated):
                _check_asked(family, stated)
            source = stated.at("source") if isinstance(stated.value, dict) else stated
            self._check_source(source)
            if not isinstance(source.value, str):
                continue
            path = stated.text("path")
            if path:
                problem = self._sources.problem_of_file(source.value, name, path)
                if problem:
                    stated.problem(problem, "path")
            named = stated.text("attribute")
            if path and named:
                stated.problem("goes with no 'path'", "attribute")
            attributes[name] = AttributeSource(
                source=source.value,
                path=path or None,
                attribute=named or None,
                of_function=self._of_function(family, stated, source.value),
            )
        return attributes

    def _of_function(self, family: Section, stated: Section, source: str) -> bool:
        """Whether an attribute is a fact of a function, which no part of a host has."""
        key = "of"
        if stated.text("of", absent=AttributeOf.DEVICE) != AttributeOf.FUNCTION:
            key, path = "path", stated.text("path")
            if not path or not self._sources.is_of_function(source, path):
                return False
        if family.text("subject", absent=Subject.DEVICE) == Subject.HOST:
            stated.problem(f"a host has no functions; leave '{key}' out", key)
        elif stated.name in family.at("in_use").texts():
            stated.problem(f"what guests use is told by the device; leave '{key}' out", key)
        return True


def _rules_of(
    family: Section, rules: Mapping[str, AnyRule], implied: Mapping[str, Floor]
) -> Family:
    subject = family.text("subject", absent=Subject.DEVICE)
    return Family(name=family.name, rules=rules, subject=Subject(subject), implied=implied)


def read_match(family: Section) -> dict[str, str] | None:
    """The patterns of a family by attribute; None where they are too wrong to compare."""
    match: dict[str, str] = {}
    usable = True
    for attribute, stated in family.mapping("match").items():
        usable &= check_name(stated)
        pattern = stated.value
        if not isinstance(pattern, str) or not pattern:
            usable = False
            continue
        if len(pattern) > _LONGEST_PATTERN:
            stated.problem(
                f"a pattern of {len(pattern)} characters; {_LONGEST_PATTERN} are allowed"
            )
            usable = False
            continue
        taken = sorted(patterns.NOT_TAKEN & set(pattern))
        if taken:
            stated.problem(
                f"{pattern!r}: {taken[0]!r} cannot be used; "
                "the wildcards are * for any text and ? for one character"
            )
            usable = False
        check_pattern(stated)
        match[attribute] = pattern
    return match if match and usable else None


def _check_asked(family: Section, stated: Section) -> None:
    """Refuse to say where an attribute comes from that nothing asks for: it is misspelt."""
    rules, match = family.mapping("rules"), family.mapping("match")
    if not rules or not match or stated.name in family.at("in_use").texts():
        return
    names = sorted({*rules, *match})
    if stated.name not in names:
        stated.problem(
            f"neither 'rules' nor 'match' has {stated.name!r}; they have: {', '.join(names)}"
            + near(stated.name, names)
        )


def _in_use(family: Section) -> dict[str, str]:
    """The attributes that tell what guests use, by that of the rule."""
    rules = family.mapping("rules")
    in_use: dict[str, str] = {}
    for attribute, stated in family.mapping("in_use").items() if rules else ():
        has_rule(stated, attribute, rules)
        if isinstance(stated.value, str):
            in_use[attribute] = stated.value
    return in_use


def _family_stages(family: Section) -> tuple[Stages, dict[str, Stages]]:
    """The stages of a family, and those of its rules."""
    stages = _stages(family)
    if "mode" in family and "stages" in family:
        family.problem("'stages' say what 'mode' is and when; leave 'mode' out", "stages")
    by_rule = {name: _stages(stated) for name, stated in family.mapping("rules").items()}
    return stages, {name: stages for name, stages in by_rule.items() if stages}


def _stages(section: Section) -> Stages:
    stated = section.at("stages").value
    # Of what has another shape the schema says so.
    if not isinstance(stated, list) or not all(map(_is_stage, stated)):
        return ()
    try:
        return parse_stages(stated)
    except BadStage as error:
        section.problem(str(error), "stages", error.index, error.key)
        return ()


def _is_stage(stated: object) -> bool:
    if not isinstance(stated, dict):
        return False
    since = stated.get("from")
    return isinstance(since, str) and bool(since) and stated.get("mode") in MODES
