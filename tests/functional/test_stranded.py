# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat stranded``, ``metrics`` and ``page`` on real Nova and Placement."""

import contextlib
import io
import json
import os
import re
import signal
import tempfile
from unittest import mock

import fixtures
from keystoneauth1 import exceptions as ks_exc
from nova import objects
from nova.scheduler.client import report
from prometheus_client.parser import text_string_to_metric_families

from nova_devcompat.cli.main import main
from tests.functional import base
from tests.functional.devcompat import GPU_PROVIDER, VGPU, DeviceCompatFleet, gpu
from tests.functional.test_need_command import controller, nova_devcompat


class StrandedTest(DeviceCompatFleet):
    """Three hosts, of which few take each other's guests."""

    MDEV_TYPES = {"nvidia-12": ()}

    def setUp(self):
        super().setUp()
        # Nova is set up here already, by its own fixtures.
        for command in ("metrics", "page", "question"):
            self.useFixture(
                fixtures.MonkeyPatch(
                    f"nova_devcompat.cli.{command}.nova", lambda files: contextlib.nullcontext()
                )
            )
        self.start_gpu_hosts(a="1.2", b="1.2", c="1.0")

    def ask(self, *argv, status):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            ended = main(["stranded", *argv, "-f", "json"])
        self.assertNotIn("Traceback", err.getvalue())
        self.assertEqual(status, ended, out.getvalue() + err.getvalue())
        return json.loads(out.getvalue()) if out.getvalue() else err.getvalue()

    def assert_metrics(self, expected, *argv):
        """What ``metrics`` writes, as far as it is named here."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "devcompat.prom")
            self.assertEqual(0, main(["metrics", "--textfile", path, *argv]))
            told = numbers(path)
        self.assertEqual(expected, {key: told.get(key, 0) for key in expected})

    def page(self, *argv):
        """What ``page`` has in its one cell with guests, and its aggregates."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "fleet.html")
            self.assertEqual(0, main(["page", "-o", path, *argv]))
            with open(path) as file:
                (text,) = re.findall(
                    r'<script type="application/json".*?>(.*?)</script>', file.read()
                )
        data = json.loads(text)
        (cell,) = (one for one in data["cells"] if one["hosts"])
        standings = list(data["standings"].values())
        guests = cell["guests"]
        return {
            name: (cell["hosts"][host], standings[standing])
            for name, host, standing in zip(
                guests["name"], guests["host"], guests["standing"], strict=True
            )
        }, cell["aggregates"]

    def test_it_all(self):
        self.assertEqual([], self.ask(status=0))
        server = self.boot("a", VGPU)
        self.boot("c", VGPU)
        (row,) = self.ask(status=3)
        self.assertEqual("one other left", row["standing"])
        self.assertEqual("upgrade c", row["remedy"])
        self.assertRegex(row["cause"], r"needs 1\.2, offered 1\.0")
        self.assertEqual(f"{server['id']} on a", row["instances"])
        (guest,) = self.ask("--guests", "--host", "a", "--family", "gpu", status=3)
        self.assertEqual(
            (server["id"], "a", "b"), (guest["instance"], guest["host"], guest["other"])
        )
        for nobody in (("--host", "c"), ("--family", "nic")):
            self.assertEqual([], self.ask(*nobody, status=0))
        # Nobody stranded of a family that is misspelt would be good news that is none.
        for argv in (("--family", "gpus"), ("--family", "gpus", "--guests")):
            self.assertEqual(
                "nothing is known of a family 'gpus'; families: gpu, nic; did you mean 'gpu'?",
                self.ask(*argv, status=2).splitlines()[-1],
            )
        self.assert_metrics(
            {
                ("answered", "", "api_database"): 1,
                ("hosts", "publishes"): 3,
                ("catalog_hosts", "here"): 3,
                ("guests",): 2,
                ("stranded_guests", "enforce", "one_other_left"): 1,
                ("refused_pairs", "gpu", "enforce", "minor-too-old"): 1,
                ("pairs",): 4,
            }
        )
        guests, _ = self.page()
        self.assertEqual(("a", "one other left"), guests[server["id"]])
        self.assertEqual(
            {"one other left", "two others or more"}, {one[1] for one in guests.values()}
        )
        # The other host takes it indeed, and the third does not.
        self.assert_stays("a", self.live_migrate(server, "c"), server)
        self.assert_moved("b", self.live_migrate(server))
        self.assert_moved("a", self.live_migrate(server))

        takers = self.take_all(GPU_PROVIDER.format("b"), "VGPU")
        with self.placement_log.during() as calls:
            rows = {row["instance"]: row for row in self.ask("--guests", "--with-room", status=3)}
        self.assertEqual("only here", rows[server["id"]]["standing"])
        self.assertEqual("free a device on b", rows[server["id"]]["remedy"])
        self.assertEqual(["resources"], [name for call in calls for name in call.query])
        self.assert_metrics(
            {
                ("answered", "", "placement"): 1,
                ("stranded_guests", "enforce", "only_here"): 1,
                ("stranded_guests_by_reason", "none", "enforce", "no-free-device", "only_here"): 1,
            },
            "--with-room",
        )
        self.assert_stays("a", self.live_migrate(server), server)
        for who in takers:
            self.placement.delete(f"/allocations/{who}")

        aggregate = self.api.post_aggregate(
            {"aggregate": {"name": "rack 1", "availability_zone": None}}
        )
        self.api.add_host_to_aggregate(aggregate["id"], "a")
        guests, aggregates = self.page("--with-room")
        self.assertEqual(("a", "one other left"), guests[server["id"]])
        self.assertEqual(["rack 1"], [name for name, _ in aggregates])
        (row,) = self.ask("--aggregate", "rack 1", status=3)
        self.assertEqual("1", row["guests"])
        self.assertIn("there is no aggregate 'rack'", self.ask("--aggregate", "rack", status=2))
        self.assertIn("no cell has the host 'x'", self.ask("--host", "x", status=2))
        # As it would be if it were upgraded, and as it is then.
        newer = self.inventory_of(c=[gpu("1.2")], d=[gpu("1.0")])
        self.assertEqual([], self.ask("--assume", f"c={newer}", status=0))
        self.assert_bad_assumptions(newer)
        self.set_devices("c", gpu("1.2"))
        self.settle()
        self.assertEqual([], self.ask(status=0))
        older = self.inventory_of(c=[gpu("1.0")])
        # The only entry of a file will do for a host like that.
        (row,) = self.ask("--assume", f"b={older}", "--assume", f"c={older}", status=3)
        self.assertEqual(("only here", "upgrade b or c"), (row["standing"], row["remedy"]))

        self.assert_what_is_missing_is_said(server)

    def test_hosts_that_have_another_catalog(self):
        """What they say of a guest may be another thing; explain tells of them alike."""
        self.set_devices("c", gpu("1.2"))
        self.settle()
        server = self.boot("a", VGPU)
        self.assertEqual([], self.ask(status=0))
        before = self.catalog_file.read_text()
        # Of a family that no device of theirs is of.
        other = {"match": {"vendor_id": "ffff"}, "source": "static", "rules": {"x": "equal"}}
        self.set_families({**self.FAMILIES, "other": other})
        (row,) = self.ask(status=3)
        self.assertEqual("unknown", row["standing"])
        self.assertEqual("give b or c the catalog that is here", row["remedy"])
        self.assertIn("other-catalog", row["cause"])
        self.assert_metrics(
            {
                ("stranded_guests", "enforce", "unknown"): 1,
                ("stranded_guests_by_reason", "none", "enforce", "other-catalog", "unknown"): 1,
            }
        )
        self.assertEqual(("a", "not known"), self.page()[0][server["id"]])
        # What is only asked about is taken to be theirs too.
        imagined = self.catalog_file.with_name("imagined.yaml")
        imagined.write_text(before.replace("semver", "equal"))
        self.assertEqual([], self.ask("--catalog", str(imagined), status=0))
        # They read it in their next cycle.
        self.settle()
        self.assertEqual([], self.ask(status=0))

    def assert_what_is_missing_is_said(self, server):
        with mock.patch.object(
            report.SchedulerReportClient, "get", side_effect=ks_exc.ConnectTimeout("slow")
        ):
            told = self.told("--with-room", status=1)
        self.assertIn("Placement does not tell which devices are free", told)
        self.set_stats("b", self.stats_of("b")["devcompat"][:-40])
        told = self.told(status=1)
        self.assertIn("What host b published cannot be read: ", told)
        # The rest is answered.
        self.assertIn(f"{server['id']} on a", told)
        # Whoever was started in the background may have been told to ignore it.
        self.addCleanup(
            signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler)
        )
        with mock.patch.object(
            objects.ComputeNodeList,
            "get_by_pagination",
            side_effect=lambda *args, **options: signal.raise_signal(signal.SIGINT),
        ):
            self.assertEqual("", self.told(status=130, quiet=True))

    def told(self, *argv, status, quiet=False):
        """All that is printed."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            ended = main(["-q", "stranded", *argv] if quiet else ["stranded", *argv])
        self.assertNotIn("Traceback", out.getvalue())
        self.assertEqual(status, ended, out.getvalue())
        return out.getvalue()

    def assert_bad_assumptions(self, path):
        release = "--assume-release"
        for wrong, said in (
            (("--assume", "c"), "--assume 'c' is not HOST=FILE, such as"),
            (("--assume", f"x={path}"), f"{path}: hosts: none is 'x'"),
            (("--assume", f"c={path}", "--assume", f"c={path}"), "of host 'c' already"),
            (("--assume", f"d={path}"), "no cell has the host 'd'"),
            (("--assume", f"c={path}.yaml"), f"{path}.yaml"),
            (("--assume", f"c={self.catalog_file}"), f"{self.catalog_file}:"),
            ((release, "c=570.133.20"), "known of the families nvidia_vgpu, and the catalog has"),
        ):
            self.assertIn(said, self.ask(*wrong, status=2))


def numbers(path):
    """What a file of metrics has, by name and by labels, in the order of their names."""
    with open(path) as file:
        return {
            (sample.name.removeprefix("nova_devcompat_"), *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(file.read())
            for sample in family.samples
        }


def test_a_cell_that_is_down(tmp_path):
    """It is named, the others are answered, and the status tells."""
    controller(tmp_path)
    catalog = base.__file__.replace("functional/base.py", "unit/recorded/catalog-1.0.yaml")
    path = tmp_path / "nova.conf"
    path.write_text(f"{path.read_text()}\n[devcompat]\ncatalog = {catalog}\n")
    done = nova_devcompat("stranded", "--config-file", str(path), "-f", "json")
    assert (done.returncode, json.loads(done.stdout)) == (1, []), done.stderr
    assert "Cell down is left out, all of it or from here on: " in done.stderr
    file = str(tmp_path / "devcompat.prom")
    done = nova_devcompat("metrics", "--config-file", str(path), "--textfile", file)
    assert done.returncode == 1, done.stderr
    told = {key: value for key, value in numbers(file).items() if key[0] in ("answered", "guests")}
    # Cells that do answer are counted.
    assert told.pop(("guests",)) == 0
    assert told.pop(("answered", "down", "cell")) == 0
    assert set(told.values()) == {1}
    done = nova_devcompat("metrics", "--config-file", str(path), "--textfile", "devcompat.txt")
    assert done.returncode == 2
    assert "reads files that end in .prom only" in " ".join(done.stderr.split())
    fleet = tmp_path / "fleet.html"
    done = nova_devcompat("page", "--config-file", str(path), "-o", str(fleet))
    assert done.returncode == 1, done.stderr
    assert "of cell down not all hosts and guests could be read" in fleet.read_text()
