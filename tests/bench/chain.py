# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the filter costs beside PciPassthroughFilter, which looks at candidates as well.

Run ``python -m tests.bench chain [--hosts N]``. Hosts have unlike devices, whose functions a PCI
request asks for; Nova's filter has a pool for each device, as nova-compute reports it. First each
filter alone, on the same candidates; then ours before Nova's, where it takes candidates away from
it, beside Nova's alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from nova import objects
from nova.pci import stats as pci_stats
from nova.scheduler.filters import pci_passthrough_filter

from tests.bench import filter as filters
from tests.bench import hosts
from tests.bench.hosts import REQUEST_ID, Kind
from tests.bench.measuring import Row, Size, in_turn

HOSTS = 300
_BESIDE = "PciPassthroughFilter alone on the same candidates"


def rows(size: Size) -> Iterator[Row]:
    """Those of two and of eight candidates a host, with documents of format 2."""
    for devices in (2, 8):
        yield from _of(Kind(unlike=True, devices=devices, vf=True), size)


def _of(kind: Kind, size: Size) -> Iterator[Row]:
    states = hosts.make(kind, size.of(HOSTS, 4), 2)
    given = [host.allocation_candidates for host in states]
    for host in states:
        host.pci_stats = _pools(kind, host)
    ours = filters.make_filter()
    nova = pci_passthrough_filter.PciPassthroughFilter()
    spec = _request(kind)
    what = filters.found("", kind)

    def through(*chain: Any) -> Callable[[], None]:
        def run() -> None:
            left = states
            for host, own in zip(states, given, strict=True):
                host.allocation_candidates = own
            request = filters.looked_up(spec, what)
            for one in chain:
                left = list(one.filter_all(left, request))
            assert left
            assert len(left) == len(states) or ours in chain

        return run

    for host in states:
        host.stats = json.loads(json.dumps(host.stats))
    times = in_turn(
        {"ours": through(ours), "nova": through(nova), "both": through(ours, nova)},
        size.rounds(5),
        time.thread_time,
        unmeasured=size.unmeasured,
    )
    us = {name: one.times(1e6 / len(states)) for name, one in times.items()}
    case = f"unlike VFs, {kind.devices} candidates"
    yield Row(
        case=f"{case}, ours alone",
        unit="us a host",
        ours=us["ours"],
        stock=us["nova"],
        beside=_BESIDE,
        budget=1,
        enough=not size.quick,
    )
    yield Row(
        case=f"{case}, ours and then PciPassthroughFilter",
        unit="us a host",
        ours=us["both"],
        stock=us["nova"],
        beside=_BESIDE,
    )


def _pools(kind: Kind, host: Any) -> pci_stats.PciDeviceStats:
    """A pool of functions for each device that a candidate takes."""
    providers = [one["mappings"][f"{REQUEST_ID}-0"][0] for one in host.allocation_candidates]
    pools = [
        objects.PciDevicePool(
            vendor_id="15b3",
            product_id="101e",
            numa_node=number % 2,
            count=8,
            tags={
                "dev_type": "type-VF",
                "rp_uuid": provider,
                "resource_class": hosts.class_of(kind),
                "address": f"0000:40:{number:02x}.0",
                "live_migratable": "true",
            },
        )
        for number, provider in enumerate(providers)
    ]
    return pci_stats.PciDeviceStats(
        None, stats=objects.PciDevicePoolList(objects=pools), dev_filter=object()
    )


def _request(kind: Kind) -> objects.RequestSpec:
    """The request of a guest with a function."""
    spec = filters.make_spec()
    wanted = objects.InstancePCIRequest(
        request_id=REQUEST_ID,
        count=1,
        alias_name="vf",
        spec=[{"resource_class": hosts.class_of(kind), "dev_type": "type-VF"}],
    )
    spec.pci_requests = objects.InstancePCIRequests(requests=[wanted])
    return spec
