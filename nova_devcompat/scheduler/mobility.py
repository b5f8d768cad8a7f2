# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How mobile each host would leave a guest, and how close a fit its devices are.

Written for 10,000 hosts a request: hosts on which a request comes to the same are one
:class:`Group`, and a need is judged once for each accept-set, however many hosts share that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nova_devcompat import wire
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Policies
from nova_devcompat.compat.ruling import Given, Guest, judge_part, rule
from nova_devcompat.compat.verdict import Reason

# How many verdicts a request may cost, some 5 us each: a fleet of hundreds of versions is judged
# by those that most hosts have.
_VERDICTS = 20_000


@dataclasses.dataclass(eq=False, slots=True)
class Group:
    """Hosts on which a request comes to the same.

    :ivar offered: the accept-sets of all devices of each of these hosts, and of the host itself
    :ivar taken: those of the devices that the guest would be given, or may be
    :ivar hosts: how many hosts there are
    :ivar accepted_by: how many other hosts accept what the guest will need
    :ivar weight: ``accepted_by``, and as a fraction below 1 how close a fit it is; 0 for hosts
        that do not fit or of which too little is known
    :ivar why: why the weight is 0, '' where it is not
    """

    offered: Sequence[AcceptSet]
    taken: Sequence[AcceptSet]
    why: str = ""
    hosts: int = 0
    accepted_by: int = 0
    weight: float = 0.0
    atoms: float = 0.0
    # A bit for each of its hosts, among those of all hosts of the request.
    bits: int = 0


class Mobility:
    """Weighs the hosts of one request.

    Call :meth:`group` for each host, count it in the group's ``hosts``, then :meth:`weigh`.

    :param guest: who is to be placed. Where its devices are initialised anew, it will need what
        the devices of its next host are
    :param policies: the policy of each family, which says whether UNKNOWN will do
    :param pci: IDs of the PCI requests, which placement need not know
    """

    def __init__(
        self,
        guest: Guest,
        policies: Policies,
        pci: Iterable[str | None] = (),
    ) -> None:
        self._guest = guest
        self._need = guest.need if guest.keeps_devices else None
        self._policies = policies
        self._pci = frozenset(pci)
        self._pci_untold: bool | None = None
        # Keyed by identity, which is cheap and right as long as the objects live: hence the first.
        self._kept: list[wire.HostDocument] = []
        self._freezes: dict[int, DeviceNeed] = {}
        self._counts: dict[int, int] = {}
        self._groups: dict[tuple[int, ...], Group] = {}
        self._silent = Group((), (), "what it publishes is not known")
        #: Groups by the shape of their hosts' documents, where that alone tells the group.
        self.by_shape: dict[str, Group] = {}

    def group(
        self, document: wire.HostDocument | Reason, candidates: Sequence[Mapping[str, Any]]
    ) -> Group:
        """The group of a host.

        :param document: what it published, or why nothing is known of it
        :param candidates: its allocation candidates, of which Nova claims the first
        """
        if isinstance(document, Reason):
            return self._silent
        group = self.by_shape.get(document.shape) if document.shape else None
        if group is not None:
            return group
        taken = self._taken(document, candidates)
        key = (document.kin or id(document), *map(id, taken))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(
                _distinct(one.accepts for one in (*document.devices, *document.host)),
                _distinct(taken),
                "" if taken else "it gives no device of a family",
            )
            self._kept.append(document)
        if document.shape and (taken or not document.devices):
            # Candidates of one request are made alike: what these take of devices that are all
            # alike, those of other such hosts do. One that takes none may be of a host that names
            # other providers than it has.
            self.by_shape[document.shape] = group
        return group

    def _taken(
        self, document: wire.HostDocument, candidates: Sequence[Mapping[str, Any]]
    ) -> list[AcceptSet]:
        """The accept-sets of the devices that the guest would be given."""
        found: list[AcceptSet] = []
        if candidates:
            by_provider = document.by_provider
            for provider in candidates[0]["allocations"]:
                if provider in by_provider:
                    found += by_provider[provider]
        if self._pci and self._is_pci_untold(candidates):
            # It may be given any device that placement does not know.
            found += [device.accepts for device in document.devices if not device.providers]
            if not found:
                found = [device.accepts for device in document.devices]
        if self._need is not None:
            families = self._need.families
            found = [accepts for accepts in found if accepts.family in families]
        return found

    def _is_pci_untold(self, candidates: Sequence[Mapping[str, Any]]) -> bool:
        """Whether candidates do not tell the devices of all PCI requests, once for all of them.

        A device of a PCI request is request group ``<request id>-<index>``
        (nova/objects/request_spec.py, generate_request_groups_from_pci_requests).
        """
        if self._pci_untold is None:
            suffixes = candidates[0].get("mappings", {}) if candidates else ()
            named = {suffix.rpartition("-")[0] for suffix in suffixes}
            self._pci_untold = not self._pci <= named
        return self._pci_untold

    def weigh(self) -> None:
        """Set the weights of all groups, whose hosts have been counted."""
        groups = [one for one in (self._silent, *self._groups.values()) if one.hosts]
        needs = {id(group): self._needs(group) for group in groups if not group.why}
        accepting = self._accepting(groups, {one for each in needs.values() for one in each})
        everybody = (1 << sum(group.hosts for group in groups)) - 1
        for group in groups:
            if group.why:
                continue
            accepted = everybody
            for need in needs[id(group)]:
                accepted &= accepting[need]
            itself = bool(accepted & group.bits)
            if self._need is not None and not itself:
                group.why = "it does not accept what the guest needs"
            elif not self._acts_as_pinned(group):
                group.why = "it cannot act as the flavor pins"
            else:
                group.accepted_by = accepted.bit_count() - itself
                group.atoms = _mean(self._atoms(accepts) for accepts in group.taken)
        fitting = [group for group in groups if not group.why]
        most = max((group.atoms for group in fitting), default=0)
        for group in fitting:
            group.weight = group.accepted_by + 1 - group.atoms / (most + 1)

    def _needs(self, group: Group) -> frozenset[DeviceNeed]:
        """What the guest will need if it goes there."""
        if self._need is not None:
            return frozenset(self._need.devices)
        return frozenset(map(self._frozen, group.taken))

    def _frozen(self, accepts: AcceptSet) -> DeviceNeed:
        frozen = self._freezes.get(id(accepts))
        if frozen is None:
            pins = self._guest.pins.devices
            pin = next((pin for pin in pins if pin.family == accepts.family), None)
            frozen = self._freezes[id(accepts)] = accepts.freeze(pin=pin)
        return frozen

    def _atoms(self, accepts: AcceptSet) -> int:
        count = self._counts.get(id(accepts))
        if count is None:
            count = self._counts[id(accepts)] = len(accepts.atoms)
        return count

    def _acts_as_pinned(self, group: Group) -> bool:
        families = {accepts.family for accepts in group.taken}
        pins = tuple(pin for pin in self._guest.pins.assigned if pin.family in families)
        if not pins:
            return True
        # Of several devices it may be given any.
        guest = Guest(pins=Need(devices=pins), keeps_devices=False)
        given = Given(others=tuple(group.taken), complete=True)
        ruling = rule(guest, given, self._policies)
        return not (ruling.refused or ruling.reported)

    def _accepting(self, groups: list[Group], needs: set[DeviceNeed]) -> dict[DeviceNeed, int]:
        """The hosts that have a device which accepts a need, a bit each."""
        offers: dict[str, dict[int, AcceptSet]] = {}
        having: dict[str | int, int] = {}
        count = 0
        for group in groups:
            group.bits = ((1 << group.hosts) - 1) << count
            count += group.hosts
            for accepts in group.offered:
                offers.setdefault(accepts.family, {})[id(accepts)] = accepts
                for key in (accepts.family, id(accepts)):
                    having[key] = having.get(key, 0) | group.bits
        accepting = {}
        for need in needs:
            refuses = self._policies(need.family).refuses
            judged = offers.get(need.family, {})
            if len(judged) * len(needs) > _VERDICTS:
                judged = _most_common(judged, having, _VERDICTS // len(needs))
            found = 0
            for key, accepts in judged.items():
                if not refuses(judge_part(need, (accepts,))):
                    found |= having[key]
            if not refuses(judge_part(need, ())):
                found |= ((1 << count) - 1) & ~having.get(need.family, 0)
            accepting[need] = found
        return accepting


def _distinct(accept_sets: Iterable[AcceptSet]) -> tuple[AcceptSet, ...]:
    return tuple({id(accepts): accepts for accepts in accept_sets}.values())


def _most_common(
    offers: dict[int, AcceptSet], having: Mapping[str | int, int], limit: int
) -> dict[int, AcceptSet]:
    """The accept-sets that most hosts have."""
    ranked = sorted(offers, key=lambda key: -having[key].bit_count())
    return {key: offers[key] for key in ranked[: max(limit, 1)]}


def _mean(numbers: Iterable[int]) -> float:
    listed = list(numbers)
    return sum(listed) / len(listed)
