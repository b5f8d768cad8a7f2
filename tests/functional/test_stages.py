# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Stages: what is required changes when a date comes, in services that run on."""

import contextlib
import datetime

import fixtures

from tests.functional import base
from tests.functional.devcompat import CATALOG, VGPU, DeviceCompatFleet, device

STAGES = [
    {"from": "2027-04-01", "mode": "report"},
    {"from": "2027-10-01", "mode": "enforce"},
]


class StagesFleet(DeviceCompatFleet):
    """Two hosts, the second of which is too old for what starts on the first."""

    MDEV_TYPES = {"nvidia-11": ()}

    def start_two(self, home, other):
        for name, attributes in (("home", home), ("other", other)):
            self.set_devices(name, device("0000:81:00.0", "gpu", **attributes))
            self.start_host(name, gpus=[base.Gpu()])
        self.settle()
        return self.boot("home", VGPU)

    @contextlib.contextmanager
    def on(self, day):
        """The services take this day for today."""
        told = fixtures.MonkeyPatch(
            "nova_devcompat.catalog.stages._today", lambda: datetime.date.fromisoformat(day)
        )
        with told:
            yield

    def migrate_on(self, day, server):
        with self.on(day), self.placement_log.during() as calls, self.logs.during() as lines:
            moved = self.live_migrate(server)
        asked = {trait for call in calls.candidates[:1] for trait in call.required}
        return moved, lines, {trait for trait in asked if "DEVCOMPAT" in trait}


class FamilyStagesTest(StagesFleet):
    FAMILIES = {"gpu": {**CATALOG["gpu"], "stages": STAGES}}

    def test_announced_reported_enforced(self):
        server = self.start_two({"version": "1.2"}, {"version": "1.0"})
        # Learnt and published from the start.
        self.assertEqual({"gpu.version=1.2"}, self.needed(server))
        self.assertIn("GPU__VERSION__1_2", self.our_traits("home"))

        moved, lines, asked = self.migrate_on("2027-03-31", server)
        self.assert_moved("other", moved)
        self.assertEqual((set(), []), (asked, lines.find("Report mode|rejected|refused")))
        self.assert_moved("home", self.migrate_on("2027-03-31", server)[0])

        moved, lines, asked = self.migrate_on("2027-04-01", server)
        self.assert_moved("other", moved)
        self.assertEqual(set(), asked)
        self.assertTrue(lines.find(r"Report mode: 1 of 1 hosts would be rejected.*other: gpu"))
        self.assertTrue(lines.find("Report mode: this host would refuse"))
        self.assert_moved("home", self.migrate_on("2027-04-01", server)[0])

        for prefilter in (True, False):
            self.flags(prefilter=prefilter, group="devcompat")
            moved, lines, asked = self.migrate_on("2027-10-01", server)
            self.assert_stays("home", moved, server)
            self.assertEqual(prefilter, bool(asked))
            self.assertTrue(lines.find(r"No host accepts .*other: gpu\.version: needs 1\.2"))


class AdmissionStagesTest(StagesFleet):
    """The destination by itself: the scheduler runs without our filter."""

    FAMILIES = FamilyStagesTest.FAMILIES
    EXTRA_FILTERS = ()

    def test_enforced_on_the_day(self):
        server = self.start_two({"version": "1.2"}, {"version": "1.0"})
        moved, lines, _ = self.migrate_on("2027-10-01", server)
        self.assert_stays("home", moved, server)
        self.assertTrue(lines.find("Live migration to this host refused: gpu.version"))
        moved, lines, _ = self.migrate_on("2027-09-30", server)
        self.assert_moved("other", moved)
        self.assertTrue(lines.find("Report mode: this host would refuse"))


class RuleStagesTest(StagesFleet):
    """One rule of a family waits while the other is enforced."""

    FAMILIES = {
        "gpu": {
            **CATALOG["gpu"],
            "rules": {"version": "semver", "caps": {"kind": "superset", "stages": STAGES}},
        }
    }

    def test_only_the_rule_waits(self):
        server = self.start_two(
            {"version": "1.2", "caps": ["p2p"]}, {"version": "1.2", "caps": []}
        )
        version = {"CUSTOM_DEVCOMPAT_GPU__VERSION__1_2"}
        caps = {"CUSTOM_DEVCOMPAT_GPU__CAPS__P2P"}
        moved, lines, asked = self.migrate_on("2027-04-01", server)
        self.assert_moved("other", moved)
        self.assertEqual(version, asked)
        for line in lines.find("Report mode: this host would refuse"):
            self.assertRegex(line.text, r"gpu\.caps: needs p2p")
            self.assertNotIn("version", line.text.partition("refuse")[2])
        self.assert_moved("home", self.migrate_on("2027-04-01", server)[0])

        moved, lines, asked = self.migrate_on("2027-10-01", server)
        self.assert_stays("home", moved, server)
        self.assertEqual(version | caps, asked)

        # The other rule is enforced all along.
        self.set_devices("other", device("0000:81:00.0", "gpu", version="1.0", caps=["p2p"]))
        self.settle()
        moved, lines, asked = self.migrate_on("2027-03-31", server)
        self.assert_stays("home", moved, server)
        self.assertEqual(version, asked)
        self.assertTrue(lines.find(r"No host accepts .*other: gpu\.version: needs 1\.2"))
