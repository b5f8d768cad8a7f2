# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Makes the judges of requests, which know what was ruled for earlier ones that are alike."""

from __future__ import annotations

import dataclasses
import threading

from nova_devcompat.compat.guest import Guest
from nova_devcompat.compat.policy import Policies
from nova_devcompat.scheduler.judge import Remembered, RequestJudge
from nova_devcompat.scheduler.verdicts import Verdicts

_Key = tuple[Guest, bool, bool]


@dataclasses.dataclass(frozen=True, slots=True)
class _Ruled:
    """What was ruled for guests that are equal, and by which policies."""

    policies: Policies
    remembered: Remembered


class Judges:
    """Makes judges, and remembers rulings by all that they depend on.

    Guests of one flavor that are started, or of one host that is drained, ask for the same one
    after the other: what was ruled on a candidate of the first of them holds for others that
    allocate the same. Safe for use by several threads: nothing is judged while the lock is held,
    and what two threads find out at once is the same.

    :param limit: for how many unlike guests rulings are remembered
    :param rulings: how many for each
    """

    def __init__(self, limit: int = 100, rulings: int = 20_000) -> None:
        self._limit = limit
        self._rulings = rulings
        self._lock = threading.Lock()
        self._verdicts = Verdicts()
        # The one that was asked for last stands at the end.
        self._known: dict[_Key, _Ruled] = {}

    def of(
        self, guest: Guest, policies: Policies, *, pci: bool, whichever: bool = False
    ) -> RequestJudge:
        """A judge for one request.

        :param guest: who is to be placed
        :param policies: the policy of each family
        :param pci: whether devices are asked for that placement need not know
        :param whichever: whether the rulings are to hold whichever of a host's devices is claimed
        """
        key = (guest, pci, whichever)
        with self._lock:
            known = self._known.pop(key, None)
            full = known is not None and len(known.remembered.rulings) > self._rulings
            if known is None or full or known.policies != policies:
                known = _Ruled(policies, Remembered())
            self._known[key] = known
            if len(self._known) > self._limit:
                del self._known[next(iter(self._known))]
        return RequestJudge(
            guest,
            policies,
            pci=pci,
            verdicts=self._verdicts,
            whichever=whichever,
            remembered=known.remembered,
        )
