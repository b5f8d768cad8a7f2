# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Prefilter, filter and admission, each without those before it; and what a refusal leaves."""

import logging

import pytest

from tests.functional import base
from tests.functional.base import VF_BY_CLASS, VF_BY_ID, VF_SPEC
from tests.functional.devcompat import (
    GPU_2,
    PF,
    PF_2,
    VF,
    VGPU,
    DeviceCompatFleet,
    gpu,
    nic,
)


class Devices:
    """What kind of devices a test is about."""

    EXTRA_SPECS = VGPU

    def start_hosts(self, **versions):
        self.start_gpu_hosts(**versions)


class VFs(Devices):
    EXTRA_SPECS = VF

    def start_hosts(self, **versions):
        self.start_nic_hosts(**versions)


class InPlacement(VFs):
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]


class NotInPlacement(VFs):
    DEVICE_SPEC = [VF_SPEC]
    ALIASES = [VF_BY_ID]
    PCI_IN_PLACEMENT = False


class FilterAlone:
    """Without the prefilter the destinations are the same, in format 2 of the stats as in 1."""

    OPTIONS = {"prefilter": False, "stats_format": 2}

    def test_same_destinations(self):
        self.start_hosts(old="1.0", mid="1.2", new="1.4")
        server = self.boot("mid", self.EXTRA_SPECS)
        self.prefer_hosts("old", "new", "mid")
        for expected in ("new", "mid", "new"):
            with self.placement_log.during() as calls:
                moved = self.live_migrate(server)
            self.assert_moved(expected, moved)
            self.assertEqual([expected], moved.tried)
            (asked,) = calls.candidates
            self.assertNotIn("DEVCOMPAT", str(asked.query))
            self.assertIn("old", self.offered_hosts(asked))

    def test_no_fitting_host(self):
        self.start_hosts(old="1.0", mid="1.2", older="0.9")
        server = self.boot("mid", self.EXTRA_SPECS)
        with self.logs.during() as lines:
            moved = self.live_migrate(server)
        self.assert_stays("mid", moved, server)
        self.assertEqual([], moved.tried)
        self.assertIn("No valid host", moved.error)
        (line,) = lines.find("No host accepts instance", level=logging.INFO)
        self.assertRegex(str(line), rf"{server['id']}.*needs .*1\.2.*2 rejected")
        self.assertRegex(str(line), r"old: .*needs 1\.2, offered 1\.0.*minor-too-old; upgrade old")
        self.assertRegex(str(line), r"older: .*needs 1\.2, offered 0\.9.*major-differs")
        self.assertEqual([], lines.find(logger="nova_devcompat").errors)


class FilterAloneVGPUTest(FilterAlone, Devices, DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}


class FilterAloneInPlacementTest(FilterAlone, InPlacement, DeviceCompatFleet):
    pass


class FilterAloneNotInPlacementTest(FilterAlone, NotInPlacement, DeviceCompatFleet):
    pass


class AdmissionAlone:
    """Without the filter, which brings the prefilter, the destination refuses and Nova goes on."""

    EXTRA_FILTERS = ()

    def test_refuses_and_nova_goes_on(self):
        self.start_hosts(old="1.0", mid="1.2", new="1.4")
        server = self.boot("mid", self.EXTRA_SPECS)
        self.prefer_hosts("old", "new", "mid")
        for expected in ("new", "mid"):
            moved = self.live_migrate(server)
            self.assert_moved(expected, moved)
            self.assertEqual(["old", expected], moved.tried)
            self.assertRegex(self.refusals(server)[moved.tried[0]], r"needs 1\.2, offered 1\.0")
            self.assert_nothing_left_on("old", server)

    def test_nowhere_to_go(self):
        self.start_hosts(old="1.0", mid="1.2")
        server = self.boot("mid", self.EXTRA_SPECS)
        before = self.allocations_by_provider_name(server["id"])
        moved = self.live_migrate(server)
        self.assert_stays("mid", moved, server)
        self.assertEqual(["old"], moved.tried)
        self.assertEqual(before, self.allocations_by_provider_name(server["id"]))
        self.assert_nothing_left_on("old", server)

    def test_report_mode_lets_it_pass(self):
        self.flags(mode="report", group="devcompat")
        self.start_hosts(old="1.0", mid="1.2")
        server = self.boot("mid", self.EXTRA_SPECS)
        with self.logs.during() as lines:
            self.assert_moved("old", self.live_migrate(server))
        found = lines.find(r"Report mode: this host would refuse the instance \(1 so far\)")
        self.assertTrue(found)


class AdmissionAloneVGPUTest(AdmissionAlone, Devices, DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}

    def test_on_the_devices_really_claimed(self):
        """A host with a fitting and an unfit GPU is refused if the unfit one was allocated."""
        self.set_devices("mid", gpu("1.2"))
        self.set_devices("both", gpu("1.0"), gpu("1.4", GPU_2))
        self.start_host("mid", gpus=[base.Gpu()])
        self.start_host("both", gpus=[base.Gpu(), base.Gpu(address=GPU_2)])
        self.settle()
        server = self.boot("mid", VGPU)
        moved = self.live_migrate(server)
        if moved.host == "both":
            self.assertEqual(["pci_0000_81_01_0"], self.mdevs_of("both", server))
        else:
            self.assertRegex(self.refusals(server)[moved.tried[0]], r"needs 1\.2, offered 1\.0")
            self.assert_stays("mid", moved, server)


class AdmissionAloneInPlacementTest(AdmissionAlone, InPlacement, DeviceCompatFleet):
    pass


class AdmissionAloneNotInPlacementTest(AdmissionAlone, NotInPlacement, DeviceCompatFleet):
    def test_after_the_claim(self):
        """Only the claim tells which parent the VF is of, and what it claimed is given back."""
        self.set_devices("mid", nic("1.2"))
        self.set_devices("both", nic("1.0", PF), nic("1.4", PF_2))
        self.start_host("mid", pfs=[base.Pf()])
        self.start_host("both", pfs=[base.Pf(vfs=1), base.Pf(address=PF_2, vfs=1)])
        self.settle()
        server = self.boot("mid", VF)
        moved = self.live_migrate(server)
        if moved.host == "both":
            self.assertEqual(["0000:83:00.1"], self.pci_devices_of("both", server))
        else:
            self.assertRegex(self.refusals(server)[moved.tried[0]], r"needs 1\.2, offered 1\.0")
            self.assert_stays("mid", moved, server)

    def test_a_claim_on_the_unfit_parent_is_refused_and_freed(self):
        self.set_devices("mid", nic("1.2"))
        # The fitting one has no VF left: the claim can only take the other.
        self.set_devices("both", nic("1.4", PF), nic("1.0", PF_2))
        self.start_host("mid", pfs=[base.Pf()])
        self.start_host("both", pfs=[base.Pf(vfs=1), base.Pf(address=PF_2, vfs=1)])
        self.settle()
        taken = [self.boot("both", VF)]
        on_old = self.pci_devices_of("both", taken[0])[0].startswith("0000:83")
        if on_old:
            taken.append(self.boot("both", VF))
            self.api.delete_server(taken[0]["id"])
            self._wait_until_deleted(taken[0])
        server = self.boot("mid", VF)
        moved = self.live_migrate(server)
        self.assertEqual(["both"], moved.tried)
        self.assertRegex(self.refusals(server)[moved.tried[0]], r"needs 1\.2, offered 1\.0")
        self.assert_stays("mid", moved, server)


class ForcedTest(NotInPlacement, DeviceCompatFleet):
    """``force`` goes past the scheduler; Nova refuses it for nested allocations by itself."""

    @pytest.mark.quick
    def test_refused_by_admission(self):
        self.start_hosts(old="1.0", mid="1.2", new="1.4")
        server = self.boot("mid", VF)
        before = self.allocations_by_provider_name(server["id"])

        moved = self.live_migrate(server, "old", force=True)

        self.assert_stays("mid", moved, server)
        self.assertEqual(["old"], moved.tried)
        self.assertRegex(self.refusals(server)[moved.tried[0]], r"needs 1\.2, offered 1\.0")
        self.assertEqual(before, self.allocations_by_provider_name(server["id"]))
        self.assert_nothing_left_on("old", server)

    def test_accepted_where_it_fits(self):
        self.start_hosts(mid="1.2", new="1.4")
        server = self.boot("mid", VF)
        self.assert_moved("new", self.live_migrate(server, "new", force=True))


class NamedHostTest(Devices, DeviceCompatFleet):
    """A host that is named but not forced is checked by the scheduler."""

    MDEV_TYPES = {"nvidia-11": ()}

    def test_unfit(self):
        self.start_hosts(old="1.0", mid="1.2", new="1.4")
        server = self.boot("mid", VGPU)
        with self.logs.during() as lines:
            moved = self.live_migrate(server, "old")
        self.assert_stays("mid", moved, server)
        self.assertEqual([], moved.tried)
        (line,) = lines.find("No host accepts", level=logging.INFO)
        self.assertRegex(str(line), r"1 rejected: old: gpu\.version: needs 1\.2, offered 1\.0")
        self.assert_moved("new", self.live_migrate(server, "new"))
