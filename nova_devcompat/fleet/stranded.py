# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Guests that no host but their own would take."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.policy import Policies, Ruling
from nova_devcompat.compat.ruling import Guest
from nova_devcompat.compat.verdict import Reason
from nova_devcompat.fleet.kinds import Needs
from nova_devcompat.fleet.model import Alike, Fleet, Place, RunningGuest
from nova_devcompat.fleet.nearness import distance

#: What of a ruling counts as a refusal.
Against = Callable[[Ruling], Sequence[Reason]]

_ALONE = "there is no other host"


class Stranded:
    """Finds the guests of a fleet that cannot be moved out of the way.

    Nothing is live migrated to another cell, so hosts of others do not count. Guests of a cell
    that need the same are asked about once, and hosts that offer the same are asked once. What was
    found is remembered from question to question.

    :param fleet: the hosts and the guests
    :param catalog: whose rules read flavors' pins
    """

    def __init__(self, fleet: Fleet, catalog: Catalog) -> None:
        self._fleet = fleet
        self._needs = Needs(catalog)
        self._kinds: dict[tuple[str, Guest, bool], list[RunningGuest]] = {}
        for running in fleet.guests:
            guest = self._needs.asked(running)
            if guest is not None:
                key = running.cell, guest, running.pci
                self._kinds.setdefault(key, []).append(running)

    def under(self, policies: Policies, against: Against) -> dict[RunningGuest, str]:
        """Those guests, each with what speaks against another host.

        Whether a host has room, is up or is enabled is not looked at.

        :param policies: of one moment
        :param against: what of a ruling counts
        """
        reasons: dict[RunningGuest, str] = {}
        for (cell, guest, pci), running in self._kinds.items():
            hosts = self._fleet.by_cell.get(cell, ())
            reasons.update(self._of_kind(guest, pci, running, hosts, policies, against))
        # As the guests were listed, whichever need the same.
        return {guest: reasons[guest] for guest in self._fleet.guests if guest in reasons}

    def _of_kind(
        self,
        guest: Guest,
        pci: bool,
        running: Sequence[RunningGuest],
        hosts: Sequence[Alike],
        policies: Policies,
        against: Against,
    ) -> dict[RunningGuest, str]:
        accepting: set[Place] = set()
        refusing: list[tuple[Alike, Sequence[Reason]]] = []
        for alike in hosts:
            ruling = alike.host.rule(guest, policies, pci=pci, judge=self._needs.judge)
            refusal = against(ruling)
            if refusal:
                refusing.append((alike, refusal))
                continue
            accepting |= alike.places
            if len(accepting) > 1:
                return {}  # each of the guests has another than its own
        return {
            one: _why(one.place, refusing) for one in running if accepting.issubset({one.place})
        }

    @property
    def looked_at(self) -> int:
        """How many guests are asked about: those that a host can object to."""
        return sum(map(len, self._kinds.values()))


def _why(place: Place, refusing: Sequence[tuple[Alike, Sequence[Reason]]]) -> str:
    """What speaks against the nearest of the other hosts."""
    others = [(alike, reasons) for alike, reasons in refusing if alike.places != {place}]
    if not others:
        return _ALONE
    alike, reasons = min(others, key=lambda other: (distance(other[1]), min(other[0].places)))
    host = min(other for other in alike.places if other != place).host
    return f"{host} is nearest: {'; '.join(reason.of(host) for reason in reasons)}"
