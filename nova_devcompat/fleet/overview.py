# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A whole fleet as one picture: every kind of guest against every kind of host, cell by cell.

It is filled from :class:`~nova_devcompat.fleet.outlook.Outlook`, so a cloud and an inventory make
the same picture by the same verdicts. Guests that need the same, and hosts that accept the same,
are held together: the picture grows with how mixed a fleet is, and only by a line each with how
large it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.ruling import Guest
from nova_devcompat.compat.verdict import DOUBTS, Reason
from nova_devcompat.fleet.causes import cause_of, remedy_of
from nova_devcompat.fleet.model import Alike, Host, Place
from nova_devcompat.fleet.nearness import distance
from nova_devcompat.fleet.outlook import Kind, Outlook, Standing

if TYPE_CHECKING:
    # It needs Nova, and what is asked of an inventory does not.
    from nova_devcompat.fleet.room import Room

#: What a host says to a guest, worst last.
TAKES, REPORTS, DOUBTS_IT, REFUSES = "takes", "reports", "unknown", "refuses"

#: A fact about hosts or guests: family, attribute, and the value as an operator reads it.
Fact = tuple[str, str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What hosts that are alike say to guests that are alike.

    :param refused: why they refuse
    :param reported: what is only reported
    :param untold: why they may yet refuse what they let pass: only they themselves can tell
    """

    refused: tuple[Reason, ...] = ()
    reported: tuple[Reason, ...] = ()
    untold: tuple[Reason, ...] = ()

    @property
    def says(self) -> str:
        """In a word."""
        if self.untold and not self.refused:
            return DOUBTS_IT
        if not self.refused:
            return REPORTS if self.reported else TAKES
        return DOUBTS_IT if all(one.code in DOUBTS for one in self.refused) else REFUSES

    @property
    def against(self) -> tuple[Reason, ...]:
        """What stands against the guests, or may."""
        return self.refused or self.untold

    @classmethod
    def of(cls, outlook: Outlook, kind: Kind, host: Host) -> Answer:
        """What a host says to guests of a kind."""
        ruling = outlook.rule(kind, host)
        untold = outlook.untold(kind, host) if ruling.accepts else ()
        return cls(ruling.refused, ruling.reported, untold)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HostGroup:
    """Hosts that accept the same.

    :param hosts: their numbers in :attr:`CellView.hosts`
    :param offers: what they have
    :param problem: why nothing is known of them; None where something is
    """

    hosts: tuple[int, ...]
    offers: tuple[Fact, ...] = ()
    problem: Reason | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GuestGroup:
    """Guests that need the same.

    :param needs: what that is
    :param doubts: what of it is not known
    :param answers: for each group of hosts, the number of the answer in :attr:`CellView.answers`
    """

    needs: tuple[Fact, ...]
    doubts: tuple[Reason, ...]
    answers: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class GuestView:
    """A guest.

    :param name: its UUID, or what stands for it on paper
    :param host: the number of its host in :attr:`CellView.hosts`; -1 where that is not known
    :param group: the number of its group
    :param standing: how few hosts take it; None where two others do
    :param cause: the number of the cause in :attr:`Overview.causes`; None without one
    """

    name: str
    host: int
    group: int
    standing: Standing | None
    cause: int | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CellView:
    """A cell, of which no guest is live migrated to another.

    :param name: of the cell
    :param hosts: its hosts, sorted by name
    :param down: those whose nova-compute is down, by number
    :param groups: its hosts by what they accept
    :param kinds: its guests by what they need
    :param answers: the unlike answers, the nearest miss first
    :param guests: those that a host can object to
    :param others: how many guests there are besides, which every host takes
    """

    name: str
    hosts: tuple[Place, ...]
    down: Mapping[int, str]
    groups: tuple[HostGroup, ...]
    kinds: tuple[GuestGroup, ...]
    answers: tuple[Answer, ...]
    guests: tuple[GuestView, ...]
    others: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """Why guests are stranded, and what to do about it.

    :param standing: how few hosts take them
    :param cause: what stands against the hosts that come nearest
    :param remedy: what to do
    :param families: that it concerns, or of which the guests need something
    :param guests: how many there are
    """

    standing: Standing
    cause: str
    remedy: str
    families: tuple[str, ...]
    guests: int


@dataclasses.dataclass(slots=True)
class Overview:
    """The picture.

    :param cells: those that were added
    :param causes: of all cells, in no order: guests name them by number
    """

    cells: list[CellView] = dataclasses.field(default_factory=list)
    causes: list[Cause] = dataclasses.field(default_factory=list)

    @property
    def guests(self) -> int:
        """How many guests run."""
        return sum(len(cell.guests) + cell.others for cell in self.cells)

    @property
    def hosts(self) -> int:
        """How many hosts there are."""
        return sum(len(cell.hosts) for cell in self.cells)

    def with_standing(self, standing: Standing | None) -> int:
        """How many guests have as few hosts; None for those that have two others or more."""
        if standing is None:
            return self.guests - sum(cause.guests for cause in self.causes)
        return sum(cause.guests for cause in self.causes if cause.standing is standing)

    def add(self, name: str, outlook: Outlook, room: Room | None = None) -> None:
        """Add a cell.

        :param room: which devices are free; None to count no devices
        """
        first = len(self.causes)
        causes: dict[tuple[Standing, str, str], _Counted] = {}
        found: dict[str, tuple[Standing, int]] = {}
        for one in outlook.findings(room):
            key = one.standing, cause_of(one), remedy_of(one)
            counted = causes.setdefault(key, _Counted(first + len(causes)))
            counted.guests += 1
            counted.families |= one.families | {reason.family for reason in one.reasons}
            found[one.guest.uuid] = one.standing, counted.number
        self.cells.append(_cell(name, outlook, found))
        for (standing, cause, remedy), counted in causes.items():
            families = tuple(sorted(counted.families - {""}))
            self.causes.append(
                Cause(
                    standing=standing,
                    cause=cause,
                    remedy=remedy,
                    families=families,
                    guests=counted.guests,
                )
            )


@dataclasses.dataclass(slots=True)
class _Counted:
    """Guests of a cause."""

    number: int
    guests: int = 0
    families: set[str] = dataclasses.field(default_factory=set)


def _cell(name: str, outlook: Outlook, found: Mapping[str, tuple[Standing, int]]) -> CellView:
    places = tuple(sorted(host.place for host in outlook.all_hosts))
    numbers = {place: number for number, place in enumerate(places)}
    alike = sorted(outlook.alike, key=lambda one: (-len(one.places), min(one.places)))
    answers, rows = _answers(outlook, alike)
    return CellView(
        name=name,
        hosts=places,
        down={numbers[host.place]: host.down for host in outlook.all_hosts if host.down},
        groups=tuple(_group(one, numbers) for one in alike),
        kinds=tuple(
            GuestGroup(
                needs=_needs(kind.guest),
                doubts=tuple(doubt.reason for doubt in kind.guest.doubts),
                answers=row,
            )
            for kind, row in zip(outlook.kinds, rows, strict=True)
        ),
        answers=answers,
        guests=tuple(_guests(outlook.kinds, numbers, found)),
        others=outlook.guests - sum(len(kind.running) for kind in outlook.kinds),
    )


def _guests(
    kinds: Sequence[Kind],
    numbers: Mapping[Place, int],
    found: Mapping[str, tuple[Standing, int]],
) -> Iterable[GuestView]:
    for group, kind in enumerate(kinds):
        for guest in kind.running:
            standing, cause = found.get(guest.uuid, (None, None))
            yield GuestView(guest.uuid, numbers.get(guest.place, -1), group, standing, cause)


def _answers(
    outlook: Outlook, alike: Sequence[Alike]
) -> tuple[tuple[Answer, ...], list[tuple[int, ...]]]:
    """The unlike answers, the nearest miss first, and for each kind of guest their numbers."""
    met: dict[Answer, int] = {}
    rows = []
    for kind in outlook.kinds:
        row = (Answer.of(outlook, kind, one.host) for one in alike)
        rows.append([met.setdefault(answer, len(met)) for answer in row])
    answers = list(met)
    order = sorted(range(len(answers)), key=lambda number: _nearness(answers[number]))
    rank = {number: place for place, number in enumerate(order)}
    return tuple(answers[n] for n in order), [tuple(rank[n] for n in row) for row in rows]


def _nearness(answer: Answer) -> tuple[object, ...]:
    return (
        bool(answer.refused),
        distance(answer.against),
        len(answer.reported),
        str(answer),
    )


# --- what is told of hosts and guests ------------------------------------------------------------


def _group(alike: Alike, numbers: Mapping[Place, int]) -> HostGroup:
    host = alike.host
    return HostGroup(
        hosts=tuple(sorted(numbers[place] for place in alike.places)),
        offers=tuple(dict.fromkeys(_offers(host))),
        problem=host.problem,
    )


def _offers(host: Host) -> Iterable[Fact]:
    for accepts in sorted(host.parts, key=lambda part: part.family):
        for attribute, entry in sorted(accepts.attributes.items()):
            offered = entry.offered or (entry.unknown[0] if entry.unknown else "")
            if offered:
                yield accepts.family, attribute, offered
    if host.document is not None:
        for family, why in sorted(host.document.unreadable.items()):
            yield family, "", why


def _needs(guest: Guest) -> tuple[Fact, ...]:
    record = guest.record.devices if isinstance(guest.record, Need) else ()
    facts = [fact for part in record for fact in _values(part, "")]
    facts += [fact for part in guest.pins.devices for fact in _values(part, "pinned ")]
    return tuple(dict.fromkeys(facts))


def _values(part: DeviceNeed, how: str) -> Iterable[Fact]:
    for attribute, listed in part.values:
        value = "unknown" if listed is None else ", ".join(sorted(listed)) or "nothing"
        yield part.family, attribute, f"{how}{value}"
