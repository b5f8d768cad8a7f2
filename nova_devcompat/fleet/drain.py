# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Whether all guests of some hosts could be live migrated away now, at the same time."""

from __future__ import annotations

import dataclasses
import enum
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nova_devcompat.fleet.answers import Answer, Says
from nova_devcompat.fleet.assignment import Option, assign
from nova_devcompat.fleet.counting import shown
from nova_devcompat.fleet.destinations import Destination, Destinations
from nova_devcompat.fleet.explain import Explain
from nova_devcompat.fleet.model import Place
from nova_devcompat.fleet.shares import Shares
from nova_devcompat.kit.progress import Track, untracked
from nova_devcompat.scheduler import preview
from nova_devcompat.scheduler.state import SchedulerState
from nova_devcompat.stores.cells import Refused, brief, instances, label_of

LOG = logging.getLogger(__name__)

#: What is not looked at beside what explain does not judge.
NOT_JUDGED = (
    "which CPUs, NUMA nodes and huge pages are left once others have gone to the same host",
    "filters that count what others bring to a host, such as NumInstancesFilter",
)

# Hosts that a reason names, at most.
_NAMED = 3


class Result(enum.StrEnum):
    """What becomes of a guest if its host is drained."""

    #: It has a place, beside all others that leave.
    LEAVES = "leaves"
    #: The same on a host that may yet refuse it: only the host itself can tell.
    MAY_LEAVE = "may leave"
    #: No host takes it, whether others leave or not.
    STAYS = "stays"
    #: Hosts take it, and it is known that not all guests have a place at the same time.
    NO_ROOM = "no room"
    #: Hosts take it, and no way was found to place all at the same time; there may be one.
    NOT_FOUND = "not found"
    #: Nobody could tell.
    UNKNOWN = "unknown"


# Which rows come after those of guests that stay.
_LAST = {Result.MAY_LEAVE: 1, Result.LEAVES: 2}


class Row(NamedTuple):
    """A guest of a host that is to be drained.

    :param instance: its UUID
    :param host: where it is
    :param result: whether it can leave
    :param destination: a host for it, so that all that can leave have one at the same time
    :param why: what stands against it, on the host that comes nearest to taking it; of one that
        may leave, why its destination's word is not known
    :param act: who can change that
    """

    instance: str
    host: str
    result: Result
    destination: str
    why: str
    act: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Guest:
    """A guest, and where it could go by itself.

    :param uuid: of its instance
    :param host: where it is
    :param options: the ways to place it
    :param doubts: why the word of a host is not known, of those that are among these
    :param result: where there are none, what that comes to
    :param why: and why
    :param act: and who can change that
    """

    uuid: str
    host: str
    options: tuple[Option, ...] = ()
    doubts: Mapping[Place, Answer] = dataclasses.field(default_factory=dict)
    result: Result = Result.STAYS
    why: str = ""
    act: str = ""


class Drain:
    """Asks about all guests of some hosts.

    :param destinations: the hosts that can be asked about
    :param state: what nova-scheduler would decide by
    :param hosts: those that are to be drained; none of them is a destination
    :param track: follows the guests that are asked about
    :raises BadRequest: there is no such host
    :raises Refused: the API database does not answer
    """

    def __init__(
        self,
        destinations: Destinations,
        state: SchedulerState,
        hosts: Sequence[str],
        track: Track = untracked,
    ) -> None:
        self._destinations = destinations
        self._cells = destinations.cells
        self._state = state
        self._hosts = list(dict.fromkeys(hosts))
        self._track = track
        self._cell_of = {host: self._cells.select(host=host)[0] for host in self._hosts}
        #: What was not judged, each in a few words.
        self.not_judged: list[str] = []

    def rows(self) -> list[Row]:
        """A row for each guest: those that stay first, then those that may leave, then those that
        do, host by host.
        """
        found: list[Row] = []
        cells = {label_of(cell): cell for cell in self._cell_of.values()}
        for cell in cells.values():
            shares = Shares()
            guests = list(self._guests(cell, shares))
            assigned = assign(
                [[shares.complete(one) for one in guest.options] for guest in guests], shares.free
            )
            for guest, chosen in zip(guests, assigned.chosen, strict=True):
                found.append(_row(guest, chosen, certain=assigned.certain))
        self.not_judged += NOT_JUDGED
        order = self._hosts.index
        return sorted(found, key=lambda row: (_LAST.get(row.result, 0), order(row.host)))

    def _guests(self, cell: Any, shares: Shares) -> Iterator[_Guest]:
        known: list[Destination] | None = None
        for host in self._hosts:
            if label_of(self._cell_of[host]) != label_of(cell):
                continue
            there = self._cells.each([cell], functools.partial(_on, host=host))
            found = list(there)
            for instance in self._track(found, f"Servers of {host} asked about", len(found)):
                if known is None:
                    known = [
                        one
                        for one in self._destinations.of([cell])
                        if one.node.host not in self._cell_of
                    ]
                yield self._guest(instance, cell, known, shares)

    def _guest(
        self, instance: Any, cell: Any, known: Sequence[Destination], shares: Shares
    ) -> _Guest:
        try:
            asked = Explain(self._destinations, self._state, instance, cell)
            answers = asked.judge(known)
        except Exception as error:  # the others are asked about all the same
            why = str(error) if isinstance(error, Refused) else brief(error)
            LOG.debug("Instance %s cannot be asked about", instance.uuid, exc_info=True)
            self._cells.pass_over("Instance %s cannot be asked about: %s", instance.uuid, why)
            return _Guest(
                uuid=instance.uuid,
                host=instance.host,
                result=Result.UNKNOWN,
                why=shown(why),
            )
        for one in asked.not_judged:
            if one not in self.not_judged:
                self.not_judged.append(one)
        if asked.against_guest:
            why = "; ".join(map(str, asked.against_guest))
            return _Guest(uuid=instance.uuid, host=instance.host, why=why, act="operator")
        if asked.room is None:
            why = "placement does not tell which hosts have room"
            return _Guest(uuid=instance.uuid, host=instance.host, result=Result.UNKNOWN, why=why)
        nodes = {one.node.uuid: one.node for one in known}
        options = [
            option
            for answer in answers
            if answer.takes_it
            for option in shares.options(
                answer,
                nodes[answer.uuid],
                asked.spec,
                asked.room.free,
                asked.neighbours.get(answer.place.host, {}),
            )
        ]
        if options:
            return _Guest(
                uuid=instance.uuid,
                host=instance.host,
                options=tuple(options),
                doubts={one.place: one for one in answers if one.verdict is Says.UNKNOWN},
            )
        return _without_host(instance, answers)


def _on(context: Any, host: str) -> Iterator[Any]:
    yield from instances(context, {"host": host}, preview.ATTRIBUTES)


def _without_host(instance: Any, answers: Sequence[Answer]) -> _Guest:
    """A guest that no host takes, with what stands against the nearest."""
    told = [answer for answer in answers if not answer.never]
    if not told:
        return _Guest(
            uuid=instance.uuid,
            host=instance.host,
            why="there is no other host in its cell",
            act="operator",
        )
    untold = any(one.code == "not-judged" for answer in told for one in answer.nova)
    nearest = told[0].row
    why = "; ".join(filter(None, (nearest.reasons, nearest.nova)))
    return _Guest(
        uuid=instance.uuid,
        host=instance.host,
        result=Result.UNKNOWN if untold else Result.STAYS,
        why=shown(f"{nearest.host}: {why}"),
        act=nearest.act or "operator",
    )


def _row(guest: _Guest, chosen: Option | None, *, certain: bool) -> Row:
    result, why, act = guest.result, guest.why, guest.act
    if chosen is not None:
        result = Result.MAY_LEAVE if chosen.doubtful else Result.LEAVES
        if chosen.doubtful:
            told = guest.doubts[chosen.place]
            why, act = shown("; ".join(told.why())), told.row.act or "operator"
    elif guest.options:
        result = Result.NO_ROOM if certain else Result.NOT_FOUND
        hosts = list(dict.fromkeys(option.place.host for option in guest.options))
        named = ", ".join(hosts[:_NAMED])
        more = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
        why = f"no place is left for it beside the others that leave, on {named}{more}"
        act = "operator"
    return Row(
        instance=guest.uuid,
        host=shown(guest.host),
        result=result,
        destination=shown(chosen.place.host) if chosen else "",
        why=why,
        act=act,
    )
