#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""The scheduler filter: drops allocation candidates that do not fit, and hosts with none left."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from typing import Any

from nova.scheduler import filters
from oslo_log import log as logging

from nova_devcompat import plugins
from nova_devcompat.scheduler import explain, lookup, prefilter
from nova_devcompat.scheduler.judge import ACCEPTED, Judged
from nova_devcompat.scheduler.state import SchedulerState

LOG = logging.getLogger(__name__)


class DeviceCompatFilter(filters.BaseHostFilter, filters.CandidateFilterMixin):
    """Keeps hosts whose devices accept what the guest needs.

    Concerns live migrations of guests with assigned devices only: all else initialises the devices
    anew. A request that cannot concern it costs no look-up.
    """

    # A rebuild stays on its host and initialises the devices anew.
    RUN_ON_REBUILD = False

    def __init__(self) -> None:
        super().__init__()
        self._state = SchedulerState()
        self._reports = itertools.count(1)
        prefilter.install(self._state)

    def filter_all(self, filter_obj_list: Iterable[Any], spec_obj: Any) -> Iterable[Any]:
        """The hosts that are left, their candidates pruned."""
        if not lookup.concerns_us(spec_obj):
            return filter_obj_list
        found = lookup.of(spec_obj._context, spec_obj)
        if not found.moving:
            return filter_obj_list
        hosts = list(filter_obj_list)
        if found.unknown is not None:
            # Nobody knows what the guest needs: all hosts or none.
            refused = self._state.refuses_unknown(found)
            explain.unknown(found.instance_uuid, found.unknown, refused=refused)
            return [] if refused else hosts
        return self._filter_known(hosts, found)

    def host_passes(self, host_state: Any, filter_properties: Any) -> bool:
        """Whether one host is left; Nova asks :meth:`filter_all`."""
        return bool(list(self.filter_all([host_state], filter_properties)))

    def _filter_known(self, hosts: list[Any], found: lookup.Lookup) -> list[Any]:
        request = self._state.request(found.need)
        debug = LOG.isEnabledFor(logging.DEBUG)
        left: list[Any] = []
        refused = explain.Refusals()
        reported = explain.Refusals()
        # What follows is done for each of up to 10,000 hosts (tests/bench/filter.py). Most were
        # judged before and have devices that are all alike: then the shape of their document says
        # it all, as long as Nova has not put other stats in the place of those it was read from.
        settled, keep, rejected = request.settled, left.append, 0
        for host in hosts:
            try:
                stats, shape = host._devcompat_shape
                judged = settled[shape] if stats is host.stats else None
            except (AttributeError, KeyError):
                judged = None
            if judged is None:
                judged = self._state.judge_host(request, host)
            if judged is ACCEPTED:
                keep(host)
                continue
            if judged.candidates is None or judged.candidates:
                if judged.ruling.reported:
                    reported.add(host, judged.ruling.reported)
                if judged.candidates:
                    self._prune(host, judged, found, debug)
                keep(host)
                continue
            rejected += 1
            if rejected <= explain.HOSTS_NAMED:
                refused.add(host, judged.ruling.refused)
            if debug:
                LOG.debug(
                    "%s rejected for instance %s: %s",
                    explain.name_of(host),
                    found.instance_uuid,
                    explain.reasons(judged.ruling),
                )
        if reported.count:
            explain.reported(
                found.instance_uuid, found.need, reported, len(hosts), next(self._reports)
            )
        refused.count = rejected
        if rejected and not left:
            explain.no_host(found.instance_uuid, found.need, refused)
        return left

    def _prune(self, host: Any, judged: Judged, found: lookup.Lookup, debug: bool) -> None:
        """Leave a host the candidates that fit."""
        # By identity: two candidates can be equal in all but the order of their keys.
        fitting = {id(candidate) for candidate in judged.candidates or ()}
        self.filter_candidates(host, lambda candidate: id(candidate) in fitting)
        if debug:
            LOG.debug(
                "%s: %d allocation candidates left for instance %s, others: %s",
                explain.name_of(host),
                len(fitting),
                found.instance_uuid,
                explain.reasons(judged.ruling),
            )


def all_filters() -> list[type[filters.BaseHostFilter]]:
    """The filter classes of all plugins, for ``[filter_scheduler] available_filters``."""
    try:
        return plugins.Plugins(
            "nova_devcompat.scheduler_filters", filters.BaseHostFilter, None
        ).load_all()
    except plugins.PluginError as error:
        LOG.critical("nova-devcompat: %s", error)
        sys.exit(1)
