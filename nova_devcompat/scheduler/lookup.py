# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a scheduling request needs: at most one instance look-up, none where none can matter."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nova import context as nova_context
from nova import exception, objects
from nova.compute import task_states
from nova.scheduler import utils
from oslo_log import log as logging

from nova_devcompat import wire
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.pins import BadPin, has_pins
from nova_devcompat.compat.verdict import Actor, Code, Reason

if TYPE_CHECKING:
    from nova.objects import RequestSpec

LOG = logging.getLogger(__name__)

# A flavor that has devices assigned by allocation names their class: VGPU, or a custom one
# ([mdev_<type>] mdev_class, cyborg). Suffixes as nova/scheduler/utils.py knows them.
_DEVICE_RESOURCE = re.compile(r"resources[a-zA-Z0-9_-]{0,64}:(?:V?P?GPU|CUSTOM_[A-Z0-9_]+)")
_DEVICE_PROFILE = "accel:device_profile"

_MEMO = "_devcompat_lookup"

#: What a flavor's extra specs pin; raises BadPin.
PinsOf = Callable[[Mapping[str, str]], Need]


@dataclasses.dataclass(frozen=True, slots=True)
class Lookup:
    """What was found out about a request.

    :param instance_uuid: the instance it is about
    :param moving: whether a running guest is to be live migrated; all other requests initialise
        the devices anew and need what the flavor pins
    :param need: what the guest needs; None where there is no record
    :param unknown: why the need is not known, though there may be one
    :param failed: whether that is because the database did not answer
    :param pins: what the flavor pins
    :param bad_pin: why that is not known
    :param pci: whether devices are asked for that placement need not know
    :param plain: whether neither the request nor a record tells of devices or pins
    :param asks: whether devices are asked for, so that candidates may take some
    """

    instance_uuid: str
    moving: bool = False
    need: Need | None = None
    unknown: Reason | None = None
    failed: bool = False
    pins: Need = dataclasses.field(default_factory=Need)
    bad_pin: Reason | None = None
    pci: bool = False
    plain: bool = False
    asks: bool = True

    @property
    def keeps_devices(self) -> bool:
        """Whether the guest's record, or that it has none, decides."""
        return self.moving and self.unknown is None


def concerns_us(spec: RequestSpec) -> bool:
    """Whether a request can concern us at all, told from the request alone: no I/O.

    Only a guest with assigned devices or a flavor with pins can; a rebuild on its own host only
    the latter. A port that was attached later stands in no request, so a guest that leaves its
    host for another is looked up in any case.
    """
    if not _has_pins(spec):
        leaves = "ignore_hosts" in spec and spec.ignore_hosts
        if utils.request_is_rebuild(spec) or not (leaves or _asks_for_devices(spec)):
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
    if utils.request_is_rebuild(spec):
        found = Lookup(spec.instance_uuid)
    else:
        found = _look_up(context, spec.instance_uuid)
        told = found.need is not None or found.unknown is not None
        moves = found.moving and hosts()
        if not (told or moves or _has_pins(spec) or _asks_for_devices(spec)):
            found = Lookup(spec.instance_uuid, plain=True)
    found = _with_pins(found, spec, pins_of)
    # Not a field of the object, so it is neither sent on nor stored.
    setattr(spec, _MEMO, found)
    return found


def _extra_specs(spec: RequestSpec) -> Mapping[str, str]:
    specs: Mapping[str, str] | None = (
        spec.flavor.extra_specs if "extra_specs" in spec.flavor else None
    )
    return specs or {}


def _has_pins(spec: RequestSpec) -> bool:
    return has_pins(_extra_specs(spec))


def _asks_for_devices(spec: RequestSpec) -> bool:
    specs = _extra_specs(spec)
    return _has_pci_requests(spec) or (
        _DEVICE_PROFILE in specs or any(map(_DEVICE_RESOURCE.fullmatch, specs))
    )


def _has_pci_requests(spec: RequestSpec) -> bool:
    return bool(spec.pci_requests and spec.pci_requests.requests)


def _with_pins(found: Lookup, spec: RequestSpec, pins_of: PinsOf) -> Lookup:
    found = dataclasses.replace(found, pci=_has_pci_requests(spec), asks=_asks_for_devices(spec))
    try:
        return dataclasses.replace(found, pins=pins_of(_extra_specs(spec)))
    except BadPin as error:
        detail = str(error)
    except Exception as error:
        # A rule of a third party, at most: nothing in Nova catches it here.
        LOG.exception("Reading the pins of the flavor of instance %s failed", spec.instance_uuid)
        detail = f"nova-scheduler's log has the error: {type(error).__name__}"
    reason = Reason(code=Code.PIN_UNREADABLE, actor=Actor.OPERATOR, detail=detail)
    return dataclasses.replace(found, bad_pin=reason)


def _look_up(context: Any, uuid: str) -> Lookup:
    try:
        instance = _instance(context, uuid)
        if instance is None or instance.task_state != task_states.MIGRATING:
            return Lookup(uuid)
        return Lookup(uuid, moving=True, need=wire.load_record(instance.system_metadata))
    except wire.WireError as error:
        reason = Reason(code=Code.RECORD_UNREADABLE, actor=Actor.OPERATOR, detail=str(error))
        return Lookup(uuid, moving=True, unknown=reason)
    except Exception as error:
        # Whatever the database layer raises: nothing in Nova catches it here.
        LOG.exception("Looking up instance %s failed", uuid)
        reason = Reason(
            code=Code.NEED_UNKNOWN,
            actor=Actor.OPERATOR,
            detail=f"looking up the instance failed: {type(error).__name__}",
        )
        return Lookup(uuid, moving=True, unknown=reason, failed=True)


def _instance(context: Any, uuid: str) -> Any:
    """The instance; None for one that no cell has yet, as at its first boot, or any more."""
    # Not get_admin_context(), under which later log lines would carry another request's ID.
    elevated = context.elevated()
    try:
        mapping = objects.InstanceMapping.get_by_instance_uuid(elevated, uuid)
        if mapping.cell_mapping is None:
            return None
        with nova_context.target_cell(elevated, mapping.cell_mapping) as cell:
            return objects.Instance.get_by_uuid(cell, uuid, expected_attrs=["system_metadata"])
    except (exception.InstanceMappingNotFound, exception.InstanceNotFound):
        return None
