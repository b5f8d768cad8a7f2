# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Whether a guest on any device of an inventory could move to any other host, on paper.

The rules, the needs and the verdicts are those of nova-compute; only the offers come from a file.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.ruling import judge_part
from nova_devcompat.compat.verdict import Code, Outcome, Reason, Verdict
from nova_devcompat.fleet.model import Host
from nova_devcompat.fleet.paper import Paper
from nova_devcompat.kit.text import near
from nova_devcompat.sources.static import Inventory


class UnknownName(ValueError):
    """A host or family that was asked for and does not exist."""


class Move(NamedTuple):
    """Whether a guest started on a device could move to a host.

    :param source_host: the host it is on
    :param source_address: the device
    :param family: the device's family
    :param destination_host: the other host
    :param verdict: ``accept``, ``reject`` or ``unknown``; no policy is applied
    :param reason: why, '' for ``accept``
    """

    source_host: str
    source_address: str
    family: str
    destination_host: str
    verdict: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Destination:
    """What a host has to offer to guests of one family.

    :param host: its name
    :param accepts: what may answer their needs
    :param complete: whether nothing else may
    :param key: the same for hosts that offer the same
    """

    host: str
    accepts: tuple[AcceptSet, ...]
    complete: bool
    key: tuple[int, ...]

    @classmethod
    def of(cls, host: Host, need: DeviceNeed) -> _Destination:
        """A host, for guests with needs of the family of this one."""
        accepts = host.answering(need)
        return cls(
            host=host.place.host,
            accepts=accepts,
            complete=host.has_no_other(need),
            key=tuple(map(id, accepts)),
        )


class Matrix:
    """The verdicts between the hosts of an inventory.

    A verdict is computed once for each unlike need and unlike offer, so the time it takes depends
    on how mixed the fleet is rather than on how large.

    :param catalog: the rules
    :param inventory: the devices
    :raises ValueError: as :class:`~nova_devcompat.fleet.paper.Paper` does
    """

    def __init__(self, catalog: Catalog, inventory: Inventory) -> None:
        self._catalog = catalog
        self._paper = Paper(catalog, inventory)
        #: Devices that belong to no family: (host, address).
        self.passed_over = self._paper.passed_over

    def moves(
        self,
        *,
        source: str | None = None,
        destination: str | None = None,
        family: str | None = None,
    ) -> Iterator[Move]:
        """One move for each device and each other host, sorted by host, address and host.

        :param source: only from this host
        :param destination: only to this host
        :param family: only devices of this family
        :raises UnknownName: a host that is not in the inventory, a family not in the catalog;
            raised by the call itself, not on iteration
        """
        hosts = self._paper.starts
        for name, known, what in (
            (source, hosts, "the inventory has no host"),
            (destination, hosts, "the inventory has no host"),
            (family, self._catalog.families, "the catalog has no family"),
        ):
            if name is not None and name not in known:
                raise UnknownName(f"{what} {name!r}{_some(list(known))}{near(name, known)}")
        return self._moves(
            list(hosts) if source is None else [source],
            [host for host in self._paper.fleet.hosts if destination in (None, host.place.host)],
            family,
        )

    def _moves(self, sources: list[str], hosts: list[Host], family: str | None) -> Iterator[Move]:
        starts = [start for of_host in self._paper.starts.values() for start in of_host]
        with_need = collections.Counter(id(start.need) for start in starts)
        any_need = {start.need.family: start.need for start in starts}
        destinations = {
            name: [_Destination.of(host, need) for host in hosts]
            for name, need in any_need.items()
        }
        # By need, of which the identity is enough, and by what a host offers.
        known: dict[int, dict[tuple[int, ...], Verdict]] = {}
        for source in sources:
            for start in self._paper.starts[source]:
                if family not in (None, start.need.family):
                    continue
                # A need that no other device has is asked about each host once.
                shared = with_need[id(start.need)] > 1
                answers = known.setdefault(id(start.need), {}) if shared else {}
                for to in destinations[start.need.family]:
                    if to.host == source:
                        continue
                    best = answers.get(to.key) if shared else None
                    if best is None:
                        # Of the device that fits best; of several, the first.
                        best = judge_part(start.need, to.accepts, complete=to.complete)
                        if shared:
                            answers[to.key] = best
                    answer = _answer(best, source, to.host) if best.reasons else _ACCEPT
                    yield Move(source, start.address, start.need.family, to.host, *answer)


def _answer(verdict: Verdict, source: str, destination: str) -> tuple[str, str]:
    """Verdict and reason."""
    reasons = [_on_paper(reason, source).of(destination) for reason in verdict.reasons]
    return verdict.outcome.value, "; ".join(reasons)


def _on_paper(reason: Reason, source: str) -> Reason:
    """A reason as it is on paper, where all that is known of guests is what their host has."""
    if reason.code != Code.NEED_UNKNOWN or reason.detail:
        return reason
    return dataclasses.replace(
        reason, detail=f"since the inventory does not say what {source} has"
    )


_ACCEPT = (Outcome.ACCEPT.value, "")


def _some(names: list[str]) -> str:
    shown = ", ".join(itertools.islice(sorted(names), 10))
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"; there is {shown}{more}" if names else "; it is empty"
