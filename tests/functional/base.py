# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A small cloud for tests: real Nova, real Placement, libvirt computes with assigned devices.

Everything runs in one process. Nova's own test classes bring up the services and fake libvirt;
this module adds hosts that differ in their devices, live migration between any two of them, and
the questions that tests ask::

    class MyTest(base.Fleet):
        MDEV_TYPES = {"nvidia-11": ()}

        def test_it(self):
            for name in ("a", "b", "c"):
                self.start_host(name, gpus=[base.Gpu()])
            server = self.boot("b", {"resources:VGPU": "1"})
            moved = self.live_migrate(server)
            self.assertEqual("completed", moved.status)
            self.assert_nothing_left_on("b", server)

All computes share one CONF and one device_spec: what differs from host to host must be keyed by
the host's name.
"""

import contextlib
import dataclasses
import json
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib import parse

import fixtures
import nova.conf
from nova import context as nova_context
from nova import objects
from nova.scheduler import host_manager
from nova.tests import fixtures as nova_fixtures
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.api import client as api_client
from nova.tests.functional.libvirt import base as libvirt_base
from nova.tests.functional.libvirt import test_pci_sriov_servers as nova_pci
from nova.tests.functional.libvirt import test_vgpu as nova_vgpu
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import utils as libvirt_utils
from oslo_utils import uuidutils, versionutils

from tests.functional import capture, services

CONF = nova.conf.CONF

#: An image that Nova's GlanceFixture has.
IMAGE = "155d900f-4e14-4e4c-a73d-069cbf4541e6"

#: What a live migration can end with (nova/objects/migration.py).
_ENDED = frozenset({"completed", "failed", "error", "cancelled"})

#: VFs as operators of VFIO variant drivers declare them.
VF_SPEC = {
    "vendor_id": "15b3",
    "product_id": "101e",
    "managed": "no",
    "live_migratable": "yes",
}
VF_BY_CLASS = {
    "name": "vf",
    "resource_class": "CUSTOM_VF",
    "device_type": "type-VF",
    "live_migratable": "yes",
}
VF_BY_ID = {
    "name": "vf",
    "vendor_id": "15b3",
    "product_id": "101e",
    "device_type": "type-VF",
    "live_migratable": "yes",
}

Server = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A physical GPU that mediated devices are made of.

    It offers mdev types nvidia-11 (16 of them) and nvidia-12 (8); with ``generic`` mlx5_core
    (16) in place of nvidia-11. Which of them Nova uses, ``Fleet.MDEV_TYPES`` says for all hosts.
    Its provider is called ``<host>_pci_0000_81_00_0``.
    """

    address: str = "0000:81:00.0"
    generic: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pf:
    """A physical function with its virtual functions, at functions 1 to 7 of the same slot.

    Its provider is called ``<host>_0000:82:00.0``.
    """

    address: str = "0000:82:00.0"
    vfs: int = 2
    vendor_id: str = "15b3"
    product_id: str = "101d"
    vf_product_id: str = "101e"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Migrated:
    """How a live migration ended.

    :ivar status: of the migration record: completed, failed, error or cancelled; '' when the
        request was refused before there was one
    :ivar host: where the server is now
    :ivar attempts: destinations that were asked, in order, with their refusals
    :ivar error: why it did not complete, as far as the API or the action's events tell
    :ivar uuid: of the migration, which is its consumer in placement as well
    """

    status: str
    host: str
    attempts: tuple[capture.Attempt, ...]
    error: str
    uuid: str

    @property
    def tried(self) -> list[str]:
        return [attempt.host for attempt in self.attempts]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """A live migration that was asked for.

    :ivar server: the guest
    :ivar before: UUIDs of its earlier migrations
    :ivar asked: how many destinations had been asked before, for all guests
    :ivar error: what the API answered, '' for 202
    """

    server: Server
    before: frozenset[str]
    asked: int
    error: str


class UnderPytest:
    """For subclasses of nova.test.TestCase that pytest runs."""

    def __delattr__(self, name: str) -> None:
        # pytest 9 deletes the attributes that it had set for a test after nova.test.TestCase has
        # cleared all of them (_clear_attrs). To go when either of them looks first.
        with contextlib.suppress(AttributeError):
            super().__delattr__(name)


class Fleet(UnderPytest, nova_vgpu.VGPUTestBase, nova_pci._PCIServersWithMigrationTestBase):
    """Base class of tests that need several libvirt computes with vGPUs, VFs or both.

    Class attributes are there to be overridden; :meth:`configure` for what they do not cover.
    """

    #: As nova.conf would name it. A subclass or a wrapper of libvirt's driver does; see
    #: :meth:`start_host`.
    COMPUTE_DRIVER = "libvirt.LibvirtDriver"

    #: [filter_scheduler] available_filters, and what is enabled beside Nova's defaults.
    AVAILABLE_FILTERS: Sequence[str] = ("nova.scheduler.filters.all_filters",)
    EXTRA_FILTERS: Sequence[str] = ()
    #: [filter_scheduler] weight_classes
    WEIGHT_CLASSES: Sequence[str] = ("nova.scheduler.weights.all_weighers",)

    #: mdev type -> addresses of the GPUs that it is for, on all hosts ([mdev_*]device_addresses);
    #: no addresses: for every GPU. Empty: no vGPUs.
    MDEV_TYPES: Mapping[str, Sequence[str]] = {}

    #: [pci] device_spec and alias, as dicts.
    DEVICE_SPEC: Sequence[Mapping[str, Any]] = ()
    ALIASES: Sequence[Mapping[str, Any]] = ()
    #: [pci] report_in_placement and [filter_scheduler] pci_in_placement
    PCI_IN_PLACEMENT = True

    #: Prefixes of loggers whose DEBUG lines ``self.logs`` keeps as well.
    DEBUG_LOGGERS: Sequence[str] = ("nova_devcompat", "nova.virt.devcompat")

    # Nova's own switches. VFIO variant drivers ask more of libvirt and QEMU than mdevs do.
    microversion = "latest"
    ADMIN_API = True
    FAKE_LIBVIRT_VERSION = versionutils.convert_version_to_int(
        libvirt_driver.MIN_VFIO_PCI_VARIANT_LIBVIRT_VERSION
    )
    FAKE_QEMU_VERSION = versionutils.convert_version_to_int(
        libvirt_driver.MIN_VFIO_PCI_VARIANT_QEMU_VERSION
    )
    # What _PCIServersTestBase.setUp reads; ours are set in _setup_services.
    PCI_DEVICE_SPEC: Sequence[str] = []
    PCI_ALIAS: Sequence[str] = []

    #: Why each test of the class starts Nova's services itself, rather than to be lent those that
    #: run (:mod:`tests.functional.services`); '' where it need not.
    OWN_SERVICES = ""

    #: Whether an RPC without an answer waits for one. Where it must not: ``OWN_SERVICES``, too.
    CASTS_WAIT = True
    # Nova's own fixture for it patches anew at each RPC: see capture.CastIsCall.
    CAST_AS_CALL = False

    def setUp(self) -> None:
        if services.why_own(self):
            services.end()
            self.bring_up()
            # Ports of every kind rather than NeutronFixture's few.
            self.neutron = self.useFixture(libvirt_base.LibvirtNeutronFixture(self))
        else:
            services.lend(self, Fleet)
            self._renew()

    def bring_up(self) -> None:
        """Start Nova's services, with all that Nova's test classes fake for them and computes."""
        super().setUp()
        # Nova's fake finds the host of a new mdev through an attribute that every call of any
        # driver overwrites. With several hosts at work, ask the driver that makes it.
        self.useFixture(
            fixtures.MonkeyPatch(
                "nova.virt.libvirt.driver.LibvirtDriver._create_mdev", _create_mdev
            )
        )
        # VGPUTestBase replaces os.rename in the whole process by a mock, for the sake of
        # instance folders that do not exist. Leave other people's files alone.
        self.useFixture(fixtures.MonkeyPatch("os.rename", _rename_if_there))
        # The fake VFs are not in this machine's sysfs.
        self.useFixture(fixtures.MockPatch("nova.pci.utils.is_physical_function"))
        self.useFixture(
            fixtures.MockPatch("nova.pci.utils.get_function_by_ifname", return_value=(None, False))
        )

    def _setup_services(self) -> None:
        if self.CASTS_WAIT:
            self.useFixture(capture.CastIsCall())
        self.begin()
        super()._setup_services()

    def _renew(self) -> None:
        """Make what each test has of its own, where Nova's classes have made it for another."""
        for fixture in (
            nova_fixtures.RPCPollerCleanupFixture(),
            nova_fixtures.DelayingExecutorWrapperCleanupFixture(),
        ):
            self.useFixture(fixture)
        self.neutron = self.useFixture(libvirt_base.LibvirtNeutronFixture(self))
        self.cinder = self.useFixture(nova_fixtures.CinderFixture(self))
        self.glance = self.useFixture(nova_fixtures.GlanceFixture(self))
        self.libvirt.pci_address_to_mac_map.clear()
        self.useFixture(
            fixtures.MonkeyPatch(
                "nova.tests.fixtures.libvirt.Domain.migrateToURI3", self._migrate_stub
            )
        )
        self.flags(instances_path=self.useFixture(fixtures.TempDir()).path)
        self.addCleanup(self._stop_computes)
        self.begin()
        # It reads its options when it is made, and remembers hosts, guests and aggregates.
        self.scheduler.manager.host_manager = host_manager.HostManager()

    def begin(self) -> None:
        """Set the options of the test, and record what Nova does from now on."""
        self.placement_log = self.useFixture(capture.PlacementLog())
        self.logs = self.useFixture(capture.LogBook(self.DEBUG_LOGGERS))
        self.progress = self.useFixture(capture.Progress())
        #: Set to True to let running migrations break, after the destination was prepared.
        self.migrations_break = False
        self._copying: set[str] = set()
        self._released = threading.Event()
        self._released.set()
        self.useFixture(
            fixtures.MonkeyPatch("nova.tests.fixtures.libvirt.Domain.abortJob", _abort_job)
        )
        self._order: list[str] | random.Random = []
        self._patch_host_order()
        wanted = [*self.ADDITIONAL_FILTERS, *self.EXTRA_FILTERS]
        enabled = list(CONF.filter_scheduler.enabled_filters)
        enabled += [name for name in wanted if name not in enabled]
        self.flags(
            available_filters=list(self.AVAILABLE_FILTERS),
            enabled_filters=enabled,
            weight_classes=list(self.WEIGHT_CLASSES),
            group="filter_scheduler",
        )
        self.flags(compute_driver=self.COMPUTE_DRIVER)
        # Tests may boot more than a project's ten.
        self.flags(instances=-1, cores=-1, ram=-1, group="quota")
        self.use_mdev_types(self.MDEV_TYPES)
        self.use_pci(self.DEVICE_SPEC, self.ALIASES, in_placement=self.PCI_IN_PLACEMENT)
        self.configure()

    def configure(self) -> None:
        """Set options before the first service starts. Nothing needs to be put back."""

    def _setup_compute_service(self) -> None:
        """Start none: start_host does that."""

    def _setup_scheduler_service(self) -> Any:
        # begin has enabled the filters.
        return self.start_service("scheduler")

    # Devices and hosts

    def use_mdev_types(self, types: Mapping[str, Sequence[str]]) -> None:
        """Set which mdev types hosts offer from now on; see ``MDEV_TYPES``.

        A host reads it when it starts.
        """
        self.flags(enabled_mdev_types=list(types), group="devices")
        # Each type has an option group of its own, which exists once the type is known.
        nova.conf.devices.register_dynamic_opts(CONF)
        for mdev_type, addresses in types.items():
            self.flags(device_addresses=list(addresses), group=f"mdev_{mdev_type}")

    def use_pci(
        self,
        device_spec: Sequence[Mapping[str, Any]],
        aliases: Sequence[Mapping[str, Any]],
        *,
        in_placement: bool,
    ) -> None:
        """Set which PCI devices hosts offer and how flavors ask for them.

        A host reads the device_spec when it starts, the API its aliases at every request.
        """
        self.flags(
            device_spec=[json.dumps(spec) for spec in device_spec],
            alias=[json.dumps(alias) for alias in aliases],
            report_in_placement=in_placement,
            group="pci",
        )
        self.flags(pci_in_placement=in_placement, group="filter_scheduler")

    def start_host(
        self,
        name: str,
        *,
        gpus: Sequence[Gpu] = (),
        pfs: Sequence[Pf] = (),
        cell: str | None = None,
    ) -> Any:
        """Start a nova-compute with devices of its own.

        The driver is what ``COMPUTE_DRIVER`` names. Nova's fixtures patch LibvirtDriver's class,
        and set ``driver._host.get_connection`` of each one: a subclass has both, a wrapper must
        pass ``_host`` through.

        :returns: the service; ``.manager``, ``.driver`` and ``.host`` are its parts
        """
        self.start_compute(
            hostname=name,
            pci_info=_devices(gpus, pfs),
            libvirt_version=self.FAKE_LIBVIRT_VERSION,
            qemu_version=self.FAKE_QEMU_VERSION,
            cell_name=cell,
        )
        return self.computes[name]

    def restart_host(self, name: str, *, gpus: Sequence[Gpu] = (), pfs: Sequence[Pf] = ()) -> Any:
        """Restart a nova-compute: a new manager and driver over the same guests and devices.

        :param gpus: with ``pfs``, if any is given: the devices that the host has afterwards.
            Its guests stay, so they should be on devices that stay.
        :returns: the new service
        """
        if gpus or pfs:
            self.connection(name).pci_info = _devices(gpus, pfs)
        return self.restart_compute_service(name)

    def connection(self, host: str) -> Any:
        """The fake libvirt connection of a host: its domains, mdevs and devices."""
        return self.computes[host].driver._host.get_connection()

    def run_periodic(self, *hosts: str) -> None:
        """Run ``update_available_resource`` on the hosts named, on all by default."""
        for host in hosts or self.computes:
            with nova_context.target_cell(
                self.context, self.host_mappings[host].cell_mapping
            ) as context:
                self.computes[host].manager.update_available_resource(context)

    # The scheduler's choice

    def prefer_hosts(self, *hosts: str) -> None:
        """Let the scheduler take hosts in this order, whatever their weights.

        Those not named come last, by weight. Without arguments the weights decide again.
        """
        self._order = list(hosts)

    def shuffle_hosts(self, seed: int) -> None:
        """Let the scheduler take hosts in a random order, another one for each request."""
        self._order = random.Random(seed)

    def _patch_host_order(self) -> None:
        original = host_manager.HostManager.get_weighed_hosts

        def get_weighed_hosts(manager: Any, hosts: Any, spec_obj: Any) -> Any:
            weighed = original(manager, hosts, spec_obj)
            if isinstance(self._order, random.Random):
                # From one order, so that the same seed gives the same sequence.
                weighed.sort(key=lambda each: each.obj.host)
                self._order.shuffle(weighed)
            else:
                rank = {host: place for place, host in enumerate(self._order)}
                weighed.sort(key=lambda each: rank.get(each.obj.host, len(rank)))
            return weighed

        self.useFixture(
            fixtures.MonkeyPatch(
                "nova.scheduler.host_manager.HostManager.get_weighed_hosts", get_weighed_hosts
            )
        )

    # Guests

    def boot(
        self,
        host: str | None = None,
        extra_specs: Mapping[str, str] | None = None,
        *,
        flavor: str | None = None,
        networks: Any = "none",
        expect: str = "ACTIVE",
    ) -> dict[str, Any]:
        """Create a server and wait for it.

        :param host: where; the scheduler still checks that it fits. None: it chooses.
        :param extra_specs: of a flavor made for this server
        :param flavor: ID of a flavor that there is already
        :param networks: 'none', 'auto' or a list such as ``[{'port': uuid}]``
        :param expect: the status that is waited for
        :returns: the server, as the API shows it; with ``fault`` if it is in ERROR
        """
        flavor = flavor or self.make_flavor(extra_specs)
        body = self._build_server(image_uuid=IMAGE, flavor_id=flavor, networks=networks, host=host)
        server = self.api.post_server({"server": body})

        def arrived() -> dict[str, Any] | None:
            # It is saved a dozen times meanwhile, and to ask the API takes longer than that.
            if self.progress.is_under_way(server["id"]):
                return None
            now = self.api.get_server(server["id"])
            if now["status"] == "ERROR" != expect:
                self.fail(f"server went to ERROR: {now.get('fault', {}).get('message')}")
            # Nova sets ERROR before it records the fault.
            settled = not now["OS-EXT-STS:task_state"] and (expect != "ERROR" or "fault" in now)
            return now if now["status"] == expect and settled else None

        found: dict[str, Any] = self.progress.wait_until(arrived, f"server to be {expect}")
        return found

    def make_flavor(self, extra_specs: Mapping[str, str] | None = None) -> str:
        """Create a flavor, so small that hosts run out of devices first.

        :returns: its ID
        """
        flavor: str = self._create_flavor(
            vcpu=1, memory_mb=256, disk=1, ephemeral=0, extra_spec=dict(extra_specs or {})
        )
        return flavor

    def instance(self, server: Server) -> Any:
        """The server's Instance object with its system_metadata, fresh from the database."""
        return objects.Instance.get_by_uuid(
            self.context,
            server["id"],
            expected_attrs=["system_metadata", "pci_devices", "pci_requests", "flavor"],
        )

    def host_of(self, server: Server) -> str:
        """Name of the host that a server is on."""
        host: str = self.api.get_server(server["id"])["OS-EXT-SRV-ATTR:host"]
        return host

    def live_migrate(
        self, server: Server, host: str | None = None, *, force: bool = False
    ) -> Migrated:
        """Live-migrate a server and wait for the end of it, whatever that is.

        :param host: the destination; None: the scheduler chooses
        :param force: past the scheduler (microversion 2.67, the last with ``force``)
        """
        return self.end_live_migration(self.begin_live_migration(server, host, force=force))

    def begin_live_migration(
        self, server: Server, host: str | None = None, *, force: bool = False
    ) -> Begun:
        """Have a live migration begin; see :meth:`migrations_held` for one that goes on."""
        # How an earlier migration of the same domain ended must not be read as this one's end.
        for domain in self.connection(self.host_of(server))._vms.values():
            if domain.UUIDString() == server["id"]:
                domain._job_type = fakelibvirt.VIR_DOMAIN_JOB_NONE
        before = {migration.uuid for migration in self.migrations(server)}
        asked = len(self.progress.attempts)
        action: dict[str, Any] = {"host": host, "block_migration": "auto"}
        if force:
            action["force"] = True
        error = ""
        try:
            with self._microversion("2.67" if force else self.api.microversion):
                self.api.post_server_action(server["id"], {"os-migrateLive": action})
        except api_client.OpenStackApiException as exc:
            # Casts are calls in these tests (CASTS_WAIT), so that an error in the conductor
            # comes back through an API that would have answered 202.
            error = str(exc)
        return Begun(server=server, before=frozenset(before), asked=asked, error=error)

    def end_live_migration(self, begun: Begun) -> Migrated:
        """Wait for the end of a live migration, whatever that is."""
        server = begun.server

        def new() -> list[Any]:
            return [each for each in self.migrations(server) if each.uuid not in begun.before]

        def ended() -> bool:
            if self.progress.is_live_migrating(server["id"]):
                return False
            records = new()
            return all(each.status in _ENDED for each in records) and bool(records or begun.error)

        self.progress.wait_until(ended, f"live migration of {server['id']} to end")
        record = next(iter(new()), None)
        return Migrated(
            status=record.status if record else "",
            host=self.host_of(server),
            attempts=tuple(
                attempt
                for attempt in self.progress.attempts[begun.asked :]
                if attempt.server == server["id"]
            ),
            error="\n".join(filter(None, [begun.error, self._failure(server)])),
            uuid=record.uuid if record else "",
        )

    @contextlib.contextmanager
    def migrations_held(self) -> Iterator[None]:
        """Let no migration end in the block once the hypervisor has begun to copy."""
        self._released = threading.Event()
        try:
            yield
        finally:
            self._released.set()

    def wait_until_copying(self, server: Server) -> Any:
        """Wait for a migration that is held to reach the hypervisor.

        :returns: its migration object
        """
        self.progress.wait_until(
            lambda: server["id"] in self._copying, f"{server['id']} to be copied"
        )
        (migration,) = [each for each in self.migrations(server) if each.status == "running"]
        return migration

    def _migrate_stub(
        self, domain: Any, destination: str, params: Mapping[str, Any], flags: int
    ) -> None:
        """Stand in for what libvirt and QEMU do on both sides of a migration.

        :param domain: fake libvirt's, on the source
        :param destination: URI whose authority is the destination's name
        :param params: ``destination_xml`` is the domain as Nova wants it there
        """
        self._copying.add(domain.UUIDString())
        self.progress.note()
        released = self._released.wait(60)
        self._copying.discard(domain.UUIDString())
        if domain._job_type == fakelibvirt.VIR_DOMAIN_JOB_CANCELLED:
            return
        if self.migrations_break or not released:
            domain.fail_job()
            return
        there = self.connection(parse.urlsplit(destination).netloc)
        there.createXML(params["destination_xml"], 0)
        # Nova passes VIR_MIGRATE_UNDEFINE_SOURCE and, with shared storage and no mdevs, relies
        # on it. No lifecycle event: the real one comes while Nova ignores it.
        here = domain._connection
        here._vms.pop(domain.name(), None)
        for number in [key for key, each in here._running_vms.items() if each is domain]:
            del here._running_vms[number]
        # Last, as Nova may go on from here in another thread.
        domain.complete_job()

    @contextlib.contextmanager
    def _microversion(self, version: str) -> Iterator[None]:
        usual, self.api.microversion = self.api.microversion, version
        try:
            yield
        finally:
            self.api.microversion = usual

    @staticmethod
    def casts_that_fail() -> contextlib.AbstractContextManager[None]:
        """Take no notice of what a compute raises behind an API that would have answered 202."""
        return contextlib.suppress(api_client.OpenStackApiException)

    def migrations(self, server: Server) -> list[Any]:
        """Migration objects of a server, done ones as well."""
        return list(
            objects.MigrationList.get_by_filters(self.context, {"instance_uuid": server["id"]})
        )

    def _failure(self, server: Server) -> str:
        """Details of what failed in the server's newest action, '' if nothing did."""
        newest = self.api.get_instance_actions(server["id"])[0]
        events = self.api.get_instance_action_details(server["id"], newest["request_id"])["events"]
        return "\n".join(
            str(event.get("details") or event.get("traceback"))
            for event in events
            if event["result"] == "Error"
        )

    # Placement

    def provider_names(self) -> dict[str, str]:
        """Names of all resource providers by UUID."""
        return {each["uuid"]: each["name"] for each in self._get_all_providers()}

    def allocations_by_provider_name(self, consumer: str) -> dict[str, dict[str, int]]:
        """What a server, or a migration, holds: provider name -> resource class -> amount."""
        names = self.provider_names()
        return {
            names[provider]: allocation["resources"]
            for provider, allocation in self._get_allocations_by_server_uuid(consumer).items()
        }

    def traits_of(self, provider: str) -> set[str]:
        """Traits of the provider of this name; a host's root provider has the host's name."""
        return set(self._get_provider_traits(self._get_provider_uuid_by_name(provider)))

    def offered_hosts(self, call: capture.PlacementCall) -> set[str]:
        """Hosts on which placement's answer has an allocation candidate."""
        names = self.provider_names()
        return {names[uuid] for uuid in call.offered_roots}

    def offered_providers(self, call: capture.PlacementCall) -> set[str]:
        """Names of the providers that a candidate in placement's answer allocates from."""
        names = self.provider_names()
        return {names[uuid] for uuid in call.offered}

    # Leftovers

    def leftovers(self, host: str, server: Server) -> list[str]:
        """What a host still holds for a server: a line each, none if all is clean.

        Looked at are placement (the server's allocations and those of its migrations), PCI
        devices in the database and in the compute's memory, mdevs claimed or in a domain, and
        domains.
        """
        return [
            *self._allocations_left(host, server),
            *self._pci_left(host, server["id"]),
            *self._mdevs_left(host, server["id"]),
        ]

    def assert_nothing_left_on(self, host: str, server: Server) -> None:
        """Assert that a host holds nothing for a server."""
        self.assertEqual([], self.leftovers(host, server), f"left on {host}")

    def _allocations_left(self, host: str, server: Server) -> Iterator[str]:
        consumers = {server["id"]: "server"} | {
            each.uuid: f"migration ({each.status})" for each in self.migrations(server)
        }
        for provider in self._get_all_rps_in_a_tree(self.compute_rp_uuids[host]):
            held = self._get_allocations_by_provider_uuid(provider["uuid"])
            for consumer in held.keys() & consumers.keys():
                yield (
                    f"placement: the {consumers[consumer]} holds "
                    f"{held[consumer]['resources']} of {provider['name']}"
                )

    def _pci_left(self, host: str, server_id: str) -> Iterator[str]:
        mapping = self.host_mappings[host].cell_mapping
        with nova_context.target_cell(self.context, mapping) as context:
            node = objects.ComputeNode.get_by_nodename(context, host)
            devices = objects.PciDeviceList.get_by_compute_node(context, node.id)
        for device in devices:
            if device.instance_uuid == server_id:
                yield f"database: PCI device {device.address} is {device.status}"
        # The tracker's own books can differ from the rows (nova/pci/manager.py).
        tracker = self.computes[host].manager.rt.pci_tracker
        for book in ("claims", "allocations") if tracker else ():
            for device in getattr(tracker, book).get(server_id, ()):
                yield f"PCI tracker: {device.address} in its {book}"

    def _mdevs_left(self, host: str, server_id: str) -> Iterator[str]:
        driver = self.computes[host].driver
        if claimed := driver.instance_claimed_mdevs.get(server_id):
            yield f"driver: mdevs {sorted(claimed)} claimed"
        connection = self.connection(host)
        for domain in connection._vms.values():
            if domain.UUIDString() == server_id:
                yield f"libvirt: domain {domain.name()}"

    def mdevs_of(self, host: str, server: Server) -> list[str]:
        """libvirt names of the GPUs whose mdevs a server uses on a host, one for each mdev."""
        driver = self.computes[host].driver
        assigned = driver._get_all_assigned_mediated_devices(self.instance(server))
        return sorted(
            driver._get_mediated_device_information(libvirt_utils.mdev_uuid2name(uuid))["parent"]
            for uuid in assigned
        )

    def pci_devices_of(self, host: str, server: Server) -> list[str]:
        """Addresses of the PCI devices that a server has on a host, by the database."""
        node = objects.ComputeNode.get_by_nodename(self.context, host)
        return sorted(
            device.address
            for device in objects.PciDeviceList.get_by_compute_node(self.context, node.id)
            if device.instance_uuid == server["id"] and device.status == "allocated"
        )

    # For scripts

    def idle(self) -> None:
        """Do nothing: a method by which :func:`running` makes an instance without a test."""


@contextlib.contextmanager
def running(fleet: type[Fleet]) -> Iterator[Any]:
    """Bring up a fleet outside a test runner, for a program such as rigs.demo::

        with base.running(MyFleet) as cloud:
            cloud.start_host("a")

    :raises Exception: whatever fails in bringing it up or down, and in the block
    """
    cloud = fleet("idle")
    try:
        cloud.setUp()
        yield cloud
    finally:
        cloud.doCleanups()
        services.end()


def _devices(gpus: Sequence[Gpu], pfs: Sequence[Pf]) -> Any:
    """Make fake libvirt's devices of a host."""
    info = fakelibvirt.HostPCIDevicesInfo(num_pci=0, num_pfs=0, num_vfs=0)
    # Any numbers do, as long as each device has its own.
    groups = iter(range(40, 1000))
    for gpu in gpus:
        bus, slot, function = _numbers(gpu.address)
        info.add_device(
            dev_type="MDEV_TYPES",
            bus=bus,
            slot=slot,
            function=function,
            iommu_group=next(groups),
            numa_node=0,
            multiple_gpu_types=not gpu.generic,
            generic_types=gpu.generic,
        )
    for pf in pfs:
        # Functions 1 to 7: fake libvirt has further ones spill into the next slot.
        if pf.vfs not in range(1, 8):
            raise ValueError(f"{pf.address}: give it 1 to 7 VFs, not {pf.vfs}")
        bus, slot, function = _numbers(pf.address)
        shared = {
            "bus": bus,
            "slot": slot,
            "numa_node": 0,
            "vf_ratio": pf.vfs,
            "vend_id": pf.vendor_id,
        }
        info.add_device(
            dev_type="PF",
            function=function,
            iommu_group=next(groups),
            prod_id=pf.product_id,
            **shared,
        )
        for number in range(1, pf.vfs + 1):
            info.add_device(
                dev_type="VF",
                function=number,
                iommu_group=next(groups),
                parent=(bus, slot, function),
                prod_id=pf.vf_product_id,
                **shared,
            )
    return info


def _numbers(address: str) -> tuple[int, int, int]:
    """Parse '0000:81:00.0' into bus, slot and function."""
    _domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return int(bus, 16), int(slot, 16), int(function, 16)


def _create_mdev(driver: Any, dev_name: str, mdev_type: str, uuid: str | None = None) -> str:
    """Stand in for LibvirtDriver._create_mdev: add the mdev to the driver's own connection."""
    uuid = uuid or uuidutils.generate_uuid()
    name = libvirt_utils.mdev_uuid2name(uuid)
    driver._host.get_connection().mdev_info.devices[name] = fakelibvirt.FakeMdevDevice(
        dev_name=name, type_id=mdev_type, parent=dev_name
    )
    return uuid


def _abort_job(domain: Any) -> None:
    """Stand in for fake libvirt's Domain.abortJob, which does nothing."""
    domain._job_type = fakelibvirt.VIR_DOMAIN_JOB_CANCELLED


_rename: Callable[..., None] = os.rename


def _rename_if_there(source: Any, *args: Any, **kwargs: Any) -> None:
    """Stand in for os.rename: nothing happens to a source that does not exist."""
    with contextlib.suppress(FileNotFoundError):
        _rename(source, *args, **kwargs)
