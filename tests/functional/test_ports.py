# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Ports with a device of their own: Nova plugs another one in where the guest arrives."""

import fixtures
import pytest
from lxml import etree
from nova import exception
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.api import client as api_client
from nova.virt.libvirt import driver as libvirt_driver
from oslo_utils import uuidutils

from nova_devcompat import wire
from nova_devcompat.compat.need import InMigration
from tests.functional import base
from tests.functional.devcompat import PF, PF_2, VGPU, DeviceCompatFleet, gpu, nic

LIBVIRT_DRIVER = f"{libvirt_driver.__name__}.LibvirtDriver"

#: Of which the whole function is for a port.
PF_3 = "0000:84:00.0"

MELLANOX = {"vendor_id": "15b3"}


def port_of(neutron, vnic_type, vif_type="hw_veb"):
    """Make a port; its ID.

    :param neutron: Nova's fixture
    """
    whole = vnic_type == "direct-physical"
    like = neutron.network_4_port_pf if whole else neutron.network_4_port_1
    port = {
        **like,
        "id": uuidutils.generate_uuid(),
        "mac_address": f"52:54:00:00:00:{len(neutron._ports):02x}",
        "binding:vnic_type": vnic_type,
        "binding:vif_type": "hostdev_physical" if whole else vif_type,
    }
    if whole:
        port["network_id"] = neutron.network_1["id"]
    neutron.create_port({"port": port})
    return port["id"]


class _Ports(DeviceCompatFleet):
    DEVICE_SPEC = [
        {**MELLANOX, "product_id": "101e", "physical_network": "physnet4"},
        {**MELLANOX, "product_id": "1017", "physical_network": "foo"},
    ]
    ALIASES = ()
    PCI_IN_PLACEMENT = False

    def port(self, vnic_type, vif_type="hw_veb"):
        """Make a port; its ID."""
        return port_of(self.neutron, vnic_type, vif_type)

    def describe_interfaces(self):
        """Have fake domains say where interfaces are for the guest, as real ones do."""
        describe = fakelibvirt.Domain.XMLDesc

        def xml_desc(domain, flags):
            root = etree.fromstring(describe(domain, flags))
            for slot, interface in enumerate(root.findall("devices/interface"), 4):
                if interface.find("address") is None:
                    etree.SubElement(interface, "address", type="pci", slot=f"{slot:#04x}")
            return etree.tostring(root).decode()

        self.useFixture(
            fixtures.MonkeyPatch("nova.tests.fixtures.libvirt.Domain.XMLDesc", xml_desc)
        )

    def nics(self, server):
        """By what a live migration does with them, the versions that are recorded of ports."""
        found = {}
        for one in self.record_of(server).devices:
            if one.family == "nic":
                (version,) = (",".join(values) for _, values in one.values)
                found.setdefault(one.in_migration, []).append(version)
        return found

    def assert_addresses(self, host, server):
        """The record names the very devices that Nova has given the guest."""
        recorded = [one.address for one in self.record_of(server).devices if one.request_id]
        self.assertEqual(self.pci_devices_of(host, server), sorted(recorded))


class EveryKindTest(_Ports):
    """A guest with a device of its flavor and a port of every kind."""

    MDEV_TYPES = {"nvidia-11": ()}

    def setUp(self):
        super().setUp()
        for name in ("a", "b"):
            self.upgrade(name, "1.4" if name == "a" else "1.2", settle=False)
            self.start_host(
                name,
                gpus=[base.Gpu()],
                pfs=[
                    base.Pf(vfs=4),
                    base.Pf(address=PF_2, vfs=2, vdpa=True),
                    base.Pf(address=PF_3, vfs=1, product_id="1017", vf_product_id="1018"),
                ],
            )
        self.settle()

    def upgrade(self, host, version, settle=True):
        self.set_devices(
            host, gpu("1.2"), *(nic(version, address) for address in (PF, PF_2, PF_3))
        )
        if settle:
            self.settle()

    @pytest.mark.threads
    def test_nothing_is_required_of_them(self):
        networks = [
            {"port": self.port("direct")},
            {"port": self.port("macvtap")},
            {"port": self.port("vdpa", "ovs")},
        ]
        self.describe_interfaces()
        server = self.boot("a", VGPU, networks=networks)
        replugged, hidden = InMigration.REPLUGGED, InMigration.HIDDEN
        self.assertEqual({replugged: ["1.4"] * 2, hidden: ["1.4"]}, self.nics(server))
        self.assert_addresses("a", server)
        # As real libvirt says of a guest whose ports' devices were detached.
        self.useFixture(
            fixtures.MockPatch("nova.virt.libvirt.guest.Guest.get_interfaces", return_value=[])
        )
        with self.logs.during() as lines:
            moved = self.live_migrate(server)
        self.assert_moved("b", moved)
        self.assertEqual(["b"], moved.tried)
        self.assertTrue(lines.find("Detaching vif"))
        self.assertTrue(lines.find("Attaching vif"))
        # Frozen on arrival, told once.
        self.assertEqual({replugged: ["1.2"] * 2, hidden: ["1.2"]}, self.nics(server))
        self.assertIn("gpu.version=1.2", self.needed(server))
        self.assert_addresses("b", server)
        self.assertEqual(1, len(lines.find("Need recorded")))
        # One that fails attaches them again, at the version of now.
        self.upgrade("b", "1.3")
        self.migrations_break = True
        with self.logs.during() as lines:
            moved = self.live_migrate(server)
        self.assertEqual(("failed", "b"), (moved.status, moved.host))
        self.assertEqual({replugged: ["1.3"] * 2, hidden: ["1.2"]}, self.nics(server))
        self.assert_addresses("b", server)
        self.assertFalse([line for line in lines.find("Need recorded") if "nic" not in line.text])
        self.assert_nothing_left_on("a", server)

    def test_a_whole_function(self):
        # Nova's fake libvirt detaches none of a guest that has a mediated device.
        server = self.boot("a", networks=[{"port": self.port("direct-physical")}])
        self.assertEqual({InMigration.REPLUGGED: ["1.4"]}, self.nics(server))
        self.assert_moved("b", self.live_migrate(server))
        self.assertEqual({InMigration.REPLUGGED: ["1.2"]}, self.nics(server))
        self.assert_addresses("b", server)

    def test_what_the_flavor_asked_for_is_required(self):
        """Beside a port that fits nowhere, the vGPU decides."""
        server = self.boot("b", VGPU, networks=[{"port": self.port("direct")}])
        self.set_devices("a", gpu("1.1"), nic("2.0"))
        self.settle()
        moved = self.live_migrate(server)
        self.assert_stays("b", moved, server)
        self.set_devices("a", gpu("1.3"), nic("2.0"))
        self.settle()
        self.assert_moved("a", self.live_migrate(server))
        self.assertEqual({"gpu.version=1.2", "nic.fw_version=2.0"}, self.needed(server))


class PortTest(_Ports):
    """Ports that come and go while the guest runs."""

    def setUp(self):
        super().setUp()
        self.start_nic_hosts(a="1.4", b="1.2")
        self.direct = self.port("direct")
        self.server = self.boot("a")

    def test_attach_and_detach(self):
        self.assertIsNone(self.record_of(self.server))
        self._attach_interface(self.server, self.direct)
        self.assertEqual({"nic.fw_version=1.4"}, self.needed(self.server))
        self.assert_addresses("a", self.server)
        self.set_devices("a", nic("1.6"))
        self.settle()
        self.assertEqual({"nic.fw_version=1.4"}, self.needed(self.server))
        self.assert_moved("b", self.live_migrate(self.server))
        self.assertEqual({InMigration.REPLUGGED: ["1.2"]}, self.nics(self.server))
        self.assert_addresses("b", self.server)
        # A guest with a port alone and without a record needs nothing either.
        instance = self.instance(self.server)
        for key in filter(wire.is_record_key, list(instance.system_metadata)):
            del instance.system_metadata[key]
        instance.save()
        self.assert_moved("a", self.live_migrate(self.server))
        self._detach_interface(self.server, self.direct)
        self.assertIsNone(self.record_of(self.server))

    def test_suspended(self):
        """libvirt's driver detaches the devices, which stay the guest's."""
        self._attach_interface(self.server, self.direct)

        def suspend(driver, context, instance):
            # As LibvirtDriver._detach_direct_passthrough_ports does it.
            for vif in instance.get_network_info():
                driver.detach_interface(context, instance, vif)

        self.useFixture(fixtures.MonkeyPatch(f"{LIBVIRT_DRIVER}.suspend", suspend))
        self.useFixture(fixtures.MockPatch(f"{LIBVIRT_DRIVER}.resume"))
        self.set_devices("a", nic("1.6"))
        self.act({"suspend": None}, "SUSPENDED")
        self.assertEqual({"nic.fw_version=1.4"}, self.needed(self.server))
        self.act({"resume": None}, "ACTIVE")
        self.assertEqual({"nic.fw_version=1.6"}, self.needed(self.server))

    def act(self, action, status):
        self.api.post_server_action(self.server["id"], action)
        self._wait_for_server_parameter(
            self.server, {"status": status, "OS-EXT-STS:task_state": None}
        )

    def test_what_fails(self):
        broken = fixtures.MockPatch(
            f"{LIBVIRT_DRIVER}.attach_interface",
            side_effect=exception.InterfaceAttachFailed(instance_uuid=self.server["id"]),
        )
        with broken:
            self.assertRaises(
                api_client.OpenStackApiException,
                self._attach_interface,
                self.server,
                self.direct,
            )
        self.assertIsNone(self.record_of(self.server))
        direct = self.port("direct")
        self._attach_interface(self.server, direct)
        broken = fixtures.MockPatch(
            f"{LIBVIRT_DRIVER}.detach_interface",
            side_effect=exception.DeviceDetachFailed(device="eth0", reason="busy"),
        )
        with broken, self.casts_that_fail():
            self.api.detach_interface(self.server["id"], direct)
        self.assertEqual({"nic.fw_version=1.4"}, self.needed(self.server))
