# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Guests whose devices belong to no family: that they need nothing is recorded."""

import fixtures

from nova_devcompat import wire
from nova_devcompat.compat.need import Need
from nova_devcompat.sources.base import SourceError
from tests.functional import base
from tests.functional.base import VF_BY_CLASS, VF_SPEC
from tests.functional.devcompat import CATALOG, VF, VGPU, DeviceCompatFleet, gpu, nic


class _Fleet(DeviceCompatFleet):
    def forget(self, server):
        """Make a guest one that an older release left without a record."""
        instance = self.instance(server)
        for key in [key for key in instance.system_metadata if wire.is_record_key(key)]:
            del instance.system_metadata[key]
        instance.save()

    def reboot(self, server):
        self.api.post_server_action(server["id"], {"reboot": {"type": "HARD"}})
        self._wait_for_server_parameter(
            server, {"status": "ACTIVE", "OS-EXT-STS:task_state": None}
        )


class NoFamilyTest(_Fleet):
    """VFs that the inventory does not list."""

    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    def setUp(self):
        super().setUp()
        for name in ("a", "b"):
            self.set_devices(name)
            self.start_host(name, pfs=[base.Pf()])
        self.settle()

    def test_recorded_at_the_start_and_kept(self):
        server = self.boot("a", VF)
        self.assertEqual(Need(), self.record_of(server))
        self.reboot(server)
        self.assertEqual(Need(), self.record_of(server))
        self.assert_moved("b", self.live_migrate(server))
        self.assertEqual(Need(), self.record_of(server))

    def test_without_a_record_nothing_is_known(self):
        """Every host is UNKNOWN, and a cycle after the restart it is known again."""
        server = self.boot("a", VF)
        self.forget(server)
        self.assert_stays("a", self.live_migrate(server), server)
        with self.logs.during() as lines:
            self.restart_host("a")
        self.assertTrue(lines.find("1 records completed", level=20))
        self.assertEqual(Need(), self.record_of(server))
        self.assert_moved("b", self.live_migrate(server))

    def test_a_start_mends_it_too(self):
        server = self.boot("a", VF)
        self.forget(server)
        self.reboot(server)
        self.assertEqual(Need(), self.record_of(server))

    def test_a_destination_where_it_is_of_a_family(self):
        """That nothing was needed of no family says nothing of what this one would give."""
        server = self.boot("a", VF)
        self.set_devices("b", nic("1.2"))
        self.settle()
        self.assert_stays("a", self.live_migrate(server), server)

    def test_a_guest_without_devices_has_none(self):
        server = self.boot("a")
        self.restart_host("a")
        self.reboot(server)
        self.assertIsNone(self.record_of(server))
        self.assert_moved("b", self.live_migrate(server))
        self.assertIsNone(self.record_of(server))

    def silent_source(self):
        return fixtures.MockPatch(
            "nova_devcompat.sources.static.StaticSource.read", side_effect=SourceError("busy")
        )

    def test_not_while_a_source_is_silent(self):
        """A device that was not found may be one that could not be read."""
        with self.silent_source():
            server = self.boot("a", VF)
            self.run_periodic("a")
            self.assertIsNone(self.record_of(server))
            self.reboot(server)
            self.assertIsNone(self.record_of(server))
        self.run_periodic("a")
        self.assertEqual(Need(), self.record_of(server))

    def test_a_known_nothing_outlives_a_silent_source(self):
        server = self.boot("a", VF)
        with self.silent_source():
            self.reboot(server)
            self.run_periodic("a")
        self.assertEqual(Need(), self.record_of(server))


class UnmanagedTest(_Fleet):
    """Hosts that run the wrapped driver alone."""

    MDEV_TYPES = {"nvidia-11": ()}

    def setUp(self):
        super().setUp()
        self.start_gpu_hosts(home="1.2", known="1.2")
        self.flags(compute_driver="libvirt.LibvirtDriver")
        self.start_host("unmanaged", gpus=[base.Gpu()])
        self.settle()
        self.server = self.boot("home", VGPU)
        self.forget(self.server)

    def test_a_guest_without_a_record_goes_nowhere(self):
        """There is no reason to prefer hosts of which nothing is known either."""
        self.prefer_hosts("known", "unmanaged")
        moved = self.live_migrate(self.server)
        self.assert_stays("home", moved, self.server)
        self.assertEqual([], moved.tried)

    def test_it_goes_where_unknown_is_accepted(self):
        self.set_families({**CATALOG, "gpu": {**CATALOG["gpu"], "on_unknown": "accept"}})
        self.settle()
        self.prefer_hosts("known", "unmanaged")
        moved = self.live_migrate(self.server)
        # What it is given there is a gpu, so that is all that it can need.
        self.assert_moved("known", moved)


class PortTest(_Fleet):
    """Ports of no family, which come and go."""

    DEVICE_SPEC = [{"vendor_id": "15b3", "product_id": "101e", "physical_network": "physnet4"}]
    ALIASES = ()
    PCI_IN_PLACEMENT = False

    def setUp(self):
        super().setUp()
        self.set_devices("a", gpu("1.2"))
        self.start_host("a", pfs=[base.Pf()])
        self.settle()
        self.neutron.create_port({"port": self.neutron.network_4_port_1})
        self.port = self.neutron.network_4_port_1["id"]
        self.server = self.boot("a")

    def test_attached_and_detached(self):
        self.assertIsNone(self.record_of(self.server))
        self._attach_interface(self.server, self.port)
        self.assertEqual(Need(), self.record_of(self.server))
        self._detach_interface(self.server, self.port)
        self.assertIsNone(self.record_of(self.server))


class OtherDevicesTest(_Fleet):
    """A port beside a device of the flavor of which nothing is recorded."""

    DEVICE_SPEC = [
        {"vendor_id": "15b3", "product_id": "101e", "physical_network": "physnet4"},
    ]
    ALIASES = ()
    PCI_IN_PLACEMENT = False
    MDEV_TYPES = {"nvidia-11": ()}

    def test_nothing_is_recorded_of_what_is_not_known(self):
        self.set_devices("a", gpu("1.2"))
        self.start_host("a", gpus=[base.Gpu()], pfs=[base.Pf()])
        self.settle()
        self.neutron.create_port({"port": self.neutron.network_4_port_1})
        port = self.neutron.network_4_port_1["id"]
        server = self.boot("a", VGPU)
        self.forget(server)
        self._attach_interface(server, port)
        self.assertIsNone(self.record_of(server))
        self._detach_interface(server, port)
        self.assertIsNone(self.record_of(server))
