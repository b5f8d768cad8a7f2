# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Pins, from the flavor's extra specs to where its guests go."""

import logging
from unittest import mock

import fixtures
from keystoneauth1 import exceptions as ks_exc
from nova.scheduler.client import report
from nova.tests.functional.api import client as api_client

from nova_devcompat import wire
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.scheduler import lookup
from tests.functional import base
from tests.functional.base import VF_BY_CLASS, VF_BY_ID, VF_SPEC
from tests.functional.devcompat import (
    CATALOG,
    GPU_2,
    PF,
    PF_2,
    VF,
    VGPU,
    DeviceCompatFleet,
    gpu,
    nic,
)

GPU_PIN = "devcompat:gpu.version"
NIC_PIN = "devcompat:nic.fw_version"


def trait(attribute, value):
    return f"CUSTOM_DEVCOMPAT_{attribute.upper()}__{value.replace('.', '_')}"


class ExtraSpecsTest(DeviceCompatFleet):
    """What nova-api says to extra specs of ours; no host is needed."""

    FAMILIES = {
        **CATALOG,
        "vf": {
            "match": {"device": "vf"},
            "source": "static",
            "rules": {"caps": "superset", "queues": "at_least"},
        },
    }

    def setUp(self):
        super().setUp()
        self.flavor = self.make_flavor()

    def post(self, specs):
        self.api.post_extra_spec(self.flavor, {"extra_specs": specs})

    def put(self, name, value):
        self.api.put_extra_spec(self.flavor, name, {name: value})

    def specs(self):
        return self.api.api_get(f"/flavors/{self.flavor}/os-extra_specs").body["extra_specs"]

    def known_traits(self):
        client = report.report_client_singleton()
        return set(
            client.get("/traits?name=startswith:CUSTOM_DEVCOMPAT_", version="1.6").json()["traits"]
        )

    def assert_refused(self, pattern, act, *args):
        error = self.assertRaises(api_client.OpenStackApiException, act, *args)
        self.assertEqual(400, error.response.status_code)
        self.assertRegex(error.response.json()["badRequest"]["message"], pattern)

    def test_good_ones_are_stored_and_placement_learns_of_them(self):
        self.post({GPU_PIN: "2.3", "devcompat:vf.caps": "p2p,dirty_log"})
        self.put("devcompat:vf.queues", "8")
        self.assertEqual(
            {GPU_PIN: "2.3", "devcompat:vf.caps": "p2p,dirty_log", "devcompat:vf.queues": "8"},
            self.specs(),
        )
        self.assertEqual(
            {
                trait("gpu__version", "2.3"),
                trait("vf__caps", "P2P"),
                "CUSTOM_DEVCOMPAT_VF__CAPS__DIRTY__5F_LOG",
                trait("vf__queues", "8"),
            },
            self.known_traits(),
        )

    def test_bad_ones_are_400(self):
        for name, value, pattern in (
            ("devcompat:tpu.version", "1.0", r"has no family 'tpu'; families: gpu, nic, vf"),
            ("devcompat:vf.version", "1.0", r"no attribute 'version'; attributes: caps, queues"),
            (GPU_PIN, "banana", r"devcompat:gpu\.version: rule semver cannot read .*'banana'"),
            ("devcompat:vf.queues", "many", r"rule at_least cannot read .*'many'"),
            ("devcompat:vf.caps", "p2p,,dirty", r"rule superset cannot read"),
            ("devcompat:gpu", "1.0", r"is not of the form devcompat:<family>\.<attribute>"),
            ("devcompat:", "1.0", r"is not of the form"),
            ("devcompat:vf.caps", "x" * 250, r"its trait name would have 2\d\d characters"),
        ):
            self.assert_refused(pattern, self.post, {name: value})
            self.assert_refused(pattern, self.put, name, value)
        self.assertEqual({}, self.specs())
        self.assertEqual(set(), self.known_traits())

    def test_the_catalog_is_read_again_when_it_changes(self):
        self.assert_refused("no family 'tpu'", self.post, {"devcompat:tpu.version": "1.0"})
        self.set_families({**self.FAMILIES, "tpu": {**CATALOG["gpu"], "match": {"device": "tpu"}}})
        self.post({"devcompat:tpu.version": "1.0"})

    def test_without_a_catalog(self):
        missing = str(self.catalog_file.with_name("other.yaml"))
        self.flags(catalog=[missing], group="devcompat")
        self.assert_refused(
            r"catalog on nova-api's host cannot be used: .*other\.yaml.*\[devcompat\] catalog",
            self.post,
            {GPU_PIN: "2.3"},
        )
        # What is not ours is not held up.
        self.post({"hw:cpu_policy": "dedicated"})

    def test_without_placement(self):
        def put(client, url, *args, **kwargs):
            raise ks_exc.ConnectFailure("no route to host")

        with (
            self.logs.during() as lines,
            mock.patch.object(report.SchedulerReportClient, "put", put),
        ):
            self.post({GPU_PIN: "2.3"})
        self.assertEqual({GPU_PIN: "2.3"}, self.specs())
        (line,) = lines.find("Placement was not told of extra specs devcompat:gpu.version")
        self.assertEqual(logging.WARNING, line.level)
        self.assertIn("no route to host", line.text)


class PinFleet(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}

    def pinned(self, value, **more):
        """Extra specs of a flavor with a vGPU that is pinned; hosts have evaluated it."""
        specs = {**VGPU, GPU_PIN: value, **more}
        self.make_flavor(specs)
        self.settle()
        return specs

    def store(self, specs):
        """A flavor whose extra specs nobody validated, as before microversion 2.86."""
        with self._microversion("2.85"):
            return self.make_flavor(specs)

    def refused(self, specs=None, **boot):
        """Boot in vain; the line that says why."""
        with self.logs.during() as lines:
            server = self.boot(None, specs, expect="ERROR", **boot)
        self.assertIn("No valid host", server["fault"]["message"])
        self.assertEqual([], lines.find(logger="nova_devcompat").errors)
        (line,) = lines.find("No host accepts")
        self.assertIn(server["id"], line.text)
        return line.text


class BootTest(PinFleet):
    def test_only_where_it_is_accepted(self):
        self.start_gpu_hosts(old="2.1", mid="2.4", new="3.0")
        specs = self.pinned("2.3")
        self.prefer_hosts("new", "old", "mid")
        with (
            self.placement_log.during() as calls,
            mock.patch.object(lookup, "_instance", side_effect=lookup._instance) as one,
        ):
            server = self.boot(None, specs)
        self.assertEqual("mid", self.host_of(server))
        self.assertEqual({"gpu.version=2.3"}, self.needed(server))
        (asked,) = calls.candidates
        self.assertEqual({"mid"}, self.offered_hosts(asked))
        self.assertIn(trait("gpu__version", "2.3"), asked.query["root_required"][0])
        self.assertEqual(1, one.call_count)

        # The filter decides the same without the prefilter.
        self.flags(prefilter=False, group="devcompat")
        with self.placement_log.during() as calls:
            server = self.boot(None, specs)
        self.assertEqual("mid", self.host_of(server))
        self.assertEqual({"old", "mid", "new"}, self.offered_hosts(calls.candidates[0]))

    def test_nowhere(self):
        self.start_gpu_hosts(old="2.1", new="3.0")
        specs = self.pinned("2.3")
        for prefilter in (True, False):
            self.flags(prefilter=prefilter, group="devcompat")
            line = self.refused(specs)
            self.assertRegex(line, r"whose flavor pins gpu \(version 2\.3\)\. 2 rejected: ")
            self.assertRegex(line, r"old: gpu\.version: needs 2\.3, offered 2\.1, too old")
            self.assertRegex(line, r"new: gpu\.version: needs 2\.3, offered 3\.0, another major")

    def test_not_evaluated_yet(self):
        """nova-api made the trait, but no host has had a cycle since."""
        self.start_gpu_hosts(a="2.4")
        specs = {**VGPU, GPU_PIN: "2.3"}
        for prefilter in (True, False):
            self.flags(prefilter=prefilter, group="devcompat")
            self.assertRegex(
                self.refused(specs), r"a: gpu\.version: needs 2\.3.*has not evaluated it yet"
            )
        self.settle()
        self.assertEqual("a", self.host_of(self.boot(None, specs)))

    def test_a_pin_that_nobody_validated(self):
        self.start_gpu_hosts(a="2.4")
        flavor = self.store({**VGPU, "devcompat:gpu.versoin": "2.3"})
        self.assertRegex(
            self.refused(flavor=flavor),
            r"devcompat:gpu\.versoin: family gpu has no attribute 'versoin'; attributes: version "
            r"\[pin-unreadable; mend the flavor\]",
        )
        self.flags(on_unknown="accept", group="devcompat")
        with self.logs.during() as lines:
            self.boot(None, flavor=flavor)
        self.assertTrue(lines.find("; 1 of 1 hosts will do: .*pin-unreadable"))

    def test_a_flavor_without_such_a_device(self):
        self.start_gpu_hosts(a="2.4")
        specs = {GPU_PIN: "2.3"}
        self.make_flavor(specs)
        self.settle()
        self.assertRegex(
            self.refused(specs), r"a: gpu: the flavor pins it and asks for no such device"
        )

    def test_several_at_once(self):
        self.start_gpu_hosts(a="2.4", b="2.4")
        flavor = self.make_flavor(self.pinned("2.3"))
        body = self._build_server(image_uuid=base.IMAGE, flavor_id=flavor, networks="none")
        with mock.patch.object(lookup, "_instance", side_effect=lookup._instance) as one:
            first = self.api.post_server({"server": {**body, "min_count": 3}})
            self.progress.wait_until(
                lambda: (
                    {"ACTIVE"} == {each["status"] for each in self.api.get_servers()}
                    and len(self.api.get_servers()) == 3
                ),
                f"three servers, {first['id']} the first",
            )
        self.assertEqual(1, one.call_count)


class PolicyTest(PinFleet):
    def test_report_mode(self):
        self.flags(mode="report", group="devcompat")
        self.start_gpu_hosts(old="2.1")
        specs = self.pinned("2.3")
        with self.logs.during() as lines, self.placement_log.during() as calls:
            self.boot(None, specs)
        self.assertNotIn("DEVCOMPAT", str(calls.candidates[0].query))
        (line,) = lines.find("Report mode: 1 of 1 hosts would be rejected")
        self.assertRegex(line.text, r"whose flavor pins gpu \(version 2\.3\).*old: .*needs 2\.3")

    def test_on_unknown_accept(self):
        self.flags(on_unknown="accept", group="devcompat")
        self.start_gpu_hosts(old="2.1", silent="2.4")
        specs = self.pinned("2.3")
        self.set_stats("silent", None)
        self.prefer_hosts("old", "silent")
        with self.placement_log.during() as calls:
            server = self.boot(None, specs)
        self.assertEqual("silent", self.host_of(server))
        self.assertNotIn("DEVCOMPAT", str(calls.candidates[0].query))


class UnlikeDevicesTest(PinFleet):
    """On a host with two unlike devices the one that can act as the pin is claimed."""

    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    def test_vgpu_and_vf(self):
        self.set_devices("a", gpu("2.1"), gpu("2.4", GPU_2), nic("1.5", PF), nic("1.1", PF_2))
        self.start_host(
            "a",
            gpus=[base.Gpu(), base.Gpu(address=GPU_2)],
            pfs=[base.Pf(vfs=1), base.Pf(address=PF_2, vfs=1)],
        )
        specs = self.pinned("2.3", **VF, **{NIC_PIN: "1.3"})
        server = self.boot(None, specs)
        self.assertEqual(["pci_0000_81_01_0"], self.mdevs_of("a", server))
        self.assertEqual(["0000:82:00.1"], self.pci_devices_of("a", server))
        self.assertEqual({"gpu.version=2.3", "nic.fw_version=1.3"}, self.needed(server))
        # The only fitting function is taken.
        server = self.boot(None, specs, expect="ERROR")
        self.assertIn("No valid host", server["fault"]["message"])


class NotInPlacementTest(PinFleet):
    MDEV_TYPES = {}
    DEVICE_SPEC = [VF_SPEC]
    ALIASES = [VF_BY_ID]
    PCI_IN_PLACEMENT = False

    def test_only_where_it_is_accepted(self):
        self.start_nic_hosts(old="1.1", new="1.5")
        specs = {**VF, NIC_PIN: "1.3"}
        self.make_flavor(specs)
        self.settle()
        self.prefer_hosts("old", "new")
        server = self.boot(None, specs)
        self.assertEqual("new", self.host_of(server))
        self.assertEqual({"nic.fw_version=1.3"}, self.needed(server))


class BuildTest(PinFleet):
    """Without the filter nova-compute itself refuses what its devices cannot act as."""

    EXTRA_FILTERS = ()

    def test_the_next_host_is_tried(self):
        self.start_gpu_hosts(old="2.1", new="2.4")
        self.prefer_hosts("old", "new")
        specs = self.pinned("2.3")
        with self.logs.during() as lines:
            server = self.boot(None, specs)
        self.assertEqual("new", self.host_of(server))
        self.assert_nothing_left_on("old", server)
        (line,) = lines.find("The devices cannot act as the flavor wants")
        self.assertRegex(
            line.text,
            r"gpu\.version: needs 2\.3, offered 2\.1, too old \[semver, minor-too-old; upgrade",
        )


class LaterTest(PinFleet):
    """Whatever Nova schedules later requires the pin too."""

    def setUp(self):
        super().setUp()
        self.start_gpu_hosts(home="2.4", old="2.1", new="2.5")
        self.specs = self.pinned("2.3")
        self.server = self.boot("home", self.specs)
        self.prefer_hosts("old", "new", "home")

    def required(self, calls):
        return [t for t in calls.candidates[0].query["root_required"][0].split(",") if "DEV" in t]

    def act(self, action, *, status="ACTIVE"):
        with self.placement_log.during() as calls:
            self.api.post_server_action(self.server["id"], action)
            self._wait_for_server_parameter(
                self.server, {"status": status, "OS-EXT-STS:task_state": None}
            )
        return calls

    def assert_there(self, host, version, calls):
        self.assertEqual(host, self.host_of(self.server))
        self.assertEqual([trait("gpu__version", version)], self.required(calls))
        self.assertEqual({f"gpu.version={version}"}, self.needed(self.server))

    def test_cold_migrate_and_resize_to_another_pin(self):
        calls = self.act({"migrate": None}, status="VERIFY_RESIZE")
        self.assert_there("new", "2.3", calls)
        self.act({"confirmResize": None})
        flavor = self.make_flavor({**VGPU, GPU_PIN: "2.0"})
        self.settle()
        calls = self.act({"resize": {"flavorRef": flavor}}, status="VERIFY_RESIZE")
        self.assert_there("old", "2.0", calls)

    def test_unshelve_and_live_migrate(self):
        self.flags(shelved_offload_time=0)
        self.act({"shelve": None}, status="SHELVED_OFFLOADED")
        calls = self.act({"unshelve": None})
        self.assert_there("new", "2.3", calls)
        with self.placement_log.during() as calls:
            self.assert_moved("home", self.live_migrate(self.server))
        self.assert_there("home", "2.3", calls)

    def test_live_migrate_without_a_fit(self):
        """A record that needs less than the pin, as one from before the host knew pins."""
        instance = self.instance(self.server)
        need = Need(devices=(DeviceNeed.of("gpu", {"version": ["2.0"]}, slot="rc:VGPU"),))
        instance.system_metadata.update(wire.dump_record(need))
        instance.save()
        for prefilter in (True, False):
            self.flags(prefilter=prefilter, group="devcompat")
            with self.logs.during() as lines:
                moved = self.live_migrate(self.server, "old")
            self.assert_stays("home", moved, self.server)
            self.assertEqual([], moved.tried)
            (line,) = lines.find("No host accepts")
            self.assertRegex(
                line.text,
                r"which needs gpu \(version 2\.0\) and whose flavor pins gpu \(version 2\.3\)\. "
                r"1 rejected: old: .*gpu\.version: needs 2\.3, offered 2\.1",
            )
        # The destination says the same to a migration that nobody scheduled.
        self.useFixture(
            fixtures.MonkeyPatch(
                "nova_devcompat.scheduler.filters.DeviceCompatFilter.filter_all",
                lambda filter_, hosts, spec: hosts,
            )
        )
        with self.logs.during() as lines:
            moved = self.live_migrate(self.server, "old")
        self.assert_stays("home", moved, self.server)
        self.assertEqual(["old"], moved.tried)
        (line,) = lines.find("Live migration to this host refused")
        self.assertRegex(line.text, r"gpu\.version: needs 2\.3, offered 2\.1")

    def test_rebuild(self):
        """Where the device no longer acts as the pin, the scheduler refuses another image."""
        other = "a2459075-d96c-40d5-893e-577ff92e721c"
        self.act({"rebuild": {"imageRef": other}})
        self.set_devices("home", gpu("2.1"))
        self.settle()
        with self.logs.during() as lines, self.placement_log.during() as calls:
            # Casts are calls here: the API would have answered 202.
            self.assertRaises(
                api_client.OpenStackApiException,
                self.api.post_server_action,
                self.server["id"],
                {"rebuild": {"imageRef": base.IMAGE}},
            )
        self.assertEqual([], calls.candidates)
        (line,) = lines.find("No host accepts")
        self.assertRegex(line.text, r"whose flavor pins .* 1 rejected: home: .*offered 2\.1")
