# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What one host publishes that nobody can read is its own affair."""

import contextlib
import io
import json
import re

from nova_devcompat import wire
from nova_devcompat.cli.main import main
from tests.functional.devcompat import VGPU
from tests.functional.test_need_command import NeedCommandFleet


class GarbageTest(NeedCommandFleet):
    """The host "evil" says something wrong of its GPU."""

    WEIGHT_CLASSES = (
        "nova.scheduler.weights.all_weighers",
        "nova_devcompat.scheduler.weights.all_weighers",
    )

    def setUp(self):
        super().setUp()
        for name in ("b", "evil"):
            self.start_one(name, "1.2")
        self.good = self.boot("b", VGPU)
        self.guest = self.boot("evil", VGPU)
        for server in (self.good, self.guest):
            self.forget(server)
        self.text = self.stats_of("evil")[wire.STATS_KEY]

    def forget(self, server):
        instance = self.instance(server)
        for key in [key for key in instance.system_metadata if wire.is_record_key(key)]:
            del instance.system_metadata[key]
        instance.save()

    def ask(self, *argv):
        """Run the command, which may say that it passed something over."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            self.assertIn(main(["need", *argv, "-f", "json"]), (0, 1))
        self.assertNotIn("Traceback", err.getvalue())
        return {row["instance"] for row in json.loads(out.getvalue())}

    def test_each_in_its_turn(self):
        self.assertEqual({self.good["id"], self.guest["id"]}, self.ask("list", "--missing"))
        provider = re.search(r'\["([0-9a-f-]{36})"\]', self.text)[1]
        wrong = {
            "a family that is none": self.text.replace('"f":"gpu"', '"f":"GPU!"'),
            "a provider that is no UUID": self.text.replace(provider, f"{provider}?x="),
            "a line break": self.text.replace('"o":"1.2"', '"o":"1.2\\nforged"'),
            "cut off": self.text[:-40],
            "a list": "[]",
            "nothing": "",
        }
        for what, text in wrong.items():
            self.assertNotEqual(self.text, text, what)
            self.set_stats("evil", text)
            with self.logs.during() as lines, self.placement_log.during() as calls:
                self.boot("b", VGPU)
                self.boot(None, VGPU)
                found = self.ask("list", "--missing")
                self.ask("backfill", "--dry-run")
            self.assertEqual([], lines.find(logger="nova_devcompat").errors, what)
            self.assertFalse(lines.find("forged"), what)
            self.assertIn(self.good["id"], found, what)
            for call in calls:
                self.assertEqual(re.sub(r"[?&]x=", "", str(call)), str(call), what)
