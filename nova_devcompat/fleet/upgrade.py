# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Whether a cloud is ready for an upgrade, in the manner of ``nova-status upgrade check``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from oslo_upgradecheck import upgradecheck
from oslo_upgradecheck.upgradecheck import Code, Result

from nova_devcompat.catalog import inforce
from nova_devcompat.catalog.errors import CatalogError
from nova_devcompat.fleet.counting import listed
from nova_devcompat.fleet.upgrade_guests import GuestChecks
from nova_devcompat.fleet.upgrade_hosts import HostChecks
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


class UpgradeChecks(HostChecks, GuestChecks, upgradecheck.UpgradeCommands):
    """The checks, each a method that answers with a result: here those of this installation."""

    display_title = "nova-devcompat Upgrade Check Results"

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
        lines = inforce.overriding(catalog) + inforce.nothing(catalog)
        code = Code.WARNING if lines else Code.SUCCESS
        lines += inforce.told(catalog, self._default, self._moment)
        return Result(code, f"Digest {catalog.digest}. {'. '.join(lines)}.")

    _upgrade_checks = (
        ("Driver shim", check_shim),
        ("Release of Nova", check_release),
        ("Filter and weigher", check_scheduler),
        ("Catalog", check_catalog),
        ("Catalog of the hosts", HostChecks.check_hosts_catalog),
        ("Policies of the hosts", HostChecks.check_hosts_policies),
        ("Hosts that publish", HostChecks.check_publishing),
        ("Families on the hosts", HostChecks.check_families),
        ("Records of guests", GuestChecks.check_records),
        ("Guests without another host", GuestChecks.check_stranded),
        ("Stages that begin", GuestChecks.check_stages),
    )


def _before(enabled: Sequence[str]) -> list[str]:
    """The slow filters that ours comes after, where it is enabled at all."""
    earlier = enabled[: enabled.index(FILTER)] if FILTER in enabled else ()
    return [name for name in earlier if name in SLOW_FILTERS]
