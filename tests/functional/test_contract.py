# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A driver API that is not the one that we know: what it concerns is off, and all else works."""

import io
import logging
from contextlib import redirect_stderr

import fixtures
from nova.virt import driver as virt_driver
from nova.virt.libvirt import driver as libvirt_driver

from tests.functional import base
from tests.functional.base import VF_BY_ID, VF_SPEC
from tests.functional.devcompat import PF, PF_2, VF, DeviceCompatFleet, nic

LATE = "check_source_migrate_data_at_dest"
ORIGINAL = libvirt_driver.LibvirtDriver.check_source_migrate_data_at_dest
OFF = "nova-devcompat leaves"


class AnotherNova:
    """A driver as a compute manager of another Nova calls it.

    :param driver: ours
    :param calls: by method, what makes that Nova's arguments of those that this Nova passes
    """

    def __init__(self, driver, calls):
        self._driver = driver
        self._calls = calls

    def __getattr__(self, name):
        method = getattr(self._driver, name)
        if name not in self._calls:
            return method
        return lambda *args, **kwargs: method(*self._calls[name](*args), **kwargs)


class ContractTest(DeviceCompatFleet):
    """Early admission lets ``other`` pass, since one of its devices would do. Only that one is not
    what Nova claims there, which the late one sees.
    """

    DEVICE_SPEC = [VF_SPEC]
    ALIASES = [VF_BY_ID]
    PCI_IN_PLACEMENT = False

    def change(self, name, method):
        """Let Nova's drivers have another method of this name, or None for none."""
        for driver in (virt_driver.ComputeDriver, libvirt_driver.LibvirtDriver):
            # Not MonkeyPatch, which puts a wrapper with another signature around functions.
            self.useFixture(fixtures.MockPatchObject(driver, name, method))
            if method is None:
                delattr(driver, name)

    def start(self, **calls):
        """Start the hosts of another Nova; the lines of log about its driver API."""
        self.set_devices("mid", nic("1.2"))
        self.set_devices("other", nic("1.0", PF), nic("1.4", PF_2))
        with self.logs.during() as lines:
            for name in ("mid", "other"):
                manager = self.start_host(name, pfs=[base.Pf()]).manager
                manager.driver = AnotherNova(manager.driver, calls)
        self.settle()
        return lines.find(OFF, level=logging.ERROR)

    def move(self):
        """Force a guest to ``other``, past the scheduler."""
        self.server = self.boot("mid", VF)
        self.assertEqual({"nic.fw_version=1.2"}, self.needed(self.server))
        return self.live_migrate(self.server, "other", force=True)

    def assert_refused(self, moved):
        self.assertRegex(self.refusals(self.server)[moved.tried[0]], r"needs 1\.2, offered 1\.0")
        self.assert_stays("mid", moved, self.server)

    def assert_caught_last(self, moved):
        """Just before the copy, which the guest does not notice."""
        self.assertEqual("failed", moved.status)
        self.assertRegex(self.refusals(self.server)["other"], r"needs 1\.2, offered 1\.0")
        self.assert_stays("mid", moved, self.server)

    def test_this_nova(self):
        self.assertEqual([], self.start())
        self.assert_refused(self.move())

    def test_a_parameter_is_lost(self):
        def without_allocs(self, ctxt, instance, migrate_data, migration, limits):
            return ORIGINAL(self, ctxt, instance, migrate_data, migration, limits, {})

        self.change(LATE, without_allocs)
        told = self.start(**{LATE: lambda *args: args[:-1]})
        self.assertEqual(2, len(told), "one for each nova-compute")
        self.assertRegex(
            str(told[0]),
            rf"leaves {LATE} alone, .*: ComputeDriver\.{LATE} has no parameter allocs; it has "
            r"ctxt, instance, migrate_data, migration, limits\. What is lost: .*"
            r"it fails rather than tries the next host\. Install ",
        )
        # As that line says; and whatever is not lost works.
        with self.logs.during() as lines:
            self.assert_caught_last(self.move())
        self.assertEqual([], lines.find("TypeError"))
        self.assertEqual([], lines.find(logger="nova_devcompat").errors)
        self.set_devices("other", nic("1.2", PF), nic("1.4", PF_2))
        self.assert_moved("other", self.live_migrate(self.server, "other", force=True))
        (device,) = self.record_of(self.server).devices
        self.assertIn(device.address, self.pci_devices_of("other", self.server))
        self.set_devices("mid", nic("1.0"))
        moved = self.live_migrate(self.server, "mid", force=True)
        self.assertRegex(self.refusals(self.server)[moved.tried[0]], r"needs 1\.2, offered 1\.0")
        self.assert_stays("other", moved, self.server)

    def test_a_parameter_is_gained(self):
        def with_more(self, ctxt, instance, network_info, migrate_data, migration, limits, allocs):
            return ORIGINAL(self, ctxt, instance, migrate_data, migration, limits, allocs)

        self.change(LATE, with_more)
        told = self.start(**{LATE: lambda *args: (*args[:2], "network_info", *args[2:])})
        self.assertEqual([], told)
        self.assert_refused(self.move())
        self.set_devices("other", nic("1.4"))
        self.assert_moved("other", self.live_migrate(self.server, "other", force=True))

    def test_a_method_is_lost(self):
        self.change(LATE, None)
        told = self.start(**{LATE: None})
        self.assertEqual(2, len(told), "one for each nova-compute")
        self.assertRegex(str(told[0]), rf"ComputeDriver\.{LATE} is missing\. What is lost: ")
        driver = self.computes["mid"].manager.driver
        self.assertFalse(hasattr(driver, LATE), "as without us")
        # That Nova would not call it, so its place is taken by what does nothing.
        for host in self.computes.values():
            setattr(
                host.manager.driver, LATE, lambda ctxt, instance, migrate_data, *_: migrate_data
            )
        self.assert_caught_last(self.move())

    def test_a_call_with_unexpected_arguments(self):
        """Nova says one thing and does another: the driver has to know what to make of it."""
        self.assertEqual([], self.start(**{LATE: lambda *args: (*args, "more")}))

        def any_number(self, *args):
            return ORIGINAL(self, *args[:6])

        self.change(LATE, any_number)
        with self.logs.during() as lines:
            self.assert_caught_last(self.move())
        (told,) = lines.find(f"{LATE} was called with unexpected arguments", level=logging.ERROR)
        self.assertRegex(str(told), r"\(7 by place, by name: none\).* What is lost: ")
        self.assertEqual([], lines.find("TypeError"))

    def test_strict(self):
        self.flags(strict_driver_contract=True, group="devcompat")
        self.assertEqual([], self.start())
        self.change("get_info", lambda self, instance: None)
        self.change(LATE, None)
        stderr = io.StringIO()
        with self.logs.during() as lines, redirect_stderr(stderr):
            self.assertRaises(SystemExit, lambda: self.start_host("third", pfs=[base.Pf()]))
        (line,) = lines.find(logger="nova_devcompat").errors
        self.assertEqual(logging.CRITICAL, line.level)
        self.assertRegex(
            str(line),
            r"\[devcompat\] strict_driver_contract is set, .*: "
            rf"ComputeDriver\.{LATE} is missing; ComputeDriver\.get_info cannot be called with "
            r"\(instance, use_cache\): ",
        )
        self.assertNotIn("Traceback", str(line))
