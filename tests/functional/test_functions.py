# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Functions that are devices of their own: vGPUs without mdevs, and drivers that cannot migrate.

Hosts read recorded trees of sysfs; a guest has one function.
"""

import pathlib
from unittest import mock

import fixtures

from nova_devcompat import wire
from nova_devcompat.host.inventory import HostReader
from nova_devcompat.sources import load_source
from nova_devcompat.sources.sysfs import SysfsSource
from tests.functional import base
from tests.functional.base import VF_BY_CLASS, VF_BY_ID, VF_SPEC
from tests.functional.devcompat import VF, DeviceCompatFleet
from tests.functional.worlds import PerHost
from tests.unit.sources import sysfs_trees

PF = "0000:82:00.0"
GPU_IDS = {"vendor_id": "10de", "product_id": "2bb5"}

# The physical function has the same identifiers, and is none of them.
FUNCTIONS = [
    {"domain": "0000", "bus": "82", "slot": "00", "function": "[1-7]"},
    {"domain": "0000", "bus": "82", "slot": "0[1-9a-f]|1.", "function": "[0-7]"},
    {"domain": "0000", "bus": "83", "slot": "..", "function": "[0-7]"},
]
VGPU_SPEC = [
    {"address": address, "managed": "no", "live_migratable": "yes"} for address in FUNCTIONS
]

VGPU = {
    "vgpu": {
        "match": {**GPU_IDS, "driver": "nvidia"},
        "source": "sysfs",
        "attributes": {"vgpu_type": {"source": "sysfs", "of": "function"}},
        "rules": {"driver_version": "equal", "vgpu_type": "equal"},
    }
}
NIC = {
    "mlx5_vf": {
        "match": {"vendor_id": "15b3", "product_id": "101e"},
        "source": "sysfs",
        "rules": {"revision": "equal"},
    }
}


class FunctionsTest(DeviceCompatFleet):
    """Hosts whose sysfs is a tree of the test's."""

    def configure(self):
        super().configure()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.trees: dict[str, sysfs_trees.Tree] = {}
        patched = mock.patch.dict(HostReader.__init__.__kwdefaults__, {"load": self.load})
        patched.start()
        self.addCleanup(patched.stop)

    def load(self, name, options):
        if name == "sysfs":
            return PerHost(name, options, self.make_sysfs)
        return load_source(name, options)

    def make_sysfs(self, host, options):
        return SysfsSource(options, root=self.trees[host].root)

    def start_gpu_host(self, name, *types):
        """Start a host with a GPU that has a function of each of these types."""
        tree = self.trees[name] = sysfs_trees.Tree(self.folder / name)
        sysfs_trees.rtx(tree, len(types), types, PF, offset=1)
        pf = base.Pf(vfs=len(types), **GPU_IDS, vf_product_id=GPU_IDS["product_id"])
        self.start_host(name, pfs=[pf])

    def retype(self, host, kind, but=(), *, tell=True):
        """Make all functions of a host's GPU another type, but for those at some addresses.

        :param tell: whether the host has published it
        """
        tree = self.trees[host]
        for link in (tree.root / tree.folder(PF)).glob("virtfn*"):
            if link.resolve().name not in but:
                (link / "nvidia/current_vgpu_type").write_text(f"{kind}\n")
        if tell:
            self.run_periodic(host)

    def document_of(self, host):
        node = self.computes[host].manager.rt.compute_nodes[host]
        text = node.stats[wire.STATS_KEY]
        return text, wire.load_stats(text)

    def address_of(self, server):
        (pci,) = self.instance(server).pci_devices
        return pci.address


class VgpuTest(FunctionsTest):
    """vGPU types of functions, with PCI devices in placement."""

    DEVICE_SPEC = [{**spec, "resource_class": "CUSTOM_VF"} for spec in VGPU_SPEC]
    ALIASES = [VF_BY_CLASS]
    FAMILIES = VGPU

    def test_a_guest_goes_to_functions_of_its_type(self):
        self.start_gpu_host("many", *["1561"] * 48)
        self.start_gpu_host("one", "1561")
        self.start_gpu_host("none", *["0"] * 2)
        self.start_gpu_host("other", *["1562"] * 2)
        self.settle()

        self.assertIn("VGPU__VGPU_TYPE__1561", self.our_traits("many"))
        self.assertIn("VGPU__VGPU_TYPE__NONE", self.our_traits("none"))
        self.assertNotIn("VGPU__VGPU_TYPE__1561", self.our_traits("none"))
        text, document = self.document_of("many")
        self.assertLess(len(text), 2048)
        (device,) = document.devices
        self.assertEqual((PF, ("0000:82:00.1-0000:82:06.0",)), (device.address, device.functions))
        self.assertEqual(1, len(device.providers))
        self.assertTrue(document.whole and document.shape)

        server = self.boot("many", VF)
        self.assertIn("vgpu.vgpu_type=1561", self.needed(server))
        (need,) = self.record_of(server).devices
        self.assertEqual(self.address_of(server), need.address)
        # None of the others is even asked.
        moved = self.live_migrate(server)
        self.assert_moved("one", moved)
        self.assertEqual(["one"], moved.tried)
        (need,) = self.record_of(server).devices
        self.assertEqual(("0000:82:00.1", "0000:82:00.1"), (need.address, self.address_of(server)))
        self.assert_moved("many", self.live_migrate(server))

        # The one function is made another type, then none at all, while nothing uses it.
        for kind in ("1562", "0"):
            self.retype("one", kind)
            self.assertNotIn("VGPU__VGPU_TYPE__1561", self.our_traits("one"))
            self.assert_stays("many", self.live_migrate(server), server)
        # What the destination has not told yet, it looks at itself.
        self.retype("one", "1561")
        self.retype("one", "0", tell=False)
        moved = self.live_migrate(server)
        self.assert_stays("many", moved, server)
        self.assertEqual(["one"], moved.tried)
        self.assertRegex(self.refusals(server)["one"], "needs 1561, offered none")
        self.retype("one", "1561")
        self.assert_moved("one", self.live_migrate(server))

        # Of functions that are not alike, Nova claims any; the destination looks at that.
        self.retype("many", "1562", but=["0000:82:03.3"])
        text, document = self.document_of("many")
        self.assertEqual(
            [
                ("0000:82:00.1-0000:82:03.2", "0000:82:03.4-0000:82:06.0"),
                ("0000:82:03.3",),
            ],
            sorted(device.functions for device in document.devices),
        )
        self.assertLess(len(text), 2048)
        self.assertIn("VGPU__VGPU_TYPE__1561", self.our_traits("many"))
        moved = self.live_migrate(server)
        if moved.host == "many":
            self.assertEqual("0000:82:03.3", self.address_of(server))
        else:
            self.assert_stays("one", moved, server)
            self.assertRegex(self.refusals(server)["many"], "needs 1561, offered 1562")

    def test_as_many_functions_as_a_device_can_have(self):
        self.start_gpu_host("a", *["1561"] * 256)
        self.start_gpu_host("b", *["1561"] * 256)
        self.settle()
        for host in ("a", "b"):
            text, document = self.document_of(host)
            self.assertLess(len(text), 2048)
            self.assertTrue(document.whole)
        server = self.boot("a", VF)
        self.assert_moved("b", self.live_migrate(server))
        (need,) = self.record_of(server).devices
        self.assertEqual(self.address_of(server), need.address)


class UntrackedVgpuTest(FunctionsTest):
    """The same where placement does not know the functions."""

    DEVICE_SPEC = VGPU_SPEC
    ALIASES = [{**VF_BY_ID, **GPU_IDS}]
    PCI_IN_PLACEMENT = False
    FAMILIES = VGPU

    def test_a_guest_goes_to_functions_of_its_type(self):
        self.start_gpu_host("a", *["1561"] * 48)
        self.start_gpu_host("b", *["1561"] * 2)
        self.start_gpu_host("c", *["0"] * 48)
        self.settle()
        server = self.boot("a", VF)
        self.assertIn("vgpu.vgpu_type=1561", self.needed(server))
        moved = self.live_migrate(server)
        self.assert_moved("b", moved)
        self.assertEqual(["b"], moved.tried)
        self.retype("a", "1562")
        self.assert_stays("b", self.live_migrate(server), server)
        moved = self.live_migrate(server, "c", force=True)
        self.assert_stays("b", moved, server)
        self.assertRegex(self.refusals(server)["c"], "needs 1561, offered none")


class DriverTest(FunctionsTest):
    """Functions that are bound to a driver which cannot migrate; their family does not ask."""

    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]
    FAMILIES = NIC

    def start_nic_host(self, name, driver):
        tree = self.trees[name] = sysfs_trees.Tree(self.folder / name)
        tree.driver("mlx5_vfio_pci")
        tree.driver("vfio-pci")
        tree.pci(PF, driver="mlx5_core", totalvfs=8)
        tree.functions(PF, 3, driver=driver, offset=1)
        self.start_host(name, pfs=[base.Pf(vfs=3)])

    def test_a_function_on_plain_vfio_pci(self):
        self.start_nic_host("a", "mlx5_vfio_pci")
        self.start_nic_host("b", "mlx5_vfio_pci")
        self.start_nic_host("plain", "vfio-pci")
        self.settle()
        server = self.boot("a", VF)
        moved = self.live_migrate(server)
        self.assert_moved("b", moved)
        self.assertEqual(["b"], moved.tried)
        self.assert_moved("a", self.live_migrate(server))

        # Another guest has the one function of b that is bound to the variant driver.
        other = self.boot("b", VF)
        taken = self.address_of(other)
        for number in (1, 2, 3):
            address = f"0000:82:00.{number}"
            if address != taken:
                self.trees["b"].bind(address, "vfio-pci")
        self.run_periodic("b")
        moved = self.live_migrate(server)
        self.assert_stays("a", moved, server)
        self.assertEqual(["b"], moved.tried)
        self.assertRegex(
            self.refusals(server)["b"], "vf_driver_migrates: needs met, offered 0, floor 1"
        )
        # Nor can the guest of such a function go where all is well.
        stuck = self.boot("b", VF)
        self.assertIn("mlx5_vf.vf_driver_migrates=unmet", self.needed(stuck))
        self.assert_stays("b", self.live_migrate(stuck, "a"), stuck)
