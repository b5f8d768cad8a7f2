# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the questions about all cells ask of Nova's databases and of placement."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import nova.conf
from keystoneauth1 import exceptions as ks_exc
from nova.scheduler.client import report

from nova_devcompat import conf as devcompat_conf
from nova_devcompat import wire
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.pins import is_pin
from nova_devcompat.compat.risks import Risk
from nova_devcompat.compat.verdict import Code, Reason
from nova_devcompat.fleet.model import Fleet, Host, Place, RunningGuest
from nova_devcompat.fleet.room import asks_of
from nova_devcompat.kit.progress import Track, untracked
from nova_devcompat.stores import records
from nova_devcompat.stores.assigned import (
    asks_for_pci,
    asks_for_staying,
    freeze,
    from_instance,
)
from nova_devcompat.stores.cells import (
    Cells,
    Refused,
    brief,
    compute_nodes,
    hosts_down,
    instances,
    label_of,
)
from nova_devcompat.stores.instances import VM_STATES, runs
from nova_devcompat.stores.placement import Placement
from nova_devcompat.stores.published import published
from nova_devcompat.stores.risks import HostRisks

CONF = nova.conf.CONF

devcompat_conf.register_opts(CONF)

#: What is joined to an instance whose devices are looked at.
ATTRIBUTES = (*records.RECORD_ATTRIBUTES, "pci_devices", "flavor", "migration_context")

#: Allocations of one instance: ``{<provider uuid>: {'resources': {<class>: <amount>}}}``
Allocations = Mapping[str, Any]


class Cloud:
    """The hosts and the running guests of all cells.

    :param cells: all cells of the cloud
    :param track: follows what is read
    """

    def __init__(self, cells: Cells, track: Track = untracked) -> None:
        self.cells = cells
        self._track = track
        self._reader = wire.StatsReader()
        self._host_risks = HostRisks(CONF.devcompat.accepted_risks)
        #: Hosts that published nothing and were passed over for that.
        self.silent: list[str] = []

    def fleet(self) -> Fleet:
        """All hosts that could publish, and all running guests. Each cell is asked once."""
        hosts: list[Host] = []
        guests: list[RunningGuest] = []
        found = itertools.chain.from_iterable(map(self._read, self.cells.select()))
        for entry in self._track(found, "Hosts and servers read"):
            if isinstance(entry, Host):
                hosts.append(entry)
            else:
                guests.append(entry)
        return Fleet(hosts=hosts, guests=guests)

    def survey(self, cell: Any) -> Iterator[Host | RunningGuest]:
        """All hosts of a cell that could publish, then all its running guests, as they are read.

        Where the cell does not answer, what follows is left out, and that is said.
        """
        return self._track(self._read(cell), f"Hosts and servers read of cell {label_of(cell)}")

    def _read(self, cell: Any) -> Iterator[Host | RunningGuest]:
        return self.cells.each([cell], functools.partial(self._survey, cell=label_of(cell)))

    def hosts(self, context: Any, cell: str = "") -> Iterator[Host]:
        """The hosts of one cell that could be the destination of a live migration.

        :param cell: its name
        """
        down = hosts_down(context)
        risks = self._host_risks.holding()
        for node in compute_nodes(context):
            # Ironic's nodes never are.
            if node.hypervisor_type != "ironic":
                yield host_of(
                    node,
                    self._reader,
                    down=down.get(node.host, ""),
                    cell=cell,
                    risks=risks.get(node.host, ()),
                )

    def published(self, text: str) -> wire.HostDocument | Reason:
        """What a host publishes with this text."""
        return published({wire.STATS_KEY: text}, self._reader)

    def _survey(self, context: Any, cell: str) -> Iterator[Host | RunningGuest]:
        yield from self.hosts(context, cell)
        filters = {"vm_state": list(VM_STATES)}
        for instance in instances(context, filters, ATTRIBUTES):
            if not runs(instance):
                continue
            try:
                guest = guest_of(instance, cell)
            except Exception as error:  # noqa: BLE001 - the others are there all the same
                self.cells.pass_over("Instance %s is left out: %s", instance.uuid, brief(error))
                continue
            yield guest

    @functools.cached_property
    def placement(self) -> Placement:
        """Placement, as Nova's configuration names it.

        :raises Refused: it cannot be reached
        """
        try:
            return Placement(report.report_client_singleton())
        except ks_exc.ClientException as error:
            raise Refused(f"placement cannot be reached: {brief(error)}") from error

    def running(
        self, cells: Sequence[Any], name: str | None
    ) -> Iterator[tuple[Host, Any, Allocations]]:
        """Running instances on hosts that published anything, with what they have allocated there.

        Memory is needed for one host's allocations and one page of instances at a time.

        :param cells: those to ask
        :param name: only instances on the host of this name
        """
        found = self.cells.each(cells, lambda context: self._running_in(context, name))
        return self._track(found, "Servers looked at")

    def _running_in(
        self, context: Any, name: str | None
    ) -> Iterator[tuple[Host, Any, Allocations]]:
        for node in compute_nodes(context, name):
            host = host_of(node, self._reader)
            allocated = self._allocated(host) if self._says_what_it_has(host, name) else None
            if allocated is None:
                continue
            filters = {"host": host.place.host, "vm_state": list(VM_STATES)}
            for instance in instances(context, filters, ATTRIBUTES):
                if instance.node == host.place.node and runs(instance):
                    yield host, instance, allocated.get(instance.uuid, {})

    def _says_what_it_has(self, host: Host, name: str | None) -> bool:
        """Whether a host published anything; what of it cannot be read is passed over."""
        if isinstance(host.said, Reason):
            # Hosts without our driver are no news, unless one was asked for.
            if name is not None or host.said.code != Code.HOST_SILENT:
                self.cells.pass_over("Host %s is left out: %s", host.place.host, host.said)
            else:
                self.silent.append(host.place.host)
            return False
        for problem in host.said.problems.values():
            self.cells.pass_over("Host %s is left out in part: %s", host.place.host, problem)
        return bool(host.said.devices or host.said.host)

    def _allocated(self, host: Host) -> dict[str, Allocations] | None:
        """By instance, what it has of the host's devices; None where placement does not tell.

        Asked by provider, of which there are far fewer than instances.
        """
        allocated: dict[str, Allocations] = {}
        for provider in host.providers:
            by_consumer = self.placement.allocations_from(provider)
            if by_consumer is None:
                self.cells.pass_over(
                    "Host %s is left out: placement does not tell who has its devices",
                    host.place.host,
                )
                return None
            for consumer, allocation in by_consumer.items():
                allocated[consumer] = {**allocated.get(consumer, {}), provider: allocation}
        return allocated

    def host_with(self, instance: Any, cell: Any) -> Host | None:
        """The host that an instance is on, None for one that is nowhere."""
        if not instance.host:
            return None

        def hosts(context: Any) -> Iterator[Host]:
            for node in compute_nodes(context, instance.host):
                if node.hypervisor_hostname == instance.node:
                    yield host_of(node, self._reader)

        return next(self.cells.each([cell], hosts), None)


def host_of(
    node: Any,
    reader: wire.StatsReader,
    down: str = "",
    *,
    cell: str = "",
    risks: tuple[Risk, ...] = (),
) -> Host:
    """A compute node of Nova's, with what it published.

    :param down: since when its nova-compute has not been heard of
    :param cell: the name of its cell
    :param risks: accepted ones of it that hold now
    """
    return Host(
        place=Place(node.host, node.hypervisor_hostname),
        said=published(node.stats, reader),
        id=node.id,
        down=down,
        cell=cell,
        risks=risks,
    )


def guest_of(instance: Any, cell: str = "") -> RunningGuest:
    """A running instance of Nova's, with its record.

    :param cell: the name of its cell
    """
    specs = extra_specs(instance)
    # As nova-scheduler tells it.
    guest = records.moving_guest(instance, assigned=asks_for_staying(specs, instance.pci_requests))
    return RunningGuest(
        uuid=instance.uuid,
        place=Place(instance.host, instance.node),
        record=guest.record,
        pins=tuple(sorted(item for item in specs.items() if is_pin(item[0]))),
        assigned=guest.assigned,
        pci=asks_for_pci(instance.pci_requests),
        asks=asks_of(
            specs,
            instance.pci_requests,
            pci_in_placement=CONF.filter_scheduler.pci_in_placement,
        ),
        risks=guest.risks,
        cell=cell,
    )


def frozen(instance: Any, host: Host, allocations: Allocations, pins: Need) -> Need:
    """What the guest would need if its devices were initialised now.

    :param pins: what its flavor wants it recorded as needing
    """
    return freeze(from_instance(instance, allocations, host.find, host.behind, host.id), pins)


def extra_specs(instance: Any) -> dict[str, str]:
    """Those of an instance's flavor."""
    return dict(instance.flavor.extra_specs or {})
