# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which guests of a cell fit nowhere, only where they are, or on one other host.

Guests are asked about by kind of need and hosts by kind of offers, so what it costs is kinds by
kinds. Of a guest only its name and its place are kept.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.policy import Policies, Ruling
from nova_devcompat.compat.ruling import Guest
from nova_devcompat.compat.verdict import Actor, Reason
from nova_devcompat.fleet.assume import Assumptions
from nova_devcompat.fleet.kinds import Needs
from nova_devcompat.fleet.model import Alike, Fleet, Host, Place, RunningGuest
from nova_devcompat.fleet.nearness import Distance, distance
from nova_devcompat.fleet.untold import Untold
from nova_devcompat.kit.progress import Track, untracked
from nova_devcompat.wire import HostDocument

if TYPE_CHECKING:
    # It needs Nova, and what is asked of an inventory does not.
    from nova_devcompat.fleet.room import Asks, Room

#: Why a host that would take a guest does not.
NO_FREE_DEVICE = Reason(
    code="no-free-device",
    actor=Actor.OPERATOR,
    detail="none of its devices that would take the guest is free",
)

_NO_FREE_DEVICE = (NO_FREE_DEVICE,)

#: How many hosts a group of guests with the same cause names.
_NAMED = 3


class Standing(enum.StrEnum):
    """How many hosts there are for a guest."""

    NOWHERE = "nowhere"
    ONLY_HERE = "only here"
    ONE_LEFT = "one other left"
    #: Others are let pass, and of none of them it is known that it takes the guest.
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """A guest, as far as it is kept.

    :param uuid: of its instance
    :param place: where it runs
    """

    uuid: str
    place: Place


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A guest that few hosts take, or none that is known to.

    :param guest: which
    :param families: of which it needs something
    :param standing: how few
    :param other: the one other host that takes it
    :param nearest: hosts that come nearest to taking it, of those that do not, or are not known
        to: the first few
    :param reasons: what stands against these, or is not known of them
    """

    guest: Named
    families: frozenset[str]
    standing: Standing
    other: Place | None = None
    nearest: tuple[Place, ...] = ()
    reasons: tuple[Reason, ...] = ()


@dataclasses.dataclass(slots=True)
class Kind:
    """Guests that need the same, and ask for as many devices.

    :param guest: what nova-scheduler is asked of any of them
    :param pci: whether they ask for devices that placement need not know
    :param asks: what they ask placement for of devices
    :param running: which they are
    """

    guest: Guest
    pci: bool
    asks: Asks
    running: list[Named] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class _Verdict:
    """What stands against guests of a kind, or may, on hosts that are alike."""

    alike: Alike
    reasons: tuple[Reason, ...]

    @property
    def order(self) -> tuple[Distance, Place]:
        """The nearest first."""
        return distance(self.reasons), min(self.alike.places)


class Outlook:
    """The guests and the hosts of one cell.

    :param catalog: that is here; its rules read flavors' pins
    :param policies: of one moment
    :param imagined: whether catalog and policies are not those that are decided by here, so that
        hosts are taken to have the same
    """

    def __init__(self, catalog: Catalog, policies: Policies, *, imagined: bool = False) -> None:
        self._digest = catalog.digest
        self._judge_by(policies, imagined=imagined)
        self._needs = Needs(catalog)
        self._kinds: dict[tuple[Guest, bool, Asks], Kind] = {}
        self._hosts: dict[Place, Host] = {}
        # What is left of hosts, by what is asked for.
        self._free: dict[tuple[Place, Asks], Host | None] = {}
        #: How many guests there are.
        self.guests = 0

    def _judge_by(self, policies: Policies, *, imagined: bool) -> None:
        self._policies = policies
        self._untold = Untold(policies, imagined=imagined)

    def read(self, entries: Iterable[Host | RunningGuest]) -> None:
        """Take hosts and guests, in any order."""
        for entry in entries:
            if isinstance(entry, Host):
                self._hosts[entry.place] = entry
            else:
                self._add(entry)

    def _add(self, running: RunningGuest) -> None:
        self.guests += 1
        guest = self._needs.asked(running)
        if guest is None:
            return  # every host will do
        key = guest, running.pci, running.asks
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = Kind(*key)
        kind.running.append(Named(running.uuid, running.place))

    def assume(
        self, assumed: Assumptions, published: Callable[[str], HostDocument | Reason]
    ) -> None:
        """Take hosts as they would be, once all guests have been read.

        :param published: reads what a host publishes
        :raises ValueError: a host publishes nothing that is assumed of it
        """
        atoms = {
            atom
            for kind in self._kinds.values()
            for part in (*kind.guest.need.devices, *kind.guest.pins.devices)
            for atom in part.atoms
        }
        for place, host in self._hosts.items():
            if place.host in assumed:
                # As of other hosts, what is equal is one object then.
                said = published(assumed.text(place.host, host.said, atoms))
                self._hosts[place] = dataclasses.replace(host, said=said)

    @property
    def hosts(self) -> int:
        """How many hosts there are."""
        return len(self._hosts)

    @property
    def unreadable(self) -> Iterator[tuple[Place, str]]:
        """The hosts that published what cannot be read, and why."""
        for place, host in self._hosts.items():
            if host.unreadable:
                yield place, host.unreadable

    @property
    def all_hosts(self) -> tuple[Host, ...]:
        """They, in no order."""
        return tuple(self._hosts.values())

    @property
    def families(self) -> frozenset[str]:
        """Those of which a host says something, or a guest needs something."""
        families: set[str] = set()
        for host in self._hosts.values():
            families.update(one.family for one in host.parts)
            if host.document is not None:
                families.update(host.document.unreadable)
        for kind in self.kinds:
            families |= kind.guest.need.families | kind.guest.pins.families
        return frozenset(families)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The guests that a host can object to, those together that need the same."""
        return tuple(self._kinds.values())

    @property
    def alike(self) -> tuple[Alike, ...]:
        """The hosts, those together that take the same guests."""
        return Fleet(hosts=list(self._hosts.values())).alike

    def under(self, policies: Policies) -> Outlook:
        """The same hosts and guests under other policies, which hosts are taken to have too."""
        other = copy.copy(self)
        other._judge_by(policies, imagined=True)
        other._free = {}
        return other

    @property
    def asks(self) -> frozenset[Asks]:
        """What the guests ask for of devices."""
        return frozenset(kind.asks for kind in self._kinds.values())

    def findings(self, room: Room | None = None, track: Track = untracked) -> Iterator[Finding]:
        """The guests that few hosts take, those that need the same after one another.

        :param room: which devices are free; None to count no devices
        :param track: follows the kinds of guests
        """
        self._free.clear()
        alike = self.alike
        kinds = track(self._kinds.values(), "Kinds of servers judged", len(self._kinds))
        for kind in kinds:
            yield from self._of_kind(kind, alike, room)

    def _of_kind(self, kind: Kind, alike: Sequence[Alike], room: Room | None) -> Iterator[Finding]:
        accepting: set[Place] = set()
        full: set[Place] = set()
        known: set[Place] = set()
        refusing: list[_Verdict] = []
        doubtful: list[_Verdict] = []
        for hosts in alike:
            ruling = self.rule(kind, hosts.host)
            if not ruling.accepts:
                refusing.append(_Verdict(hosts, ruling.refused))
                continue
            accepting |= hosts.places
            if room is not None and kind.asks:
                full |= self._full(kind, hosts, room)
            untold = self.untold(kind, hosts.host)
            if untold:
                doubtful.append(_Verdict(hosts, untold))
            else:
                known |= hosts.places
            # Each of the guests has two others than its own then, and knows one of them.
            if len(accepting) - len(full) > 2 and len(known - full) > 1:
                return
        families = kind.guest.need.families | kind.guest.pins.families
        refusing.sort(key=lambda one: one.order)
        doubtful.sort(key=lambda one: one.order)
        for guest in kind.running:
            others = accepting - full - {guest.place}
            if not others:
                here = guest.place in accepting
                standing = Standing.ONLY_HERE if here else Standing.NOWHERE
                places, reasons = _miss(guest.place, full, refusing)
            elif others.isdisjoint(known):
                standing = Standing.UNKNOWN
                places, reasons = _miss(guest.place, set(), doubtful)
            elif len(others) == 1:
                standing = Standing.ONE_LEFT
                places, reasons = _miss(guest.place, full, refusing)
            else:
                continue
            yield Finding(
                guest=guest,
                families=families,
                standing=standing,
                other=next(iter(others)) if len(others) == 1 else None,
                nearest=places,
                reasons=reasons,
            )

    def rule(self, kind: Kind, host: Host) -> Ruling:
        """What a host, or what is left of it, says to guests of a kind."""
        return host.rule(kind.guest, self._policies, pci=kind.pci, judge=self._needs.judge)

    def untold(self, kind: Kind, host: Host) -> tuple[Reason, ...]:
        """Why a host that lets guests of a kind pass may yet refuse them."""

        def against(policies: Policies, doubting: bool) -> tuple[Reason, ...]:
            if not doubting:
                return ()  # it lets them pass
            judge = self._needs.judge
            ruling = host.rule(kind.guest, policies, pci=kind.pci, judge=judge, doubting=True)
            return ruling.refused

        digest = "" if host.document is None else host.document.catalog
        return self._untold.of(
            host.said,
            against,
            other_catalog=digest not in ("", self._digest),
            let_pass=bool(self._untold.is_lenient or kind.guest.risks or host.risks),
        )

    def _full(self, kind: Kind, hosts: Alike, room: Room) -> set[Place]:
        """Those of hosts that take a guest which have none of these devices free."""
        full = set()
        known: dict[frozenset[int], bool] = {}
        for place in hosts.places:
            left = self._left(place, kind.asks, room)
            if left is None:
                continue
            accepts = frozenset(map(id, left.accepts))
            if accepts not in known:
                known[accepts] = self.rule(kind, left).accepts
            if not known[accepts]:
                full.add(place)
        return full

    def _left(self, place: Place, asks: Asks, room: Room) -> Host | None:
        """A host with the devices that are free; None where all are, or it is not known."""
        key = place, asks
        if key not in self._free:
            host = self._hosts[place]
            free = room.free_devices(host, asks)
            self._free[key] = None
            if free is not None and len(free) < len(host.devices):
                self._free[key] = host.with_devices(free)
        return self._free[key]


def _miss(
    place: Place, full: set[Place], refusing: Sequence[_Verdict]
) -> tuple[tuple[Place, ...], tuple[Reason, ...]]:
    """The other hosts that come nearest, and what stands against them."""
    if full - {place}:
        return tuple(sorted(full - {place})[:_NAMED]), _NO_FREE_DEVICE
    for one in refusing:
        others = one.alike.places - {place}
        if others:
            return tuple(sorted(others)[:_NAMED]), one.reasons
    return (), ()
