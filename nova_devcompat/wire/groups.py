# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading what a host says of a group of devices, which is the same in all formats."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from nova_devcompat.compat.accepts import AcceptSet, Evaluation
from nova_devcompat.compat.conditions import COMPARERS, BadCondition, parse_condition
from nova_devcompat.compat.knownbad import Bad, Bads
from nova_devcompat.compat.runs import check_run
from nova_devcompat.compat.verdict import Actor, Code
from nova_devcompat.kit.text import printable
from nova_devcompat.wire import checks
from nova_devcompat.wire.checks import Malformed


def policies_of(content: object) -> dict[str, str] | None:
    """What the host makes of verdicts; None where that cannot be told, which decides nothing."""
    with contextlib.suppress(Malformed):
        told = {
            checks.text_of(key, "m", empty=True): checks.text_of(text, "m")
            for key, text in checks.mapping_of(content, "m", checks.MOST_VALUES).items()
        }
        return told if "" in told else None
    return None


def reads_of(content: object) -> int:
    """The last format that the host reads; 1 where that cannot be told, which decides nothing."""
    if isinstance(content, int) and not isinstance(content, bool) and 0 < content < 1_000:
        return content
    return 1


def post_copy_of(content: object) -> bool | None:
    """Whether the host permits post-copy; None where that cannot be told."""
    return content if isinstance(content, bool) else None


def functions_of(content: object, place: str) -> dict[str, tuple[str, ...]]:
    """The runs of functions that are devices of their own, by the address of their parent."""
    return {
        parent: runs_of(listed, place)
        for parent, listed in checks.mapping_of(content, place, checks.MOST_DEVICES).items()
    }


def runs_of(content: object, place: str) -> tuple[str, ...]:
    """Runs of functions."""
    runs = [
        checks.address_of(run, place)
        for run in checks.list_of(content, place, checks.MOST_DEVICES)
    ]
    try:
        return tuple(map(check_run, runs))
    except ValueError as error:
        raise Malformed(place, str(error)) from None


def family_of(group: object) -> str:
    """The family of a group that cannot be read, '' where not even that can."""
    with contextlib.suppress(Malformed):
        return checks.name_of(checks.member_at_all(group, "f"), "")
    return ""


def load_accepts(family: object, rules: object, place: str) -> AcceptSet:
    """An accept-set. An attribute that cannot be read is unknown; the others are not."""
    at = f"{place}.r"
    return AcceptSet(
        family=checks.name_of(family, f"{place}.f"),
        attributes={
            checks.name_of(name, at): _load_attribute(entry, name)
            for name, entry in checks.mapping_of(rules, at, checks.MOST_ATTRIBUTES).items()
        },
    )


def _load_attribute(content: object, place: str) -> Evaluation:
    """What an attribute accepts; one that cannot be read is unknown, the others are not.

    :param place: within the family, since hosts that say the same share it
    """
    try:
        return _read_attribute(checks.object_of(content, place), place)
    except Malformed as error:
        return Evaluation(unknown=(Code.HOST_UNREADABLE, printable(str(error))))


def _read_attribute(entry: Mapping[str, Any], place: str) -> Evaluation:
    kind = checks.text_of(checks.member(entry, "k", place), f"{place}.k", empty=True)
    if "u" in entry:
        return Evaluation(kind=kind, unknown=_read_unknown(entry["u"], f"{place}.u"))
    accepted = frozenset(checks.readable_texts_of(entry.get("y", []), f"{place}.y"))
    rejected = _read_causes(entry.get("n", {}), f"{place}.n")
    doubtful = _read_causes(entry.get("d", {}), f"{place}.d")
    for key, values in (("n", rejected), ("d", doubtful)):
        if both := accepted & values.keys():
            why = f"{checks.shown(min(both))} is said to be accepted as well"
            raise Malformed(f"{place}.{key}", why)
    return Evaluation(
        kind=kind,
        offered=checks.text_of(checks.member(entry, "o", place), f"{place}.o", empty=True),
        accepted=accepted,
        rejected=rejected,
        doubtful=doubtful,
        open_world=checks.flag_of(entry.get("a", False), f"{place}.a"),
        frozen=frozenset(checks.texts_of(entry["z"], f"{place}.z")) if "z" in entry else None,
        bad=Bads(
            tuple(
                _read_bad(checks.object_of(item, f"{place}.b"), f"{place}.b")
                for item in checks.list_of(entry.get("b", []), f"{place}.b", checks.MOST_VALUES)
            )
        ),
    )


def _read_bad(entry: Mapping[str, Any], place: str) -> Bad:
    """An entry of a known-bad list. One that cannot be read makes the attribute UNKNOWN."""

    def text(key: str, *, empty: bool = False) -> str:
        return checks.text_of(checks.member(entry, key, place), f"{place}.{key}", empty=empty)

    by = COMPARERS.get(text("o"))
    if by is None:
        raise Malformed(f"{place}.o", f"{checks.shown(entry['o'])} compares nothing")
    try:
        condition = parse_condition(checks.texts_of(entry.get("c"), f"{place}.c"), by)
    except BadCondition as error:
        raise Malformed(f"{place}.c", str(error)) from None
    return Bad(
        name=text("i"),
        message=text("m", empty=True),
        url=text("l", empty=True),
        condition=condition,
        by=by.name,
        equal=text("e") if "e" in entry else "",
        certain=not checks.flag_of(entry.get("x", False), f"{place}.x"),
    )


def _read_causes(content: object, place: str) -> dict[str, tuple[str, Actor]]:
    """Values, each with why it is not accepted."""
    found: dict[str, tuple[str, Actor]] = {}
    for cause, values in checks.mapping_of(content, place, checks.MOST_VALUES).items():
        code, _, actor = cause.partition(" ")
        why = checks.code_of(code, place), checks.actor_of(actor, place)
        found.update(dict.fromkeys(checks.readable_texts_of(values, place), why))
    return found


def _read_unknown(content: object, place: str) -> tuple[str, str]:
    listed = checks.list_of(content, place, 2)
    if len(listed) != 2:
        raise Malformed(place, "no code and detail")
    code, detail = listed
    return checks.code_of(code, place), checks.text_of(detail, place, empty=True)
