# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Whether hosts are ready for an upgrade: what they publish, and by which catalog and policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oslo_upgradecheck.upgradecheck import Code, Result

from nova_devcompat import wire
from nova_devcompat.catalog.errors import CatalogError
from nova_devcompat.compat.policy import unlike
from nova_devcompat.compat.verdict import Code as ReasonCode
from nova_devcompat.fleet import coverage
from nova_devcompat.fleet.counting import NAMED, listed, many
from nova_devcompat.fleet.model import Host
from nova_devcompat.fleet.upgrade_asked import NO_CATALOG, Asked


class HostChecks(Asked):
    """The checks of the hosts."""

    def check_hosts_catalog(self) -> Result:
        """Whether all hosts have the catalog that is here."""
        if isinstance(self._catalog, CatalogError):
            return NO_CATALOG
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
            return NO_CATALOG
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
            return NO_CATALOG
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


def _differences(pairs: Mapping[str, tuple[str, str]]) -> str:
    return ", ".join(
        f"{key or 'what no family states'} {there}, here {here}"
        for key, (here, there) in pairs.items()
    )


def _is_silent(host: Host) -> bool:
    return host.problem is not None and host.problem.code == ReasonCode.HOST_SILENT
