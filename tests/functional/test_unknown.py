# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is not known, or broken, is decided by policy, and never ends in a traceback."""

import json
import logging
from unittest import mock

from keystoneauth1 import exceptions as ks_exc
from nova.scheduler.client import report
from oslo_db import exception as db_exc

from nova_devcompat import wire
from nova_devcompat.compat import traits
from nova_devcompat.compat.need import Need
from nova_devcompat.scheduler import lookup
from tests.functional import base
from tests.functional.base import VF_BY_ID, VF_SPEC
from tests.functional.devcompat import (
    CATALOG,
    VF,
    VGPU,
    DeviceCompatFleet,
    gpu,
)


class UnknownFleet(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}

    def start_two(self):
        """A guest at home, and another host of which nothing can be known."""
        self.set_devices("home", gpu("1.2"))
        self.start_host("home", gpus=[base.Gpu()])
        self.start_host("other", gpus=[base.Gpu()])
        self.settle()
        return self.boot("home", VGPU)

    def migrate_quietly(self, server):
        """Migrate; no line of a traceback is allowed."""
        with self.logs.during() as lines:
            moved = self.live_migrate(server)
        # Nova logs NoValidHost as an error of its own.
        ours = lines.find(logger="nova_devcompat")
        self.assertEqual([], [str(line) for line in ours if "Traceback" in str(line)])
        self.assertEqual([], [str(line) for line in ours.errors])
        return moved, lines


class RejectUnknownTest(UnknownFleet):
    """on_unknown = reject, the default."""

    def assert_rejected(self, server, pattern):
        for prefilter in (True, False):
            self.flags(prefilter=prefilter, group="devcompat")
            moved, lines = self.migrate_quietly(server)
            self.assert_stays("home", moved, server)
            self.assertEqual([], moved.tried)
            (line,) = lines.find("No host accepts", level=logging.INFO)
            self.assertRegex(str(line), pattern)

    def test_a_host_that_publishes_no_device(self):
        self.assert_rejected(self.start_two(), r"other: gpu: .*device-unknown")

    def test_a_host_that_publishes_nothing(self):
        server = self.start_two()
        self.set_stats("other", None)
        self.assert_rejected(server, r"other: gpu: the host publishes nothing \[host-silent")

    def test_garbage_in_stats(self):
        server = self.start_two()
        for garbage in ("{", "[]", '"x"', '{"v":1}', '{"v":1,"c":"","g":[{"f":7}]}', "\x00", ""):
            self.set_stats("other", garbage)
            # Of a group without a family nobody can tell which it would be.
            self.assert_rejected(
                server,
                r"other: (gpu|device): .*\[host-unreadable; upgrade nova-devcompat on other, or",
            )

    def test_a_document_of_a_newer_format(self):
        server = self.start_two()
        self.set_stats("other", json.dumps({"v": wire.STATS_READ + 1, "new": "things"}))
        self.assert_rejected(server, r"format 3 by a newer nova-devcompat")

    def test_a_version_that_cannot_be_read(self):
        server = self.start_two()
        self.set_devices("other", gpu("banana"))
        self.settle()
        self.assert_rejected(server, r"other: gpu\.version: needs 1\.2, .*'banana'.*unreadable")


class AcceptUnknownTest(UnknownFleet):
    OPTIONS = {"on_unknown": "accept"}

    def assert_accepted(self, server):
        for prefilter, there in ((True, "other"), (False, "home")):
            self.flags(prefilter=prefilter, group="devcompat")
            with self.placement_log.during() as calls:
                moved, _ = self.migrate_quietly(server)
            self.assert_moved(there, moved)
            # No trait could be asked for: a host that publishes nothing has none.
            self.assertFalse([t for t in calls.candidates[0].required if "DEVCOMPAT" in t])

    def test_a_host_that_publishes_nothing(self):
        server = self.start_two()
        self.set_stats("other", None)
        self.assert_accepted(server)

    def test_garbage_in_stats(self):
        server = self.start_two()
        self.set_stats("other", "{")
        self.assert_accepted(server)

    def test_what_is_known_to_be_unfit_is_rejected_still(self):
        server = self.start_two()
        self.set_devices("other", gpu("1.0"))
        self.settle()
        moved, lines = self.migrate_quietly(server)
        self.assert_stays("home", moved, server)
        self.assertTrue(lines.find(r"No host accepts .*other: .*minor-too-old"))


class FamilyPolicyTest(UnknownFleet):
    """A family's own mode and on_unknown outweigh nova.conf's."""

    FAMILIES = {"gpu": {**CATALOG["gpu"], "on_unknown": "accept"}, "nic": CATALOG["nic"]}

    def test_on_unknown_of_the_family(self):
        server = self.start_two()
        self.set_stats("other", None)
        moved, _ = self.migrate_quietly(server)
        self.assert_moved("other", moved)

    def test_mode_of_the_family(self):
        self.set_families({"gpu": {**CATALOG["gpu"], "mode": "report"}})
        self.set_devices("home", gpu("1.2"))
        self.set_devices("other", gpu("1.0"))
        for name in ("home", "other"):
            self.start_host(name, gpus=[base.Gpu()])
        self.settle()
        server = self.boot("home", VGPU)
        # Files are looked at once a second at most.
        with self.placement_log.during() as calls, self.logs.during() as lines:
            moved = self.live_migrate(server)
        self.assert_moved("other", moved)
        self.assertFalse([t for t in calls.candidates[0].required if "DEVCOMPAT" in t])
        self.assertTrue(lines.find(r"Report mode: 1 of 1 hosts would be rejected.*other: gpu"))
        self.assertTrue(lines.find(r"Report mode: this host would refuse"))


class ReportModeTest(UnknownFleet):
    OPTIONS = {"mode": "report"}

    def test_logs_the_same_and_rejects_nothing(self):
        server = self.start_two()
        self.set_devices("other", gpu("1.0"))
        self.settle()
        moved, lines = self.migrate_quietly(server)
        self.assert_moved("other", moved)
        (line,) = lines.find("Report mode: 1 of 1 hosts would be rejected", level=logging.INFO)
        self.assertRegex(str(line), r"other: gpu\.version: needs 1\.2, offered 1\.0")

    def test_a_database_that_fails_is_passed_over(self):
        server = self.start_two()
        with self.logs.during() as lines, failing_look_ups():
            moved = self.live_migrate(server)
        self.assertEqual(["other"], moved.tried)
        self.assertTrue(lines.find("is not known; 1 of 1 hosts will do: .*DBConnectionError"))


class RecordTest(UnknownFleet):
    """Records that somebody else wrote, or nobody."""

    def setUp(self):
        super().setUp()
        self.set_devices("home", gpu("1.2"))
        self.set_devices("other", gpu("1.2"))
        for name in ("home", "other"):
            self.start_host(name, gpus=[base.Gpu()])
        self.settle()
        self.server = self.boot("home", VGPU)

    def set_record(self, value):
        instance = self.instance(self.server)
        for key in [key for key in instance.system_metadata if wire.is_record_key(key)]:
            del instance.system_metadata[key]
        if value is not None:
            instance.system_metadata["devcompat:need"] = value
        instance.save()

    def test_a_newer_record(self):
        self.set_record("9 1 00000000 something new")
        moved, lines = self.migrate_quietly(self.server)
        self.assert_stays("home", moved, self.server)
        self.assertEqual([], moved.tried)
        self.assertTrue(lines.find("; 0 of 1 hosts will do: .*written in format 9 by a newer"))

    def test_garbage(self):
        for garbage in ("", "x", "1 1 00000000 {}", "1 9 00000000 {", "1"):
            self.set_record(garbage)
            moved, lines = self.migrate_quietly(self.server)
            self.assert_stays("home", moved, self.server)
            self.assertTrue(lines.find("; 0 of 1 hosts will do: .*record-unreadable"))

    def test_admission_says_the_same(self):
        self.set_record("9 1 00000000 something new")
        self.flags(on_unknown="accept", group="devcompat")
        moved, _ = self.migrate_quietly(self.server)
        self.assert_moved("other", moved)

    def test_no_record_at_all(self):
        self.set_record(None)
        moved, lines = self.migrate_quietly(self.server)
        self.assert_stays("home", moved, self.server)
        self.assertTrue(
            lines.find(r"No host accepts .*of which no need is recorded.*need-missing")
        )
        self.flags(on_unknown="accept", group="devcompat")
        moved, _ = self.migrate_quietly(self.server)
        self.assert_moved("other", moved)


def failing_look_ups():
    """The database fails in the scheduler's look-up, and only there."""
    return mock.patch(
        "nova_devcompat.scheduler.lookup._instance",
        side_effect=db_exc.DBConnectionError("no route to host"),
    )


class FailureTest(UnknownFleet):
    """A look-up that fails is not taken for an answer."""

    def setUp(self):
        super().setUp()
        self.start_gpu_hosts(home="1.2", other="1.2")
        self.server = self.boot("home", VGPU)

    def test_database(self):
        for prefilter in (True, False):
            self.flags(prefilter=prefilter, group="devcompat")
            with self.logs.during() as lines, failing_look_ups():
                moved = self.live_migrate(self.server)
            self.assert_stays("home", moved, self.server)
            self.assertEqual([], moved.tried)
            self.assertIn("No valid host", moved.error)
            self.assertTrue(lines.find("; 0 of 1 hosts will do: .*DBConnectionError"))

    def test_placement(self):
        client = report.SchedulerReportClient

        def failing(original):
            def fail(client, url, *args, **kwargs):
                if url.startswith(("/traits/CUSTOM_DEVCOMPAT", "/traits?name=in:")):
                    raise ks_exc.ConnectFailure("no route to host")
                return original(client, url, *args, **kwargs)

            return fail

        with (
            self.logs.during() as lines,
            mock.patch.object(client, "put", failing(client.put)),
            mock.patch.object(client, "get", failing(client.get)),
        ):
            moved = self.live_migrate(self.server)
        self.assert_stays("home", moved, self.server)
        self.assertTrue(lines.find("No host will do.*placement did not take trait.*no route"))
        # It is no lasting damage.
        self.assert_moved("other", self.live_migrate(self.server))


class MissingTraitTest(UnknownFleet):
    def test_a_required_trait_that_is_gone(self):
        """Placement would answer 400 to a trait that it does not know."""
        self.start_gpu_hosts(home="1.2", other="1.2")
        server = self.boot("home", VGPU)
        name = traits.encode(traits.Atom("gpu", "version", "1.2"))
        self._forget_trait(name)

        with self.placement_log.during() as calls:
            moved = self.live_migrate(server)

        self.assert_stays("home", moved, server)
        self.assertEqual({200}, {call.status for call in calls.candidates})
        # Hosts publish it again in their next cycle.
        self._invalidate_provider_caches()
        self.settle()
        self.assert_moved("other", self.live_migrate(server))

    def _forget_trait(self, name):
        client = report.report_client_singleton()
        for host in self.computes:
            uuid = self._get_provider_uuid_by_name(host)
            found = client.get(f"/resource_providers/{uuid}/traits", version="1.6").json()
            left = [trait for trait in found["traits"] if trait != name]
            body = {
                "traits": left,
                "resource_provider_generation": found["resource_provider_generation"],
            }
            client.put(f"/resource_providers/{uuid}/traits", body, version="1.6")
        self.assertEqual(204, client.delete(f"/traits/{name}", version="1.6").status_code)

    def _invalidate_provider_caches(self):
        for compute in self.computes.values():
            compute.manager.rt.reportclient.clear_provider_cache()


class UnconcernedTest(DeviceCompatFleet):
    """Guests that nova-devcompat has nothing to do with."""

    DEVICE_SPEC = [VF_SPEC]
    ALIASES = [VF_BY_ID]
    PCI_IN_PLACEMENT = False

    def test_a_guest_without_devices(self):
        self.start_nic_hosts(a="1.0", b="1.2")
        with mock.patch.object(lookup, "_look_up", wraps=lookup._look_up) as look_up:
            server = self.boot("b")
            look_up.assert_not_called()
            with self.placement_log.during() as calls:
                moved = self.live_migrate(server)
        # A port may have been attached since.
        look_up.assert_called_once()
        self.assert_moved("a", moved)
        self.assertIsNone(self.record_of(server))
        (asked,) = calls.candidates
        self.assertFalse([trait for trait in asked.required if "DEVCOMPAT" in trait])

    def test_a_guest_with_devices_costs_one(self):
        self.start_nic_hosts(a="1.2", b="1.2")
        server = self.boot("b", VF)
        from nova_devcompat.scheduler import lookup

        with mock.patch.object(lookup, "_instance", side_effect=lookup._instance) as one:
            self.assert_moved("a", self.live_migrate(server))
        self.assertEqual(1, one.call_count)

    def test_a_device_of_no_family(self):
        for name in ("a", "b"):
            self.start_host(name, pfs=[base.Pf()])
        self.settle()
        server = self.boot("b", VF)
        self.assertEqual(Need(), self.record_of(server))
        self.assert_moved("a", self.live_migrate(server))
