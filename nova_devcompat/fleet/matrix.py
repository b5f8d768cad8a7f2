# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Whether a guest on any device of an inventory could move to any other host, on paper.

The rules, the needs and the verdicts are those of nova-compute; only the offers come from a file.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import NamedTuple

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat import uses
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.device import Device
from nova_devcompat.compat.family import Offer
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.ruling import judge_part
from nova_devcompat.compat.verdict import Outcome
from nova_devcompat.kit.text import near
from nova_devcompat.sources.static import Inventory


class UnknownName(ValueError):
    """A host or family that was asked for and does not exist."""


class Move(NamedTuple):
    """Whether a guest started on a device could move to a host.

    :param source_host: the host it is on
    :param source_address: the device
    :param family: the device's family
    :param destination_host: the other host
    :param verdict: ``accept``, ``reject`` or ``unknown``; no policy is applied
    :param reason: why, '' for ``accept``
    """

    source_host: str
    source_address: str
    family: str
    destination_host: str
    verdict: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Kind:
    """Devices that cannot be told apart; compared by identity.

    :param need: of a guest that starts on one; one object for equal needs
    """

    family: str
    offer: Offer
    need: DeviceNeed


class Matrix:
    """The verdicts between the hosts of an inventory.

    A verdict is computed once for each unlike need and unlike offer, so the time it takes depends
    on how mixed the fleet is rather than on how large.

    :param catalog: the rules
    :param inventory: the devices
    :raises AmbiguousDevice: a device matches several families
    """

    def __init__(self, catalog: Catalog, inventory: Inventory) -> None:
        self._catalog = catalog
        #: Devices that belong to no family: (host, address).
        self.passed_over: list[tuple[str, str]] = []
        self._kinds: dict[tuple[str, str], _Kind] = {}
        self._needs: dict[DeviceNeed, DeviceNeed] = {}
        self._hosts: dict[str, list[tuple[str, _Kind]]] = {}
        for host, devices in sorted(inventory.hosts.items()):
            found = self._hosts[host] = []
            for device in sorted(devices, key=lambda device: device.address):
                kind = self._kind(device)
                if kind is None:
                    self.passed_over.append((host, device.address))
                else:
                    found.append((device.address, kind))

    def moves(
        self,
        *,
        source: str | None = None,
        destination: str | None = None,
        family: str | None = None,
    ) -> Iterator[Move]:
        """One move for each device and each other host, sorted by host, address and host.

        :param source: only from this host
        :param destination: only to this host
        :param family: only devices of this family
        :raises UnknownName: a host that is not in the inventory, a family not in the catalog;
            raised by the call itself, not on iteration
        """
        for name, known, what in (
            (source, self._hosts, "the inventory has no host"),
            (destination, self._hosts, "the inventory has no host"),
            (family, self._catalog.families, "the catalog has no family"),
        ):
            if name is not None and name not in known:
                raise UnknownName(f"{what} {name!r}{_some(list(known))}{near(name, known)}")
        return self._moves(
            list(self._hosts) if source is None else [source],
            list(self._hosts) if destination is None else [destination],
            family,
        )

    def _moves(
        self, sources: list[str], destinations: list[str], family: str | None
    ) -> Iterator[Move]:
        offered = {
            name: [(host, self._offered(host, name)) for host in destinations]
            for name in {kind.family for kind in self._kinds.values()}
        }
        # By need and by what a host offers. Needs outlive this call, so their ids are theirs.
        known: dict[int, dict[tuple[_Kind, ...], tuple[str, str]]] = {}
        devices = collections.Counter(
            id(kind.need) for kinds in self._hosts.values() for _, kind in kinds
        )
        atoms = frozenset(atom for need in self._needs for atom in need.atoms)
        accepts = {
            kind: kind.offer.accept_set(atoms)
            for kind in {kind for row in offered.values() for _, kinds in row for kind in kinds}
        }
        rows = {
            name: [(host, kinds, [accepts[kind] for kind in kinds]) for host, kinds in row]
            for name, row in offered.items()
        }
        for source in sources:
            for address, kind in self._hosts[source]:
                if family is not None and kind.family != family:
                    continue
                # A need that no other device has is asked about each host once.
                shared = devices[id(kind.need)] > 1
                answers = known.setdefault(id(kind.need), {}) if shared else {}
                for destination, kinds, judges in rows[kind.family]:
                    if destination == source:
                        continue
                    answer = answers.get(kinds) if shared else None
                    if answer is None:
                        answer = _answer(kind.need, judges)
                        if shared:
                            answers[kinds] = answer
                    yield Move(source, address, kind.family, destination, *answer)

    def _kind(self, device: Device) -> _Kind | None:
        family = self._catalog.classify(device)
        if family is None:
            return None
        rules = family.family.rules
        facts = {name: device.attributes.get(name) for name in rules}
        key = (family.name, json.dumps(facts, sort_keys=True))
        kind = self._kinds.get(key)
        if kind is None:
            offer = family.family.offer(facts)
            # Which guests there are, nobody knows here: one that uses all that a host has.
            need = (
                offer.freeze_used(uses.most(family.needs, offer))
                if family.of_host
                else offer.freeze()
            )
            need = self._needs.setdefault(need, need)
            kind = self._kinds[key] = _Kind(family.name, offer, need)
        return kind

    def _offered(self, host: str, family: str) -> tuple[_Kind, ...]:
        kinds = dict.fromkeys(kind for _, kind in self._hosts[host] if kind.family == family)
        return tuple(kinds)


def _answer(need: DeviceNeed, devices: list[AcceptSet]) -> tuple[str, str]:
    """Verdict and reason of the device that fits best; of several, the first."""
    best = judge_part(need, devices, complete=True)
    if not best.reasons:
        return _ACCEPT
    return best.outcome.value, "; ".join(map(str, best.reasons))


_ACCEPT = (Outcome.ACCEPT.value, "")


def _some(names: list[str]) -> str:
    shown = ", ".join(itertools.islice(sorted(names), 10))
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"; there is {shown}{more}" if names else "; it is empty"
