# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Guests that no host but their own would take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Sequence

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.need import DeviceNeed, Need, resource_slot
from nova_devcompat.compat.policy import Policies, Ruling
from nova_devcompat.compat.ruling import NO_RECORD, Doubt, Guest, doubt_of_pin, unreadable_pins
from nova_devcompat.compat.verdict import Actor, Code, Reason, Verdict
from nova_devcompat.fleet.model import Alike, Fleet, Place, RunningGuest

#: What of a ruling counts as a refusal.
Against = Callable[[Ruling], Sequence[Reason]]

_ALONE = "there is no other host"


class Stranded:
    """Finds the guests of a fleet that cannot be moved out of the way.

    Guests that need the same are asked about once, and hosts that offer the same are asked once.
    What was found is remembered from question to question.

    :param fleet: the hosts and the guests
    :param catalog: whose rules read flavors' pins
    """

    def __init__(self, fleet: Fleet, catalog: Catalog) -> None:
        self._fleet = fleet
        self._catalog = catalog
        self._parts: dict[Hashable, DeviceNeed] = {}
        self._needs: dict[Hashable, Need] = {}
        # By the identity of both, which live as long as this does.
        self._verdicts: dict[tuple[int, int], Verdict] = {}
        self._pins: dict[tuple[tuple[str, str], ...], tuple[Need, tuple[Doubt, ...]]] = {}
        self._kinds: dict[tuple[Guest, bool], list[RunningGuest]] = {}
        for running in fleet.guests:
            guest = self.asked(running)
            if guest is not None:
                self._kinds.setdefault((guest, running.pci), []).append(running)

    def under(self, policies: Policies, against: Against) -> dict[RunningGuest, str]:
        """Those guests, each with what speaks against another host.

        Whether a host has room, is up or is enabled is not looked at.

        :param policies: of one moment
        :param against: what of a ruling counts
        """
        reasons: dict[RunningGuest, str] = {}
        for (guest, pci), running in self._kinds.items():
            reasons.update(self._of_kind(guest, pci, running, policies, against))
        # As the guests were listed, whichever need the same.
        return {guest: reasons[guest] for guest in self._fleet.guests if guest in reasons}

    def _of_kind(
        self,
        guest: Guest,
        pci: bool,
        running: Sequence[RunningGuest],
        policies: Policies,
        against: Against,
    ) -> dict[RunningGuest, str]:
        accepting: set[Place] = set()
        refusing: list[tuple[Alike, Sequence[Reason]]] = []
        for alike in self._fleet.alike:
            ruling = alike.host.rule(guest, policies, pci=pci, judge=self._judge)
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

    def asked(self, running: RunningGuest) -> Guest | None:
        """What nova-scheduler would be asked of a guest that is live migrated.

        Without what differs between guests that need the same. None where no host can object,
        since the guest has neither devices nor pins, and nothing is needed of hosts.
        """
        nothing = running.record in (Need(), NO_RECORD) and not running.assigned
        if nothing and not running.pins and not self._catalog.has_host_families:
            return None
        record = running.record
        pins, bad_pins = self._pins_of(running.pins)
        return Guest(
            record=self._shared(record) if isinstance(record, Need) else record,
            pins=pins,
            bad_pins=bad_pins,
            assigned=running.assigned,
        )

    def _pins_of(self, specs: tuple[tuple[str, str], ...]) -> tuple[Need, tuple[Doubt, ...]]:
        if specs not in self._pins:
            try:
                pins, bad = self._catalog.read_pins(dict(specs))
                self._pins[specs] = pins, tuple(map(doubt_of_pin, bad))
            except Exception as error:  # noqa: BLE001 - a rule of a third party, at most
                detail = f"reading them failed: {type(error).__name__}"
                self._pins[specs] = Need(), (unreadable_pins(detail),)
        return self._pins[specs]

    def _shared(self, need: Need) -> Need:
        """The need without what differs between guests that need the same: where its devices are,
        which request each answers, and how many are alike.
        """
        groups = frozenset(
            frozenset(map(self._anywhere, parts)) for parts in need.by_slot().values()
        )
        of_host = {part.family: self._anywhere(part) for part in need.host}
        key = groups, frozenset(of_host.values())
        shared = self._needs.get(key)
        if shared is None:
            shared = self._needs[key] = _need_of(*key)
        return shared

    def _anywhere(self, part: DeviceNeed) -> DeviceNeed:
        key = part.family, part.values, part.of_host
        anywhere = self._parts.get(key)
        if anywhere is None:
            anywhere = self._parts[key] = dataclasses.replace(
                part, slot=part.slot if part.of_host else "", address="", assumed=frozenset()
            )
        return anywhere

    def _judge(self, accepts: AcceptSet, need: DeviceNeed) -> Verdict:
        key = (id(need), id(accepts))
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._verdicts[key] = accepts.judge(need)
        return verdict


def _need_of(groups: Iterable[Iterable[DeviceNeed]], host: Iterable[DeviceNeed]) -> Need:
    """One need for all guests that need this of devices, by request, and this of their host."""
    slots = sorted(
        (sorted(group, key=str) for group in groups), key=lambda group: [*map(str, group)]
    )
    return Need(
        devices=(
            *(
                dataclasses.replace(part, slot=resource_slot(str(index)))
                for index, group in enumerate(slots)
                for part in group
            ),
            *sorted(host, key=str),
        )
    )


def _why(place: Place, refusing: Sequence[tuple[Alike, Sequence[Reason]]]) -> str:
    """What speaks against the nearest of the other hosts."""
    others = [(alike, reasons) for alike, reasons in refusing if alike.places != {place}]
    if not others:
        return _ALONE
    alike, reasons = min(others, key=lambda other: _distance(*other))
    host = min(other for other in alike.places if other != place).host
    return f"{host} is nearest: {'; '.join(reason.of(host) for reason in reasons)}"


def _distance(alike: Alike, reasons: Sequence[Reason]) -> tuple[bool, bool, int, int, int, Place]:
    """How far hosts are from taking a guest: those come first that lack least.

    What an upgrade of the host mends counts less than what takes more. Of hosts that lack as
    much, one that accepts more values of what is lacking is newer.
    """
    lacking = {(reason.family, reason.attribute) for reason in reasons}
    accepted = sum(
        len(entry.accepted)
        for accepts in (*alike.host.accepts, *alike.host.of_host)
        for name, entry in accepts.attributes.items()
        if (accepts.family, name) in lacking
    )
    return (
        alike.host.problem is not None,
        any(reason.code in (Code.NO_DEVICE, Code.OTHER_FAMILY) for reason in reasons),
        sum(reason.actor is not Actor.HOST for reason in reasons),
        len(reasons),
        -accepted,
        min(alike.places),
    )
