# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The scheduler weigher: prefers hosts that keep a guest mobile, then the closest fit."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Sequence
from typing import Any

from nova.scheduler import utils, weights
from oslo_log import log as logging

from nova_devcompat.kit import plugins
from nova_devcompat.scheduler import explain, lookup, state
from nova_devcompat.scheduler.grouping import Grouping
from nova_devcompat.scheduler.mobility import Group, Mobility

CONF = state.CONF
LOG = logging.getLogger(__name__)


class DeviceCompatWeigher(weights.BaseHostWeigher):
    """Prefers hosts whose devices leave a guest the most other hosts to go to.

    Among equals it prefers the device that accepts least. A request that cannot concern it costs
    no look-up, and no request costs one that the filter has made.
    """

    def __init__(self) -> None:
        super().__init__()
        self._state = state.shared()

    def weight_multiplier(self, host_state: Any) -> float:
        """The option, or what a host's aggregate says instead."""
        multiplier: float = utils.get_weight_multiplier(
            host_state, "devcompat_weight_multiplier", CONF.devcompat.weight_multiplier
        )
        return multiplier

    def weigh_objects(
        self, weighed_obj_list: Sequence[Any], weight_properties: Any
    ) -> list[float]:
        """The raw weight of each host: how many others accept the guest, and how close it fits."""
        hosts = [weighed.obj for weighed in weighed_obj_list]
        try:
            if lookup.concerns_us(weight_properties) and any(map(self.weight_multiplier, hosts)):
                return self._weigh(hosts, weight_properties)
        except Exception:
            # Nothing in Nova catches it, and any order of fitting hosts will do.
            LOG.exception("Could not weigh hosts for instance %s", weight_properties.instance_uuid)
        return [0.0] * len(hosts)

    def _weigh_object(self, obj: Any, weight_properties: Any) -> float:
        """Nova asks :meth:`weigh_objects`; among no others a host leaves a guest nothing."""
        return 0.0

    def _weigh(self, hosts: list[Any], spec: Any) -> list[float]:
        looked_up = self._state.look_up(spec._context, spec)
        if looked_up.plain or (looked_up.moving and not looked_up.guest.need.assigned):
            # It needs nothing of a device; or nobody knows what, and the closest fit may be too
            # close.
            return [0.0] * len(hosts)
        requests = spec.pci_requests.requests if spec.pci_requests else ()
        mobility = Mobility(
            looked_up.guest,
            self._state.policies(),
            pci=[request.request_id for request in requests],
        )
        groups = Grouping(mobility, self._state.document_of).of(hosts)
        mobility.weigh()
        if LOG.isEnabledFor(logging.DEBUG):
            _explain(hosts, groups, looked_up.instance_uuid)
        return [group.weight for group in groups]


def _explain(hosts: list[Any], groups: list[Group], instance_uuid: str) -> None:
    """One line that names the best hosts and says why."""
    best = heapq.nlargest(
        explain.HOSTS_NAMED, range(len(hosts)), key=lambda index: groups[index].weight
    )
    others = len(hosts) - 1
    lines = [
        f"{explain.name_of(hosts[index])}: {_reason(groups[index], others)}" for index in best
    ]
    if len(hosts) > len(best):
        lines.append(f"and {len(hosts) - len(best)} more")
    LOG.debug("Hosts by how mobile they keep instance %s: %s", instance_uuid, " | ".join(lines))


def _reason(group: Group, others: int) -> str:
    if group.why:
        return f"weighs nothing, {group.why}"
    return (
        f"accepted by {group.accepted_by} of {others} other hosts, "
        f"accept-set of {group.atoms:.4g} ({group.weight:.4f})"
    )


def all_weighers() -> list[type[weights.BaseHostWeigher]]:
    """The weigher classes of all plugins, for ``[filter_scheduler] weight_classes``."""
    try:
        return plugins.Plugins(
            "nova_devcompat.scheduler_weighers", weights.BaseHostWeigher, None
        ).load_all()
    except plugins.PluginError as error:
        LOG.critical("nova-devcompat: %s", error)
        sys.exit(1)
