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

from nova_devcompat import wire
from nova_devcompat.kit import plugins
from nova_devcompat.scheduler import explain, lookup, state, told
from nova_devcompat.scheduler.mobility import Group, Mobility
from nova_devcompat.wire import stats_2

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
        groups = self._grouped(hosts, mobility)
        mobility.weigh()
        if LOG.isEnabledFor(logging.DEBUG):
            _explain(hosts, groups, looked_up.instance_uuid)
        return [group.weight for group in groups]

    def _grouped(self, hosts: list[Any], mobility: Mobility) -> list[Group]:
        groups: list[Group] = []
        # Done for each of up to 10,000 hosts (tests/bench/weigher.py). Where all devices of a host
        # accept the same, the head of its document says it all, if the text is of that length; so
        # do all of its tokens in format 2, where those that the guest would be given do.
        by_head: dict[str, tuple[Group, int]] = {}
        once: set[str] = set()
        head, add, says_length = wire.HEAD, groups.append, stats_2.LENGTH
        for host, text in state.with_texts(hosts):
            try:
                group, size = by_head[text[head]]
                known = len(text) == (size or int(text[says_length]))
            except (KeyError, TypeError, ValueError):
                known = False
            if not known:
                group, head = self._group(host, text, mobility, by_head, once, head)
            group.hosts += 1
            add(group)
        return groups

    def _group(
        self,
        host: Any,
        text: Any,
        mobility: Mobility,
        by_head: dict[str, tuple[Group, int]],
        once: set[str],
        head: slice,
    ) -> tuple[Group, slice]:
        """The group of a host, and where other texts may say that they are of it.

        :param by_head: groups, each with the size of texts, as ways have it
        :param once: tokens that a host has: where another has them too, it is worth to find out
            whether they say it all
        """
        all_tokens = told.tokens_in(text)
        if all_tokens is not None and text[all_tokens] in by_head:
            return by_head[text[all_tokens]][0], all_tokens
        document = self._state.document_of(host)
        group = mobility.group(document, host.allocation_candidates)
        if not isinstance(document, wire.HostDocument):
            return group, head
        if document.shape in mobility.by_shape and wire.says_its_length(text):
            by_head[text[wire.HEAD]] = group, len(text)
            return group, wire.HEAD
        if all_tokens is None:
            return group, head
        tokens = text[all_tokens]
        if tokens not in once:
            once.add(tokens)
        elif told.tells_all(document, text, host.allocation_candidates):
            by_head[tokens] = group, 0
            return group, all_tokens
        return group, head


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
