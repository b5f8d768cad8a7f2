# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a guest has negotiated is what it needs."""

from tests.functional import base
from tests.functional.devcompat import GPU, VGPU, DeviceCompatFleet, device

FAMILIES = {
    "gpu": {
        "match": {"device": "gpu"},
        "source": "static",
        "rules": {"vgpu_version": {"kind": "range", "base": 16}},
        "in_use": {"vgpu_version": "negotiated"},
    }
}


class UsageTest(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}
    FAMILIES = FAMILIES

    def setUp(self):
        super().setUp()
        self.set_range("a", "1A.1")
        self.set_range("b", "16.1")
        for host in "ab":
            self.start_host(host, gpus=[base.Gpu()])
        self.settle()
        self.server = self.boot("a", VGPU)

    def set_range(self, host, highest, **negotiated):
        attributes = {"vgpu_version": {"min": "7.1", "max": highest}}
        if negotiated:
            attributes["negotiated"] = {key.replace("_", "-"): v for key, v in negotiated.items()}
        self.set_devices(host, device(GPU, "gpu", **attributes))

    def assert_needs(self, version):
        self.assertEqual({f"gpu.vgpu_version={version}"}, self.needed(self.server))

    def mdev(self, host):
        (mdev,) = self.computes[host].driver._get_all_assigned_mediated_devices()
        return mdev

    def test_by_mdev(self):
        self.assert_needs("1a.1")
        self.assert_stays("a", self.live_migrate(self.server), self.server)
        self.set_range("a", "1A.1", **{self.mdev("a"): "14.1"})
        # Published first, for others to say whether they accept it.
        self.run_periodic("a")
        self.assert_needs("1a.1")
        self.run_periodic("b")
        with self.logs.during() as lines:
            self.run_periodic("a")
        self.assert_needs("14.1")
        (line,) = lines.find("The guest uses")
        self.assertIn("vgpu_version 14.1; it needs now: gpu (vgpu_version 14.1) at", line.text)
        self.assert_moved("b", self.live_migrate(self.server))
        self.assert_needs("14.1")
        # The guest's own reboot, under a newer driver of its own.
        self.set_range("b", "16.1", **{self.server["id"]: "16.1"})
        self.run_periodic("b")
        self.run_periodic("b")
        self.assert_needs("16.1")

    def reboot(self, server):
        self.api.post_server_action(server["id"], {"reboot": {"type": "HARD"}})
        self._wait_for_server_parameter(server, {"OS-EXT-STS:task_state": None})

    def test_a_restart_begins_anew(self):
        """That of the guest itself, not of others that are started all the time."""
        other = self.boot("a")
        self.set_range("a", "1A.1", **{self.server["id"]: "14.1"})
        for _ in range(2):
            self.assert_needs("1a.1")
            self.run_periodic("a")
            self.reboot(other)
        self.assert_needs("14.1")
        writes = self.instance(self.server).updated_at
        self.run_periodic("a")
        self.assertEqual(writes, self.instance(self.server).updated_at)
        self.reboot(self.server)
        self.assert_needs("1a.1")
        # May be what the driver said that ran before.
        self.run_periodic("a")
        self.assert_needs("1a.1")
        self.run_periodic("a")
        self.assert_needs("14.1")

    def test_a_copy_of_before_that_is_saved_afterwards(self):
        """Nova saves all metadata as it has read them."""
        self.set_range("a", "1A.1", **{self.server["id"]: "14.1"})
        self.run_periodic("a")
        before = self.instance(self.server)
        self.run_periodic("a")
        self.assert_needs("14.1")
        before.system_metadata["old_vm_state"] = "active"
        before.save()
        self.assert_needs("1a.1")
        self.run_periodic("a")
        self.assert_needs("14.1")

    def test_bad_input(self):
        other = "8d1b0ef4-5b0b-4a3e-a1e9-7c2f6a9a2d11"
        self.set_range(
            "a", "1A.1", **{self.server["id"]: "99.1", other: "14.1", "no_uuid": "14.1"}
        )
        with self.logs.during() as lines:
            for _ in range(3):
                self.run_periodic("a")
        self.assert_needs("1a.1")
        (line,) = lines.find("in use by")
        self.assertIn("'99.1' is nothing that the device accepts", line.text)
        self.assertEqual([], [str(line) for line in lines.find(logger="nova_devcompat").errors])
