# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Where the hosts of one request go, told from a small part of what they published.

Hosts whose documents say the same of all that decides for a request go the same way. The first of
them is judged in full (:class:`RequestJudge`), and its way is kept under what decides: in format 1
of the document the head, which hosts share whose devices are all alike; in format 2 the tokens of
the classes or families that the request is about, whatever else the hosts have. That is a slice of
the text or two, so the others cost little more than to fetch their texts. Where the slices are,
:mod:`nova_devcompat.scheduler.layouts` knows.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from nova_devcompat import wire
from nova_devcompat.compat.policy import Ruling
from nova_devcompat.scheduler.answers import Asks, Candidate
from nova_devcompat.scheduler.judge import ACCEPTED, Judged, RequestJudge, judged_by
from nova_devcompat.scheduler.layouts import Layout, Layouts
from nova_devcompat.scheduler.prunings import Contents, Prunings
from nova_devcompat.scheduler.told import (
    choices_of,
    end_of_tokens,
    is_as_long_as_it_says,
    may_speak_for_others,
    spot_of,
)
from nova_devcompat.wire import stats, stats_2

#: Puts a host where it goes.
To = Callable[[Any], None]


class _Known(dict[str, To | None]):
    """Ways by the head of texts, None for those that are not known."""

    def __missing__(self, head: str) -> None:
        return None


class _Begins(dict[int, str]):
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
        #: By the length of a text in format 1, which is among what decides, and its head.
        self.by_head: Mapping[int, _Known] = collections.defaultdict(_Known)
        # By what decides in format 2; None for who has to be judged by itself all the same.
        self._by_tokens: dict[Hashable, To | None] = {}
        self._layouts = Layouts()
        self._begins = _Begins()

    def by_tokens(self, texts: Sequence[Any]) -> tuple[list[To | None], Iterable[bool]] | None:
        """Where hosts go that publish in format 2; None as long as no host has shown how to tell.

        :param texts: whatever stands where the hosts publish
        :returns: the way of each host, None where that is not known; and whether its text is as
            long as it says. One that is not was cut off or changed on its way and has to be read
            whole
        """
        if not self._layouts:
            return None
        if set(map(type, texts)) != {str}:
            texts = [text if isinstance(text, str) else "" for text in texts]
        begins = map(self._begins.__getitem__, map(len, texts))
        return (
            self._layouts.look_up(texts, self._by_tokens),
            map(str.startswith, texts, begins),
        )

    def add(self, text: str, to: To) -> None:
        """Keep the way of a host that was judged by itself.

        :param text: in format 1, of which the head says all that decides
        """
        self.by_head[len(text)][text[stats.HEAD]] = to

    def find(self, host: Any, text: Any) -> To | None:
        """The way of a host, in whichever format; None where it has to be judged by itself.

        What is found is known from then on, and so is where to look in the texts of others.
        """
        if not is_as_long_as_it_says(text):
            # In format 1, or in none.
            return self.by_head[len(text)][text[stats.HEAD]] if isinstance(text, str) else None
        if self._asks is None:
            self._asks = self._request.asks(host.allocation_candidates)
            if self._asks is None:
                return None
            self._names = sorted({*self._asks.units, *self._asks.families})
        spots = {name: spot_of(text, name) for name in self._names}
        absent = tuple(name for name, spot in spots.items() if spot is None)
        if any(name in self._asks.units for name in absent):
            return None  # it does not say what its devices of the class are
        starts = [spot.start for spot in spots.values() if spot is not None]
        # Which is in each token.
        layout = Layout(
            tuple(starts) or (stats_2.CONTEXT.start,),
            absent,
            end_of_tokens(text) if absent else 0,
        )
        key = self._layouts.key(layout, text)
        if key not in self._by_tokens:
            document = self._read(text)
            if isinstance(document, wire.WireError) or not may_speak_for_others(
                document, text, host.allocation_candidates, self._asks.units, self._asks.families
            ):
                return None  # which is no matter of others that say the same
            self._by_tokens[key] = self._to(document, host.allocation_candidates)
        to = self._by_tokens[key]
        if to is not None:
            self._layouts.keep(layout)
        return to

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
