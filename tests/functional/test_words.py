# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the owner of a project reads of a refusal, and what an administrator does."""

from unittest import mock

import fixtures
from nova import context as nova_context
from nova.scheduler.client import report
from nova.tests import fixtures as nova_fixtures

from nova_devcompat.compat import words
from nova_devcompat.stores import events
from tests.functional import base
from tests.functional.devcompat import VGPU, DeviceCompatFleet

GPU_PIN = "devcompat:gpu.version"


class WordsFleet(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}

    def setUp(self):
        super().setUp()
        # Nova's tests have policies of their own, which show everybody everything.
        self.policy = self.useFixture(nova_fixtures.RealPolicyFixture())
        self.owner = self.api_fixture.api
        self.owner.microversion = "latest"

    def last_action(self, server, api=None):
        """The events of a server's newest action by name, as someone sees them."""
        found = {}
        for event in self.events_of(server, api):
            found.setdefault(event["event"], []).append(event)
        return found

    def fault_of(self, server):
        """The fault's message, which is shown of servers that are in error only."""
        self.api.post_server_action(server["id"], {"os-resetState": {"state": "error"}})
        return self.owner.get_server(server["id"]).get("fault", {}).get("message", "")

    def assert_owner_learns_nothing(self, server, *secrets):
        # Times and hashes may hold any digits.
        passed_over = {"start_time", "finish_time", "hostId"}
        shown = [
            {key: value for key, value in event.items() if key not in passed_over}
            for event in self.events_of(server, self.owner)
        ]
        seen = str([shown, self.fault_of(server)])
        for secret in (*secrets, "too old", "minor-too-old"):
            self.assertNotIn(secret, seen)

    def without_filter(self):
        self.useFixture(
            fixtures.MonkeyPatch(
                "nova_devcompat.scheduler.filters.DeviceCompatFilter.filter_all",
                lambda filter_, hosts, spec: hosts,
            )
        )
        self.flags(prefilter=False, group="devcompat")


class RefusedDestinationTest(WordsFleet):
    def test_each_host_that_refused(self):
        self.start_gpu_hosts(home="1.2", old="1.0", older="1.1")
        server = self.boot("home", VGPU)
        self.without_filter()
        moved = self.live_migrate(server)
        self.assert_stays("home", moved, server)
        self.assertEqual({"old", "older"}, set(moved.tried))
        for attempt in moved.attempts:
            self.assertIn(words.CANNOT_ACT, attempt.refusal)
            self.assertNotIn("1.2", attempt.refusal)
        refused = {one["host"]: one for one in self.last_action(server)[events.REFUSED]}
        self.assertEqual({"old", "older"}, set(refused))
        for host, version in {"old": "1.0", "older": "1.1"}.items():
            event = refused[host]
            self.assertEqual("Error", event["result"])
            self.assertIsNotNone(event["finish_time"])
            self.assertTrue(event["details"].startswith(words.CANNOT_ACT))
            self.assertEqual(
                f"gpu.version: needs 1.2, offered {version}, too old [semver, minor-too-old; "
                "upgrade the host]",
                event["traceback"],
            )
        (seen, _) = self.last_action(server, self.owner)[events.REFUSED]
        self.assertFalse({"details", "traceback", "host"} & seen.keys())
        self.assert_owner_learns_nothing(server, "1.0", "1.1", "1.2", "old")

    def test_a_database_that_does_not_take_it(self):
        self.start_gpu_hosts(home="1.2", old="1.0")
        server = self.boot("home", VGPU)
        self.without_filter()
        broken = fixtures.MockPatch(
            "nova.objects.InstanceActionEvent.create", side_effect=RuntimeError("full")
        )
        with broken, self.logs.during() as lines:
            moved = self.live_migrate(server)
        self.assert_stays("home", moved, server)
        self.assertIn(words.CANNOT_ACT, moved.attempts[0].refusal)
        self.assertTrue(lines.find("No event devcompat_refused could be added to instance"))


class NoHostTest(WordsFleet):
    def test_a_live_migration(self):
        self.start_gpu_hosts(home="1.2", old="1.0", older="1.1")
        server = self.boot("home", VGPU)
        for prefilter in (True, False):
            self.flags(prefilter=prefilter, group="devcompat")
            with self.logs.during() as lines:
                moved = self.live_migrate(server)
            self.assert_stays("home", moved, server)
            (line,) = lines.find("No host accepts")
            (event,) = self.last_action(server)[events.NO_HOST]
            hosts = event["traceback"].splitlines()[1:]
            self.assertEqual(2, len(hosts))
            self.assertTrue(line.text.endswith(" | ".join(hosts)), "the log names the same")
            self.assertIn("needs 1.2, offered 1.0", event["traceback"])
            self.assertIn("2 rejected", event["details"])
        self.assert_owner_learns_nothing(server, "1.0", "1.1", "1.2", "old")

    def test_as_many_hosts_as_the_log_names(self):
        self.useFixture(fixtures.MonkeyPatch("nova_devcompat.scheduler.explain.HOSTS_NAMED", 1))
        self.start_gpu_hosts(home="1.2", old="1.0", older="1.1")
        server = self.boot("home", VGPU)
        self.live_migrate(server)
        (event,) = self.last_action(server)[events.NO_HOST]
        self.assertEqual(3, len(event["traceback"].splitlines()))
        self.assertTrue(event["traceback"].endswith("\nand 1 more"))

    def test_a_cold_migration(self):
        self.start_gpu_hosts(home="1.2", lame="1.0")
        specs = {**VGPU, GPU_PIN: "1.2"}
        self.make_flavor(specs)
        self.settle()
        server = self.boot("home", specs)
        with self.casts_that_fail():
            self.api.post_server_action(server["id"], {"migrate": None})
        (event,) = self.last_action(server)[events.NO_HOST]
        self.assertIn("lame: gpu.version: needs 1.2, offered 1.0", event["traceback"])
        self.assert_owner_learns_nothing(server, "1.0", "1.2", "lame")

    def test_a_first_boot(self):
        """It may be in no cell yet, hence without an action: the log is what one can rely on."""
        self.start_gpu_hosts(old="1.0")
        specs = {**VGPU, GPU_PIN: "1.2"}
        self.make_flavor(specs)
        self.settle()
        with self.logs.during() as lines:
            server = self.boot(None, specs, expect="ERROR")
        self.assertTrue(lines.find("No host accepts"))
        self.assertEqual([], lines.find(logger="nova_devcompat").errors)
        self.assert_owner_learns_nothing(server, "1.0", "1.2", "old")

    def test_placement_that_does_not_take_a_trait(self):
        self.start_gpu_hosts(home="1.2", other="1.2")
        server = self.boot("home", VGPU)
        client = report.SchedulerReportClient

        def refusing(original):
            def refuse(client, url, *args, **kwargs):
                if url.startswith(("/traits/", "/traits?name=in:")):
                    return mock.Mock(status_code=503, text="secret")
                return original(client, url, *args, **kwargs)

            return refuse

        with (
            mock.patch.object(client, "put", refusing(client.put)),
            mock.patch.object(client, "get", refusing(client.get)),
        ):
            moved = self.live_migrate(server)
        self.assert_stays("home", moved, server)
        self.assertIn(words.NOT_FOUND_OUT, moved.error)


class EventsTest(WordsFleet):
    """Whatever is said, Nova's columns take it."""

    def test_long_and_strange_texts(self):
        self.start_gpu_hosts(home="1.2")
        server = self.boot("home", VGPU)
        context = nova_context.RequestContext(
            "user", "project", request_id=self.last_request(server), is_admin=True
        )
        lines = [f"cmp{number}: \U0001f600 {'x' * 90}\nforged: line" for number in range(1000)]
        with self.logs.during() as log:
            events.add_in_cell(
                context, server["id"], events.NO_HOST, summary="s" * 300, lines=lines, host="h"
            )
        self.assertEqual([], log.find(logger="nova_devcompat").errors)
        (event,) = self.last_action(server)[events.NO_HOST]
        self.assertEqual("s" * 252 + "...", event["details"])
        self.assertEqual(16_000, len(event["traceback"]))
        self.assertTrue(event["traceback"].isascii())
        first, *_ = event["traceback"].splitlines()
        self.assertTrue(first.endswith("x forged: line"))

    def test_without_an_action(self):
        self.start_gpu_hosts(home="1.2")
        server = self.boot("home", VGPU)
        context = nova_context.RequestContext(
            "user", "project", request_id=f"req-{base.IMAGE}", is_admin=True
        )
        with self.logs.during() as lines:
            events.add_in_cell(
                context, server["id"], events.NO_HOST, summary="s", lines=["l"], host="h"
            )
            events.add_in_cell(
                context, base.IMAGE, events.NO_HOST, summary="s", lines=["l"], host="h"
            )
        self.assertEqual([], lines.find(logger="nova_devcompat").errors)
        self.assertNotIn(events.NO_HOST, self.last_action(server))

    def last_request(self, server):
        found = self.api.api_get(f"/servers/{server['id']}/os-instance-actions").body
        return found["instanceActions"][0]["request_id"]
