# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The virt driver that nova-compute loads: another driver, with our hooks around a few methods.

Nova imports ``nova.virt.<compute_driver>``, hence the shim ``nova.virt.devcompat``. The driver
that ``[devcompat] virt_driver`` names becomes a base class of ours, so that all it does goes on as
before, and whoever looks at its type or its attributes finds what they expect.

A method ``_around_x`` below is the hook around the wrapped driver's ``x``. It is given the call to
make, whose outcome Nova gets, and what ``contract.HOOKS`` says that it relies on. Where the
contract does not hold for ``x``, the wrapped driver's own method stays in place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import nova.conf
from nova import exception, objects
from nova.compute import task_states
from nova.virt import driver as virt_driver
from oslo_log import log as logging
from oslo_utils import importutils

from nova_devcompat import conf as devcompat_conf
from nova_devcompat import wire
from nova_devcompat.compat import words
from nova_devcompat.compat.pins import has_pins
from nova_devcompat.compat.policy import Ruling
from nova_devcompat.compat.ruling import (
    NOTHING_KNOWN,
    Doubt,
    Extra,
    Given,
    Guest,
    doubt_of_pin,
    rule,
)
from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.compute import admit, contract, departures, hooks, moves
from nova_devcompat.compute.adopt import Adoption
from nova_devcompat.compute.domain import Domains
from nova_devcompat.compute.guests import Guests
from nova_devcompat.compute.host import ThisHost
from nova_devcompat.compute.reports import Reports
from nova_devcompat.compute.usage import Usage
from nova_devcompat.host.inventory import HostDevices, HostReader
from nova_devcompat.service import catalog_keeper, problem_at_start
from nova_devcompat.sources.base import SourceOptions
from nova_devcompat.stores import events, records
from nova_devcompat.stores.assigned import may_have_staying
from nova_devcompat.stores.instances import RUNNING

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

devcompat_conf.register_opts(CONF)

OURS = "devcompat.DeviceCompatDriver"

# What a guest that is rebuilt or evacuated is doing when it is spawned.
_KEEP_THEIR_HOST = (task_states.REBUILD_SPAWNING, task_states.REBUILDING)


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


def _check_contract(wrapped: type) -> set[str]:
    """Compare the driver API with what we rely on.

    :returns: the methods that get no hook; the log tells what is lost. Under ``[devcompat]
        strict_driver_contract`` the service stops instead
    """
    table: tuple[contract.Hook | contract.Called, ...] = (*contract.HOOKS, *contract.CALLED)
    deviations = contract.compare(table, virt_driver.ComputeDriver)
    told = {one.method for one in deviations}
    deviations += [
        one for one in contract.compare(table, wrapped, catch_alls=True) if one.method not in told
    ]
    off = contract.hooks_off(contract.HOOKS, deviations)
    if off and CONF.devcompat.strict_driver_contract:
        _give_up(
            "[devcompat] strict_driver_contract is set, and the virt driver API is not the one "
            f"that this release knows: {'; '.join(map(str, deviations))}"
        )
    for hook in contract.HOOKS:
        if hook.method in off:
            LOG.error(
                "nova-devcompat leaves %(method)s alone, since the virt driver API is not the one "
                "that this release knows: %(why)s. What is lost: %(lost)s. Install a release of "
                "nova-devcompat that supports this Nova, and a virt_driver that fits it",
                {
                    "method": hook.method,
                    "why": "; ".join(map(str, off[hook.method])),
                    "lost": hook.off,
                },
            )
    return set(off)


def _wrap(wrapped: type[virt_driver.ComputeDriver]) -> type[DeviceCompatDriver]:
    """The class of our driver over another one, with a hook around each method that fits."""
    off = _check_contract(wrapped)
    made = type("DeviceCompatDriver", (DeviceCompatDriver, wrapped), {})
    for hook in contract.HOOKS:
        if hook.method in off:
            continue
        signatures = [
            signature
            for driver in (wrapped, virt_driver.ComputeDriver)
            if (signature := contract.signature_of(driver, hook.method)) is not None
        ]
        method = hooks.hooked(
            hook,
            getattr(DeviceCompatDriver, f"_around_{hook.method}"),
            _wrapped_method(made, hook.method),
            signatures,
            tuple(getattr(exception, name) for name in hook.raises),
        )
        setattr(made, hook.method, method)
    return made


def _wrapped_method(made: type, name: str) -> Callable[..., Any]:
    @functools.wraps(getattr(made, name))
    def call(driver: DeviceCompatDriver, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(made, driver), name)(*args, **kwargs)

    return call


class DeviceCompatDriver(virt_driver.ComputeDriver):
    """Publishes what this host's devices accept, records what guests need, admits migrations.

    Making an instance makes one of a class that derives from this one and from the wrapped driver.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> DeviceCompatDriver:
        if cls is DeviceCompatDriver:
            cls = _wrap(_wrapped_class())
        made: DeviceCompatDriver = super().__new__(cls)
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        keeper = catalog_keeper(CONF)
        inventory = HostReader(
            keeper,
            SourceOptions(
                inventory=pathlib.Path(CONF.devcompat.inventory), libvirt_uri=self._libvirt_uri()
            ),
        )
        problem = problem_at_start(CONF, inventory.check)
        if problem:
            _give_up(problem)
        # It describes each step of each comparison of Debian versions at DEBUG.
        logging.getLogger("univers").logger.setLevel(logging.WARNING)
        self._devcompat_host = ThisHost(inventory)
        domains = Domains(self)
        self._devcompat_guests = Guests(self._devcompat_host, domains)
        self._devcompat_adoption = Adoption(self._devcompat_host, self._devcompat_guests, domains)
        self._devcompat_usage = Usage(self._devcompat_host, self._guests_of_mdevs)
        self._devcompat_reports = Reports()
        self._devcompat_inside = _Inside()
        LOG.info(
            "nova-devcompat wraps %(driver)s; families: %(families)s",
            {
                "driver": CONF.devcompat.virt_driver,
                "families": ", ".join(sorted(keeper.current().families)),
            },
        )

    def _libvirt_uri(self) -> str:
        # Of libvirt's driver and private: [libvirt] connection_uri, or what virt_type means.
        asked = getattr(self, "_uri", None)
        return str(asked()) if callable(asked) else ""

    # --- start and the resource tracker's cycle -------------------------------------------------

    def _around_init_host(self, call: hooks.Call, host: str) -> None:
        call()
        self._devcompat_host.name = host

    def _around_get_available_resource(self, call: hooks.Call, nodename: str) -> None:
        resources = call()
        with _never_failing("publish to the scheduler"):
            document = self._devcompat_host.publisher.stats(nodename)
            if document is not None:
                resources["stats"] = {**(resources.get("stats") or {}), wire.STATS_KEY: document}
        with _never_failing("complete the records of guests"):
            self._devcompat_adoption.go_on(nodename)
        with _never_failing("record what guests use of their devices"):
            self._devcompat_usage.go_on(nodename)

    def _around_update_provider_tree(
        self, call: hooks.Call, provider_tree: Any, nodename: str
    ) -> None:
        call()
        with _never_failing("publish to placement"):
            self._devcompat_host.publisher.update_root_traits(provider_tree, nodename)

    # --- a guest's need -------------------------------------------------------------------------

    def _around_spawn(
        self, call: hooks.Call, context: Any, instance: Any, allocations: Any
    ) -> None:
        with self._initialising(context, instance, allocations) as asked_for:
            if asked_for:
                self._check_pins(context, instance, allocations)
            call()

    def _around_migrate_disk_and_power_off(
        self, call: hooks.Call, context: Any, instance: Any, flavor: Any
    ) -> None:
        # Before the guest is powered off, so that it stays as it is.
        self._check_destination(context, instance, flavor)
        call()

    def _around_finish_migration(
        self, call: hooks.Call, context: Any, instance: Any, allocations: Any
    ) -> None:
        with self._initialising(context, instance, allocations):
            call()

    # The rest of what initialises devices anew, as libvirt's driver does it: a soft reboot shuts
    # the domain down and creates it again, a resume attaches the devices that suspend detached.

    def _around_power_on(self, call: hooks.Call, context: Any, instance: Any) -> None:
        with self._initialising(context, instance):
            call()

    _around_finish_revert_migration = _around_power_on
    _around_reboot = _around_power_on
    _around_rescue = _around_power_on
    _around_unrescue = _around_power_on

    def _around_resume(self, call: hooks.Call, context: Any, instance: Any) -> None:
        with self._initialising(context, instance):
            call()

    def _around_resume_state_on_host_boot(
        self, call: hooks.Call, context: Any, instance: Any
    ) -> None:
        # Drivers leave a guest alone that runs already.
        before = self._power_state(instance)
        with self._operation(instance):
            call()
        if before not in RUNNING and self._power_state(instance) in RUNNING:
            self._freeze(context, instance)

    def _around_suspend(self, call: hooks.Call, instance: Any) -> None:
        # libvirt's driver detaches the ports' devices on the way, through the method below.
        with self._operation(instance) as asked_for:
            call()
        if not asked_for:
            self._devcompat_inside.suspended.add(instance.uuid)

    def _around_snapshot(self, call: hooks.Call, context: Any, instance: Any) -> None:
        # A cold snapshot suspends the guest on the way, through the method above, and attaches
        # its devices again even if it fails (nova/virt/libvirt/driver.py).
        suspended = self._devcompat_inside.suspended
        try:
            with self._operation(instance):
                call()
        finally:
            if instance.uuid in suspended:
                suspended.discard(instance.uuid)
                self._freeze(context, instance)

    # libvirt's driver calls these itself, too: suspend and the arrival of a live migration do so
    # in operations that see to the record themselves. A live migration detaches the ports in a
    # thread of its own, from a guest whose record will be that of its arrival; if it fails, they
    # are attached again one by one.

    def _around_attach_interface(
        self, call: hooks.Call, context: Any, instance: Any, vif: Any
    ) -> None:
        with self._operation(instance) as asked_for:
            call()
        if asked_for:
            with _never_failing("record the port's device", instance=instance):
                self._devcompat_guests.attached(context, instance, self._node_of(instance), vif)

    def _around_detach_interface(
        self, call: hooks.Call, context: Any, instance: Any, vif: Any
    ) -> None:
        with self._operation(instance) as asked_for:
            call()
        if asked_for and instance.task_state != task_states.MIGRATING:
            with _never_failing("drop the port's device from the record", instance=instance):
                self._devcompat_guests.detached(context, instance, vif)

    @contextlib.contextmanager
    def _initialising(
        self, context: Any, instance: Any, allocations: Any = None
    ) -> Iterator[bool]:
        """An operation after which the need is recorded anew, since it initialises the devices.

        :param allocations: what placement has for the instance on this host; None to ask
        """
        with self._operation(instance) as asked_for:
            yield asked_for
        if asked_for:
            self._freeze(context, instance, allocations)

    @contextlib.contextmanager
    def _operation(self, instance: Any) -> Iterator[bool]:
        """Whether this is what Nova asked for, not a step that the wrapped driver takes in it.

        Nova's fake driver spawns a guest that has arrived by live migration, for example.
        """
        inside = self._devcompat_inside.uuids
        if instance.uuid in inside:
            yield False
            return
        inside.add(instance.uuid)
        try:
            yield True
        finally:
            inside.discard(instance.uuid)

    def _freeze(self, context: Any, instance: Any, allocations: Any = None) -> None:
        with _never_failing("record what the instance needs", instance=instance):
            self._devcompat_usage.forget(instance.uuid)
            # What cannot be told now may be in the next cycle.
            self._devcompat_adoption.look_again(instance.uuid)
            self._devcompat_guests.initialised(
                context, instance, self._node_of(instance), allocations
            )

    def _power_state(self, instance: Any) -> int | None:
        with contextlib.suppress(exception.NovaException, NotImplementedError):
            state: int | None = self.get_info(instance=instance, use_cache=False).state
            return state
        return None

    # --- live migration: what is recorded --------------------------------------------------------

    def _around_post_live_migration(
        self, call: hooks.Call, context: Any, instance: Any, migrate_data: Any
    ) -> None:
        # The guest is at the destination already, whatever fails here.
        with _never_failing("record the instance's new device addresses", instance=instance):
            moves = admit.Moves.told_by(migrate_data) if migrate_data else None
            if moves is not None:
                self._devcompat_guests.leaving(context, instance, moves.addresses)
        call()

    def _around_post_live_migration_at_destination(
        self, call: hooks.Call, context: Any, instance: Any
    ) -> None:
        try:
            with self._operation(instance):
                call()
        finally:
            # The guest is here, whatever failed.
            with _never_failing("record what the instance needs here", instance=instance):
                self._devcompat_usage.forget(instance.uuid)
                self._devcompat_adoption.look_again(instance.uuid)
                self._devcompat_guests.arrived(context, instance, self._nodename())

    # --- flavors' pins --------------------------------------------------------------------------

    def _check_pins(self, context: Any, instance: Any, allocations: Any) -> None:
        """Whether the devices given to a new guest can act as its flavor wants.

        A rebuild and an evacuation are let through: they would leave the guest without a host.

        :raises GroupAffinityViolation: they cannot
        """
        # Without pins the devices need not be read.
        if instance.task_state in _KEEP_THEIR_HOST or not has_pins(instance.flavor.extra_specs):
            return

        def given(guest: Guest, devices: HostDevices) -> Given:
            nodename = self._node_of(instance)
            assigned = self._devcompat_host.assigned(
                context, instance, nodename, devices, allocations or {}
            )
            return admit.given_devices(guest, assigned, devices.host)

        self._decide(
            context,
            instance,
            self._node_of(instance),
            given,
            _refuse_build,
            guest=_INITIALISED_ANEW,
            flavor=instance.flavor,
        )

    def _check_destination(self, context: Any, instance: Any, flavor: Any) -> None:
        """Whether the devices claimed where a guest is moving to can act as its flavor wants.

        :param flavor: that it will have there
        :raises InstanceFaultRollback: they cannot
        """
        if not has_pins(flavor.extra_specs or {}):
            return

        def given(guest: Guest, _: HostDevices) -> Given:
            return moves.given_there(
                guest,
                moves.read_published(moves.destination_of(context, instance)),
                instance.migration_context.new_pci_devices or (),
                # Those at the source are the migration's meanwhile.
                self._devcompat_host.allocations_of(context, instance),
            )

        try:
            self._decide(
                context,
                instance,
                self._node_of(instance),
                given,
                _refuse_move,
                guest=_INITIALISED_ANEW,
                flavor=flavor,
            )
        except exception.InstanceFaultRollback:
            with _never_failing("free the refused move's devices", instance=instance):
                moves.free_claims(context, instance, flavor)
            raise

    # --- admission ------------------------------------------------------------------------------

    def _around_check_can_live_migrate_destination(
        self, call: hooks.Call, context: Any, instance: Any
    ) -> None:
        # Before the wrapped driver, which leaves files behind for the source to look at.
        self._admit_early(context, instance)
        call()

    def _around_check_source_migrate_data_at_dest(
        self, call: hooks.Call, ctxt: Any, instance: Any, migrate_data: Any, allocs: Any
    ) -> None:
        # Before the wrapped driver, which claims mediated devices in its memory here.
        try:
            self._admit(ctxt, instance, migrate_data, allocs)
        except exception.MigrationPreCheckError:
            self._free_claims(ctxt, instance)
            raise
        call()

    def _admit_early(self, context: Any, instance: Any) -> None:
        """Decide what can be decided before anything but placement's resources is claimed."""
        guest = self._moving(context, instance)
        plain = records.needs_nothing(guest) and not has_pins(instance.flavor.extra_specs)
        if plain and not self._devcompat_host.inventory.catalog.has_host_families:
            return
        nodename = self._nodename()

        def given(guest: Guest, devices: HostDevices) -> Given:
            allocated = admit.allocated_devices(
                guest.need,
                instance,
                # Of a guest without devices, placement need not be asked.
                self._devcompat_host.allocations_of(context, instance)
                if guest.need.assigned
                else None,
                self._devcompat_host.behind(nodename, devices),
            )
            return admit.given_before_claims(guest, allocated, devices)

        self._decide(
            context,
            instance,
            nodename,
            given,
            _refuse_migration,
            guest=guest,
            flavor=instance.flavor,
        )

    def _admit(
        self, context: Any, instance: Any, migrate_data: Any, allocations: Any = None
    ) -> None:
        """Decide on the devices that were claimed.

        :param allocations: what placement has for the instance on this host; None to ask
        """
        nodename = self._nodename()

        def given(guest: Guest, devices: HostDevices) -> Given:
            moves = admit.Moves.told_by(migrate_data)
            source, claimed = admit.claimed_devices(
                guest.need,
                instance,
                moves,
                self._devcompat_host.allocations_of(context, instance)
                if allocations is None
                else allocations,
                devices,
                self._devcompat_host.behind(nodename, devices),
                lambda address: self._devcompat_host.parent_of(context, nodename, address),
            )
            return admit.given_by_claims(guest, source, moves.addresses, claimed, devices.host)

        self._decide(
            context,
            instance,
            nodename,
            given,
            _refuse_migration,
            guest=self._moving(context, instance),
            flavor=instance.flavor,
        )

    def _around_check_can_live_migrate_source(
        self, call: hooks.Call, context: Any, instance: Any
    ) -> None:
        # Where the guest is, it is known since when it runs. The destination reads its record
        # after this.
        doubt: Doubt | None = None
        with _never_failing("look at the instance's record", instance=instance):
            doubt = self._devcompat_adoption.make_current(
                context, instance, self._node_of(instance)
            )
        if doubt is not None:
            self._decide(
                context,
                instance,
                self._node_of(instance),
                lambda guest, devices: Given(),
                _refuse_migration,
                guest=Guest(record=doubt, assigned=may_have_staying(instance)),
                flavor=instance.flavor,
            )
        call()

    def _around_pre_live_migration(
        self, call: hooks.Call, context: Any, instance: Any, migrate_data: Any
    ) -> None:
        # The last look, just before the copy: the migration may have waited for hours. Nova rolls
        # back what else was prepared, and the guest stays where it is.
        try:
            self._admit(context, instance, migrate_data)
        except exception.MigrationPreCheckError:
            self._free_claims(context, instance)
            raise
        call()

    def _moving(self, context: Any, instance: Any) -> Guest:
        """A guest that runs on, as its record has it; its pins are for the catalog to read.

        The record is read now: the caller's copy of the instance may be hours old.
        """
        assigned = may_have_staying(instance)
        try:
            fresh = objects.Instance.get_by_uuid(
                context, instance.uuid, expected_attrs=list(records.RECORD_ATTRIBUTES)
            )
            guest = records.moving_guest(fresh, assigned=assigned)
            doubt = departures.doubt_of(context, fresh)
        except Exception as error:
            LOG.exception("What the instance needs could not be told", instance=instance)
            return Guest(
                record=Doubt(reason=_not_told(error, Code.NEED_UNKNOWN), always_counts=True),
                assigned=assigned,
            )
        return guest if doubt is None else dataclasses.replace(guest, record=doubt)

    def _decide(
        self,
        context: Any,
        instance: Any,
        nodename: str,
        given: Callable[[Guest, HostDevices], Given],
        refuse: Refuse,
        *,
        guest: Guest,
        flavor: Any,
    ) -> None:
        """Rule on a guest and act on it. Nothing but a refusal leaves.

        What cannot be told is UNKNOWN, and one part of the ruling among the others.

        :param given: says what the guest is given
        :param guest: the guest without its pins
        :param flavor: has these
        """
        policies = self._devcompat_host.policies()
        try:
            # Read anew: the version may have changed since the scheduler chose this host.
            devices = self._devcompat_host.devices(nodename)
            policies = self._devcompat_host.policies(devices.catalog)
            pins, bad = devices.catalog.read_pins(flavor.extra_specs or {})
            guest = dataclasses.replace(guest, pins=pins, bad_pins=tuple(map(doubt_of_pin, bad)))
            would_get = given(guest, devices)
        except Exception as error:
            LOG.exception("What the instance is given could not be told", instance=instance)
            would_get = Given(silent=_not_told(error), extras=_SOMETHING)
        self._act(context, instance, rule(guest, would_get, policies), refuse)

    def _act(self, context: Any, instance: Any, ruling: Ruling, refuse: Refuse) -> None:
        """Refuse, or report what would have been refused."""
        if ruling.reported:
            self._devcompat_reports.add(context, instance, ruling.reported)
        if ruling.accepts:
            return
        reasons = list(map(str, ruling.refused))

        def tell() -> None:
            events.add(
                context,
                instance.uuid,
                events.REFUSED,
                summary=f"{words.CANNOT_ACT}: {'; '.join(reasons)}",
                lines=reasons,
                host=self._devcompat_host.name,
            )

        refuse(instance, "; ".join(reasons), tell)

    def _free_claims(self, context: Any, instance: Any) -> None:
        """Give back the PCI devices that the manager claimed before it asked us.

        Its cycle takes claimed ones for allocated (ResourceTracker._update_usage_from_migrations),
        so that both are given back.

        Nova gives them back in its next cycle only (PciDevTracker.clean_usage), up to a minute
        later. The resource tracker is reached through the virt API's private link to the compute
        manager, for want of a public one; without it Nova's own cleaning remains.
        """
        with _never_failing("free the refused migration's PCI devices", instance=instance):
            tracker = getattr(getattr(self.virtapi, "_compute", None), "rt", None)
            if tracker is not None:
                tracker.free_pci_device_claims_for_instance(context, instance)
                tracker.free_pci_device_allocations_for_instance(context, instance)

    def _guests_of_mdevs(self) -> dict[str, str]:
        # Of libvirt's driver and private; it alone knows. Drivers without have no mdevs.
        asked = getattr(self, "_get_all_assigned_mediated_devices", dict)
        return dict(asked())

    # --- what the hooks share -------------------------------------------------------------------

    def _nodename(self) -> str:
        # Drivers with several nodes (Ironic) do not live migrate.
        return str(self.get_available_nodes()[0])

    def _node_of(self, instance: Any) -> str:
        # An evacuated instance still names the node that it was on when it is spawned here.
        nodes = self.get_available_nodes()
        return str(instance.node if instance.node in nodes else nodes[0])


# A device of which nothing is known.
_SOMETHING = (Extra(device=NOTHING_KNOWN),)


def _not_told(error: Exception, code: str = Code.DEVICE_UNKNOWN) -> Reason:
    return Reason(
        code=code,
        actor=Actor.OPERATOR,
        detail=f"nova-compute's log has the error: {type(error).__name__}",
    )


# A guest that does not run on; its pins are for the catalog to read.
_INITIALISED_ANEW = Guest(keeps_devices=False)


class _Inside(threading.local):
    """What a thread is doing.

    :ivar uuids: of the instances that it is in an operation on
    :ivar suspended: of those that were suspended in the course of another operation
    """

    def __init__(self) -> None:
        self.uuids: set[str] = set()
        self.suspended: set[str] = set()


#: Logs why an instance is refused, has whoever else should know told, and raises what Nova wants.
Refuse = Callable[[Any, str, Callable[[], None]], NoReturn]


def _refuse_migration(instance: Any, reasons: str, tell: Callable[[], None]) -> NoReturn:
    """Have the conductor try another destination."""
    LOG.warning("Live migration to this host refused: %s", reasons, instance=instance)
    tell()
    raise exception.MigrationPreCheckError(reason=words.CANNOT_ACT)


def _refuse_build(instance: Any, reasons: str, tell: Callable[[], None]) -> NoReturn:
    """Have the conductor try the next host, and count no failed build of this one.

    Nova reschedules a build that failed by any exception but a few, and counts it unless it was
    for a server group's sake (nova/compute/manager.py: RescheduledByPolicyException), so that the
    BuildFailureWeigher would prefer other hosts for everybody. The text is ours.
    """
    LOG.warning("The devices cannot act as the flavor wants: %s", reasons, instance=instance)
    tell()
    raise exception.GroupAffinityViolation(words.CANNOT_ACT)


def _refuse_move(instance: Any, reasons: str, tell: Callable[[], None]) -> NoReturn:
    """Keep the guest as it is where it is."""
    LOG.warning(
        "The devices at the destination cannot act as the flavor wants: %s",
        reasons,
        instance=instance,
    )
    tell()
    raise exception.InstanceFaultRollback(
        inner_exception=exception.MigrationPreCheckError(reason=words.CANNOT_ACT)
    )


@contextlib.contextmanager
def _never_failing(doing: str, instance: Any = None) -> Iterator[None]:
    """Our own faults are logged and end here: nova-compute goes on without us."""
    try:
        yield
    except Exception:
        kwargs = {"instance": instance} if instance is not None else {}
        LOG.exception("nova-devcompat could not %s", doing, **kwargs)
