# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the questions about all cells ask of Nova's databases and of placement."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keystoneauth1 import exceptions as ks_exc
from nova.scheduler.client import report

from nova_devcompat import wire
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.verdict import Code
from nova_devcompat.fleet.model import Node
from nova_devcompat.stores import records
from nova_devcompat.stores.assigned import freeze, from_instance
from nova_devcompat.stores.cells import Cells, Refused, brief, compute_nodes, instances
from nova_devcompat.stores.instances import VM_STATES, runs
from nova_devcompat.stores.placement import Placement

#: What is joined to an instance whose devices are looked at.
ATTRIBUTES = ("system_metadata", "pci_devices", "flavor")

#: Allocations of one instance: ``{<provider uuid>: {'resources': {<class>: <amount>}}}``
Allocations = Mapping[str, Any]


class Cloud:
    """The hosts and the running guests of all cells.

    :param cells: all cells of the cloud
    """

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self._reader = wire.StatsReader()

    def surveyed(self) -> Iterator[Node | tuple[Any, Need | wire.WireError]]:
        """All compute nodes that could publish; and all running instances that have a record, with
        what it says or why it cannot be read. Each cell is asked once.
        """
        return self.cells.each(self.cells.select(), self._survey)

    def _survey(self, context: Any) -> Iterator[Node | tuple[Any, Need | wire.WireError]]:
        for node in compute_nodes(context):
            # Ironic's nodes are never the destination of a live migration.
            if node.hypervisor_type != "ironic":
                yield Node(node, self._reader)
        filters = {"vm_state": list(VM_STATES)}
        for instance in instances(context, filters, ["system_metadata"]):
            if runs(instance) and records.exists(instance):
                try:
                    yield instance, records.load(instance) or Need()
                except wire.WireError as error:
                    yield instance, error

    @functools.cached_property
    def placement(self) -> Placement:
        try:
            return Placement(report.report_client_singleton())
        except ks_exc.ClientException as error:
            raise Refused(f"placement cannot be reached: {brief(error)}") from error

    def running(
        self, cells: Sequence[Any], host: str | None
    ) -> Iterator[tuple[Node, Any, Allocations]]:
        """Running instances on nodes that published devices, with what they have allocated there.

        Memory is needed for one node's allocations and one page of instances at a time.
        """
        return self.cells.each(cells, lambda context: self._running_in(context, host))

    def _running_in(
        self, context: Any, host: str | None
    ) -> Iterator[tuple[Node, Any, Allocations]]:
        for compute_node in compute_nodes(context, host):
            node = Node(compute_node, self._reader)
            if node.document is None:
                # Hosts without our driver are no news, unless one was asked for.
                silent = node.problem is not None and node.problem.code == Code.HOST_SILENT
                if host is not None or not silent:
                    self.cells.pass_over("Host %s is left out: %s", node.host, node.problem)
                continue
            allocated = self._allocated(node) if node.document.devices else None
            if allocated is None:
                continue
            filters = {"host": node.host, "vm_state": list(VM_STATES)}
            for instance in instances(context, filters, ATTRIBUTES):
                if instance.node == node.name and runs(instance):
                    yield node, instance, allocated.get(instance.uuid, {})

    def _allocated(self, node: Node) -> dict[str, Allocations] | None:
        """By instance, what it has of the node's devices; None where placement does not tell.

        Asked by provider, of which there are far fewer than instances.
        """
        allocated: dict[str, Allocations] = {}
        for provider in node.providers:
            found = self.placement.allocations_from(provider)
            if found is None:
                self.cells.pass_over(
                    "Host %s is left out: placement does not tell who has its devices", node.host
                )
                return None
            for consumer, allocation in found.items():
                allocated[consumer] = {**allocated.get(consumer, {}), provider: allocation}
        return allocated

    def node_of(self, instance: Any, cell: Any) -> Node | None:
        """The compute node that an instance is on, None for one that is nowhere."""
        if not instance.host:
            return None

        def nodes(context: Any) -> Iterator[Node]:
            for node in compute_nodes(context, instance.host):
                if node.hypervisor_hostname == instance.node:
                    yield Node(node, self._reader)

        return next(self.cells.each([cell], nodes), None)


def frozen(instance: Any, node: Node, allocations: Allocations, pins: Need) -> Need:
    """What the guest would need if its devices were initialised now."""
    return freeze(
        from_instance(instance, allocations, node.find, node.behind, node.id),
        pins,
    )


def extra_specs(instance: Any) -> dict[str, str]:
    return dict(instance.flavor.extra_specs or {})
