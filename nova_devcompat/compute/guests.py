# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The needs of this host's guests: recorded when a device is initialised, and kept right after."""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from nova import objects
from oslo_concurrency import lockutils
from oslo_log import log as logging

from nova_devcompat import wire
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.need import InMigration, Need, pci_slot
from nova_devcompat.compat.pins import BadPin
from nova_devcompat.compute import admit
from nova_devcompat.compute.domain import Domains
from nova_devcompat.compute.host import ThisHost
from nova_devcompat.host.inventory import HostDevice, HostDevices
from nova_devcompat.stores import records
from nova_devcompat.stores.assigned import Assigned, asks_for_devices, freeze, has_devices
from nova_devcompat.stores.placement import PlacementError

LOG = logging.getLogger(__name__)

# Migrations in flight towards one host whose new addresses are remembered between admission and
# the end. Nova allows a handful at a time; the limit only bounds what failed ones leave behind.
_RELOCATIONS_KEPT = 1000


class Guests:
    """Writes records.

    Where the compute manager saves the instance after the hook, the record is left to that, so
    that it is written with the state that it belongs to. Else it is saved here, on an instance
    read a moment before: two ports can be attached to one instance at once.

    A guest with assigned devices always has a record, one without needs where none of its devices
    belongs to a family, so that no record means that nothing is known. A guest without assigned
    devices has one only where it needs something of its host.

    :param host: this host
    :param domains: tells what guests use of it
    """

    def __init__(self, host: ThisHost, domains: Domains) -> None:
        self._host = host
        self._domains = domains
        self._lock = threading.Lock()
        self._relocations: collections.OrderedDict[str, Need] = collections.OrderedDict()

    def initialised(
        self, context: Any, instance: Any, nodename: str, allocations: Any = None
    ) -> bool:
        """Record the need anew: all devices of the guest were initialised a moment ago.

        :param allocations: what placement has for the instance on this host; None to ask
        :returns: whether the record changed; the caller saves the instance
        """
        devices = self._host.devices(nodename)
        if not (devices.everything or records.exists(instance) or has_devices(instance)):
            return False
        try:
            need = self._initialised(context, instance, nodename, devices, allocations)
        except _Untold:
            return records.store(instance, Need())
        return need is not None and records.store(
            instance, need, assigned=self.needs_record(instance, devices)
        )

    @staticmethod
    def needs_record(instance: Any, devices: HostDevices) -> bool:
        """Whether a guest has a record even if no need of it was found.

        It has if it has assigned devices, and each is known to belong to no family.

        :param devices: as read when its need was. While a part of them cannot be read, none found
            does not mean that there is none
        """
        if devices.fully_read:
            return has_devices(instance)
        # What placement allocates is known by the providers of its devices alone.
        return bool(instance.pci_devices) and not (
            asks_for_devices(instance.flavor.extra_specs or {}, None)
            or any(
                not devices.is_of_none(pci.address, pci.parent_addr)
                for pci in instance.pci_devices
            )
        )

    @staticmethod
    def untold(instance: Any, assigned: Iterable[Assigned[HostDevice]]) -> bool:
        """Whether it is not known which device one of a guest's is; then it is logged.

        No source lists a device by the name that Nova has for it, so it may be of any family.
        """
        names = sorted({one.address for one in assigned if not one.told})
        if names:
            LOG.warning(
                "No need is recorded: the guest has a device of %s, and no source of the catalog "
                "lists one of that name; 'nova-devcompat device list --all' shows which names "
                "there are",
                ", ".join(names),
                instance=instance,
            )
        return bool(names)

    def initialised_unsaved(self, context: Any, instance: Any, nodename: str) -> None:
        """The same where nobody saves the instance afterwards."""
        devices = self._host.devices(nodename)
        if not (devices.everything or has_devices(instance)):
            return
        try:
            need = self._initialised(context, instance, nodename, devices)
        except _Untold:
            self._write(context, instance, lambda fresh: None)
            return
        if need is None:
            return
        assigned = self.needs_record(instance, devices)

        def change(fresh: Any) -> Need | None:
            return need if need.devices or assigned or records.exists(fresh) else None

        self._write(context, instance, change)

    def _initialised(
        self,
        context: Any,
        instance: Any,
        nodename: str,
        devices: HostDevices,
        allocations: Any = None,
    ) -> Need | None:
        """The need of a guest that was started a moment ago; None to leave the record alone.

        :raises _Untold: which device it has is not known, so nothing is known of its need
        """
        recorded: Need | None = None
        with contextlib.suppress(wire.WireError):
            recorded = records.load(instance) or Need()
        assigned: list[Assigned[HostDevice]] = []
        # Of a guest that has no devices, placement need not be asked.
        if len(devices) or recorded is None or recorded.assigned or has_devices(instance):
            assigned = self._assigned(context, instance, nodename, devices, allocations)
        if self.untold(instance, assigned):
            raise _Untold
        need = self.need_of(instance, assigned, devices)
        if need.assigned or allocations is not None:
            return need
        # A restart takes no device away: one that is not found is one that cannot be read.
        if recorded is None or not (need.devices or recorded.host):
            first = recorded == Need() and self.needs_record(instance, devices)
            return need if first else None
        return Need(devices=(*recorded.assigned, *need.devices))

    def need_of(
        self, instance: Any, assigned: list[Assigned[HostDevice]], devices: HostDevices
    ) -> Need:
        """What a guest needs that runs here now, of its devices and of the host.

        :param assigned: its devices
        :param devices: all of the node
        """
        frozen = self.freeze(instance, assigned, devices.catalog)
        return Need(devices=(*frozen.devices, *self._domains.needs(instance, devices)))

    def _assigned(
        self,
        context: Any,
        instance: Any,
        nodename: str,
        devices: HostDevices,
        allocations: Any = None,
    ) -> list[Assigned[HostDevice]]:
        """The guest's devices; while placement does not answer, those that were recorded."""
        try:
            return self._host.assigned(context, instance, nodename, devices, allocations)
        except PlacementError as error:
            LOG.warning(
                "Allocated devices are taken from the record: %s", error, instance=instance
            )
        recorded = records.load(instance) or Need()
        return [
            *self._host.assigned(context, instance, nodename, devices, {}),
            *(
                Assigned(one.slot, one.address, devices.find(one.address))
                for one in recorded.assigned
                if one.resource_class is not None
            ),
        ]

    def freeze(
        self, instance: Any, assigned: list[Assigned[HostDevice]], catalog: Catalog
    ) -> Need:
        """The need of a guest whose devices are initialised now, under its flavor's pins."""
        try:
            pins = catalog.pins(instance.flavor.extra_specs)
        except BadPin as error:
            LOG.warning("The need is recorded without pins: %s", error, instance=instance)
            pins = Need()
        need = freeze(assigned, pins)
        for pin in pins.devices:
            for one in need.devices:
                values = dict(one.values)
                if one.family == pin.family and any(
                    values.get(attribute) != pinned for attribute, pinned in pin.values
                ):
                    LOG.warning(
                        "The flavor pins %s, which the device cannot act as; recorded is %s",
                        pin,
                        one,
                        instance=instance,
                    )
        return need

    # --- ports that come and go while the guest runs ---------------------------------------------

    def attached(self, context: Any, instance: Any, nodename: str, vif: Mapping[str, Any]) -> None:
        """Add the need of a port's device, initialised a moment ago."""
        address = _address_of(vif)
        if address is None:
            return
        devices = self._host.devices(nodename)
        here = self._host.assigned(context, instance, nodename, devices, {})
        assigned = [one for one in here if one.address == address]
        added = self.freeze(instance, assigned, devices.catalog).devices
        # Of a guest that has others and no record, nothing is known, whatever this one is.
        others = len(here) > len(assigned) or asks_for_devices(
            instance.flavor.extra_specs or {}, None
        )
        first = bool(assigned) and not others and self.needs_record(instance, devices)
        if added or first:
            slots = {one.slot for one in added}

            def change(fresh: Any) -> Need | None:
                kept = _without(records.load(fresh) or Need(), address, slots)
                return Need(devices=(*kept.devices, *added))

            self._write(context, instance, change)

    def detached(self, context: Any, instance: Any, vif: Mapping[str, Any]) -> None:
        """Drop the need of a port's device, which the guest has no more."""
        address = _address_of(vif)
        if address is None:
            return
        # A port's request has one device. Its address may be unknown since a migration.
        slots = {
            pci_slot(pci.request_id) for pci in instance.pci_devices if pci.address == address
        }

        others = any(pci.address != address for pci in instance.pci_devices) or asks_for_devices(
            instance.flavor.extra_specs or {}, None
        )

        def change(fresh: Any) -> Need | None:
            left = _without(records.load(fresh) or Need(), address, slots)
            # Of what else it has, nothing is known if nothing was recorded.
            return left if left.devices or (others and records.exists(fresh)) else None

        self._write(context, instance, change)

    def _write(self, context: Any, instance: Any, need_of: Callable[[Any], Need | None]) -> None:
        """Save a record on an instance read now, not on the caller's copy.

        :param need_of: the need that follows from what is recorded there; None for no record
        """
        with lockutils.lock(f"devcompat-record-{instance.uuid}"):
            fresh = objects.Instance.get_by_uuid(
                context, instance.uuid, expected_attrs=["system_metadata"]
            )
            try:
                need = need_of(fresh)
                changed = records.store(fresh, need or Need(), assigned=need is not None)
            except wire.WireError as error:
                LOG.warning("Left as it is: %s", error, instance=instance)
                return
            if changed:
                fresh.save()
        # So that the manager, which saves its copy later, neither undoes nor repeats this.
        instance.system_metadata = dict(fresh.system_metadata)
        instance.obj_reset_changes(["system_metadata"])

    # --- live migration --------------------------------------------------------------------------

    def coming(self, instance: Any, need: Need) -> None:
        """Remember the need at its new addresses of a guest that is about to arrive."""
        with self._lock:
            self._relocations[instance.uuid] = need
            self._relocations.move_to_end(instance.uuid)
            while len(self._relocations) > _RELOCATIONS_KEPT:
                self._relocations.popitem(last=False)

    def not_coming(self, instance: Any) -> None:
        """Forget a guest whose migration failed."""
        with self._lock:
            self._relocations.pop(instance.uuid, None)

    def arrived(self, context: Any, instance: Any, nodename: str) -> None:
        """Record what stayed at its new addresses, and the rest anew; the manager saves it."""
        with self._lock:
            coming = self._relocations.pop(instance.uuid, None)
        try:
            recorded = records.load(instance)
        except wire.WireError:
            return  # left as it is; admission has told
        if recorded is None:
            return
        devices = self._host.devices(nodename)
        # Nova has allocated the PCI devices by now.
        here = self._host.assigned(context, instance, nodename, devices)
        # A restart may have lost what admission knew.
        kept = coming or admit.relocate(recorded, {}, here)
        anew = self.freeze(
            instance,
            [one for one in here if one.in_migration is not InMigration.STAYS],
            devices.catalog,
        )
        need = Need(devices=(*kept.required.devices, *anew.devices))
        records.store(instance, need, assigned=records.exists(instance))


class _Untold(Exception):
    """Which device a guest has is not known."""


def _address_of(vif: Mapping[str, Any]) -> str | None:
    """The PCI address of a port's device, None for a port without one of its own."""
    return (vif.get("profile") or {}).get("pci_slot")


def _without(need: Need, address: str, slots: Collection[str]) -> Need:
    return Need(
        devices=tuple(
            one for one in need.devices if one.address != address and one.slot not in slots
        )
    )
