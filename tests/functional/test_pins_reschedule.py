# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A pin that the very device which was claimed cannot act as."""

import fixtures

from nova_devcompat.compat import words
from nova_devcompat.compat.need import Need
from nova_devcompat.stores import events
from tests.functional import base
from tests.functional.base import VF_BY_ID, VF_SPEC
from tests.functional.devcompat import (
    PF,
    PF_2,
    VF,
    VGPU,
    gpu,
    nic,
)
from tests.functional.test_words import WordsFleet

NIC_PIN = "devcompat:nic.fw_version"
GPU_PIN = "devcompat:gpu.version"
PINNED = {**VF, NIC_PIN: "1.3"}


class UnlikeFunctions(WordsFleet):
    """Hosts with unlike functions that placement does not know: Nova's tracker takes one."""

    MDEV_TYPES = {}
    DEVICE_SPEC = [VF_SPEC]
    ALIASES = [VF_BY_ID]
    PCI_IN_PLACEMENT = False

    def start(self, **versions):
        """Start hosts with two functions each, of which the tracker takes the first."""
        for name, (first, second) in versions.items():
            self.set_devices(name, nic(first, PF), nic(second, PF_2))
            self.start_host(name, pfs=[base.Pf(vfs=1), base.Pf(address=PF_2, vfs=1)])
        self.settle()
        self.make_flavor(PINNED)
        self.settle()

    def failed_builds(self, host):
        return int(self.stats_of(host).get("failed_builds", 0))


class BootTest(UnlikeFunctions):
    def test_the_next_host_gets_it(self):
        self.start(mixed=("1.1", "1.5"), good=("1.5", "1.5"))
        self.prefer_hosts("mixed", "good")
        for _ in range(2):
            server = self.boot(None, PINNED)
            self.assertEqual("good", self.host_of(server))
            self.assert_nothing_left_on("mixed", server)
            (refused,) = self.last_action(server)[events.REFUSED]
            self.assertEqual("mixed", refused["host"])
            self.assertIn("nic.fw_version: needs 1.3, offered 1.1", refused["traceback"])
        self.run_periodic()
        self.assertEqual(0, self.failed_builds("mixed"))

    def test_no_host_is_tried_twice(self):
        self.flags(max_attempts=2, group="scheduler")
        self.start(mixed=("1.1", "1.5"), mixed2=("1.1", "1.5"))
        server = self.boot(None, PINNED, expect="ERROR")
        refused = self.last_action(server)[events.REFUSED]
        self.assertEqual(["mixed", "mixed2"], sorted(one["host"] for one in refused))
        fault = self.owner.get_server(server["id"])["fault"]["message"]
        self.assertIn(words.CANNOT_ACT, fault)
        self.assert_owner_learns_nothing(server, "1.1", "1.3", "mixed", PF)
        for host in ("mixed", "mixed2"):
            self.assert_nothing_left_on(host, server)
        self.run_periodic()
        self.assertEqual([0, 0], [self.failed_builds(host) for host in ("mixed", "mixed2")])

    def test_fewer_hosts_than_attempts(self):
        """Nova's own words then, which tell as little."""
        self.start(mixed=("1.1", "1.5"))
        server = self.boot(None, PINNED, expect="ERROR")
        self.assertIn("Exhausted all hosts", server["fault"]["message"])
        self.assertEqual(1, len(self.last_action(server)[events.REFUSED]))
        self.assert_owner_learns_nothing(server, "1.1", "1.3", "mixed", PF)

    def test_no_second_attempt_allowed(self):
        self.flags(max_attempts=1, group="scheduler")
        self.start(mixed=("1.1", "1.5"), good=("1.5", "1.5"))
        self.prefer_hosts("mixed", "good")
        server = self.boot(None, PINNED, expect="ERROR")
        self.assertEqual(words.CANNOT_ACT, server["fault"]["message"])
        self.run_periodic()
        self.assertEqual(0, self.failed_builds("mixed"))


class UnshelveTest(UnlikeFunctions):
    def test_it_stays_shelved(self):
        self.start(home=("1.5", "1.5"), mixed=("1.1", "1.5"))
        server = self.boot("home", PINNED)
        self.flags(shelved_offload_time=0)
        self.useFixture(fixtures.MockPatch("nova.virt.libvirt.driver.LibvirtDriver.snapshot"))
        self.api.post_server_action(server["id"], {"shelve": None})
        self._wait_for_state_change(server, "SHELVED_OFFLOADED")
        self.prefer_hosts("mixed", "home")
        with self.casts_that_fail():
            self.api.post_server_action(server["id"], {"unshelve": None})
        self._wait_for_server_parameter(
            server, {"status": "SHELVED_OFFLOADED", "OS-EXT-STS:task_state": None}
        )
        self.assert_owner_learns_nothing(server, "1.1", "1.3", "mixed", PF)


class Refusing:
    # As calls, the source's error would come back to the destination, which would clean up for it.
    CASTS_WAIT = False

    def refused(self, server, action, status="ACTIVE"):
        """Have the source refuse a move."""
        self.api.post_server_action(server["id"], action)

        def ended():
            found = self.last_action(server).get("compute_resize_instance", [])
            return [one["result"] for one in found] == ["Error"]

        self.progress.wait_until(ended, "the source to refuse")
        self._wait_for_server_parameter(server, {"status": status, "OS-EXT-STS:task_state": None})


class MoveTest(Refusing, UnlikeFunctions):
    """A resize and a cold migration: the guest stays as it is where it is."""

    def setUp(self):
        super().setUp()
        self.start(home=("1.5", "1.5"), mixed=("1.1", "1.5"))

    def assert_kept(self, server, record):
        self.assertEqual("home", self.host_of(server))
        self.assertEqual(record, self.record_of(server))
        self.assertEqual(["error"], [one.status for one in self.migrations(server)])
        (event,) = self.last_action(server)[events.REFUSED]
        self.assertEqual("home", event["host"], "the source is the last that can keep it")
        self.assertIn("nic.fw_version: needs 1.3, offered 1.1", event["traceback"])
        self.assert_nothing_left_on("mixed", server)
        self.run_periodic()
        self.assert_nothing_left_on("mixed", server)
        self.assert_owner_learns_nothing(server, "1.1", "1.3", "mixed", PF)

    def test_cold_migration(self):
        server = self.boot("home", PINNED)
        record = self.record_of(server)
        self.refused(server, {"migrate": None})
        self.assert_kept(server, record)

    def test_resize(self):
        server = self.boot("home")
        self.prefer_hosts("mixed", "home")
        flavor = self.make_flavor(PINNED)
        self.refused(server, {"resize": {"flavorRef": flavor}})
        self.assert_kept(server, None)

    def test_a_stopped_guest_stays_stopped(self):
        server = self.boot("home", PINNED)
        self.api.post_server_action(server["id"], {"os-stop": None})
        self._wait_for_state_change(server, "SHUTOFF")
        self.refused(server, {"migrate": None}, "SHUTOFF")
        self.assertEqual("home", self.host_of(server))

    def test_a_device_that_fits(self):
        server = self.boot("home", PINNED)
        self.set_devices("mixed", nic("1.5", PF), nic("1.1", PF_2))
        self.settle()
        self.api.post_server_action(server["id"], {"migrate": None})
        self._wait_for_state_change(server, "VERIFY_RESIZE")
        self.assertEqual("mixed", self.host_of(server))
        self.assertEqual({"nic.fw_version=1.3"}, self.needed(server))

    def test_a_flavor_without_pins(self):
        server = self.boot("home", VF)
        self.api.post_server_action(server["id"], {"migrate": None})
        self._wait_for_state_change(server, "VERIFY_RESIZE")
        self.assertEqual("mixed", self.host_of(server))

    def test_report_mode(self):
        server = self.boot("home", PINNED)
        self.flags(mode="report", group="devcompat")
        with self.logs.during() as lines:
            self.api.post_server_action(server["id"], {"migrate": None})
            self._wait_for_state_change(server, "VERIFY_RESIZE")
        (line,) = lines.find(r"Report mode: this host would refuse the instance \(1 so far\)")
        self.assertIn("offered 1.1", line.text)

    def test_what_cannot_be_found_out(self):
        """UNKNOWN, as everywhere."""
        server = self.boot("home", PINNED)
        record = self.record_of(server)
        broken = fixtures.MockPatch(
            "nova.objects.Migration.get_by_id_and_instance", side_effect=RuntimeError("gone")
        )
        with broken, self.logs.during() as lines:
            self.refused(server, {"migrate": None})
        self.assertTrue(lines.find("What the instance is given could not be told"))
        self.assertEqual("home", self.host_of(server))
        self.assertEqual(record, self.record_of(server))
        self.flags(on_unknown="accept", group="devcompat")
        with broken:
            self.api.post_server_action(server["id"], {"migrate": None})
            self._wait_for_state_change(server, "VERIFY_RESIZE")


class AllocatedTest(Refusing, WordsFleet):
    """Devices that placement allocates, where the scheduler's filter is passed by."""

    def setUp(self):
        super().setUp()
        for name, version in {"home": "2.4", "old": "2.1"}.items():
            self.set_devices(name, gpu(version))
            self.start_host(name, gpus=[base.Gpu()])
        self.make_flavor({**VGPU, GPU_PIN: "2.3"})
        self.settle()
        self.server = self.boot("home", {**VGPU, GPU_PIN: "2.3"})
        self.without_filter()

    def test_published_versions_decide(self):
        self.refused(self.server, {"migrate": None})
        self.assertEqual("home", self.host_of(self.server))
        (event,) = self.last_action(self.server)[events.REFUSED]
        self.assertIn("gpu.version: needs 2.3, offered 2.1", event["traceback"])
        self.assert_nothing_left_on("old", self.server)
        self.assertNotEqual(Need(), self.record_of(self.server))

    def test_a_destination_that_publishes_nothing(self):
        self.set_stats("old", None)
        self.refused(self.server, {"migrate": None})
        (event,) = self.last_action(self.server)[events.REFUSED]
        self.assertIn("host-silent", event["traceback"])
