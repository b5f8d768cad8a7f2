# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading catalog files: strict, with all that is wrong reported at once."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import os_traits

from nova_devcompat.catalog import patterns, xpaths
from nova_devcompat.catalog.model import (
    AmbiguousDevice,
    AttributeSource,
    Catalog,
    CatalogFamily,
    UnknownFamily,
)
from nova_devcompat.catalog.registry import NamedSources, Registered
from nova_devcompat.catalog.schema import SCHEMA, VERSIONS
from nova_devcompat.catalog.stages import MODES, BadStage, Stages, parse_stages
from nova_devcompat.compat import rules, traits
from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.policy import Mode, OnUnknown
from nova_devcompat.compat.uses import Use
from nova_devcompat.kit import plugins
from nova_devcompat.kit.document import Document
from nova_devcompat.kit.problems import DocumentError, KeyPath, Problem
from nova_devcompat.kit.text import near
from nova_devcompat.kit.yamlfile import read

__all__ = [
    "AmbiguousDevice",
    "Catalog",
    "CatalogError",
    "CatalogFamily",
    "UnknownFamily",
    "load_catalog",
]

_MISSING = "write one, or name another with [devcompat] catalog in nova.conf or --catalog"


class CatalogError(DocumentError):
    """Catalog files that cannot be used; its text has one line for each problem."""


def load_catalog(
    paths: Iterable[str | os.PathLike[str]],
    registered: Registered,
    *,
    check_sources: bool = True,
) -> Catalog:
    """The catalog that these files make together.

    :param paths: at least one; a family of a later file takes the place of the whole family of
        the same name in an earlier one
    :param registered: the sources that are installed here
    :param check_sources: whether those that it names must be among them; not where an inventory
        stands in for them all
    :raises CatalogError: with all problems of all files
    """
    loader = _Loader(NamedSources(registered), check_sources=check_sources)
    for path in paths:
        loader.add(path)
    return loader.finish()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """A family in a file; ``match`` is None where it is too wrong to compare."""

    document: Document
    path: KeyPath
    match: Mapping[str, str] | None
    family: CatalogFamily | None

    @property
    def place(self) -> str:
        return f"{self.document.file}:{self.document.line(self.path)}"


class _Loader:
    """Collects families and problems from one file after the other."""

    def __init__(self, sources: NamedSources, *, check_sources: bool) -> None:
        self.sources = sources
        self.check_sources = check_sources
        self.problems: list[Problem] = []
        self.entries: dict[str, _Entry] = {}
        self.files = 0
        # mypy allows no abstract class as a value of type[T] (python/mypy#4717).
        self.rules: plugins.Plugins[rules.Rule[Any, Any]] = plugins.Plugins(
            plugins.RULES,
            rules.Rule,  # type: ignore[type-abstract]
            rules.API_VERSION,
        )
        self.kinds: dict[str, type[rules.Rule[Any, Any]] | plugins.PluginError] = {}

    def add(self, path: str | os.PathLike[str]) -> None:
        self.files += 1
        try:
            document = read(path, missing=_MISSING)
        except DocumentError as error:
            self.problems.extend(error.problems)
            return
        # Of another format nothing else can be said.
        problems = [*document.problems, *(document.check_version(VERSIONS) or self._add(document))]
        self.problems.extend(sorted(problems, key=lambda problem: problem.line))

    def finish(self) -> Catalog:
        if not self.files:
            self.problems.append(
                Problem(file="[devcompat] catalog", line=0, path="", message="names no file")
            )
        self.problems.extend(self._overlaps())
        if self.problems:
            raise CatalogError(self.problems)
        families = {}
        for name, entry in sorted(self.entries.items()):
            assert entry.family, f"{name} was left out without a problem"
            families[name] = entry.family
        named = frozenset().union(*(family.sources for family in families.values()))
        return Catalog(
            families=families,
            digest=_digest(families),
            stand_ins=frozenset(filter(self.sources.stands_in, named)),
        )

    def _add(self, document: Document) -> list[Problem]:
        problems = document.check(SCHEMA)
        families = document.content.get("families")
        if not isinstance(families, dict):
            return problems
        for name, content in families.items():
            path: KeyPath = ("families", name)
            usable = content if isinstance(content, dict) else {}
            if _check_name(document, path, name, problems):
                _check_lengths(document, path, name, usable.get("rules"), problems)
            # Also where it is wrong: the name is taken, and 'match' can be compared.
            self.entries[name] = self._entry(document, path, usable, problems)
        return problems

    def _entry(
        self, document: Document, path: KeyPath, content: dict[str, Any], problems: list[Problem]
    ) -> _Entry:
        match = _match(document, (*path, "match"), content.get("match"), problems)
        found = self._rules(document, (*path, "rules"), content.get("rules"), problems)
        source = content.get("source")
        self._check_source(document, (*path, "source"), source, problems)
        attributes = self._attributes(document, path, content, problems)
        in_use = _in_use(document, (*path, "in_use"), content, problems)
        stages, rule_stages = _stages(document, path, content, problems)
        needs = _needs(document, path, content, found, problems)
        family = None
        if match and found:
            try:
                family = CatalogFamily(
                    family=Family(
                        name=str(path[-1]),
                        rules=found,
                        subject=Subject(content.get("subject", Subject.DEVICE)),
                    ),
                    match=match,
                    source=str(source),
                    stands_in=self.sources.stands_in(str(source)),
                    attributes=attributes,
                    in_use=in_use,
                    mode=Mode(content["mode"]) if "mode" in content else None,
                    on_unknown=OnUnknown(content["on_unknown"])
                    if "on_unknown" in content
                    else None,
                    stages=stages,
                    rule_stages=rule_stages,
                    needs=needs,
                )
            except ValueError:
                pass  # a name, a mode: reported by its place
        return _Entry(document=document, path=path, match=match, family=family)

    def _check_source(
        self, document: Document, path: KeyPath, name: object, problems: list[Problem]
    ) -> None:
        if not self.check_sources or not isinstance(name, str) or not name:
            return  # of what is no name, the schema says so
        problem = self.sources.problem(name)
        if problem:
            problems.append(document.problem(path, problem))

    def _attributes(
        self, document: Document, path: KeyPath, content: dict[str, Any], problems: list[Problem]
    ) -> dict[str, AttributeSource]:
        found: dict[str, AttributeSource] = {}
        stated = content.get("attributes")
        for attribute, value in stated.items() if isinstance(stated, dict) else ():
            at: KeyPath = (*path, "attributes", attribute)
            if _check_name(document, at, attribute, problems):
                _check_use(document, at, attribute, content, problems)
            within = isinstance(value, dict)
            source = value.get("source") if within else value
            self._check_source(document, (*at, "source") if within else at, source, problems)
            glob = value.get("path") if within else None
            if isinstance(glob, str) and glob and isinstance(source, str):
                problem = self.sources.problem_of_file(source, attribute, glob)
                if problem:
                    problems.append(document.problem((*at, "path"), problem))
            if isinstance(source, str) and isinstance(glob, str | None):
                found[attribute] = AttributeSource(source=source, path=glob)
        return found

    def _rules(
        self, document: Document, path: KeyPath, content: object, problems: list[Problem]
    ) -> dict[str, rules.Rule[Any, Any]]:
        found: dict[str, rules.Rule[Any, Any]] = {}
        if not isinstance(content, dict):
            return found
        for attribute, stated in content.items():
            inner = (*path, attribute)
            _check_name(document, inner, attribute, problems)
            options = dict(stated) if isinstance(stated, dict) else {"kind": stated}
            kind = options.pop("kind", None)
            options.pop("stages", None)
            if not isinstance(kind, str) or not kind:
                continue  # the schema says so
            rule_class = self._kind(kind)
            if isinstance(rule_class, plugins.PluginError):
                problems.append(document.problem(inner, f"rule kind {rule_class}"))
                continue
            bad = list(_bad_options(inner, options))
            if bad:
                problems.extend(
                    document.problem(at, document.quote_advice(at, value)) for at, value in bad
                )
                continue
            try:
                found[attribute] = rule_class.from_options(options)
            except Exception as error:  # noqa: BLE001 - it is anybody's plugin
                problems.append(document.problem(inner, str(error) or repr(error)))
        return found

    def _kind(self, kind: str) -> type[rules.Rule[Any, Any]] | plugins.PluginError:
        if kind not in self.kinds:
            try:
                self.kinds[kind] = self.rules.load(kind)
            except plugins.PluginError as error:
                self.kinds[kind] = error
        return self.kinds[kind]

    def _overlaps(self) -> list[Problem]:
        """Pairs of families, after overrides, that some device would match both of."""
        problems = []
        compared = [entry for _, entry in sorted(self.entries.items()) if entry.match]
        for one, other in itertools.combinations(compared, 2):
            example = _example(one.match or {}, other.match or {})
            if example is None:
                continue
            device = ", ".join(f"{name}: {text!r}" for name, text in sorted(example.items()))
            problems.append(
                other.document.problem(
                    (*other.path, "match"),
                    f"families {one.path[-1]} ({one.place}) and {other.path[-1]} ({other.place}) "
                    f"both match a device with {device}; make them disjoint",
                )
            )
        return problems


def _check_name(document: Document, path: KeyPath, name: str, problems: list[Problem]) -> bool:
    try:
        traits.check_name(name)
    except ValueError as error:
        # os-traits turns any text into a trait, but not back: a remedy, not an answer.
        trait = os_traits.normalize_name(name).removeprefix(os_traits.CUSTOM_NAMESPACE)
        remedy = trait.lstrip("_0123456789").rstrip("_").lower()
        advice = f"; for example {remedy!r}" if remedy else ""
        problems.append(document.problem(path, f"{error}, as traits need it{advice}"))
        return False
    return True


def _check_use(
    document: Document,
    path: KeyPath,
    attribute: str,
    content: Mapping[str, object],
    problems: list[Problem],
) -> None:
    """Refuse to say where an attribute comes from that nothing asks for: it is misspelt."""
    asked = [content.get(key) for key in ("rules", "match")]
    names = sorted({name for one in asked if isinstance(one, dict) for name in one})
    in_use = content.get("in_use")
    if isinstance(in_use, dict) and attribute in in_use.values():
        return
    if attribute not in names and all(isinstance(one, dict) for one in asked):
        problems.append(
            document.problem(
                path,
                f"neither 'rules' nor 'match' has {attribute!r}; they have: {', '.join(names)}"
                + near(attribute, names),
            )
        )


def _has_rule(
    document: Document,
    path: KeyPath,
    attribute: str,
    known: Iterable[str],
    problems: list[Problem],
) -> bool:
    names = sorted(map(str, known))
    if attribute in names:
        return True
    message = f"'rules' has no {attribute!r}; it has: {', '.join(names)}{near(attribute, names)}"
    problems.append(document.problem(path, message))
    return False


def _in_use(
    document: Document, path: KeyPath, content: Mapping[str, object], problems: list[Problem]
) -> dict[str, str]:
    stated, known = content.get("in_use"), content.get("rules")
    if not isinstance(stated, dict) or not isinstance(known, dict):
        return {}
    for attribute in stated:
        _has_rule(document, (*path, attribute), str(attribute), known, problems)
    return {key: told for key, told in stated.items() if isinstance(told, str)}


def _needs(
    document: Document,
    path: KeyPath,
    content: dict[str, Any],
    found: Mapping[str, rules.Rule[Any, Any]],
    problems: list[Problem],
) -> tuple[Use, ...]:
    """The table of a host family; it must ask for each attribute, since nothing else does."""
    subject = content.get("subject", Subject.DEVICE)
    of_host = subject == Subject.HOST
    rows = content.get("needs")
    if not of_host or not isinstance(rows, list):
        if of_host and "needs" not in content:
            message = "a family with 'subject: host' has to have 'needs', what guests need of it"
            problems.append(document.problem(path, message))
        elif subject == Subject.DEVICE and "needs" in content:
            message = "only a family with 'subject: host' has this; devices are needed as they are"
            problems.append(document.problem((*path, "needs"), message))
        return ()
    before = len(problems)
    uses = [
        _use(document, (*path, "needs", index), row, found, problems)
        for index, row in enumerate(rows)
        if isinstance(row, dict)
    ]
    asked = {name for row in rows if isinstance(row, dict) for name in _asked(row)}
    for attribute in found if len(problems) == before and asked else ():
        if attribute not in asked:
            message = f"no row of 'needs' asks for {attribute!r}, so no guest would ever need it"
            problems.append(document.problem((*path, "rules", attribute), message))
    return tuple(uses)


def _asked(row: dict[str, Any]) -> set[object]:
    """The attributes that a row asks for, right or wrong."""
    requires = row.get("requires")
    return {row.get("takes"), *(requires if isinstance(requires, dict) else ())} - {None}


def _use(
    document: Document,
    path: KeyPath,
    row: dict[str, Any],
    found: Mapping[str, rules.Rule[Any, Any]],
    problems: list[Problem],
) -> Use:
    def text(key: str) -> str:
        return value if isinstance(value := row.get(key), str) else ""

    def problem(message: str, *at: int | str) -> None:
        problems.append(document.problem((*path, *at), message))

    def known(attribute: str, *at: int | str) -> bool:
        return _has_rule(document, (*path, *at), attribute, found, problems)

    if xpath := text("xpath"):
        try:
            xpaths.check(xpath)
        except ValueError as error:
            problem(str(error), "xpath")
    if ("requires" in row) is ("takes" in row):
        problem("has either 'requires' or 'takes', and has just one of them")
    if "aliases" in row and "takes" not in row:
        problem("goes with 'takes' only", "aliases")
    requires: dict[str, frozenset[str]] = {}
    stated = row.get("requires")
    for attribute, value in stated.items() if isinstance(stated, dict) else ():
        if known(attribute, "requires", attribute) and isinstance(value, str) and value:
            try:
                requires[attribute] = found[attribute].parse_pin(value)
            except Unreadable as error:
                kind = found[attribute].kind
                problem(f"rule {kind} cannot read the value: {error}", "requires", attribute)
    takes = text("takes")
    if takes:
        known(takes, "takes")
    return Use(
        xpath=xpath,
        requires=requires,
        takes=takes,
        aliases=text("aliases"),
        because=text("because"),
        source=text("source"),
    )


def _check_lengths(
    document: Document, path: KeyPath, family: str, attributes: object, problems: list[Problem]
) -> None:
    """Refuse names that leave no room for even one character of a value."""
    for attribute in attributes if isinstance(attributes, dict) else ():
        try:
            traits.encode(traits.Atom(family, attribute, "0"))
        except traits.TraitTooLong:
            room = traits.MAX_LENGTH - len(traits.PREFIX) - 2 * len("__") - 1
            problems.append(
                document.problem(
                    (*path, "rules", attribute),
                    f"no trait can be made: family and attribute have "
                    f"{len(family) + len(attribute)} characters, {room} are allowed",
                )
            )
        except ValueError:
            pass  # no name: reported by its place


def _stages(
    document: Document, path: KeyPath, content: dict[str, Any], problems: list[Problem]
) -> tuple[Stages, dict[str, Stages]]:
    """The stages of a family, and those of its rules."""
    stages = _stages_at(document, path, content, problems)
    if "mode" in content and "stages" in content:
        problems.append(
            document.problem(
                (*path, "stages"), "'stages' say what 'mode' is and when; leave 'mode' out"
            )
        )
    rules = content.get("rules")
    found = {
        attribute: _stages_at(document, (*path, "rules", attribute), stated, problems)
        for attribute, stated in (rules.items() if isinstance(rules, dict) else ())
    }
    return stages, {attribute: stages for attribute, stages in found.items() if stages}


def _stages_at(
    document: Document, path: KeyPath, content: object, problems: list[Problem]
) -> Stages:
    stated = content.get("stages") if isinstance(content, dict) else None
    # Of what has another shape the schema says so.
    if not isinstance(stated, list) or not all(map(_is_stage, stated)):
        return ()
    try:
        return parse_stages(stated)
    except BadStage as error:
        problems.append(document.problem((*path, "stages", error.index, error.key), str(error)))
        return ()


def _is_stage(stated: object) -> bool:
    if not isinstance(stated, dict):
        return False
    since = stated.get("from")
    return isinstance(since, str) and bool(since) and stated.get("mode") in MODES


def _match(
    document: Document, path: KeyPath, content: object, problems: list[Problem]
) -> dict[str, str] | None:
    if not isinstance(content, dict) or not content:
        return None
    usable = True
    for attribute, pattern in content.items():
        usable &= _check_name(document, (*path, attribute), attribute, problems)
        if not isinstance(pattern, str) or not pattern:
            usable = False
            continue
        taken = sorted(patterns.NOT_TAKEN & set(pattern))
        if taken:
            problems.append(
                document.problem(
                    (*path, attribute),
                    f"{pattern!r}: {taken[0]!r} cannot be used; "
                    "the wildcards are * for any text and ? for one character",
                )
            )
            usable = False
    return content if usable else None


def _example(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str] | None:
    """Attributes of a device that matches both; None where they are disjoint.

    Families that each ask for an attribute which the other does not are taken for disjoint: it is
    the attributes that tell their devices apart.
    """
    if not (one.keys() <= other.keys() or other.keys() <= one.keys()):
        return None
    example: dict[str, str] = {}
    for attribute in one.keys() | other.keys():
        text = patterns.common_text(one.get(attribute, "*"), other.get(attribute, "*"))
        if text is None:
            return None
        example[attribute] = text
    return example


def _bad_options(path: KeyPath, value: object) -> Iterator[tuple[KeyPath, object]]:
    """What no option can be: a number with a point, a date, null."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _bad_options((*path, key), item)
    elif not isinstance(value, str | int):
        yield path, value


def _digest(families: Mapping[str, CatalogFamily]) -> str:
    content: dict[str, dict[str, object]] = {
        name: {
            "match": dict(family.match),
            "source": family.source,
            "mode": family.mode,
            "on_unknown": family.on_unknown,
            "rules": {
                # A frozen dataclass whose fields are its options: its repr names them all.
                attribute: [rule.kind, repr(rule)]
                for attribute, rule in family.family.rules.items()
            },
        }
        for name, family in families.items()
    }
    for name, family in families.items():
        others = {
            attribute: [one.source, one.path]
            for attribute, one in family.attributes.items()
            if one != AttributeSource(source=family.source)
        }
        # Left out where there are none: hosts of a release that has no such key have this digest.
        if others:
            content[name]["attributes"] = others
        if family.in_use:
            content[name]["in_use"] = dict(family.in_use)
        stages = {"": family.stages, **family.rule_stages}
        if any(stages.values()):
            content[name]["stages"] = {
                subject: [[stage.when, stage.mode] for stage in each]
                for subject, each in stages.items()
            }
        if family.of_host:
            content[name]["subject"] = family.family.subject
            content[name]["needs"] = [
                # Why, and who says so, does not count.
                [use.xpath, use.takes, use.aliases, _sorted(use.requires)]
                for use in family.needs
            ]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _sorted(values: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    return {attribute: sorted(listed) for attribute, listed in values.items()}
