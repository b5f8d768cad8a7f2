# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the prefilter costs a request, beside Nova's own request filters.

Run ``python -m tests.bench prefilter``. Nova runs all request filters before it asks placement,
with ours last or without it. Queries are SQL statements to Nova's databases; a live migration's
are for the guest's mapping and the guest, and the filter and the weigher need no more of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from nova.scheduler import request_filter

from nova_devcompat.scheduler import prefilter, state
from tests.bench import guest_requests, nova_cloud
from tests.bench.hosts import Kind
from tests.bench.measuring import Row, Size, figure, in_turn
from tests.bench.nova_cloud import Cloud

KIND = Kind(families=3)


def rows(size: Size) -> Iterator[Row]:
    """Those of all requests."""
    found: list[Row] = []
    nova_cloud.run(lambda cloud: found.extend(_measured(cloud, size)))
    yield from found


def _measured(cloud: Cloud, size: Size) -> Iterator[Row]:
    made = nova_cloud.make_hosts(KIND, 2)
    cloud.write_catalog(KIND)
    nova_cloud.Providers(made).write()
    stock = list(request_filter.ALL_REQUEST_FILTERS)
    prefilter.install(state.SchedulerState())
    ours = list(request_filter.ALL_REQUEST_FILTERS)
    cloud.addCleanup(request_filter.ALL_REQUEST_FILTERS.__setitem__, slice(None), stock)
    for case, spec in guest_requests.requests(cloud, made[0]).items():
        yield from _of(cloud, case, spec, stock, ours, size)


def _of(
    cloud: Cloud, case: str, spec: Any, stock: list[Any], ours: list[Any], size: Size
) -> Iterator[Row]:
    queries = {}

    def process(name: str, filters: list[Any]) -> None:
        fresh = spec.obj_clone()
        request_filter.ALL_REQUEST_FILTERS[:] = filters
        cloud.counted.counts.clear()
        request_filter.process_reqspec(cloud.context, fresh)
        queries[name] = cloud.counted.counts["queries"]

    times = in_turn(
        {"ours": lambda: process("ours", ours), "stock": lambda: process("stock", stock)},
        size.rounds(50),
        time.thread_time,
        unmeasured=size.unmeasured,
    )
    beside = "all of Nova's request filters without ours"
    ms = {name: one.times(1e3) for name, one in times.items()}
    yield Row(case=case, unit="ms", ours=ms["ours"], stock=ms["stock"], beside=beside)
    yield Row(
        case=case,
        unit="queries",
        ours=figure(queries["ours"]),
        stock=figure(queries["stock"]),
        beside=beside,
        budget=0 if case == "boot without devices" else 1,
        of="more",
    )
