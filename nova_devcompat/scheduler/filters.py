# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The scheduler filter: drops allocation candidates that do not fit, and hosts with none left."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable
from typing import Any

from nova.scheduler import filters
from oslo_log import log as logging

from nova_devcompat import wire
from nova_devcompat.kit import plugins
from nova_devcompat.scheduler import explain, lookup, prefilter, state
from nova_devcompat.scheduler.judge import ACCEPTED

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
        request = self._state.request(looked_up)
        debug = LOG.isEnabledFor(logging.DEBUG)
        left: list[Any] = []
        rejected: list[Any] = []
        reported = explain.Refusals()
        # What follows is done for each of up to 10,000 hosts (tests/bench/filter.py). Most have
        # devices that are all alike: then the head of their document says where they go, if it is
        # of a text of that length.
        goes: dict[str, tuple[Callable[[Any], None], int]] = {}
        head = wire.HEAD
        risks = self._state.host_risks()
        for host, text in zip(hosts, state.texts_of(hosts), strict=True):
            try:
                to, size = goes[text[head]]
                # One of which a risk is accepted is judged by itself.
                if len(text) == size and not (risks and host.host in risks):
                    to(host)
                    continue
            except (KeyError, TypeError):
                pass
            asked = request
            if risks and host.host in risks:
                asked = self._state.request(looked_up, risks[host.host])
            judged = self._state.judge_host(asked, host)
            if judged is ACCEPTED or judged.candidates == []:
                to = left.append if judged is ACCEPTED else rejected.append
                to(host)
                # Not where it was judged by something else: a document that cannot be read may
                # begin as those of other hosts do.
                shape = text[wire.SHAPE] if isinstance(text, str) else ""
                settled = asked is request and request.settled.get(shape) is judged
                if settled and wire.says_its_length(text):
                    goes[text[head]] = to, len(text)
                continue
            if judged.waived is not None:
                explain.waived(context, looked_up, host, judged.waived)
            if judged.ruling.reported:
                catalog = self._state.other_catalog(host.stats)
                reported.add(host, judged.ruling.reported, catalog)
            if judged.candidates:
                # What CandidateFilterMixin does, which formats a line for each candidate.
                host.allocation_candidates = judged.candidates
                if debug:
                    LOG.debug(
                        "%s: %d allocation candidates left for instance %s, others: %s",
                        explain.name_of(host),
                        len(judged.candidates),
                        looked_up.instance_uuid,
                        explain.reasons(judged.ruling),
                    )
            left.append(host)
        if debug:
            for host in rejected:
                LOG.debug(
                    "%s rejected for instance %s: %s",
                    explain.name_of(host),
                    looked_up.instance_uuid,
                    explain.reasons(self._state.judge_host(request, host).ruling),
                )
        if reported.count:
            explain.reported(looked_up, reported, len(hosts), next(self._reports))
        if rejected and not left:
            refused = explain.Refusals()
            for host in rejected[: explain.HOSTS_NAMED]:
                ruling = self._state.judge_host(request, host).ruling
                refused.add(host, ruling.refused, self._state.other_catalog(host.stats))
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
