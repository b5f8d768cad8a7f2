# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat need ...`` against real Nova and Placement."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import uuid

import fixtures
import sqlalchemy
from nova import objects
from nova.db.api import models as api_models
from nova.db.main import models as main_models
from oslo_utils.fixture import uuidsentinel as uuids

from nova_devcompat import wire
from nova_devcompat.cli.main import main
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.fleet.mending import Mending
from tests.functional import base
from tests.functional.base import VF_BY_CLASS, VF_SPEC
from tests.functional.devcompat import (
    CATALOG,
    GPU,
    VF,
    VGPU,
    DeviceCompatFleet,
    device,
    gpu,
    nic,
)


class NeedCommandFleet(DeviceCompatFleet):
    """A host with a vGPU and VFs, and an operator."""

    MDEV_TYPES = {"nvidia-11": ()}
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    def setUp(self):
        super().setUp()
        # Nova is set up here already, by its own fixtures.
        self.useFixture(
            fixtures.MonkeyPatch(
                "nova_devcompat.cli.need.nova", lambda files: contextlib.nullcontext()
            )
        )
        self.start_one("a", "1.2")

    def start_one(self, name, version):
        self.set_devices(name, gpu(version), nic(version))
        self.start_host(name, gpus=[base.Gpu()], pfs=[base.Pf()])
        self.settle()

    def run_need(self, *argv, status=0):
        """Run the command; what it printed on both streams."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            ended = main(["need", *argv])
        self.assertEqual(status, ended, err.getvalue())
        self.assertNotIn("Traceback", err.getvalue())
        return out.getvalue(), err.getvalue()

    def rows(self, *argv, status=0):
        return json.loads(self.run_need(*argv, "-f", "json", status=status)[0])

    def refused(self, status, *argv):
        """Run the command, which fails and writes nothing."""
        before = self.all_metadata()
        out, err = self.run_need(*argv, status=status)
        self.assertEqual("", out)
        self.assertEqual(before, self.all_metadata())
        return err

    def all_metadata(self):
        found = objects.InstanceList.get_all(self.context, expected_attrs=["system_metadata"])
        return {instance.uuid: dict(instance.system_metadata) for instance in found}

    def metadata_of(self, server):
        return dict(self.instance(server).system_metadata)

    def address_of_vf(self, server):
        (address,) = self.pci_devices_of("a", server)
        return address

    def put(self, server, **values):
        """Change an instance behind everybody's back."""
        instance = self.instance(server)
        for name, value in values.items():
            setattr(instance, name, value)
        instance.save()


class HostNeedTest(NeedCommandFleet):
    """Guests that need something of their host alone, which only its nova-compute can tell."""

    FAMILIES = {
        **CATALOG,
        "hv": {
            "match": {"component": "hv"},
            "source": "static",
            "subject": "host",
            "rules": {"hv_version": {"kind": "ordered", "ordering": "numeric"}},
            "needs": [
                {
                    "xpath": "/domain",
                    "requires": {"hv_version": "1.0"},
                    "because": "each guest is a domain",
                    "source": "this test",
                }
            ],
        },
    }

    def start_one(self, name, version):
        self.set_devices(name, device("hv", "hv", component="hv", hv_version="2.0"))
        self.start_host(name)
        self.settle()

    def test_cleared_and_asked_for(self):
        server = self.boot("a")
        # What was started is looked at once more.
        self.run_periodic("a")
        need = self.record_of(server)
        self.assertEqual({"hv"}, need.families)
        self.assertEqual([], self.rows("list", "--missing"))
        self.run_need("clear", server["id"], "--yes")
        self.settle()
        self.assertIsNone(self.record_of(server))
        (row,) = self.rows("list", "--missing")
        self.assertEqual(("hv", server["id"]), (row["family"], row["instance"]))
        self.assertIn("need-missing: what it needs of its host", row["problem"])
        before = self.metadata_of(server)
        _, err = self.run_need("backfill", "--dry-run")
        self.assertIn("would be asked", err)
        self.assertEqual(before, self.metadata_of(server))
        _, err = self.run_need("backfill")
        self.assertIn("its nova-compute tells; it does so in its next cycle", err)
        self.run_periodic("a")
        (now,) = self.record_of(server).devices
        self.assertEqual({one.assuming() for one in need.devices}, {now})
        self.assertEqual([], self.rows("list", "--missing"))
        # The mark is gone with that, and nobody looks again.
        self.assertEqual([], [key for key in self.metadata_of(server) if key.endswith(":asked")])
        out, _ = self.run_need("show", server["id"])
        self.assertIn("hv of its host", out)


class NeedCommandTest(NeedCommandFleet):
    """Shown and changed."""

    def test_list_and_show(self):
        server = self.boot("a", {**VGPU, **VF, "devcompat:gpu.version": "1.2"})
        self.boot("a")  # without devices, so without a record
        vf = self.address_of_vf(server)
        row = {"instance": server["id"], "host": "a", "assumed": "", "problem": ""}
        gpu_row = {**row, "family": "gpu", "address": GPU, "need": "version 1.2"}
        nic_row = {**row, "family": "nic", "address": vf, "need": "fw_version 1.2"}
        by_family = sorted(self.rows("list"), key=lambda each: each["family"])
        self.assertEqual([gpu_row, nic_row], by_family)
        self.assertEqual([nic_row], self.rows("list", "--family", "nic", "--host", "a"))
        self.assertEqual(2, len(self.rows("list", "--cell", "cell1")))
        self.assertEqual([], self.rows("list", "--assumed"))
        for argv in ((), ("--missing",)):
            self.assertIn(
                "No instance that was looked at has anything of a family 'gpus'; families: gpu, "
                "nic; did you mean 'gpu'?",
                self.run_need("list", *argv, "--family", "gpus")[1],
            )
        with fixtures.MonkeyPatch("nova_devcompat.stores.cells._PAGE", 1):
            self.assertEqual(2, len(self.rows("list")))
            self.assertEqual([], self.rows("list", "--missing"))
        self.assertIn("no cell has the host 'b'", self.refused(2, "list", "--host", "b"))
        self.assertIn(
            "there is no cell 'cell3'; cells: cell1; did you",
            self.refused(2, "list", "--cell", "cell3"),
        )

        # The host is brought to a version that could not take the guest again.
        self.set_devices("a", gpu("2.0"), nic("1.2"))
        self.settle()
        shown = json.loads(self.run_need("show", server["id"], "-f", "json")[0])
        self.assertEqual("a cell1 active", "{host} {cell} {vm_state}".format(**shown))
        self.assertEqual({"devcompat:gpu.version": "1.2"}, shown["pins"])
        needs = {need["family"]: need for need in shown["needs"]}
        self.assertEqual({"version": ["1.2"]}, needs["gpu"]["values"])
        self.assertEqual("reject", needs["gpu"]["verdict"])
        self.assertRegex(
            needs["gpu"]["reasons"][0], "gpu.version: needs 1.2, offered 2.0, .*major"
        )
        self.assertEqual(("accept", []), (needs["nic"]["verdict"], needs["nic"]["reasons"]))
        table, _ = self.run_need("show", server["id"])
        for text in (f"gpu at {GPU}", "version 1.2", "its host: reject", "gpu.version=1.2"):
            self.assertIn(text, table)
        self.assertIn("no instance", self.refused(2, "show", uuids.nobody))
        self.assertIn("not the UUID", self.refused(2, "show", "vm1"))

        self.api.delete_server(server["id"])
        self._wait_until_deleted(server)
        self.assertEqual([], self.rows("list"))

    def test_a_guest_that_needs_nothing(self):
        """Its record is listed, so that whoever clears all of them finds it."""
        self.set_devices("b")
        self.start_host("b", pfs=[base.Pf()])
        self.settle()
        server = self.boot("b", VF)
        self.assertEqual(Need(), self.record_of(server))
        row = {"instance": server["id"], "host": "b", "need": "nothing"}
        empty = dict.fromkeys(("family", "address", "assumed", "problem"), "")
        self.assertEqual([{**row, **empty}], self.rows("list"))
        for argv in (("--family", "gpu"), ("--assumed",), ("--missing",), ("--restart-pending",)):
            self.assertEqual([], self.rows("list", *argv))
        self.assertTrue(self.rows("clear", server["id"], "--yes"))
        self.assertEqual([], self.rows("list"))

    def test_set(self):
        self.start_one("b", "1.0")
        server = self.boot("a", {**VGPU, **VF})
        vf = self.address_of_vf(server)
        for argument, told in (
            ("gpu.version=latest", "gpu.version: rule semver cannot read the value: "),
            ("cpu.version=1.0", "the catalog has no family 'cpu'; families: gpu, nic"),
            ("gpu.fw=1.0", "family gpu has no attribute 'fw'; attributes: version"),
            ("gpu=1.0", "is not of the form FAMILY.ATTRIBUTE=VALUE"),
        ):
            self.assertIn(told, self.refused(2, "set", server["id"], argument))
        self.assertIn(
            "no device at 0000:82:00.7 with nic.fw_version",
            self.refused(2, "set", server["id"], "nic.fw_version=1.0", "--address", "82:00.7"),
        )
        self.assert_stays("a", self.live_migrate(server), server)

        both = ("set", server["id"], "gpu.version=1.0", "nic.fw_version=1.0.7")
        change = {"instance": server["id"], "old": "1.2", "new": "1.0"}
        expected = [
            {**change, "address": vf, "family": "nic", "attribute": "fw_version"},
            {**change, "address": GPU, "family": "gpu", "attribute": "version"},
        ]
        before = self.metadata_of(server)
        self.assertEqual(expected, self.rows(*both, "--dry-run"))
        self.assertEqual(before, self.metadata_of(server))
        with self.logs.during() as lines:
            self.assertEqual(expected, self.rows(*both))
        told = [line.text for line in lines.find("need of ")]
        self.assertEqual(2, len(told))
        self.assertIn(f"nic.fw_version at {vf} was 1.2, is 1.0 (need set)", told[0])
        self.assertEqual({"gpu.version=1.0", "nic.fw_version=1.0"}, self.needed(server))

        saved = self.instance(server).updated_at
        out, err = self.run_need(*both, "-f", "csv")
        self.assertEqual(1, len(out.splitlines()))
        self.assertIn("nothing is written", err)
        self.assertEqual(saved, self.instance(server).updated_at)

        self.assert_moved("b", self.live_migrate(server))
        # A version that is new to the cloud: hosts can evaluate it in their next cycle.
        self.run_need("set", server["id"], "gpu.version=0.9")
        self.settle()
        shown = json.loads(self.run_need("show", server["id"], "-f", "json")[0])
        self.assertEqual({"reject", "accept"}, {need["verdict"] for need in shown["needs"]})

    def test_clear_and_backfill(self):
        server = self.boot("a", {**VGPU, **VF})
        plain = self.boot("a")
        vf = self.address_of_vf(server)
        before = self.metadata_of(server)
        self.assertIn("add --yes", self.refused(2, "clear", server["id"]))
        with self.logs.during() as lines:
            dropped = self.rows("clear", server["id"], "--yes")
        self.assertEqual(
            {key: value for key, value in before.items() if wire.is_record_key(key)},
            {row["key"]: row["value"] for row in dropped},
        )
        (told,) = lines.find("need cleared")
        self.assertRegex(told.text, r"which was .*gpu \(version 1.2\) at ")
        self.assertIn(json.dumps({row["key"]: row["value"] for row in dropped}), told.text)
        after = self.metadata_of(server)
        self.assertEqual(before, {**after, **{row["key"]: row["value"] for row in dropped}})
        self.assertIsNone(self.record_of(server))
        self.assertEqual([], self.rows("clear", server["id"], "--yes"))

        missing = self.rows("list", "--missing")
        self.assertEqual(
            {("gpu", GPU), ("nic", vf)}, {(row["family"], row["address"]) for row in missing}
        )
        self.assertEqual(
            {"need-missing: the device is not recorded"}, {row["problem"] for row in missing}
        )
        with fixtures.MonkeyPatch("nova_devcompat.fleet.mending._PROGRESS_EVERY", 2):
            out, err = self.run_need("backfill", "--dry-run", "-f", "json")
        self.assertEqual(
            [
                "2 instances looked at",
                "2 running instances on hosts that publish looked at, 1 to be completed",
            ],
            err.splitlines()[-2:],
        )
        changes = json.loads(out)
        self.assertEqual(after, self.metadata_of(server))
        with self.logs.during() as lines:
            self.assertEqual(changes, self.rows("backfill", "--host", "a"))
        self.assertEqual(
            {("gpu", "version", "", "1.2 (assumed)"), ("nic", "fw_version", "", "1.2 (assumed)")},
            {(row["family"], row["attribute"], row["old"], row["new"]) for row in changes},
        )
        self.assertEqual(2, len(lines.find(r"was not recorded, is 1.2 \(assumed\)")))
        self.assertEqual({"gpu.version=1.2", "nic.fw_version=1.2"}, self.needed(server))
        self.assertIsNone(self.record_of(plain))
        self.assertEqual(2, len(self.rows("list", "--assumed")))
        self.assertEqual([], self.rows("list", "--missing"))

        saved = self.instance(server).updated_at
        self.assertEqual([], self.rows("backfill"))
        self.assertEqual([], self.rows("backfill", "--instance", server["id"]))
        self.assertEqual(saved, self.instance(server).updated_at)
        # The operator confirms one of them.
        (row,) = self.rows("set", server["id"], "gpu.version=1.2")
        self.assertEqual(("1.2 (assumed)", "1.2"), (row["old"], row["new"]))
        (row,) = self.rows("list", "--assumed")
        self.assertEqual("nic", row["family"])

    def test_a_busy_instance_is_left_alone(self):
        server = self.boot("a", VGPU)
        wanted = ("set", server["id"], "gpu.version=1.0")
        self.put(server, task_state="rebooting")
        self.assertIn("is busy (rebooting)", self.refused(1, *wanted))
        self.assertIn("is busy (rebooting)", self.refused(1, "clear", server["id"], "--yes"))
        self.put(server, task_state=None)

        # It becomes busy between our look and our write.
        make_traits = Mending._make_traits

        def and_then_a_reboot_begins(mending, names):
            make_traits(mending, names)
            self.put(server, task_state="rebooting")

        self.useFixture(
            fixtures.MonkeyPatch(
                f"{Mending.__module__}.Mending._make_traits", and_then_a_reboot_begins
            )
        )
        self.assertIn("has become busy", self.refused(1, *wanted))

        # A scan goes on to the others.
        idle = self.boot("a", VGPU)
        self.put(server, task_state=None)
        for each in (server, idle):
            self.run_need("clear", each["id"], "--yes")
        self.put(server, task_state="rebooting")
        _, err = self.run_need("backfill", status=1)
        self.assertIn(f"{server['id']} is left as it is: instance {server['id']} is busy", err)
        self.assertIsNone(self.record_of(server))
        self.assertEqual({"gpu.version=1.2"}, self.needed(idle))

    def test_what_cannot_be_read(self):
        server, other = self.boot("a", VGPU), self.boot("a", VGPU)
        broken = {**self.metadata_of(server), "devcompat:need": "1 1 00000000 {}"}
        self.put(server, system_metadata=broken)
        rows = {row["instance"]: row for row in self.rows("list")}
        problem = "record-unreadable: record: its checksum does not match"
        self.assertEqual(problem, rows[server["id"]]["problem"])
        self.assertEqual("version 1.2", rows[other["id"]]["need"])
        (row,) = self.rows("list", "--missing")
        self.assertEqual((server["id"], problem), (row["instance"], row["problem"]))
        self.assertIn(problem, self.run_need("show", server["id"])[0])
        self.assertIn("need clear", self.refused(1, "set", server["id"], "gpu.version=1.0"))
        _, err = self.run_need("backfill", status=1)
        self.assertIn("checksum does not match; drop it with 'need clear' first", err)
        self.run_need("clear", server["id"], "--yes")
        self.run_need("backfill")
        self.assertEqual({"gpu.version=1.2"}, self.needed(server))

        # A host that publishes nothing says nothing of its guests, and is asked no more.
        self.run_need("clear", server["id"], "--yes")
        self.set_stats("a", "{")
        self.assertIn("the host publishes cannot be read", self.run_need("backfill", status=1)[1])
        self.set_stats("a", None)
        self.assertEqual([], self.rows("backfill"))
        told = self.run_need("list", "--missing")[1]
        self.assertIn("Of 1 host nothing is known, since nothing is published there: a", told)
        self.assertIn("host-silent", self.run_need("backfill", "--host", "a", status=1)[1])
        self.assertIn("host-silent", self.refused(1, "backfill", "--instance", server["id"]))
        shown = json.loads(self.run_need("show", other["id"], "-f", "json")[0])
        self.assertEqual("unknown", shown["needs"][0]["verdict"])


class CatalogThatGrewTest(NeedCommandFleet):
    """Records were written before the catalog had one of its attributes."""

    FAMILIES = {
        **CATALOG,
        "gpu": {**CATALOG["gpu"], "rules": {"version": "semver", "caps": "superset"}},
    }

    def test_backfill_adds_what_the_catalog_has_gained(self):
        caps = ["migration", "p2p"]
        self.set_devices("a", device(GPU, "gpu", version="1.2", caps=caps), nic("1.2"))
        self.settle()
        server = self.boot("a", {**VGPU, "devcompat:gpu.caps": "p2p"})
        (full,) = self.record_of(server).devices
        less = DeviceNeed.of("gpu", {"version": ["1.1"]}, slot=full.slot, address=full.address)
        old = wire.dump_record(Need(devices=(less,)))
        self.put(server, system_metadata={**self.metadata_of(server), **old})

        (row,) = self.rows("list", "--missing")
        self.assertEqual(("version 1.1", "need-missing: caps"), (row["need"], row["problem"]))
        self.assertIn(
            f"no device with gpu.caps; it has: gpu (version 1.1) at {GPU}. Use 'need backfill'",
            self.refused(2, "set", server["id"], "gpu.caps=p2p"),
        )
        # What is recorded does not follow the device; what is added follows the flavor's pin.
        (change,) = self.rows("backfill")
        self.assertEqual("caps  p2p (assumed)", "{attribute} {old} {new}".format(**change))
        self.assertEqual({"gpu.version=1.1", "gpu.caps=p2p"}, self.needed(server))

        # A stopped guest has its need frozen when it starts.
        self.run_need("clear", server["id"], "--yes")
        self.api.post_server_action(server["id"], {"os-stop": None})
        self._wait_for_state_change(server, "SHUTOFF")
        self.assertEqual([], self.rows("list", "--missing"))
        self.assertEqual([], self.rows("backfill"))
        self.assertIn("does not run", self.refused(1, "backfill", "--instance", server["id"]))


# --- a controller of its own --------------------------------------------------------------------

RECORD = wire.dump_record(
    Need(devices=(DeviceNeed.of("gpu", {"version": ["1.2"]}, slot="rc:VGPU", address=GPU),))
)


def controller(folder: pathlib.Path) -> list[str]:
    """Databases with an instance in one of two cells, the other of which is down; a nova.conf.

    :returns: options of the command
    """
    api = sqlalchemy.create_engine(f"sqlite:///{folder}/api.sqlite")
    cell = sqlalchemy.create_engine(f"sqlite:///{folder}/cell1.sqlite")
    api_models.BASE.metadata.create_all(api)
    main_models.BASE.metadata.create_all(cell)
    with api.begin() as connection:
        connection.execute(
            api_models.CellMapping.__table__.insert(),
            [
                {
                    "id": number,
                    "uuid": str(uuid.UUID(int=number - 1)),
                    "name": name,
                    "transport_url": "fake:///",
                    "database_connection": f"sqlite:///{folder}/{path}",
                    "disabled": False,
                }
                for number, (name, path) in enumerate(
                    [("cell0", "none"), ("cell1", "cell1.sqlite"), ("down", "no/folder")], 1
                )
            ],
        )
        connection.execute(
            api_models.InstanceMapping.__table__.insert(),
            [{"instance_uuid": uuids.guest, "cell_id": 2, "project_id": "p"}],
        )
    with cell.begin() as connection:
        connection.execute(
            main_models.Instance.__table__.insert(),
            [{"uuid": uuids.guest, "host": "a", "vm_state": "active", "display_name": "vm"}],
        )
        connection.execute(
            main_models.InstanceSystemMetadata.__table__.insert(),
            [
                {"instance_uuid": uuids.guest, "key": key, "value": value, "deleted": 0}
                for key, value in {**RECORD, "image_os": "x"}.items()
            ],
        )
    (folder / "nova.conf").write_text(
        f"[DEFAULT]\nlog_file = {folder}/nova.log\ntransport_url = fake:///\n"
        f"[api_database]\nconnection = sqlite:///{folder}/api.sqlite\n"
        f"[database]\nconnection = sqlite:///{folder}/none\n"
    )
    return ["--config-file", str(folder / "nova.conf"), "-f", "json"]


def nova_devcompat(*argv):
    return subprocess.run(
        [sys.executable, "-m", "nova_devcompat.cli.main", *argv],
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if not key.startswith("OS_")},
    )


def test_a_cell_that_is_down(tmp_path):
    """The others are listed; nothing but JSON is on standard output."""
    options = controller(tmp_path)
    done = nova_devcompat("need", "list", *options)
    assert done.returncode == 1, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["instance"], row["need"]) == (uuids.guest, "version 1.2")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Cell down is left out, all of it or from here on: ")


def test_a_change_lands_in_the_log_of_nova(tmp_path):
    options = controller(tmp_path)
    done = nova_devcompat("need", "clear", uuids.guest, "--yes", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert {row["key"]: row["value"] for row in json.loads(done.stdout)} == RECORD
    log = (tmp_path / "nova.log").read_text()
    assert "INFO nova_devcompat.fleet.mending [None req-" in log
    assert f"Instance {uuids.guest}: need cleared, which was gpu (version 1.2) at {GPU}; " in log
