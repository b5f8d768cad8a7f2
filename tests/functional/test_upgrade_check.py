# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat upgrade check`` against real Nova."""

import contextlib
import io
import json
import pathlib

import fixtures
import nova.conf

from nova_devcompat.cli.main import main
from nova_devcompat.service import load_catalog
from tests.functional import base
from tests.functional.devcompat import CATALOG, VGPU, DeviceCompatFleet, gpu
from tests.functional.test_need_command import controller, nova_devcompat

CONF = nova.conf.CONF

STAGES = [
    {"from": "2027-04-01", "mode": "report"},
    {"from": "2027-10-01", "mode": "enforce"},
]


class UpgradeCheckTest(DeviceCompatFleet):
    """Three hosts, and an operator who looks ahead."""

    MDEV_TYPES = {"nvidia-11": ()}
    FAMILIES = {"gpu": {**CATALOG["gpu"], "stages": STAGES}}

    def setUp(self):
        super().setUp()
        # Nova is set up here already, by its own fixtures.
        self.useFixture(
            fixtures.MonkeyPatch(
                "nova_devcompat.cli.upgrade.nova", lambda files: contextlib.nullcontext()
            )
        )
        self.flags(
            weight_classes=[
                "nova.scheduler.weights.all_weighers",
                "nova_devcompat.scheduler.weights.all_weighers",
            ],
            group="filter_scheduler",
        )
        for name, version in (("a", "1.2"), ("b", "1.0"), ("c", "1.0")):
            self.set_devices(name, gpu(version))
            self.start_host(name, gpus=[base.Gpu()])
        self.settle()
        self.server = self.boot("a", VGPU)

    def check(self, *argv, status):
        """The results by the checks' names, each a code and what is told."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            ended = main(["upgrade", "check", "--json", *argv])
        # Services that run in this process log to stderr, too.
        self.assertNotIn("Traceback", err.getvalue())
        self.assertEqual(status, ended, out.getvalue() + err.getvalue())
        return {
            one["check"]: (one["result"], one["details"])
            for one in json.loads(out.getvalue())["checks"]
        }

    def test_it_all(self):
        before = ("--as-of", "2027-01-01")
        found = self.check(*before, status=1)
        digest = load_catalog([self.catalog_file]).digest
        guest = f"{self.server['id']} on a"
        # Before the first stage enforces anything, whom it would strand is told.
        code, told = found.pop("Guests without another host")
        self.assertEqual(1, code)
        self.assertRegex(told, f"^1 guest more that 'enforce' would strand.*: {guest}: . is near")
        self.assertEqual(10, len(found))
        self.assertEqual({0}, {code for code, _ in found.values()})
        self.assertIn(f"Digest {digest}. gpu: announce today, on_unk", found["Catalog"][1])
        self.assertIn(f"from {self.catalog_file}:", found["Catalog"][1])
        self.assertIn("3 nodes with the policies", found["Policies of the hosts"][1])
        self.assertIn("3 nodes published", found["Hosts that publish"][1])
        self.assertIn("1 running guest", found["Records of guests"][1])
        self.assertEqual(
            "gpu: announce becomes report on 2027-04-01, in 90 days: it reports on 1 guest: "
            f"{guest}.",
            found["Stages that begin"][1],
        )

        # The stage that would strand it is near; then it is there.
        found = self.check("--as-of", "2027-09-01", status=1)
        self.assertIn("would strand", found["Guests without another host"][1])
        self.assertEqual(
            (
                1,
                "gpu: report becomes enforce on 2027-10-01, in 30 days: it strands 1 guest: "
                f"{guest}.",
            ),
            found["Stages that begin"],
        )
        self.assertEqual(
            (0, "None within 7 days."),
            self.check("--as-of", "2027-09-01", "--activating-within", "7", status=1)[
                "Stages that begin"
            ],
        )
        found = self.check("--as-of", "2027-10-01", status=1)
        code, told = found["Guests without another host"]
        self.assertEqual(1, code)
        self.assertRegex(
            told, f"{guest}: ([bc]) is nearest: gpu.version: needs 1.2, offered 1.0, "
        )
        self.assertNotIn("would strand", told)

        # A host is brought to the version that the guest needs, another falls silent.
        self.set_devices("b", gpu("1.3"))
        self.settle()
        self.set_stats("c", None)
        found = self.check("--as-of", "2027-10-01", status=1)
        code, told = found["Guests without another host"]
        self.assertEqual((0, True), (code, told.startswith("1 of 1 running guest looked at")))
        code, told = found["Hosts that publish"]
        self.assertEqual(1, code)
        self.assertRegex(told, r"^1 of 3 nodes published nothing: c \(0 running guests there\)\. ")
        self.set_stats("c", '{"v":9}')
        code, told = self.check(*before, status=1)["Hosts that publish"]
        self.assertIn("c (stats document: written in format 9 by a newer nova-dev", told)
        self.run_periodic()

        instance = self.instance(self.server)
        instance.system_metadata["devcompat:need"] = "9 1 00000000 x"
        instance.save()
        code, told = self.check(*before, status=1)["Records of guests"]
        self.assertEqual(1, code)
        self.assertIn(f"1 record cannot be read: {self.server['id']} (record: written in", told)

    def test_a_host_that_applies_something_else(self):
        """One that is down publishes nothing new, whatever it said before."""
        from nova import objects

        before = ("--as-of", "2027-01-01")
        # The scheduler's mode changes; the hosts have not noticed yet.
        self.set_policies({"gpu": {"mode": "report"}})
        found = self.check(*before, status=1)
        code, told = found["Policies of the hosts"]
        self.assertEqual(1, code)
        self.assertIn("a, b, c (1 running guest there): gpu announce reject, here report", told)
        self.assertEqual(1, found["Catalog of the hosts"][0])
        self.run_periodic()
        found = self.check(*before, status=1)
        self.assertEqual(0, found["Policies of the hosts"][0])
        self.assertIn("policy changed by", found["Catalog"][1])

        service = objects.Service.get_by_compute_host(self.context, "a")
        service.forced_down = True
        service.save()
        code, told = self.check(*before, status=1)["Hosts that publish"]
        self.assertEqual(1, code)
        self.assertRegex(told, r"^Nova-compute of 1 node is down, .*: a \(1 running guest there\)")

    def test_what_is_set_up_here(self):
        other = self.catalog_file.with_name("other.yaml")
        other.write_text(self.catalog_file.read_text().replace("semver", "equal"))
        found = self.check("--catalog", str(other), "--as-of", "2027-01-01", status=1)
        code, told = found["Catalog of the hosts"]
        self.assertEqual(1, code)
        digest = load_catalog([self.catalog_file]).digest
        self.assertRegex(told, f"^Hosts have another catalog than .*: {digest}: a, b, c .1 runn")

        self.flags(
            enabled_filters=["ComputeFilter"],
            available_filters=["nova.scheduler.filters.all_filters"],
            weight_classes=["nova.scheduler.weights.all_weighers"],
            group="filter_scheduler",
        )
        found = self.check("--as-of", "2027-01-01", status=2)
        code, told = found["Filter and weigher"]
        self.assertEqual(2, code)
        for name in ("enabled_filters lacks", "available_filters lacks", "weight_classes lacks"):
            self.assertIn(name, told)

        self.catalog_file.write_text("families: {}\n")
        found = self.check("--as-of", "2027-01-01", status=2)
        self.assertEqual(2, found["Catalog"][0])
        self.assertIn("key 'meta' is missing", found["Catalog"][1])
        self.assertEqual("Not checked, for want of a catalog.", found["Stages that begin"][1])


# --- a controller of its own --------------------------------------------------------------------

CATALOG_FILE = pathlib.Path(__file__).parents[1] / "unit" / "recorded" / "catalog-1.0.yaml"
SCHEDULER = f"""
[filter_scheduler]
available_filters = nova.scheduler.filters.all_filters
available_filters = nova_devcompat.scheduler.filters.all_filters
enabled_filters = ComputeFilter,DeviceCompatFilter
weight_classes = nova.scheduler.weights.all_weighers,nova_devcompat.scheduler.weights.all_weighers
[devcompat]
catalog = {CATALOG_FILE}
"""


def test_a_cell_that_is_down(tmp_path):
    """A warning; nothing but JSON is on standard output."""
    controller(tmp_path)
    path = tmp_path / "nova.conf"
    options = ["--config-file", str(path), "--as-of", "2026-01-01"]
    done = nova_devcompat("upgrade", "check", "--json", *options)
    assert done.returncode == 2, done.stderr
    assert "enabled_filters lacks DeviceCompatFilter" in done.stdout

    path.write_text(path.read_text() + SCHEDULER)
    done = nova_devcompat("upgrade", "check", "--json", *options)
    assert done.returncode == 1, done.stderr
    results = {check["check"]: check["result"] for check in json.loads(done.stdout)["checks"]}
    # No cell is left that could have a host.
    assert results.pop("Hosts that publish") == 1
    assert set(results.values()) == {0}
    (line,) = done.stderr.splitlines()
    assert line.startswith("Cell down is left out, all of it or from here on: ")

    done = nova_devcompat("upgrade", "check", *options)
    assert (done.returncode, done.stdout.count("| Result: Success")) == (1, 10)


def test_no_database(tmp_path):
    (tmp_path / "nova.conf").touch()
    done = nova_devcompat("upgrade", "check", "--config-file", str(tmp_path / "nova.conf"))
    assert (done.returncode, done.stdout) == (255, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("no connection is configured in [api_database] (files read: ")
