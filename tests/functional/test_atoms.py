# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat atom ...`` on real Nova and Placement."""

import contextlib
import io
import json
from unittest import mock

import fixtures
from nova import objects
from nova.scheduler.client import report

from nova_devcompat import wire
from nova_devcompat.cli.main import main
from nova_devcompat.compat import traits
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.traits import Atom
from nova_devcompat.fleet import bundle
from nova_devcompat.fleet.cloud import Cloud
from nova_devcompat.stores.placement import Placement
from tests.functional.devcompat import VGPU, DeviceCompatFleet, gpu

OLD, NEW, GUESTS, PINNED, LATE = (
    Atom("gpu", "version", version) for version in ("0.9", "1.9", "1.8", "1.7", "1.6")
)
GONE = Atom("former", "mode", "x")
OTHERS = ("CUSTOM_OF_OTHERS", "CUSTOM_DEVCOMPAT_NO_ATOM", "CUSTOM_DEVCOMPAT_GPU__V__1__61_")


class AtomTest(DeviceCompatFleet):
    """Two hosts, and traits that they accept, that others need, and that nobody does."""

    MDEV_TYPES = {"nvidia-12": ()}

    def setUp(self):
        super().setUp()
        self.useFixture(
            fixtures.MonkeyPatch(
                "nova_devcompat.cli.need.nova", lambda files: contextlib.nullcontext()
            )
        )
        self.start_gpu_hosts(a="1.2", b="1.0")
        self.client = report.report_client_singleton()

    def ask(self, *argv, status=0):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            ended = main(["atom", *argv, "-f", "json"])
        self.assertEqual(status, ended, out.getvalue() + err.getvalue())
        self.assertNotIn("Traceback", err.getvalue())
        return json.loads(out.getvalue() or "[]"), err.getvalue()

    def create(self, *names):
        for name in names:
            answer = self.client.put(f"/traits/{name}", None, version="1.6")
            self.assertEqual(201, answer.status_code)

    def existing(self):
        answer = self.client.get("/traits?name=startswith:CUSTOM_", version="1.6")
        return set(answer.json()["traits"])

    def record(self, server, *atoms):
        """Have a guest need what no host has."""
        instance = self.instance(server)
        values = {atom.attribute: [atom.value] for atom in atoms}
        need = Need(devices=(DeviceNeed.of("gpu", values, slot="rc:VGPU"),))
        for key in [key for key in instance.system_metadata if wire.is_record_key(key)]:
            del instance.system_metadata[key]
        instance.system_metadata.update(wire.dump_record(need))
        instance.save()

    def take(self, host, atom):
        """Put a trait on a host's provider, as its nova-compute does."""
        (uuid,) = [uuid for uuid, name in self.provider_names().items() if name == host]
        url = f"/resource_providers/{uuid}/traits"
        body = self.client.get(url, version="1.6").json()
        body["traits"].append(traits.encode(atom))
        self.assertEqual(200, self.client.put(url, body, version="1.6").status_code)

    def assert_reported(self):
        """A bug report has the same."""
        cells = bundle.Told(self.context, self.fail)
        lines = list(bundle.atoms(Cloud(cells)))
        self.assertIn(f"{traits.encode(OLD)} accepted by no host\n", lines)
        self.assertEqual(2, sum(line.endswith("accepted by some host\n") for line in lines))
        hosts = {row["host"]: row for row in map(json.loads, bundle.hosts(cells))}
        self.assertEqual({"a", "b"}, hosts.keys())
        self.assertEqual(self.stats_of("a")[wire.STATS_KEY], hosts["a"]["document"])
        binaries = [json.loads(line)["binary"] for line in bundle.services(cells)]
        self.assertEqual(2, binaries.count("nova-compute"))

    def test_it_all(self):
        self.make_flavor({**VGPU, "devcompat:gpu.version": PINNED.value})
        server = self.boot("a", VGPU)
        self.record(server, GUESTS)
        self.create(*map(traits.encode, (OLD, NEW, GUESTS, GONE)), *OTHERS)
        before = self.existing()
        rows, _ = self.ask("list")
        self.assertEqual(
            {
                "former.mode=x": "0 0 0 0",
                "gpu.version=0.9": "0 0 0 0",
                # Every host with 1.2 accepts 1.0, too.
                "gpu.version=1.0": "2 1 0 0",
                "gpu.version=1.2": "1 1 0 0",
                "gpu.version=1.7": "0 0 0 1",
                "gpu.version=1.8": "0 0 1 0",
                "gpu.version=1.9": "0 0 0 0",
            },
            {
                f"{row['family']}.{row['attribute']}={row['value']}": " ".join(
                    row[name] for name in ("providers", "hosts", "guests", "flavors")
                )
                for row in rows
            },
        )
        self.assertEqual({traits.encode(OLD)}, {r["trait"] for r in rows if r["value"] == "0.9"})
        self.assert_reported()
        unused = sorted(map(traits.encode, (GONE, OLD, NEW)))
        for argv in (("list", "--unused"), ("prune",)):
            self.assertEqual(unused, sorted(row["trait"] for row in self.ask(*argv)[0]))
        self.assertEqual([], self.ask("prune", "--family", "nic", "--yes")[0])
        for argv in (("list",), ("list", "--unused"), ("prune", "--yes")):
            self.assertIn(
                "neither placement nor the catalog has a family 'gpus'; families: former, gpu, "
                "nic; did you mean 'gpu'?",
                self.ask(*argv, "--family", "gpus", status=2)[1],
            )
        self.assertEqual(before, self.existing())

        # Nothing goes while it is not known who needs what.
        down = mock.patch.object(objects.InstanceList, "get_by_filters", side_effect=OSError("x"))
        with down:
            rows, told = self.ask("prune", "--yes", status=1)
        self.assertEqual([], rows)
        self.assertIn("nothing is removed, since not all could be asked", told)
        self.assertEqual(before, self.existing())

        rows, _ = self.ask("prune", "--yes")
        self.assertEqual({"removed"}, {row["result"] for row in rows})
        self.assertEqual(before - set(unused), self.existing())
        self.assertEqual([], self.ask("prune", "--yes")[0])

        # Whoever needs one again makes it again: a guest, a flavor, a host.
        self.record(server, NEW)
        self.assert_stays("a", self.live_migrate(server), server)
        self.assertIn(traits.encode(NEW), self.existing())
        self.set_devices("b", gpu("0.9"))
        self.settle()
        self.assertIn("GPU__VERSION__0_9", self.our_traits("b"))

    def test_what_is_taken_meanwhile_stays(self):
        """By a host, and by a flavor."""
        self.create(*map(traits.encode, (OLD, NEW, LATE)))
        original = Placement.delete_trait

        def late(placement, name):
            if name == traits.encode(NEW):
                self.take("a", NEW)
            if name == traits.encode(LATE):
                self.make_flavor({**VGPU, "devcompat:gpu.version": LATE.value})
            return original(placement, name)

        with mock.patch.object(Placement, "delete_trait", late):
            rows, _ = self.ask("prune", "--yes")
        self.assertEqual(
            {
                "0.9": "removed",
                "1.6": "kept: a flavor pins it by now",
                "1.9": "kept: a provider has it by now",
            },
            {row["value"]: row["result"] for row in rows},
        )
        self.assertLessEqual({traits.encode(NEW), traits.encode(LATE)}, self.existing())

    def test_a_host_that_is_about_to_publish(self):
        """The trait goes between Nova's look and its write: the next cycle makes it again."""
        client = self.computes["b"].manager.reportclient
        original = client._ensure_traits

        def gone(context, names):
            original(context, names)
            if traits.encode(OLD) in names:
                Placement(self.client).delete_trait(traits.encode(OLD))

        self.set_devices("b", gpu("0.9"))
        with mock.patch.object(client, "_ensure_traits", gone):
            self.run_periodic("b")
        self.assertNotIn("GPU__VERSION__0_9", self.our_traits("b"))
        self.settle()
        self.assertIn("GPU__VERSION__0_9", self.our_traits("b"))
