# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Whether a cloud is ready for an upgrade, in the manner of ``nova-status upgrade check``."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from oslo_upgradecheck import upgradecheck
from oslo_upgradecheck.upgradecheck import Code, Result

from nova_devcompat import wire
from nova_devcompat.catalog import inforce
from nova_devcompat.catalog.loader import CatalogError
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.catalog.stages import Moment
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.policy import Mode, Policy, Ruling, unlike
from nova_devcompat.compat.ruling import NO_RECORD
from nova_devcompat.compat.verdict import Code as ReasonCode
from nova_devcompat.compat.verdict import Reason
from nova_devcompat.fleet import coverage
from nova_devcompat.fleet.cloud import Cloud
from nova_devcompat.fleet.counting import NAMED, listed, many
from nova_devcompat.fleet.model import Fleet, Host, RunningGuest
from nova_devcompat.fleet.stranded import Stranded
from nova_devcompat.stores.cells import brief

#: Major versions of Nova that this release is tested with; doc/source/support.rst has the rule.
SUPPORTED_NOVA = range(31, 35)

SHIM = "nova.virt.devcompat"
FILTER = "DeviceCompatFilter"
FILTERS = "nova_devcompat.scheduler.filters"
WEIGHTS = "nova_devcompat.scheduler.weights"

#: Filters of Nova that try each allocation candidate of each host. Ours takes hosts and candidates
#: away from those that come after it.
SLOW_FILTERS = ("PciPassthroughFilter", "NUMATopologyFilter")


class UpgradeChecks(upgradecheck.UpgradeCommands):
    """The checks, each a method that answers with a result.

    :param conf: Nova's configuration, read, with our options
    :param cloud: asks all cells
    :param load: loads the catalog
    :param default: the policy of families that state none
    :param moment: now
    :param days: how far ahead to look for stages
    :param today: the moment that hosts published at; by default the one that is looked at
    """

    display_title = "nova-devcompat Upgrade Check Results"

    def __init__(
        self,
        conf: Any,
        cloud: Cloud,
        load: Callable[[], Catalog],
        default: Policy,
        moment: Moment,
        days: int,
        today: Moment | None = None,
    ) -> None:
        self._conf = conf
        self._cloud = cloud
        self._load = load
        self._default = default
        self._moment = moment
        self._days = days
        self._today = today or moment

    @functools.cached_property
    def _fleet(self) -> Fleet:
        return self._cloud.fleet()

    @functools.cached_property
    def _catalog(self) -> Catalog | CatalogError:
        try:
            return self._load()
        except CatalogError as error:
            return error

    # --- this installation ----------------------------------------------------------------------

    def check_shim(self) -> Result:
        """Whether nova-compute could load our driver from an installation like this one."""
        try:
            driver = importlib.import_module(SHIM).DeviceCompatDriver
        except Exception as error:  # noqa: BLE001 - whatever an import can raise
            return Result(
                Code.FAILURE,
                f"{SHIM} cannot be imported: {brief(error)}. Install nova-devcompat into the "
                "environment that Nova is in.",
            )
        return Result(Code.SUCCESS, f"{SHIM}.{driver.__name__} is there.")

    def check_release(self) -> Result:
        """Whether this release supports the Nova that is here."""
        release = self._moment.release
        supported = f"{SUPPORTED_NOVA[0]} to {SUPPORTED_NOVA[-1]}"
        if release in SUPPORTED_NOVA:
            return Result(Code.SUCCESS, f"Nova {release}; supported: {supported}.")
        return Result(
            Code.WARNING,
            f"Nova {release or 'of no version that can be told'} is not supported by this release "
            f"of nova-devcompat, which supports Nova {supported}.",
        )

    def check_scheduler(self) -> Result:
        """Whether nova-scheduler would run the filter and the weigher."""
        ours = self._conf.filter_scheduler
        lacking = []
        if FILTER not in ours.enabled_filters:
            lacking.append(f"enabled_filters lacks {FILTER}, so no host is ever rejected")
        if not any(name.startswith(FILTERS) for name in ours.available_filters):
            lacking.append(f"available_filters lacks {FILTERS}.all_filters")
        code = Code.FAILURE if lacking else Code.SUCCESS
        if not any(name.startswith(WEIGHTS) for name in ours.weight_classes):
            lacking.append(
                f"weight_classes lacks {WEIGHTS}.all_weighers, so guests are not kept mobile"
            )
            code = max(code, Code.WARNING)
        if before := _before(ours.enabled_filters):
            lacking.append(
                f"enabled_filters has {FILTER} after {' and '.join(before)}, which look at hosts "
                "and candidates that it takes away: name it before them"
            )
            code = max(code, Code.WARNING)
        if not lacking:
            return Result(code)
        files = ", ".join(self._conf.config_file) or "none"
        return Result(code, f"[filter_scheduler] {'; '.join(lacking)} (files read: {files}).")

    def check_catalog(self) -> Result:
        """Whether the catalog can be used."""
        if isinstance(self._catalog, CatalogError):
            return Result(Code.FAILURE, f"{listed(self._catalog.problems, '; ')}.")
        catalog = self._catalog
        lines = inforce.overriding(catalog)
        code = Code.WARNING if lines else Code.SUCCESS
        lines += inforce.told(catalog, self._default, self._moment)
        return Result(code, f"Digest {catalog.digest}. {'. '.join(lines)}.")

    # --- the hosts ------------------------------------------------------------------------------

    def check_hosts_catalog(self) -> Result:
        """Whether all hosts have the catalog that is here."""
        if isinstance(self._catalog, CatalogError):
            return _NO_CATALOG
        others: dict[str, list[Host]] = {}
        for host in self._fleet.hosts:
            if host.document is not None and host.document.catalog != self._catalog.digest:
                others.setdefault(host.document.catalog, []).append(host)
        if not others:
            told = [host for host in self._fleet.hosts if host.document is not None]
            return Result(Code.SUCCESS, f"{many(told, 'node')} with the catalog that is here.")
        differing = "; ".join(
            f"{digest}: {self._with_guests(hosts)}" for digest, hosts in sorted(others.items())
        )
        return Result(
            Code.WARNING,
            f"Hosts have another catalog than {self._catalog.digest}, which is the one here: "
            f"{differing}. Give all services the same files and packs.",
        )

    def check_hosts_policies(self) -> Result:
        """Whether all hosts make the same of a refusal as nova-scheduler, as of now."""
        if isinstance(self._catalog, CatalogError):
            return _NO_CATALOG
        here = self._catalog.policies(self._default, self._today).told
        others: dict[str, list[Host]] = {}
        untold: list[Host] = []
        told: list[Host] = []
        for host in self._fleet.hosts:
            if host.document is None:
                continue  # which is said where it is about what hosts publish
            if host.document.policies is None:
                untold.append(host)
                continue
            told.append(host)
            if pairs := unlike(here, host.document.policies):
                others.setdefault(_differences(pairs), []).append(host)
        lines = [
            f"{self._with_guests(hosts)}: {difference}"
            for difference, hosts in sorted(others.items())
        ]
        if lines:
            lines = [
                f"Hosts apply other policies than nova-scheduler: {'; '.join(lines)}. What a host "
                "enforces, it refuses whatever nova-scheduler says; give both the same files, "
                "mode and on_unknown."
            ]
        if untold:
            lines.append(
                f"{self._with_guests(untold)} do not say which policies they apply: upgrade "
                "nova-devcompat there."
            )
        if lines:
            return Result(Code.WARNING, " ".join(lines))
        return Result(Code.SUCCESS, f"{many(told, 'node')} with the policies that are here.")

    def check_publishing(self) -> Result:
        """Whether all hosts publish what can be read."""
        hosts = self._fleet.hosts
        silent = [host for host in hosts if _is_silent(host)]
        down = [host for host in hosts if host.down and not _is_silent(host)]
        unreadable = sorted(
            f"{host.place.host} ({why})" for host in hosts if (why := host.unreadable)
        )
        lines = []
        if silent:
            lines.append(
                f"{len(silent)} of {many(hosts, 'node')} published nothing: "
                f"{self._with_guests(silent)}. Nothing is known of these hosts. "
                "Is compute_driver = devcompat.DeviceCompatDriver there, and nova-compute up?"
            )
        if down:
            since = ", ".join(f"{host.place.host} since {host.down}" for host in down[:NAMED])
            lines.append(
                f"Nova-compute of {many(down, 'node')} is down, so that nothing new is published "
                f"and what is known may be so no more: {self._with_guests(down)} ({since})."
            )
        if unreadable:
            lines.append(f"What was published cannot be read: {listed(unreadable)}.")
        if lines:
            return Result(Code.WARNING, " ".join(lines))
        if not hosts:
            return Result(Code.WARNING, "There is no compute node, so nothing was looked at.")
        return self._formats(hosts)

    def _formats(self, hosts: Sequence[Host]) -> Result:
        """Whether all that published read the last format of what is published."""
        last = wire.STATS_READ
        told = [(host, host.document) for host in hosts if host.document is not None]
        behind = [host for host, document in told if document.reads < last]
        ahead = [host for host, document in told if document.version >= last]
        line = f"{many(hosts, 'node')} published"
        if not behind:
            return Result(Code.SUCCESS, f"{line}; all read stats in format {last}.")
        names = self._with_guests(behind)
        if ahead:
            return Result(
                Code.WARNING,
                f"{line}. {self._with_guests(ahead)} write stats in format {last}, which {names} "
                "do not read: set [devcompat] stats_format = 1 until nova-devcompat is upgraded "
                "everywhere.",
            )
        return Result(
            Code.SUCCESS,
            f"{line}. {names} do not read stats in format {last}: leave [devcompat] stats_format "
            "at 1 until nova-devcompat is upgraded there.",
        )

    def check_families(self) -> Result:
        """Whether each family matches something, and all of it is known."""
        if isinstance(self._catalog, CatalogError):
            return _NO_CATALOG
        hosts = self._fleet.hosts
        without = coverage.unmatched(self._catalog, hosts)
        nowhere = coverage.nowhere(without, hosts)
        doubtful = coverage.in_doubt(hosts)
        lines = []
        if nowhere:
            lines.append(
                f"{listed(nowhere)}: no device or part of any host matches. Is 'match' right, "
                "and does a source list them ('nova-devcompat device list --all' there)?"
            )
        if doubtful:
            lines.append(
                f"Not all is known, so that guests are refused: {listed(doubtful, '; ')}."
            )
        code = Code.WARNING if lines else Code.SUCCESS
        lines += [
            f"{name}: nothing on {listed(hosts)}."
            for name, hosts in without.items()
            if hosts and name not in nowhere
        ]
        return Result(code, " ".join(lines) or None)

    # --- the guests -----------------------------------------------------------------------------

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
            return _NO_CATALOG
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
            return _NO_CATALOG
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

    def _with_guests(self, hosts: Iterable[Host]) -> str:
        """Names of hosts, and how many running guests are on them."""
        places = {host.place for host in hosts}
        guests = [guest for guest in self._fleet.guests if guest.place in places]
        names = listed(sorted(place.host for place in places))
        return f"{names} ({many(guests, 'running guest')} there)"

    _upgrade_checks = (
        ("Driver shim", check_shim),
        ("Release of Nova", check_release),
        ("Filter and weigher", check_scheduler),
        ("Catalog", check_catalog),
        ("Catalog of the hosts", check_hosts_catalog),
        ("Policies of the hosts", check_hosts_policies),
        ("Hosts that publish", check_publishing),
        ("Families on the hosts", check_families),
        ("Records of guests", check_records),
        ("Guests without another host", check_stranded),
        ("Stages that begin", check_stages),
    )


_NO_CATALOG = Result(Code.WARNING, "Not checked, for want of a catalog.")


def _refused(ruling: Ruling) -> Sequence[Reason]:
    return ruling.refused


def _guests(stranded: Mapping[RunningGuest, str]) -> str:
    """The first few guests, each with what speaks against the nearest host."""
    return listed([f"{guest}: {why}" for guest, why in stranded.items()], " | ")


def _differences(pairs: Mapping[str, tuple[str, str]]) -> str:
    return ", ".join(
        f"{key or 'what no family states'} {there}, here {here}"
        for key, (here, there) in pairs.items()
    )


def _before(enabled: Sequence[str]) -> list[str]:
    """The slow filters that ours comes after, where it is enabled at all."""
    earlier = enabled[: enabled.index(FILTER)] if FILTER in enabled else ()
    return [name for name in earlier if name in SLOW_FILTERS]


def _is_silent(host: Host) -> bool:
    return host.problem is not None and host.problem.code == ReasonCode.HOST_SILENT
