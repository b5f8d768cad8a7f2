#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

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
from nova_devcompat.compat.family import (
    AcceptSet,
    Judge,
    PolicyOf,
    judge_claim,
    judge_each,
    no_offer,
)
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.verdict import (
    Actor,
    Code,
    Policy,
    Reason,
    Ruling,
    Verdict,
)

#: One of placement's allocation requests: ``allocations`` by provider, ``mappings`` by suffix.
Candidate = Mapping[str, Any]

_PCI_GROUP = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-[0-9]+")
_PCI_SLOT = "pci:"
_RESOURCE_SLOT = "rc:"


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """What became of one host.

    :param candidates: the allocation candidates that are left, None where all are
    :param ruling: why the host, or the first candidate that was dropped, was refused or would be
    """

    candidates: list[Candidate] | None
    ruling: Ruling


#: All candidates are left, and there is nothing to say.
ACCEPTED = Judged(None, Ruling())


class RequestJudge:
    """Judges hosts for one request.

    :param need: what the guest needs
    :param policy: the policy of each family
    """

    def __init__(self, need: Need, policy: PolicyOf) -> None:
        self._need = need
        self._policy = policy
        self._groups = need.by_slot()
        # Keyed by identity, which is cheap and right as long as the objects live: hence the last.
        self._verdicts: dict[tuple[int, int], Verdict] = {}
        self._judges: dict[int, Judge] = {}
        self._kept: list[AcceptSet] = []
        # A guest of one device and a host whose devices all accept the same are the common case
        # and worth a short cut: the answer by the document's shape, where that alone decides.
        # Which of the devices a candidate takes does not matter there.
        self._only = need.devices[0] if len(need.devices) == 1 else None
        self.settled: dict[int, Judged] = {}

    def silent(self, reason: Reason) -> Judged:
        """A host of which nothing can be told, for one reason."""
        ruling = Ruling.of(
            (policy, Verdict.unknown(dataclasses.replace(reason, family=family)))
            for family, policy in ((f, self._policy(f)) for f in sorted(self._need.families))
        )
        return Judged(None if ruling.accepts else [], ruling)

    def judge(self, document: wire.HostDocument, candidates: Sequence[Candidate]) -> Judged:
        """What a host's document says of its candidates.

        :param candidates: none where the request was not made to placement
        """
        settled = self._settle(document)
        if settled is not None:
            return settled
        if not candidates:
            ruling = self._rule(document, {"allocations": {}, "mappings": {}})
            return Judged(None if ruling.accepts else [], ruling)
        left = []
        against = Ruling()
        for candidate in candidates:
            ruling = self._rule(document, candidate)
            if ruling.accepts:
                left.append(candidate)
            if against.accepts and (ruling.refused or ruling.reported):
                against = ruling
        return Judged(None if len(left) == len(candidates) else left, against)

    def _settle(self, document: wire.HostDocument) -> Judged | None:
        """The answer that the document's shape alone gives; None where it gives none."""
        need, shape = self._only, document.shape
        if need is None or shape is None:
            return None
        if shape not in self.settled:
            verdict = self._verdict(need, document.devices[0].accepts)
            ruling = Ruling.of([(self._policy(need.family), verdict)])
            if ruling.refused:
                self.settled[shape] = Judged([], ruling)
            else:
                self.settled[shape] = Judged(None, ruling) if ruling.reported else ACCEPTED
        return self.settled[shape]

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

    def _rule(self, document: wire.HostDocument, candidate: Candidate) -> Ruling:
        return Ruling.of(self._verdicts_on(document, candidate))

    def _verdicts_on(
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
        for provider in candidate["allocations"]:
            accepts = document.by_provider.get(provider)
            if accepts is not None and provider not in taken:
                yield self._policy(accepts.family), nothing_recorded(accepts.family)

    def _claims(self, candidate: Candidate) -> Iterator[tuple[list[DeviceNeed], list[str] | None]]:
        """Groups of needs, each with the providers that the candidate takes for them.

        None for devices that placement does not track.
        """
        if not candidate["allocations"]:
            yield from ((group, None) for group in self._groups.values())
            return
        groups = _pci_groups(candidate)
        strayed: list[DeviceNeed] = []
        for slot, group in self._groups.items():
            if slot.startswith(_RESOURCE_SLOT):
                yield group, _allocated(slot.removeprefix(_RESOURCE_SLOT), candidate)
            elif providers := groups.pop(slot.removeprefix(_PCI_SLOT), None):
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


def nothing_recorded(family: str) -> Verdict:
    """The verdict on a device that the request takes but the guest's record does not know."""
    return Verdict.unknown(Reason(code=Code.NEED_MISSING, actor=Actor.OPERATOR, family=family))


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
