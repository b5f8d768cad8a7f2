# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What real sources read, published and decided on: recorded sysfs trees and devlink messages."""

import errno
import logging
import pathlib
import struct
from unittest import mock

import fixtures

from nova_devcompat.host.inventory import HostReader
from nova_devcompat.sources import load_source
from nova_devcompat.sources.devlink import DevlinkSource
from nova_devcompat.sources.sysfs import SysfsSource
from tests.functional import base
from tests.functional.base import VF_BY_CLASS, VF_SPEC
from tests.functional.devcompat import VF, DeviceCompatFleet
from tests.functional.worlds import PerHost
from tests.unit.sources import devlink_messages, sysfs_trees

PF = "0000:81:00.0"

FAMILIES = {
    "mlx5_vf": {
        # The identifiers are of the virtual functions; sysfs alone knows their drivers.
        "match": {"vendor_id": "15b3", "product_id": "101e", "vf_driver": "mlx5_vfio_pci"},
        "source": "devlink",
        "attributes": {
            "vf_driver_srcversion": "sysfs",
            "caps": {"source": "sysfs", "path": "features/cap_*"},
        },
        "rules": {
            "fw_version": "semver",
            "vf_driver_srcversion": "equal",
            "caps": "superset",
        },
    }
}


class Recorded(devlink_messages.Socket):
    """Answers what is asked of all devices at once with octets that were recorded."""

    def send(self, data):
        family = struct.unpack_from("=H", data, 4)[0] == devlink_messages.FAMILY
        if family and data[16] == devlink_messages.INFO_GET:
            assert struct.unpack_from("=I", data, 8)[0] == 2
            self.queue.append(devlink_messages.RECORDED_MLX5)
            return len(data)
        return super().send(data)


class SourcesTest(DeviceCompatFleet):
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]
    FAMILIES = FAMILIES

    def configure(self):
        super().configure()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.trees: dict[str, sysfs_trees.Tree] = {}
        self.kernels: dict[str, devlink_messages.Kernel] = {}
        patched = mock.patch.dict(HostReader.__init__.__kwdefaults__, {"load": self.load})
        patched.start()
        self.addCleanup(patched.stop)

    def load(self, name, options):
        if name in ("sysfs", "devlink"):
            return PerHost(name, options, getattr(self, f"make_{name}"))
        return load_source(name, options)

    def make_sysfs(self, host, options):
        return SysfsSource(options, root=self.trees[host].root)

    def make_devlink(self, host, options):
        return DevlinkSource(
            options, connect=lambda: self.connect(host), root=self.trees[host].root
        )

    def connect(self, host):
        kernel = self.kernels[host]
        # What was recorded is of one device whose next firmware is stored already.
        recorded = not kernel.refuses and kernel.devices == {}
        return Recorded(kernel) if recorded else kernel.connect()

    def start_nic_host(self, name, running=None, caps=("migration", "p2p")):
        """Start a host whose firmware runs in this version; None for the recorded answer."""
        tree = self.trees[name] = sysfs_trees.Tree(self.folder / name)
        sysfs_trees.mlx5(tree, parents=1, functions=2)
        for cap in caps:
            tree.write(f"{tree.folder(PF)}/features/cap_{cap}", f"{cap}\n")
        devices = {} if running is None else {f"pci/{PF}": devlink_messages.mlx5(running)}
        self.kernels[name] = devlink_messages.Kernel(devices)
        self.start_host(name, pfs=[base.Pf(address=PF)])

    def start_two(self):
        self.start_nic_host("old")
        self.start_nic_host("new", "22.41.1000", caps=("migration", "p2p", "chunk"))
        self.settle()

    def warnings(self, lines):
        return [str(line) for line in lines.find(level=logging.WARNING, logger="nova_devcompat")]

    def test_a_device_of_two_sources_is_published_and_decided_on(self):
        self.start_two()
        srcversion = "VF_DRIVER_SRCVERSION__"
        common = {"FW_VERSION__22_39", "CAPS__MIGRATION", "CAPS__P2P"}

        def published(host):
            names = {name.removeprefix("MLX5_VF__") for name in self.our_traits(host)}
            return {name for name in names if not name.startswith(srcversion)}, names

        old, names = published("old")
        self.assertEqual(common, old)
        self.assertEqual(1, len(names - old))
        new, names = published("new")
        self.assertEqual(common | {"FW_VERSION__22_41", "CAPS__CHUNK"}, new)

        server = self.boot("old", VF)
        (need,) = self.record_of(server).devices
        self.assertEqual("mlx5_vf", need.family)
        self.assertIn("mlx5_vf.fw_version=22.39", self.needed(server))
        self.assertIn("mlx5_vf.caps=p2p", self.needed(server))
        self.assert_moved("new", self.live_migrate(server))
        self.assert_moved("old", self.live_migrate(server))

        newer = self.boot("new", VF)
        with self.logs.during() as lines:
            self.assert_stays("new", self.live_migrate(newer), newer)
        (line,) = lines.find("No host accepts", level=logging.INFO)
        self.assertRegex(str(line), r"needs 22\.41, offered 22\.39\.1002, too old")

    def test_firmware_that_is_activated(self):
        self.start_two()
        newer = self.boot("new", VF)
        self.trees["old"].write(f"{self.trees['old'].folder(PF)}/features/cap_chunk", "chunk\n")
        self.kernels["old"].devices = {f"pci/{PF}": devlink_messages.mlx5("22.41.1000")}
        self.run_periodic("old")
        self.assert_moved("old", self.live_migrate(newer))

    def test_a_source_that_fails_and_one_that_another_host_has_no_library_for(self):
        families = {
            **FAMILIES,
            "nvidia_vgpu": {
                "match": {"vendor_id": "10de"},
                "source": "nvml",
                "rules": {"vgpu_version": {"kind": "range", "base": 16}},
            },
        }
        self.set_families(families)
        # No GPU, so no driver and no NVML.
        with self.logs.during() as lines:
            self.start_two()
            self.settle()
        told = [text for text in self.warnings(lines) if "source nvml" in text]
        self.assertEqual(2, len(told), told)
        before = self.our_traits("new")
        self.assertIn("MLX5_VF__FW_VERSION__22_41", before)

        self.kernels["new"].refuses = errno.EPERM
        with self.logs.during() as lines:
            for _ in range(3):
                self.run_periodic("new")
        self.assertEqual([], lines.find(logger="nova_devcompat").errors)
        told = [text for text in self.warnings(lines) if "source devlink" in text]
        self.assertEqual(1, len(told), self.warnings(lines))
        # What the other sources tell is published all the same.
        kept = {name for name in before if "__FW_VERSION__" not in name}
        self.assertEqual(kept, self.our_traits("new"))
        self.kernels["new"].refuses = 0
        self.run_periodic("new")
        self.assertEqual(before, self.our_traits("new"))

    def test_an_attribute_of_one_device_that_cannot_be_read(self):
        self.start_two()
        file = self.trees["new"].write(
            f"{self.trees['new'].folder(PF)}/features/cap_p2p", b"\xff\0"
        )
        with self.logs.during() as lines:
            for _ in range(3):
                self.run_periodic("new")
        (told,) = self.warnings(lines)
        self.assertRegex(told, f"new: caps of device {PF} cannot be used .* is not text")
        names = self.our_traits("new")
        self.assertIn("MLX5_VF__FW_VERSION__22_41", names)
        self.assertEqual([], [name for name in names if "__CAPS__" in name])
        server = self.boot("old", VF)
        with self.logs.during() as lines:
            self.assert_stays("old", self.live_migrate(server), server)
        (line,) = lines.find("No host accepts", level=logging.INFO)
        self.assertRegex(str(line), r"new: mlx5_vf\.caps: .*cap_p2p is not text.*offer-missing")
        file.write_text("p2p\n")
        self.run_periodic("new")
        self.assert_moved("new", self.live_migrate(server))
