# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Numbers of a whole cloud, with labels of which there are few: no guest and no host is named.

Families, reasons and risks that the catalog and this release do not have, which hosts and plugins
can bring, are counted together as :data:`OTHER`. So however wrong a host is, it adds no label.
"""

from __future__ import annotations

import collections
import datetime
import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.policy import Mode, Policies
from nova_devcompat.compat.risks import UNKNOWN
from nova_devcompat.compat.verdict import Code, Reason
from nova_devcompat.fleet.model import Host, Place, RunningGuest
from nova_devcompat.fleet.outlook import NO_FREE_DEVICE, Finding, Kind, Outlook
from nova_devcompat.fleet.room import Room
from nova_devcompat.fleet.untold import OTHER_CATALOG, OTHER_SETTINGS

#: What stands for names that neither the catalog nor this release has.
OTHER = "other"
#: What stands for no name, such as the family of a reason that concerns any.
NONE = "none"

#: The codes that this release gives.
CODES = frozenset(
    {value for name, value in vars(Code).items() if name.isupper()}
    | {reason.code for reason in (NO_FREE_DEVICE, OTHER_CATALOG, OTHER_SETTINGS)}
)


class State(enum.StrEnum):
    """What is known of a host."""

    PUBLISHES = "publishes"
    #: It did, and its nova-compute is down, so that it may not be so any more.
    STALE = "stale"
    SILENT = "silent"
    UNREADABLE = "unreadable"
    #: Something of some family cannot be read.
    IN_PART = "unreadable_in_part"


class Refusal(NamedTuple):
    """Why pairs of a guest and a host do not fit.

    :param mode: ``enforce`` where that is acted on, ``report`` where it is only reported
    :param family: which; :data:`NONE` or :data:`OTHER`
    :param reason: its code, or :data:`OTHER`
    """

    mode: str
    family: str
    reason: str


class Stranding(NamedTuple):
    """How few hosts take guests.

    :param standing: ``nowhere``, ``only_here``, ``one_other_left`` or ``unknown``
    :param mode: ``enforce`` where it is so now, ``report`` where it would be if all families were
        enforced
    """

    standing: str
    mode: str


class Tally:
    """Counts what cells have.

    :param catalog: whose families are told apart
    :param policies: of one moment
    :param now: the time it is, in UTC
    """

    def __init__(self, catalog: Catalog, policies: Policies, now: datetime.datetime) -> None:
        self._catalog = catalog
        self._policies = policies
        self._now = now
        self._risks = frozenset(
            {f"{name}{UNKNOWN}" for name in catalog.families}
            | {
                entry.name
                for family in catalog.families.values()
                for entry in family.family.known_bad.entries
            }
        )
        self._digests: set[str] = set()
        #: Running guests.
        self.guests = 0
        #: Hosts by :class:`State`.
        self.hosts: collections.Counter[str] = collections.Counter()
        #: Hosts that published under the catalog that is here, and under others.
        self.by_catalog: collections.Counter[str] = collections.Counter()
        #: Seconds since the nova-compute of a host that published was last heard of, the most of
        #: those that are down.
        self.stale_seconds = 0.0
        #: Running guests of which something is not known, by code.
        self.unknown: collections.Counter[str] = collections.Counter()
        #: Accepted risks that hold now, by what they are of (``guest``, ``host``) and name.
        self.risks: collections.Counter[tuple[str, str]] = collections.Counter()
        #: Guests by how few hosts take them.
        self.stranded: collections.Counter[Stranding] = collections.Counter()
        #: The same by what stands against the nearest host, a guest once for each such.
        self.causes: collections.Counter[tuple[Stranding, str, str]] = collections.Counter()
        #: Pairs of a running guest that hosts can object to and another host of its cell.
        self.pairs = 0
        #: Those that do not fit, once for each reason.
        self.refusals: collections.Counter[Refusal] = collections.Counter()
        #: Whether a part answered, by what it is and its name.
        self.answered: dict[tuple[str, str], bool] = {}

    @property
    def digests(self) -> int:
        """How many catalogs hosts published under."""
        return len(self._digests)

    # --- names -----------------------------------------------------------------------------------

    def _reason(self, mode: str, reason: Reason) -> Refusal:
        family = reason.family or NONE
        if family != NONE and family not in self._catalog.families:
            family = OTHER
        return Refusal(mode, family, _code(reason))

    # --- counting --------------------------------------------------------------------------------

    def outlook(
        self, entries: Iterable[Host | RunningGuest], silent: Mapping[str, Any]
    ) -> Outlook:
        """Take the hosts and the guests of a cell.

        :param entries: they, in any order
        :param silent: the hosts whose nova-compute is down, each with when it was last heard of
        :returns: them, to be asked about
        """
        found = Outlook(self._catalog, self._policies)
        found.read(self._counted(entries, silent))
        return found

    def _counted(
        self, entries: Iterable[Host | RunningGuest], silent: Mapping[str, Any]
    ) -> Iterator[Host | RunningGuest]:
        for entry in entries:
            if isinstance(entry, Host):
                self._count_host(entry, silent)
            else:
                self._count_guest(entry)
            yield entry

    def _count_host(self, host: Host, silent: Mapping[str, Any]) -> None:
        document = host.document
        if document is None:
            known = host.problem is not None and host.problem.code != Code.HOST_SILENT
            self.hosts[State.UNREADABLE if known else State.SILENT] += 1
            return
        self._digests.add(document.catalog)
        here = document.catalog == self._catalog.digest
        self.by_catalog["here" if here else OTHER] += 1
        if host.place.host in silent:
            self.hosts[State.STALE] += 1
            since = silent[host.place.host]
            if since is not None:
                seconds = (self._now - since).total_seconds()
                self.stale_seconds = max(self.stale_seconds, seconds)
        else:
            self.hosts[State.IN_PART if document.unreadable else State.PUBLISHES] += 1

    def _count_guest(self, guest: RunningGuest) -> None:
        self.guests += 1
        for risk in guest.risks:
            self.count_risk("guest", risk.name)
        if not isinstance(guest.record, Need):
            self.unknown[_code(guest.record.reason)] += 1

    def count_risk(self, of: str, name: str) -> None:
        """Count an accepted risk that holds.

        :param of: ``guest`` or ``host``
        """
        self.risks[of, name if name in self._risks else OTHER] += 1

    def judge(self, outlook: Outlook, room: Room | None = None) -> None:
        """Ask all hosts of a cell about all its guests.

        :param room: which devices are free; None to count no devices
        """
        now = {}
        for one in outlook.findings(room):
            now[one.guest.uuid] = one.standing
            self._count_stranded(one, Mode.ENFORCE)
        enforced = self._policies.as_enforced()
        # The same where all families are enforced already.
        all_of_them = enforced.told == self._policies.told
        for one in () if all_of_them else outlook.under(enforced).findings(room):
            if now.get(one.guest.uuid) is not one.standing:
                self._count_stranded(one, Mode.REPORT)
        for kind in outlook.kinds:
            for doubt in kind.guest.bad_pins[:1]:
                self.unknown[_code(doubt.reason)] += len(kind.running)
        self._count_pairs(outlook)

    def _count_stranded(self, one: Finding, mode: Mode) -> None:
        stranding = Stranding(one.standing.replace(" ", "_"), mode)
        self.stranded[stranding] += 1
        # Of several reasons with the same labels the guest counts once.
        causes = dict.fromkeys(self._reason(mode, reason)[1:] for reason in one.reasons)
        for family, reason in causes or {(NONE, "no-other-host"): None}:
            self.causes[stranding, family, reason] += 1

    def _count_pairs(self, outlook: Outlook) -> None:
        alike = outlook.alike
        group_of = {place: index for index, one in enumerate(alike) for place in one.places}
        for kind in outlook.kinds:
            at_home = _at_home(kind, group_of)
            for index, hosts in enumerate(alike):
                pairs = len(kind.running) * len(hosts.places) - at_home[index]
                self.pairs += pairs
                if not pairs:
                    continue
                ruling = outlook.rule(kind, hosts.host)
                found = {self._reason(Mode.ENFORCE, reason) for reason in ruling.refused}
                found |= {self._reason(Mode.REPORT, reason) for reason in ruling.reported}
                for refusal in found:
                    self.refusals[refusal] += pairs


def _at_home(kind: Kind, group_of: Mapping[Place, int]) -> collections.Counter[int]:
    """How many guests of a kind are on hosts of each group: their own host is no other."""
    return collections.Counter(
        group_of[guest.place] for guest in kind.running if guest.place in group_of
    )


def _code(reason: Reason) -> str:
    return reason.code if reason.code in CODES else OTHER
