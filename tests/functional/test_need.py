# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The life of a need, row by row of the table in the documentation ("What a guest needs").

Each test has a guest with a vGPU and a VF on host a, which is upgraded under it from version 1.2
to 1.4; host b has 1.2 and host c has 1.4. Where the guest may go next shows what it needs.
"""

import fixtures
import pytest
from nova import exception
from nova.virt.libvirt import driver as libvirt_driver

from nova_devcompat import wire
from nova_devcompat.stores.placement import PlacementError
from tests.functional import base
from tests.functional.base import VF_BY_CLASS, VF_SPEC
from tests.functional.devcompat import (
    GPU_2,
    VF,
    VGPU,
    DeviceCompatFleet,
    gpu,
    nic,
)

LIBVIRT_DRIVER = f"{libvirt_driver.__name__}.LibvirtDriver"


def both(version):
    """The atoms of a guest whose devices were both initialised at a version."""
    return {f"gpu.version={version}", f"nic.fw_version={version}"}


class LifeTest(DeviceCompatFleet):
    """What the rows have in common."""

    MDEV_TYPES = {"nvidia-11": ()}
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    BEFORE = both("1.2")
    AFTER = both("1.4")

    def setUp(self):
        super().setUp()
        self.start_hosts(a="1.2", b="1.2", c="1.4")
        self.server = self.boot("a", {**VGPU, **VF})
        self.assert_record(self.BEFORE, "a")
        # The roll-out reaches the host; the guest runs on as it was started.
        self.upgrade("a", "1.4")
        self.assert_record(self.BEFORE, "a")

    def start_hosts(self, **versions):
        for name, version in versions.items():
            self.set_devices(name, gpu(version), nic(version))
            self.start_host(name, gpus=[base.Gpu()], pfs=[base.Pf()])
        self.settle()

    def upgrade(self, host, version):
        self.set_devices(host, gpu(version), nic(version))
        self.settle()

    def act(self, action, *, status="ACTIVE"):
        self.api.post_server_action(self.server["id"], action)
        self._wait_for_server_parameter(
            self.server, {"status": status, "OS-EXT-STS:task_state": None}
        )

    def assert_record(self, atoms, host):
        """The record says so of the very devices that the guest has on this host."""
        self.assertEqual(atoms, self.needed(self.server))
        recorded = self.record_of(self.server).devices
        self.assertEqual(2, len(recorded))
        self.assertEqual(
            self.pci_devices_of(host, self.server),
            [device.address for device in recorded if device.request_id],
        )
        self.assertEqual(frozenset(), frozenset().union(*(one.assumed for one in recorded)))

    def assert_goes_where_kept(self):
        """The need is the old one: b, which is as old, will do."""
        self.assert_next("b")

    def assert_goes_where_frozen_anew(self):
        """The need is the new one: b will not even be tried."""
        self.assert_next("c")

    def assert_next(self, host):
        needed = self.needed(self.server)
        self.prefer_hosts("b", "c", "a")
        moved = self.live_migrate(self.server)
        self.assert_moved(host, moved)
        self.assertEqual([host], moved.tried)
        # A live migration keeps it.
        self.assert_record(needed, host)

    def without_libvirt(self, *methods):
        """Nova's fake libvirt keeps no domain XML that these could read; the rest is real."""
        for method in methods:
            self.useFixture(fixtures.MockPatch(f"nova.virt.libvirt.driver.LibvirtDriver.{method}"))


class RestartTest(LifeTest):
    """Rows that stay on their host."""

    def test_create(self):
        self.assert_goes_where_kept()

    @pytest.mark.quick
    def test_hard_reboot(self):
        self.act({"reboot": {"type": "HARD"}})
        self.assert_record(self.AFTER, "a")
        self.assert_goes_where_frozen_anew()

    def test_soft_reboot(self):
        """libvirt's driver shuts the domain down and creates it again."""
        self.act({"reboot": {"type": "SOFT"}})
        self.assert_record(self.AFTER, "a")
        self.assert_goes_where_frozen_anew()

    def test_stop_and_start(self):
        self.act({"os-stop": None}, status="SHUTOFF")
        self.assert_record(self.BEFORE, "a")
        self.act({"os-start": None})
        self.assert_record(self.AFTER, "a")
        self.assert_goes_where_frozen_anew()

    def test_pause_and_unpause(self):
        self.act({"pause": None}, status="PAUSED")
        self.act({"unpause": None})
        self.assert_record(self.BEFORE, "a")
        self.assert_goes_where_kept()

    def test_suspend_and_resume(self):
        """Suspend detaches the devices and resume attaches them again."""
        self.without_libvirt("suspend", "resume")
        self.act({"suspend": None}, status="SUSPENDED")
        self.assert_record(self.BEFORE, "a")
        self.act({"resume": None})
        self.assert_record(self.AFTER, "a")
        self.assert_goes_where_frozen_anew()

    def test_rebuild(self):
        self.act({"rebuild": {"imageRef": base.IMAGE}})
        self.assert_record(self.AFTER, "a")
        self.assert_goes_where_frozen_anew()

    def test_rescue_and_unrescue(self):
        self.without_libvirt("rescue", "unrescue")
        self.act({"rescue": {}}, status="RESCUE")
        self.assert_record(self.AFTER, "a")
        self.upgrade("a", "1.3")
        self.act({"unrescue": None})
        self.assert_record(both("1.3"), "a")

    def test_a_start_that_fails(self):
        self.act({"os-stop": None}, status="SHUTOFF")
        broken = fixtures.MockPatch(
            "nova.virt.libvirt.driver.LibvirtDriver.power_on", side_effect=RuntimeError("no")
        )
        with broken, self.casts_that_fail():
            self.api.post_server_action(self.server["id"], {"os-start": None})
        self._wait_for_server_parameter(self.server, {"OS-EXT-STS:task_state": None})
        self.assert_record(self.BEFORE, "a")

    def test_placement_that_does_not_answer_a_reboot(self):
        """A restart takes no device away: those in the record are frozen anew."""
        client = "nova.scheduler.client.report.SchedulerReportClient"
        failing = fixtures.MockPatch(
            f"{client}.get_allocs_for_consumer",
            side_effect=exception.ConsumerAllocationRetrievalFailed(
                consumer_uuid=self.server["id"], error="503"
            ),
        )
        with failing:
            self.act({"reboot": {"type": "HARD"}})
        self.assert_record(self.AFTER, "a")

    def test_cold_snapshot(self):
        """It suspends the guest on the way, and attaches its devices again."""

        def snapshot(driver, context, instance, image_id, update_task_state):
            # As LibvirtDriver.snapshot with [workarounds] disable_libvirt_livesnapshot.
            driver.suspend(context, instance)
            update_task_state("image_pending_upload")
            update_task_state("image_uploading", expected_state="image_pending_upload")

        self.without_libvirt("suspend")
        self.useFixture(fixtures.MonkeyPatch(f"{LIBVIRT_DRIVER}.snapshot", snapshot))
        self.act({"createImage": {"name": "cold"}})
        self.assert_record(self.AFTER, "a")
        self.assert_goes_where_frozen_anew()

    def test_live_snapshot(self):
        def snapshot(driver, context, instance, image_id, update_task_state):
            update_task_state("image_pending_upload")
            update_task_state("image_uploading", expected_state="image_pending_upload")

        self.useFixture(fixtures.MonkeyPatch(f"{LIBVIRT_DRIVER}.snapshot", snapshot))
        self.act({"createImage": {"name": "live"}})
        self.assert_record(self.BEFORE, "a")

    def test_delete(self):
        self._delete_server(self.server)
        self.assertRaises(exception.InstanceNotFound, self.instance, self.server)
        for host in ("a", "b", "c"):
            self.assert_nothing_left_on(host, self.server)

    def test_host_boot(self):
        """Guests that the host's own restart ended, started by nova-compute's."""
        self.flags(resume_guests_state_on_host_boot=True)
        for domain in list(self.connection("a")._running_vms.values()):
            domain.destroy()
        self.restart_host("a")
        self.assert_record(self.AFTER, "a")

    def test_nova_compute_restart(self):
        self.flags(resume_guests_state_on_host_boot=True)
        self.restart_host("a")
        self.settle()
        self.assert_record(self.BEFORE, "a")
        self.assert_goes_where_kept()


class MoveTest(LifeTest):
    """Rows that leave their host."""

    def test_cold_migrate_and_confirm(self):
        self.upgrade("b", "1.0")
        self.act({"migrate": {"host": "b"}}, status="VERIFY_RESIZE")
        self.assert_record(both("1.0"), "b")
        self.act({"confirmResize": None})
        self.assert_record(both("1.0"), "b")
        # What it needs now is what it was started with there, so newer hosts will do again.
        self.assert_next("c")

    def test_cold_migrate_and_revert(self):
        self.act({"migrate": {"host": "b"}}, status="VERIFY_RESIZE")
        self.assert_record(both("1.2"), "b")
        self.act({"revertResize": None})
        self.assertEqual("a", self.host_of(self.server))
        self.assert_record(self.AFTER, "a")
        self.assert_goes_where_frozen_anew()

    def test_resize_and_confirm(self):
        self.prefer_hosts("c")
        flavor = self.make_flavor({**VGPU, **VF})
        self.act({"resize": {"flavorRef": flavor}}, status="VERIFY_RESIZE")
        self.assert_record(both("1.4"), "c")
        self.act({"confirmResize": None})
        self.assert_record(both("1.4"), "c")
        self.assert_next("a")

    def test_resize_to_fewer_devices_and_revert(self):
        self.prefer_hosts("c")
        flavor = self.make_flavor(VGPU)
        self.act({"resize": {"flavorRef": flavor}}, status="VERIFY_RESIZE")
        self.assertEqual({"gpu.version=1.4"}, self.needed(self.server))
        self.act({"revertResize": None})
        self.assert_record(self.AFTER, "a")

    def test_resize_to_no_devices(self):
        self.prefer_hosts("c")
        self.act({"resize": {"flavorRef": self.make_flavor()}}, status="VERIFY_RESIZE")
        self.act({"confirmResize": None})
        self.assertIsNone(self.record_of(self.server))

    def test_a_resize_that_fails_at_the_destination(self):
        broken = fixtures.MockPatch(
            f"{LIBVIRT_DRIVER}.finish_migration", side_effect=RuntimeError("no")
        )
        with broken, self.casts_that_fail():
            self.api.post_server_action(self.server["id"], {"migrate": {"host": "c"}})
        self._wait_for_state_change(self.server, "ERROR")
        # Its devices were never initialised there.
        self.assertEqual(self.BEFORE, self.needed(self.server))
        self.act({"reboot": {"type": "HARD"}})
        self.assertEqual(both("1.4"), self.needed(self.server))

    def test_evacuate(self):
        # Nova 34 cannot evacuate a guest with a vGPU: LibvirtDriver._allocate_mdevs is given the
        # allocations of both hosts and stumbles over the source's.
        server = self.boot("b", VF)
        self.prefer_hosts("c")
        self.api.put_service(self.computes["b"].service_ref.uuid, {"forced_down": True})
        self.computes["b"].stop()
        self._evacuate_server(server, expected_host="c", expected_state="SHUTOFF")
        self.assertEqual({"nic.fw_version=1.4"}, self.needed(server))
        (device,) = self.record_of(server).devices
        self.assertEqual(self.pci_devices_of("c", server), [device.address])

    def test_shelve_offloaded_and_unshelve(self):
        self.without_libvirt("snapshot")
        self.flags(shelved_offload_time=0)
        self.act({"shelve": None}, status="SHELVED_OFFLOADED")
        # It has no devices now; the record tells of the last ones.
        self.assertEqual(self.BEFORE, self.needed(self.server))
        self.prefer_hosts("c")
        self.act({"unshelve": None})
        self.assert_record(both("1.4"), "c")
        self.assert_next("a")

    def test_shelve_and_unshelve_on_its_host(self):
        self.without_libvirt("snapshot")
        self.flags(shelved_offload_time=-1)
        self.act({"shelve": None}, status="SHELVED")
        self.assert_record(self.BEFORE, "a")
        self.act({"unshelve": None})
        self.assert_record(self.AFTER, "a")

    def test_live_migration(self):
        before = self.record_of(self.server)
        self.assert_moved("c", self.live_migrate(self.server, "c"))
        self.assert_record(self.BEFORE, "c")
        # Never raised to the new host's version, so that it can go back.
        self.assert_moved("b", self.live_migrate(self.server, "b"))
        self.assert_moved("a", self.live_migrate(self.server, "a"))
        self.assertEqual(
            [one.slot for one in before.devices],
            [one.slot for one in self.record_of(self.server).devices],
        )

    def test_a_live_migration_that_breaks(self):
        before = self.instance(self.server).system_metadata
        self.migrations_break = True
        moved = self.live_migrate(self.server, "c")
        self.assertEqual(("failed", "a"), (moved.status, moved.host))
        self.assertEqual(before, self.instance(self.server).system_metadata)
        self.assert_nothing_left_on("c", self.server)
        self.migrations_break = False
        self.assert_goes_where_kept()

    def test_a_live_migration_that_is_aborted(self):
        before = self.instance(self.server).system_metadata
        with self.migrations_held():
            begun = self.begin_live_migration(self.server, "c")
            migration = self.wait_until_copying(self.server)
            self.api.api_delete(f"/servers/{self.server['id']}/migrations/{migration.id}")
        self.assertEqual("cancelled", self.end_live_migration(begun).status)
        self.assertEqual(before, self.instance(self.server).system_metadata)
        self.assert_nothing_left_on("c", self.server)
        self.assert_goes_where_kept()

    def test_what_fails_after_the_guest_has_arrived(self):
        """The record follows the guest, whose devices are those of the destination."""
        broken = fixtures.MockPatch(
            f"{LIBVIRT_DRIVER}.post_live_migration_at_destination", side_effect=RuntimeError("no")
        )
        with broken:
            self.live_migrate(self.server, "c")
        self.assertEqual("c", self.host_of(self.server))
        self.assert_record(self.BEFORE, "c")


class RevertTest(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}

    def test_placement_that_does_not_answer_a_revert(self):
        """The device at the address of before is another one, on another host."""
        self.set_devices("a", gpu("1.2"), gpu("1.4", GPU_2))
        self.start_host("a", gpus=[base.Gpu(address=GPU_2)])
        self.set_devices("b", gpu("1.2"))
        self.start_host("b", gpus=[base.Gpu()])
        self.settle()
        server = self.boot("a", VGPU)
        self.assertEqual({"gpu.version=1.4"}, self.needed(server))
        self.act(server, {"migrate": {"host": "b"}}, status="VERIFY_RESIZE")
        self.assertEqual({"gpu.version=1.2"}, self.needed(server))
        with fixtures.MockPatch(
            "nova_devcompat.compute.host.ThisHost.allocations_of",
            side_effect=PlacementError("503"),
        ):
            self.act(server, {"revertResize": None})
        (need,) = self.record_of(server).devices
        self.assertEqual((("version", None),), need.values)
        self.run_periodic("a")
        (need,) = self.record_of(server).devices
        self.assertEqual({"gpu.version=1.4"}, self.needed(server))
        self.assertEqual((GPU_2, {"version"}), (need.address, need.assumed))

    def act(self, server, action, *, status="ACTIVE"):
        self.api.post_server_action(server["id"], action)
        self._wait_for_server_parameter(server, {"status": status, "OS-EXT-STS:task_state": None})


class WriteTest(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}

    def test_nothing_is_written_twice(self):
        """The same need is frozen again and again, and written once for each start."""
        self.start_gpu_hosts(a="1.2")
        server = self.boot("a", VGPU)
        before = wire.load_whole_record(self.instance(server).system_metadata)
        with self.logs.during() as lines:
            for _ in range(2):
                self.api.post_server_action(server["id"], {"reboot": {"type": "HARD"}})
                self._wait_for_server_parameter(
                    server, {"status": "ACTIVE", "OS-EXT-STS:task_state": None}
                )
            rows = self.rows_of(server)
            self.restart_host("a")
            self.settle()
        self.assertFalse(lines.find("Need recorded"))
        self.assertEqual(rows, self.rows_of(server))
        after = wire.load_whole_record(self.instance(server).system_metadata)
        self.assertEqual(before.need, after.need)
        self.assertFalse(before.incarnation.is_of(after.incarnation))

    def rows_of(self, server):
        """The rows that hold the record: their ids, and when they were written last."""
        from nova.db.main import api as db
        from nova.db.main import models

        @db.pick_context_manager_reader
        def read(context):
            found = context.session.query(models.InstanceSystemMetadata).filter_by(
                instance_uuid=server["id"]
            )
            return {
                (row.id, row.key, row.value, row.updated_at)
                for row in found
                if wire.is_record_key(row.key)
            }

        return read(self.context)
