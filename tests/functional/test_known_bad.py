# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Known-bad pairs, and policies that an operator changes in a hurry, on real Nova."""

import contextlib
import datetime
import io
import json
import time
from unittest import mock

import fixtures
import yaml

from nova_devcompat.cli.main import main
from nova_devcompat.compute.admission import Admission
from nova_devcompat.scheduler.filters import DeviceCompatFilter
from tests.functional import base
from tests.functional.devcompat import VGPU, DeviceCompatFleet, device

FAMILIES = {
    "gpu": {
        "match": {"device": "gpu"},
        "source": "static",
        # Of drivers no rule says anything.
        "rules": {"version": "semver"},
    }
}


def entry(name, need, offer, **others):
    return {
        "name": name,
        "family": "gpu",
        "offer": offer,
        "message": "the state does not load",
        "url": f"https://example.org/{name}",
        **need,
        **others,
    }


#: Guests of driver 4 on driver 5; a driver that loads nothing of its own; a type that placement
#: could choose by, did hosts not take it out.
LIST = [
    entry(
        "driver-4-to-5",
        {"origin": {"driver": "<5"}},
        {"driver": ">=5,<6"},
        until={"offer": {"mended": "1"}},
        ordering="numeric",
    ),
    entry("driver-7-to-7", {"need": {"driver": "7"}}, {"driver": "same"}),
    entry("version-1.1-to-6", {"need": {"version": "1.1"}}, {"driver": "6"}),
]

NAMES = [one["name"] for one in LIST]


def gpu(driver, version="1.0", **others):
    return device("0000:81:00.0", "gpu", version=version, driver=driver, **others)


class _Fleet(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}
    FAMILIES = FAMILIES

    def configure(self):
        super().configure()
        self.list_file = self.catalog_file.with_name("known-bad.yaml")
        self.write_list(LIST)
        self.flags(known_bad=[str(self.list_file)], group="devcompat")

    def write_list(self, entries):
        content = {"meta": {"schema_version": "1.0"}, "known_bad": entries}
        self.list_file.write_text(yaml.safe_dump(content))

    def start(self, **drivers):
        for name, driver in drivers.items():
            self.set_devices(name, gpu(driver))
            self.start_host(name, gpus=[base.Gpu()])
        self.settle()

    def assert_bad(self, server, host, name, home="a"):
        """Refused by the scheduler, and by the host itself where that is passed by."""
        with self.logs.during() as lines:
            moved = self.live_migrate(server, host)
        self.assert_stays(home, moved, server)
        self.assertEqual([], moved.tried)
        self.assertTrue(lines.find(rf"No host accepts .*{host}: .*{name}: the state does not"))
        with self.logs.during() as lines:
            moved = self.migrate_unfiltered(server, host)
        self.assert_stays(home, moved, server)
        self.assertEqual([host], moved.tried)
        refused = lines.find("Live migration to this host refused")
        self.assertTrue(refused)
        for line in refused:
            self.assertRegex(line.text, rf"{name}: the state does not load .*known-bad")

    def migrate_unfiltered(self, server, host):
        """Past our part of the scheduler: Nova forces no guest that has a vGPU."""
        self.flags(prefilter=False, group="devcompat")
        with mock.patch.object(DeviceCompatFilter, "filter_all", lambda _, hosts, spec: hosts):
            moved = self.live_migrate(server, host)
        self.flags(prefilter=True, group="devcompat")
        return moved

    def reboot(self, server):
        self.api.post_server_action(server["id"], {"reboot": {"type": "HARD"}})
        self._wait_for_server_parameter(
            server, {"status": "ACTIVE", "OS-EXT-STS:task_state": None}
        )


class KnownBadTest(_Fleet):
    def test_pairs(self):
        self.start(a="4", b="5")
        server = self.boot("a", VGPU)
        self.assertEqual({"gpu.version=1.0", "gpu.driver_origin=4"}, self.needed(server))
        # It costs no trait.
        self.assertNotIn("ORIGIN", " ".join(self.our_traits("a") | self.our_traits("b")))
        self.assert_bad(server, "b", "driver-4-to-5")
        # The other way it goes.
        other = self.boot("b", VGPU)
        self.assert_moved("a", self.live_migrate(other, "a"))
        # And back: what it was started on sticks to it.
        self.assert_moved("b", self.live_migrate(other, "b"))

        # Its own host is upgraded under it: that changes nothing before it is started anew.
        self.set_devices("a", gpu("5"))
        self.settle()
        self.assert_bad(server, "b", "driver-4-to-5")
        self.reboot(server)
        self.assertIn("gpu.driver_origin=5", self.needed(server))
        self.assert_moved("b", self.live_migrate(server, "b"))

        # Nobody asks any more what guests were started on, and so they need nothing of it.
        self.write_list(LIST[2:])
        self.settle()
        self.run_periodic()
        self.assertEqual({"gpu.version=1.0"}, self.needed(server))
        self.assert_moved("a", self.live_migrate(server, "a"))

    def test_until_the_host_is_mended(self):
        """While nova-compute runs; placement chooses the host that is."""
        self.start(a="4", b="5", c="5")
        server = self.boot("a", VGPU)
        self.assert_bad(server, "b", "driver-4-to-5")
        self.set_devices("b", gpu("5", mended="1"))
        self.settle()
        self.prefer_hosts("c", "b")
        moved = self.live_migrate(server)
        self.assert_moved("b", moved)
        self.assertEqual(["b"], moved.tried)

    def test_bad_to_itself(self):
        self.start(a="7", b="7", c="6")
        server = self.boot("a", VGPU)
        # It stays where it is: it can be restarted there.
        self.reboot(server)
        self.assert_bad(server, "b", "driver-7-to-7")
        self.assert_moved("c", self.live_migrate(server, "c"))

    def test_no_trait_stands_for_what_is_bad(self):
        # A host that takes it, so that the others know of it.
        self.start(a="6", b="6", c="4")
        self.set_devices("c", gpu("4", version="1.1"))
        self.set_devices("a", gpu("6", version="1.1"))
        self.set_devices("b", gpu("6", version="1.2"))
        self.settle()
        self.run_periodic()
        server = self.boot("a", VGPU)
        self.assertIn("GPU__VERSION__1_0", self.our_traits("b"))
        self.assertNotIn("GPU__VERSION__1_1", self.our_traits("b"))
        self.assert_bad(server, "b", "version-1.1-to-6")
        # A flavor may pin it: a guest that starts comes with nothing.
        pinned = self.boot("b", {**VGPU, "devcompat:gpu.version": "1.1"})
        self.assertEqual("b", self.host_of(pinned))

        # The list is emptied of it, on paper first; then the services see it.
        self.write_list(LIST[:2])
        files = [str(self.catalog_file), "--known-bad", str(self.list_file)]
        self.assertEqual(0, main(["catalog", "validate", *files]))
        self.settle()
        self.run_periodic()
        self.assert_moved("b", self.live_migrate(server, "b"))

    def test_guests_do_as_the_matrix_says(self):
        """On paper, from the very files that the hosts have: each guest, to each other host."""
        self.start(a="4", b="5", c="7", d="7")
        moves = self.matrix()
        self.assertEqual({"accept", "reject"}, {verdict for verdict, _ in moves.values()})
        names = {name for _, reason in moves.values() for name in NAMES if name in reason}
        self.assertEqual({"driver-4-to-5", "driver-7-to-7"}, names)
        for home in "abcd":
            server = self.boot(home, VGPU)
            # A guest that has moved has a new home, so what is refused comes first.
            hosts = sorted(set("abcd") - {home}, key=lambda to: moves[home, to][0] == "accept")
            for to in hosts:
                verdict, reason = moves[home, to]
                if verdict == "accept":
                    self.assert_moved(to, self.live_migrate(server, to))
                    break
                (name,) = (each for each in NAMES if each in reason)
                self.assert_bad(server, to, name, home=home)
            self.api.delete_server(server["id"])
            self._wait_until_deleted(server)

    def matrix(self):
        """What ``matrix`` says, by source and destination: the verdict and the reason."""
        files = ["--catalog", self.catalog_file, "--known-bad", self.list_file]
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            argv = ["matrix", *map(str, files), "--inventory", str(self.inventory_file)]
            self.assertEqual(0, main([*argv, "-f", "json"]))
        return {
            (move["source_host"], move["destination_host"]): (move["verdict"], move["reason"])
            for move in json.loads(out.getvalue())
        }


class PoliciesTest(DeviceCompatFleet):
    """Off and on again by two lines, in services that run on."""

    MDEV_TYPES = {"nvidia-11": ()}

    def test_off_and_on(self):
        self.start_gpu_hosts(a="1.2", b="1.0")
        server = self.boot("a", VGPU)
        self.assert_stays("a", self.live_migrate(server), server)

        with self.logs.during() as lines:
            self.set_policies({"*": {"mode": "report"}})
            moved = self.live_migrate(server)
        self.assert_moved("b", moved)
        self.assertTrue(
            lines.find("In force( now)?: gpu: report today, on_unknown reject; from .*polic")
        )
        self.assertTrue(lines.find("Report mode: this host would refuse"))
        self.assert_moved("a", self.live_migrate(server))

        self.set_families(self.FAMILIES)
        with self.logs.during() as lines:
            self.assert_stays("a", self.live_migrate(server), server)
        self.assertTrue(lines.find("In force( now)?: gpu: enforce today, on_unknown reject"))
        # One attribute alone, which placement is not asked for then.
        self.set_policies({"gpu": {"rules": {"version": {"mode": "report"}}}})
        self.assert_moved("b", self.live_migrate(server))


class RisksTest(_Fleet):
    """Of the pairs above, some are let pass, and nothing else is."""

    def setUp(self):
        super().setUp()
        # Nova is set up here already, by its own fixtures.
        self.useFixture(
            fixtures.MonkeyPatch(
                "nova_devcompat.cli.need.nova", lambda files: contextlib.nullcontext()
            )
        )

    def configure(self):
        super().configure()
        risks = self.catalog_file.with_name("risks.yaml")
        self.flags(accepted_risks=str(risks), group="devcompat")

    def risk(self, *argv, status=0):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            ended = main(["risk", *argv])
        self.assertEqual(status, ended, out.getvalue() + err.getvalue())
        return out.getvalue() + err.getvalue()

    def accept(self, name, server, *argv, until=None, **others):
        until = (
            until or f"{datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1):%FT%R}"
        )
        options = ["--until", until, "--reason", "tested", "--who", "ann", *argv]
        return self.risk("accept", name, "--server", server["id"], *options, **others)

    def test_pairs(self):
        """One guest, one entry, no other, and not after its end."""
        self.start(a="4", b="5")
        server, other = self.boot("a", VGPU), self.boot("a", VGPU)
        name = "driver-4-to-5"
        self.assertIn("did you mean", self.accept("driver-4-to-6", server, status=2))
        self.assertIn("neither an entry", self.accept("not-the-same", server, status=2))
        self.assertIn("90 days", self.accept(name, server, until="2099-01-01", status=2))
        for beyond in ("9999-12-31T23:59-05:00", "soon"):
            self.assertIn("is no time", self.accept(name, server, until=beyond, status=2))
        self.assertIn("--who is empty", self.accept(name, server, "--who", " ", status=2))
        self.accept("driver-7-to-7", server)
        self.assert_bad(server, "b", name)
        self.accept(name, server, "--once")
        self.assertEqual(2, self.risk("list", "-f", "value").count("holds"))

        with self.logs.during() as lines:
            moved = self.live_migrate(server, "b")
        self.assert_moved("b", moved)
        told = r"driver-4-to-5, accepted by ann until .*: tested"
        self.assertTrue(lines.find(f"b is left for instance .* because of accepted.*{told}"))
        self.assertTrue(lines.find(f"Let pass because of accepted risks: .*{told}"))
        told = [one for one in self.events_of(server) if one["event"] == "devcompat_risk"]
        self.assertTrue(told and all("accepted by ann" in one["traceback"] for one in told))
        self.assertEqual({"Success"}, {one["result"] for one in told})
        # Not for another guest; nor for this one again, once it has moved.
        self.assert_bad(other, "b", name)
        self.assert_moved("a", self.live_migrate(server, "a"))
        self.assertNotIn(name, self.risk("list", "--all", "-f", "value"))
        self.assert_bad(server, "b", name)

        # It ends by itself.
        self.accept(name, other)
        with mock.patch(
            "nova_devcompat.stores.risks.now",
            lambda: datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2),
        ):
            self.assert_bad(other, "b", name)
        # What the owner writes into the metadata of a guest does not count.
        self.risk("revoke", name, "--server", other["id"])
        self.api.api_put(
            f"/servers/{other['id']}/metadata/devcompat:risk:{name}",
            {"meta": {f"devcompat:risk:{name}": "x"}},
        )
        self.assert_bad(other, "b", name)

    def test_until_the_host_is_mended(self):
        """A host of which a risk is accepted takes what it names; revoked in mid-migration."""
        self.start(a="4", b="5", c="5")
        server = self.boot("a", VGPU)
        name = "driver-4-to-5"
        until = f"{datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1):%F}"
        options = ("--until", until, "--reason", "tested", "--who", "ann")
        self.risk("accept", name, "--host", "b", *options)
        time.sleep(1.1)  # the services look at the file once a second
        self.assert_bad(server, "c", name)
        self.assert_moved("b", self.live_migrate(server))
        self.assert_moved("a", self.live_migrate(server, "a"))
        self.risk("revoke", name, "--host", "b")
        time.sleep(1.1)
        self.assert_bad(server, "b", name)

        self.accept(name, server)
        admit = Admission._admit
        looks = []

        def revoked(*args, **kwargs):
            looks.append(args)
            admit(*args, **kwargs)
            if len(looks) == 1:
                self.risk("revoke", name, "--server", server["id"])

        with mock.patch.object(Admission, "_admit", revoked):
            with self.logs.during() as lines:
                moved = self.live_migrate(server, "b")
        # The last look is the one that refuses, just before the copy.
        self.assertEqual((2, "a", ["b"]), (len(looks), moved.host, moved.tried))
        self.assertTrue(lines.find(f"Live migration to this host refused: .*{name}"))

    def test_bad_to_itself(self):
        """Another reason that is there, too, refuses as before."""
        self.start(a="7", b="7")
        server = self.boot("a", VGPU)
        self.set_devices("b", gpu("7", version="0.9"))
        self.settle()
        self.accept("driver-7-to-7", server)
        with self.logs.during() as lines:
            moved = self.migrate_unfiltered(server, "b")
        self.assert_stays("a", moved, server)
        (line,) = lines.find("Live migration to this host refused")
        self.assertIn("major-differs", line.text)
        self.assertNotIn("known-bad", line.text)
