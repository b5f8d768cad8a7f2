# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The needs of this host's guests: recorded when a device is initialised, and kept right after."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from nova import exception, objects
from oslo_log import log as logging
from oslo_utils import timeutils

from nova_devcompat import wire
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat import merging
from nova_devcompat.compat.merging import Findings, Found
from nova_devcompat.compat.need import Need, pci_slot
from nova_devcompat.compat.pins import BadPin
from nova_devcompat.compat.record import Incarnation, Record
from nova_devcompat.compute import departures
from nova_devcompat.compute.allocated import Allocated
from nova_devcompat.compute.domain import Domains
from nova_devcompat.compute.host import ThisHost
from nova_devcompat.host.devices import HostDevice, HostDevices
from nova_devcompat.kit.once import Once
from nova_devcompat.stores import ports, records, writer
from nova_devcompat.stores.assigned import Assigned, asks_for_devices, freeze, has_devices
from nova_devcompat.stores.placement import PlacementError
from nova_devcompat.stores.writer import Change

LOG = logging.getLogger(__name__)

#: What is read of an instance to see what it has and to record what it needs.
ATTRIBUTES = (
    *records.RECORD_ATTRIBUTES,
    "flavor",
    "info_cache",
    "migration_context",
    "pci_devices",
)

_NOTHING = Need()


class Guests:
    """Finds out what guests have, and has the one writer record what follows.

    All that is outside is asked first: devices, placement, the hypervisor. Then what was found is
    merged with what is recorded, under the guest's lock.

    A guest with assigned devices always has a record, one without needs where none of its devices
    belongs to a family, so that no record means that nothing is known. A guest without assigned
    devices has one only where it needs something of its host.

    :param host: this host
    :param domains: tells what guests use of it, and their starts
    :ivar allocated: what placement has for them
    """

    def __init__(self, host: ThisHost, domains: Domains) -> None:
        self._host = host
        self._domains = domains
        self._logged = Once()
        self.allocated = Allocated(host)

    # --- what is known ---------------------------------------------------------------------------

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

    def findings(
        self,
        context: Any,
        instance: Any,
        nodename: str,
        devices: HostDevices,
        recorded: Need | None,
        allocations: Any = None,
        *,
        anew: bool = False,
    ) -> Findings:
        """What a guest that runs here has and uses.

        :param devices: of the node
        :param recorded: what is recorded of it, None where that cannot be read
        :param allocations: what placement has for the instance on this host; None to ask, where
            the guest can have anything there that is a device
        :param anew: whether what is recorded may be of other devices than it has now
        """
        complete = True
        if allocations is None:
            try:
                allocations = self.allocated.of(context, instance, recorded)
            except PlacementError as error:
                LOG.warning(
                    "Which devices are allocated is not known: %s", error, instance=instance
                )
            complete = allocations is not None
            allocations = allocations or {}
        expected = [one.slot for one in (recorded or _NOTHING).assigned if one.resource_class]
        assigned = self._host.assigned(context, instance, nodename, devices, allocations, expected)
        if not complete and not anew:
            # Those that were recorded are still there: a restart takes no device away.
            assigned += [
                Assigned(one.slot, one.address, devices.find(one.address))
                for one in (recorded or _NOTHING).assigned
                if one.resource_class is not None and devices.find(one.address) is not None
            ]
        return Findings(
            devices=tuple(self._found(instance, assigned, devices.catalog)),
            host=self._domains.needs(instance, devices),
            rules={
                name: one.family.rules.keys() for name, one in devices.catalog.families.items()
            },
            complete=complete,
            requested=frozenset(map(pci_slot, ports.flavor_requests(instance.pci_requests))),
            untold=self._untold(instance, assigned),
        )

    def _untold(self, instance: Any, assigned: Iterable[Assigned[HostDevice]]) -> frozenset[str]:
        """The devices of which it is not known which they are; they are logged once.

        No source lists a device by the name that Nova has for it, or a function of it is any of
        several kinds.
        """
        names = frozenset(one.address for one in assigned if not one.told)
        if not names:
            self._logged.is_over(instance.uuid)
        elif self._logged.is_new(instance.uuid, names):
            LOG.warning(
                "No need is recorded: the guest has a device of %s, and no source of the catalog "
                "lists one of that name; 'nova-devcompat device list --all' shows which names "
                "there are",
                ", ".join(sorted(names)),
                instance=instance,
            )
        return names

    def _found(
        self, instance: Any, assigned: list[Assigned[HostDevice]], catalog: Catalog
    ) -> list[Found]:
        found = []
        pins = self._pins(instance, catalog)
        for one in assigned:
            frozen = freeze([one], pins).devices
            found.append(
                Found(
                    slot=one.slot,
                    address=one.address,
                    in_migration=one.in_migration,
                    now=frozen[0] if frozen else None,
                )
            )
        return found

    @staticmethod
    def _pins(instance: Any, catalog: Catalog) -> Need:
        try:
            return catalog.pins(instance.flavor.extra_specs)
        except BadPin as error:
            LOG.warning("The need is recorded without pins: %s", error, instance=instance)
            return _NOTHING

    def _check_pins(self, instance: Any, need: Need, catalog: Catalog) -> None:
        """Say where a device was initialised that cannot act as the flavor wants."""
        for pin in self._pins(instance, catalog).devices:
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

    def incarnation(
        self, context: Any, instance: Any, nodename: str, start: str | None = None
    ) -> Incarnation:
        """The start of a guest as it runs here now.

        :param start: its token, where the caller knows it
        """
        return Incarnation(
            node=records.node_name(nodename),
            start=self._domains.start_of(instance) if start is None else start,
            time=timeutils.utcnow().isoformat(timespec="seconds") + "Z",
            request=context.request_id or "",
        )

    # --- a start of the guest --------------------------------------------------------------------

    def initialised(
        self,
        context: Any,
        instance: Any,
        nodename: str,
        allocations: Any = None,
        *,
        anew: bool = False,
    ) -> None:
        """Record the need anew: all devices of the guest were initialised a moment ago.

        :param instance: as the compute manager has it, which may differ from the database
        :param allocations: what placement has for the instance on this host; None to ask
        :param anew: whether the devices may be others than those that it had
        """
        devices = self._host.devices(nodename)
        if not (devices.everything or records.exists(instance) or has_devices(instance)):
            return
        recorded: Need | None = None
        with contextlib.suppress(wire.WireError):
            recorded = records.load(instance) or _NOTHING
        found = self.findings(
            context, instance, nodename, devices, recorded, allocations, anew=anew
        )
        always = self.needs_record(instance, devices)
        incarnation = self.incarnation(context, instance, nodename)

        def merge(record: Record | None) -> Change | None:
            if found.untold:
                return Change(need=_NOTHING)  # no record, so that nothing is known
            before = record.need if record is not None else _NOTHING
            need = merging.initialised(before, found)
            if recorded is None and not need.devices and not always:
                return None  # it could not be read, and nothing better is known
            # What was known to belong to no family still does, if it cannot be read now.
            kept = record is not None and not anew and not devices.fully_read
            return Change(need=need, assigned=always or kept, incarnation=incarnation)

        self._check_pins(instance, merging.initialised(_NOTHING, found), devices.catalog)
        self._write(context, instance, merge, replaces_unreadable=True)

    # --- ports that come and go while the guest runs ---------------------------------------------

    def attached(self, context: Any, instance: Any, nodename: str, vif: Mapping[str, Any]) -> None:
        """Add the need of a port's device, initialised a moment ago."""
        address = ports.address_of(vif)
        if address is None:
            return
        devices = self._host.devices(nodename)
        here = self._host.assigned(context, instance, nodename, devices, {})
        done = ports.of_vnic_type(vif.get("vnic_type"))
        assigned = [
            dataclasses.replace(one, in_migration=done) for one in here if one.address == address
        ]
        added = freeze(assigned, self._pins(instance, devices.catalog)).devices
        # Of a guest that has others and no record, nothing is known, whatever this one is.
        others = len(here) > len(assigned) or asks_for_devices(
            instance.flavor.extra_specs or {}, None
        )
        first = bool(assigned) and not others and self.needs_record(instance, devices)
        if not (added or first):
            return
        slots = {one.slot for one in added}
        incarnation = self.incarnation(context, instance, nodename)

        def merge(record: Record | None) -> Change:
            kept = _without(record.need if record is not None else _NOTHING, address, slots)
            return Change(
                need=Need(devices=(*kept.devices, *added)),
                assigned=True,
                incarnation=None if record is not None else incarnation,
            )

        self._write(context, instance, merge)

    def detached(self, context: Any, instance: Any, vif: Mapping[str, Any]) -> None:
        """Drop the need of a port's device, which the guest has no more."""
        address = ports.address_of(vif)
        if address is None:
            return
        # A port's request has one device. Its address may be unknown since a migration.
        slots = {
            pci_slot(pci.request_id) for pci in instance.pci_devices if pci.address == address
        }
        others = any(pci.address != address for pci in instance.pci_devices) or asks_for_devices(
            instance.flavor.extra_specs or {}, None
        )

        def merge(record: Record | None) -> Change | None:
            if record is None:
                return None
            # Of what else it has, nothing is known if nothing was recorded.
            return Change(need=_without(record.need, address, slots), assigned=others)

        self._write(context, instance, merge)

    # --- live migration --------------------------------------------------------------------------

    def leaving(self, context: Any, instance: Any, moves: Mapping[str, str]) -> None:
        """Record where the guest's devices are now, which is at the destination of its migration.

        :param moves: the destination's PCI addresses by the source's
        """
        if not moves:
            return

        def merge(record: Record | None) -> Change | None:
            if record is None:
                return None
            need = Need(
                devices=tuple(
                    one.moved(moves.get(one.address, one.address)) for one in record.need.devices
                )
            )
            return Change(need=need, assigned=True)

        self._write(context, instance, merge)

    def arrived(self, context: Any, instance: Any, nodename: str) -> None:
        """Record what stayed at its new addresses, and the rest anew.

        A record that was stale when the guest left is assumed anew: in report mode it comes
        all the same.
        """
        try:
            recorded = records.load_whole(instance)
        except wire.WireError:
            return  # left as it is; admission has told
        if recorded is None:
            return
        devices = self._host.devices(nodename)
        # Nova has allocated the PCI devices by now.
        found = self.findings(context, instance, nodename, devices, recorded.need, anew=True)
        here = self.incarnation(context, instance, nodename)
        current = departures.is_current(context, instance, recorded.incarnation)

        def merge(record: Record | None) -> Change | None:
            if record is None:
                return None
            if current:
                need = merging.arrived(record.need, found)
            elif found.untold:
                return Change(need=_NOTHING)  # no record, so that nothing is known
            else:
                need = merging.assumed(record.need, found)
            return Change(need=need, assigned=True, incarnation=here)

        self._write(context, instance, merge)

    def _write(
        self,
        context: Any,
        instance: Any,
        merge: writer.Merge,
        *,
        replaces_unreadable: bool = False,
    ) -> None:
        def read() -> Any:
            return objects.Instance.get_by_uuid(
                context, instance.uuid, expected_attrs=list(records.RECORD_ATTRIBUTES)
            )

        try:
            writer.write(
                instance.uuid,
                read,
                merge,
                copy=instance,
                replaces_unreadable=replaces_unreadable,
            )
        except wire.WireError as error:
            LOG.warning("Left as it is: %s", error, instance=instance)
        except exception.InstanceNotFound:
            LOG.debug("It was deleted meanwhile", instance=instance)


def _without(need: Need, address: str, slots: Collection[str]) -> Need:
    return Need(
        devices=tuple(
            one for one in need.devices if one.address != address and one.slot not in slots
        )
    )
