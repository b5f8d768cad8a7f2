# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Whether sources tell what a family asks for, and ``match`` asks for what can be."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from nova_devcompat.catalog.family import AttributeSource
from nova_devcompat.catalog.kinds import AnyRule
from nova_devcompat.catalog.registry import NamedSources
from nova_devcompat.compat.device import PCI_IDENTIFIERS, bare_identifier
from nova_devcompat.compat.types import reads
from nova_devcompat.kit.section import Section
from nova_devcompat.kit.text import near

# How many names a message has.
_NAMED = 30

_QUOTES = re.compile("[\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb`\u00b4]")


def check_pattern(stated: Section) -> None:
    """Report a pattern of ``match`` that no device can ever fit."""
    pattern = stated.value
    if not isinstance(pattern, str) or not pattern:
        return  # the schema says so
    if pattern != pattern.strip():
        stated.problem(f"{pattern!r} has blanks around it, which no value has; leave them out")
    elif _QUOTES.search(pattern):
        stated.problem(
            f"{pattern!r} has typographic quotes in it, which YAML takes for text; write ' or \""
        )
    elif stated.name in PCI_IDENTIFIERS:
        _check_identifier(stated, pattern, PCI_IDENTIFIERS[stated.name])


def _check_identifier(stated: Section, pattern: str, digits: int) -> None:
    bare = bare_identifier(stated.name, pattern)
    if bare is not None:
        stated.problem(f"{pattern!r}: identifiers are written without 0x; write '{bare}'")
        return
    if not re.fullmatch("[0-9a-fA-F*?]+", pattern):
        stated.problem(
            f"{pattern!r} is no identifier, which has {digits} hexadecimal digits; * and ? stand "
            "for any"
        )
        return
    length = len(pattern.replace("*", ""))
    if length > digits or ("*" not in pattern and length < digits):
        advice = f"; write '{pattern.rjust(digits, '0')}'" if length < digits else ""
        stated.problem(f"{pattern!r} has {length} digits; an identifier has {digits}{advice}")


class SourceChecks:
    """Looks up what sources tell.

    :param sources: those that are installed
    """

    def __init__(self, sources: NamedSources) -> None:
        self._sources = sources

    def check(
        self,
        family: Section,
        source: str,
        attributes: Mapping[str, AttributeSource],
        rules: Mapping[str, AnyRule],
    ) -> None:
        """Report what a family asks for and its sources do not tell, or tell as another type."""
        if self._sources.stands_in(source):
            return  # an inventory tells whatever its operator writes
        for name, stated in family.mapping("rules").items():
            origin = attributes.get(name, AttributeSource(source=source))
            if name not in rules or origin.path is not None:
                continue
            key = origin.key(name)
            of_function = origin.of_function
            problem = self._problem(origin.source, key, of_function=of_function)
            if problem:
                stated.problem(problem)
                continue
            kind = self._sources.type_of(origin.source, key, of_function=of_function)
            if kind is not None and not reads(rules[name], kind):
                stated.problem(
                    f"source {origin.source} tells {key} as {kind.described}, which rule "
                    f"{rules[name].kind} does not read{_instead(kind.value)}"
                )
        for stated in family.mapping("in_use").values():
            if isinstance(stated.value, str) and stated.value not in attributes:
                problem = self._problem(source, stated.value)
                if problem:
                    stated.problem(problem)
        for name, stated in family.mapping("match").items():
            if name not in attributes:
                problem = self._nobody_tells(source, name)
                if problem:
                    stated.problem(problem)

    def _problem(self, source: str, name: str, *, of_function: bool = False) -> str:
        """Why a source does not tell an attribute; '' if it does, or does not say."""
        names = self._sources.attributes_of(source, of_function=of_function)
        if names is None or name in names:
            return ""
        if name in (self._sources.attributes_of(source, of_function=not of_function) or ()):
            return _of_the_same(source, name, of_function=of_function)
        others = [
            other
            for other in self._sources.names
            if other != source and self._sources.type_of(other, name) is not None
        ]
        if others and name in (self._sources.attributes_of(others[0]) or ()):
            return _of_another(source, name, others[0])
        of_functions = self._teller_of_functions(name)
        if of_functions:
            told = f"{{source: {of_functions}, of: function}}"
            return _of_another(source, name, of_functions, told)
        if self._sources.is_open(source) and not _misspelt(name, names):
            return ""
        return (
            f"source {source} does not tell {name!r}; it tells: {_some(names)}{near(name, names)}"
        )

    def _teller_of_functions(self, name: str) -> str:
        """A source that tells an attribute of functions; '' for none."""
        for source in self._sources.names:
            if name in (self._sources.attributes_of(source, of_function=True) or ()):
                return source
        return ""

    def _nobody_tells(self, source: str, name: str) -> str:
        """Why no device can have an attribute that ``match`` asks for; '' if one can.

        A device has what any source of its host tells.
        """
        if self._sources.attributes_of(source) is None:
            return ""
        told = self._sources.names_told
        problem = self._problem(source, name)
        if told is None or name in told or not problem:
            return ""
        if self._teller_of_functions(name):
            return problem
        return f"no source tells {name!r}; they tell: {_some(told)}{near(name, told)}"


def _of_another(source: str, name: str, other: str, stated: str = "") -> str:
    return (
        f"source {source} does not tell {name!r}, source {other} does: say so in "
        f"'attributes', {{{name}: {stated or other}}}"
    )


def _of_the_same(source: str, name: str, *, of_function: bool) -> str:
    if of_function:
        told = f"source {source} tells {name!r} of devices, not of functions"
        return f"{told}; leave 'of: function' out"
    return (
        f"source {source} tells {name!r} of functions, not of devices: say so in 'attributes', "
        f"{{{name}: {{source: {source}, of: function}}}}"
    )


def _some(names: frozenset[str]) -> str:
    """The names of attributes, for a message; those that go with another are left out."""
    plain = sorted(name for name in names if not name.endswith(("_stored", "_pending")))
    more = f" and {len(plain) - _NAMED} more" if len(plain) > _NAMED else ""
    return ", ".join(plain[:_NAMED]) + more


def _misspelt(name: str, names: frozenset[str]) -> bool:
    return bool(difflib.get_close_matches(name, names, n=1, cutoff=0.85))


def _instead(kind: str) -> str:
    return {
        "integer": "; use at_least, or {kind: equal, integer: true}",
        "list": "; use superset or one_of",
        "range": "; use range",
    }.get(kind, "")
