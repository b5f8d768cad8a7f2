# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a scheduling request needs: at most one instance look-up, none where none can matter."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nova import context as nova_context
from nova import exception, objects
from nova.compute import task_states
from nova.scheduler import utils
from oslo_log import log as logging

from nova_devcompat.compat.need import Need
from nova_devcompat.compat.pins import BadPin, has_pins
from nova_devcompat.compat.ruling import Doubt, Guest, doubt_of_pin, unreadable_pins
from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.stores.assigned import asks_for_devices, asks_for_pci, asks_for_staying
from nova_devcompat.stores.records import RECORD_ATTRIBUTES, moving_guest, needs_nothing

if TYPE_CHECKING:
    from nova.objects import RequestSpec

LOG = logging.getLogger(__name__)

_MEMO = "_devcompat_lookup"

#: What a flavor's extra specs pin, and the pins that cannot be read.
PinsOf = Callable[[Mapping[str, str]], tuple[Need, Sequence[BadPin]]]


@dataclasses.dataclass(frozen=True, slots=True)
class Lookup:
    """What was found out about a request.

    :param instance_uuid: the instance it is about
    :param guest: what is known of it
    :param pci: whether devices are asked for that placement need not know
    :param plain: whether neither the request nor a record tells of devices or pins, so that every
        host will do
    """

    instance_uuid: str
    guest: Guest
    pci: bool = False
    plain: bool = False

    @property
    def moving(self) -> bool:
        """Whether a running guest is to be live migrated; all other requests initialise the
        devices anew and need what the flavor pins.
        """
        return self.guest.keeps_devices

    @property
    def decides(self) -> bool:
        """Whether there is anything to decide by."""
        return not self.plain and bool(
            self.moving or self.guest.pins.devices or self.guest.bad_pins
        )


def concerns_us(spec: RequestSpec) -> bool:
    """Whether a request can concern us at all, told from the request alone: no I/O.

    Only a guest with assigned devices or a flavor with pins can; a rebuild on its own host only
    the latter. A port that was attached later stands in no request, so a guest that leaves its
    host for another is looked up in any case.
    """
    if not _has_pins(spec):
        leaves = "ignore_hosts" in spec and spec.ignore_hosts
        if utils.request_is_rebuild(spec) or not (
            leaves or asks_for_devices(_extra_specs(spec), spec.pci_requests)
        ):
            return False
    return bool(spec.instance_uuid)


def of(context: Any, spec: RequestSpec, pins_of: PinsOf, hosts: Callable[[], bool]) -> Lookup:
    """What a request needs, looked up once for the whole request. Never raises.

    :param pins_of: reads the pins of a flavor
    :param hosts: tells whether there are host families, of which a guest without devices may need
        something
    """
    known: Lookup | None = getattr(spec, _MEMO, None)
    if known is not None:
        if known.instance_uuid == spec.instance_uuid:
            return known
        if not known.moving:
            # A boot of many instances carries another UUID at each turn; none of them is moving.
            return dataclasses.replace(known, instance_uuid=spec.instance_uuid)
    guest = Guest(keeps_devices=False, assigned=_asks(spec))
    if not utils.request_is_rebuild(spec):
        guest = _look_up(context, spec) or guest
    found = _found(guest, spec, pins_of, hosts)
    # Not a field of the object, so it is neither sent on nor stored.
    setattr(spec, _MEMO, found)
    return found


def moving(instance: Any, spec: RequestSpec, pins_of: PinsOf, hosts: Callable[[], bool]) -> Lookup:
    """What a live migration of a running instance would need, whether or not one is under way.

    :param instance: with what :data:`nova_devcompat.stores.records.RECORD_ATTRIBUTES` names
    :param spec: the request that it would be
    :param pins_of: reads the pins of a flavor
    :param hosts: as of :func:`of`
    """
    return _found(_moving_guest(instance, spec), spec, pins_of, hosts)


def _found(guest: Guest, spec: RequestSpec, pins_of: PinsOf, hosts: Callable[[], bool]) -> Lookup:
    nothing = needs_nothing(guest)
    if not _has_pins(spec) and nothing and not (guest.keeps_devices and hosts()):
        return Lookup(spec.instance_uuid, guest, plain=True)
    guest = _with_pins(guest, spec, pins_of)
    return Lookup(spec.instance_uuid, guest, pci=asks_for_pci(spec.pci_requests))


def _asks(spec: RequestSpec) -> bool:
    return asks_for_devices(_extra_specs(spec), spec.pci_requests)


def _extra_specs(spec: RequestSpec) -> Mapping[str, str]:
    specs: Mapping[str, str] | None = (
        spec.flavor.extra_specs if "extra_specs" in spec.flavor else None
    )
    return specs or {}


def _has_pins(spec: RequestSpec) -> bool:
    return has_pins(_extra_specs(spec))


def _with_pins(guest: Guest, spec: RequestSpec, pins_of: PinsOf) -> Guest:
    try:
        pins, bad = pins_of(_extra_specs(spec))
    except Exception as error:
        # A rule of a third party, at most: nothing in Nova catches it here.
        LOG.exception("Reading the pins of the flavor of instance %s failed", spec.instance_uuid)
        detail = f"nova-scheduler's log has the error: {type(error).__name__}"
        return dataclasses.replace(guest, bad_pins=(unreadable_pins(detail),))
    return dataclasses.replace(guest, pins=pins, bad_pins=tuple(map(doubt_of_pin, bad)))


def _look_up(context: Any, spec: RequestSpec) -> Guest | None:
    """The running guest that is to be live migrated; None where none is."""
    try:
        instance = _instance(context, spec.instance_uuid)
        if instance is None or instance.task_state != task_states.MIGRATING:
            return None
        return _moving_guest(instance, spec)
    except Exception as error:
        # Whatever the database layer raises: nothing in Nova catches it here.
        LOG.exception("Looking up instance %s failed", spec.instance_uuid)
        reason = Reason(
            code=Code.NEED_UNKNOWN,
            actor=Actor.OPERATOR,
            detail=f"looking up the instance failed: {type(error).__name__}",
        )
        return Guest(record=Doubt(reason=reason, always_counts=True))


def _moving_guest(instance: Any, spec: RequestSpec) -> Guest:
    # A port that was attached later stands in no request, nor does its device stay. What the
    # request asks for can be that of a flavor that the guest was resized to and has no more: a
    # revert leaves it there (nova/compute/api.py, revert_resize).
    asks = asks_for_staying(_extra_specs(spec), instance.pci_requests)
    return moving_guest(instance, assigned=asks)


def _instance(context: Any, uuid: str) -> Any:
    """The instance; None for one that no cell has yet, as at its first boot, or any more."""
    # Not get_admin_context(), under which later log lines would carry another request's ID.
    elevated = context.elevated()
    try:
        mapping = objects.InstanceMapping.get_by_instance_uuid(elevated, uuid)
        if mapping.cell_mapping is None:
            return None
        with nova_context.target_cell(elevated, mapping.cell_mapping) as cell:
            return objects.Instance.get_by_uuid(cell, uuid, expected_attrs=RECORD_ATTRIBUTES)
    except (exception.InstanceMappingNotFound, exception.InstanceNotFound):
        return None
