# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The hosts and the guests of a cloud, as all questions about it see them.

:mod:`nova_devcompat.fleet.cloud` fills a :class:`Fleet` from Nova's databases,
:mod:`nova_devcompat.fleet.paper` from an inventory. What is asked of either is the same.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Policies, Ruling
from nova_devcompat.compat.risks import Risk, of_entries
from nova_devcompat.compat.ruling import Doubt, Given, Guest, JudgeBy, any_of, judge_part, rule
from nova_devcompat.compat.verdict import Code, Reason, Verdict
from nova_devcompat.stores.provided import Provided
from nova_devcompat.wire import HostDocument, PublishedDevice


class Place(NamedTuple):
    """Where a guest runs.

    :param host: the host of its service
    :param node: the compute node, which most drivers have one of
    """

    host: str
    node: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Host:
    """A compute node, and what it said of itself.

    :param place: which
    :param said: what it published, or why nothing is known of it
    :param id: of Nova's compute node, None on paper
    :param down: since when its nova-compute has not been heard of, so that what it published may
        not be so any more; '' where it runs
    :param cell: where it is, '' on paper
    :param risks: accepted ones of it that hold now
    """

    place: Place
    said: HostDocument | Reason
    id: int | None = None
    down: str = ""
    cell: str = ""
    risks: tuple[Risk, ...] = ()
    #: The unlike accept-sets of its devices.
    accepts: tuple[AcceptSet, ...] = dataclasses.field(init=False, repr=False)
    _by_provider: Mapping[str, tuple[PublishedDevice, ...]] = dataclasses.field(
        init=False, repr=False
    )

    def __post_init__(self) -> None:
        devices = self.said.devices if isinstance(self.said, HostDocument) else ()
        unlike = {id(device.accepts): device.accepts for device in devices}
        by_provider: dict[str, tuple[PublishedDevice, ...]] = {}
        for device in devices:
            for provider in device.providers:
                by_provider[provider] = (*by_provider.get(provider, ()), device)
        object.__setattr__(self, "accepts", tuple(unlike.values()))
        object.__setattr__(self, "_by_provider", by_provider)

    @property
    def document(self) -> HostDocument | None:
        """What it published; None where ``problem`` says why nothing is known of it."""
        return self.said if isinstance(self.said, HostDocument) else None

    @property
    def problem(self) -> Reason | None:
        """Why nothing at all is known of it."""
        return self.said if isinstance(self.said, Reason) else None

    @property
    def unreadable(self) -> str:
        """Why what it published cannot be read, all of it or in part; '' where that is not so.

        Of a host that published nothing there is nothing to read.
        """
        if isinstance(self.said, Reason):
            return "" if self.said.code == Code.HOST_SILENT else self.said.detail
        return "; ".join(
            f"{family or 'of a family that cannot be told'}: {why}"
            for family, why in sorted(self.said.unreadable.items())
        )

    @property
    def of_host(self) -> tuple[AcceptSet, ...]:
        """What the host itself accepts, by host family."""
        return () if self.document is None else tuple(self.document.by_family.values())

    @property
    def parts(self) -> tuple[AcceptSet, ...]:
        """The unlike accept-sets of its devices, and those of the host itself."""
        return (*self.accepts, *self.of_host)

    @property
    def providers(self) -> list[str]:
        """UUIDs of the resource providers of its devices."""
        return list(self._by_provider)

    def find(self, address: str, parent: str | None) -> PublishedDevice | None:
        """The device at an address, or of the parent given beside it."""
        return None if self.document is None else self.document.find(address, parent)

    def behind(self, provider: str) -> Provided[PublishedDevice]:
        """What a resource provider stands for."""
        devices = self._by_provider.get(provider, ())
        return Provided(devices[0].address, devices) if devices else Provided()

    @property
    def devices(self) -> tuple[PublishedDevice, ...]:
        """Those that it published."""
        return () if self.document is None else self.document.devices

    def with_devices(self, devices: Sequence[PublishedDevice]) -> Host:
        """The host as it would be with these of its devices alone."""
        if self.document is None:
            return self
        return dataclasses.replace(
            self, said=dataclasses.replace(self.document, devices=tuple(devices), shape=None)
        )

    # --- one need --------------------------------------------------------------------------------

    def answering(self, need: DeviceNeed) -> tuple[AcceptSet, ...]:
        """What of the host may answer a need, wherever that was until now."""
        if isinstance(self.said, Reason):
            return ()
        if need.of_host:
            part = self.said.by_family.get(need.family)
            return () if part is None else (part,)
        return tuple(any_of(self.accepts, (need.family,)))

    def has_no_other(self, need: DeviceNeed) -> bool:
        """Whether nothing may answer a need but what :meth:`answering` has."""
        # Devices of PCI requests need not be in placement, which is what "whole" is about.
        placed = not need.of_host and need.request_id is None
        return placed and isinstance(self.said, HostDocument) and self.said.whole

    def judge(self, need: DeviceNeed, parent: str | None = None) -> Verdict:
        """Whether it would accept a need on the device that the need is of; on any of the family
        where that is not known, as after a migration. No policy is applied.

        :param parent: of the device
        """
        if isinstance(self.said, Reason):
            return Verdict.unknown(dataclasses.replace(self.said, family=need.family))
        problem = self.said.problem_of(need.family)
        if problem is not None:
            return Verdict.unknown(problem)
        if need.address and not need.of_host:
            device = self.find(need.address, parent)
            return judge_part(need, () if device is None else (device.accepts,))
        return judge_part(need, self.answering(need), complete=self.has_no_other(need))

    # --- a guest ---------------------------------------------------------------------------------

    def rule(
        self,
        guest: Guest,
        policies: Policies,
        *,
        pci: bool = False,
        judge: JudgeBy = AcceptSet.judge,
        doubting: bool = False,
    ) -> Ruling:
        """Whether it would take a guest; whether there is room is not looked at.

        What nova-scheduler's filter would say if any of the host's devices could be allocated.

        :param pci: whether the guest asks for devices that placement need not know
        :param judge: what holds a need against an accept-set
        :param doubting: whether no risk is accepted that anything is UNKNOWN
        """
        given = self._given(guest, policies, pci)
        if self.risks or doubting:
            risks = (*guest.risks, *self.risks)
            guest = dataclasses.replace(guest, risks=of_entries(risks) if doubting else risks)
        return rule(guest, given, policies, judge)

    def _given(self, guest: Guest, policies: Policies, pci: bool) -> Given:
        if isinstance(self.said, Reason):
            return Given(silent=self.said)
        return Given.anywhere(
            guest,
            self.accepts,
            complete=self.said.whole and not pci,
            host=self.said.by_family,
            unreadable=self._concerning(guest, self.said, policies),
        )

    @staticmethod
    def _concerning(guest: Guest, said: HostDocument, policies: Policies) -> Mapping[str, Reason]:
        if not said.unreadable:  # asked of all hosts for all guests
            return {}
        return guest.concerned_by(said.problems, hosts=policies.of_hosts, devices=guest.assigned)

    @property
    def kind(self) -> Hashable:
        """The same for hosts that take the same guests."""
        if isinstance(self.said, Reason):
            return self.said, self.risks
        told = self.said.policies
        return (
            self.risks,
            # What it decides by, where that is not what is decided by here.
            self.said.catalog,
            None if told is None else frozenset(told.items()),
            frozenset(map(id, self.accepts)),
            frozenset(map(id, self.said.by_family.values())),
            frozenset(self.said.unreadable.items()),
            self.said.whole,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Alike:
    """Hosts that take the same guests.

    :param host: one of them
    :param places: where they all are
    """

    host: Host
    places: frozenset[Place]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunningGuest:
    """A running guest, as Nova's databases tell of it.

    :param uuid: of its instance
    :param place: where it runs
    :param record: what it needs; a doubt where that is not known
    :param pins: the extra specs of its flavor that are pins, right or wrong, sorted
    :param assigned: whether it has assigned devices, or may have
    :param pci: whether it asks for devices that placement need not know
    :param asks: units of devices by resource class that it asks placement for, sorted
    :param risks: accepted ones of it that hold now
    :param cell: where it is: nothing is live migrated to another
    """

    uuid: str
    place: Place
    record: Need | Doubt
    pins: tuple[tuple[str, str], ...] = ()
    assigned: bool = True
    pci: bool = False
    asks: tuple[tuple[str, int], ...] = ()
    risks: tuple[Risk, ...] = ()
    cell: str = ""

    def __str__(self) -> str:
        return f"{self.uuid} on {self.place.host}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fleet:
    """Hosts, and the guests on them.

    :param hosts: all that a guest could be moved to
    :param guests: those that run
    """

    hosts: Sequence[Host]
    guests: Sequence[RunningGuest] = ()

    @functools.cached_property
    def alike(self) -> tuple[Alike, ...]:
        """The hosts, those together that take the same guests; most of a kind first."""
        return _alike(self.hosts)

    @functools.cached_property
    def by_cell(self) -> Mapping[str, tuple[Alike, ...]]:
        """The same of the hosts of each cell."""
        cells: dict[str, list[Host]] = {}
        for host in self.hosts:
            cells.setdefault(host.cell, []).append(host)
        return {cell: _alike(hosts) for cell, hosts in cells.items()}


def _alike(hosts: Iterable[Host]) -> tuple[Alike, ...]:
    kinds: dict[Hashable, list[Host]] = {}
    for host in hosts:
        kinds.setdefault(host.kind, []).append(host)
    alike = [
        Alike(host=of_kind[0], places=frozenset(host.place for host in of_kind))
        for of_kind in kinds.values()
    ]
    return tuple(sorted(alike, key=lambda one: -len(one.places)))
