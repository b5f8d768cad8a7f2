# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The weigher in Nova's own scheduler, on hosts that differ in nothing but their versions."""

import fixtures

from nova_devcompat.scheduler import lookup
from tests.functional.base import VF_BY_CLASS, VF_BY_ID, VF_SPEC
from tests.functional.devcompat import VF, VGPU, DeviceCompatFleet

KEY = "devcompat_weight_multiplier"
EXPLAINED = "Hosts by how mobile they keep instance "


class WeighedFleet(DeviceCompatFleet):
    WEIGHT_CLASSES = (
        "nova.scheduler.weights.all_weighers",
        "nova_devcompat.scheduler.weights.all_weighers",
    )
    MDEV_TYPES = {"nvidia-11": ()}

    def setUp(self):
        super().setUp()
        self.weigh_hosts()

    def aggregate(self, *hosts, **metadata):
        """Make a host aggregate."""
        made = self.admin_api.post_aggregate({"aggregate": {"name": "-".join(hosts)}})
        for host in hosts:
            self.admin_api.add_host_to_aggregate(made["id"], host)
        self.admin_api.post_aggregate_action(made["id"], {"set_metadata": {"metadata": metadata}})

    def spy_on_look_ups(self):
        """The instances that are looked up from now on."""
        asked = []
        original = lookup._instance

        def instance(context, uuid):
            asked.append(uuid)
            return original(context, uuid)

        self.useFixture(
            fixtures.MonkeyPatch("nova_devcompat.scheduler.lookup._instance", instance)
        )
        return asked


class WeigherTest(WeighedFleet):
    def test_boots_stay_mobile_and_migrations_fit_closely(self):
        self.start_gpu_hosts(newest="1.4", newer="1.2", oldest="1.0")
        with self.logs.during() as lines:
            server = self.boot(None, VGPU)
        self.assertEqual("oldest", self.host_of(server))
        (line,) = lines.find(EXPLAINED + server["id"])
        first, second, third = line.text.removeprefix(f"{EXPLAINED}{server['id']}: ").split(" | ")
        self.assertIn("oldest: accepted by 2 of 2 other hosts, accept-set of 1 (2.7500)", first)
        self.assertIn("newer: accepted by 1 of 2 other hosts", second)
        self.assertIn("newest: accepted by 0 of 2 other hosts", third)

        asked = self.spy_on_look_ups()
        # Both would do, and the newest stays free for who needs it.
        self.assert_moved("newer", self.live_migrate(server))
        self.assertEqual([server["id"]], asked)

    def test_a_guest_without_devices_costs_nothing(self):
        self.start_gpu_hosts(a="1.4", b="1.0")
        asked = self.spy_on_look_ups()
        with self.logs.during() as lines:
            self.boot(None)
        self.assertEqual([], asked)
        self.assertFalse(lines.find(EXPLAINED))

    def test_multipliers(self):
        self.flags(weight_multiplier=0.0, group="devcompat")
        self.start_gpu_hosts(newest="1.4", newer="1.2", oldest="1.0")
        with self.logs.during() as lines:
            self.boot("newer", VGPU)
            self.boot(None, VGPU)
        self.assertFalse(lines.find(EXPLAINED))
        # An aggregate's word counts more; below 0 the order is the other way about.
        self.aggregate("newest", "newer", "oldest", **{KEY: "-5"})
        with self.logs.during() as lines:
            self.assertEqual("newest", self.host_of(self.boot(None, VGPU)))
        self.assertTrue(lines.find(EXPLAINED))


class WithoutTheFilterTest(WeighedFleet):
    """Nothing keeps unfit hosts from the list: they come last."""

    EXTRA_FILTERS = ()

    def test_hosts_that_accept_come_first(self):
        self.start_gpu_hosts(older="1.0", guests="1.2", newest="1.4", newer="1.3")
        server = self.boot("guests", VGPU)
        asked = self.spy_on_look_ups()
        with self.logs.during() as lines:
            moved = self.live_migrate(server)
        self.assert_moved("newer", moved)
        self.assertEqual(["newer"], moved.tried)
        self.assertEqual([server["id"]], asked)
        (line,) = lines.find(EXPLAINED)
        self.assertIn("older: weighs nothing, it does not accept what the guest needs", line.text)


class VFTest(WeighedFleet):
    """Virtual functions that placement knows."""

    MDEV_TYPES = {}
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    def test_boots_stay_mobile(self):
        self.start_nic_hosts(newest="1.4", newer="1.2", oldest="1.0")
        server = self.boot(None, VF)
        self.assertEqual("oldest", self.host_of(server))
        self.assert_moved("newer", self.live_migrate(server))


class VFNotInPlacementTest(VFTest):
    DEVICE_SPEC = [VF_SPEC]
    ALIASES = [VF_BY_ID]
    PCI_IN_PLACEMENT = False
