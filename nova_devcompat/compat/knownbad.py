# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Known-bad pairs: what the rules accept and the field knows not to work.

An entry is about one attribute of the guest and any of the host. Each host holds the entries
against its own attributes, and takes out of its accept-set what is left of them: conditions on
what a guest needs (:class:`Bad`). An entry of which it cannot be told whether it concerns the host
makes what it names UNKNOWN there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.conditions import COMPARERS, Comparer, Condition, all_of, any_of

# A host has few devices that are unlike, and evaluates few values.
_MOST_REMEMBERED = 4_096


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Bad:
    """What a host is known not to take, of one attribute of guests.

    :param name: of the entry
    :param message: what goes wrong
    :param url: who says so
    :param condition: on the value that the guest needs
    :param by: the name of what compares such values
    :param equal: the value must be this one, too; '' where that is not asked
    :param certain: whether the entry is known to concern the host
    """

    name: str
    message: str
    url: str
    condition: Condition
    by: str
    equal: str = ""
    certain: bool = True

    def matches(self, value: str) -> bool | None:
        """Whether it is about a value that a guest needs; None where that cannot be told."""
        by = COMPARERS[self.by]
        answers = [self.condition.holds(value, by)]
        if self.equal:
            answers.append(_equal(value, self.equal, by))
        return all_of(answers)

    @property
    def detail(self) -> str:
        """It in a line."""
        if not self.message:
            return self.name  # there was no room for more in what the host published
        return f"{self.name}: {self.message} ({self.url})"


def _equal(value: str, other: str, by: Comparer) -> bool | None:
    try:
        compared = by.compare(by.parse(value), by.parse(other))
    except Unreadable:
        return None
    return None if compared is None else compared == 0


# What stands for a value that was not looked up yet.
_NOT_LOOKED: Any = object()


@dataclasses.dataclass(frozen=True, slots=True)
class Bads:
    """What a host is known not to take of one attribute. Answers are remembered.

    :param entries: in order
    """

    entries: tuple[Bad, ...] = ()
    _found: dict[str, tuple[Bad, bool] | None] = dataclasses.field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def __bool__(self) -> bool:
        return bool(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def without_words(self) -> Bads:
        """The same with nothing said of what goes wrong and who says so."""
        return Bads(tuple(dataclasses.replace(bad, message="", url="") for bad in self.entries))

    def match(self, value: str) -> tuple[Bad, bool] | None:
        """The entry that a value falls under, and whether that is certain; None for no entry.

        A certain one comes before those of which it cannot be told.
        """
        if not self.entries:
            return None
        found: tuple[Bad, bool] | None = self._found.get(value, _NOT_LOOKED)
        if found is _NOT_LOOKED:
            found = _first(self.entries, value)
            if len(self._found) >= _MOST_REMEMBERED:
                self._found.clear()
            self._found[value] = found
        return found


NONE_BAD = Bads()


def _first(bads: Iterable[Bad], value: str) -> tuple[Bad, bool] | None:
    doubtful = None
    for bad in bads:
        matches = bad.matches(value)
        if matches and bad.certain:
            return bad, True
        if matches is not False and doubtful is None:
            doubtful = bad
    return None if doubtful is None else (doubtful, False)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What is asked of one attribute of the host.

    :param attribute: its name
    :param condition: on its value
    :param by: the name of what compares such values
    """

    attribute: str
    condition: Condition
    by: str

    def holds(self, values: tuple[str, ...] | None) -> bool | None:
        """Whether the host has such a value; None where that cannot be told.

        :param values: those that it has of the attribute, None where they are not known
        """
        if values is None:
            return None
        by = COMPARERS[self.by]
        return any_of(self.condition.holds(value, by) for value in values)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class KnownBad:
    """An entry of a list.

    :param name: what logs, reasons and accepted risks call it
    :param need: the attribute of the guest
    :param condition: on its value
    :param by: the name of what compares such values
    :param offer: what is asked of the host, all of it
    :param until: what ends it on a host, all of it; empty for nothing
    :param message: what goes wrong
    :param url: who says so
    """

    name: str
    need: str
    condition: Condition
    by: str
    offer: tuple[Asked, ...]
    until: tuple[Asked, ...] = ()
    message: str
    url: str

    def on(self, facts: Mapping[str, tuple[str, ...] | None]) -> Bad | None:
        """What of it concerns a host; None for nothing.

        :param facts: the host's attributes, as :func:`values_of` has them
        """
        if self.until and all_of(one.holds(facts.get(one.attribute)) for one in self.until):
            return None
        equal, known = "", True
        answers: list[bool | None] = []
        for one in self.offer:
            values = facts.get(one.attribute)
            if not one.condition.same:
                answers.append(one.holds(values))
            elif values is not None and len(values) == 1:
                equal = values[0]
            else:
                known = False  # what the host has itself is not known, or is several things
        concerned = all_of(answers)
        if concerned is False:
            return None
        return Bad(
            name=self.name,
            message=self.message,
            url=self.url,
            condition=self.condition,
            by=self.by,
            equal=equal,
            certain=bool(concerned) and known,
        )


def values_of(raw: object) -> tuple[str, ...] | None:
    """The values of a host's attribute that conditions are held against.

    Of a list each item; of a range, and of a version with what it accepts, its newest or its own.

    :returns: None where they cannot be told, or not all of them
    """
    if isinstance(raw, list | tuple):
        texts = [_text(item) for item in raw]
        return None if None in texts else tuple(text for text in texts if text is not None)
    if isinstance(raw, Mapping):
        own = next((raw[key] for key in ("version", "max") if isinstance(raw.get(key), str)), None)
        return None if own is None else (own,)
    text = _text(raw)
    return None if text is None else (text,)


def _text(raw: object) -> str | None:
    if isinstance(raw, str):
        return raw.strip() or None
    return str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else None


_NOTHING: Mapping[str, Bads] = MappingProxyType({})


@dataclasses.dataclass(frozen=True, slots=True)
class KnownBads:
    """The entries about one family.

    What concerns a host is remembered by what it is asked, so that nothing is compared again while
    nothing changes.

    :param entries: in order
    """

    entries: tuple[KnownBad, ...] = ()
    #: The attributes of hosts that they ask for.
    asked: tuple[str, ...] = dataclasses.field(init=False, compare=False)
    #: The attributes of guests that they are about.
    needs: frozenset[str] = dataclasses.field(init=False, compare=False)
    _known: dict[tuple[object, ...], Mapping[str, Bads]] = dataclasses.field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        asked = {one.attribute for entry in self.entries for one in (*entry.offer, *entry.until)}
        object.__setattr__(self, "asked", tuple(sorted(asked)))
        object.__setattr__(self, "needs", frozenset(entry.need for entry in self.entries))

    def on(self, attributes: Mapping[str, object]) -> Mapping[str, Bads]:
        """What concerns a host or a device, by the attribute of the guest."""
        if not self.entries:
            return _NOTHING
        key = tuple(values_of(attributes.get(name)) for name in self.asked)
        # Found before it is looked at whether there is room: other threads may clear it.
        known = self._known.get(key)
        if known is None:
            known = self._on(dict(zip(self.asked, key, strict=True)))
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = known
        return known

    def _on(self, facts: Mapping[str, tuple[str, ...] | None]) -> Mapping[str, Bads]:
        found: dict[str, list[Bad]] = {}
        for entry in self.entries:
            bad = entry.on(facts)
            if bad is not None:
                found.setdefault(entry.need, []).append(bad)
        return {need: Bads(tuple(bads)) for need, bads in found.items()}
