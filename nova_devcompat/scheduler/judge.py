# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Whether a host's allocation candidates can take a guest, by what the host published.

Says what a candidate gives a guest, and asks :func:`nova_devcompat.compat.ruling.rule`. Written
to be asked once a request for each of 10,000 hosts: hosts that accept the same share their
accept-sets (:class:`nova_devcompat.wire.StatsReader`), so verdicts are computed once for all of
them, and a host whose devices are all alike needs no look at each candidate's slots.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nova_devcompat import wire
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.policy import Policies, Ruling
from nova_devcompat.compat.ruling import (
    NOTHING_KNOWN,
    Choice,
    Claim,
    Extra,
    Given,
    Guest,
    Order,
    any_of,
    rule,
)
from nova_devcompat.compat.verdict import Reason, Verdict
from nova_devcompat.scheduler.verdicts import Verdicts
from nova_devcompat.stores.assigned import is_device_class

#: One of placement's allocation requests: ``allocations`` by provider, ``mappings`` by suffix.
Candidate = Mapping[str, Any]

_PCI_GROUP = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-[0-9]+")

# Classes of which units are of the host itself, which may have custom ones as well.
_OF_HOST = frozenset({"VCPU", "PCPU", "MEMORY_MB", "DISK_GB"})


class Judged(NamedTuple):
    """What became of one host.

    A tuple, which is made in a fraction of the time that a frozen dataclass takes.

    :param candidates: the allocation candidates that are left, None where all are
    :param ruling: why the host, or the first candidate that was dropped, was refused or would be
    :param waived: the ruling on a candidate that is left because of accepted risks; None for none
    """

    candidates: list[Candidate] | None
    ruling: Ruling
    waived: Ruling | None = None


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


_NOTHING_AGAINST = Ruling()
# What stands for the candidates of a host where there are none: the ruling is on the host.
_ANYWHERE: Sequence[Candidate] = ({},)
#: All candidates are left, and there is nothing to say.
ACCEPTED = Judged(None, _NOTHING_AGAINST)


class RequestJudge:
    """Judges hosts for one request.

    :param guest: who is to be placed
    :param policies: the policy of each family
    :param pci: whether devices are asked for that placement need not know
    :param short_cuts: whether what was found for one host is used for others that are alike. It
        changes no ruling
    :param verdicts: those of earlier requests, where these are remembered
    :param whichever: whether the rulings are to hold whichever of a host's devices is claimed
    """

    def __init__(
        self,
        guest: Guest,
        policies: Policies,
        *,
        pci: bool = False,
        short_cuts: bool = True,
        verdicts: Verdicts | None = None,
        whichever: bool = False,
    ) -> None:
        self._guest = guest
        self._whichever = whichever
        self._policies = policies
        self._pci = pci
        self._short_cuts = short_cuts
        self._judge_anew = AcceptSet.judge if verdicts is None else verdicts.of
        self._groups = guest.need.by_slot()
        # Keyed by identity, which is cheap and right as long as the objects live: hence the last.
        self._verdicts: dict[tuple[int, int], Verdict] = {}
        self._kept: list[AcceptSet | wire.HostDocument] = []
        # By why hosts are silent, and whether there are candidates.
        self._silent: dict[tuple[str, str, bool], Judged] = {}
        #: By the shape of documents, the answer for all hosts that have it.
        self.settled: dict[str, Judged] = {}
        # What else is told of candidates is remembered by all that it depends on.
        self._rulings: dict[tuple[int | str | None, ...] | None, Ruling] = {}
        self._classes = [
            resource_class
            for needs in self._groups.values()
            if (resource_class := needs[0].resource_class)
        ]
        self._suffixes = pci or len(self._classes) < len(self._groups)

    def silent(self, reason: Reason, candidates: Sequence[Candidate] = ()) -> Judged:
        """A host of which nothing can be told, for one reason."""
        # Candidates of one request are made alike, so they take what is not known or do not.
        key = reason.code, reason.detail, bool(candidates)
        known = self._silent.get(key) if self._short_cuts else None
        if known is None:
            known = self._silent[key] = self._judge_silent(reason, candidates)
        return known

    def _judge_silent(self, reason: Reason, candidates: Sequence[Candidate]) -> Judged:
        extras = self._strangers(candidates[0], None) if candidates else ()
        given = Given(silent=reason, extras=extras)
        ruling = rule(self._guest, given, self._policies)
        waived = ruling if ruling.accepts and ruling.waived else None
        return Judged(None if ruling.accepts else [], ruling, waived)

    def judge(self, document: wire.HostDocument, candidates: Sequence[Candidate]) -> Judged:
        """What a host's document says of its candidates.

        :param candidates: none where the request was not made to placement
        """
        # A request that was not made to placement has few hosts.
        shape = document.shape if self._short_cuts and candidates else None
        if shape is not None:
            settled = self.settled.get(shape)
            if settled is not None:
                return settled
        rulings = self.rulings(document, candidates)
        judged = judged_by(candidates, rulings)
        # Candidates of one request are made alike: where all of these come to the same, so do
        # those of the other hosts of the shape, whose devices are all alike and all known. One
        # that names other providers than it has says nothing of the others.
        if (
            shape
            and all(ruling == rulings[0] for ruling in rulings[1:])
            and not any(_takes_unnamed(document, candidate) for candidate in candidates)
        ):
            self.settled[shape] = judged
        return judged

    def rulings(
        self, document: wire.HostDocument, candidates: Sequence[Candidate]
    ) -> list[Ruling]:
        """The ruling on each candidate; where there is none, on the host."""
        if not candidates:
            return [self._rule(document, None)]
        if not self._short_cuts or document.kin is None:
            return [self._rule(document, candidate) for candidate in candidates]
        return self._remembered(document, candidates)

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

    def _remembered(
        self, document: wire.HostDocument, candidates: Sequence[Candidate]
    ) -> list[Ruling]:
        """The ruling on each candidate of a document that has kin."""
        # A plain loop: done for each host that has unlike devices.
        known, key_of = self._rulings, self._key
        rulings = []
        for candidate in candidates:
            key = key_of(document, candidate)
            ruling = known.get(key)
            if ruling is None:
                ruling = self._rule(document, candidate)
                if key is not None:
                    known[key] = ruling
                    self._kept.append(document)
            rulings.append(ruling)
        return rulings

    def _key(
        self, document: wire.HostDocument, candidate: Candidate
    ) -> tuple[int | str | None, ...] | None:
        """All that the ruling on a candidate depends on; None where that cannot be told.

        That is what the document names, the accept-set behind each provider with the units that
        the need is after, and which provider answers which group.
        """
        find = document.by_provider.get
        allocations = candidate["allocations"]
        key: list[int | str | None] = [document.kin]
        for provider, allocation in allocations.items():
            key.append(id(find(provider)))
            for resource_class in self._classes:
                key.append(allocation["resources"].get(resource_class, 0))
        if self._suffixes:
            order = list(allocations)
            for suffix, providers in candidate.get("mappings", {}).items():
                if suffix:
                    if not providers or providers[0] not in allocations:
                        return None
                    key += (suffix, order.index(providers[0]))
        return tuple(key)

    def _rule(self, document: wire.HostDocument, candidate: Candidate | None) -> Ruling:
        given = self._given(document, candidate)
        if self._whichever:
            given = dataclasses.replace(given, whichever=True)
        return rule(self._guest, given, self._policies, self._judge)

    def _judge(self, accepts: AcceptSet, need: DeviceNeed) -> Verdict:
        """The verdict of an accept-set, computed once a request."""
        key = (id(need), id(accepts))
        verdict = self._verdicts.get(key)
        if verdict is None:
            self._kept.append(accepts)
            verdict = self._verdicts[key] = self._judge_anew(accepts, need)
        return verdict

    # --- what a candidate gives ------------------------------------------------------------------

    def _given(self, document: wire.HostDocument, candidate: Candidate | None) -> Given:
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
        strangers = self._strangers(candidate, document)
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

    def _strangers(
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


def _takes_unnamed(document: wire.HostDocument, candidate: Candidate) -> bool:
    """Whether a candidate takes a device that is not among those which the document places."""
    known = document.by_provider
    return bool(known) and any(
        provider not in known
        and _OF_HOST.isdisjoint(allocation["resources"])
        and any(map(is_device_class, allocation["resources"]))
        for provider, allocation in candidate["allocations"].items()
    )


def judged_by(candidates: Sequence[Candidate], rulings: Sequence[Ruling]) -> Judged:
    """What is left of candidates, and the first ruling against one."""
    # A plain loop: done for each host, generators would take twice as long.
    against = reported = waived = None
    left = []
    for candidate, ruling in zip(candidates or _ANYWHERE, rulings, strict=True):
        if ruling.refused:
            against = against or ruling
            continue
        left.append(candidate)
        if ruling.reported and reported is None:
            reported = ruling
        if ruling.waived and waived is None:
            waived = ruling
    if against is not None:
        return Judged(left, against, waived)
    told = reported or waived
    return ACCEPTED if told is None else Judged(None, told, waived)


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
