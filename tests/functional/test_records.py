# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A record is of the guest as it runs now, whatever was done to it and whoever looked."""

import fixtures
import oslo_messaging as messaging
import pytest
from nova import context, objects

from nova_devcompat import wire
from nova_devcompat.compat.need import InMigration, Need
from nova_devcompat.stores import history, records
from tests.functional import base
from tests.functional.base import VF_BY_CLASS, VF_BY_ID, VF_SPEC
from tests.functional.devcompat import (
    CATALOG,
    PF,
    PF_2,
    VF,
    VGPU,
    DeviceCompatFleet,
    device,
    gpu,
    nic,
)

OURS = "devcompat.DeviceCompatDriver"


class _Fleet(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    def start_hosts(self, **versions):
        for name, version in versions.items():
            self.upgrade(name, version)
            self.start_host(name, gpus=[base.Gpu()], pfs=[base.Pf(vfs=4)])
        self.settle()

    def upgrade(self, host, version):
        self.set_devices(host, gpu(version), nic(version))

    def act(self, server, action, *, status="ACTIVE"):
        self.api.post_server_action(server["id"], action)
        self._wait_for_server_parameter(server, {"status": status, "OS-EXT-STS:task_state": None})

    def reboot(self, server):
        self.act(server, {"reboot": {"type": "HARD"}})

    def assumed(self, server):
        return {name for one in self.record_of(server).devices for name in one.assumed}

    def incarnation(self, server):
        return wire.load_whole_record(self.instance(server).system_metadata).incarnation

    def assert_needs(self, server, version, *, assumed):
        needs = {atom.partition("=")[2] for atom in self.needed(server)}
        self.assertEqual({version}, needs)
        self.assertEqual(assumed, bool(self.assumed(server)), self.record_of(server))

    def virsh_start(self, server):
        """What 'virsh destroy' and 'virsh start' come to: libvirt counts its domains on."""
        connection = self.connection("a")
        (domain,) = [one for one in connection._vms.values() if one.UUIDString() == server["id"]]
        connection._id_counter += 1
        domain._id = connection._id_counter

    def without_ours(self, host):
        """Restart a nova-compute without our driver."""
        self.flags(compute_driver="libvirt.LibvirtDriver")
        self.restart_host(host)
        self.flags(compute_driver=OURS)


class IncarnationTest(_Fleet):
    """Starts of the guest that our driver did not see."""

    def setUp(self):
        super().setUp()
        # Everything happens within seconds here.
        self.useFixture(
            fixtures.MonkeyPatch(f"{history.__name__}.CLOCKS_APART", history.CLOCKS_APART * 0)
        )

    def test_through_a_host_without_our_driver(self):
        self.start_hosts(a="1.2", b="1.2", c="1.4")
        self.without_ours("c")
        self.set_stats("c", None)
        cold, live, rebooted = (self.boot("a", VGPU) for _ in range(3))
        # Nova calls a migration completed after the guest was recorded where it arrived.
        self.assert_moved("b", self.live_migrate(live, "b"))
        self.flags(mode="report", group="devcompat")
        self.act(cold, {"migrate": {"host": "c"}}, status="VERIFY_RESIZE")
        self.act(cold, {"confirmResize": None})
        for server in (live, rebooted):
            self.assert_moved("c", self.live_migrate(server, "c"))
        self.reboot(rebooted)
        self.flags(mode="enforce", group="devcompat")
        # Nobody has looked at them there, as the log of the scheduler says.
        for server in (cold, rebooted):
            self.assert_refused("c", self.live_migrate(server, "b"))
        # The roll-out reaches the host.
        self.restart_host("c")
        self.settle()
        self.assert_needs(cold, "1.4", assumed=True)
        self.assert_needs(rebooted, "1.4", assumed=True)
        self.assert_needs(live, "1.2", assumed=False)
        for server in (cold, live, rebooted):
            self.assertEqual("c", self.incarnation(server).node)
        self.assert_refused("c", self.live_migrate(cold, "b"))
        self.assert_moved("b", self.live_migrate(live, "b"))
        # And with a restart of the guest it is no assumption any more.
        self.reboot(cold)
        self.assert_needs(cold, "1.4", assumed=False)

    def assert_refused(self, host, moved):
        # Nova's fake libvirt keeps the domain of a guest that was cold migrated.
        self.assertEqual(("error", host), (moved.status, moved.host), moved.error)
        self.assertIn("No valid host", moved.error)

    def test_taken_away_and_put_back(self):
        self.start_hosts(a="1.2", b="1.2")
        rebooted, left, moved_on = (self.boot("a", VGPU) for _ in range(3))
        before = self.instance(left).system_metadata
        self.without_ours("a")
        self.set_stats("a", None)
        self.upgrade("a", "1.4")
        self.reboot(rebooted)
        # The destination sees by Nova's books that the record may be of an earlier start.
        moved = self.live_migrate(rebooted, "b")
        self.assert_stays("a", moved, rebooted)
        self.assertIn("record-stale", self.refusals(rebooted)["b"])
        self.assert_moved("b", self.live_migrate(moved_on, "b"))
        self.assert_needs(moved_on, "1.2", assumed=False)
        self.restart_host("a")
        self.settle()
        self.assert_needs(rebooted, "1.4", assumed=True)
        self.assertEqual(before, self.instance(left).system_metadata)

    def test_behind_novas_back(self):
        self.start_hosts(a="1.2", b="1.2")
        noticed, moved_at_once = self.boot("a", VGPU), self.boot("a", VGPU)
        self.upgrade("a", "1.4")
        self.settle()
        for server in (noticed, moved_at_once):
            self.virsh_start(server)
        # The source looks at it before it goes, and the destination judges by that.
        moved = self.live_migrate(moved_at_once, "b")
        self.assert_stays("a", moved, moved_at_once)
        self.assertIn("minor-too-old", self.refusals(moved_at_once)["b"])
        self.assert_needs(moved_at_once, "1.4", assumed=True)
        with self.logs.during() as lines:
            self.run_periodic("a")
        self.assert_needs(noticed, "1.4", assumed=True)
        self.assertTrue(lines.find("The record is of another start of the guest"))
        # A hook that is off comes to the same.
        self.upgrade("a", "1.6")
        with fixtures.MockPatchObject(self.computes["a"].driver._devcompat_guests, "initialised"):
            self.reboot(noticed)
        self.run_periodic("a")
        self.assert_needs(noticed, "1.6", assumed=True)

    def test_while_others_are_looked_at(self):
        """What was frozen at a start is no assumption, though the list of starts is older."""
        self.start_hosts(a="1.2")
        server = self.boot("a", VGPU)
        self.upgrade("a", "1.4")
        adoption = self.computes["a"].driver._devcompat_adoption
        asked = adoption._asked

        def reboot_meanwhile(*args):
            adoption._asked = asked
            self.reboot(server)
            return {server["id"]}

        adoption._asked = reboot_meanwhile
        self.run_periodic("a")
        self.assert_needs(server, "1.4", assumed=False)
        self.run_periodic("a")
        self.assert_needs(server, "1.4", assumed=False)

    def test_an_arrival_that_nova_has_not_finished(self):
        """Our driver at the destination is not told of it, and Nova calls the migration failed."""
        self.start_hosts(a="1.2", b="1.2", c="1.4")
        server = self.boot("a", VGPU)
        # One that failed where the guest was is no move.
        self.migrations_break = True
        self.assertEqual("a", self.live_migrate(server, "b").host)
        self.migrations_break = False
        with fixtures.MockPatch(
            "nova.network.neutron.API.migrate_instance_finish", side_effect=RuntimeError("no")
        ):
            moved = self.live_migrate(server, "c")
        self.assertEqual(("error", "c"), (moved.status, self.host_of(server)))
        self.assertEqual("a", self.incarnation(server).node)
        self.run_periodic("c")
        self.assertEqual("c", self.incarnation(server).node)
        self.assert_needs(server, "1.2", assumed=False)
        self.api.post_server_action(server["id"], {"os-resetState": {"state": "active"}})
        self.assert_moved("b", self.live_migrate(server, "b"))
        self.assert_needs(server, "1.2", assumed=False)


class LookTest(_Fleet):
    """What cannot be read for a moment, is the guest's no more, or is called otherwise."""

    def test_silent_at_a_restart(self):
        self.start_hosts(a="1.2", b="1.2", c="1.2")
        server = self.boot("a", {**VGPU, **VF})
        self.set_devices("a", gpu("1.2"))
        self.reboot(server)
        # Which device it is, Nova's lists tell.
        self.assertEqual({"gpu", "nic"}, self.record_of(server).families)
        self.assertEqual({"gpu.version=1.2"}, self.needed(server))
        self.assert_stays("a", self.live_migrate(server, "b"), server)
        self.upgrade("a", "1.2")
        self.settle()
        self.assert_needs(server, "1.2", assumed=True)
        self.set_devices("c", gpu("1.2"), nic("1.0"))
        self.settle()
        self.assert_stays("a", self.live_migrate(server, "c"), server)
        self.assert_moved("b", self.live_migrate(server, "b"))
        # An attribute, and an answer of Nova's own.
        self.set_devices("b", device("0000:81:00.0", "gpu"), nic("1.2"))
        self.reboot(server)
        self.assertEqual({"nic.fw_version=1.2"}, self.needed(server))
        self.upgrade("b", "1.2")
        with fixtures.MonkeyPatch(
            "nova.objects.Instance.get_by_uuid",
            lambda *args, **kwargs: (_ for _ in ()).throw(messaging.MessagingTimeout("no")),
        ):
            self.run_adoption("b")
        self.assertEqual({"nic.fw_version=1.2"}, self.needed(server))
        self.run_periodic("b")
        self.assert_needs(server, "1.2", assumed=True)
        self.set_devices("c", gpu("1.2"), nic("1.2"))
        self.settle()
        self.assert_moved("c", self.live_migrate(server, "c"))

    def run_adoption(self, host):
        driver = self.computes[host].driver
        driver._devcompat_host.publisher.stats(host)
        driver._devcompat_adoption.go_on(host)

    def test_a_name_that_no_source_has(self):
        """The device may be of any family, so that nothing is known of what the guest needs."""
        self.start_hosts(a="1.2", b="1.2")
        server = self.boot("a", VGPU)
        recorded = self.record_of(server)
        named = fixtures.MonkeyPatch(
            "nova_devcompat.compute.publish.provider_address",
            lambda name, node: "mtty_mtty" if "_pci_" in name else None,
        )
        for start in (self.reboot, self.virsh_start):
            with named, self.logs.during() as lines:
                self.run_periodic("a")
                self.run_periodic("a")
                self.assertEqual(recorded, self.record_of(server), "nothing has happened to it")
                start(server)
                for _ in range(3):
                    self.run_periodic("a")
                self.assertIsNone(self.record_of(server))
                self.assert_stays("a", self.live_migrate(server, "b"), server)
            self.assertEqual(1, len(lines.find("a device of mtty_mtty, and no source")))
            for _ in range(9):
                self.run_periodic("a")
                if self.record_of(server) is not None:
                    break
            self.assert_needs(server, "1.2", assumed=True)
            recorded = self.record_of(server)
        self.assert_moved("b", self.live_migrate(server, "b"))

    def test_a_family_that_is_renamed_or_removed(self):
        self.start_hosts(a="1.2", b="1.2")
        server = self.boot("a", VF)
        others = {name: family for name, family in CATALOG.items() if name != "nic"}
        self.set_families({**others, "nic2": CATALOG["nic"]})
        for name in ("a", "b"):
            self.set_devices(name, device(PF, "nic2", fw_version="1.2"))
        self.settle()
        self.assertEqual({"nic2.fw_version=1.2"}, self.needed(server))
        self.assert_moved("b", self.live_migrate(server, "b"))
        self.set_families(others)
        for name in ("a", "b"):
            self.set_devices(name)
        self.settle()
        self.assertEqual(Need(), self.record_of(server))
        self.assert_moved("a", self.live_migrate(server, "a"))

    def test_resized(self):
        self.flags(allow_resize_to_same_host=True)
        self.start_hosts(a="1.2", b="1.2")
        # From none to some, and back.
        server = self.boot("a")
        self.prefer_hosts("b")
        both = self.make_flavor({**VGPU, **VF})
        self.act(server, {"resize": {"flavorRef": both}}, status="VERIFY_RESIZE")
        self.assertEqual({"gpu.version=1.2", "nic.fw_version=1.2"}, self.needed(server))
        self.act(server, {"revertResize": None})
        self.assertIsNone(self.record_of(server))
        # Nova's request for it goes on to ask for the other flavor's functions.
        self.assert_moved("b", self.live_migrate(server, "b"))
        # On its own host Nova lists the devices of both flavors until it is confirmed.
        server = self.boot("a", VF)
        self.prefer_hosts("a")
        self.act(server, {"resize": {"flavorRef": self.make_flavor(VF)}}, status="VERIFY_RESIZE")
        (before,) = self.record_of(server).devices
        self.restart_host("a")
        self.assertEqual((before,), self.record_of(server).devices)
        self.act(server, {"confirmResize": None})
        self.assertEqual((before,), self.record_of(server).devices)
        self.assertEqual(self.pci_devices_of("a", server), [before.address])
        self.assert_moved("b", self.live_migrate(server, "b"))

    def test_a_copy_of_before_that_nova_saves_afterwards(self):
        """As the source of a resize does once it was confirmed, with all of its metadata."""
        self.start_hosts(a="1.2", b="1.2")
        server = self.boot("a", VGPU)
        self.act(server, {"migrate": {"host": "b"}}, status="VERIFY_RESIZE")
        instance = self.instance(server)
        records.store(instance, Need())
        instance.save()
        manager = self.computes["a"].manager
        delete = manager._delete_allocation_after_move

        def adopt_meanwhile(*args, **kwargs):
            self.computes["b"].driver._devcompat_adoption.look_again(server["id"], "b")
            self.run_periodic("b")
            self.assert_needs(server, "1.2", assumed=True)
            return delete(*args, **kwargs)

        manager._delete_allocation_after_move = adopt_meanwhile
        self.act(server, {"confirmResize": None})
        self.assertIsNone(self.record_of(server), "as Nova has it")
        self.run_periodic("b")
        self.assert_needs(server, "1.2", assumed=True)

    def test_a_claim_that_nova_has_lost(self):
        """As PciDevTracker.clean_usage frees it when it runs in the midst of an arrival."""
        self.start_hosts(a="1.2", b="1.1")
        server = self.boot("a", VF)
        self.assertEqual({"nic.fw_version=1.2"}, self.needed(server))
        tracker = self.computes["a"].rt.pci_tracker
        tracker.free_instance(context.get_admin_context(), self.instance(server))
        tracker.save(context.get_admin_context())
        self.assertEqual([], self.pci_devices_of("a", server))
        self.restart_host("a")
        self.run_periodic("a")
        self.assertEqual({"nic.fw_version=1.2"}, self.needed(server))
        self.assert_stays("a", self.live_migrate(server), server)

    def test_a_device_that_comes_and_goes(self):
        """It costs nothing but what is published."""
        self.start_hosts(a="1.2")
        servers = [self.boot("a", extra) for extra in (VF, VGPU, {})]
        self.settle()
        self.run_periodic("a")
        before = [self.instance(server).system_metadata for server in servers]
        reads = self.useFixture(
            fixtures.MockPatch(
                "nova.objects.Instance.get_by_uuid", wraps=objects.Instance.get_by_uuid
            )
        ).mock
        asked = self.useFixture(
            fixtures.MockPatch("nova_devcompat.compute.host.ThisHost.allocations_of")
        ).mock
        for present in (False, True, False, True):
            self.set_devices("a", gpu("1.2"), *([nic("1.2")] if present else []))
            self.run_periodic("a")
        self.assertEqual([], asked.mock_calls)
        self.assertEqual([], reads.mock_calls)
        self.assertEqual(before, [self.instance(server).system_metadata for server in servers])


@pytest.mark.threads
class WriterTest(DeviceCompatFleet):
    """Several who write at once."""

    MDEV_TYPES = {"nvidia-11": ()}
    DEVICE_SPEC = [{"vendor_id": "15b3", "product_id": "101e", "physical_network": "physnet4"}]
    PCI_IN_PLACEMENT = False

    def test_a_port_that_is_attached_while_the_guest_is_adopted(self):
        self.set_devices("a", gpu("1.2"), nic("1.2"))
        self.start_host("a", gpus=[base.Gpu()], pfs=[base.Pf()])
        self.settle()
        self.neutron.create_port({"port": self.neutron.network_4_port_1})
        server = self.boot("a", VGPU)
        instance = self.instance(server)
        for key in filter(wire.is_record_key, list(instance.system_metadata)):
            del instance.system_metadata[key]
        instance.save()
        driver = self.computes["a"].driver
        findings = driver._devcompat_guests.findings

        def attach_meanwhile(*args, **kwargs):
            found = findings(*args, **kwargs)
            driver._devcompat_guests.findings = findings
            self._attach_interface(server, self.neutron.network_4_port_1["id"])
            return found

        driver._devcompat_guests.findings = attach_meanwhile
        driver._devcompat_adoption.look_again(server["id"], "a")
        self.run_periodic("a")
        self.run_periodic("a")
        self.assertEqual({"gpu.version=1.2", "nic.fw_version=1.2"}, self.needed(server))
        ways = {one.family: one.in_migration for one in self.record_of(server).devices}
        self.assertEqual({"gpu": InMigration.STAYS, "nic": InMigration.REPLUGGED}, ways)


@pytest.mark.threads
class QueuedTest(_Fleet):
    def test_a_destination_that_changes_while_others_are_moved(self):
        self.flags(max_concurrent_live_migrations=1)
        self.start_hosts(a="1.2", b="1.2", c="1.2")
        one, two = self.boot("a", {**VF, **VGPU}), self.boot("a", {**VF, **VGPU})
        with self.migrations_held():
            first = self.begin_live_migration(one, "b")
            self.wait_until_copying(one)
            second = self.begin_live_migration(two, "c")
            self.upgrade("c", "1.0")
            self.settle()
        self.assert_moved("b", self.end_live_migration(first))
        moved = self.end_live_migration(second)
        self.assert_stays("a", moved, two)
        self.assertIn("minor-too-old", self.refusals(two)["c"])
        self.assert_nothing_left_on("c", two)
        self.assertEqual({"gpu.version=1.2", "nic.fw_version=1.2"}, self.needed(two))
        self.upgrade("c", "1.2")
        self.settle()
        self.assert_moved("c", self.live_migrate(two, "c"))


@pytest.mark.threads
class CrossingTest(DeviceCompatFleet):
    """Two devices, each at the address that the other has at the destination."""

    OTHER = {**VF_SPEC, "product_id": "1020"}
    DEVICE_SPEC = [VF_SPEC, OTHER]
    ALIASES = [VF_BY_ID, {**VF_BY_ID, "name": "other", "product_id": "1020"}]
    PCI_IN_PLACEMENT = False

    def start(self, name, kinds, versions):
        self.set_devices(name, nic(versions[0], PF), nic(versions[1], PF_2))
        pfs = [
            base.Pf(address=address, vfs=1, vf_product_id=kind)
            for address, kind in zip((PF, PF_2), kinds, strict=True)
        ]
        self.start_host(name, pfs=pfs)

    def test_a_destination_that_changes_while_others_are_moved(self):
        self.flags(max_concurrent_live_migrations=1)
        self.start("a", ("101e", "1020"), ("1.4", "1.2"))
        self.start("b", ("1020", "101e"), ("1.2", "1.4"))
        self.settle()
        one = self.boot("a")
        two = self.boot("a", {"pci_passthrough:alias": "vf:1,other:1"})
        with self.migrations_held():
            first = self.begin_live_migration(one, "b")
            self.wait_until_copying(one)
            second = self.begin_live_migration(two, "b")
            self.set_devices("b", nic("1.5", PF), nic("1.3", PF_2))
            self.settle()
        self.assert_moved("b", self.end_live_migration(first))
        self.assert_stays("a", self.end_live_migration(second), two)
        self.assertIn("needs 1.4, offered 1.3", self.refusals(two)["b"])
        self.set_devices("b", nic("1.2", PF), nic("1.4", PF_2))
        self.settle()
        self.assert_moved("b", self.live_migrate(two, "b"))
