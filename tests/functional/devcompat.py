# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The harness with nova-devcompat in it: our driver, filter and prefilter, a catalog, versions."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import fixtures
import nova.conf
import yaml
from nova.scheduler import request_filter

from nova_devcompat import service, wire
from nova_devcompat.conf import register_opts
from nova_devcompat.kit.rate import Rate
from nova_devcompat.scheduler import explain
from nova_devcompat.stores import events
from tests.functional import base

CONF = nova.conf.CONF
register_opts(CONF)

GPU = "0000:81:00.0"
GPU_2 = "0000:81:01.0"
PF = "0000:82:00.0"
PF_2 = "0000:83:00.0"

VGPU = {"resources:VGPU": "1"}
VF = {"pci_passthrough:alias": "vf:1"}

#: What a provider's name is made of.
GPU_PROVIDER = "{}_pci_0000_81_00_0"
GPU_2_PROVIDER = "{}_pci_0000_81_01_0"
PF_PROVIDER = "{}_0000:82:00.0"
PF_2_PROVIDER = "{}_0000:83:00.0"

CATALOG = {
    "gpu": {
        "match": {"device": "gpu"},
        "source": "static",
        "rules": {"version": "semver"},
    },
    "nic": {
        "match": {"device": "nic"},
        "source": "static",
        "rules": {"fw_version": "semver"},
    },
}


def device(address: str, family: str, **attributes: Any) -> dict[str, Any]:
    """An entry of a static inventory."""
    return {"address": address, "family": family, "attributes": attributes}


def gpu(version: str, address: str = GPU) -> dict[str, Any]:
    return device(address, "gpu", version=version)


def nic(version: str, address: str = PF) -> dict[str, Any]:
    return device(address, "nic", fw_version=version)


class DeviceCompatFleet(base.Fleet):
    """A fleet whose hosts run our driver and whose scheduler runs our filter.

    What differs between hosts is in the static inventory, which is keyed by host:
    :meth:`set_devices`.
    """

    COMPUTE_DRIVER = "devcompat.DeviceCompatDriver"
    AVAILABLE_FILTERS = (
        "nova.scheduler.filters.all_filters",
        "nova_devcompat.scheduler.filters.all_filters",
    )
    EXTRA_FILTERS: tuple[str, ...] = ("DeviceCompatFilter",)

    #: Families, as a catalog has them, and other options of [devcompat].
    FAMILIES: Mapping[str, Any] = CATALOG
    OPTIONS: Mapping[str, Any] = {}

    def configure(self) -> None:
        # The filter adds ours to Nova's list, which would outlive the test.
        self.useFixture(
            fixtures.MonkeyPatch(
                "nova.scheduler.request_filter.ALL_REQUEST_FILTERS",
                list(request_filter.ALL_REQUEST_FILTERS),
            )
        )
        # Nor does a new scheduler know what an earlier one in the process has read.
        self.useFixture(fixtures.MonkeyPatch("nova_devcompat.scheduler.state._shared", None))
        # Nor what projects asked it.
        rate = Rate(most=5, seconds=60)
        self.useFixture(fixtures.MonkeyPatch("nova_devcompat.scheduler.explain._RATE", rate))
        # It says why beside the requests.
        self.addCleanup(self.explained)
        self.logs.finish = self.placement_log.finish = self.explained
        # A changed catalog is noticed at once, rather than within a second.
        at_once = mock.patch.dict(service.catalog_keeper.__kwdefaults__, min_interval=0.0)
        at_once.start()
        self.addCleanup(at_once.stop)
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.catalog_file = folder / "devcompat.yaml"
        self.inventory_file = folder / "devcompat-inventory.yaml"
        self.inventory: dict[str, list[dict[str, Any]]] = {}
        self.set_families(self.FAMILIES)
        self._write_inventory()
        self.flags(
            virt_driver="libvirt.LibvirtDriver",
            catalog=[str(self.catalog_file)],
            inventory=str(self.inventory_file),
            **self.OPTIONS,
            group="devcompat",
        )

    @staticmethod
    def explained() -> None:
        """Wait until the scheduler has said why no host would do."""
        assert explain.WORKER.join(30), "an explanation hangs"

    def set_families(self, families: Mapping[str, Any], **others: Any) -> None:
        """Write the catalog.

        :param others: its other sections
        """
        content = {"meta": {"schema_version": "1.0"}, "families": dict(families), **others}
        self.catalog_file.write_text(yaml.safe_dump(content))

    def set_policies(self, policies: Mapping[str, Any]) -> None:
        """Write the catalog with policies beside the families."""
        self.set_families(self.FAMILIES, policies=dict(policies))

    def set_devices(self, host: str, *devices: dict[str, Any]) -> None:
        """Say what a host has; it notices in its next cycle."""
        self.inventory[host] = list(devices)
        self._write_inventory()

    def _write_inventory(self) -> None:
        content = {
            "meta": {"schema_version": "1.0"},
            # An inventory without any host would be refused as an oversight.
            "hosts": {
                host: {"devices": entries}
                for host, entries in (self.inventory or {"nobody": []}).items()
            },
        }
        self.inventory_file.write_text(yaml.safe_dump(content))

    def inventory_of(self, **devices: Sequence[dict[str, Any]]) -> str:
        """A file with the devices of hosts as they are not."""
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        hosts = {host: {"devices": list(entries)} for host, entries in devices.items()}
        path = folder / "assumed.yaml"
        path.write_text(yaml.safe_dump({"meta": {"schema_version": "1.0"}, "hosts": hosts}))
        return str(path)

    def start_gpu_hosts(self, **versions: str) -> None:
        """Start hosts with one GPU each, by name, and let all know each other's versions."""
        for name, version in versions.items():
            self.set_devices(name, gpu(version))
            self.start_host(name, gpus=[base.Gpu()])
        self.settle()

    def start_nic_hosts(self, **versions: str) -> None:
        """Start hosts with one physical function each, likewise."""
        for name, version in versions.items():
            self.set_devices(name, nic(version))
            self.start_host(name, pfs=[base.Pf()])
        self.settle()

    def settle(self) -> None:
        """Let hosts learn the atoms of those that started later, and their providers' UUIDs.

        Each host has a cycle, and another one only if there was something new to it after that.
        """
        hosts = list(self.computes)
        behind: list[str] = []
        for place, host in enumerate(hosts):
            with self.placement_log.during() as calls:
                self.run_periodic(host)
            if any(call.method == "PUT" and call.path.startswith("/traits/") for call in calls):
                behind = hosts[:place]
            if any(call.path == "/resource_providers" for call in calls.writes):
                behind.append(host)
        if behind:
            self.run_periodic(*behind)

    def record_of(self, server: base.Server) -> Any:
        """The need recorded for a server, None without one."""
        return wire.load_record(self.instance(server).system_metadata)

    def needed(self, server: base.Server) -> set[str]:
        """The atoms of a server's recorded need, as texts."""
        need = self.record_of(server)
        return set() if need is None else {str(atom) for atom in need.atoms}

    def events_of(self, server: base.Server, api: Any = None) -> list[dict[str, Any]]:
        """The events of a server's newest action.

        :param api: of whoever looks at them; the administrator's by default
        """
        self.explained()
        api = api or self.api
        actions = f"/servers/{server['id']}/os-instance-actions"
        newest = api.api_get(actions).body["instanceActions"][0]
        shown = api.api_get(f"{actions}/{newest['request_id']}").body
        return list(shown["instanceAction"]["events"])

    def refusals(self, server: base.Server) -> dict[str, str]:
        """By host, why it refused a server in its newest action, as administrators read it."""
        return {
            event["host"]: event["traceback"]
            for event in self.events_of(server)
            if event["event"] == events.REFUSED
        }

    def stats_of(self, host: str) -> dict[str, str]:
        """``compute_nodes.stats`` of a host, from the database."""
        from nova import objects

        return dict(objects.ComputeNode.get_by_nodename(self.context, host).stats)

    def set_stats(self, host: str, text: str | None) -> None:
        """Overwrite what a host published, behind its back."""
        from nova import objects

        node = objects.ComputeNode.get_by_nodename(self.context, host)
        stats = dict(node.stats)
        stats.pop(wire.STATS_KEY, None)
        if text is not None:
            stats[wire.STATS_KEY] = text
        node.stats = stats
        node.save()

    def our_traits(self, provider: str) -> set[str]:
        """The traits under our prefix on a provider, without the prefix."""
        prefix = "CUSTOM_DEVCOMPAT_"
        return {t.removeprefix(prefix) for t in self.traits_of(provider) if t.startswith(prefix)}

    def assert_moved(self, host: str, moved: base.Migrated) -> None:
        self.assertEqual(("completed", host), (moved.status, moved.host), moved.error)

    def assert_stays(self, host: str, moved: base.Migrated, server: base.Server) -> None:
        """The migration did not happen and the server is as well as before."""
        self.assertIn(moved.status, ("error", "failed", ""))
        self.assertEqual(host, moved.host)
        self.assertEqual("ACTIVE", self.api.get_server(server["id"])["status"])
        allocations = self.allocations_by_provider_name(server["id"])
        self.assertIn(host, allocations)
        for other in self.computes:
            if other != host:
                self.assert_nothing_left_on(other, server)
