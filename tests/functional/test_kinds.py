# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Rules of which a version is not simply newer or older: the same one, and a floor."""

from tests.functional import base
from tests.functional.devcompat import GPU, VGPU, DeviceCompatFleet, device


class SameAndFloorTest(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}
    FAMILIES = {
        "gpu": {
            "match": {"device": "gpu"},
            "source": "static",
            "rules": {"fw": "same", "abi": {"kind": "floor", "at": "1.27"}},
        }
    }

    def tell(self, host, fw="1.60.0-73", abi="1.27.0"):
        self.set_devices(host, device(GPU, "gpu", fw=fw, abi=abi))
        if host in self.computes:
            self.run_periodic(host)

    def test_between_equal_hosts_and_others(self):
        for host in ("a", "b"):
            self.tell(host)
            self.start_host(host, gpus=[base.Gpu()])
        self.settle()
        server = self.boot("a", VGPU)
        self.assertEqual({"gpu.abi=met", "gpu.fw=1.60.0-73"}, self.needed(server))
        for host in ("b", "a"):
            moved = self.live_migrate(server)
            self.assert_moved(host, moved)
            self.assertEqual([host], moved.tried)

        # Of another firmware nothing is known, which is what on_unknown is about.
        self.tell("b", fw="1.60.0-74")
        moved = self.live_migrate(server)
        self.assert_stays("a", moved, server)
        self.assertEqual([], moved.tried)
        self.flags(on_unknown="accept", group="devcompat")
        self.assert_moved("b", self.live_migrate(server))
        self.flags(on_unknown="reject", group="devcompat")
        self.assertIn("gpu.fw=1.60.0-73", self.needed(server))
        self.assert_moved("a", self.live_migrate(server))

        # Below the floor it is refused for sure.
        self.tell("b", abi="1.24.0")
        self.flags(on_unknown="accept", group="devcompat")
        with self.logs.during() as lines:
            moved = self.live_migrate(server)
        self.assert_stays("a", moved, server)
        self.assertEqual([], moved.tried)
        (line,) = lines.find("No host accepts instance")
        self.assertRegex(str(line), r"b: gpu\.abi: needs met, offered 1\.24\.0, floor 1\.27")

        # A guest of a device below the floor goes nowhere: not to one like it, nor to a newer one.
        low = self.boot("b", VGPU)
        self.assertIn("gpu.abi=unmet", self.needed(low))
        for abi in ("1.24.0", "1.27.0"):
            self.tell("a", abi=abi)
            self.assert_stays("b", self.live_migrate(low), low)
        # Until it is started anew above it.
        self.tell("b")
        self._reboot_server(low, hard=True)
        self.assertIn("gpu.abi=met", self.needed(low))
        self.assert_moved("a", self.live_migrate(low))
