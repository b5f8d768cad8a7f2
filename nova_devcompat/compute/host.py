# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""This host, as the hooks of the driver see it: its devices, and what Nova calls it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import nova.conf
from keystoneauth1 import exceptions as ks_exc
from nova import exception, objects
from nova.scheduler.client import report

from nova_devcompat import conf as devcompat_conf
from nova_devcompat.catalog import stages
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.policy import Policies
from nova_devcompat.compat.risks import Risk
from nova_devcompat.compute.publish import Publisher
from nova_devcompat.host.devices import HostDevice, HostDevices
from nova_devcompat.host.inventory import HostReader
from nova_devcompat.stores.assigned import Assigned, Behind, from_instance
from nova_devcompat.stores.placement import Placement, PlacementError
from nova_devcompat.stores.provided import Provided
from nova_devcompat.stores.risks import HostRisks

CONF = nova.conf.CONF


class ThisHost:
    """What several hooks ask.

    :param inventory: reads the devices
    """

    def __init__(self, inventory: HostReader) -> None:
        self.inventory = inventory
        #: The service's name, as the compute manager told it.
        self.name: str = CONF.host
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None
        self._risks = HostRisks(CONF.devcompat.accepted_risks)

    @property
    def publisher(self) -> Publisher:
        """Made when it is first used, since placement's client wants its options read."""
        with self._lock:
            if self._publisher is None:
                self._publisher = Publisher(
                    self.inventory,
                    Placement(report.report_client_singleton()),
                    self.policies,
                    version=CONF.devcompat.stats_format,
                    post_copy=CONF.libvirt.live_migration_permit_post_copy,
                )
            return self._publisher

    def devices(self, nodename: str) -> HostDevices:
        """The devices of a node, read now."""
        return self.inventory.read(nodename)

    def behind(self, nodename: str, devices: HostDevices) -> Behind[HostDevice]:
        """What tells the device that a resource provider of a node stands for."""
        publisher = self.publisher

        def behind(provider: str) -> Provided[HostDevice]:
            address = publisher.address_of(nodename, provider)
            if address is None:
                return Provided()
            return Provided(address, devices.may_be(address), devices.is_named(address))

        return behind

    def assigned(
        self,
        context: Any,
        instance: Any,
        nodename: str,
        devices: HostDevices,
        allocations: Any = None,
        expected: Iterable[str] = (),
    ) -> list[Assigned[HostDevice]]:
        """The devices that an instance has on a node.

        :param allocations: what placement has for the instance on this host; None to ask
        :param expected: slots that are known to be devices, listed even where nothing is known of
            the device that was allocated
        :raises PlacementError: it does not say
        """
        if allocations is None:
            allocations = self.allocations_of(context, instance)
        return from_instance(
            instance,
            allocations,
            devices.find,
            self.behind(nodename, devices),
            self.node_id(context, nodename),
            expected,
        )

    @staticmethod
    def allocations_of(context: Any, instance: Any) -> Any:
        """What placement has for an instance, on whatever hosts.

        :raises PlacementError: it does not say
        """
        try:
            found = report.report_client_singleton().get_allocs_for_consumer(
                context, instance.uuid
            )
        except (ks_exc.ClientException, exception.ConsumerAllocationRetrievalFailed) as error:
            raise PlacementError(f"allocations of instance {instance.uuid}: {error}") from error
        return found["allocations"]

    def policies(self, catalog: Catalog | None = None) -> Policies:
        """The policies of all families, as they are now.

        :param catalog: that classified the devices; by default the one that the files have now
        """
        catalog = catalog or self.inventory.catalog
        return catalog.policies(devcompat_conf.default_policy(CONF), stages.now())

    def risks(self) -> tuple[Risk, ...]:
        """The risks that are accepted for this host and hold now."""
        return self._risks.holding().get(self.name, ())

    def parent_of(self, context: Any, nodename: str, address: str) -> str | None:
        """The physical function of a PCI address, None where Nova knows none."""
        try:
            node_id = self.node_id(context, nodename)
            found = objects.PciDevice.get_by_dev_addr(context, node_id, address)
        except exception.NotFound:
            return None
        parent: str | None = found.parent_addr
        return parent

    def node_id(self, context: Any, nodename: str) -> int:
        """Of the compute node.

        :raises ComputeHostNotFound: it has no record yet
        """
        node = objects.ComputeNode.get_by_host_and_nodename(context, self.name, nodename)
        return int(node.id)
