# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What guests hold: in placement, in Nova's database, in the memory of computes, in libvirt."""

from collections.abc import Iterator

from nova import context as nova_context
from nova import objects
from nova.virt.libvirt import utils as libvirt_utils
from oslo_utils import uuidutils

from tests.functional import capture
from tests.functional.guests import Server


class Holdings:
    """What a fleet can be asked about what its guests hold."""

    # Placement

    def provider_names(self) -> dict[str, str]:
        """Names of all resource providers by UUID."""
        return {each["uuid"]: each["name"] for each in self._get_all_providers()}

    def allocations_by_provider_name(self, consumer: str) -> dict[str, dict[str, int]]:
        """What a server, or a migration, holds: provider name -> resource class -> amount."""
        names = self.provider_names()
        return {
            names[provider]: allocation["resources"]
            for provider, allocation in self._get_allocations_by_server_uuid(consumer).items()
        }

    def take_all(self, provider: str, resource_class: str) -> list[str]:
        """Have others allocate all there is of a class on a provider.

        :param provider: its name
        :returns: their UUIDs, whose allocations the test deletes
        """
        (uuid,) = (one for one, name in self.provider_names().items() if name == provider)
        url = f"/resource_providers/{uuid}/inventories"
        inventory = self.placement.get(url).body["inventories"][resource_class]
        units = int((inventory["total"] - inventory["reserved"]) * inventory["allocation_ratio"])
        takers: list[str] = []
        while units:
            takes = min(units, inventory["max_unit"])
            units -= takes
            takers.append(uuidutils.generate_uuid())
            allocation = {
                "allocations": {uuid: {"resources": {resource_class: takes}}},
                "consumer_generation": None,
                "project_id": takers[-1],
                "user_id": takers[-1],
            }
            url = f"/allocations/{takers[-1]}"
            answer = self.placement.put(url, allocation, version="1.28")
            self.assertEqual(204, answer.status, answer.body)
        return takers

    def traits_of(self, provider: str) -> set[str]:
        """Traits of the provider of this name; a host's root provider has the host's name."""
        return set(self._get_provider_traits(self._get_provider_uuid_by_name(provider)))

    def offered_hosts(self, call: capture.PlacementCall) -> set[str]:
        """Hosts on which placement's answer has an allocation candidate."""
        names = self.provider_names()
        return {names[uuid] for uuid in call.offered_roots}

    def offered_providers(self, call: capture.PlacementCall) -> set[str]:
        """Names of the providers that a candidate in placement's answer allocates from."""
        names = self.provider_names()
        return {names[uuid] for uuid in call.offered}

    # Leftovers

    def leftovers(self, host: str, server: Server) -> list[str]:
        """What a host still holds for a server: a line each, none if all is clean.

        Looked at are placement (the server's allocations and those of its migrations), PCI
        devices in the database and in the compute's memory, mdevs claimed or in a domain, and
        domains.
        """
        return [
            *self._allocations_left(host, server),
            *self._pci_left(host, server["id"]),
            *self._mdevs_left(host, server["id"]),
        ]

    def assert_nothing_left_on(self, host: str, server: Server) -> None:
        """Assert that a host holds nothing for a server."""
        self.assertEqual([], self.leftovers(host, server), f"left on {host}")

    def _allocations_left(self, host: str, server: Server) -> Iterator[str]:
        consumers = {server["id"]: "server"} | {
            each.uuid: f"migration ({each.status})" for each in self.migrations(server)
        }
        for provider in self._get_all_rps_in_a_tree(self.compute_rp_uuids[host]):
            held = self._get_allocations_by_provider_uuid(provider["uuid"])
            for consumer in held.keys() & consumers.keys():
                yield (
                    f"placement: the {consumers[consumer]} holds "
                    f"{held[consumer]['resources']} of {provider['name']}"
                )

    def _pci_left(self, host: str, server_id: str) -> Iterator[str]:
        mapping = self.host_mappings[host].cell_mapping
        with nova_context.target_cell(self.context, mapping) as context:
            node = objects.ComputeNode.get_by_nodename(context, host)
            devices = objects.PciDeviceList.get_by_compute_node(context, node.id)
        for device in devices:
            if device.instance_uuid == server_id:
                yield f"database: PCI device {device.address} is {device.status}"
        # The tracker's own books can differ from the rows (nova/pci/manager.py).
        tracker = self.computes[host].manager.rt.pci_tracker
        for book in ("claims", "allocations") if tracker else ():
            for device in getattr(tracker, book).get(server_id, ()):
                yield f"PCI tracker: {device.address} in its {book}"

    def _mdevs_left(self, host: str, server_id: str) -> Iterator[str]:
        driver = self.computes[host].driver
        if claimed := driver.instance_claimed_mdevs.get(server_id):
            yield f"driver: mdevs {sorted(claimed)} claimed"
        connection = self.connection(host)
        for domain in connection._vms.values():
            if domain.UUIDString() == server_id:
                yield f"libvirt: domain {domain.name()}"

    def mdevs_of(self, host: str, server: Server) -> list[str]:
        """libvirt names of the GPUs whose mdevs a server uses on a host, one for each mdev."""
        driver = self.computes[host].driver
        assigned = driver._get_all_assigned_mediated_devices(self.instance(server))
        return sorted(
            driver._get_mediated_device_information(libvirt_utils.mdev_uuid2name(uuid))["parent"]
            for uuid in assigned
        )

    def pci_devices_of(self, host: str, server: Server) -> list[str]:
        """Addresses of the PCI devices that a server has on a host, by the database."""
        node = objects.ComputeNode.get_by_nodename(self.context, host)
        return sorted(
            device.address
            for device in objects.PciDeviceList.get_by_compute_node(self.context, node.id)
            if device.instance_uuid == server["id"] and device.status == "allocated"
        )
