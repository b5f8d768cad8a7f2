# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What happens at the same time: never an unfit landing, never a lost or mixed-up record."""

import threading

import fixtures
import pytest
from nova.conductor.tasks import live_migrate
from nova.scheduler.client import report

from nova_devcompat.compat.need import Need
from tests.functional import base, older
from tests.functional.base import VF_BY_CLASS, VF_BY_ID, VF_SPEC
from tests.functional.devcompat import VF, DeviceCompatFleet, nic

pytestmark = pytest.mark.threads


class RaceTest(DeviceCompatFleet):
    """Two guests and the last fitting device, in placement."""

    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    def setUp(self):
        super().setUp()
        # Each has room for one guest, but "unfit" has room for many.
        for name, version in {"a": "1.2", "b": "1.2", "last": "1.3", "unfit": "2.0"}.items():
            self.set_devices(name, nic(version))
            self.start_host(name, pfs=[base.Pf(vfs=4 if name == "unfit" else 1)])
        self.settle()
        self.servers = [self.boot("a", VF), self.boot("b", VF)]
        self.records = [self.record_of(server) for server in self.servers]

    def race(self):
        """Live-migrate both guests at once, from threads of their own."""
        begun = [None, None]

        def begin(index):
            begun[index] = self.begin_live_migration(self.servers[index])

        threads = [threading.Thread(target=begin, args=(index,)) for index in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return [self.end_live_migration(one) for one in begun]

    def assert_one_won(self, moved):
        self.assertEqual(["last"], [one.host for one in moved if one.status == "completed"])
        for index, (server, home) in enumerate(zip(self.servers, "ab", strict=True)):
            needs = self.record_of(server).devices
            self.assertEqual(
                [one.moved("") for one in self.records[index].devices],
                [one.moved("") for one in needs],
            )
            here = "last" if moved[index].status == "completed" else home
            self.assertEqual(here, self.host_of(server))
            self.assertEqual(self.pci_devices_of(here, server), [one.address for one in needs])
            for other in {"a", "b", "last", "unfit"} - {here}:
                self.assert_nothing_left_on(other, server)
        for one in moved:
            self.assertNotIn("unfit", one.tried)

    def test_the_last_fitting_device(self):
        """Both are offered it by placement before either has claimed it."""
        both_asked = threading.Barrier(2)
        original = report.SchedulerReportClient.get_allocation_candidates

        def get_allocation_candidates(client, context, resources):
            answer = original(client, context, resources)
            if not both_asked.broken:
                try:
                    both_asked.wait(10)
                finally:
                    both_asked.abort()
            return answer

        self.useFixture(
            fixtures.MonkeyPatch(
                "nova.scheduler.client.report.SchedulerReportClient.get_allocation_candidates",
                get_allocation_candidates,
            )
        )
        self.assert_one_won(self.race())


class UntrackedRaceTest(RaceTest):
    """The same where only nova-compute knows which devices are taken."""

    DEVICE_SPEC = [VF_SPEC]
    ALIASES = [VF_BY_ID]
    PCI_IN_PLACEMENT = False


class ChangeTest(DeviceCompatFleet):
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    def setUp(self):
        super().setUp()
        self.start_nic_hosts(a="1.2", b="1.2", c="1.2")
        self.server = self.boot("a", VF)
        self.record = self.record_of(self.server)

    def assert_record_on(self, host):
        recorded = self.record_of(self.server)
        moved = [
            one.moved(address)
            for one, address in zip(
                self.record.devices, self.pci_devices_of(host, self.server), strict=True
            )
        ]
        self.assertEqual(Need(devices=tuple(moved)), recorded)

    def test_a_version_that_changes_after_scheduling(self):
        """The destination's firmware is replaced between the choice of it and the claim."""
        original = live_migrate.LiveMigrationTask._call_livem_checks_on_host
        self.prefer_hosts("b", "c")

        def call(task, destination, provider_mapping):
            if destination == "b":
                self.set_devices("b", nic("2.0"))
            return original(task, destination, provider_mapping)

        self.useFixture(
            fixtures.MonkeyPatch(
                "nova.conductor.tasks.live_migrate.LiveMigrationTask._call_livem_checks_on_host",
                call,
            )
        )
        moved = self.live_migrate(self.server)
        self.assert_moved("c", moved)
        self.assertEqual(["b", "c"], moved.tried)
        self.assert_record_on("c")
        self.assert_nothing_left_on("b", self.server)

    def test_a_destination_that_restarts_in_mid_migration(self):
        """It knows no more what admission found; the record is right all the same."""
        self.flags(**older.quick_stop())
        with self.migrations_held():
            begun = self.begin_live_migration(self.server, "b")
            self.wait_until_copying(self.server)
            self.restart_host("b")
            self.settle()
            self.assertEqual(self.record, self.record_of(self.server))
        self.assert_moved("b", self.end_live_migration(begun))
        self.assert_record_on("b")

    def test_a_migration_to_a_destination_that_restarted_and_changed(self):
        """What happened to the versions meanwhile is no business of the guest's need."""
        self.flags(**older.quick_stop())
        with self.migrations_held():
            begun = self.begin_live_migration(self.server, "b")
            self.wait_until_copying(self.server)
            self.set_devices("b", nic("1.4"))
            self.restart_host("b")
        self.assert_moved("b", self.end_live_migration(begun))
        self.assert_record_on("b")
        self.assert_moved("c", self.live_migrate(self.server, "c"))

    def test_a_catalog_that_changes_in_mid_migration(self):
        """Adoption leaves a guest alone that is on its way."""
        with self.migrations_held():
            begun = self.begin_live_migration(self.server, "b")
            self.wait_until_copying(self.server)
            self.set_families(
                {
                    **self.FAMILIES,
                    "nic": {
                        **self.FAMILIES["nic"],
                        "rules": {"fw_version": "semver", "x": "equal"},
                    },
                }
            )
            self.settle()
            self.assertEqual(self.record, self.record_of(self.server))
        self.assert_moved("b", self.end_live_migration(begun))
        self.assert_record_on("b")


class PortsTest(DeviceCompatFleet):
    """Ports that are attached to one guest at once: Nova locks each port, not the guest."""

    DEVICE_SPEC = [{"vendor_id": "15b3", "product_id": "101e", "physical_network": "physnet4"}]
    PCI_IN_PLACEMENT = False

    def test_two_ports_attached_at_once(self):
        self.set_devices("a", nic("1.2"))
        self.start_host("a", pfs=[base.Pf(vfs=4)])
        self.settle()
        server = self.boot("a")
        ports = []
        for number in (1, 2):
            port = dict(self.neutron.network_4_port_1)
            port.update(
                id=f"7f0f5f0c-0000-4000-8000-00000000000{number}",
                mac_address=f"b4:96:91:34:f4:0{number}",
            )
            self.neutron.create_port({"port": port})
            ports.append(port["id"])

        threads = [
            threading.Thread(target=self._attach_interface, args=(server, port)) for port in ports
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(2, len(self.record_of(server).devices))
        # Nova's own list of the guest's PCI requests may have lost one; the ports tell.
        slots = [
            self.neutron.show_port(port)["port"]["binding:profile"]["pci_slot"] for port in ports
        ]
        self.assertEqual(
            sorted(slots), sorted(one.address for one in self.record_of(server).devices)
        )
