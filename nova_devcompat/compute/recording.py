# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The hooks after which a guest's record is another: starts of the guest, ports, arrivals."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from nova import exception, objects
from nova.compute import task_states

from nova_devcompat.compute import admit, hooks
from nova_devcompat.compute.shared import Shared, never_failing
from nova_devcompat.stores import risk_writer
from nova_devcompat.stores.instances import RUNNING


class Recording(Shared):
    """Has needs recorded when devices are initialised, and kept right after."""

    def _around_spawn(
        self, call: hooks.Call, context: Any, instance: Any, allocations: Any
    ) -> None:
        with self._initialising(context, instance, allocations, anew=True) as asked_for:
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
        with self._initialising(context, instance, allocations, anew=True):
            call()

    def _around_finish_revert_migration(
        self, call: hooks.Call, context: Any, instance: Any
    ) -> None:
        with self._initialising(context, instance, anew=True):
            call()

    # The rest of what initialises devices anew, as libvirt's driver does it: a soft reboot shuts
    # the domain down and creates it again, a resume attaches the devices that suspend detached.

    def _around_power_on(self, call: hooks.Call, context: Any, instance: Any) -> None:
        with self._initialising(context, instance):
            call()

    _around_reboot = _around_power_on
    _around_resume = _around_power_on
    _around_rescue = _around_power_on
    _around_unrescue = _around_power_on

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
            with never_failing("record the port's device", instance=instance):
                nodename = self._node_of(instance)
                self._devcompat_adoption.look_again(instance.uuid, nodename)
                self._devcompat_guests.attached(context, instance, nodename, vif)

    def _around_detach_interface(
        self, call: hooks.Call, context: Any, instance: Any, vif: Any
    ) -> None:
        with self._operation(instance) as asked_for:
            call()
        if asked_for and instance.task_state != task_states.MIGRATING:
            with never_failing("drop the port's device from the record", instance=instance):
                self._devcompat_adoption.look_again(instance.uuid, self._node_of(instance))
                self._devcompat_guests.detached(context, instance, vif)

    @contextlib.contextmanager
    def _initialising(
        self, context: Any, instance: Any, allocations: Any = None, *, anew: bool = False
    ) -> Iterator[bool]:
        """An operation after which the need is recorded anew, since it initialises the devices.

        :param allocations: what placement has for the instance on this host; None to ask
        :param anew: whether the devices may be others than those that it had
        """
        with self._operation(instance) as asked_for:
            yield asked_for
        if asked_for:
            self._freeze(context, instance, allocations, anew=anew)

    def _freeze(
        self, context: Any, instance: Any, allocations: Any = None, *, anew: bool = False
    ) -> None:
        with never_failing("record what the instance needs", instance=instance):
            self._devcompat_usage.forget(instance.uuid)
            nodename = self._node_of(instance)
            # What cannot be told now may be in the next cycle.
            self._devcompat_adoption.look_again(instance.uuid, nodename)
            self._devcompat_guests.initialised(context, instance, nodename, allocations, anew=anew)

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
        with never_failing("record the instance's new device addresses", instance=instance):
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
            with never_failing("record what the instance needs here", instance=instance):
                self._devcompat_usage.forget(instance.uuid)
                nodename = self._nodename()
                self._devcompat_adoption.look_again(instance.uuid, nodename)
                self._devcompat_guests.arrived(context, instance, nodename)
            with never_failing("end the risks of the move", instance=instance):
                risk_writer.end_moves(
                    instance.uuid,
                    lambda: objects.Instance.get_by_uuid(
                        context, instance.uuid, expected_attrs=["system_metadata"]
                    ),
                    self._devcompat_host.name,
                )
