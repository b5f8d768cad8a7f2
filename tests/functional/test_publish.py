# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What hosts tell: traits on the root provider and a document in the stats, as things change."""

import io
import json
import logging
import time
from contextlib import redirect_stderr
from unittest import mock

from nova.compute import provider_tree
from nova.scheduler.client import report
from nova.virt import driver, fake

from nova_devcompat import wire
from nova_devcompat.compat import traits
from tests.functional import base
from tests.functional.base import VF_BY_CLASS, VF_SPEC
from tests.functional.devcompat import (
    CATALOG,
    GPU_2,
    VF,
    VGPU,
    DeviceCompatFleet,
    gpu,
    nic,
)


class PublishTest(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}

    def ask(self, method, url, body=None):
        client = report.report_client_singleton()
        args = [url] if method in ("get", "delete") else [url, body]
        return getattr(client, method)(*args, version="1.6")

    def add_root_traits(self, host, *names):
        """Set traits as an operator does, who has nothing to do with us."""
        for name in names:
            self.ask("put", f"/traits/{name}")
        uuid = self._get_provider_uuid_by_name(host)
        found = self.ask("get", f"/resource_providers/{uuid}/traits").json()
        found["traits"] += names
        answer = self.ask("put", f"/resource_providers/{uuid}/traits", found)
        self.assertEqual(200, answer.status_code)
        self.computes[host].manager.rt.reportclient.clear_provider_cache()

    def test_a_host_publishes_what_it_accepts(self):
        self.start_gpu_hosts(a="1.0", b="1.2", c="2.0")
        self.assertEqual({"GPU__VERSION__1_0"}, self.our_traits("a"))
        self.assertEqual({"GPU__VERSION__1_0", "GPU__VERSION__1_2"}, self.our_traits("b"))
        self.assertEqual({"GPU__VERSION__2_0"}, self.our_traits("c"))
        # Nowhere else: Nova wipes custom traits from PCI providers.
        for name in self.provider_names().values():
            if name not in ("a", "b", "c"):
                self.assertEqual(set(), self.our_traits(name))

        document = wire.load_stats(self.stats_of("b")[wire.STATS_KEY])
        (device,) = document.devices
        self.assertEqual("0000:81:00.0", device.address)
        provider = self._get_provider_uuid_by_name("b_pci_0000_81_00_0")
        self.assertEqual((provider,), device.providers)
        accepts = device.accepts.attributes["version"]
        self.assertEqual({"1.0", "1.2"}, accepts.accepted)
        self.assertEqual({"2.0"}, set(accepts.rejected))
        self.assertTrue(document.whole)

    def test_a_host_creates_the_atoms_of_its_own_offers(self):
        """Before any guest depends on them."""
        self.start_gpu_hosts(a="1.7")
        found = self.ask("get", f"/traits?name=startswith:{traits.PREFIX}").json()
        self.assertEqual(["CUSTOM_DEVCOMPAT_GPU__VERSION__1_7"], found["traits"])

    def test_the_first_document_names_providers_after_a_restart(self):
        """Though Nova wants the stats before it shows the tree."""
        self.start_gpu_hosts(a="1.0")
        self.restart_host("a")
        document = wire.load_stats(self.stats_of("a")[wire.STATS_KEY])
        self.assertEqual(1, len(document.devices[0].providers))

    def test_a_version_changes_while_nova_compute_runs(self):
        self.start_gpu_hosts(a="1.0", b="1.2")
        server = self.boot("b", VGPU)
        moved = self.live_migrate(server)
        self.assert_stays("b", moved, server)

        self.set_devices("a", gpu("1.4"))
        self.run_periodic("a")

        self.assertEqual(
            {"GPU__VERSION__1_0", "GPU__VERSION__1_2", "GPU__VERSION__1_4"}, self.our_traits("a")
        )
        self.assertIn('"o":"1.4"', self.stats_of("a")[wire.STATS_KEY])
        self.assert_moved("a", self.live_migrate(server))

        self.set_devices("b", gpu("1.1"))
        self.run_periodic("b")
        self.assertEqual({"GPU__VERSION__1_0", "GPU__VERSION__1_1"}, self.our_traits("b"))
        self.assert_stays("a", self.live_migrate(server), server)

    def test_nothing_changed_nothing_written(self):
        self.start_gpu_hosts(a="1.0", b="1.2")
        self.run_periodic()
        before = self.stats_of("a")[wire.STATS_KEY]
        for _ in range(3):
            with self.placement_log.during() as calls:
                self.run_periodic("a")
            self.assertEqual([], [str(call) for call in calls.writes])
            ours = [str(call) for call in calls if call.path == "/traits"]
            self.assertEqual(1, len(ours), ours)
        self.assertEqual(before, self.stats_of("a")[wire.STATS_KEY])

    def test_traits_of_others_are_left_alone(self):
        self.start_gpu_hosts(a="1.0", b="1.2")
        foreign = [
            "CUSTOM_RACK_7",
            "CUSTOM_DEVCOMPATIBLE",
            # Under our prefix, but no atom encodes to them.
            "CUSTOM_DEVCOMPAT_X",
            "CUSTOM_DEVCOMPAT_GPU__VERSION__1__2",
        ]
        # One that is ours in form, and does not hold.
        stale = "CUSTOM_DEVCOMPAT_GPU__VERSION__9_9"
        self.add_root_traits("a", *foreign, stale)
        with self.logs.during() as lines:
            self.run_periodic("a")
        left = self.traits_of("a")
        self.assertEqual(set(), set(foreign) - left)
        self.assertNotIn(stale, left)
        self.assertEqual([], lines.find(logger="nova_devcompat").errors)

    def test_an_atom_that_somebody_else_created(self):
        """A pin, or a release of ours with another rule: evaluated if a rule can read it."""
        self.start_gpu_hosts(a="1.4")
        for value in ("1_3", "2_0", "banana"):
            self.ask("put", f"/traits/CUSTOM_DEVCOMPAT_GPU__VERSION__{value.upper()}")
        self.run_periodic("a")
        self.assertEqual({"GPU__VERSION__1_3", "GPU__VERSION__1_4"}, self.our_traits("a"))

    def test_placement_does_not_answer(self):
        """What was known before goes on to hold."""
        self.start_gpu_hosts(a="1.0", b="1.2")
        publisher = self.computes["b"].driver._devcompat_host.publisher
        original = publisher._placement.known_atoms
        publisher._placement.known_atoms = lambda: None
        self.addCleanup(setattr, publisher._placement, "known_atoms", original)
        with self.placement_log.during() as calls:
            self.run_periodic("b")
        self.assertEqual([], [str(call) for call in calls.writes])
        self.assertEqual({"GPU__VERSION__1_0", "GPU__VERSION__1_2"}, self.our_traits("b"))
        # Nor after a restart, when nothing was known before.
        self.restart_host("b")
        publisher = self.computes["b"].driver._devcompat_host.publisher
        publisher._atoms, publisher._atoms_read = frozenset(), False
        publisher._placement.known_atoms = lambda: None
        self.run_periodic("b")
        self.assertEqual({"GPU__VERSION__1_0", "GPU__VERSION__1_2"}, self.our_traits("b"))

    def test_a_device_disappears(self):
        self.set_devices("a", gpu("1.0"), gpu("1.4", GPU_2))
        self.start_host("a", gpus=[base.Gpu(), base.Gpu(address=GPU_2)])
        self.settle()
        self.assertEqual({"GPU__VERSION__1_0", "GPU__VERSION__1_4"}, self.our_traits("a"))
        self.set_devices("a", gpu("1.0"))
        self.run_periodic("a")
        self.assertEqual({"GPU__VERSION__1_0"}, self.our_traits("a"))

    def test_a_value_too_long_for_a_trait(self):
        self.set_families(
            {
                "gpu": {
                    "match": {"device": "gpu"},
                    "source": "static",
                    "rules": {"version": "equal"},
                }
            }
        )
        self.set_devices("a", gpu("x" * 240))
        with self.logs.during() as lines:
            self.start_host("a", gpus=[base.Gpu()])
            self.run_periodic()
            self.run_periodic()
        self.assertEqual(set(), self.our_traits("a"))
        errors = lines.find("not published: .*would have .* characters").errors
        self.assertEqual(1, len(errors), errors)


class PciPublishTest(DeviceCompatFleet):
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    def test_a_virtual_function_stands_for_its_parent(self):
        self.start_nic_hosts(a="1.2")
        (device,) = wire.load_stats(self.stats_of("a")[wire.STATS_KEY]).devices
        self.assertEqual("0000:82:00.0", device.address)
        self.assertEqual((self._get_provider_uuid_by_name("a_0000:82:00.0"),), device.providers)
        server = self.boot("a", VF)
        (need,) = self.record_of(server).devices
        self.assertRegex(need.address, r"0000:82:00\.[12]")
        self.assertTrue(need.slot.startswith("pci:"))

    def test_traits_survive_what_nova_does_to_pci_providers(self):
        self.start_nic_hosts(a="1.2")
        self.restart_host("a")
        self.computes["a"].manager.rt.reportclient.clear_provider_cache()
        self.run_periodic()
        self.assertEqual({"NIC__FW_VERSION__1_2"}, self.our_traits("a"))


class CatalogTest(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}

    def give_up(self, start):
        """Start a service that must stop with one line; that line."""
        stderr = io.StringIO()
        with self.logs.during() as lines, redirect_stderr(stderr):
            self.assertRaises(SystemExit, start)
        (line,) = lines.find(level=logging.CRITICAL, logger="nova_devcompat")
        self.assertNotIn("Traceback", str(line))
        return str(line)

    def write(self, text):
        self.catalog_file.write_text(text)

    def test_a_wrong_catalog_stops_nova_compute(self):
        self.set_families({"gpu": {**CATALOG["gpu"], "rules": {"version": "semvar"}}})
        line = self.give_up(lambda: self.start_host("a"))
        self.assertRegex(line, r"devcompat\.yaml:\d+: families\.gpu\.rules\.version: .*semver")

    def test_a_missing_catalog_stops_nova_compute(self):
        self.catalog_file.unlink()
        line = self.give_up(lambda: self.start_host("a"))
        self.assertRegex(line, r"devcompat\.yaml")

    def test_a_wrong_inventory_stops_nova_compute(self):
        self.inventory_file.write_text(
            "meta: {schema_version: '1.0'}\n"
            "hosts:\n"
            "  a:\n"
            "    devices:\n"
            "      - {address: '0000:81:00.0', family: gpu, attributes: {version: 1.40}}\n"
        )
        line = self.give_up(lambda: self.start_host("a"))
        self.assertRegex(line, r"inventory\.yaml:5: hosts\.a\.devices\W0\W*\.attributes\.version")
        self.assertIn("'1.40'", line)

    def test_a_driver_that_does_not_exist(self):
        for name in ("libvirt.NoSuchDriver", "nosuch.Driver", "fake.FakeInstance"):
            self.flags(virt_driver=name, group="devcompat")
            self.assertIn(name, self.give_up(lambda: self.start_host("a")))
        self.flags(virt_driver="devcompat.DeviceCompatDriver", group="devcompat")
        self.assertIn("wrap itself", self.give_up(lambda: self.start_host("a")))

    def test_a_catalog_that_goes_wrong_later(self):
        """The last good one stays in use, in nova-compute and in nova-scheduler."""
        self.start_gpu_hosts(old="1.0", mid="1.2", new="1.4")
        server = self.boot("mid", VGPU)
        good = self.catalog_file.read_text()
        self.write("families: [")
        time.sleep(1.1)  # files are looked at once a second at most
        with self.logs.during() as lines:
            self.run_periodic()
            self.run_periodic()
            self.assert_moved("new", self.live_migrate(server))
        told = lines.find(r"devcompat\.yaml", level=logging.ERROR)
        self.assertEqual(4, len(told), "once in each of three computes and the scheduler")
        self.assertEqual({"GPU__VERSION__1_0"}, self.our_traits("old"))

        # When it is mended it is read, and what it says holds.
        self.write(good.replace("semver", "equal"))
        time.sleep(1.1)
        self.run_periodic()
        self.assertEqual({"GPU__VERSION__1_4"}, self.our_traits("new") - {"GPU__VERSION__1_2"})

    def test_the_host_has_no_entry_in_the_inventory(self):
        self.set_devices("somebody-else", gpu("1.0"))
        with self.logs.during() as lines:
            self.start_host("a", gpus=[base.Gpu()])
            self.run_periodic()
        self.assertEqual(set(), self.our_traits("a"))
        self.assertEqual([], lines.find(logger="nova_devcompat").errors)
        document = json.loads(self.stats_of("a")[wire.STATS_KEY])
        self.assertEqual([], document["g"])


class RestartTest(DeviceCompatFleet):
    """Boot, live migration and a restart of nova-compute, as often as a rolling upgrade has it."""

    MDEV_TYPES = {"nvidia-11": ()}
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    def test_rolling_restart(self):
        for name, version in (("old", "1.0"), ("mid", "1.2"), ("new", "1.4")):
            self.set_devices(name, gpu(version), nic(version))
            self.start_host(name, gpus=[base.Gpu()], pfs=[base.Pf()])
        self.settle()
        server = self.boot("mid", {**VGPU, **VF})
        need = self.needed(server)
        for host, there in (("old", "new"), ("mid", "mid"), ("new", "new")):
            self.restart_host(host)
            self.assert_moved(there, self.live_migrate(server))
            self.assertEqual(need, self.needed(server))
        self.assertEqual({"gpu.version=1.2", "nic.fw_version=1.2"}, need)


class FakeDriverTest(DeviceCompatFleet):
    """Nova's fake drivers are wrapped as libvirt's is."""

    def test_publishes(self):
        self.set_devices("a", gpu("1.2", "dev0"))
        for name in ("FakeDriverWithoutFakeNodes", "FakeLiveMigrateDriver", "SmallFakeDriver"):
            self.flags(virt_driver=f"fake.{name}", group="devcompat")
            wrapped = driver.load_compute_driver(mock.Mock(), self.COMPUTE_DRIVER)
            self.assertIsInstance(wrapped, getattr(fake, name))
            wrapped.init_host("a")
            (document,) = (wrapped.get_available_resource("a")["stats"][wire.STATS_KEY],)
            self.assertEqual("gpu", wire.load_stats(document).devices[0].accepts.family)
            tree = provider_tree.ProviderTree()
            tree.new_root("a", "4c2a3ff6-8d21-4a85-9f53-6d4a3f5a8f0b")
            wrapped.update_provider_tree(tree, "a")
            self.assertIn("CUSTOM_DEVCOMPAT_GPU__VERSION__1_2", tree.data("a").traits)
