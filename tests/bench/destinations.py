# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What ours costs in a whole ``select_destinations`` of Nova's scheduler.

Run ``python -m tests.bench destinations [--hosts N]``. Two schedulers in this process have the
same 1,000 hosts in Nova's databases and in placement: one with Nova's default filters and weighers
alone, one with ours as well. Both answer the same requests in turn; what they claim is given back
between. Time is CPU of the process, that of placement and of the databases with it, as a request
waits for them. ``inside ours`` is what goes by in our prefilter, filter and weigher alone; the
rest of the difference is Nova's and placement's work with what we had them ask, or spares them.
Queries are SQL statements to Nova's databases.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from nova.scheduler import host_manager, manager, request_filter

from tests.bench import guest_requests, nova_cloud
from tests.bench.hosts import Kind
from tests.bench.measuring import Row, Size, Times, figure, timed
from tests.bench.nova_cloud import Cloud, Host

KIND = Kind(families=3)
HOSTS = 1_000
SHARE = 0.05


class Scheduler:
    """One scheduler, with the request filters that belong to it."""

    def __init__(self, cloud: Cloud, of: list[Host]) -> None:
        self._cloud = cloud
        # What it finds of the guests of hosts, in a thread, would replace what hosts say below.
        with mock.patch.object(host_manager.HostManager, "_init_instance_info"):
            self._manager = manager.SchedulerManager()
        self._filters = list(request_filter.ALL_REQUEST_FILTERS)
        #: Seconds in what is ours, of the last request.
        self.inside = 0.0
        #: SQL statements of the last request.
        self.queries = 0
        # As each nova-compute does, again and again: else the scheduler asks the database for the
        # guests of each host in each request. At first it does not know the host.
        for host in (*of, *of):
            self._manager.host_manager.sync_instance_info(cloud.context, host.name, [])

    def watch(self) -> None:
        """Take the time of what is ours from now on."""
        parts: list[tuple[Any, str]] = [
            *((one, "filter_all") for one in self._manager.host_manager.enabled_filters),
            *((one, "weigh_objects") for one in self._manager.host_manager.weighers),
        ]
        watched = 0
        for part, method in parts:
            if type(part).__module__.startswith("nova_devcompat."):
                setattr(part, method, self._timed(getattr(part, method)))
                watched += 1
        assert watched == 2
        assert self._filters[-1].__name__ == "devcompat_filter"
        self._filters[-1] = self._timed(self._filters[-1])

    def _timed(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            start = time.thread_time()
            try:
                return run(*arguments, **keywords)
            finally:
                self.inside += time.thread_time() - start

        return call

    def answer(self, spec: Any) -> float:
        """Seconds for a request."""
        request_filter.ALL_REQUEST_FILTERS[:] = self._filters
        fresh = spec.obj_clone()
        found: list[Any] = []
        self.inside = 0.0
        self._cloud.counted.counts.clear()
        seconds = timed(
            lambda: found.extend(
                self._manager.select_destinations(
                    self._cloud.context,
                    spec_obj=fresh,
                    instance_uuids=[fresh.instance_uuid],
                    return_objects=True,
                    return_alternates=True,
                )
            )
        )
        self.queries = self._cloud.counted.counts["queries"]
        assert found[0][0].service_host
        self._cloud.client.delete(f"/allocations/{fresh.instance_uuid}", version="1.28")
        return seconds


def rows(size: Size) -> Iterator[Row]:
    """Those of all requests, with documents of format 2."""
    found: list[Row] = []
    nova_cloud.run(lambda cloud: found.extend(_measured(cloud, size)))
    yield from found


def _measured(cloud: Cloud, size: Size) -> Iterator[Row]:
    count = size.of(HOSTS, 8)
    made = nova_cloud.make_hosts(KIND, count)
    cloud.write_catalog(KIND)
    nova_cloud.Providers(made).write()
    cloud.write_nodes(made, version=2)
    before = list(request_filter.ALL_REQUEST_FILTERS)
    cloud.addCleanup(request_filter.ALL_REQUEST_FILTERS.__setitem__, slice(None), before)
    cloud.flags(service_down_time=100_000)
    stock = Scheduler(cloud, made)
    enabled = manager.CONF.filter_scheduler.enabled_filters
    cloud.flags(
        available_filters=[
            "nova.scheduler.filters.all_filters",
            "nova_devcompat.scheduler.filters.all_filters",
        ],
        # Before Nova's own that try each candidate.
        enabled_filters=["DeviceCompatFilter", *enabled],
        weight_classes=[
            "nova.scheduler.weights.all_weighers",
            "nova_devcompat.scheduler.weights.all_weighers",
        ],
        group="filter_scheduler",
    )
    ours = Scheduler(cloud, made)
    ours.watch()
    for case, spec in guest_requests.requests(cloud, made[0]).items():
        yield from _of(f"{case}, {count:,} hosts", spec, stock, ours, size)


def _of(case: str, spec: Any, stock: Scheduler, ours: Scheduler, size: Size) -> Iterator[Row]:
    own: list[float] = []
    inside: list[float] = []
    base: list[float] = []
    for turn in range(size.unmeasured + size.rounds(7)):
        for scheduler in (ours, stock) if turn % 2 else (stock, ours):
            seconds = scheduler.answer(spec)
            if turn >= size.unmeasured:
                (own if scheduler is ours else base).append(seconds)
        if turn >= size.unmeasured:
            inside.append(ours.inside)
    enough = not size.quick
    whole = Times.of(own, 1e3)
    yield Row(
        case=f"{case}, inside ours",
        unit="ms",
        ours=Times.of(inside, 1e3),
        stock=whole,
        beside="the whole of the same requests",
        budget=SHARE,
        enough=enough,
    )
    yield Row(
        case=f"{case}, the whole",
        unit="ms",
        ours=whole,
        stock=Times.of(base, 1e3),
        beside="the whole without ours",
        budget=1 + SHARE,
        enough=enough,
    )
    yield Row(
        case=case,
        unit="queries",
        ours=figure(ours.queries),
        stock=figure(stock.queries),
        beside="the whole without ours",
        budget=1,
        of="more",
    )
