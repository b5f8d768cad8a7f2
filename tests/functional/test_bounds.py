# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Long needs, floods of values and requests that are repeated: they harm nobody else."""

import threading
from unittest import mock

import fixtures
from nova import objects
from nova.scheduler.client import report
from nova.tests.functional.api import client as api_client

from nova_devcompat import wire
from nova_devcompat.compat import choice, traits
from nova_devcompat.compat.traits import Atom
from nova_devcompat.scheduler import prefilter
from tests.functional import base
from tests.functional.devcompat import CATALOG, GPU, GPU_2, VGPU, DeviceCompatFleet, device, nic
from tests.functional.requestline import LIMIT, LimitedPlacement

#: As virtio spells its features: each capital and each "_" is an escape of five characters.
FEATURES = [f"VIRTIO_NET_F_FEATURE_{number:02d}" for number in range(60)]
CAPS = "devcompat:gpu.caps"


def cards(*caps, address=GPU, version="1.2"):
    return device(address, "gpu", version=version, caps=list(caps))


def known_traits():
    url = f"/traits?name=startswith:{traits.PREFIX}"
    return set(report.report_client_singleton().get(url, version="1.6").json()["traits"])


def flood(*atoms):
    """Create traits as whoever may write to placement can."""
    client = report.report_client_singleton()
    for atom in atoms:
        answer = client.put(f"/traits/{traits.encode(atom)}", None, version="1.6")
        assert answer.status_code in (201, 204)


class _Fleet(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}
    FAMILIES = {
        "gpu": {**CATALOG["gpu"], "rules": {"version": "semver", "caps": "superset"}},
        "nic": CATALOG["nic"],
    }

    def start(self, **devices):
        for name, found in devices.items():
            listed = found if isinstance(found, list) else [found]
            self.set_devices(name, *listed)
            gpus = [base.Gpu(address=one["address"]) for one in listed if one["family"] == "gpu"]
            self.start_host(name, gpus=gpus)
        self.settle()

    def store(self, specs):
        """A flavor whose extra specs nobody validated, as before microversion 2.86."""
        with self._microversion("2.85"):
            return self.make_flavor(specs)


class RequestLineTest(_Fleet):
    """Placement behind a server that takes request lines of 4 KiB."""

    def setUp(self):
        super().setUp()
        fleet = {"home": cards(*FEATURES), "other": cards(*FEATURES)}
        # It lacks a feature that there is no room to ask for, and one that there is.
        fleet["lame"] = cards(*FEATURES[:-1])
        fleet["lamer"] = cards(*FEATURES[1:])
        self.start(**fleet)
        self.server = self.useFixture(LimitedPlacement(self.placement))

    def asked_for(self, calls):
        return [name for name in calls.candidates[0].required if traits.decode(name)]

    def test_a_live_migration(self):
        server = self.boot("home", VGPU)
        self.prefer_hosts("lame", "lamer", "other", "home")
        with self.logs.during() as lines, self.placement_log.during() as calls:
            moved = self.live_migrate(server)
        self.assert_moved("other", moved)
        self.assertEqual(["other"], moved.tried)
        self.assertEqual(0, self.server.refused)
        self.assertLess(1_024, self.server.longest, "as much is asked as there is room for")
        asked = self.asked_for(calls)
        self.assertLess(len(asked), 61)
        self.assertLessEqual(sum(len(name) + 3 for name in asked), 2_048)
        self.assertIn(traits.encode(Atom("gpu", "version", "1.2")), asked, "each attribute")
        (line,) = lines.find(r"the filter decides by the others: ")
        self.assertIn("gpu.caps=VIRTIO_NET_F_FEATURE_", line.text)
        # What the server says to all of it.
        self.useFixture(fixtures.MockPatchObject(prefilter, "LONGEST", 100_000))
        with self.logs.during() as lines:
            moved = self.live_migrate(server)
        self.assert_stays("other", moved, server)
        self.assertLess(0, self.server.refused)
        self.assertLess(LIMIT, self.server.longest)
        self.assertTrue(lines.find("Placement did not answer for instance .* 61 traits"))

    def test_a_host_that_accepts_much(self):
        """nova-compute asks whether the traits that it is to set exist, all of them."""
        self.set_devices("other", cards(*FEATURES, "late"))
        self.settle()
        self.assertEqual(0, self.server.refused)
        self.assertIn("GPU__CAPS__LATE", self.our_traits("other"))

    def test_a_boot_with_many_pins(self):
        """Of a flavor that was stored with all of them."""
        specs = {
            **VGPU,
            CAPS: ",".join(name for name in FEATURES[:9]),
            "devcompat:gpu.version": "1.2",
        }
        long = {"devcompat:gpu.caps": ",".join(FEATURES[-9:])}
        for more in ({}, long):
            flavor = self.store({**specs, **more})
            server = self.boot(None, flavor=flavor)
            self.assertIn(self.host_of(server), ("home", "other", "lame", "lamer"))
            self.api.delete_server(server["id"])
            self._wait_until_deleted(server)
        self.assertEqual(0, self.server.refused)


class FloodTest(_Fleet):
    def column(self, host):
        """The stats of a host as the database has them."""
        return wire.column_size(self.stats_of(host)[wire.STATS_KEY])

    def document(self, host):
        return wire.load_stats(self.stats_of(host)[wire.STATS_KEY])

    def test_long_values(self):
        unlike = [cards("a"), cards("a", "b", address=GPU_2), nic("1.2")]
        self.start(home=unlike, other=unlike)
        server = self.boot("home", VGPU)
        before = self.document("home")
        flood(*(Atom("gpu", "caps", f"{number:06d}" + "x" * 150) for number in range(300)))
        with self.logs.during() as lines:
            self.settle()
            self.settle()
        for host in ("home", "other"):
            self.assertLessEqual(self.column(host), wire.STATS_LIMIT)
        self.assertEqual(2, len(lines.find(r"too many values: of family gpu there is no room in")))
        (line, _) = lines.find(r"atoms are not evaluated, since placement has more of gpu\.caps")
        self.assertIn("46 atoms", line.text)
        # Nothing of the family that has no flood, and nothing that a guest needs, is gone.
        after = self.document("home")
        families = [part.family for part in before.devices]
        self.assertEqual(families, [part.family for part in after.devices])
        for old, new in zip(before.devices, after.devices, strict=True):
            self.assertEqual(old.providers, new.providers)
            self.assertEqual(old.accepts.atoms, new.accepts.atoms)
            if old.family == "nic":
                self.assertEqual(old.accepts, new.accepts)
        self.assert_moved("other", self.live_migrate(server))
        # Nor is a host that comes later, with values of its own.
        self.start(later=cards("a", "b"), latest=cards("a", "b"))
        self.settle()
        new = self.boot("later", VGPU)
        self.assert_moved("latest", self.live_migrate(new, "latest"))

    def test_values_that_all_hosts_accept(self):
        self.start(home=cards(version="1.500"), other=cards(version="1.600"))
        server = self.boot("home", VGPU)
        flood(*(Atom("gpu", "version", f"1.{minor}") for minor in range(300)))
        self.settle()
        self.settle()
        for host in ("home", "other"):
            self.assertLessEqual(len(self.our_traits(host)), choice.EVALUATED.attribute + 1)
        self.restart_host("other")
        self.settle()
        self.assertIn("GPU__VERSION__1_500", self.our_traits("other"))
        self.assert_moved("other", self.live_migrate(server))


class ExtraSpecsTest(_Fleet):
    def post(self, specs):
        flavor = self.make_flavor()
        self.api.post_extra_spec(flavor, {"extra_specs": specs})

    def test_a_refused_request_leaves_nothing(self):
        """Whichever of its keys is wrong, ours or another's."""
        for wrong in ({"devcompat:nosuch.x": "1"}, {"hw:cpu_policy": "x"}, {"devcompat:z": "1"}):
            caps = ",".join(f"z{number:02d}" for number in range(20))
            error = self.assertRaises(
                api_client.OpenStackApiException, self.post, {CAPS: caps, **wrong}
            )
            self.assertEqual(400, error.response.status_code)
        self.assertRaises(
            api_client.OpenStackApiException,
            self.api.put_extra_spec,
            self.make_flavor(),
            "devcompat:gpu.version",
            {"devcompat:gpu.caps": "late"},
        )
        # A flavor that is not there.
        self.assertRaises(
            api_client.OpenStackApiException,
            self.api.post_extra_spec,
            "no-such-flavor",
            {"extra_specs": {CAPS: "nowhere"}},
        )
        self.assertEqual(set(), known_traits())

    def test_what_flavors_pin_is_bounded(self):
        for start in range(0, 200, 50):
            with self.logs.during() as lines:
                self.post({CAPS: ",".join(f"z{start + number:03d}" for number in range(50))})
        (line,) = lines.find("Placement was not told of some values of extra specs")
        self.assertIn(CAPS, line.text)
        self.assertEqual(choice.MOST_PINNED, len(known_traits()))
        # Of another attribute there is room.
        self.post({"devcompat:gpu.version": "1.7"})
        self.assertEqual(choice.MOST_PINNED + 1, len(known_traits()))
        # Hosts have room for what their devices offer, and their guests go where they like.
        self.start(home=cards("own1", "own2"), other=cards("own1", "own2"))
        self.settle()
        server = self.boot("home", VGPU)
        self.assert_moved("other", self.live_migrate(server))
        # What placement was not told of is not asked of it: the filter says why not.
        flavor = self.store({**VGPU, CAPS: "z199"})
        with self.logs.during() as lines, self.placement_log.during() as calls:
            self.boot(None, flavor=flavor, expect="ERROR")
        self.assertEqual(set(), {name for name in calls.candidates[0].required if "DEV" in name})
        self.assertTrue(lines.find("Not asked of placement, which has too many values"))
        self.assertTrue(lines.find("No host accepts .* has not evaluated it yet"))


class RepeatedTest(_Fleet):
    """A boot that cannot succeed, which a tenant can repeat."""

    def setUp(self):
        super().setUp()
        self.start(a=cards("x"))
        self.flavor = self.store(
            {**VGPU, CAPS: ",".join(f"f{number:02d}" for number in range(60))}
        )
        self.settle()

    def refused(self):
        return self.boot(None, flavor=self.flavor, expect="ERROR")

    def test_how_much_is_asked(self):
        counts = []
        for _ in range(8):
            with self.logs.during() as lines, self.placement_log.during() as calls:
                self.refused()
            writes = [call for call in calls.writes if call.path.startswith("/traits")]
            self.assertEqual([], [str(call) for call in writes])
            counts.append((len(calls.candidates), len(lines.find("No host accepts"))))
        self.assertEqual([(2, 1)] * 5 + [(1, 0)] * 3, counts)
        self.assertTrue(lines.find("is not looked up: project .* too many such requests"))

    def test_a_cell_that_hangs(self):
        """The answer does not wait for the words."""
        original, answers = objects.ComputeNodeList.get_all_by_uuids, threading.Event()
        asked = threading.Event()

        def hang(*args):
            asked.set()
            assert answers.wait(30)
            return original(*args)

        with self.logs.during() as lines:
            with mock.patch.object(objects.ComputeNodeList, "get_all_by_uuids", hang):
                for _ in range(2):
                    self.refused()
                self.assertTrue(asked.wait(10))
                self.assertFalse(answers.is_set())
                answers.set()
                self.explained()
        self.assertEqual(2, len(lines.find("No host accepts")))

    def test_a_cell_that_does_not_answer(self):
        """Nova's own time-out, and what was found out all the same."""
        self.useFixture(fixtures.MonkeyPatch("nova.context.CELL_TIMEOUT", 0.2))
        end = threading.Event()
        self.addCleanup(end.set)
        hang = mock.patch.object(
            objects.ComputeNodeList, "get_all_by_uuids", side_effect=lambda *a: end.wait(20)
        )
        with hang, self.logs.during() as lines:
            self.refused()
        self.assertTrue(lines.find("Timed out waiting for response from cell"))
        self.assertEqual([], lines.find("Could not say why"))
        end.set()


class DisabledCellTest(_Fleet):
    NUMBER_OF_CELLS = 2

    def test_its_hosts_are_not_talked_of(self):
        for name in ("open1", "shut2"):
            self.set_devices(name, cards("x"))
            self.start_host(name, gpus=[base.Gpu()], cell=f"cell{name[-1]}")
        flavor = self.store({**VGPU, CAPS: "y"})
        self.settle()
        mapping = self.cell_mappings["cell2"]
        mapping.disabled = True
        mapping.save()
        self.addCleanup(setattr, mapping, "disabled", False)
        asked = []
        original = objects.ComputeNodeList.get_all_by_uuids

        def note(context, uuids):
            asked.append(context.cell_uuid)
            return original(context, uuids)

        with (
            mock.patch.object(objects.ComputeNodeList, "get_all_by_uuids", note),
            self.logs.during() as lines,
        ):
            self.boot(None, flavor=flavor, expect="ERROR")
        (line,) = lines.find("No host accepts")
        self.assertIn("1 rejected: open1: ", line.text)
        self.assertNotIn("shut2", line.text)
        self.assertEqual({self.cell_mappings["cell1"].uuid}, set(asked))
