# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is known of a guest on a host: what each line of defence says, and what Nova has."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, NamedTuple

from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Actor, Reason
from nova_devcompat.fleet.counting import shown
from nova_devcompat.fleet.model import Place
from nova_devcompat.fleet.nearness import Distance, distance
from nova_devcompat.scheduler.beside import Objection

#: What is said of a host whose last word is not known.
ONLY_IT_CAN_TELL = "only the host itself can tell"
#: Likewise where placement does not answer.
TRAITS_NOT_TOLD = "placement does not tell whether it has the traits"

# Objections that no upgrade and no patience takes away.
_NEVER = frozenset({"another-cell", "other-hypervisor"})


class Says(enum.StrEnum):
    """What a line of defence says of a host."""

    ACCEPT = "accept"
    REJECT = "reject"
    #: It cannot be told beforehand.
    UNKNOWN = "unknown"
    #: It is not asked, or there is none.
    NONE = "none"


class Row(NamedTuple):
    """A host, and what became of the guest there.

    :param host: of its service
    :param node: the compute node
    :param cell: where it is
    :param verdict: of ours: accept, reject, or unknown where only the host can tell
    :param prefilter: what placement is made to say by our traits
    :param filter: what nova-scheduler's filter says
    :param admission: what the host itself says, as far as it is known
    :param reasons: why ours reject it, or would, or why that cannot be told
    :param act: who can change that
    :param nova: what of Nova itself stands against it
    """

    host: str
    node: str
    cell: str
    verdict: str
    prefilter: str
    filter: str
    admission: str
    reasons: str
    act: str
    nova: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What is known of a guest on a host.

    :param place: the host
    :param uuid: of its compute node, which is its root provider in placement
    :param cell: the name of its cell
    :param filter: what the filter says
    :param admission: what nova-compute says there
    :param refused: why the filter refuses the host, or its admission
    :param untold: why it cannot be told what its admission says
    :param reported: what is only reported
    :param nova: what of Nova itself stands against it
    :param prefilter: what placement says by our traits
    :param accepted: what it would have traits for, of a host of which something is assumed
    :param candidates: placement's allocation candidates that the filter leaves
    """

    place: Place
    uuid: str
    cell: str
    filter: Says
    admission: Says
    refused: tuple[Reason, ...] = ()
    untold: tuple[Reason, ...] = ()
    reported: tuple[Reason, ...] = ()
    nova: tuple[Objection, ...] = ()
    prefilter: Says = Says.NONE
    accepted: frozenset[Atom] | None = dataclasses.field(default=None, repr=False)
    candidates: tuple[Any, ...] = dataclasses.field(default=(), repr=False)

    @property
    def verdict(self) -> Says:
        """What all lines of defence come to."""
        lines = (self.prefilter, self.filter, self.admission)
        if Says.REJECT in lines:
            return Says.REJECT
        return Says.UNKNOWN if Says.UNKNOWN in lines else Says.ACCEPT

    @property
    def takes_it(self) -> bool:
        """Whether nothing is known to stand in the way."""
        return self.verdict is not Says.REJECT and not self.nova

    @property
    def surely_takes_it(self) -> bool:
        """Whether it is known that nothing does."""
        return self.verdict is Says.ACCEPT and not self.nova

    @property
    def never(self) -> bool:
        """Whether it can never take the guest, whatever is done."""
        return any(one.code in _NEVER for one in self.nova)

    @property
    def order(self) -> tuple[bool, bool, bool, int, Distance, Place]:
        """Hosts that take it come first, then those that may, then the nearest miss; last those
        that never can.
        """
        reasons = self.refused or self.untold
        much = len(reasons) + len(self.nova)
        return (
            not self.surely_takes_it,
            not self.takes_it,
            self.never,
            much,
            distance(reasons),
            self.place,
        )

    def why(self) -> list[str]:
        """What stands in the way of ours, or may, each as an operator reads it."""
        host = shown(self.place.host)
        told = [shown(reason.of(host)) for reason in self.refused]
        if self.verdict is Says.UNKNOWN:
            untold = [shown(reason.of(host)) for reason in self.untold]
            told += [f"{ONLY_IT_CAN_TELL}: {one}" for one in untold]
            if self.prefilter is Says.UNKNOWN:
                told.append(TRAITS_NOT_TOLD)
        return told

    @property
    def row(self) -> Row:
        """As it is shown."""
        host = shown(self.place.host)
        reasons = self.why()
        reasons += [f"only reported: {shown(reason.of(host))}" for reason in self.reported]
        untold = self.untold if self.verdict is Says.UNKNOWN else ()
        actors = {reason.actor for reason in (*self.refused, *untold, *self.reported)}
        return Row(
            host=self.place.host,
            node=self.place.node,
            cell=self.cell,
            verdict=self.verdict,
            prefilter=self.prefilter,
            filter=self.filter,
            admission=self.admission,
            reasons="; ".join(reasons),
            act=", ".join(actor for actor in Actor if actor in actors),
            nova="; ".join(map(str, self.nova)),
        )
