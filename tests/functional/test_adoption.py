# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Guests that run without a record, or with one that lacks what the catalog has gained."""

import fixtures
from nova import exception, objects

from nova_devcompat import wire
from nova_devcompat.compat.need import Need
from nova_devcompat.compute import adopt
from nova_devcompat.stores import records
from tests.functional import base
from tests.functional.base import VF_BY_CLASS, VF_SPEC
from tests.functional.devcompat import (
    CATALOG,
    PF,
    VF,
    VGPU,
    DeviceCompatFleet,
    device,
    gpu,
    nic,
)

#: The catalog after somebody added a rule to one family.
MORE = {**CATALOG, "nic": {**CATALOG["nic"], "rules": {"fw_version": "semver", "ports": "equal"}}}


class AdoptionTest(DeviceCompatFleet):
    MDEV_TYPES = {"nvidia-11": ()}
    DEVICE_SPEC = [{**VF_SPEC, "resource_class": "CUSTOM_VF"}]
    ALIASES = [VF_BY_CLASS]

    def setUp(self):
        super().setUp()
        for name in ("a", "b"):
            self.set_devices(name, gpu("1.2"), nic("1.2"))
            self.start_host(name, gpus=[base.Gpu()], pfs=[base.Pf()])
        self.settle()
        self.server = self.boot("a", {**VGPU, **VF})

    def forget(self, server):
        """Make a guest one that was started before there was a nova-devcompat."""
        instance = self.instance(server)
        records.store(instance, Need())
        instance.save()
        self.assertIsNone(self.record_of(server))

    def restart(self):
        """Restart nova-compute; its first cycle is part of the start."""
        with self.logs.during() as lines:
            self.restart_host("a")
        return lines

    def test_a_guest_without_a_record(self):
        recorded = self.record_of(self.server)
        self.forget(self.server)
        # Unknown is refused until then.
        self.assert_stays("a", self.live_migrate(self.server), self.server)
        lines = self.restart()
        adopted = self.record_of(self.server)
        self.assertEqual(
            {one.assuming() for one in recorded.devices}, set(adopted.devices), "as if frozen now"
        )
        self.assertTrue(
            lines.find(r"a: adoption done: 1 guests looked at, 1 records completed", level=20)
        )
        self.assert_moved("b", self.live_migrate(self.server))
        self.assertEqual({"fw_version", "version"}, self.assumed(self.server))

    def assumed(self, server):
        return {name for one in self.record_of(server).devices for name in one.assumed}

    def test_done_once(self):
        self.forget(self.server)
        self.restart()
        before = self.instance(self.server).system_metadata
        # Assumed from the devices as they were: a later version is no reason to look again.
        self.set_devices("a", gpu("1.4"), nic("1.4"))
        with self.logs.during() as lines:
            self.settle()
            self.restart_host("a")
            self.settle()
        self.assertFalse(lines.find("Need recorded|adoption done"))
        self.assertEqual(before, self.instance(self.server).system_metadata)

    def test_an_attribute_that_the_catalog_has_gained(self):
        self.set_families(MORE)
        self.set_devices("a", gpu("1.4"), device(PF, "nic", fw_version="1.4", ports="2"))
        # Also without a restart: the catalog is read anew in each cycle.
        self.run_periodic("a")
        needs = {one.family: one for one in self.record_of(self.server).devices}
        self.assertEqual({"ports"}, set(needs["nic"].assumed))
        self.assertEqual(
            {"fw_version": frozenset({"1.2"}), "ports": frozenset({"2"})},
            dict(needs["nic"].values),
            "what is recorded stays",
        )
        self.assertFalse(needs["gpu"].assumed)

    def test_an_attribute_that_the_device_does_not_tell(self):
        before = self.instance(self.server).system_metadata
        self.set_families(MORE)
        self.run_periodic("a")
        needs = {one.family: one for one in self.record_of(self.server).devices}
        self.assertIsNone(dict(needs["nic"].values)["ports"])
        self.assertNotEqual(before, self.instance(self.server).system_metadata)
        # Not for good: it is told later.
        self.set_devices("a", gpu("1.4"), device(PF, "nic", fw_version="1.4", ports="2"))
        self.restart()
        needs = {one.family: one for one in self.record_of(self.server).devices}
        self.assertEqual(frozenset({"2"}), dict(needs["nic"].values)["ports"])

    def test_a_restart_ends_the_assumption(self):
        self.forget(self.server)
        self.restart()
        self.api.post_server_action(self.server["id"], {"reboot": {"type": "HARD"}})
        self._wait_for_server_parameter(
            self.server, {"status": "ACTIVE", "OS-EXT-STS:task_state": None}
        )
        self.assertEqual(set(), self.assumed(self.server))

    def test_guests_that_are_none_of_ours(self):
        plain = self.boot("a")
        stopped = self.boot("a", VF)
        self.api.post_server_action(stopped["id"], {"os-stop": None})
        self._wait_for_state_change(stopped, "SHUTOFF")
        self.forget(stopped)
        self.restart()
        self.assertIsNone(self.record_of(plain))
        self.assertIsNone(self.record_of(stopped), "its start will freeze it")

    def test_a_device_of_no_family(self):
        self.forget(self.server)
        self.set_devices("a", gpu("1.2"))
        self.restart()
        self.assertEqual({"gpu"}, self.record_of(self.server).families)
        self.set_devices("a", gpu("1.2"), nic("1.2"))
        self.run_periodic("a")
        self.assertEqual({"gpu", "nic"}, self.record_of(self.server).families)

    def test_a_mediated_device_that_is_told_of_later(self):
        """Nova's lists name none, so that what is allocated has to be watched."""
        self.forget(self.server)
        self.set_devices("a", nic("1.2"))
        self.restart()
        plain = self.boot("a", VGPU)
        self.run_periodic("a")
        self.assertEqual({"nic"}, self.record_of(self.server).families)
        self.assertEqual(Need(), self.record_of(plain))
        self.set_devices("a", gpu("1.2"), nic("1.2"))
        self.run_periodic("a")
        self.assertEqual({"gpu", "nic"}, self.record_of(self.server).families)
        self.assertEqual({"gpu.version=1.2"}, self.needed(plain))
        self.assertEqual({"version"}, self.assumed(plain))

    def test_a_host_that_was_not_read_as_a_whole(self):
        """Once it is, a guest whose device belongs to no family has a record that says so."""
        self.set_devices("a", device(PF, "none_of_these"))
        server = self.boot("a", VGPU)
        self.run_periodic("a")
        self.assertIsNone(self.record_of(server), "it may be of any family")
        self.set_devices("a", nic("1.2"))
        self.run_periodic("a")
        self.assertEqual(Need(), self.record_of(server))
        self.run_periodic("a")  # looks once more at what was recorded
        with fixtures.MockPatch(
            "nova.objects.Instance.get_by_uuid", wraps=objects.Instance.get_by_uuid
        ) as reads:
            for _ in range(3):
                self.run_periodic("a")
        self.assertEqual([], reads.mock.mock_calls)

    def test_a_record_that_cannot_be_read(self):
        instance = self.instance(self.server)
        instance.system_metadata["devcompat:need"] = "nonsense"
        instance.save()
        lines = self.restart()
        self.assertTrue(lines.find("Not adopted: record: .*need clear", level=30))
        self.assertEqual("nonsense", self.instance(self.server).system_metadata["devcompat:need"])

    def test_a_guest_that_something_is_done_to(self):
        self.forget(self.server)
        instance = self.instance(self.server)
        self.restart_with(instance, "image_snapshot")
        self.assertIsNone(self.record_of(self.server))
        self.set_task(None)
        self.run_periodic("a")
        self.assertEqual({"gpu", "nic"}, self.record_of(self.server).families)

    def restart_with(self, instance, task):
        # Nova ends at its start what it knows to be interrupted: hence a change of catalog.
        self.set_task(task)
        self.set_families(MORE)
        self.run_periodic("a")

    def set_task(self, task):
        instance = self.instance(self.server)
        instance.task_state = task
        instance.save()

    def test_what_begins_in_between_comes_first(self):
        self.forget(self.server)
        guests = self.computes["a"].driver._devcompat_guests
        findings = guests.findings

        def begin(*args, **kwargs):
            self.set_task("rebooting")
            return findings(*args, **kwargs)

        guests.findings = begin
        self.set_families(MORE)
        self.run_periodic("a")
        self.assertIsNone(self.record_of(self.server))

    def test_a_guest_that_leaves_in_between(self):
        """Its record is of its arrival elsewhere, whoever looked at it here."""
        guests = self.computes["a"].driver._devcompat_guests
        findings = guests.findings

        def leave(*args, **kwargs):
            found = findings(*args, **kwargs)
            guests.findings = findings
            self.assert_moved("b", self.live_migrate(self.server, "b"))
            return found

        guests.findings = leave
        adoption = self.computes["a"].driver._devcompat_adoption
        adoption.look_again(self.server["id"], "a")
        # Not in a cycle of Nova's, for which the end of a migration waits.
        adoption.go_on("a")
        recorded = wire.load_whole_record(self.instance(self.server).system_metadata)
        self.assertEqual("b", recorded.incarnation.node)
        self.assert_moved("a", self.live_migrate(self.server, "a"))

    def test_placement_that_does_not_answer(self):
        self.forget(self.server)
        client = "nova.scheduler.client.report.SchedulerReportClient"
        failing = fixtures.MockPatch(
            f"{client}.get_allocs_for_consumer",
            side_effect=exception.ConsumerAllocationRetrievalFailed(
                consumer_uuid=self.server["id"], error="503"
            ),
        )
        with failing:
            self.set_families(MORE)
            self.run_periodic("a")
        self.assertIsNone(self.record_of(self.server), "half of it would be wrong")
        self.run_periodic("a")
        self.assertEqual({"gpu", "nic"}, self.record_of(self.server).families)

    def test_allocations_that_nova_has_lost(self):
        """They say nothing of the guest, and keep nobody else from being looked at."""
        record, other = self.record_of(self.server), self.boot("a", VGPU)
        self.assertEqual({"gpu", "nic"}, record.families)
        self.forget(other)
        self.placement.delete(f"/allocations/{self.server['id']}")
        adoption = self.computes["a"].driver._devcompat_adoption
        with self.logs.during() as lines:
            for _ in range(2):
                for server in (self.server, other):
                    adoption.look_again(server["id"], "a")
                self.run_periodic("a")
        self.assertEqual(record, self.record_of(self.server))
        self.assertEqual({"gpu"}, self.record_of(other).families)
        self.assertEqual(1, len(lines.find("Placement has nothing allocated for the guest")))
        # Nor does a restart, which takes no device away.
        self.api.post_server_action(self.server["id"], {"reboot": {"type": "HARD"}})
        self._wait_for_server_parameter(
            self.server, {"status": "ACTIVE", "OS-EXT-STS:task_state": None}
        )
        self.assertEqual({"gpu", "nic"}, self.record_of(self.server).families)

    def test_bounded_and_with_progress(self):
        servers = [self.server, *(self.boot("a", VGPU) for _ in range(4))]
        for server in servers:
            self.forget(server)
        self.useFixture(fixtures.MonkeyPatch(f"{adopt.__name__}._PROGRESS_EVERY", 2))
        adoption = self.computes["a"].driver._devcompat_adoption
        self.set_families(MORE)
        self.computes["a"].driver._devcompat_host.publisher.stats("a")
        adoption.go_on("a", seconds=0)
        self.assertFalse(any(map(self.record_of, servers)), "no time, nothing done")
        with self.logs.during() as lines:
            adoption.go_on("a")
        self.assertTrue(all(map(self.record_of, servers)))
        progress = lines.find("a: adoption: . guests looked at, . records completed, . to go")
        self.assertEqual(2, len(progress))

    def test_the_whole_of_a_record_is_readable_by_an_older_release(self):
        self.forget(self.server)
        self.restart()
        metadata = self.instance(self.server).system_metadata
        text = "".join(metadata[key] for key in sorted(metadata) if wire.is_record_key(key))
        self.assertTrue(text.startswith(f"{wire.RECORD_VERSION} "))
