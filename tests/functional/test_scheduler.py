# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How the filter and the prefilter sit in Nova's scheduler."""

from unittest import mock

from nova.scheduler import request_filter

from nova_devcompat.compat.ruling import Guest
from nova_devcompat.compat.verdict import Actor, Reason
from nova_devcompat.scheduler import explain, filters, lookup, watch, weights
from tests.functional import base
from tests.functional.devcompat import VGPU, DeviceCompatFleet, gpu


class PluginTest(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}

    def ours(self):
        return [
            one for one in request_filter.ALL_REQUEST_FILTERS if one.__name__ == "devcompat_filter"
        ]

    def test_the_request_filter_is_added_once(self):
        self.assertEqual(1, len(self.ours()))
        (before,) = self.ours()
        # As a second worker, a reload or a second scheduler in the process does.
        filters.DeviceCompatFilter()
        (after,) = self.ours()
        self.assertIsNot(before, after)

    def test_what_others_added_stays(self):
        def someone_elses(context, spec):
            return False

        request_filter.ALL_REQUEST_FILTERS.append(someone_elses)
        filters.DeviceCompatFilter()
        self.assertIn(someone_elses, request_filter.ALL_REQUEST_FILTERS)

    def test_all_filters_are_those_of_the_entry_points(self):
        self.assertEqual([filters.DeviceCompatFilter], filters.all_filters())
        self.assertEqual([weights.DeviceCompatWeigher], weights.all_weighers())

    def test_nothing_of_the_request_is_stored(self):
        """What the prefilter requires is for one request only."""
        from nova import objects

        self.start_gpu_hosts(a="1.2", b="1.2")
        server = self.boot("a", VGPU)
        self.assert_moved("b", self.live_migrate(server))
        spec = objects.RequestSpec.get_by_instance_uuid(self.context, server["id"])
        self.assertFalse([t for t in spec.root_required if "DEVCOMPAT" in t])

    def test_a_boot_needs_nothing(self):
        self.start_gpu_hosts(a="1.2")
        with self.placement_log.during() as calls:
            self.boot(None, VGPU)
        (asked,) = calls.candidates
        self.assertFalse([trait for trait in asked.required if "DEVCOMPAT" in trait])

    def test_ten_hosts_are_named_and_the_rest_counted(self):
        refusals = explain.Refusals()

        class Host:
            def __init__(self, number):
                self.host = self.nodename = f"cmp{number}"

        reason = Reason(code="too-old", actor=Actor.HOST, family="gpu")
        for number in range(14):
            refusals.add(Host(number), (reason,))
        with self.logs.during() as lines:
            explain.no_host(
                self.context, lookup.Lookup("the-uuid", Guest(keeps_devices=False)), refusals
            )
        (line,) = lines.find("No host accepts instance the-uuid")
        self.assertIn("14 rejected: cmp0: gpu", line.text)
        self.assertIn("cmp9: ", line.text)
        self.assertNotIn("cmp10: ", line.text)
        self.assertTrue(line.text.endswith("and 4 more"), line.text)


class CellsTest(DeviceCompatFleet):
    """Guests do not leave their cell, and hosts of others are not talked of."""

    MDEV_TYPES = {"nvidia-11": ()}
    NUMBER_OF_CELLS = 2

    def start(self, **versions):
        for name, version in versions.items():
            self.set_devices(name, gpu(version))
            self.start_host(name, gpus=[base.Gpu()], cell=f"cell{name[-1]}")
        self.settle()

    def test_another_cell_would_accept(self):
        self.start(home1="1.2", old1="1.0", fit2="1.2")
        self.assert_explained(r"1 rejected: old1: gpu\.version: needs 1\.2, offered 1\.0[^|]*$")

    def test_no_cell_would_accept(self):
        self.start(home1="1.2", old1="1.0", old2="1.0")
        self.assert_explained(r"1 rejected: old1: [^|]*$")

    def test_one_of_the_cell_fits(self):
        self.start(home1="1.2", old1="1.0", new1="1.4", fit2="1.2")
        server = self.boot("home1", VGPU)
        with self.logs.during() as lines:
            self.assert_moved("new1", self.live_migrate(server))
        self.assertEqual([], lines.find("No host accepts"))

    def assert_explained(self, pattern):
        server = self.boot("home1", VGPU)
        for first_look in (10, 1):
            with (
                mock.patch.object(watch, "_FIRST_LOOK", first_look),
                self.logs.during() as lines,
            ):
                self.assert_stays("home1", self.live_migrate(server), server)
            (line,) = lines.find("No host accepts")
            self.assertRegex(line.text, pattern)
