# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The page that shows a fleet: one HTML file that asks nothing of any network."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2

from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.fleet.outlook import NO_FREE_DEVICE, Standing
from nova_devcompat.fleet.overview import CellView, Fact, GuestGroup, HostGroup, Overview
from nova_devcompat.kit.text import printable

MANUAL = "https://opendev.org/openstack/nova-devcompat/src/branch/master/doc/source/messages.rst"

#: In the order of the page's own list.
_STANDINGS: tuple[Standing | None, ...] = (
    Standing.NOWHERE,
    Standing.ONLY_HERE,
    Standing.ONE_LEFT,
    Standing.UNKNOWN,
    None,
)
_KEYS = {
    Standing.NOWHERE: "nowhere",
    Standing.ONLY_HERE: "only-here",
    Standing.ONE_LEFT: "one-left",
    Standing.UNKNOWN: "unknown",
    None: "two",
}
_LABELS = {
    Standing.NOWHERE: "nowhere",
    Standing.ONLY_HERE: "only here",
    Standing.ONE_LEFT: "one other left",
    Standing.UNKNOWN: "not known",
    None: "two others or more",
}
_TOLD = {
    Standing.NOWHERE: "no host takes them, not even their own",
    Standing.ONLY_HERE: "only their own host takes them",
    Standing.ONE_LEFT: "when that is upgraded, none does",
    Standing.UNKNOWN: "only the hosts themselves can tell whether they take them",
    None: "free to go",
}

# Rows of causes, characters of a text, and values of a fact, at most.
_CAUSES = 12
_TEXT = 1_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What the page says of itself.

    :param title: what the fleet is
    :param when: it was looked at, in UTC
    :param digest: of the catalog
    :param version: of nova-devcompat
    :param noun: what its guests are called: the page of an inventory has none that run
    :param not_judged: what was not looked at
    :param incomplete: what could not be asked
    :param aggregates: names of hosts by name of aggregate
    """

    title: str
    when: datetime.datetime
    digest: str
    version: str
    noun: str
    not_judged: Sequence[str]
    incomplete: Sequence[str] = ()
    aggregates: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)


def render(overview: Overview, head: Head) -> str:
    """The page as a text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nova_devcompat.cli", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    style, script = _own_file("page.css"), _own_file("page.js")
    causes = _ranked(overview)
    data = Data(overview, head.aggregates)
    return environment.get_template("page.html").render(
        **_summary(overview, head),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        causes=causes[:_CAUSES],
        more_causes=len(causes) - _CAUSES if len(causes) > _CAUSES else 0,
        reasons=data.glossary(),
        manual=MANUAL,
        data=data.document(),
    )


def _own_file(name: str) -> str:
    return resources.files("nova_devcompat.cli").joinpath("templates", name).read_text("utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# --- the summary, which needs no script ----------------------------------------------------------


def _summary(overview: Overview, head: Head) -> dict[str, Any]:
    counts = {one: overview.with_standing(one) for one in _STANDINGS}
    stuck = counts[Standing.NOWHERE] + counts[Standing.ONLY_HERE]
    return {
        "title": _text(head.title),
        "when": f"{head.when:%Y-%m-%d %H:%M} UTC",
        "digest": head.digest,
        "version": head.version,
        "noun": head.noun,
        "guests": _count(overview.guests),
        "movable": _count(overview.guests - stuck - counts[Standing.UNKNOWN]),
        "stuck": _count(stuck) if stuck else "",
        "untold": _count(counts[Standing.UNKNOWN]) if counts[Standing.UNKNOWN] else "",
        "bar": _bar(counts, overview.guests),
        "standings": [
            {
                "key": _KEYS[one],
                "icon": "takes" if one is None else _KEYS[one],
                "label": _LABELS[one],
                "told": _TOLD[one],
                "count": _count(counts[one]),
            }
            for one in reversed(_STANDINGS)
        ],
        "hosts": _count(overview.hosts),
        "hosts_told": _of_hosts(overview),
        "not_judged": "; ".join(head.not_judged),
        "incomplete": [_text(one) for one in head.incomplete],
    }


def _bar(counts: Mapping[Standing | None, int], total: int) -> list[dict[str, Any]]:
    """Widths out of 1,000; what there is at all can be seen."""
    parts = [(_KEYS[one], counts[one]) for one in reversed(_STANDINGS) if counts[one]]
    widths = [max(6.0, 1000 * count / total) for _, count in parts]
    scale = 1000 / sum(widths) if widths else 1
    starts = itertools.accumulate((width * scale for width in widths), initial=0.0)
    return [
        {"key": key, "x": f"{x:.1f}", "width": f"{width * scale:.1f}"}
        for (key, _), width, x in zip(parts, widths, starts, strict=False)
    ]


def _of_hosts(overview: Overview) -> str:
    silent = sum(
        len(group.hosts) for cell in overview.cells for group in cell.groups if group.problem
    )
    down = sum(len(cell.down) for cell in overview.cells)
    kinds = sum(len(cell.groups) for cell in overview.cells)
    parts = [f"of {_count(kinds)} kinds"]
    parts += [f"{_count(silent)} of which nothing is known"] if silent else []
    parts += [f"{_count(down)} down"] if down else []
    return ", ".join(parts)


def _ranked(overview: Overview) -> list[dict[str, Any]]:
    """The causes as rows, the worst first, and of these those that concern most guests."""
    order = {one: place for place, one in enumerate(_STANDINGS)}
    ranked = sorted(
        enumerate(overview.causes), key=lambda item: (order[item[1].standing], -item[1].guests)
    )
    return [
        {
            "number": number,
            "guests": _count(cause.guests),
            "key": _KEYS[cause.standing],
            "icon": _KEYS[cause.standing],
            "label": _LABELS[cause.standing],
            "remedy": _text(cause.remedy),
            "cause": _text(cause.cause),
        }
        for number, cause in ranked
    ]


# --- what the script shows -----------------------------------------------------------------------


class Data:
    """The fleet as JSON, in which what recurs stands once and is named by its number.

    :param overview: the fleet
    :param aggregates: names of hosts by name of aggregate
    """

    def __init__(self, overview: Overview, aggregates: Mapping[str, frozenset[str]]) -> None:
        self._overview = overview
        self._aggregates = aggregates
        self._facts: dict[Fact, int] = {}
        self._reasons: dict[Reason, int] = {}
        self._cells = [self._cell(cell) for cell in overview.cells]

    def document(self) -> dict[str, Any]:
        """It all."""
        families = {family for family, _, _ in self._facts}
        families |= {family for cause in self._overview.causes for family in cause.families}
        return {
            "standings": {_KEYS[one]: _LABELS[one] for one in _STANDINGS},
            "cells": self._cells,
            "facts": self._told_facts(),
            "reasons": [_told(reason) for reason in self._reasons],
            "families": sorted(map(_text, families)),
            "causes": [
                {"remedy": _text(cause.remedy), "guests": cause.guests}
                for cause in self._overview.causes
            ],
            "codes": sorted(one["code"] for one in self.glossary()),
        }

    def glossary(self) -> list[dict[str, str]]:
        """What the codes mean that the page has; all of ours where it has none."""
        ours = {value: value for name, value in vars(Code).items() if name.isupper()}
        used = {reason.code for reason in self._reasons} & ours.keys() or ours.keys()
        found = [Reason(code=code, actor=Actor.HOST) for code in ours if code in used]
        return [
            {"code": one.code, "meaning": one.meaning, "remedy": one.remedy("the host")}
            for one in found
        ]

    def _cell(self, cell: CellView) -> dict[str, Any]:
        names = {place.host: number for number, place in enumerate(cell.hosts)}
        return {
            "name": _text(cell.name),
            "hosts": [_place(place.host, place.node) for place in cell.hosts],
            "down": {str(number): 1 for number in cell.down},
            "aggregates": self._aggregates_of(names),
            "groups": [self._group(group) for group in cell.groups],
            "kinds": [self._kind(kind) for kind in cell.kinds],
            "answers": [
                [answer.says, self._numbers(answer.against), self._numbers(answer.reported)]
                for answer in cell.answers
            ],
            "guests": {
                "name": [_text(guest.name) for guest in cell.guests],
                "host": [guest.host for guest in cell.guests],
                "kind": [guest.group for guest in cell.guests],
                "standing": [_STANDINGS.index(guest.standing) for guest in cell.guests],
                "cause": [-1 if guest.cause is None else guest.cause for guest in cell.guests],
            },
            "others": cell.others,
        }

    def _aggregates_of(self, names: Mapping[str, int]) -> list[list[Any]]:
        found = [
            [_text(name), sorted(names[host] for host in hosts if host in names)]
            for name, hosts in sorted(self._aggregates.items())
        ]
        return [one for one in found if one[1]]

    def _group(self, group: HostGroup) -> dict[str, Any]:
        told: dict[str, Any] = {"h": group.hosts, "o": [self._fact(one) for one in group.offers]}
        if group.problem is not None:
            told["p"] = self._number(group.problem)
        return told

    def _kind(self, kind: GuestGroup) -> dict[str, Any]:
        return {
            "n": [self._fact(one) for one in kind.needs],
            "d": self._numbers(kind.doubts),
            "r": _runs(kind.answers),
        }

    def _fact(self, fact: Fact) -> int:
        return self._facts.setdefault(fact, len(self._facts))

    def _numbers(self, reasons: Iterable[Reason]) -> list[int]:
        return [self._number(reason) for reason in reasons]

    def _number(self, reason: Reason) -> int:
        return self._reasons.setdefault(reason, len(self._reasons))

    def _told_facts(self) -> list[list[Any]]:
        """Each with whether others have another value, so that it tells them apart."""
        values: dict[tuple[str, str], set[str]] = {}
        for family, attribute, value in self._facts:
            values.setdefault((family, attribute), set()).add(value)
        return [
            [*map(_text, fact), int(len(values[fact[0], fact[1]]) > 1)] for fact in self._facts
        ]


def _runs(numbers: Iterable[int]) -> list[int]:
    """Numbers, each followed by how often it recurs."""
    told = []
    for number, alike in itertools.groupby(numbers):
        told += [number, sum(1 for _ in alike)]
    return told


def _told(reason: Reason) -> dict[str, str]:
    return {
        "subject": _text(reason.subject),
        "family": _text(reason.family),
        "code": _text(reason.code),
        "meaning": reason.meaning if reason != NO_FREE_DEVICE else "",
        "needed": _text(reason.needed),
        "offered": _text(reason.offered),
        "detail": _text(reason.detail),
        "actor": reason.actor,
        "remedy": reason.remedy("the host"),
    }


def _place(host: str, node: str) -> str:
    return _text(host if host == node else f"{host} ({node})")


def _text(text: str) -> str:
    """What may come from others: printable, so that nothing turns the direction of writing."""
    return printable(text, _TEXT)


def _count(count: int) -> str:
    return f"{count:,}"
