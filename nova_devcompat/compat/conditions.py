# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Conditions on one attribute, as entries of known-bad lists state them.

``'<9.1'``, ``'>=9.1,<9.1.2'`` (all of it), ``['9.1.0', '9.1.1']`` (any of it). Versions are
compared as the rule of the attribute does. What cannot be compared is neither met nor not met:
None.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from nova_devcompat.compat.attributes import (
    Unreadable,
    compare_versions,
    parse_version,
    text_of,
)
from nova_devcompat.compat.orderings import ORDERINGS
from nova_devcompat.compat.rules import Rule

#: What stands for the very value that the guest needs.
SAME = "same"

_COMPARISON = re.compile(r"\s*(<=|>=|==|!=|<|>|=)?\s*(.*?)\s*")


class BadCondition(ValueError):
    """A condition that cannot be read, or that nothing can meet."""


class Comparer(Protocol):
    """Compares the values of one attribute."""

    @property
    def name(self) -> str:
        """What it is called between processes."""

    @property
    def ordered(self) -> bool:
        """Whether one of two values can be more than the other."""

    def parse(self, text: str) -> Any:
        """A value.

        :raises Unreadable: it is none
        """

    def compare(self, left: Any, right: Any) -> int | None:
        """Below 0, 0 or above it; None where that cannot be told."""


@dataclasses.dataclass(frozen=True, slots=True)
class _ByOrdering:
    """By one of the named orderings of versions."""

    name: str
    ordered: bool = True

    def parse(self, text: str) -> Any:
        return ORDERINGS[self.name].parse(text)

    def compare(self, left: Any, right: Any) -> int | None:
        return ORDERINGS[self.name].compare(left, right)


@dataclasses.dataclass(frozen=True, slots=True)
class _ByNumbers:
    """As versions of dotted numbers, hexadecimal ones in base 16."""

    name: str
    base: int
    ordered: bool = True

    def parse(self, text: str) -> Any:
        return parse_version(text, self.base)

    def compare(self, left: Any, right: Any) -> int:
        return compare_versions(left, right)


@dataclasses.dataclass(frozen=True, slots=True)
class _ByInteger:
    """As integers."""

    name: str = "integer"
    ordered: bool = True

    def parse(self, text: str) -> Any:
        if not re.fullmatch(r"-?[0-9]{1,40}", text):
            raise Unreadable(text, "is no integer")
        return int(text)

    def compare(self, left: int, right: int) -> int:
        return (left > right) - (left < right)


@dataclasses.dataclass(frozen=True, slots=True)
class _ByText:
    """As texts, of which none is more than another. Case does not count."""

    name: str = "text"
    ordered: bool = False

    def parse(self, text: str) -> Any:
        return text_of(text).casefold()

    def compare(self, left: str, right: str) -> int:
        return 0 if left == right else 1


TEXT: Comparer = _ByText()
NUMERIC: Comparer = _ByOrdering("numeric")

#: By the names that they have between processes; those of orderings are the catalog's.
_COMPARERS: tuple[Comparer, ...] = (
    *map(_ByOrdering, ORDERINGS),
    _ByNumbers("dotted", 10),
    _ByNumbers("hexadecimal", 16),
    _ByInteger(),
    TEXT,
)
COMPARERS: Mapping[str, Comparer] = {one.name: one for one in _COMPARERS}


def comparer_of(rule: Rule[Any, Any]) -> Comparer:
    """How a rule compares: by its ordering, in its base, or as texts where it knows no order."""
    if rule.kind in ("ordered", "origin"):
        return COMPARERS[getattr(rule, "ordering", "numeric")]
    if rule.kind in ("semver", "range", "accepts"):
        return COMPARERS["hexadecimal" if getattr(rule, "base", 10) == 16 else "dotted"]
    return COMPARERS["integer"] if rule.kind == "at_least" else TEXT


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """An operator and a value.

    :param operator: ``<``, ``<=``, ``>``, ``>=``, ``=`` or ``!=``
    :param text: the value as it was written
    """

    operator: str
    text: str

    def __str__(self) -> str:
        return self.text if self.operator == "=" else f"{self.operator}{self.text}"

    def holds(self, value: Any, by: Comparer) -> bool | None:
        """Whether it holds of a parsed value; None where that cannot be told."""
        compared = by.compare(value, by.parse(self.text))
        if compared is None:
            return None
        match self.operator:
            case "<":
                return compared < 0
            case "<=":
                return compared <= 0
            case ">":
                return compared > 0
            case ">=":
                return compared >= 0
            case "=":
                return compared == 0
        return compared != 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What one attribute is asked for.

    :param choices: of which one must hold, all comparisons of it; none for :attr:`same`
    :param same: whether it is asked to be the value that the guest needs
    """

    choices: tuple[tuple[Comparison, ...], ...] = ()
    same: bool = False

    def __str__(self) -> str:
        if self.same:
            return SAME
        return " or ".join(",".join(map(str, choice)) for choice in self.choices)

    def holds(self, text: str, by: Comparer) -> bool | None:
        """Whether a value meets it; None where that cannot be told."""
        try:
            value = by.parse(text)
        except Unreadable:
            return None
        return any_of(all_of(one.holds(value, by) for one in choice) for choice in self.choices)

    @property
    def texts(self) -> list[str]:
        """As it is stated, an item for each choice."""
        return [SAME] if self.same else [",".join(map(str, choice)) for choice in self.choices]


def any_of(answers: Iterable[bool | None]) -> bool | None:
    """Whether one holds; None where that cannot be told."""
    unknown = False
    for answer in answers:
        if answer:
            return True
        unknown |= answer is None
    return None if unknown else False


def all_of(answers: Iterable[bool | None]) -> bool | None:
    """Whether all hold; None where that cannot be told."""
    unknown = False
    for answer in answers:
        if answer is False:
            return False
        unknown |= answer is None
    return None if unknown else True


def parse_condition(stated: str | Sequence[str], by: Comparer) -> Condition:
    """A condition as a list of texts, or one text, states it.

    :param by: compares the values that it has
    :raises BadCondition: it cannot be read, or no value can meet it
    """
    texts = [stated] if isinstance(stated, str) else list(stated)
    if texts == [SAME]:
        return Condition(same=True)
    if not texts:
        raise BadCondition("is empty")
    return Condition(choices=tuple(_choice(text, by) for text in texts))


def _choice(text: str, by: Comparer) -> tuple[Comparison, ...]:
    comparisons = tuple(_comparison(part, by) for part in text.split(","))
    _check_possible(text, comparisons, by)
    return comparisons


def _comparison(text: str, by: Comparer) -> Comparison:
    match = _COMPARISON.fullmatch(text)
    operator, value = (match[1] or "=", match[2]) if match else ("=", "")
    operator = "=" if operator == "==" else operator
    if not value:
        raise BadCondition(
            f"{text!r} has no value; write '>=9.1,<9.1.2', '9.1.0', a list of such, or '{SAME}'"
        )
    if value == SAME:
        raise BadCondition(f"'{SAME}' stands alone")
    if operator not in ("=", "!=") and not by.ordered:
        raise BadCondition(
            f"{text!r}: these values have no order, so none is below another; write the values"
        )
    try:
        by.parse(value)
    except Unreadable as error:
        raise BadCondition(f"{value!r} cannot be compared: {error.why}") from error
    return Comparison(operator, value)


def _check_possible(text: str, comparisons: Sequence[Comparison], by: Comparer) -> None:
    """Whether a value can meet them all: one that is named, or one between two that are."""
    named = [by.parse(one.text) for one in comparisons if one.operator != "!="]
    if any(all_of(one.holds(value, by) for one in comparisons) is not False for value in named):
        return
    lower = [one for one in comparisons if one.operator in (">", ">=")]
    upper = [one for one in comparisons if one.operator in ("<", "<=")]
    if any(one.operator == "=" for one in comparisons):
        raise BadCondition(f"{text!r} can never be met")
    for low in lower:
        for high in upper:
            compared = by.compare(by.parse(low.text), by.parse(high.text))
            if compared is not None and compared >= 0:
                raise BadCondition(f"{text!r} can never be met: {low} lies above {high}")


def implies(one: Condition, other: Condition, by: Comparer) -> bool:
    """Whether all that meet one surely meet the other: each choice lies in a range of that."""
    if one.same or other.same:
        return False
    return all(any(_within(choice, of, by) for of in other.choices) for choice in one.choices)


def _within(inner: Sequence[Comparison], outer: Sequence[Comparison], by: Comparer) -> bool:
    for bound in outer:
        ends = [
            one
            for one in inner
            if one.operator == "="
            or (bound.operator in (">", ">=") and one.operator in (">", ">="))
            or (bound.operator in ("<", "<=") and one.operator in ("<", "<="))
        ]
        if not any(_end_within(end, bound, by) for end in ends):
            return False
    return True


def _end_within(end: Comparison, bound: Comparison, by: Comparer) -> bool:
    if bound.holds(by.parse(end.text), by):
        return True
    # '>9' lies in '>9', whose own end does not.
    return (
        end.operator == bound.operator
        and by.compare(by.parse(end.text), by.parse(bound.text)) == 0
    )
