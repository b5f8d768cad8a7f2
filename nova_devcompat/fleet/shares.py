# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a guest takes of a host, in units of pools of which others take too."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from nova import objects
from nova.pci import stats as pci_stats

from nova_devcompat.fleet.answers import Answer, Says
from nova_devcompat.fleet.assignment import Option, Pool

# Sets of PCI pools of one host whose unions are formed, at most: each union is a pool.
_MOST_SETS = 6


class _Tracked(NamedTuple):
    """Pools of Nova's PCI tracker that are asked together.

    :param uuid: of the compute node
    :param pools: which of its pools, by index
    """

    uuid: str
    pools: frozenset[int]


class Shares:
    """The ways to place guests, and what of the pools is free.

    Three things are shared: resources of providers in placement; PCI devices that placement does
    not know, of which Nova's tracker says how many of a kind are free; and hosts among members of
    a server group whose policy is anti-affinity.
    """

    def __init__(self) -> None:
        #: Units of each pool.
        self.free: dict[Pool, int] = {}
        # By host and request, the tracker's pools that fit.
        self._fitting: dict[tuple[str, str], _Tracked] = {}
        # By host, all sets of pools that fit a request, and how many devices each pool has.
        self._sets: dict[str, set[frozenset[int]]] = {}
        self._unions_of: dict[str, set[frozenset[int]]] = {}
        self._counts: dict[str, list[int]] = {}

    def options(
        self,
        answer: Answer,
        node: Any,
        spec: Any,
        free: Mapping[tuple[str, str], int],
        neighbours: Mapping[str, Any],
    ) -> Iterator[Option]:
        """The ways to place a guest on a host that takes it.

        :param node: the host's compute node
        :param spec: the guest's request
        :param free: what is free in placement, see :class:`~nova_devcompat.scheduler.preview.Room`
        :param neighbours: instances on the host that the request is about
        """
        beside = self._of_group(answer.place.host, spec, neighbours)
        for candidate in answer.candidates:
            takes: dict[Pool, int] = dict(beside)
            for provider, allocation in candidate["allocations"].items():
                for name, units in allocation["resources"].items():
                    pool = provider, name
                    takes[pool] = units
                    self.free[pool] = free.get(pool, 0)
            for tracked, units in self._of_tracker(node, spec, candidate):
                takes[tracked] = takes.get(tracked, 0) + units
            yield Option(
                place=answer.place, takes=takes, doubtful=answer.verdict is not Says.ACCEPT
            )

    # --- a server group --------------------------------------------------------------------------

    def _of_group(self, host: str, spec: Any, neighbours: Mapping[str, Any]) -> dict[Pool, int]:
        group = spec.instance_group
        if not group or group.policy != "anti-affinity":
            return {}
        # As nova/scheduler/filters/affinity_filter.py has it.
        most = int((group.rules or {}).get("max_server_per_host", 1))
        pool = "group", group.uuid, host
        self.free[pool] = most - len(set(neighbours) & set(group.members))
        return {pool: 1}

    # --- Nova's PCI tracker ----------------------------------------------------------------------

    def _of_tracker(self, node: Any, spec: Any, candidate: Any) -> Iterator[tuple[Pool, int]]:
        """What a guest takes of the devices that are not in placement."""
        for request in _not_in_placement(spec, candidate):
            key = node.uuid, str(request.spec)
            if key not in self._fitting:
                self._fitting[key] = self._fit(node, request)
            yield self._fitting[key], request.count

    def _fit(self, node: Any, request: Any) -> _Tracked:
        pools = dict(enumerate(node.pci_device_pools or ()))
        self._counts[node.uuid] = [pool.count for pool in pools.values()]
        fitting = frozenset(index for index, pool in pools.items() if _fits(node, pool, request))
        self._sets.setdefault(node.uuid, set()).add(fitting)
        return self._tracked(node.uuid, fitting)

    def _tracked(self, uuid: str, pools: frozenset[int]) -> _Tracked:
        tracked = _Tracked(uuid, pools)
        self.free[tracked] = sum(self._counts[uuid][index] for index in pools)
        return tracked

    def complete(self, option: Option) -> Option:
        """An option beside all others that were made.

        Requests that different pools of the tracker fit may share some of them: they find devices
        at the same time exactly if every union of such sets of pools has as many as are asked of
        it (Hall's theorem), so each union is a pool of its own.
        """
        takes = dict(option.takes)
        for tracked, units in option.takes.items():
            if isinstance(tracked, _Tracked):
                for union in self._unions(tracked.uuid):
                    if tracked.pools < union:
                        pool = self._tracked(tracked.uuid, union)
                        takes[pool] = takes.get(pool, 0) + units
        return dataclasses.replace(option, takes=takes)

    def _unions(self, uuid: str) -> set[frozenset[int]]:
        if uuid not in self._unions_of:
            sets = sorted(self._sets[uuid], key=sorted)
            sizes = range(2, len(sets) + 1) if len(sets) <= _MOST_SETS else (len(sets),)
            self._unions_of[uuid] = {
                frozenset().union(*some)
                for size in sizes
                for some in itertools.combinations(sets, size)
            }
        return self._unions_of[uuid]


def _not_in_placement(spec: Any, candidate: Any) -> Iterator[Any]:
    """The PCI requests for which the candidate allocates nothing."""
    requests = spec.pci_requests.requests if spec.pci_requests else ()
    for request in requests:
        # As nova/pci/stats.py (_get_rp_uuids_for_request): groups are named after requests.
        if not any(
            suffix.startswith(request.request_id) for suffix in candidate.get("mappings", {})
        ):
            yield request


def _fits(node: Any, pool: Any, request: Any) -> bool:
    """Whether a device of a pool answers a request, as Nova tells it, how many there are aside."""
    one = objects.InstancePCIRequest(
        count=1,
        spec=request.spec,
        request_id=request.request_id,
        alias_name=request.alias_name,
        numa_policy=request.numa_policy,
    )
    pools = objects.PciDevicePoolList(objects=[pool])
    stats = pci_stats.PciDeviceStats(_topology(node), pools)
    stats.pools[0]["count"] = max(1, stats.pools[0]["count"])
    return bool(stats.support_requests([one], {}))


def _topology(node: Any) -> Any:
    if not node.numa_topology:
        return None
    return objects.NUMATopology.obj_from_db_obj(node.numa_topology)
