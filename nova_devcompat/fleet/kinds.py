# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Guests that need the same, told apart from where each of them runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.need import DeviceNeed, Need, resource_slot
from nova_devcompat.compat.ruling import NO_RECORD, Doubt, Guest, doubt_of_pin, unreadable_pins
from nova_devcompat.compat.verdict import Verdict
from nova_devcompat.fleet.model import RunningGuest


class Needs:
    """What guests need, equal where guests need the same, and the verdicts on that.

    :param catalog: whose rules read flavors' pins
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._parts: dict[Hashable, DeviceNeed] = {}
        self._needs: dict[Hashable, Need] = {}
        # By the identity of both, which live as long as this does.
        self._verdicts: dict[tuple[int, int], Verdict] = {}
        self._pins: dict[tuple[tuple[str, str], ...], tuple[Need, tuple[Doubt, ...]]] = {}

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
            risks=running.risks,
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

    def judge(self, accepts: AcceptSet, need: DeviceNeed) -> Verdict:
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
