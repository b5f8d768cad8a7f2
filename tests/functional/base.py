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
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import fixtures
import nova.conf
from nova.scheduler import host_manager
from nova.tests import fixtures as nova_fixtures
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.libvirt import base as libvirt_base
from nova.tests.functional.libvirt import test_pci_sriov_servers as nova_pci
from nova.tests.functional.libvirt import test_vgpu as nova_vgpu
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import utils as libvirt_utils
from oslo_utils import uuidutils, versionutils

from tests.functional import capture, services
from tests.functional.guests import IMAGE, Guests, Server
from tests.functional.holdings import Holdings
from tests.functional.hosts import VF_BY_CLASS, VF_BY_ID, VF_SPEC, Gpu, Hosts, Pf
from tests.functional.migrations import Migrated, Migrations

__all__ = [
    "IMAGE",
    "VF_BY_CLASS",
    "VF_BY_ID",
    "VF_SPEC",
    "Fleet",
    "Gpu",
    "Migrated",
    "Pf",
    "Server",
    "UnderPytest",
    "running",
]

CONF = nova.conf.CONF


class UnderPytest:
    """For subclasses of nova.test.TestCase that pytest runs."""

    def __delattr__(self, name: str) -> None:
        # pytest 9 deletes the attributes that it had set for a test after nova.test.TestCase has
        # cleared all of them (_clear_attrs). To go when either of them looks first.
        with contextlib.suppress(AttributeError):
            super().__delattr__(name)


class Fleet(
    UnderPytest,
    Hosts,
    Guests,
    Migrations,
    Holdings,
    nova_vgpu.VGPUTestBase,
    nova_pci._PCIServersWithMigrationTestBase,
):
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

    #: Whether an RPC without an answer waits for one.
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
        if self.CASTS_WAIT:
            self.useFixture(capture.CastIsCall())
        self.placement_log = self.useFixture(capture.PlacementLog())
        self.logs = self.useFixture(capture.LogBook(self.DEBUG_LOGGERS))
        self.progress = self.useFixture(capture.Progress())
        self._begin_migrations()
        self._patch_host_order()
        # Ours before those of Nova that try each candidate.
        wanted = [*self.EXTRA_FILTERS, *self.ADDITIONAL_FILTERS]
        enabled = [one for one in CONF.filter_scheduler.enabled_filters if one not in wanted]
        enabled += wanted
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


def _create_mdev(driver: Any, dev_name: str, mdev_type: str, uuid: str | None = None) -> str:
    """Stand in for LibvirtDriver._create_mdev: add the mdev to the driver's own connection."""
    uuid = uuid or uuidutils.generate_uuid()
    name = libvirt_utils.mdev_uuid2name(uuid)
    driver._host.get_connection().mdev_info.devices[name] = fakelibvirt.FakeMdevDevice(
        dev_name=name, type_id=mdev_type, parent=dev_name
    )
    return uuid


_rename: Callable[..., None] = os.rename


def _rename_if_there(source: Any, *args: Any, **kwargs: Any) -> None:
    """Stand in for os.rename: nothing happens to a source that does not exist."""
    with contextlib.suppress(FileNotFoundError):
        _rename(source, *args, **kwargs)
