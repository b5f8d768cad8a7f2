# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The hooks that decide: on new guests, on moves, and on live migrations to this host."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from nova import exception, objects
from nova.compute import task_states
from oslo_log import log as logging

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
    unreadable_pins,
)
from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.compute import admit, departures, hooks, moves, refusals
from nova_devcompat.compute.shared import Shared, never_failing
from nova_devcompat.host.devices import HostDevices
from nova_devcompat.stores import events, records
from nova_devcompat.stores.assigned import may_have_staying

LOG = logging.getLogger(__name__)

# What a guest that is rebuilt or evacuated is doing when it is spawned, and one that is resized to
# another cell (nova/compute/manager.py, finish_snapshot_based_resize_at_dest): each has left where
# it was, and would be powered off and in ERROR.
_KEEP_THEIR_HOST = (
    task_states.REBUILD_SPAWNING,
    task_states.REBUILDING,
    task_states.RESIZE_FINISH,
)

# A device of which nothing is known.
_SOMETHING = (Extra(device=NOTHING_KNOWN),)


def _not_told(error: Exception, code: str = Code.DEVICE_UNKNOWN) -> Reason:
    return Reason(
        code=code,
        actor=Actor.OPERATOR,
        detail=f"nova-compute's log has the error: {type(error).__name__}",
    )


def _need_not_told(error: Exception) -> Doubt:
    return Doubt(reason=_not_told(error, Code.NEED_UNKNOWN), always_counts=True)


# What stands in place of the pins of a flavor that were not even looked at.
_PINS_NOT_READ = unreadable_pins("nova-compute's log has the error")

# A guest that does not run on; its pins are for the catalog to read.
_INITIALISED_ANEW = Guest(keeps_devices=False)


class Admission(Shared):
    """Compares what an instance is given with what it needs and its flavor pins."""

    # --- flavors' pins --------------------------------------------------------------------------

    def _check_pins(self, context: Any, instance: Any, allocations: Any) -> None:
        """Whether the devices given to a new guest can act as its flavor wants.

        A rebuild, an evacuation and a resize to another cell are let through: they would leave the
        guest without a host.

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
            refusals.refuse_build,
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
                refusals.refuse_move,
                guest=_INITIALISED_ANEW,
                flavor=flavor,
            )
        except exception.InstanceFaultRollback:
            with never_failing("free the refused move's devices", instance=instance):
                moves.free_claims(context, instance, flavor)
            raise

    # --- admission ------------------------------------------------------------------------------

    def _around_check_can_live_migrate_destination(
        self, call: hooks.Call, context: Any, instance: Any
    ) -> None:
        # Before the wrapped driver, which leaves files behind for the source to look at.
        with self._letting_in_nobody(context, instance):
            self._admit_early(context, instance)
        call()

    def _around_check_source_migrate_data_at_dest(
        self, call: hooks.Call, ctxt: Any, instance: Any, migrate_data: Any, allocs: Any
    ) -> None:
        # Before the wrapped driver, which claims mediated devices in its memory here.
        try:
            with self._letting_in_nobody(ctxt, instance):
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
            refusals.refuse_migration,
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
                self._devcompat_host.node_id(context, nodename) if instance.pci_devices else None,
            )
            return admit.given_by_claims(guest, source, moves.addresses, claimed, devices.host)

        self._decide(
            context,
            instance,
            nodename,
            given,
            refusals.refuse_migration,
            guest=self._moving(context, instance),
            flavor=instance.flavor,
        )

    def _around_check_can_live_migrate_source(
        self, call: hooks.Call, context: Any, instance: Any
    ) -> None:
        # Where the guest is, it is known since when it runs. The destination reads its record
        # after this.
        with self._letting_in_nobody(context, instance):
            nodename = self._node_of(instance)
            doubt = self._devcompat_adoption.make_current(context, instance, nodename)
            if doubt is not None:
                self._decide(
                    context,
                    instance,
                    nodename,
                    lambda guest, devices: Given(),
                    refusals.refuse_migration,
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
            with self._letting_in_nobody(context, instance):
                self._admit(context, instance, migrate_data)
        except exception.MigrationPreCheckError:
            self._free_claims(context, instance)
            raise
        call()

    @contextlib.contextmanager
    def _letting_in_nobody(self, context: Any, instance: Any) -> Iterator[None]:
        """Have whatever fails on the way to a ruling be UNKNOWN, as all that is not known is.

        Hooks that fail are passed over, which would let in a guest that nothing was decided of.

        :raises MigrationPreCheckError: it is refused
        """
        try:
            yield
        except exception.MigrationPreCheckError:
            raise
        except Exception as error:
            LOG.exception("What the instance needs could not be told", instance=instance)
            assigned = True
            with never_failing("look at the instance's devices", instance=instance):
                assigned = may_have_staying(instance)
            guest = Guest(record=_need_not_told(error), assigned=assigned)
            ruling = rule(guest, Given(), self._devcompat_host.policies())
            self._act(context, instance, ruling, refusals.refuse_migration)

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
            return Guest(record=_need_not_told(error), assigned=assigned)
        return guest if doubt is None else dataclasses.replace(guest, record=doubt)

    def _decide(
        self,
        context: Any,
        instance: Any,
        nodename: str,
        given: Callable[[Guest, HostDevices], Given],
        refuse: refusals.Refuse,
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
        specs = flavor.extra_specs or {}
        if has_pins(specs):
            guest = dataclasses.replace(guest, bad_pins=(_PINS_NOT_READ,))  # until they are
        try:
            # Read anew: the version may have changed since the scheduler chose this host.
            devices = self._devcompat_host.devices(nodename)
            policies = self._devcompat_host.policies(devices.catalog)
            pins, bad = devices.catalog.read_pins(specs)
            guest = dataclasses.replace(
                guest,
                pins=pins,
                bad_pins=tuple(map(doubt_of_pin, bad)),
                risks=(*guest.risks, *self._devcompat_host.risks()),
            )
            would_get = given(guest, devices)
        except Exception as error:
            LOG.exception("What the instance is given could not be told", instance=instance)
            would_get = Given(silent=_not_told(error), extras=_SOMETHING)
        self._act(context, instance, rule(guest, would_get, policies), refuse)

    def _act(self, context: Any, instance: Any, ruling: Ruling, refuse: refusals.Refuse) -> None:
        """Refuse, or report what would have been refused."""
        if refuse is refusals.refuse_migration:
            with never_failing("look for claims that Nova has lost", instance=instance):
                ruling = refusals.with_lost_claims(ruling, instance)
        if ruling.reported:
            self._devcompat_reports.add(context, instance, ruling.reported)
        if ruling.accepts:
            refusals.tell_waived(context, instance, ruling, self._devcompat_host.name)
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
        with never_failing("free the refused migration's PCI devices", instance=instance):
            tracker = getattr(getattr(self.virtapi, "_compute", None), "rt", None)
            if tracker is not None:
                tracker.free_pci_device_claims_for_instance(context, instance)
                tracker.free_pci_device_allocations_for_instance(context, instance)
