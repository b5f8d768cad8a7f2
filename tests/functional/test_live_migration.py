# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The main job: guests are live migrated only to devices that accept what they need."""

import logging

import pytest

from nova_devcompat.compat import traits
from tests import budget
from tests.functional import base
from tests.functional.base import VF_BY_CLASS, VF_BY_ID, VF_SPEC
from tests.functional.devcompat import (
    GPU,
    GPU_2,
    GPU_2_PROVIDER,
    GPU_PROVIDER,
    PF,
    PF_2,
    PF_2_PROVIDER,
    PF_PROVIDER,
    VF,
    VGPU,
    DeviceCompatFleet,
    gpu,
    nic,
)


class ThereAndBack:
    """Hosts at 1.0, 1.2 and 1.4; the guest is started on 1.2."""

    EXTRA_SPECS = VGPU
    NEED = "gpu.version=1.2"
    #: of the way to the newer host and back
    REPETITIONS = budget.scaled(2)

    def start_hosts(self, **versions):
        self.start_gpu_hosts(**versions)

    @pytest.mark.slow
    def test_newer_and_back_but_never_older(self):
        self.start_hosts(old="1.0", mid="1.2", new="1.4")
        server = self.boot("mid", self.EXTRA_SPECS)
        self.assertEqual({self.NEED}, self.needed(server))
        self.shuffle_hosts(20)

        for _ in range(self.REPETITIONS):
            for expected in ("new", "mid"):
                with self.placement_log.during() as calls:
                    moved = self.live_migrate(server)
                self.assert_moved(expected, moved)
                # No destination that rejects is ever tried.
                self.assertEqual([expected], moved.tried)
                self.assert_placement_left_out("old", calls)

        self.assertEqual({self.NEED}, self.needed(server))
        self.assert_nothing_left_on("old", server)
        self.assert_nothing_left_on("new", server)

    def assert_placement_left_out(self, host, calls):
        (asked,) = calls.candidates
        self.assertEqual(200, asked.status)
        self.assertIn(traits.encode(self.atom()), asked.required)
        self.assertEqual({"mid", "new"}, self.offered_hosts(asked))
        self.assertNotIn(host, {name.split("_")[0] for name in self.offered_providers(asked)})

    def atom(self):
        subject, value = self.NEED.split("=")
        return traits.Atom(*subject.split("."), value)


@pytest.mark.threads
class VGPUThereAndBackTest(ThereAndBack, DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}


class VFInPlacementThereAndBackTest(ThereAndBack, DeviceCompatFleet):
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]
    EXTRA_SPECS = VF
    NEED = "nic.fw_version=1.2"

    def start_hosts(self, **versions):
        self.start_nic_hosts(**versions)


class VFThereAndBackTest(ThereAndBack, DeviceCompatFleet):
    """PCI devices that are not in placement."""

    DEVICE_SPEC = [VF_SPEC]
    ALIASES = [VF_BY_ID]
    PCI_IN_PLACEMENT = False
    EXTRA_SPECS = VF
    NEED = "nic.fw_version=1.2"

    def start_hosts(self, **versions):
        self.start_nic_hosts(**versions)


class UnlikeGPUsTest(DeviceCompatFleet):
    """A host with two GPUs of which only one fits."""

    MDEV_TYPES = {"nvidia-11": ()}

    def start_unlike(self):
        self.set_devices("mid", gpu("1.2"))
        self.set_devices("both", gpu("1.0", GPU), gpu("1.4", GPU_2))
        self.start_host("mid", gpus=[base.Gpu()])
        self.start_host("both", gpus=[base.Gpu(address=GPU), base.Gpu(address=GPU_2)])
        self.settle()
        return self.boot("mid", VGPU)

    def assert_only_the_fitting_gpu(self):
        server = self.start_unlike()
        for _ in range(3):
            moved = self.live_migrate(server)
            self.assert_moved("both", moved)
            self.assertEqual(["both"], moved.tried)
            held = self.allocations_by_provider_name(server["id"])
            self.assertEqual({"VGPU": 1}, held.get(GPU_2_PROVIDER.format("both")))
            self.assertNotIn(GPU_PROVIDER.format("both"), held)
            self.assertEqual(["pci_0000_81_01_0"], self.mdevs_of("both", server))
            self.assert_moved("mid", self.live_migrate(server))

    @pytest.mark.threads
    def test_only_the_fitting_one_is_claimed(self):
        self.assert_only_the_fitting_gpu()

    def test_the_same_without_the_prefilter(self):
        self.flags(prefilter=False, group="devcompat")
        self.assert_only_the_fitting_gpu()

    def test_in_the_first_cycle_of_a_new_host(self):
        """The scheduler may not know yet which provider is which device; admission does."""
        self.set_devices("mid", gpu("1.2"))
        self.start_host("mid", gpus=[base.Gpu()])
        server = self.boot("mid", VGPU)
        self.set_devices("both", gpu("1.0", GPU), gpu("1.4", GPU_2))
        self.start_host("both", gpus=[base.Gpu(address=GPU), base.Gpu(address=GPU_2)])

        moved = self.live_migrate(server)

        if moved.host == "both":
            held = self.allocations_by_provider_name(server["id"])
            self.assertIn(GPU_2_PROVIDER.format("both"), held)
        else:
            self.assert_stays("mid", moved, server)


class UnlikeVFsTest(DeviceCompatFleet):
    """A host with two physical functions of which only one fits."""

    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    def test_only_the_fitting_one_is_claimed(self):
        self.set_devices("mid", nic("1.2"))
        self.set_devices("both", nic("1.0", PF), nic("1.4", PF_2))
        self.start_host("mid", pfs=[base.Pf()])
        self.start_host("both", pfs=[base.Pf(), base.Pf(address=PF_2)])
        self.settle()
        server = self.boot("mid", VF)
        for _ in range(3):
            moved = self.live_migrate(server)
            self.assert_moved("both", moved)
            self.assertEqual(["both"], moved.tried)
            held = self.allocations_by_provider_name(server["id"])
            self.assertEqual({"CUSTOM_VF": 1}, held.get(PF_2_PROVIDER.format("both")))
            self.assertNotIn(PF_PROVIDER.format("both"), held)
            (address,) = self.pci_devices_of("both", server)
            self.assertTrue(address.startswith("0000:83:00."), address)
            self.assert_moved("mid", self.live_migrate(server))

    def test_each_need_gets_a_device_of_its_own(self):
        """Two VFs of one alias on unlike parents: each is matched with one that fits it."""
        for name in ("one", "two"):
            self.set_devices(name, nic("1.2", PF), nic("2.0", PF_2))
            self.start_host(name, pfs=[base.Pf(vfs=1), base.Pf(address=PF_2, vfs=1)])
        self.set_devices("poor", nic("1.2", PF), nic("1.4", PF_2))
        self.start_host("poor", pfs=[base.Pf(vfs=1), base.Pf(address=PF_2, vfs=1)])
        self.settle()
        server = self.boot("one", {"pci_passthrough:alias": "vf:2"})
        self.assertEqual({"nic.fw_version=1.2", "nic.fw_version=2.0"}, self.needed(server))

        moved = self.live_migrate(server)

        # Nova pairs the devices of one request in an order of its own; where that would swap
        # them, the host must refuse.
        pairs = {d.address: d for d in self.record_of(server).devices}
        for address, need in pairs.items():
            expected = "1.2" if address.startswith("0000:82") else "2.0"
            self.assertEqual({expected}, {atom.value for atom in need.atoms})
        if moved.host == "one":
            self.assert_stays("one", moved, server)
        self.assertNotIn("poor", moved.tried)


class TwoFamiliesTest(DeviceCompatFleet):
    """A guest with a vGPU and a VF."""

    MDEV_TYPES = {"nvidia-11": ()}
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    def start(self, name, gpu_version, nic_version):
        self.set_devices(name, gpu(gpu_version), nic(nic_version))
        self.start_host(name, gpus=[base.Gpu()], pfs=[base.Pf()])

    @pytest.mark.quick
    def test_both_must_fit(self):
        self.start("home", "1.2", "2.2")
        self.start("gpu-only", "1.4", "2.0")
        self.start("nic-only", "1.0", "2.4")
        self.start("fits", "1.3", "2.3")
        self.settle()
        server = self.boot("home", {**VGPU, **VF})
        self.assertEqual({"gpu.version=1.2", "nic.fw_version=2.2"}, self.needed(server))
        self.prefer_hosts("gpu-only", "nic-only", "fits")

        with self.placement_log.during() as calls:
            moved = self.live_migrate(server)

        self.assert_moved("fits", moved)
        self.assertEqual(["fits"], moved.tried)
        self.assertEqual({"home", "fits"}, self.offered_hosts(calls.candidates[0]))
        self.assert_moved("home", self.live_migrate(server))

    @pytest.mark.quick
    def test_the_filter_says_the_same(self):
        self.flags(prefilter=False, group="devcompat")
        self.start("home", "1.2", "2.2")
        self.start("gpu-only", "1.4", "2.0")
        self.start("nic-only", "1.0", "2.4")
        self.settle()
        server = self.boot("home", {**VGPU, **VF})
        with self.logs.during() as lines:
            moved = self.live_migrate(server)
        self.assert_stays("home", moved, server)
        self.assertEqual([], moved.tried)
        (line,) = lines.find("No host accepts", level=logging.INFO)
        self.assertRegex(str(line), r"gpu-only: nic\.fw_version: needs 2\.2, offered 2\.0")
        self.assertRegex(str(line), r"nic-only: gpu\.version: needs 1\.2, offered 1\.0")


@pytest.mark.threads
class TwoOfOneFamilyTest(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": [GPU], "nvidia-12": [GPU_2]}
    SPECS = {"resources1:VGPU": "1", "resources2:VGPU": "1", "group_policy": "isolate"}
    GPUS = (base.Gpu(address=GPU), base.Gpu(address=GPU_2))

    def start(self, name, first, second):
        self.set_devices(name, gpu(first, GPU), gpu(second, GPU_2))
        self.start_host(name, gpus=self.GPUS)

    def test_two_vgpus(self):
        self.start("home", "1.2", "1.2")
        self.start("half", "1.2", "1.0")
        self.start("whole", "1.2", "1.4")
        self.settle()
        server = self.boot("home", self.SPECS)
        self.assertEqual(2, len(self.record_of(server).devices))
        self.prefer_hosts("half", "whole")
        moved = self.live_migrate(server)
        self.assertNotIn("half", moved.tried)
        self.assertEqual("whole", moved.tried[0])

    def test_two_vfs(self):
        self.use_pci(
            [{**VF_SPEC, "resource_class": "CUSTOM_VF"}], [VF_BY_CLASS], in_placement=True
        )
        for name, version in (("home", "1.2"), ("old", "1.0"), ("new", "1.4")):
            self.set_devices(name, nic(version))
            self.start_host(name, pfs=[base.Pf(vfs=3)])
        self.settle()
        server = self.boot("home", {"pci_passthrough:alias": "vf:2"})
        before = self.record_of(server)
        self.assertEqual(2, len(before.devices))
        self.prefer_hosts("old", "new")
        for expected in ("new", "home"):
            moved = self.live_migrate(server)
            self.assert_moved(expected, moved)
            self.assertEqual([expected], moved.tried)
            # The record follows the devices to their new addresses, and is the same otherwise.
            after = self.record_of(server)
            self.assertEqual(before.atoms, after.atoms)
            self.assertEqual(
                self.pci_devices_of(expected, server), sorted(d.address for d in after.devices)
            )
