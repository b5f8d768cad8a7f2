# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Host families: guests go where QEMU and libvirt have what they use."""

import pathlib
import re
import threading
import time
from unittest import mock

import fixtures
import nova.conf
import yaml
from nova.tests.fixtures import libvirt as fakelibvirt

from nova_devcompat.catalog import packs
from nova_devcompat.compat import traits
from nova_devcompat.sources.base import SourceError
from tests.functional import base
from tests.functional.devcompat import CATALOG, VGPU, DeviceCompatFleet, device, gpu
from tests.functional.domains import Domains

CONF = nova.conf.CONF


USES = pathlib.Path(__file__).with_name("uses.yaml")


def family(name, path=None):
    """A pack's family, or one of another catalog, as a static inventory tells of it."""
    content = yaml.safe_load((path or packs.FOLDER / f"{name}.yaml").read_text())
    return {**content["families"][name], "source": "static"}


def machines(*types, q35=None):
    return device(
        "qemu_machine",
        "qemu_machine",
        component="qemu_machine",
        machine_types=list(types),
        machine_aliases={"q35": q35 or types[-1]},
    )


def libvirt(version):
    return device("libvirt", "libvirt", component="libvirt", libvirt_version=version)


def qemu(version):
    return device("qemu", "qemu", component="qemu", qemu_version=version)


class HostFamilies(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}

    def setUp(self):
        super().setUp()
        self.domains = self.useFixture(Domains())
        self.flags(hw_machine_type=["x86_64=q35"], group="libvirt")

    def start(self, **parts):
        """Start hosts, by name, of these parts; one with devices has a GPU."""
        for name, listed in parts.items():
            self.set_devices(name, *listed)
            for one in listed:
                self.domains.aliases.setdefault(name, {}).update(
                    one["attributes"].get("machine_aliases", {})
                )
            has_gpu = any(one["family"] == "gpu" for one in listed)
            self.start_host(name, gpus=[base.Gpu()] if has_gpu else [])
        self.settle()

    def move(self, server, host):
        moved = self.live_migrate(server)
        self.assert_moved(host, moved)
        self.assertEqual([host], moved.tried)

    def assert_told(self, text):
        """That a line of the log has this."""
        self.assertTrue(self.logs.lines.find(re.escape(text)), text)

    def assert_cannot_move(self, server, host):
        moved = self.live_migrate(server)
        self.assert_stays(host, moved, server)
        # The scheduler has it; no destination was asked.
        self.assertEqual([], moved.tried)


class MachineTypeTest(HostFamilies):
    FAMILIES = {"qemu_machine": family("qemu_machine")}

    OLD = machines("pc-q35-8.0", "pc-q35-8.1")
    NEW = machines("pc-q35-8.1", "pc-q35-8.2")
    NEED = {"qemu_machine.machine_types=pc-q35-8.2"}

    def test_a_guest_is_kept_off_a_host_whose_qemu_stops_short(self):
        self.start(old=[self.OLD], new=[self.NEW], newer=[self.NEW])
        server = self.boot("new")
        self.assertEqual(self.NEED, self.needed(server))
        self.shuffle_hosts(3)
        for host in ("newer", "new", "newer"):
            with self.placement_log.during() as calls:
                self.move(server, host)
            (asked,) = calls.candidates
            (atom,) = self.record_of(server).atoms
            self.assertIn(traits.encode(atom), asked.required)
            self.assertNotIn("old", self.offered_hosts(asked))
        self.assertEqual(self.NEED, self.needed(server))

    def test_nowhere_else_to_go(self):
        self.start(old=[self.OLD], new=[self.NEW])
        server = self.boot("new")
        self.assert_cannot_move(server, "new")
        self.assert_told(
            "old: qemu_machine.machine_types: needs pc-q35-8.2, offered pc-q35-8.0,pc-q35-8.1, "
            "not among the host's values"
        )

    def test_a_guest_of_the_older_goes_both_ways(self):
        self.start(old=[self.OLD], new=[self.NEW])
        server = self.boot("old")
        need = {"qemu_machine.machine_types=pc-q35-8.1"}
        self.assertEqual(need, self.needed(server))
        self.move(server, "new")
        # What q35 stands for there does not matter.
        self.assertEqual(need, self.needed(server))
        self.move(server, "old")

    def test_without_the_prefilter_the_filter_decides(self):
        self.flags(prefilter=False, group="devcompat")
        self.start(old=[self.OLD], new=[self.NEW])
        self.assert_cannot_move(self.boot("new"), "new")

    def test_past_the_scheduler_admission_decides(self):
        self.flags(prefilter=False, group="devcompat")
        self.start(old=[self.OLD], new=[self.NEW])
        server = self.boot("new")
        # What the scheduler knows of the host is out of date.
        self.set_stats("old", self.stats_of("new")["devcompat"])
        moved = self.live_migrate(server)
        self.assertEqual(["old"], moved.tried)
        self.assert_stays("new", moved, server)

    def test_a_hard_reboot_and_a_cold_migration_freeze_it_anew(self):
        self.start(old=[self.OLD], new=[self.NEW])
        server = self.boot("old")
        self.set_devices("old", machines("pc-q35-8.1", "pc-q35-8.2"))
        self.domains.aliases["old"] = {"q35": "pc-q35-8.2"}
        self.run_periodic()
        self.assertEqual({"qemu_machine.machine_types=pc-q35-8.1"}, self.needed(server))
        self._reboot_server(server, hard=True)
        self.assertEqual(self.NEED, self.needed(server))

    def test_adoption_of_a_running_guest(self):
        self.set_families(CATALOG)
        self.start(old=[self.OLD], new=[self.NEW])
        server = self.boot("new")
        self.assertIsNone(self.record_of(server))
        self.set_families(self.FAMILIES)
        self.run_periodic()
        self.assertEqual(self.NEED, self.needed(server))
        (need,) = self.record_of(server).devices
        self.assertEqual({"machine_types", "qemu_version"}, need.assumed)
        self.settle()
        self.assert_cannot_move(server, "new")

    def test_a_source_that_gives_no_answer_for_a_while(self):
        """A guest that is started meanwhile has its record completed once it does."""
        self.start(new=[self.NEW], newer=[self.NEW])
        moved = self.boot("new")
        busy = SourceError("source 'static' gives no answer")
        with mock.patch("nova_devcompat.sources.static.StaticSource.read", side_effect=busy):
            self.run_periodic()
            ours = [one for one in self.traits_of("new") if one.startswith(traits.PREFIX)]
            self.assertEqual([], ours)
            started = self.boot("new")
            self.settle()
            for server in (moved, started):
                self.assert_cannot_move(server, "new")
            self.assertEqual(self.NEED, self.needed(moved))
        self.settle()
        for server in (moved, started):
            self.assertEqual(self.NEED, self.needed(server))
            self.move(server, "newer")

    def test_a_libvirt_that_is_slow(self):
        """How long it may take to describe a guest is [devcompat] source_timeout."""
        describe = fakelibvirt.Domain.XMLDesc

        def slowly(domain, flags):
            # Nova itself need not wait.
            if threading.current_thread().name.startswith("devcompat-"):
                time.sleep(1.5)
            return describe(domain, flags)

        slow = fixtures.MonkeyPatch("nova.tests.fixtures.libvirt.Domain.XMLDesc", slowly)
        self.start(patient=[self.NEW])
        self.flags(source_timeout=1.0, group="devcompat")
        self.start(hasty=[self.NEW])
        patient, hasty = self.boot("patient"), self.boot("hasty")
        with slow:
            for server in (patient, hasty):
                self._reboot_server(server, hard=True)
        self.assertEqual(self.NEED, self.needed(patient))
        self.assertNotEqual(self.NEED, self.needed(hasty))
        # What was given up goes on for a moment, and is not asked again meanwhile.
        for thread in threading.enumerate():
            if thread.name == "devcompat-the domain":
                thread.join(10)
        self.run_periodic()
        self.assertEqual(self.NEED, self.needed(hasty))

    def test_a_guest_without_a_record_is_unknown(self):
        self.start(new=[self.NEW], newer=[self.NEW])
        server = self.boot("new")
        instance = self.instance(server)
        instance.system_metadata = {
            key: value
            for key, value in instance.system_metadata.items()
            if not key.startswith("devcompat:")
        }
        instance.save()
        self.assert_cannot_move(server, "new")
        self.assert_told("qemu_machine: the guest's record says nothing of it")

    def test_a_pin_chooses_hosts_and_is_not_recorded(self):
        self.start(old=[self.OLD], new=[self.NEW])
        server = self.boot(None, {"devcompat:qemu_machine.machine_types": "pc-q35-8.2"})
        self.assertEqual("new", self.host_of(server))
        self.assertEqual(self.NEED, self.needed(server))
        self.boot(None, {"devcompat:qemu_machine.machine_types": "pc-q35-9.9"}, expect="ERROR")

    def test_boots_of_plain_guests_cost_nothing(self):
        self.start(new=[self.NEW])
        with self.placement_log.during() as calls:
            self.boot(None)
        (asked,) = calls.candidates
        self.assertFalse([name for name in asked.required if "DEVCOMPAT" in name])


class MultifunctionTest(HostFamilies):
    """background: multifunction and older libvirt."""

    FAMILIES = {"libvirt": family("libvirt", USES)}

    def setUp(self):
        super().setUp()
        self.flags(num_pcie_ports=4, group="libvirt")

    def start_both(self):
        self.start(old=[libvirt("2.5.0")], new=[libvirt("3.0.0")])

    def test_implied_it_needs_a_libvirt_that_implies_it(self):
        self.domains.says_multifunction = False
        self.start_both()
        server = self.boot("new")
        self.assertEqual({"libvirt.libvirt_version=3.0.0"}, self.needed(server))
        self.assert_cannot_move(server, "new")
        self.assert_told("old: libvirt.libvirt_version: needs 3.0.0")

    def test_explicit_it_needs_nothing(self):
        self.start_both()
        server = self.boot("new")
        self.assertEqual(set(), self.needed(server))
        for host in ("old", "new"):
            self.move(server, host)

    def test_a_guest_without_such_ports_needs_nothing(self):
        self.flags(num_pcie_ports=0, group="libvirt")
        self.domains.says_multifunction = False
        self.start_both()
        server = self.boot("new")
        self.assertEqual(set(), self.needed(server))
        self.move(server, "old")


class MemdevTest(HostFamilies):
    """background: requires-memdev."""

    FAMILIES = {"libvirt": family("libvirt", USES), "qemu": family("qemu", USES)}

    def start_both(self):
        self.start(
            old=[libvirt("3.0.0"), qemu("2.8.0")],
            new=[libvirt("4.10.0"), qemu("2.12.0")],
            newer=[libvirt("9.0.0"), qemu("7.2.0")],
        )

    def test_a_guest_with_a_memdev_needs_a_libvirt_that_knows_it(self):
        self.flags(file_backed_memory=1048576, group="libvirt")
        self.flags(ram_allocation_ratio=1.0, reserved_host_memory_mb=0)
        self.start_both()
        server = self.boot("newer")
        self.assertEqual(
            {"libvirt.libvirt_version=4.4.0", "qemu.qemu_version=2.1"}, self.needed(server)
        )
        for host in ("new", "newer"):
            self.move(server, host)

    def test_a_guest_without_goes_to_any(self):
        self.start(old=[libvirt("3.0.0"), qemu("2.0.0")], new=[libvirt("9.0.0"), qemu("7.2.0")])
        server = self.boot("new")
        self.assertEqual(set(), self.needed(server))
        for host in ("old", "new"):
            self.move(server, host)


class BesideDevicesTest(HostFamilies):
    """A guest with a device, of a host that is judged too."""

    FAMILIES = {**CATALOG, "qemu_machine": family("qemu_machine")}

    def test_both_decide(self):
        old, new = machines("pc-q35-8.1"), machines("pc-q35-8.1", "pc-q35-8.2")
        self.start(
            here=[gpu("1.2"), new],
            fits=[gpu("1.4"), new],
            oldgpu=[gpu("1.0"), new],
            oldqemu=[gpu("1.4"), old],
        )
        server = self.boot("here", VGPU)
        need = {"gpu.version=1.2", "qemu_machine.machine_types=pc-q35-8.2"}
        self.assertEqual(need, self.needed(server))
        self.shuffle_hosts(7)
        for host in ("fits", "here"):
            self.move(server, host)
        self.assertEqual(need, self.needed(server))

    def test_a_plain_guest_on_hosts_with_devices(self):
        new = machines("pc-q35-8.2")
        self.start(here=[gpu("1.2"), new], there=[gpu("1.0"), new])
        server = self.boot("here")
        self.assertEqual({"qemu_machine.machine_types=pc-q35-8.2"}, self.needed(server))
        self.move(server, "there")
