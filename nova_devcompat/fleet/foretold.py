# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What nova-compute will say of a guest, as far as that can be told before it is asked.

It decides by the rules and the policies that the filter has, so it says what the filter says, but
for what :mod:`nova_devcompat.fleet.untold` tells, and for the record, which it may find stale.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from nova_devcompat.compat.policy import Policies
from nova_devcompat.compat.risks import Risk, of_entries
from nova_devcompat.compat.ruling import Doubt
from nova_devcompat.compat.verdict import HIDDEN, Reason
from nova_devcompat.fleet.answers import Says
from nova_devcompat.fleet.untold import Untold
from nova_devcompat.scheduler.judge import Judged, RequestJudge
from nova_devcompat.scheduler.lookup import Lookup
from nova_devcompat.scheduler.preview import Node
from nova_devcompat.scheduler.state import SchedulerState


class Word(NamedTuple):
    """What a host's nova-compute will say.

    :param says: what
    :param refused: why it refuses what the filter does not
    :param untold: why it cannot be told
    """

    says: Says
    refused: tuple[Reason, ...] = ()
    untold: tuple[Reason, ...] = ()


_ACCEPTS = Word(Says.ACCEPT)


class Foretold:
    """Tells beforehand what hosts say of one guest.

    :param state: what nova-scheduler decides by
    :param found: the guest, as it is looked up for the request
    :param doubt: what stands in place of its record at the destination, None for nothing
    """

    def __init__(self, state: SchedulerState, found: Lookup, doubt: Doubt | None = None) -> None:
        self._state = state
        self._found = found
        if doubt is not None:
            guest = dataclasses.replace(found.guest, record=doubt)
            self._found = dataclasses.replace(found, guest=guest, plain=False)
        self._doubts_record = doubt is not None
        self._policies: Policies = state.policies()
        self._untold_of = Untold(self._policies)
        # By the accepted risks of a host, which few have, and by what is asked.
        self._judges: dict[tuple[object, ...], RequestJudge] = {}

    def of(self, node: Node, judged: Judged, candidates: Sequence[Any]) -> Word:
        """What a host says.

        :param node: it
        :param judged: what the filter says of it
        :param candidates: placement's for it
        """
        if judged.candidates == []:
            # The filter refuses nothing that it could accept, unless it knows too little.
            blind = all(reason.code in HIDDEN for reason in judged.ruling.refused)
            return Word(Says.UNKNOWN if blind else Says.REJECT)
        if not self._found.decides:
            return _ACCEPTS
        left = candidates if judged.candidates is None else judged.candidates
        risks = tuple(self._state.host_risks().get(node.host, ()))
        if self._doubts_record:
            refused = self._against(self._judge(risks, self._policies), node, left)
            if refused:
                return Word(Says.REJECT, refused=refused)
        untold = self._untold(node, left, risks)
        return Word(Says.UNKNOWN, untold=untold) if untold else _ACCEPTS

    def _untold(
        self, node: Node, candidates: Sequence[Any], risks: tuple[Risk, ...]
    ) -> tuple[Reason, ...]:
        """Why it may refuse what the filter does not, whichever of the devices it gives."""

        def against(policies: Policies, doubting: bool) -> tuple[Reason, ...]:
            allowed = of_entries(risks) if doubting else risks
            judge = self._judge(allowed, policies, whichever=True, doubting=doubting)
            return self._against(judge, node, candidates)

        return self._untold_of.of(
            self._state.document_of(node),
            against,
            other_catalog=bool(self._state.other_catalog(node.stats)),
        )

    def _judge(
        self,
        risks: tuple[Risk, ...],
        policies: Policies,
        *,
        whichever: bool = False,
        doubting: bool = False,
    ) -> RequestJudge:
        """A judge.

        :param doubting: whether to let nothing pass that is UNKNOWN, which is what is asked about
        """
        key = risks, policies, whichever, doubting
        if key not in self._judges:
            guest = self._found.guest
            if doubting:
                guest = dataclasses.replace(guest, risks=of_entries(guest.risks))
            found = dataclasses.replace(self._found, guest=guest)
            self._judges[key] = self._state.request(
                found, risks, policies=policies, whichever=whichever
            )
        return self._judges[key]

    def _against(
        self, judge: RequestJudge, node: Node, candidates: Sequence[Any]
    ) -> tuple[Reason, ...]:
        """All that stands against the guest, on whichever of the candidates."""
        if not self._state.judge(judge, node.stats, list(candidates)).ruling.refused:
            return ()
        rulings = self._state.rulings(judge, node.stats, candidates)
        return tuple(dict.fromkeys(reason for one in rulings for reason in one.refused))
