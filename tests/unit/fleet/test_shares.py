# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What guests take of pools that they share, with Nova's own objects and its own PCI tracker."""

from __future__ import annotations

import itertools
import types

import pytest
from nova import objects
from nova.pci import stats as pci_stats
from oslo_utils import uuidutils

from nova_devcompat.fleet.answers import Answer, Says
from nova_devcompat.fleet.assignment import assign
from nova_devcompat.fleet.model import Place
from nova_devcompat.fleet.shares import Shares

NODE = uuidutils.generate_uuid()


def node(**counts):
    """A compute node that has devices, by their product."""
    pools = [
        objects.PciDevicePool(
            count=count, vendor_id="15b3", product_id=product, numa_node=None,
            tags={"dev_type": "type-VF"},
        )
        for product, count in counts.items()
    ]  # fmt: skip
    devices = objects.PciDevicePoolList(objects=pools)
    return types.SimpleNamespace(uuid=NODE, pci_device_pools=devices, numa_topology=None)


def request(*products, count=1):
    spec = [{"vendor_id": "15b3", "product_id": product} for product in products]
    return objects.InstancePCIRequest(
        count=count, spec=spec, request_id=uuidutils.generate_uuid(), alias_name="a",
        numa_policy=None,
    )  # fmt: skip


def spec(*requests, group=None):
    return types.SimpleNamespace(
        pci_requests=types.SimpleNamespace(requests=list(requests)), instance_group=group
    )


def answer(*candidates):
    return Answer(
        place=Place("h", "h"),
        uuid=NODE,
        cell="c",
        filter=Says.ACCEPT,
        admission=Says.ACCEPT,
        candidates=candidates or ({"allocations": {}, "mappings": {}},),
    )


def placed(there, *specs):
    """How many guests find a place on the host at the same time, and whether that is certain."""
    shares = Shares()
    options = [list(shares.options(answer(), there, one, {}, {})) for one in specs]
    found = assign([[shares.complete(one) for one in each] for each in options], shares.free)
    return found.placed, found.certain


def by_nova(there, *specs):
    """How many of the guests Nova's tracker finds devices for, in the best order."""

    def taken(order):
        stats = pci_stats.PciDeviceStats(None, there.pci_device_pools)
        count = 0
        for one in order:
            if stats.support_requests(one.pci_requests.requests, {}):
                stats.apply_requests(one.pci_requests.requests, {})
                count += 1
        return count

    return max(map(taken, itertools.permutations(specs)))


@pytest.mark.parametrize(
    ("counts", "asked"),
    [
        ({"101e": 2}, [("101e",)] * 3),
        ({"101e": 1, "101c": 1}, [("101e",), ("101e", "101c")]),
        ({"101e": 1, "101c": 1}, [("101e",), ("101e",), ("101c",)]),
        # Each kind of request has enough; both together have not.
        ({"101e": 1, "101c": 1, "101a": 1}, [("101e", "101c")] * 2 + [("101c", "101a")] * 2),
        ({"101e": 2, "101c": 1, "101a": 2}, [("101e", "101c")] * 2 + [("101c", "101a")] * 2),
        ({"101e": 0}, [("101e",)]),
        ({}, [("101e",)]),
    ],
)
def test_devices_of_the_tracker(counts, asked):
    there = node(**counts)
    specs = [spec(request(*products)) for products in asked]
    assert placed(there, *specs) == (by_nova(there, *specs), True)


def test_several_of_a_request():
    there = node(**{"101e": 3})
    pairs = [spec(request("101e", count=2)) for _ in range(2)]
    assert placed(there, *pairs) == (1, True)


def test_what_placement_has():
    provider = uuidutils.generate_uuid()
    wants = request("101e")
    candidate = {
        "allocations": {NODE: {"resources": {"VCPU": 2}}, provider: {"resources": {"VF": 1}}},
        "mappings": {"": [NODE], f"{wants.request_id}-0": [provider]},
    }
    shares = Shares()
    free = {(NODE, "VCPU"): 5, (provider, "VF"): 8}
    # Of the tracker nothing is taken: placement has it.
    (option,) = shares.options(answer(candidate), node(), spec(wants), free, {})
    assert option.takes == {(NODE, "VCPU"): 2, (provider, "VF"): 1}
    assert shares.free == free
    assert assign([[option]] * 3, shares.free).placed == 2


def test_a_server_group():
    def group(policy, **rules):
        members = ["vm1", "vm2", "vm3"]
        return types.SimpleNamespace(policy=policy, uuid="g", members=members, rules=rules)

    def most(group, *there):
        shares = Shares()
        neighbours = dict.fromkeys(there)
        of_one = list(shares.options(answer(), node(), spec(group=group), {}, neighbours))
        return assign([of_one] * 4, shares.free).placed

    assert most(group("anti-affinity")) == 1
    assert most(group("anti-affinity", max_server_per_host=3)) == 3
    assert most(group("anti-affinity", max_server_per_host=3), "vm1", "stranger") == 2
    assert most(group("soft-anti-affinity")) == 4
