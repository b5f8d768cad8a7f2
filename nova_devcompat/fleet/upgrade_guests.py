# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Whether guests are ready for an upgrade: their records, and where they could go."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from oslo_upgradecheck.upgradecheck import Code, Result

from nova_devcompat.catalog.errors import CatalogError
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.catalog.stages import Moment
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.policy import Mode, Ruling
from nova_devcompat.compat.ruling import NO_RECORD
from nova_devcompat.compat.verdict import Code as ReasonCode
from nova_devcompat.compat.verdict import Reason
from nova_devcompat.fleet.counting import listed, many
from nova_devcompat.fleet.model import RunningGuest
from nova_devcompat.fleet.stranded import Stranded
from nova_devcompat.fleet.upgrade_asked import NO_CATALOG, Asked


class GuestChecks(Asked):
    """The checks of the guests."""

    def check_records(self) -> Result:
        """Whether guests have records, these can be read and are of their present starts."""
        of_hosts = {
            host.place for host in self._fleet.hosts if host.document and host.document.host
        }
        lacking, stale, broken, readable = [], [], [], []
        for guest in self._fleet.guests:
            if isinstance(guest.record, Need):
                readable.append(guest)
            elif guest.record.reason.code == ReasonCode.RECORD_STALE:
                stale.append(f"{guest.uuid} ({guest.record.reason.detail})")
            elif guest.record is not NO_RECORD:
                broken.append(f"{guest.uuid} ({guest.record.reason.detail})")
            elif guest.assigned or guest.place in of_hosts:
                lacking.append(guest.uuid)
        lines = []
        if broken:
            lines.append(
                f"{many(broken, 'record')} cannot be read: {listed(broken)}. "
                "'nova-devcompat need clear' and 'need backfill' make new ones."
            )
        if stale:
            lines.append(
                f"{many(stale, 'record')} of an earlier start of the guest: {listed(stale)}. "
                "nova-compute makes new ones in its next cycle where its driver is ours."
            )
        if lacking:
            lines.append(
                f"{many(lacking, 'running guest')} without a record: {listed(lacking)}. "
                "'nova-devcompat need backfill' makes them."
            )
        if lines:
            return Result(Code.WARNING, " ".join(lines))
        return Result(Code.SUCCESS, f"{many(readable, 'running guest')} with a record.")

    def check_stranded(self) -> Result:
        """Whether all guests have another host that would take them, whatever the mode is."""
        if isinstance(self._catalog, CatalogError):
            return NO_CATALOG
        policies = self._catalog.policies(self._default, self._moment)
        now = self._asked.under(policies, _refused)
        would = {
            guest: why
            for guest, why in self._asked.under(policies.as_enforced(), _refused).items()
            if guest not in now
        }
        lines = []
        if now:
            lines.append(
                f"{many(now, 'guest')} without another host that would accept, so there is no "
                f"moving them out of the way of an upgrade: {_guests(now)}"
            )
        if would:
            lines.append(
                f"{many(would, 'guest')} more that 'enforce' would strand, by families that are "
                f"not enforced now: {_guests(would)}"
            )
        if lines:
            return Result(Code.WARNING, " || ".join(lines))
        looked_at = self._asked.looked_at
        others = len(self._fleet.guests) - looked_at
        return Result(
            Code.SUCCESS,
            f"{looked_at} of {many(self._fleet.guests, 'running guest')} looked at as if all "
            f"were enforced; {others} need nothing that is judged.",
        )

    def check_stages(self) -> Result:
        """What begins soon, and whom it would strand."""
        if isinstance(self._catalog, CatalogError):
            return NO_CATALOG
        lines = []
        code = Code.SUCCESS
        for coming in self._catalog.coming(self._moment, self._days):
            mode = coming.stage.mode
            before = self._stranded(self._catalog, self._moment, mode)
            after = self._stranded(self._catalog, coming.stage.begin(self._moment), mode)
            guests = sorted(str(guest) for guest in after.keys() - before.keys())
            line = coming.line(self._moment)
            if guests:
                what = "it strands" if mode is Mode.ENFORCE else "it reports on"
                line += f": {what} {many(guests, 'guest')}: {listed(guests)}"
            if guests and mode is Mode.ENFORCE:
                code = Code.WARNING
            lines.append(f"{line}.")
        return Result(code, " ".join(lines) or f"None within {self._days} days.")

    def _stranded(self, catalog: Catalog, moment: Moment, mode: Mode) -> dict[RunningGuest, str]:
        """Guests without another host, refusals counted that are of this mode or stricter."""

        def against(ruling: Ruling) -> Sequence[Reason]:
            return ruling.refused + (ruling.reported if mode is Mode.REPORT else ())

        return self._asked.under(catalog.policies(self._default, moment), against)

    @functools.cached_property
    def _asked(self) -> Stranded:
        assert isinstance(self._catalog, Catalog)
        return Stranded(self._fleet, self._catalog)


def _refused(ruling: Ruling) -> Sequence[Reason]:
    return ruling.refused


def _guests(stranded: Mapping[RunningGuest, str]) -> str:
    """The first few guests, each with what speaks against the nearest host."""
    return listed([f"{guest}: {why}" for guest, why in stranded.items()], " | ")
