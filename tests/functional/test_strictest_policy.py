# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What concerns no family by name: the strictest policy of those that it can concern decides.

Of nova.conf and a catalog that say different things, by the scheduler and at admission.
"""

from nova_devcompat import wire
from tests.functional.base import VF_BY_ID, VF_SPEC
from tests.functional.devcompat import CATALOG, VF, VGPU, DeviceCompatFleet

NEWER = "9 1 00000000 something new"


class _Fleet(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}

    def write_record(self, server, text):
        """Overwrite the record of a guest; None: it has none."""
        instance = self.instance(server)
        for key in [key for key in instance.system_metadata if wire.is_record_key(key)]:
            del instance.system_metadata[key]
        if text is not None:
            instance.system_metadata["devcompat:need"] = text
        instance.save()

    def by_admission_alone(self, server):
        """A live migration that no scheduler of ours looks at."""
        self.flags(prefilter=False, group="devcompat")
        manager = self.scheduler.manager.host_manager
        manager.enabled_filters = [
            one for one in manager.enabled_filters if type(one).__name__ != "DeviceCompatFilter"
        ]
        return self.live_migrate(server)


def families(**policy):
    """Both families with one policy."""
    return {name: {**CATALOG[name], **policy} for name in ("gpu", "nic")}


class EnforcedFamilyTest(_Fleet):
    """nova.conf reports, and the family is enforced."""

    OPTIONS = {"mode": "report"}
    FAMILIES = families(mode="enforce")

    def test_a_guest_of_which_nothing_can_be_read(self):
        self.start_gpu_hosts(home="1.2", old="1.0")
        server = self.boot("home", VGPU)
        for record in (NEWER, None, "garbage"):
            self.write_record(server, record)
            moved = self.live_migrate(server)
            self.assert_stays("home", moved, server)
            self.assertEqual([], moved.tried)
        moved = self.by_admission_alone(server)
        self.assert_stays("home", moved, server)
        self.assertEqual(["old"], moved.tried)
        self.assertIn("record-unreadable", self.refusals(server)["old"])


class ReportedFamiliesTest(_Fleet):
    """nova.conf enforces, and every family is only reported on."""

    FAMILIES = families(mode="report")

    def test_nothing_is_rejected(self):
        self.start_gpu_hosts(home="1.2", other="1.0")
        server = self.boot("home", VGPU)
        here, there = "home", "other"
        for record in (NEWER, None):
            self.write_record(server, record)
            with self.logs.during() as lines:
                self.assert_moved(there, self.live_migrate(server))
            self.assertTrue(lines.find("Report mode: "))
            here, there = there, here
        self.write_record(server, NEWER)
        self.assert_moved(there, self.by_admission_alone(server))

    def test_a_pin_that_nobody_can_read(self):
        self.start_gpu_hosts(a="1.2")
        with self._microversion("2.85"):
            flavor = self.make_flavor({**VGPU, "devcompat:gpu.versoin": "1.0"})
        self.boot("a", flavor=flavor)


class MixedFamiliesTest(_Fleet):
    """A guest with a device of a family that is enforced is not let go for the other's sake."""

    FAMILIES = {
        "gpu": {**CATALOG["gpu"], "mode": "enforce"},
        "nic": {**CATALOG["nic"], "mode": "report"},
    }

    def test_it(self):
        self.start_gpu_hosts(home="1.2", other="1.2")
        server = self.boot("home", VGPU)
        self.write_record(server, NEWER)
        self.assert_stays("home", self.live_migrate(server), server)


class BadPinTest(_Fleet):
    """A pin that cannot be read ends no decision: what is known is judged all the same."""

    MDEV_TYPES = {}
    DEVICE_SPEC = [VF_SPEC]
    ALIASES = [VF_BY_ID]
    PCI_IN_PLACEMENT = False
    OPTIONS = {"on_unknown": "accept"}

    def test_scheduled_and_forced(self):
        self.start_nic_hosts(home="1.2", old="1.0", new="1.4")
        for typo in ({"devcompat:nci.fw_version": "1"}, {"devcompat:nic.fw_versoin": "1.0"}):
            with self._microversion("2.85"):
                flavor = self.make_flavor({**VF, **typo})
            server = self.boot("home", flavor=flavor)
            for force in (False, True):
                moved = self.live_migrate(server, "old", force=force)
                self.assert_stays("home", moved, server)
            self.assertIn("needs 1.2, offered 1.0", self.refusals(server)["old"])
        self.assert_moved("new", self.live_migrate(server, "new", force=True))
