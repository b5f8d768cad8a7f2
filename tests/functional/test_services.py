# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The services that tests are lent: found as they were, and taken back with a look around."""

import signal
import threading
import time
import unittest
import unittest.mock

import fixtures
import nova.conf
import pytest
import testtools
from nova import context as nova_context
from nova import objects
from nova.scheduler import request_filter, utils

from tests.functional import base, older, services
from tests.functional.devcompat import VGPU, DeviceCompatFleet

CONF = nova.conf.CONF

pytestmark = pytest.mark.skipif(older.NOVA < 34, reason="each test starts services of its own")

#: Services of one test that the next is to find again.
seen = []


class Borrower(DeviceCompatFleet):
    """What is run here is no test of its own."""

    __test__ = False
    MDEV_TYPES = {"nvidia-11": ()}

    def does_much(self):
        seen.append(self.scheduler)
        self.start_gpu_hosts(a="1.2", b="1.2")
        server = self.boot("a", VGPU)
        self.assert_moved("b", self.live_migrate(server))
        self.api.microversion = "2.1"
        self.flags(cpu_allocation_ratio=3.0, reserved_host_cpus=1)
        self.flags(mode="report", group="devcompat")
        self.admin_api.post_aggregate({"aggregate": {"name": "left"}})
        self.glance.create(None, {"id": "left", "name": "left"})
        request_filter.ALL_REQUEST_FILTERS.append(lambda context, spec: False)

    def finds_nothing(self):
        seen.append(self.scheduler)
        self.assertEqual({}, self.computes)
        self.assertEqual([], self.api.get_servers())
        self.assertEqual([], self.admin_api.api_get("/os-aggregates").body["aggregates"])
        self.assertEqual([], self.admin_api.api_get("/os-migrations").body["migrations"])
        self.assertEqual({}, self.provider_names())
        found = self.placement.get("/traits?name=startswith:CUSTOM_DEVCOMPAT", version="1.6")
        self.assertEqual([], found.body["traits"])
        self.assertNotIn("left", self.glance.images)
        self.assertEqual("latest", self.api.microversion)
        self.assertEqual((None, 0), (CONF.cpu_allocation_ratio, CONF.reserved_host_cpus))
        self.assertEqual("enforce", CONF.devcompat.mode)
        self.assertEqual(["devcompat_filter"], self.added_filters())
        # What is asked here is logged as well.
        self.assertEqual([], self.logs.lines.find("[Ii]nstance|wraps"))
        events = {one["event_type"] for one in self.notifier.versioned_notifications}
        self.assertLessEqual(events, {"service.create"})  # of a start of its own
        self.assertEqual({}, self.scheduler.manager.host_manager._instance_info)

    def added_filters(self):
        ours = [one for one in request_filter.ALL_REQUEST_FILTERS if "nova." not in one.__module__]
        return [one.__name__ for one in ours]

    def takes_long(self):
        time.sleep(5)

    def leaves_a_thread(self):
        released = threading.Event()
        seen.append(released)
        threading.Thread(target=released.wait, args=(30,), name="forgotten").start()

    def leaves_a_patch(self):
        patch = fixtures.MonkeyPatch("nova.scheduler.utils.claim_resources", lambda: None)
        patch.setUp()
        seen.append(patch)

    def leaves_a_patched_method(self):
        patch = fixtures.MonkeyPatch(
            "nova_devcompat.scheduler.filters.DeviceCompatFilter.host_passes", lambda *_: True
        )
        patch.setUp()
        seen.append(patch)


class OwnServices(Borrower):
    OWN_SERVICES = "this is about them"


class WithTwoCells(Borrower):
    NUMBER_OF_CELLS = 2


class LentServicesTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        super().setUp()
        seen.clear()

    def run_one(self, name, fleet=Borrower):
        """Run one as a test.

        :returns: what went wrong
        """
        result = testtools.TestResult()
        fleet(name).run(result)
        self.assertEqual(1, result.testsRun)
        return "\n".join(str(text) for _test, text in result.errors + result.failures)

    def test_a_time_out_is_of_one_test(self):
        services.end()
        with fixtures.EnvironmentVariable("OS_TEST_TIMEOUT", "300"):
            self.assertEqual("", self.run_one("finds_nothing"))
        self.assertEqual((0.0, 0.0), signal.getitimer(signal.ITIMER_REAL))
        with fixtures.EnvironmentVariable("OS_TEST_TIMEOUT", "1"):
            self.assertIn("TimeoutException", self.run_one("takes_long"))
        self.assertEqual("", self.run_one("finds_nothing"))

    def test_put_back(self):
        self.assertEqual("", self.run_one("does_much"))
        self.assertEqual("", self.run_one("finds_nothing"))
        self.assertEqual("", self.run_one("does_much"))
        first, second, third = seen
        self.assertIs(first, second)
        self.assertIs(first, third)

    def test_own(self):
        self.assertEqual("", self.run_one("finds_nothing"))
        self.assertEqual("", self.run_one("does_much", OwnServices))
        self.assertEqual("", self.run_one("finds_nothing", OwnServices))
        self.assertEqual("", self.run_one("finds_nothing"))
        self.assertEqual(4, len(set(map(id, seen))))

    def test_of_another_kind(self):
        self.assertEqual("", self.run_one("does_much"))
        self.assertEqual("", self.run_one("finds_nothing", WithTwoCells))
        self.assertEqual("", self.run_one("finds_nothing"))
        self.assertEqual(3, len(set(map(id, seen))))

    def assert_left(self, name, pattern):
        with unittest.mock.patch("tests.functional.leftovers._PATIENCE", 0.5):
            wrong = self.run_one(name)
        self.assertRegex(wrong, rf"Borrower\.{name} left behind: {pattern}")

    def test_a_thread(self):
        self.assert_left("leaves_a_thread", "thread forgotten, in .* still runs")
        seen.pop().set()
        self.assertEqual("", self.run_one("finds_nothing"))

    def test_a_patch(self):
        original = utils.claim_resources
        self.assert_left("leaves_a_patch", r"nova\.scheduler\.utils\.claim_resources is still")
        seen.pop().cleanUp()
        self.assertIs(original, utils.claim_resources)
        self.assertEqual("", self.run_one("finds_nothing"))

    def test_a_patched_method(self):
        self.assert_left(
            "leaves_a_patched_method",
            r"nova_devcompat\.scheduler\.filters\.DeviceCompatFilter\.host_passes is still",
        )
        seen.pop().cleanUp()
        self.assertEqual("", self.run_one("finds_nothing"))

    def test_a_row_written_later(self):
        self.assertEqual("", self.run_one("finds_nothing"))
        cell = services._running._holder.cell_mappings["cell1"]
        mapping = objects.HostMapping(nova_context.get_admin_context(), host="late")
        mapping.cell_mapping = cell
        mapping.create()
        wrong = self.run_one("finds_nothing")
        self.assertRegex(
            wrong, r"finds_nothing is over, and since then something wrote to host_mappings"
        )
        self.assertEqual("", self.run_one("finds_nothing"))

    def test_it_is_a_fleet_of_nova_only(self):
        """What is lent has no option of the test that it was started for."""
        self.assertEqual("", self.run_one("does_much"))

        class Plain(base.Fleet):
            def finds_filters(test):
                manager = test.scheduler.manager.host_manager
                seen.append({type(one).__name__ for one in manager.enabled_filters})

        self.assertEqual("", self.run_one("finds_filters", Plain))
        self.assertNotIn("DeviceCompatFilter", seen[-1])
