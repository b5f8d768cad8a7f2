# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat drain check`` says where guests can go at the same time, and they can."""

import contextlib
import io
import json
from unittest import mock

import fixtures
import sqlalchemy
from keystoneauth1 import exceptions as ks_exc
from nova.db.api import models as api_models
from nova.scheduler.client import report

from nova_devcompat.cli.main import main
from nova_devcompat.scheduler import preview
from tests.functional import base
from tests.functional.base import VF_BY_CLASS, VF_BY_ID, VF_SPEC
from tests.functional.devcompat import CATALOG, VF, DeviceCompatFleet, nic
from tests.functional.test_need_command import controller, nova_devcompat


class DrainFleet(DeviceCompatFleet):
    """Hosts with two VFs each, and an operator."""

    def setUp(self):
        super().setUp()
        # Nova is set up here already, by its own fixtures.
        self.useFixture(
            fixtures.MonkeyPatch(
                "nova_devcompat.cli.question.nova", lambda files: contextlib.nullcontext()
            )
        )
        self.start_nic_hosts(a="1.2", b="1.2", c="1.2", d="1.0")

    def ask(self, *argv, status):
        """Rows by instance, and what was said beside."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            ended = main(["drain", "check", *argv, "-f", "json"])
        self.assertNotIn("Traceback", err.getvalue())
        self.assertEqual(status, ended, out.getvalue() + err.getvalue())
        rows = json.loads(out.getvalue()) if out.getvalue() else []
        return {row["instance"]: row for row in rows}, err.getvalue()

    def results(self, rows):
        return sorted(row["result"] for row in rows.values())

    def boot_apart(self, host, group):
        """A guest of a server group, on a host."""
        post = self.api.post_server

        def in_group(body):
            return post({**body, "os:scheduler_hints": {"group": group["id"]}})

        with mock.patch.object(self.api, "post_server", in_group):
            return self.boot(host)


class DrainTest(DrainFleet):
    """Devices that placement knows."""

    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    def test_it_all(self):
        self.assertEqual({}, self.ask("a", status=0)[0])
        guests = [self.boot(host, VF) for host in ("a", "a", "b")]
        with self.placement_log.during() as calls:
            rows, told = self.ask("a", status=0)
        self.assertEqual([], calls.writes)
        self.assertIn("Not judged: ", told)
        # One place is left on b and two on c; d is too old.
        self.assertEqual(["leaves", "leaves"], self.results(rows))
        self.assertLessEqual({row["destination"] for row in rows.values()}, {"b", "c"})
        self.assertIn("c", {row["destination"] for row in rows.values()})

        # Where placement is too slow, nobody can tell.
        with mock.patch.object(
            report.SchedulerReportClient, "get", side_effect=ks_exc.ConnectTimeout("slow")
        ):
            unknown, told = self.ask("a", status=1)
        self.assertEqual(["unknown", "unknown"], self.results(unknown))
        self.assertIn("Placement does not tell which hosts have room", told)
        # What one guest's request is made of cannot be read: the other is answered.
        make = preview.request_of

        def broken(context, instance, *args):
            if instance.uuid == guests[0]["id"]:
                raise ValueError("no such specification")
            return make(context, instance, *args)

        with mock.patch.object(preview, "request_of", broken):
            unknown, told = self.ask("a", status=1)
        self.assertEqual(["leaves", "unknown"], self.results(unknown))
        self.assertIn(f"Instance {guests[0]['id']} cannot be asked about", told)

        # Drained together, three guests have two places, and neither host is one for the other.
        rows, _ = self.ask("a", "b", "a", status=3)
        self.assertEqual(["leaves", "leaves", "no room"], self.results(rows))
        leaving = {row["destination"] for row in rows.values() if row["result"] == "leaves"}
        self.assertEqual({"c"}, leaving)
        (without,) = [row for row in rows.values() if row["result"] == "no room"]
        self.assertIn("no place is left for it beside the others that leave, on c", without["why"])
        self.assertEqual("no room", next(iter(rows.values()))["result"])

        # No other host but those: it stays whatever the others do, and it is said who can act.
        services = {each["host"]: each for each in self.api.get_services(binary="nova-compute")}
        self.api.put_service(services["c"]["id"], {"status": "disabled"})
        rows, _ = self.ask("a", "b", status=3)
        self.assertEqual(["stays"] * 3, self.results(rows))
        self.assertEqual({"operator"}, {row["act"] for row in rows.values()})
        self.assertIn("c: disabled", rows[guests[0]["id"]]["why"])
        self.api.put_service(services["c"]["id"], {"status": "enabled"})
        self.set_devices("c", nic("1.1"))
        self.settle()
        rows, _ = self.ask("a", "b", status=3)
        self.assertEqual({"host"}, {row["act"] for row in rows.values()})
        self.assertRegex(rows[guests[0]["id"]]["why"], r"c: .*needs 1\.2, offered 1\.1")

        newer = self.inventory_of(c=[nic("1.2")], d=[nic("1.2")])
        one, both = (
            ["--assume", f"c={newer}"],
            ["--assume", f"c={newer}", "--assume", f"d={newer}"],
        )
        rows, _ = self.ask("a", "b", *one, status=3)
        self.assertEqual(["leaves", "leaves", "no room"], self.results(rows))
        would, _ = self.ask("a", "b", *both, status=0)
        # Once d is upgraded, all have a place, and each can go to its own.
        for name in ("c", "d"):
            self.set_devices(name, nic("1.2"))
        self.settle()
        rows, _ = self.ask("a", "b", status=0)
        self.assertEqual(would, rows)
        for server in guests:
            destination = rows[server["id"]]["destination"]
            self.assert_moved(destination, self.live_migrate(server, destination))
        self.assertEqual({}, self.ask("a", "b", status=0)[0])
        self.assertIn("no cell has the host 'x'", self.ask("a", "x", status=2)[1])

    def test_guests_without_devices(self):
        group = self.api.post_server_groups({"name": "apart", "policy": "anti-affinity"})
        apart = [self.boot_apart(host, group) for host in ("a", "b")]
        self.boot("a")
        with self.placement_log.during() as calls:
            rows, _ = self.ask("a", status=0)
        # Once with what Nova asks for beside room and once without, for both servers together.
        self.assertEqual(2, len(calls.candidates))
        self.api.delete_server(next(uuid for uuid in rows if uuid != apart[0]["id"]))
        self.progress.wait_until(
            lambda: len(self.api.get_servers()) == 2, "the other server to be gone"
        )
        # Its fellow is on b.
        self.assertIn(rows[apart[0]["id"]]["destination"], {"c", "d"})
        rows, _ = self.ask("a", "b", status=0)
        self.assertEqual({"c", "d"}, {row["destination"] for row in rows.values()})
        rows, _ = self.ask("a", "b", "d", status=3)
        self.assertEqual(["leaves", "no room"], self.results(rows))
        stopped = self.boot("c")
        self.api.post_server_action(stopped["id"], {"os-stop": None})
        self.progress.wait_until(
            lambda: self.api.get_server(stopped["id"])["status"] == "SHUTOFF", "the guest to stop"
        )
        rows, _ = self.ask("c", status=3)
        self.assertIn("not-running", rows[stopped["id"]]["why"])


class TrackedDrainTest(DrainFleet):
    """Devices that only Nova's PCI tracker knows."""

    PCI_IN_PLACEMENT = False
    DEVICE_SPEC = [VF_SPEC]
    ALIASES = [VF_BY_ID]

    def test_they_are_counted(self):
        for host in ("a", "a", "b"):
            self.boot(host, VF)
        rows, _ = self.ask("a", "b", status=3)
        self.assertEqual(["leaves", "leaves", "no room"], self.results(rows))
        self.set_devices("d", nic("1.2"))
        self.settle()
        self.assertEqual(["leaves"] * 3, self.results(self.ask("a", "b", status=0)[0]))
        # Where too little is known of the hosts that are left, only they can tell.
        self.set_families({**CATALOG, "nic": {**CATALOG["nic"], "on_unknown": "accept"}})
        self.settle()
        self.set_stats("c", None)
        rows, _ = self.ask("a", "b", status=3)
        self.assertEqual(["leaves", "leaves", "may leave"], self.results(rows))
        first = next(iter(rows.values()))
        self.assertEqual(("may leave", "c"), (first["result"], first["destination"]))
        self.assertRegex(first["why"], r"^only the host itself can tell: nic: .*\[host-silent; ")
        self.assertEqual("operator", first["act"])


def test_a_cell_that_is_down(tmp_path):
    """It is named, and the status tells."""
    controller(tmp_path)
    catalog = base.__file__.replace("functional/base.py", "unit/recorded/catalog-1.0.yaml")
    path = tmp_path / "nova.conf"
    path.write_text(f"{path.read_text()}\n[devcompat]\ncatalog = {catalog}\n")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/api.sqlite")
    with engine.begin() as connection:
        connection.execute(
            api_models.HostMapping.__table__.insert(),
            [{"id": number, "cell_id": number, "host": f"in{number}"} for number in (2, 3)],
        )
    done = nova_devcompat("drain", "check", "in2", "in3", "--config-file", str(path), "-f", "json")
    assert (done.returncode, json.loads(done.stdout)) == (1, []), done.stderr
    assert "Cell down is left out, all of it or from here on: " in done.stderr
