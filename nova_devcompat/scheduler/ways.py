# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Where the hosts of one request go, told from a small part of what they published.

Hosts whose documents say the same of all that decides for a request go the same way. The first of
them is judged in full (:class:`RequestJudge`), and its way is kept under what decides: in format 1
of the document the head, which hosts share whose devices are all alike; in format 2 the tokens of
the classes or families that the request is about, whatever else the hosts have. That is a slice of
the text or two, so the others cost little more than to fetch their texts.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from nova_devcompat import wire
from nova_devcompat.compat.policy import Ruling
from nova_devcompat.scheduler.answers import Asks, Candidate
from nova_devcompat.scheduler.judge import ACCEPTED, Judged, RequestJudge, judged_by
from nova_devcompat.scheduler.prunings import Contents, Prunings
from nova_devcompat.scheduler.told import (
    choices_of,
    is_as_long_as_it_says,
    may_speak_for_others,
    spot_of,
)
from nova_devcompat.wire import stats, stats_2

#: Puts a host where it goes.
To = Callable[[Any], None]
#: What of a text decides; raises TypeError for what is no text.
KeyOf = Callable[[Any], Hashable]

KEY_1: KeyOf = operator.itemgetter(stats.HEAD)


class Way(NamedTuple):
    """Where hosts go whose documents say the same of what decides.

    :param to: puts a host there
    :param size: of the text in format 1, where it is among what decides; 0 in format 2, where a
        text that does not begin as one of its length does (:class:`Begins`) was cut off or changed
        on its way and is read whole
    """

    to: To
    size: int = 0


class Begins(dict[int, str]):
    """How texts of format 2 begin, by their length: each made once."""

    def __missing__(self, size: int) -> str:
        begin = self[size] = stats_2.begin_of(size)
        return begin


class Ways:
    """The ways of one request.

    :param request: judges a host in full
    :param read: the document of a text, or what is wrong with it
    :param prunings: which providers will not do, by document, remembered across requests; None
        where something is to be said of each host that is pruned
    :param accepted: where a host goes of which all candidates are left
    :param rejected: where one goes of which none is
    :param told: what to do with a host of which something else is to be said
    :param each: what to do with one that has to be judged by itself, given with its text
    """

    def __init__(
        self,
        request: RequestJudge,
        read: Callable[[str], wire.HostDocument | wire.WireError],
        prunings: Prunings | None,
        *,
        accepted: To,
        rejected: To,
        told: Callable[[Any, Judged], None],
        each: Callable[[Any, Any], None],
    ) -> None:
        self._request = request
        self._read = read
        self._prunings = prunings
        self._accepted = accepted
        self._rejected = rejected
        self._told = told
        self._each = each
        self._asks: Asks | None = None
        self._names: list[str] = []
        #: By what decides.
        self.ways: dict[Hashable, Way] = {}
        # The same where a look at more than slices is needed.
        self._found: dict[Hashable, Way | None] = {}

    def find(self, host: Any, text: Any) -> tuple[Way | None, KeyOf | None]:
        """The way of a host that has none in :attr:`ways` under the last key.

        :returns: None where it has to be judged by itself; and what makes the keys of hosts that
            are like it, None for nothing new
        """
        if not is_as_long_as_it_says(text):
            return None, None
        if self._asks is None:
            self._asks = self._request.asks(host.allocation_candidates)
            if self._asks is None:
                return None, None
            self._names = sorted({*self._asks.units, *self._asks.families})
        spots = [spot_of(text, name) for name in self._names]
        if None in spots and any(
            spot is None and name in self._asks.units
            for spot, name in zip(spots, self._names, strict=True)
        ):
            return None, None  # it does not say what its devices of the class are
        absent = None in spots
        if absent or not self._asks.units:
            spots.append(stats_2.CONTEXT)
        key_of = operator.itemgetter(*(spot for spot in spots if spot is not None))
        key = (key_of(text), tuple(spot is None for spot in spots))
        if key not in self._found:
            document = self._read(text)
            if isinstance(document, wire.WireError) or not may_speak_for_others(
                document, text, host.allocation_candidates, self._asks.units, self._asks.families
            ):
                return None, None  # which is no matter of others that say the same
            to = self._to(document, host.allocation_candidates)
            way = None if to is None else Way(to)
            self._found[key] = way
            if way is not None and not absent:
                self.ways[key_of(text)] = way
        return self._found[key], None if absent else key_of

    def _to(self, document: wire.HostDocument, candidates: Sequence[Candidate]) -> To | None:
        assert self._asks is not None
        choices = [choices_of(document, name) for name in self._asks.units]
        if len(choices) == 1 and len(choices[0]) > 1:
            return self._pruning(document, candidates, choices[0])
        if any(len(each) > 1 for each in choices):
            return None
        # Whichever of its providers are taken, they stand for the same.
        rulings = self._request.rulings(document, candidates)
        if any(ruling != rulings[0] for ruling in rulings[1:]):
            return None
        judged = judged_by(candidates, rulings)
        if judged is ACCEPTED:
            return self._accepted
        if judged.candidates == []:
            return self._rejected
        return lambda host: self._told(host, judged)

    def _pruning(
        self,
        document: wire.HostDocument,
        candidates: Sequence[Candidate],
        choices: Mapping[Contents, str],
    ) -> To | None:
        """Where a host goes of which some devices of one class will do and others will not.

        :param choices: what its providers of the class stand for, each with one of them
        """
        assert self._asks is not None
        if (
            self._prunings is None
            or self._asks.families
            or sum(self._asks.units.values()) != 1
            or () in choices
        ):
            return None  # of several at once, or of some that the host does not know
        (name,) = self._asks.units
        allocations = candidates[0]["allocations"]
        taken = next(one for one in allocations if name in allocations[one]["resources"])
        rulings: dict[Contents, Ruling] = {}
        for stands_for, provider in choices.items():
            candidate = _exchanged(candidates[0], taken, provider)
            (rulings[stands_for],) = self._request.rulings(document, [candidate])
        if any(ruling.reported or ruling.waived for ruling in rulings.values()):
            return None  # which is to be said of each
        bad = frozenset(one for one, ruling in rulings.items() if ruling.refused)
        if not bad:
            return self._accepted
        return (
            self._rejected if len(bad) == len(rulings) else self._to_be_pruned(bad, self._prunings)
        )

    def _to_be_pruned(self, bad: frozenset[Contents], prunings: Prunings) -> To:
        known = prunings.of(bad)
        digest, key = stats_2.DIGEST, wire.STATS_KEY
        accepted, rejected = self._accepted, self._rejected

        def prune(host: Any) -> None:
            text = host.stats[key]
            gone = known.get(text[digest])
            if gone is None:
                document = self._read(text)
                if isinstance(document, wire.WireError) or not document.by_provider:
                    self._each(host, text)  # it says what others say, and cannot be read
                    return
                gone = prunings.add(bad, text[digest], document)
            apart = gone.isdisjoint
            candidates = host.allocation_candidates
            left = [one for one in candidates if apart(one["allocations"])]
            if len(left) == len(candidates):
                accepted(host)
            elif left:
                # What CandidateFilterMixin does, which formats a line for each candidate.
                host.allocation_candidates = left
                accepted(host)
            else:
                rejected(host)

        return prune


def _exchanged(candidate: Candidate, taken: str, provider: str) -> Candidate:
    """The candidate, if it took a device of another provider."""

    def other(one: str) -> str:
        return provider if one == taken else one

    return {
        "allocations": {
            other(one): allocation for one, allocation in candidate["allocations"].items()
        },
        "mappings": {
            suffix: list(map(other, providers))
            for suffix, providers in candidate.get("mappings", {}).items()
        },
    }
