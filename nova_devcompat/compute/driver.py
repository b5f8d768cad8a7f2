#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""The virt driver that nova-compute loads: another driver, with our hooks around a few methods.

Nova imports ``nova.virt.<compute_driver>``, hence the shim ``nova.virt.devcompat``. The driver
that ``[devcompat] virt_driver`` names becomes a base class of ours, so that all it does goes on as
before, and whoever looks at its type or its attributes finds what they expect.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import pathlib
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import nova.conf
from nova import exception, objects
from nova.scheduler.client import report
from nova.virt import driver as virt_driver
from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import importutils

from nova_devcompat import conf as devcompat_conf
from nova_devcompat import wire
from nova_devcompat.catalog.keeper import CatalogKeeper
from nova_devcompat.catalog.loader import CatalogError
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.verdict import Actor, Code, Policy, Reason, Ruling, Verdict
from nova_devcompat.compute import admit, record
from nova_devcompat.compute.inventory import HostDevices, Inventory
from nova_devcompat.compute.publish import Placement, Publisher
from nova_devcompat.plugins import PluginError
from nova_devcompat.sources.base import SourceError, SourceOptions

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

devcompat_conf.register_opts(CONF)

OURS = "devcompat.DeviceCompatDriver"

# Migrations in flight towards one host whose new addresses are remembered between admission and
# the end. Nova allows a handful at a time; the limit only bounds what failed ones leave behind.
_RELOCATIONS_KEPT = 1000


def _give_up(message: str) -> NoReturn:
    """Stop the service at start with one line, as Nova does for a driver it cannot load."""
    LOG.critical("nova-devcompat: %s", message)
    sys.exit(1)


def _wrapped_class() -> type[virt_driver.ComputeDriver]:
    name = CONF.devcompat.virt_driver
    if name == OURS:
        _give_up(f"[devcompat] virt_driver is {OURS}, which would wrap itself")
    try:
        found = importutils.import_class(f"nova.virt.{name}")
    except ImportError as error:
        _give_up(
            f"[devcompat] virt_driver = {name}: cannot import nova.virt.{name}: "
            f"{' '.join(str(error).split())[-300:]}"
        )
    if not (isinstance(found, type) and issubclass(found, virt_driver.ComputeDriver)):
        _give_up(f"[devcompat] virt_driver = {name} is not a virt driver")
    return found


def _problem(inventory: Inventory) -> str:
    """What keeps nova-compute from starting, '' if nothing does."""
    try:
        devcompat_conf.default_policy(CONF)
        inventory.check()
    except cfg.ConfigFileValueError as error:
        return " ".join(str(error).split())
    except CatalogError as error:
        return f"the catalog cannot be used: {'; '.join(map(str, error.problems))}"
    except (PluginError, SourceError) as error:
        return str(error)
    return ""


class DeviceCompatDriver(virt_driver.ComputeDriver):
    """Publishes what this host's devices accept, records what guests need, admits migrations.

    Making an instance makes one of a class that derives from this one and from the wrapped driver.
    """

    _wrapping: dict[type, type] = {}
    _wrapping_lock = threading.Lock()

    def __new__(cls, *args: Any, **kwargs: Any) -> DeviceCompatDriver:
        if cls is DeviceCompatDriver:
            wrapped = _wrapped_class()
            with DeviceCompatDriver._wrapping_lock:
                cls = DeviceCompatDriver._wrapping.setdefault(
                    wrapped, type("DeviceCompatDriver", (DeviceCompatDriver, wrapped), {})
                )
        return super().__new__(cls)

    def __init__(self, virtapi: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(virtapi, *args, **kwargs)
        keeper = CatalogKeeper([pathlib.Path(path) for path in CONF.devcompat.catalog])
        inventory = Inventory(
            keeper, SourceOptions(inventory=pathlib.Path(CONF.devcompat.inventory))
        )
        problem = _problem(inventory)
        if problem:
            _give_up(problem)
        # It describes each step of each comparison of Debian versions at DEBUG.
        logging.getLogger("univers").logger.setLevel(logging.WARNING)
        self._devcompat_inventory = inventory
        self._devcompat_lock = threading.Lock()
        self._devcompat_relocations: collections.OrderedDict[str, Need] = collections.OrderedDict()
        self._devcompat_reports = itertools.count(1)
        self._devcompat_publisher: Publisher | None = None
        self._devcompat_host = CONF.host
        LOG.info(
            "nova-devcompat wraps %(driver)s; families: %(families)s",
            {
                "driver": CONF.devcompat.virt_driver,
                "families": ", ".join(sorted(keeper.current().families)),
            },
        )

    # --- start and the resource tracker's cycle -------------------------------------------------

    def init_host(self, host: str) -> None:
        super().init_host(host)
        self._devcompat_host = host

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        resources = super().get_available_resource(nodename)
        with _never_failing("publish to the scheduler"):
            document = self._publisher().stats(nodename)
            if document is not None:
                resources["stats"] = {**(resources.get("stats") or {}), wire.STATS_KEY: document}
        return resources

    def update_provider_tree(
        self, provider_tree: Any, nodename: str, allocations: Any = None
    ) -> None:
        super().update_provider_tree(provider_tree, nodename, allocations=allocations)
        with _never_failing("publish to placement"):
            self._publisher().update_root_traits(provider_tree, nodename)

    # --- a guest's need -------------------------------------------------------------------------

    def spawn(
        self,
        context: Any,
        instance: Any,
        image_meta: Any,
        injected_files: Any,
        admin_password: Any,
        allocations: Any,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().spawn(
            context,
            instance,
            image_meta,
            injected_files,
            admin_password,
            allocations,
            *args,
            **kwargs,
        )
        self._freeze(context, instance, allocations)

    def finish_migration(
        self,
        context: Any,
        migration: Any,
        instance: Any,
        disk_info: Any,
        network_info: Any,
        image_meta: Any,
        resize_instance: Any,
        allocations: Any,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().finish_migration(
            context,
            migration,
            instance,
            disk_info,
            network_info,
            image_meta,
            resize_instance,
            allocations,
            *args,
            **kwargs,
        )
        self._freeze(context, instance, allocations)

    # The rest of what initialises devices anew, as libvirt's driver does it: a soft reboot shuts
    # the domain down and creates it again, a resume attaches the devices that suspend detached.

    def finish_revert_migration(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> None:
        super().finish_revert_migration(context, instance, *args, **kwargs)
        self._freeze(context, instance)

    def reboot(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        super().reboot(context, instance, *args, **kwargs)
        self._freeze(context, instance)

    def power_on(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        super().power_on(context, instance, *args, **kwargs)
        self._freeze(context, instance)

    def resume(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        super().resume(context, instance, *args, **kwargs)
        self._freeze(context, instance)

    def rescue(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        super().rescue(context, instance, *args, **kwargs)
        self._freeze(context, instance)

    def unrescue(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        super().unrescue(context, instance, *args, **kwargs)
        self._freeze(context, instance)

    def _freeze(self, context: Any, instance: Any, allocations: Any = None) -> None:
        """Record the need anew, since the devices were initialised a moment ago.

        The compute manager saves the instance after each method that calls this.

        :param allocations: what placement has for the instance on this host; None to ask
        """
        with _never_failing("record what the instance needs", instance=instance):
            nodename = instance.node or self._nodename()
            devices = self._devcompat_inventory.read(nodename)
            if not len(devices) and not record.exists(instance):
                return
            asked = allocations is None
            if asked:
                allocations = report.report_client_singleton().get_allocations_for_consumer(
                    context, instance.uuid
                )
            assigned = record.from_instance(
                instance,
                allocations,
                devices,
                self._address_of(nodename),
                self._node_id(context, nodename),
            )
            need = record.freeze(assigned)
            # A restart takes no device away: one that is not found is one that cannot be read.
            if need.devices or not asked:
                record.store(instance, need)

    def post_live_migration_at_destination(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> None:
        super().post_live_migration_at_destination(context, instance, *args, **kwargs)
        # The need is kept; only the addresses of the devices are new. Saved by the manager.
        with self._devcompat_lock:
            need = self._devcompat_relocations.pop(instance.uuid, None)
        with _never_failing("record the instance's new device addresses", instance=instance):
            need = need or self._relocated(instance)
            if need is not None:
                record.store(instance, need)

    def _relocated(self, instance: Any) -> Need | None:
        """The need at its new addresses, where a restart lost what admission knew.

        Nova has allocated the PCI devices by now.
        """
        try:
            recorded = record.load(instance)
        except wire.WireError:
            return None  # left as it is; admission has told
        if recorded is None:
            return None
        devices = self._devcompat_inventory.read(self._nodename())
        arrived = record.from_instance(instance, {}, devices, lambda provider: None, None)
        return admit.relocate(recorded, {}, arrived)

    # --- admission ------------------------------------------------------------------------------

    def check_can_live_migrate_destination(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> Any:
        # Before the wrapped driver, which leaves files behind for the source to look at.
        with self._deciding(instance):
            self._admit_early(context, instance)
        return super().check_can_live_migrate_destination(context, instance, *args, **kwargs)

    def check_source_migrate_data_at_dest(
        self,
        ctxt: Any,
        instance: Any,
        migrate_data: Any,
        migration: Any,
        limits: Any,
        allocs: Any,
    ) -> Any:
        # Before the wrapped driver, which claims mediated devices in its memory here.
        try:
            with self._deciding(instance):
                self._admit(ctxt, instance, migrate_data, allocs)
        except exception.MigrationPreCheckError:
            self._free_claims(ctxt, instance)
            raise
        return super().check_source_migrate_data_at_dest(
            ctxt, instance, migrate_data, migration, limits, allocs
        )

    def _admit_early(self, context: Any, instance: Any) -> None:
        """Decide what can be decided before anything but placement's resources is claimed."""
        need = record.load(instance)
        if need is None:
            return
        nodename = self._nodename()
        devices = self._devcompat_inventory.read(nodename)
        allocations = report.report_client_singleton().get_allocations_for_consumer(
            context, instance.uuid
        )
        allocated = admit.allocated_devices(
            need, instance, allocations, devices, self._address_of(nodename)
        )
        self._act(
            instance,
            admit.rule_on_host(need, allocated, devices, self._policy_of(devices)),
        )

    def _admit(self, context: Any, instance: Any, migrate_data: Any, allocations: Any) -> None:
        nodename = self._nodename()
        # Read anew: the version may have changed since the scheduler chose this host.
        devices = self._devcompat_inventory.read(nodename)
        moves = admit.moved_addresses(migrate_data)
        need = record.load(instance)
        source, claimed = admit.claimed_devices(
            need,
            instance,
            moves,
            allocations,
            devices,
            self._address_of(nodename),
            lambda address: self._parent_of(context, nodename, address),
        )
        self._act(
            instance,
            admit.rule_on_claim(need, source, moves, claimed, self._policy_of(devices)),
        )
        if need is not None:
            with self._devcompat_lock:
                self._devcompat_relocations[instance.uuid] = admit.relocate(need, moves, claimed)
                while len(self._devcompat_relocations) > _RELOCATIONS_KEPT:
                    self._devcompat_relocations.popitem(last=False)

    @contextlib.contextmanager
    def _deciding(self, instance: Any) -> Iterator[None]:
        """What cannot be decided is UNKNOWN, and nothing but a refusal leaves."""
        try:
            yield
        except exception.MigrationPreCheckError:
            raise
        except wire.WireError as error:
            self._act_on_unknown(instance, Code.RECORD_UNREADABLE, str(error))
        except Exception as error:
            LOG.exception("Admission could not be decided", instance=instance)
            self._act_on_unknown(
                instance,
                Code.NEED_UNKNOWN,
                f"nova-compute's log has the error: {type(error).__name__}",
            )

    def _act_on_unknown(self, instance: Any, code: str, detail: str) -> None:
        reason = Reason(code=code, actor=Actor.OPERATOR, detail=detail)
        policy = devcompat_conf.default_policy(CONF)
        self._act(instance, Ruling.of([(policy, Verdict.unknown(reason))]))

    def _act(self, instance: Any, ruling: Ruling) -> None:
        """Refuse, or report what would have been refused.

        :raises MigrationPreCheckError: the ruling does not accept; the conductor tries elsewhere
        """
        if ruling.reported:
            LOG.warning(
                "Report mode: this host would refuse the live migration (%(count)d so far): "
                "%(reasons)s",
                {
                    "count": next(self._devcompat_reports),
                    "reasons": "; ".join(map(str, ruling.reported)),
                },
                instance=instance,
            )
        if not ruling.accepts:
            reasons = "; ".join(map(str, ruling.refused))
            LOG.warning("Live migration to this host refused: %s", reasons, instance=instance)
            raise exception.MigrationPreCheckError(reason=f"devcompat: {reasons}")

    def _free_claims(self, context: Any, instance: Any) -> None:
        """Give back the PCI devices that the manager claimed before it asked us.

        Nova gives them back in its next cycle only (PciDevTracker.clean_usage), up to a minute
        later. The resource tracker is reached through the virt API's private link to the compute
        manager, for want of a public one; without it Nova's own cleaning remains.
        """
        tracker = getattr(getattr(self.virtapi, "_compute", None), "rt", None)
        if tracker is not None:
            with _never_failing("free the refused migration's PCI devices", instance=instance):
                tracker.free_pci_device_claims_for_instance(context, instance)

    # --- what the hooks share -------------------------------------------------------------------

    def _publisher(self) -> Publisher:
        with self._devcompat_lock:
            if self._devcompat_publisher is None:
                self._devcompat_publisher = Publisher(
                    self._devcompat_inventory, Placement(report.report_client_singleton())
                )
            return self._devcompat_publisher

    def _policy_of(self, devices: HostDevices) -> Any:
        default = devcompat_conf.default_policy(CONF)

        def policy(family: str) -> Policy:
            return devices.catalog.policy(family, default)

        return policy

    def _address_of(self, nodename: str) -> record.AddressOf:
        publisher = self._publisher()
        return lambda provider: publisher.address_of(nodename, provider)

    def _nodename(self) -> str:
        # Drivers with several nodes (Ironic) do not live migrate.
        return self.get_available_nodes()[0]

    def _parent_of(self, context: Any, nodename: str, address: str) -> str | None:
        try:
            node_id = self._node_id(context, nodename)
            return objects.PciDevice.get_by_dev_addr(context, node_id, address).parent_addr
        except exception.NotFound:
            return None

    def _node_id(self, context: Any, nodename: str) -> int:
        return objects.ComputeNode.get_by_host_and_nodename(
            context, self._devcompat_host, nodename
        ).id


@contextlib.contextmanager
def _never_failing(doing: str, instance: Any = None) -> Iterator[None]:
    """Our own faults are logged and end here: nova-compute goes on without us."""
    try:
        yield
    except Exception:
        kwargs = {"instance": instance} if instance is not None else {}
        LOG.exception("nova-devcompat could not %s", doing, **kwargs)
