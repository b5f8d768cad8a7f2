# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Whether a host's allocation candidates can take a guest, by what the host published.

Written to be asked once a request for each of 10,000 hosts: hosts that accept the same share their
accept-sets (:class:`nova_devcompat.wire.StatsReader`), so verdicts are computed once for all of
them, and a host whose devices are all alike needs no look at each candidate's slots.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nova_devcompat import wire
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.judging import (
    Judge,
    PolicyOf,
    judge_claim,
    judge_each,
    judge_host,
    judge_host_pins,
    judge_pins,
    judge_pins_loosely,
    no_offer,
    nothing_recorded,
)
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Policy, Ruling
from nova_devcompat.compat.verdict import Reason, Verdict

#: One of placement's allocation requests: ``allocations`` by provider, ``mappings`` by suffix.
Candidate = Mapping[str, Any]

#: What flavors without pins want.
NOTHING = Need()

# What stands for the candidates of a host where there are none.
_ANYWHERE: Candidate = {"allocations": {}, "mappings": {}}

_PCI_GROUP = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-[0-9]+")


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """What became of one host.

    :param candidates: the allocation candidates that are left, None where all are
    :param ruling: why the host, or the first candidate that was dropped, was refused or would be
    """

    candidates: list[Candidate] | None
    ruling: Ruling


_NOTHING_AGAINST = Ruling()
#: All candidates are left, and there is nothing to say.
ACCEPTED = Judged(None, _NOTHING_AGAINST)


class RequestJudge:
    """Judges hosts for one request.

    :param need: what the guest needs
    :param policy: the policy of each family
    :param pins: what its flavor wants its devices to act as
    :param keeps_devices: whether the guest runs on, so that a device of which its record says
        nothing is UNKNOWN; other requests initialise the devices anew
    :param pci: whether devices are asked for that placement need not know
    :param asks: whether devices are asked for at all, so that candidates may take some
    """

    def __init__(
        self,
        need: Need,
        policy: PolicyOf,
        *,
        pins: Need = NOTHING,
        keeps_devices: bool = True,
        pci: bool = False,
        asks: bool = True,
    ) -> None:
        self._need = need
        self._policy = policy
        self._pins = pins
        self._keeps_devices = keeps_devices
        self._pci = pci
        self._asks = asks
        self._groups = need.by_slot()
        self._device_pins = pins.assigned
        # Keyed by identity, which is cheap and right as long as the objects live: hence the last.
        self._verdicts: dict[tuple[int, int], Verdict] = {}
        self._judges: dict[int, Judge] = {}
        self._kept: list[AcceptSet | wire.HostDocument] = []
        # A guest of one device and a host whose devices all accept the same are the common case
        # and worth a short cut: the answer by the document's shape, where that alone decides.
        # Which of the devices a candidate takes does not matter there.
        assigned = need.assigned
        self._only = assigned[0] if len(assigned) == 1 else None
        self._settles = not assigned
        self.settled: dict[str, Judged] = {}
        # What else is told of candidates is remembered by all that it depends on.
        self._rulings: dict[tuple[int | str, ...], Ruling] = {}
        self._classes = [
            one for group in self._groups.values() if (one := group[0].resource_class)
        ]
        self._suffixes = pci or len(self._classes) < len(self._groups)

    def silent(self, reason: Reason) -> Judged:
        """A host of which nothing can be told, for one reason."""
        families = sorted(self._need.families | self._pins.families)
        ruling = Ruling.of(
            (policy, Verdict.unknown(dataclasses.replace(reason, family=family)))
            for family, policy in ((f, self._policy(f)) for f in families)
        )
        return Judged(None if ruling.accepts else [], ruling)

    def judge(self, document: wire.HostDocument, candidates: Sequence[Candidate]) -> Judged:
        """What a host's document says of its candidates.

        :param candidates: none where the request was not made to placement
        """
        settled = self.settled.get(document.shape) if document.shape else None
        settled = settled or self._settle(document, candidates)
        if settled is not None:
            return settled
        if not candidates:
            ruling = self._rule(document, _ANYWHERE)
            return Judged(None if ruling.accepts else [], ruling)
        left = []
        against = _NOTHING_AGAINST
        for candidate in candidates:
            ruling = self._remembered(document, candidate)
            if not ruling.refused:
                left.append(candidate)
                if not ruling.reported:
                    continue
            if not against.refused:
                against = ruling
        if len(left) < len(candidates):
            return Judged(left, against)
        return ACCEPTED if against is _NOTHING_AGAINST else Judged(None, against)

    def _settle(
        self, document: wire.HostDocument, candidates: Sequence[Candidate]
    ) -> Judged | None:
        """The answer that the document's shape alone gives; None where it gives none."""
        shape = document.shape
        if shape is None:
            return None
        if self._only is None or not document.devices:
            # A device that the record says nothing of is told by the candidate that takes it.
            taken = self._keeps_devices and self._asks and document.devices
            if not self._settles or taken:
                return None
        # Candidates of one request are made alike: where all of these take such devices, or none
        # does, so it is on the other hosts of the shape.
        pins = {tuple(self._pin_verdicts(document, one)) for one in candidates or (_ANYWHERE,)}
        if len(pins) > 1:
            return None
        verdicts = [*list(*pins), *self._host_verdicts(document)]
        if self._only is not None:
            verdict = self._verdict(self._only, document.devices[0].accepts)
            verdicts.append((self._policy(self._only.family), verdict))
        ruling = Ruling.of(verdicts)
        if ruling.refused:
            settled = Judged([], ruling)
        else:
            settled = Judged(None, ruling) if ruling.reported else ACCEPTED
        self.settled[shape] = settled
        return settled

    def _verdict(self, need: DeviceNeed, accepts: AcceptSet) -> Verdict:
        key = (id(need), id(accepts))
        verdict = self._verdicts.get(key)
        if verdict is None:
            self._kept.append(accepts)
            verdict = self._verdicts[key] = accepts.judge(need)
        return verdict

    def _judge_of(self, accepts: AcceptSet) -> Judge:
        judge = self._judges.get(id(accepts))
        if judge is None:
            self._kept.append(accepts)
            judge = self._judges[id(accepts)] = lambda need: self._verdict(need, accepts)
        return judge

    def _remembered(self, document: wire.HostDocument, candidate: Candidate) -> Ruling:
        key = self._key(document, candidate)
        if key is None:
            return self._rule(document, candidate)
        ruling = self._rulings.get(key)
        if ruling is None:
            ruling = self._rulings[key] = self._rule(document, candidate)
            self._kept.append(document)
        return ruling

    def _key(
        self, document: wire.HostDocument, candidate: Candidate
    ) -> tuple[int | str, ...] | None:
        """All that the ruling on a candidate depends on; None where that cannot be told.

        That is what the document names, the accept-set behind each provider with the units that
        the need is after, and which provider answers which group.
        """
        if document.kin is None:
            return None
        find = document.by_provider.get
        allocations = candidate["allocations"]
        key: list[int | str] = [document.kin]
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

    def _rule(self, document: wire.HostDocument, candidate: Candidate) -> Ruling:
        return Ruling.of(
            itertools.chain(
                self._need_verdicts(document, candidate),
                self._pin_verdicts(document, candidate),
                self._host_verdicts(document),
            )
        )

    def _host_verdicts(self, document: wire.HostDocument) -> Iterator[tuple[Policy, Verdict]]:
        """The verdicts on the host itself, whichever of its devices a candidate takes."""
        by_family = document.by_family
        judges = {family: self._judge_of(accepts) for family, accepts in by_family.items()}
        verdicts = judge_host(self._need.host, judges, complete=self._keeps_devices)
        for family, verdict in verdicts.items():
            yield self._policy(family), verdict
        for family, verdict in judge_host_pins(self._pins.host, by_family).items():
            yield self._policy(family), verdict

    def _need_verdicts(
        self, document: wire.HostDocument, candidate: Candidate
    ) -> Iterable[tuple[Policy, Verdict]]:
        taken: set[str] = set()
        for group, providers in self._claims(candidate):
            if providers is None:
                # Not in placement: any device of the family may be claimed. Admission is exact.
                devices = self._devices(document, {one.family for one in group})
                verdicts = judge_each(group, devices, self._policy)
            else:
                taken.update(providers)
                judges = [self._claimed(document, provider) for provider in providers]
                verdicts = judge_claim(group, judges, self._policy)
            yield from zip((self._policy(one.family) for one in group), verdicts, strict=True)
        if not self._keeps_devices:
            return
        for provider in candidate["allocations"]:
            accepts = document.by_provider.get(provider)
            if accepts is not None and provider not in taken:
                yield self._policy(accepts.family), nothing_recorded(accepts.family)

    def _pin_verdicts(
        self, document: wire.HostDocument, candidate: Candidate
    ) -> Iterator[tuple[Policy, Verdict]]:
        if not self._device_pins:
            return
        by_provider = document.by_provider
        taken = [by_provider[one] for one in candidate["allocations"] if one in by_provider]
        families = {accepts.family for accepts in taken}
        for pin in self._device_pins:
            if pin.family in families:
                (verdict,) = judge_pins(Need(devices=(pin,)), taken)
            else:
                verdict = self._untold(pin, document, candidate)
            yield self._policy(pin.family), verdict

    def _untold(
        self, pin: DeviceNeed, document: wire.HostDocument, candidate: Candidate
    ) -> Verdict:
        """The verdict where placement does not tell which device of a pinned family is taken."""
        anything = not candidate["allocations"] or (self._pci and not _pci_groups(candidate))
        possible: list[AcceptSet | None] = [
            dev.accepts
            for dev in document.devices
            if dev.family == pin.family and (anything or not dev.providers)
        ]
        if not (possible or document.whole):
            return no_offer(pin)
        (verdict,) = judge_pins_loosely(Need(devices=(pin,)), possible, self._policy)
        # It may be given a device that the document does not name, and is UNKNOWN then.
        unnamed = self._pci or not document.whole
        unknown = no_offer(pin)
        objection = self._policy(pin.family).objection
        return unknown if unnamed and objection(unknown) < objection(verdict) else verdict

    def _claims(self, candidate: Candidate) -> Iterator[tuple[list[DeviceNeed], list[str] | None]]:
        """Groups of needs, each with the providers that the candidate takes for them.

        None for devices that placement does not track.
        """
        if not candidate["allocations"]:
            yield from ((group, None) for group in self._groups.values())
            return
        groups = _pci_groups(candidate)
        strayed: list[DeviceNeed] = []
        for group in self._groups.values():
            if (resource_class := group[0].resource_class) is not None:
                yield group, _allocated(resource_class, candidate)
            elif providers := groups.pop(group[0].request_id or "", None):
                yield group, providers
            else:
                strayed += group
        if strayed:
            # A resize gives PCI requests new IDs, and the stored request may keep the old ones:
            # what is left of both belongs together.
            left = [provider for providers in groups.values() for provider in providers]
            yield strayed, left or None

    def _devices(self, document: wire.HostDocument, families: set[str]) -> list[Judge]:
        distinct = {id(dev.accepts): dev.accepts for dev in document.devices}
        return [self._judge_of(one) for one in distinct.values() if one.family in families]

    def _claimed(self, document: wire.HostDocument, provider: str) -> Judge:
        accepts = document.by_provider.get(provider)
        if accepts is not None:
            return self._judge_of(accepts)
        # Right after its first start a host does not know its providers' UUIDs yet.
        unplaced = [self._judge_of(dev.accepts) for dev in document.devices if not dev.providers]
        if not unplaced:
            return no_offer
        return lambda need: judge_each([need], unplaced, self._policy)[0]


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
