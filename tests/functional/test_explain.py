# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat explain`` says of every host what a live migration to it then meets."""

import contextlib
import dataclasses
import datetime
import io
import json
import random
import re

import fixtures

from nova_devcompat import wire
from nova_devcompat.cli.main import main
from tests import budget
from tests.functional import base
from tests.functional.base import VF_BY_CLASS, VF_SPEC
from tests.functional.devcompat import CATALOG, VF, VGPU, DeviceCompatFleet, gpu, nic
from tests.functional.test_host_families import family, libvirt
from tests.functional.test_need_command import nova_devcompat
from tests.functional.test_ports import PF_3, port_of

#: Fleets that are drawn. One takes six seconds of CPU.
FLEETS = budget.scaled(4, by_day=1)

#: What decides in one or another of the fleets, however few are drawn; and if many are.
SEEN = {"moved", "prefilter", "filter", "both"}
SEEN_OF_MANY = SEEN | {"it took it", "it refused it"}
#: Why the word of a host that published nothing readable is not known.
NOT_KNOWN = r"^only the host itself can tell: .*\[host-(silent|unreadable); "

LINES = ("verdict", "prefilter", "admission")
CODE = re.compile(r"\[(?:[a-z_]+, )?([a-z-]+); ")


class ExplainFleet(DeviceCompatFleet):
    """Hosts with a GPU and VFs, and an operator."""

    MDEV_TYPES = {"nvidia-11": ()}
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]
    FAMILIES = {**CATALOG, "libvirt": {**family("libvirt"), "on_unknown": "accept"}}

    def setUp(self):
        super().setUp()
        # Nova is set up here already, by its own fixtures.
        for module in ("need", "question"):
            self.useFixture(
                fixtures.MonkeyPatch(
                    f"nova_devcompat.cli.{module}.nova", lambda files: contextlib.nullcontext()
                )
            )

    def ask(self, *argv, status=None):
        """Rows by host in their order, and what was said beside."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            ended = main(["explain", *argv, "-f", "json"])
        self.assertNotIn("Traceback", err.getvalue())
        if status is not None:
            self.assertEqual(status, ended, out.getvalue() + err.getvalue())
        rows = json.loads(out.getvalue()) if out.getvalue() else []
        return {row["host"]: row for row in rows}, err.getvalue()


def left_out(text, family):
    """A document of which what is said of a family cannot be read."""
    document = wire.load_stats(text)
    worse = dataclasses.replace(
        document,
        devices=tuple(one for one in document.devices if one.family != family),
        host=tuple(one for one in document.host if one.family != family),
        whole=False,
        unreadable={family: "a value of another release"},
    )
    return wire.dump_stats(worse, document.version)


class ExplainTest(ExplainFleet):
    """Fleets that are drawn."""

    # Of one function those are for a flavor's devices, of the other for ports.
    DEVICE_SPEC = [
        {**VF_SPEC, "resource_class": "CUSTOM_VF"},
        {"vendor_id": "15b3", "product_id": "1018", "physical_network": "physnet4"},
    ]
    HOSTS = ("home", "one", "two", "bare", "mute", "evil")
    VERSIONS = ("1.0", "1.2", "1.4", "2.0")

    def setUp(self):
        super().setUp()
        for name in self.HOSTS:
            self.equip(name, "1.2", "1.2", "10.0.0")
            ports = base.Pf(address=PF_3, vfs=2, product_id="1017", vf_product_id="1018")
            pfs = [] if name == "bare" else [base.Pf(), ports]
            self.start_host(name, gpus=[base.Gpu()], pfs=pfs)
        self.settle()

    def equip(self, name, gpu_version, nic_version, libvirt_version):
        parts = [gpu(gpu_version), libvirt(libvirt_version)]
        nics = [] if name == "bare" else [nic(nic_version), nic(nic_version, PF_3)]
        self.set_devices(name, *parts, *nics)

    def test_what_is_said_is_what_happens(self):
        first = 0 if budget.NAME == "usual" else random.SystemRandom().randrange(1 << 32)
        seen = set()
        for seed in range(first, first + FLEETS):
            try:
                seen |= self.as_drawn(random.Random(seed))
            except Exception as error:
                error.add_note(f"the fleet of seed {seed}")
                raise
        # Not all hosts, nor all lines of defence, had the same to say.
        self.assertLessEqual(SEEN_OF_MANY if budget.NAME == "night" else SEEN, seen)

    def as_drawn(self, draw):
        """Compare all hosts of a fleet; what decided."""
        self.flags(stats_format=draw.choice((1, 2)), group="devcompat")
        specs = self.specs(draw)
        networks = "none"
        # Nova loses claims of guests that have both kinds, see below.
        if not VF.keys() & specs.keys() and draw.random() < 0.6:
            networks = [{"port": port_of(self.neutron, "direct")}]
        flavor = self.make_flavor(specs)
        # Hosts evaluate in their next cycle what it pins.
        self.settle()
        server = self.boot("home", flavor=flavor, networks=networks)
        if draw.random() < 0.5:
            self.accept(f"{draw.choice(('gpu', 'nic', 'libvirt'))}:unknown", server)
        for name in self.HOSTS[1:]:
            self.equip(
                name,
                draw.choice(self.VERSIONS),
                draw.choice(self.VERSIONS),
                draw.choice(("9.0.0", "10.0.0", "11.0.0")),
            )
        silenced = [name for name in self.HOSTS[1:] if draw.random() < 0.3]
        how = {
            name: draw.choice(("says nothing", "is cut off", "gpu", "nic", "libvirt"))
            for name in silenced
        }
        self.set_families(
            {
                name: {**one, "on_unknown": "accept"} if draw.random() < 0.3 else one
                for name, one in self.FAMILIES.items()
            }
        )
        self.settle()
        for name, what in how.items():
            text = self.stats_of(name)["devcompat"]
            worse = {"says nothing": None, "is cut off": text[:-40]}
            self.set_stats(name, worse[what] if what in worse else left_out(text, what))
        with self.placement_log.during() as calls:
            rows, told = self.ask(server["id"])
        self.assertEqual([], calls.writes)
        self.assertLessEqual(len(calls), 3 + len(calls.candidates[0].required) + 8)
        self.assertIn("Not judged: ", told)
        self.assertEqual(set(self.HOSTS[1:]), set(rows))
        seen = {self.compare(server, name, row, silenced) for name, row in rows.items()}
        # What is known comes before what is not, and both before what refuses.
        order = [("accept", "unknown", "reject").index(row["verdict"]) for row in rows.values()]
        by_nova = [bool(row["nova"]) for row in rows.values()]
        first = [at for at, nova in zip(order, by_nova, strict=True) if not nova]
        self.assertEqual(sorted(first), first, rows)
        self.api.delete_server(server["id"])
        self._wait_until_deleted(server)
        self.run_periodic(*silenced)
        return seen

    def test_no_room_is_one_thing_and_no_free_device_another(self):
        server = self.boot("home", VGPU)
        takers = [
            *self.take_all("one_pci_0000_81_00_0", "VGPU"),
            *self.take_all("two", "VCPU"),
            *self.take_all("bare_pci_0000_81_00_0", "VGPU"),
            *self.take_all("bare", "VCPU"),
        ]
        with self.placement_log.during() as calls:
            rows, _ = self.ask(server["id"], status=0)
        self.assertEqual(3, len(calls.candidates))
        found = {name: row["nova"].partition(":")[0] for name, row in rows.items()}
        wanted = {"one": "no-free-device", "two": "no-room", "bare": "no-room"}
        self.assertEqual(wanted | {"mute": "", "evil": ""}, found)
        for name in wanted:
            moved = self.live_migrate(server, name)
            self.assertEqual(("home", []), (moved.host, moved.tried))
        for who in takers:
            self.placement.delete(f"/allocations/{who}")
        with self.placement_log.during() as calls:
            rows, _ = self.ask(server["id"], status=0)
        self.assertEqual({""}, {row["nova"] for row in rows.values()})
        self.assertEqual(2, len(calls.candidates))

    def test_a_claim_that_nova_loses(self):
        """Of a guest that has a function of its flavor and one of a port."""
        port = port_of(self.neutron, "direct")
        server = self.boot("home", VF, networks=[{"port": port}])
        _, told = self.ask(server["id"], status=0)
        self.assertNotIn("claim-lost", told)
        self.assert_moved("one", self.live_migrate(server, "one"))
        self.assertEqual(1, len(self.pci_devices_of("one", server)))
        self.assertIn("nic.fw_version=1.2", self.needed(server))
        rows, told = self.ask(server["id"], status=3)
        self.assertIn("Nova does not migrate it as it is: claim-lost: Nova has lost", told)
        self.assertEqual("accept", rows["two"]["verdict"])
        moved = self.live_migrate(server, "two")
        self.assertEqual("one", moved.host)
        told = self.refusals(server)["two"]
        self.assertIn("no-device", told)
        self.assertRegex(told, r"Nova has lost its claim .*\[claim-lost; migrate the guest cold")

    def permit_post_copy(self, host, permitted=True):
        self.flags(live_migration_permit_post_copy=permitted, group="libvirt")
        self.restart_host(host)
        self.flags(live_migration_permit_post_copy=False, group="libvirt")

    def specs(self, draw):
        """What a flavor asks for, and pins."""
        specs = dict(draw.choice(({**VGPU, **VF}, VGPU, VF)))
        pins = {"devcompat:libvirt.libvirt_version": "10.0.0"}
        if "resources:VGPU" in specs:
            pins["devcompat:gpu.version"] = draw.choice(("1.0", "1.2"))
        if VF.keys() & specs.keys():
            pins["devcompat:nic.fw_version"] = draw.choice(("1.0", "1.2"))
        return specs | {name: value for name, value in pins.items() if draw.random() < 0.3}

    def accept(self, risk, server):
        """Accept a risk of a guest."""
        until = f"{datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1):%FT%R}"
        options = ["--until", until, "--reason", "tested", "--who", "ann"]
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            ended = main(["risk", "accept", risk, "--server", server["id"], *options])
        self.assertEqual(0, ended, out.getvalue())

    def compare(self, server, name, row, silenced):
        """That a migration to a host ends as the row has it; what decided."""
        with self.placement_log.during() as calls, self.logs.during() as lines:
            moved = self.live_migrate(server, name)
        refusals = self.refusals(server)
        if moved.host == name:
            if name in silenced:
                # Records of guests on hosts that are silent are doubted where they go.
                self.run_periodic(name)
            self.assert_moved("home", self.live_migrate(server, "home"))
        if row["nova"]:
            self.assertEqual(("home", []), (moved.host, moved.tried), row)
            # Placement knows no devices of ports; Nova's own filter looks at them.
            offered = name in self.offered_hosts(calls.candidates[0])
            late = "filter: PciPassthroughFilter" in row["nova"] and row["prefilter"] != "reject"
            self.assertEqual(late, offered, row)
            return "both"
        return {
            "accept": self.is_accepted,
            "unknown": self.is_not_known,
            "reject": self.is_refused,
        }[row["verdict"]](name, row, moved, silenced, refusals, calls, lines)

    def is_accepted(self, name, row, moved, *_):
        self.assert_moved(name, moved)
        self.assertEqual({"accept"}, {row[line] for line in ("filter", "admission")}, row)
        self.assertEqual(("", ""), (row["reasons"], row["act"]))
        return "moved"

    def is_not_known(self, name, row, moved, silenced, refusals, *_):
        """Of hosts alone that published nothing readable, which are asked all the same."""
        self.assertIn(name, silenced, row)
        self.assertEqual(("accept", "unknown"), (row["filter"], row["admission"]), row)
        self.assertRegex(row["reasons"], NOT_KNOWN)
        self.assertEqual("operator", row["act"])
        self.assertEqual([name], moved.tried, row)
        if moved.host == name:
            return "it took it"
        self.assertTrue(CODE.search(refusals[name]), refusals)
        return "it refused it"

    def is_refused(self, name, row, moved, silenced, refusals, calls, lines):
        """By which line, placement tells; no destination is tried."""
        self.assertEqual(("home", []), (moved.host, moved.tried), row)
        offered = name in self.offered_hosts(calls.candidates[0])
        self.assertEqual(offered, row["prefilter"] != "reject", row)
        self.assertEqual("reject" if offered else row["filter"], row["filter"], row)
        said = " ".join(map(str, lines.find("No host accepts instance")))
        self.assertEqual(set(CODE.findall(row["reasons"])), set(CODE.findall(said)), row)
        return "filter" if offered else "prefilter"

    def test_what_nova_has_against_it(self):
        server = self.boot("home", VGPU)
        rows, _ = self.ask(server["id"], status=0)
        self.assertEqual({""}, {row["nova"] for row in rows.values()})
        services = {each["host"]: each for each in self.api.get_services(binary="nova-compute")}
        self.api.put_service(
            services["one"]["id"], {"status": "disabled", "disabled_reason": "new firmware"}
        )
        self.api.put_service(services["two"]["id"], {"forced_down": True})
        rows, _ = self.ask(server["id"], status=0)
        self.assertEqual("disabled: new firmware", rows["one"]["nova"])
        self.assertIn("down", rows["two"]["nova"])
        self.assertEqual(["one", "two"], sorted(list(rows)[-2:]))
        only, _ = self.ask(server["id"], "--host", "one", status=3)
        self.assertEqual(["one"], list(only))
        self.assertEqual("accept", only["one"]["verdict"])
        for name in ("one", "two"):
            moved = self.live_migrate(server, name)
            self.assertEqual(("home", []), (moved.host, moved.tried))
        self.assertIn("no cell has the host", self.ask(server["id"], "--host", "x", status=2)[1])
        self.assertIn("is on home already", self.ask(server["id"], "--host", "home", status=2)[1])
        self.assertIn("there is no instance", self.ask(base.IMAGE, status=2)[1])
        self.api.put_service(services["one"]["id"], {"status": "enabled"})
        self.api.put_service(services["two"]["id"], {"forced_down": False})

        # The nearest miss comes first, whatever the hosts are called.
        for name, version in (("one", "0.9"), ("two", "1.1"), ("mute", "1.0")):
            self.equip(name, version, "1.2", "10.0.0")
        self.settle()
        rows, _ = self.ask(server["id"], status=0)
        self.assertEqual(["two", "mute", "one"], list(rows)[-3:])
        self.assertEqual("host", rows["two"]["act"])
        self.assertRegex(rows["two"]["reasons"], r"needs 1\.2, offered 1\.1, too old")
        # What Nova's driver would find out late, of the versions that are known.
        ancient = self.inventory_of(two=[gpu("1.3"), nic("1.2"), libvirt("8.0.0")])
        would, _ = self.ask(server["id"], "--assume", f"two={ancient}", status=0)
        self.assertIn("libvirt-too-old: 8.0.0 < 8.6.0", would["two"]["nova"])
        self.assertEqual("", would["one"]["nova"])
        # As it would be with another driver is as it is then, traits and all.
        newer = self.inventory_of(two=[gpu("1.3"), nic("1.2"), libvirt("10.0.0")])
        would, told = self.ask(server["id"], "--assume", f"two={newer}", status=0)
        self.assertIn(f"Assumed: two is as in {newer}", told)
        self.assertEqual(["accept"] * 3, [would["two"][line] for line in LINES])
        self.equip("two", "1.3", "1.2", "10.0.0")
        self.settle()
        self.assertEqual(would, self.ask(server["id"], status=0)[0])
        # Nova asks for post-copy where the guest's own host permits it, unless it is paused.
        untold = "live_migration_permit_post_copy of the guest's host"
        self.assertNotIn(untold, self.ask(server["id"], status=0)[1])
        for permitted in ("one", "home"):
            self.permit_post_copy(permitted)
        _, told = self.ask(server["id"], status=3)
        self.assertIn("does not migrate it as it is: source-post-copy: home has [libvirt]", told)
        other = self.boot("one", {})
        self.assertNotIn("post", self.ask(other["id"], status=0)[1])
        self.api.post_server_action(server["id"], {"pause": None})
        self.ask(server["id"], status=0)
        for permitted in ("one", "home"):
            self.permit_post_copy(permitted, False)
        self.api.post_server_action(server["id"], {"unpause": None})
        self.api.post_server_action(server["id"], {"os-stop": None})
        self.progress.wait_until(
            lambda: self.api.get_server(server["id"])["status"] == "SHUTOFF", "the guest to stop"
        )
        _, told = self.ask(server["id"], status=3)
        self.assertIn("Nova does not migrate it as it is: not-running: the server is stop", told)


def test_no_database(tmp_path):
    (tmp_path / "nova.conf").touch()
    done = nova_devcompat("explain", base.IMAGE, "--config-file", str(tmp_path / "nova.conf"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "no connection is configured in [api_database]" in done.stderr
