# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The scheduler filter: drops allocation candidates that do not fit, and hosts with none left."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from typing import Any

from nova.scheduler import filters
from oslo_log import log as logging

from nova_devcompat.kit import plugins
from nova_devcompat.scheduler import explain, lookup, prefilter, state
from nova_devcompat.scheduler.sorting import Sorting

LOG = logging.getLogger(__name__)


class DeviceCompatFilter(filters.BaseHostFilter):
    """Keeps hosts whose devices accept what the guest needs and can act as its flavor pins.

    The need concerns live migrations only: all else initialises the devices anew. A request that
    cannot concern it costs no look-up.
    """

    # A rebuild initialises the devices anew: its own host may not act as the flavor pins any more.
    RUN_ON_REBUILD = True

    def __init__(self) -> None:
        super().__init__()
        self._state = state.shared()
        self._reports = itertools.count(1)
        prefilter.install(self._state)

    def filter_all(self, filter_obj_list: Iterable[Any], spec_obj: Any) -> Iterable[Any]:
        """The hosts that are left, their candidates pruned."""
        if not lookup.concerns_us(spec_obj):
            return filter_obj_list
        looked_up = self._state.look_up(spec_obj._context, spec_obj)
        if not looked_up.decides:
            return filter_obj_list
        hosts = list(filter_obj_list)
        left = self._filter_known(spec_obj._context, hosts, looked_up)
        explain.doubts(looked_up, left=len(left), of=len(hosts))
        return left

    def host_passes(self, host_state: Any, filter_properties: Any) -> bool:
        """Whether one host is left; Nova asks :meth:`filter_all`."""
        return bool(list(self.filter_all([host_state], filter_properties)))

    def _filter_known(self, context: Any, hosts: list[Any], looked_up: lookup.Lookup) -> list[Any]:
        sorting = Sorting(self._state, context, looked_up)
        sorting.sort(hosts)
        left, rejected = sorting.left, sorting.rejected
        if LOG.isEnabledFor(logging.DEBUG):
            for host in rejected:
                LOG.debug(
                    "%s rejected for instance %s: %s",
                    explain.name_of(host),
                    looked_up.instance_uuid,
                    explain.reasons(sorting.ruling(host)),
                )
        if sorting.waivers.count:
            explain.waived(context, looked_up, sorting.waivers)
        if sorting.reported.count:
            explain.reported(looked_up, sorting.reported, len(hosts), next(self._reports))
        if rejected and not left:
            refused = explain.Refusals()
            for host in rejected[: explain.HOSTS_NAMED]:
                catalog = self._state.other_catalog(host.stats)
                refused.add(host, sorting.ruling(host).refused, catalog)
            refused.count = len(rejected)
            explain.no_host(context, looked_up, refused)
        return left


def all_filters() -> list[type[filters.BaseHostFilter]]:
    """The filter classes of all plugins, for ``[filter_scheduler] available_filters``."""
    try:
        return plugins.Plugins(
            "nova_devcompat.scheduler_filters", filters.BaseHostFilter, None
        ).load_all()
    except plugins.PluginError as error:
        LOG.critical("nova-devcompat: %s", error)
        sys.exit(1)
