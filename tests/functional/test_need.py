#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""A need is frozen when its device is initialised, and by nothing else."""

import fixtures

from tests.functional import base
from tests.functional.base import VF_BY_CLASS, VF_SPEC
from tests.functional.devcompat import (
    VF,
    VGPU,
    DeviceCompatFleet,
    gpu,
    nic,
)


class NeedTest(DeviceCompatFleet):
    """A guest with a vGPU and a VF, whose host's versions change under it."""

    MDEV_TYPES = {"nvidia-11": ()}
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    BEFORE = {"gpu.version=1.2", "nic.fw_version=1.2"}
    AFTER = {"gpu.version=1.4", "nic.fw_version=1.4"}

    def setUp(self):
        super().setUp()
        self.start_one("a", "1.2")
        self.server = self.boot("a", {**VGPU, **VF})
        self.assertEqual(self.BEFORE, self.needed(self.server))
        # The roll-out reaches the host; the guest runs on as it was started.
        self.set_devices("a", gpu("1.4"), nic("1.4"))
        self.settle()
        self.assertEqual(self.BEFORE, self.needed(self.server))

    def start_one(self, name, version):
        self.set_devices(name, gpu(version), nic(version))
        self.start_host(name, gpus=[base.Gpu()], pfs=[base.Pf()])
        self.settle()

    def act(self, action, *, status="ACTIVE"):
        self.api.post_server_action(self.server["id"], action)
        self._wait_for_server_parameter(
            self.server, {"status": status, "OS-EXT-STS:task_state": None}
        )

    def test_hard_reboot(self):
        self.act({"reboot": {"type": "HARD"}})
        self.assertEqual(self.AFTER, self.needed(self.server))

    def test_stop_and_start(self):
        self.act({"os-stop": None}, status="SHUTOFF")
        self.assertEqual(self.BEFORE, self.needed(self.server))
        self.act({"os-start": None})
        self.assertEqual(self.AFTER, self.needed(self.server))

    def test_pause_and_unpause(self):
        self.act({"pause": None}, status="PAUSED")
        self.act({"unpause": None})
        self.assertEqual(self.BEFORE, self.needed(self.server))

    def test_rebuild(self):
        self.act({"rebuild": {"imageRef": base.IMAGE}})
        self.assertEqual(self.AFTER, self.needed(self.server))

    def test_cold_migrate_and_revert(self):
        self.start_one("b", "1.0")
        self.act({"migrate": {"host": "b"}}, status="VERIFY_RESIZE")
        self.assertEqual({"gpu.version=1.0", "nic.fw_version=1.0"}, self.needed(self.server))
        self.act({"revertResize": None})
        self.assertEqual("a", self.host_of(self.server))
        self.assertEqual(self.AFTER, self.needed(self.server))
        devices = self.record_of(self.server).devices
        self.assertEqual(2, len(devices))
        self.assertIn(self.pci_devices_of("a", self.server)[0], [d.address for d in devices])

    def test_cold_migrate_and_confirm(self):
        self.start_one("b", "1.0")
        self.act({"migrate": {"host": "b"}}, status="VERIFY_RESIZE")
        self.act({"confirmResize": None})
        self.assertEqual({"gpu.version=1.0", "nic.fw_version=1.0"}, self.needed(self.server))
        # What it needs now is what it was started with there, so the newer host will do again.
        self.assert_moved("a", self.live_migrate(self.server))

    def test_a_live_migration_that_breaks(self):
        self.start_one("b", "1.4")
        before = self.instance(self.server).system_metadata
        self.migrations_break = True
        moved = self.live_migrate(self.server)
        self.assertEqual("a", moved.host)
        self.assertEqual(before, self.instance(self.server).system_metadata)

    def test_soft_reboot(self):
        """libvirt's driver shuts the domain down and creates it again."""
        self.act({"reboot": {"type": "SOFT"}})
        self.assertEqual(self.AFTER, self.needed(self.server))

    def without_libvirt(self, *methods):
        """Nova's fake libvirt keeps no domain XML that these could read; the rest is real."""
        for method in methods:
            self.useFixture(fixtures.MockPatch(f"nova.virt.libvirt.driver.LibvirtDriver.{method}"))

    def test_suspend_and_resume(self):
        """Suspend detaches the devices and resume attaches them again."""
        self.without_libvirt("suspend", "resume")
        self.act({"suspend": None}, status="SUSPENDED")
        self.assertEqual(self.BEFORE, self.needed(self.server))
        self.act({"resume": None})
        self.assertEqual(self.AFTER, self.needed(self.server))

    def test_rescue_and_unrescue(self):
        self.without_libvirt("rescue", "unrescue")
        self.act({"rescue": {}}, status="RESCUE")
        self.assertEqual(self.AFTER, self.needed(self.server))
        self.set_devices("a", gpu("1.5"), nic("1.5"))
        self.act({"unrescue": None})
        self.assertEqual({"gpu.version=1.5", "nic.fw_version=1.5"}, self.needed(self.server))
