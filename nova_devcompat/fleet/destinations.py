# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The hosts that guests could be moved to, read once for all the guests that are asked about."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from keystoneauth1 import exceptions as ks_exc
from nova import objects

from nova_devcompat.fleet.assume import Assumptions
from nova_devcompat.kit.progress import Track, untracked
from nova_devcompat.scheduler import preview
from nova_devcompat.stores.cells import Cells, brief, compute_nodes
from nova_devcompat.stores.placement import Placement


class Destination(NamedTuple):
    """A host as it is read.

    :param node: its compute node
    :param service: its nova-compute, None for none
    :param cell: where it is
    """

    node: Any
    service: Any
    cell: Any


class Candidates:
    """Asks placement for allocation candidates, once for each unlike request.

    Guests of one flavor ask for the same, unless they ask for PCI devices by groups of their own.
    Their candidates are shared, so nobody may change one.

    :param client: Nova's report client
    :param most: how many answers are remembered: one has some candidates of every host
    """

    def __init__(self, client: Any, most: int = 8) -> None:
        self._client = client
        self._most = most
        self._known: dict[str, Any] = {}

    def get_allocation_candidates(self, context: Any, resources: Any) -> Any:
        """As Nova's client has it."""
        query = resources.to_querystring()
        answer = self._known.pop(query, None)
        if answer is None:
            answer = self._client.get_allocation_candidates(context, resources)
        if answer is not None and answer[0] is not None:
            # The newest last.
            self._known[query] = answer
            if len(self._known) > self._most:
                del self._known[next(iter(self._known))]
        return answer


class Destinations:
    """The hosts of all cells, and what placement and the API database hold of them.

    :param cells: all cells
    :param client: makes Nova's report client
    :param assumed: what hosts are taken to be
    """

    def __init__(
        self, cells: Cells, client: Callable[[], Any], assumed: Assumptions | None = None
    ) -> None:
        self.cells = cells
        self.assumed = assumed
        #: Follows hosts that are asked.
        self.track: Track = untracked
        #: Nova's report client; None where there is no placement, and the rest is answered.
        self.client: Any = None
        #: Asks it for candidates; None likewise.
        self.candidates: Candidates | None = None
        self._having: dict[str, frozenset[str]] = {}
        try:
            self.client = client()
            self.candidates = Candidates(self.client)
        except ks_exc.ClientException as error:
            cells.pass_over("Placement cannot be reached: %s", brief(error))

    def of(self, cells: Iterable[Any], hosts: Sequence[str] = ()) -> Iterator[Destination]:
        """The compute nodes of cells with their services, read page by page.

        :param hosts: only these
        """
        names: Sequence[str | None] = hosts or [None]
        for cell in cells:

            def of_cell(context: Any, cell: Any = cell) -> Iterator[Destination]:
                services = _services(context)
                for host in names:
                    for node in compute_nodes(context, host):
                        # Ironic's nodes are never the destination of a live migration.
                        if node.hypervisor_type != "ironic":
                            yield Destination(node, services.get(node.host), cell)

            yield from self.cells.each([cell], of_cell)

    def node(self, cell: Any, host: str, name: str) -> Destination | None:
        """A compute node of a host; None where it is not known."""
        for one in self.of([cell], [host]):
            if one.node.hypervisor_hostname == name:
                return one
        return None

    @functools.cached_property
    def count(self) -> int:
        """How many hosts there are in all cells."""
        return len(objects.HostMappingList.get_all(self.cells.context))

    @functools.cached_property
    def aggregates(self) -> Mapping[str, Sequence[Any]]:
        """The aggregates that each host is in."""
        by_host: dict[str, list[Any]] = {}
        try:
            for aggregate in objects.AggregateList.get_all(self.cells.context):
                for host in aggregate.hosts:
                    by_host.setdefault(host, []).append(aggregate)
        except Exception as error:  # noqa: BLE001 - whatever the database layer raises
            self.cells.pass_over("Aggregates are left out: %s", brief(error))
        return by_host

    def having(self, names: frozenset[str]) -> Mapping[str, frozenset[str]] | None:
        """For each trait the hosts that have it; each is asked for once.

        :returns: UUIDs of root providers by trait; None where placement does not tell
        """
        lacking = names - self._having.keys()
        if lacking:
            if self.client is None:
                return None
            found = preview.having(Placement(self.client), lacking)
            if found is None:
                return None
            self._having.update(found)
        return self._having


def _services(context: Any) -> dict[str, Any]:
    found = objects.ServiceList.get_by_binary(context, "nova-compute", include_disabled=True)
    return {service.host: service for service in found}
