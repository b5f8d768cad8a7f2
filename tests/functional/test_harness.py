# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The harness itself, on stock Nova: what the other functional tests take for granted."""

import sys
import types
import unittest
from unittest import mock

import fixtures
import pytest
from nova import exception
from nova.scheduler import filters
from nova.virt.libvirt import driver as libvirt_driver

from tests.functional import base, bootstrap, older
from tests.functional.base import VF_BY_CLASS, VF_BY_ID, VF_SPEC

# Stock Nova is not what we test: once is enough, on eventlet, and by day only what finds what a
# refused or broken migration leaves behind. All other tests start their fleets with this harness.
pytestmark = pytest.mark.skipif(
    bootstrap.uses_threads(), reason="the harness itself is tested on eventlet only"
)

GPU_2 = "0000:81:01.0"
PF_2 = "0000:83:00.0"

VGPU = {"resources:VGPU": "1"}


class VGPUTest(base.Fleet):
    MDEV_TYPES = {"nvidia-11": ()}

    def start_hosts(self, *names):
        for name in names:
            self.start_host(name, gpus=[base.Gpu()])

    def test_the_scheduler_moves_it_there_and_back(self):
        self.start_hosts("a", "b", "c", "d")
        server = self.boot("b", VGPU)
        self.prefer_hosts("c", "b")

        with self.placement_log.during() as calls:
            moved = self.live_migrate(server)

        self.assertEqual(("completed", "c", ["c"]), (moved.status, moved.host, moved.tried))
        (asked,) = calls.candidates
        self.assertEqual({"a", "b", "c", "d"}, self.offered_hosts(asked))
        self.assertIn("a_pci_0000_81_00_0", self.offered_providers(asked))
        allocations = self.allocations_by_provider_name(server["id"])
        self.assertEqual({"c", "c_pci_0000_81_00_0"}, set(allocations))
        self.assertEqual({"VGPU": 1}, allocations["c_pci_0000_81_00_0"])
        self.assertEqual(["pci_0000_81_00_0"], self.mdevs_of("c", server))
        self.assert_nothing_left_on("b", server)
        self.assertTrue(self.leftovers("c", server))

        for expected in ("b", "c", "b"):
            moved = self.live_migrate(server)
            self.assertEqual(("completed", expected), (moved.status, moved.host))
        self.assert_nothing_left_on("c", server)

    def test_hosts_in_random_order_are_reproducible(self):
        self.start_hosts("a", "b", "c")
        landed = []
        for _ in range(2):
            self.shuffle_hosts(7)
            servers = [self.boot(None, VGPU) for _ in range(4)]
            landed.append([self.host_of(server) for server in servers])
        self.assertEqual(landed[0], landed[1])
        self.assertGreater(len(set(landed[0])), 1)

    def test_one_host_with_two_parents(self):
        self.start_host("a", gpus=[base.Gpu(), base.Gpu(address=GPU_2)])
        self.start_host("b", gpus=[base.Gpu(address=GPU_2)])
        server = self.boot("a", VGPU)
        moved = self.live_migrate(server)
        self.assertEqual("b", moved.host)
        self.assertIn("b_pci_0000_81_01_0", self.allocations_by_provider_name(server["id"]))
        self.assertEqual(["pci_0000_81_01_0"], self.mdevs_of("b", server))

    def test_two_parents_with_types_of_their_own(self):
        self.use_mdev_types({"nvidia-11": ["0000:81:00.0"], "nvidia-12": [GPU_2]})
        self.start_host("a", gpus=[base.Gpu(), base.Gpu(address=GPU_2)])
        names = set(self.provider_names().values())
        self.assertEqual({"a", "a_pci_0000_81_00_0", "a_pci_0000_81_01_0"}, names)
        isolated = {"resources1:VGPU": "1", "resources2:VGPU": "1", "group_policy": "isolate"}
        server = self.boot("a", isolated)
        both = ["pci_0000_81_00_0", "pci_0000_81_01_0"]
        self.assertIn(self.mdevs_of("a", server), older.possible_vgpus(both))

    @pytest.mark.threads
    def test_a_refused_destination_is_clean_and_the_next_is_tried(self):
        self.start_hosts("a", "b", "c")
        server = self.boot("a", VGPU)
        self.prefer_hosts("b", "c")
        refuse = exception.MigrationPreCheckError(reason="not on this host")
        with mock.patch.object(
            self.computes["b"].driver, "check_source_migrate_data_at_dest", side_effect=refuse
        ):
            moved = self.live_migrate(server)
        self.assertEqual((["b", "c"], "c"), (moved.tried, moved.host))
        self.assertIn("not on this host", moved.attempts[0].refusal)
        self.assertEqual("", moved.attempts[1].refusal)
        self.assert_nothing_left_on("b", server)

    @pytest.mark.threads
    def test_a_claim_before_a_refusal_is_found(self):
        # libvirt's driver claims mdevs in this very check: refusing after it leaves them.
        self.start_hosts("a", "b")
        server = self.boot("a", VGPU)
        driver = self.computes["b"].driver
        original = driver.check_source_migrate_data_at_dest

        def claim_and_refuse(*args, **kwargs):
            original(*args, **kwargs)
            raise exception.MigrationPreCheckError(reason="too late")

        with mock.patch.object(driver, "check_source_migrate_data_at_dest", claim_and_refuse):
            moved = self.live_migrate(server)
        self.assertEqual(("error", "a"), (moved.status, moved.host))
        (left,) = self.leftovers("b", server)
        self.assertRegex(left, "^driver: mdevs .* claimed$")

    def test_nowhere_to_go(self):
        self.start_hosts("a")
        server = self.boot("a", VGPU)
        with self.logs.during() as lines:
            moved = self.live_migrate(server)
        self.assertEqual(("error", "a", []), (moved.status, moved.host, moved.tried))
        self.assertIn("No valid host", moved.error)
        self.assertTrue(lines.find("ignoring hosts: a", logger="nova.scheduler"))
        self.assertIn("a_pci_0000_81_00_0", self.allocations_by_provider_name(server["id"]))
        self.assertEqual("ACTIVE", self.api.get_server(server["id"])["status"])

    def test_a_server_that_does_not_fit(self):
        self.start_hosts("a")
        server = self.boot("a", {"resources:VGPU": "99"}, expect="ERROR")
        self.assertIn("No valid host", server["fault"]["message"])

    @pytest.mark.threads
    def test_a_migration_that_breaks_is_rolled_back(self):
        self.start_hosts("a", "b")
        server = self.boot("a", VGPU)
        self.migrations_break = True
        moved = self.live_migrate(server)
        self.assertEqual(("failed", "a"), (moved.status, moved.host))
        self.assert_nothing_left_on("b", server)

    def test_force_is_refused_for_nested_providers(self):
        # Nova's own doing, before any host is asked.
        self.start_hosts("a", "b")
        server = self.boot("a", VGPU)
        moved = self.live_migrate(server, "b", force=True)
        self.assertEqual(("error", "a", []), (moved.status, moved.host, moved.tried))
        self.assertIn("complex allocations", moved.error)

    def test_a_quiet_cycle_writes_nothing(self):
        self.start_hosts("a", "b")
        self.boot("a", VGPU)
        self.run_periodic()
        with self.placement_log.during() as calls:
            self.run_periodic("a")
            self.run_periodic()
        self.assertEqual([], calls.writes)

    def test_restart_keeps_guests_and_may_change_devices(self):
        self.start_hosts("a")
        server = self.boot("a", VGPU)
        old = self.computes["a"]
        new = self.restart_host("a", gpus=[base.Gpu(), base.Gpu(address=GPU_2)])
        self.assertIsNot(old.manager, new.manager)
        self.assertIs(new, self.computes["a"])
        self.assertEqual(["pci_0000_81_00_0"], self.mdevs_of("a", server))
        self.assertIn("a_pci_0000_81_01_0", self.provider_names().values())


class PCIInPlacementTest(base.Fleet):
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    def test_the_scheduler_moves_a_vf(self):
        self.start_host("a", pfs=[base.Pf()])
        # Elsewhere the PFs have other addresses, and there are two.
        for name in ("b", "c"):
            self.start_host(name, pfs=[base.Pf(address=PF_2), base.Pf(address="0000:84:00.0")])
        server = self.boot("a", {"pci_passthrough:alias": "vf:1"})
        held = self.allocations_by_provider_name(server["id"])
        self.assertEqual({"CUSTOM_VF": 1}, held["a_0000:82:00.0"])
        self.prefer_hosts("c")
        with self.placement_log.during() as calls:
            moved = self.live_migrate(server)
        self.assertEqual(("completed", "c"), (moved.status, moved.host))
        self.assertLessEqual(
            {"b_0000:83:00.0", "b_0000:84:00.0", "c_0000:83:00.0", "c_0000:84:00.0"},
            self.offered_providers(calls.candidates[0]),
        )
        (provider,) = set(self.allocations_by_provider_name(server["id"])) - {"c"}
        (address,) = self.pci_devices_of("c", server)
        # The device claimed is of the PF that placement allocated.
        self.assertEqual(provider, f"c_{address[:-1]}0")
        self.assert_nothing_left_on("a", server)

        moved = self.live_migrate(server, "a")
        self.assertEqual(("completed", "a"), (moved.status, moved.host))
        self.assert_nothing_left_on("c", server)

    def test_two_vfs_and_a_vgpu_in_one_guest(self):
        self.use_mdev_types({"nvidia-11": ()})
        for name in ("a", "b"):
            self.start_host(name, gpus=[base.Gpu()], pfs=[base.Pf(vfs=1), base.Pf(address=PF_2)])
        server = self.boot("a", {**VGPU, "pci_passthrough:alias": "vf:2"})
        moved = self.live_migrate(server)
        self.assertEqual(("completed", "b"), (moved.status, moved.host))
        self.assertEqual(2, len(self.pci_devices_of("b", server)))
        self.assertEqual(["pci_0000_81_00_0"], self.mdevs_of("b", server))
        self.assert_nothing_left_on("a", server)

    @pytest.mark.threads
    def test_a_pci_claim_before_a_refusal_is_found(self):
        # The manager claims PCI devices before it asks the driver the last time
        # (check_source_migrate_data_at_dest), and does not free them when that refuses.
        for name in ("a", "b"):
            self.start_host(name, pfs=[base.Pf()])
        server = self.boot("a", {"pci_passthrough:alias": "vf:1"})
        with mock.patch.object(
            self.computes["b"].driver,
            "check_source_migrate_data_at_dest",
            side_effect=exception.MigrationPreCheckError(reason="no"),
        ):
            moved = self.live_migrate(server)
        self.assertEqual(("error", "a"), (moved.status, moved.host))
        row, book = self.leftovers("b", server)
        self.assertRegex(row, "^database: PCI device .* is claimed$")
        self.assertRegex(book, "^PCI tracker: .* in its claims$")
        self.run_periodic("b")
        self.assert_nothing_left_on("b", server)


class PCINotInPlacementTest(base.Fleet):
    DEVICE_SPEC = [VF_SPEC]
    ALIASES = [VF_BY_ID]
    PCI_IN_PLACEMENT = False

    def setUp(self):
        super().setUp()
        for name in ("a", "b", "c"):
            self.start_host(name, pfs=[base.Pf(), base.Pf(address=PF_2)])
        self.server = self.boot("a", {"pci_passthrough:alias": "vf:1"})

    def test_the_scheduler_moves_a_vf(self):
        self.prefer_hosts("b")
        moved = self.live_migrate(self.server)
        self.assertEqual(("completed", "b"), (moved.status, moved.host))
        self.assertEqual({"b"}, set(self.allocations_by_provider_name(self.server["id"])))
        self.assertEqual(1, len(self.pci_devices_of("b", self.server)))
        self.assert_nothing_left_on("a", self.server)

    def test_force_goes_past_the_scheduler(self):
        with self.placement_log.during() as calls:
            moved = self.live_migrate(self.server, "c", force=True)
        self.assertEqual(("completed", "c"), (moved.status, moved.host))
        self.assertEqual([], calls.candidates)
        self.assertEqual(1, len(self.pci_devices_of("c", self.server)))


class OtherDriver(libvirt_driver.LibvirtDriver):
    """As ours will be: a subclass of libvirt's driver, under another name."""

    def update_provider_tree(self, provider_tree, nodename, allocations=None):
        super().update_provider_tree(provider_tree, nodename, allocations=allocations)
        provider_tree.add_traits(nodename, "CUSTOM_HARNESS")


class NotOn(filters.BaseHostFilter):
    """A filter that rejects one host."""

    host = ""

    def host_passes(self, host_state, spec_obj):
        return host_state.host != self.host


def our_filters():
    """What [filter_scheduler] available_filters may name: a function that returns classes."""
    return [NotOn]


class OtherDriverAndFilterTest(base.Fleet):
    COMPUTE_DRIVER = "harness.OtherDriver"
    AVAILABLE_FILTERS = (*base.Fleet.AVAILABLE_FILTERS, f"{__name__}.our_filters")
    EXTRA_FILTERS = ("NotOn",)
    MDEV_TYPES = {"nvidia-11": ()}

    def configure(self):
        # Nova imports 'nova.virt.' + compute_driver.
        module = types.ModuleType("nova.virt.harness")
        module.OtherDriver = OtherDriver
        self.useFixture(
            fixtures.MonkeyPatch("sys.modules", {**sys.modules, module.__name__: module})
        )

    def test_both_are_used(self):
        for name in ("a", "b", "c"):
            compute = self.start_host(name, gpus=[base.Gpu()])
            self.assertIsInstance(compute.driver, OtherDriver)
            self.assertIn("CUSTOM_HARNESS", self.traits_of(name))
        server = self.boot("a", VGPU)
        self.prefer_hosts("b")
        with mock.patch.object(NotOn, "host", "b"):
            moved = self.live_migrate(server)
        self.assertEqual(("completed", "c"), (moved.status, moved.host))
        self.assertEqual(["pci_0000_81_00_0"], self.mdevs_of("c", server))


class ScriptTest(unittest.TestCase):
    """A fleet without a test runner."""

    class Cloud(base.Fleet):
        MDEV_TYPES = {"nvidia-11": ()}

    def test_running(self):
        with base.running(self.Cloud) as cloud:
            cloud.start_host("a", gpus=[base.Gpu()])
            self.assertEqual("a", cloud.host_of(cloud.boot("a", VGPU)))
        self.assertTrue(bootstrap.link_api_paste().exists())
