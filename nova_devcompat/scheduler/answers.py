# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What an allocation candidate gives a guest, by what its host published."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nova_devcompat import wire
from nova_devcompat.compat.policy import Policies
from nova_devcompat.compat.ruling import (
    NOTHING_KNOWN,
    Choice,
    Claim,
    Extra,
    Given,
    Guest,
    Order,
    any_of,
)
from nova_devcompat.compat.verdict import Reason
from nova_devcompat.stores.assigned import is_device_class

#: One of placement's allocation requests: ``allocations`` by provider, ``mappings`` by suffix.
Candidate = Mapping[str, Any]

_PCI_GROUP = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-[0-9]+")

# Classes of which units are of the host itself, which may have custom ones as well.
_OF_HOST = frozenset({"VCPU", "PCPU", "MEMORY_MB", "DISK_GB"})


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    """Which providers a candidate takes for the needs of some slots.

    :param slots: of the needs
    :param providers: a device each; None for devices that placement does not track
    :param strayed: whether no request of the candidate is known to be that of these slots
    """

    slots: tuple[str, ...]
    providers: list[str] | None
    strayed: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Asks:
    """What a request asks for, which is the same in all of its candidates.

    :param units: of each class that can be one of devices
    :param families: those any device of which it may be given, since nobody tells which
    """

    units: Mapping[str, int]
    families: frozenset[str]


class Answers:
    """How the candidates of one request answer it.

    :param guest: who is to be placed
    :param policies: the policy of each family
    :param pci: whether devices are asked for that placement need not know
    """

    def __init__(self, guest: Guest, policies: Policies, *, pci: bool) -> None:
        self._guest = guest
        self._policies = policies
        self._pci = pci
        self._groups = guest.need.by_slot()

    def asks(self, candidates: Sequence[Candidate]) -> Asks | None:
        """What a request asks for, by the candidates of one host; None where there are none."""
        if not candidates or not candidates[0]["allocations"]:
            return None
        units: dict[str, int] = {}
        for allocation in candidates[0]["allocations"].values():
            for name, amount in allocation["resources"].items():
                if is_device_class(name):
                    units[name] = units.get(name, 0) + amount
        told = all(
            answer.providers and not answer.strayed for answer in self._answers(candidates[0])
        )
        families: frozenset[str] = frozenset()
        if not told or (self._pci and not _pci_groups(candidates[0])):
            families = self._guest.need.families | self._guest.pins.families
        return Asks(units, families)

    def given(self, document: wire.HostDocument, candidate: Candidate | None) -> Given:
        """What a candidate gives; where there is none, any device of the host."""
        if candidate is None or not candidate["allocations"]:
            return Given.anywhere(
                self._guest,
                [device.accepts for device in document.devices],
                complete=document.whole and not self._pci,
                host=document.by_family,
                unreadable=self._concerned_by(document, self._guest.assigned),
            )
        answers = list(self._answers(candidate))
        claims = tuple(self._claim(document, answer) for answer in answers)
        claimed = {provider for answer in answers for provider in answer.providers or ()}
        known = document.by_provider
        extras = [
            Extra(device=known[provider])
            for provider in candidate["allocations"]
            if provider in known and provider not in claimed
        ]
        strangers = self.strangers(candidate, document)
        unplaced = self._pci and not _pci_groups(candidate)
        return Given(
            claims=claims,
            extras=(*extras, *strangers),
            others=tuple(
                device.accepts for device in document.devices if unplaced or not device.providers
            ),
            complete=document.whole and not self._pci,
            host=document.by_family,
            unreadable=self._concerned_by(document, bool(strangers)),
        )

    def _concerned_by(self, document: wire.HostDocument, devices: bool) -> Mapping[str, Reason]:
        if not document.unreadable:
            return {}
        hosts = self._policies.of_hosts
        return self._guest.concerned_by(document.problems, hosts=hosts, devices=devices)

    def _answers(self, candidate: Candidate) -> Iterator[_Answer]:
        """The providers that the candidate takes for the slots of the need."""
        groups = _pci_groups(candidate)
        strayed: list[str] = []
        for slot, needs in self._groups.items():
            if (resource_class := needs[0].resource_class) is not None:
                yield _Answer((slot,), _allocated(resource_class, candidate))
            elif providers := groups.pop(needs[0].request_id or "", None):
                yield _Answer((slot,), providers)
            else:
                strayed.append(slot)
        if strayed:
            # A resize gives PCI requests new IDs, and the stored request may keep the old ones:
            # what is left of both belongs together.
            left = [provider for providers in groups.values() for provider in providers]
            yield _Answer(tuple(strayed), left or None, strayed=True)

    def _claim(self, document: wire.HostDocument, answer: _Answer) -> Claim:
        if answer.providers is not None and not answer.strayed:
            devices = [self._choice(document, provider) for provider in answer.providers]
            return Claim(slots=answer.slots, devices=tuple(devices))
        needs = [need for slot in answer.slots for need in self._groups[slot]]
        families = {need.family for need in needs}
        # Admission is exact about devices that placement does not track: here any will do. So may
        # one that was attached later, which stands in no request.
        any_device = tuple(any_of((device.accepts for device in document.devices), families))
        if answer.providers is None:
            devices = [any_device] * len(needs)
            return Claim(slots=answer.slots, devices=tuple(devices), order=Order.GIVEN)
        devices = [self._choice(document, provider) for provider in answer.providers]
        devices += [any_device] * (len(needs) - len(devices))
        return Claim(slots=answer.slots, devices=tuple(devices))

    @staticmethod
    def _choice(document: wire.HostDocument, provider: str) -> Choice:
        choice = document.by_provider.get(provider)
        if choice is not None:
            return choice
        # Right after its first start a host does not know its providers' UUIDs yet.
        return tuple(device.accepts for device in document.devices if not device.providers)

    def strangers(
        self, candidate: Candidate, document: wire.HostDocument | None
    ) -> tuple[Extra, ...]:
        """Devices of which nothing is known that the candidate takes beside those of the need.

        :param document: None where nothing of the host can be told: then whatever looks like a
            device is one
        """
        if document is not None and not document.unreadable:
            return ()
        claimed = {
            provider for answer in self._answers(candidate) for provider in answer.providers or ()
        }
        known = document.by_provider if document is not None else {}
        return tuple(
            Extra(device=NOTHING_KNOWN)
            for provider, allocation in candidate["allocations"].items()
            if provider not in known
            and provider not in claimed
            and any(map(is_device_class, allocation["resources"]))
        )


def takes_unnamed(document: wire.HostDocument, candidate: Candidate) -> bool:
    """Whether a candidate takes a device that is not among those which the document places."""
    known = document.by_provider
    return bool(known) and any(
        provider not in known
        and _OF_HOST.isdisjoint(allocation["resources"])
        and any(map(is_device_class, allocation["resources"]))
        for provider, allocation in candidate["allocations"].items()
    )


def _allocated(resource_class: str, candidate: Candidate) -> list[str]:
    """The providers that a candidate takes units of a class from, each as often as units."""
    return list(
        itertools.chain.from_iterable(
            [provider] * allocation["resources"].get(resource_class, 0)
            for provider, allocation in candidate["allocations"].items()
        )
    )


def _pci_groups(candidate: Candidate) -> dict[str, list[str]]:
    """The providers that a candidate takes for PCI requests, by request ID.

    A device of a PCI request is request group ``<request id>-<index>``
    (nova/objects/request_spec.py, generate_request_groups_from_pci_requests).
    """
    found: dict[str, list[str]] = {}
    for suffix, providers in candidate.get("mappings", {}).items():
        match = _PCI_GROUP.fullmatch(suffix)
        if match and providers:
            found.setdefault(match[1], []).append(providers[0])
    return found
