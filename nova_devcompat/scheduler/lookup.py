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

"""What a scheduling request needs: at most one instance look-up, none where none can matter."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from nova import context as nova_context
from nova import exception, objects
from nova.compute import task_states
from nova.scheduler import utils
from oslo_log import log as logging

from nova_devcompat import wire
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.verdict import Actor, Code, Reason

if TYPE_CHECKING:
    from nova.objects import RequestSpec

LOG = logging.getLogger(__name__)

# A flavor that has devices assigned by allocation names their class: VGPU, or a custom one
# ([mdev_<type>] mdev_class, cyborg). Suffixes as nova/scheduler/utils.py knows them.
_DEVICE_RESOURCE = re.compile(r"resources[a-zA-Z0-9_-]{0,64}:(?:V?P?GPU|CUSTOM_[A-Z0-9_]+)")
_DEVICE_PROFILE = "accel:device_profile"

_MEMO = "_devcompat_lookup"


@dataclasses.dataclass(frozen=True, slots=True)
class Lookup:
    """What was found out about a request.

    :param instance_uuid: the instance it is about
    :param moving: whether a running guest is to be live migrated; all other requests initialise
        the devices anew and need nothing
    :param need: what the guest needs; None where there is no record
    :param unknown: why the need is not known, though there may be one
    :param failed: whether that is because the database did not answer
    """

    instance_uuid: str
    moving: bool = False
    need: Need | None = None
    unknown: Reason | None = None
    failed: bool = False


def concerns_us(spec: RequestSpec) -> bool:
    """Whether a request can concern us at all, told from the request alone: no I/O.

    Only a guest with assigned devices can, and never a rebuild on its own host.
    """
    requests = spec.pci_requests
    if not (requests and requests.requests):
        specs = spec.flavor.extra_specs if "extra_specs" in spec.flavor else None
        if not specs or not (
            _DEVICE_PROFILE in specs or any(_DEVICE_RESOURCE.fullmatch(key) for key in specs)
        ):
            return False
    return bool(spec.instance_uuid) and not utils.request_is_rebuild(spec)


def of(context: Any, spec: RequestSpec) -> Lookup:
    """What a request needs, looked up once for the whole request. Never raises."""
    known: Lookup | None = getattr(spec, _MEMO, None)
    # A boot of many instances carries another UUID at each turn, and none of them is moving.
    if known is not None and (not known.moving or known.instance_uuid == spec.instance_uuid):
        return known
    found = _look_up(context, spec.instance_uuid)
    # Not a field of the object, so it is neither sent on nor stored.
    setattr(spec, _MEMO, found)
    return found


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
