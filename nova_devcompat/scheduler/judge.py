# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Whether a host's allocation candidates can take a guest, by what the host published.

What a candidate gives a guest, :mod:`nova_devcompat.scheduler.answers` says; it is put to
:func:`nova_devcompat.compat.ruling.rule`. Written to be asked once a request for each of 10,000
hosts: hosts that accept the same share their accept-sets
(:class:`nova_devcompat.wire.StatsReader`), so verdicts are computed once for all of them, and a
host whose devices are all alike needs no look at each candidate's slots.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from nova_devcompat import wire
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.policy import Policies, Ruling
from nova_devcompat.compat.ruling import Given, Guest, rule
from nova_devcompat.compat.verdict import Reason, Verdict
from nova_devcompat.scheduler.answers import Answers, Asks, Candidate, takes_unnamed
from nova_devcompat.scheduler.verdicts import Verdicts


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


_NOTHING_AGAINST = Ruling()
# What stands for the candidates of a host where there are none: the ruling is on the host.
_ANYWHERE: Sequence[Candidate] = ({},)
#: All candidates are left, and there is nothing to say.
ACCEPTED = Judged(None, _NOTHING_AGAINST)


@dataclasses.dataclass(frozen=True, slots=True)
class Remembered:
    """Rulings on candidates, by all that they depend on beside the guest and the policies.

    :param rulings: by what the document names, what is behind each provider, and what is taken
    :param kept: the documents: what is behind providers is told by identity, which is cheap and
        right as long as the objects live
    """

    rulings: dict[tuple[int | str | None, ...] | None, Ruling] = dataclasses.field(
        default_factory=dict
    )
    kept: list[wire.HostDocument] = dataclasses.field(default_factory=list)


class RequestJudge:
    """Judges hosts for one request.

    :param guest: who is to be placed
    :param policies: the policy of each family
    :param pci: whether devices are asked for that placement need not know
    :param short_cuts: whether what was found for one host is used for others that are alike. It
        changes no ruling
    :param verdicts: those of earlier requests, where these are remembered
    :param whichever: whether the rulings are to hold whichever of a host's devices is claimed
    :param remembered: rulings of earlier requests of equal guests under equal policies; how their
        candidates were made does not matter
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
        remembered: Remembered | None = None,
    ) -> None:
        self._guest = guest
        self._whichever = whichever
        self._policies = policies
        self._pci = pci
        self._short_cuts = short_cuts
        self._judge_anew = AcceptSet.judge if verdicts is None else verdicts.of
        self._answers = Answers(guest, policies, pci=pci)
        # Keyed by identity, which is cheap and right as long as the objects live: hence the last.
        self._verdicts: dict[tuple[int, int], Verdict] = {}
        self._kept: list[AcceptSet] = []
        # By why hosts are silent, and whether there are candidates.
        self._silent: dict[tuple[str, str, bool], Judged] = {}
        #: By the shape of documents, the answer for all hosts that have it.
        self.settled: dict[str, Judged] = {}
        # What else is told of candidates.
        self._remembered = Remembered() if remembered is None else remembered
        groups = guest.need.by_slot()
        self._classes = [
            resource_class
            for needs in groups.values()
            if (resource_class := needs[0].resource_class)
        ]
        self._suffixes = pci or len(self._classes) < len(groups)

    def silent(self, reason: Reason, candidates: Sequence[Candidate] = ()) -> Judged:
        """A host of which nothing can be told, for one reason."""
        # Candidates of one request are made alike, so they take what is not known or do not.
        key = reason.code, reason.detail, bool(candidates)
        known = self._silent.get(key) if self._short_cuts else None
        if known is None:
            known = self._silent[key] = self._judge_silent(reason, candidates)
        return known

    def _judge_silent(self, reason: Reason, candidates: Sequence[Candidate]) -> Judged:
        extras = self._answers.strangers(candidates[0], None) if candidates else ()
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
            and not any(takes_unnamed(document, candidate) for candidate in candidates)
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
        return self._known(document, candidates)

    def asks(self, candidates: Sequence[Candidate]) -> Asks | None:
        """What a request asks for, by the candidates of one host; None where there are none."""
        return self._answers.asks(candidates)

    def _known(self, document: wire.HostDocument, candidates: Sequence[Candidate]) -> list[Ruling]:
        """The ruling on each candidate of a document that has kin."""
        # A plain loop: done for each host that has unlike devices.
        known, key_of = self._remembered.rulings, self._key
        rulings = []
        for candidate in candidates:
            key = key_of(document, candidate)
            ruling = known.get(key)
            if ruling is None:
                ruling = self._rule(document, candidate)
                if key is not None:
                    known[key] = ruling
                    self._remembered.kept.append(document)
            rulings.append(ruling)
        return rulings

    def _key(
        self, document: wire.HostDocument, candidate: Candidate
    ) -> tuple[int | str | None, ...] | None:
        """All that the ruling on a candidate depends on; None where that cannot be told.

        That is what the document names, the accept-set behind each provider with the units that
        the need is after, and which provider answers which group.
        """
        allocations = candidate["allocations"]
        # How many providers there are is told by the first text in it, or else by its length.
        key: list[int | str | None] = [
            document.kin,
            *map(id, map(document.by_provider.get, allocations)),
        ]
        for resource_class in self._classes:
            for allocation in allocations.values():
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
        given = self._answers.given(document, candidate)
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
