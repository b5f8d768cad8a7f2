# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What stands against a host of Nova itself, beside what we say of its devices.

Told by Nova's own code: its filters, asked one by one with a HostState that is made as its
scheduler makes it, and its conductor's checks of services and hypervisors.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nova import servicegroup
from nova.compute import vm_states
from nova.scheduler import filters, host_manager

from nova_devcompat.compat.verdict import Reason
from nova_devcompat.kit.text import printable
from nova_devcompat.scheduler import minima
from nova_devcompat.scheduler.state import CONF
from nova_devcompat.stores.assigned import asks_for_staying
from nova_devcompat.stores.ports import lost_claims
from nova_devcompat.wire import HostDocument

#: Our own filter, which is asked by itself.
FILTER = "DeviceCompatFilter"

# Asked in our own words, which say more.
_ASKED = frozenset({FILTER, "ComputeFilter"})
# It compares all instances of a host, which are not read.
_NEEDS_MORE = frozenset({"TypeAffinityFilter"})
# The states in which Nova live migrates a server (nova/compute/api.py, live_migrate).
_MIGRATABLE = (vm_states.ACTIVE, vm_states.PAUSED)

#: What nobody but the hosts themselves can tell, for whoever reads an answer.
UNTOLD = (
    "whether the CPU and the hypervisor of the destination take the guest",
    "storage and networks",
    minima.UNTOLD,
    "how many devices of a kind a guest can have and still migrate, beyond what packs say (qemu: "
    "several_devices)",
)


class Objection(NamedTuple):
    """What of Nova stands against a host.

    :param code: a stable word for it
    :param detail: what else helps
    """

    code: str
    detail: str = ""

    def __str__(self) -> str:
        return printable(f"{self.code}: {self.detail}" if self.detail else self.code, 200)


#: Instances by UUID, by host.
Neighbours = Mapping[str, Mapping[str, Any]]


class Nova:
    """Nova's own filters and checks, for one request.

    :param spec: the request, with what Nova's request filters put into it
    :param neighbours: by host, the instances that the request is about too, by UUID
    """

    def __init__(self, spec: Any, neighbours: Neighbours) -> None:
        self._spec = spec
        self._neighbours = neighbours
        #: Whether the guest has VFIO devices of which a copy is made.
        self.has_vfio = asks_for_staying(spec.flavor.extra_specs or {}, spec.pci_requests)
        self._services = servicegroup.API()
        self._filters, self.left_out = _filters()
        #: Whether our own filter is among those that are enabled here.
        self.has_ours = FILTER in CONF.filter_scheduler.enabled_filters

    def against_guest(self, instance: Any, source: Any) -> Iterator[Objection]:
        """What stands against moving the guest anywhere.

        :param instance: with its PCI requests and devices
        :param source: the service of its host, None for none
        """
        if instance.vm_state not in _MIGRATABLE:
            yield Objection("not-running", f"the server is {instance.vm_state}")
        if instance.task_state is not None:
            yield Objection("busy", f"the server is {instance.task_state}")
        if source is None or not self._services.service_is_up(source):
            yield Objection("source-down", f"nova-compute on {instance.host} is not up")
        if lost_claims(instance):
            # It maps devices by the claims of the guest's host (nova/compute/manager.py,
            # _flavor_based_pci_claim): none takes the place of one that it does not know of.
            yield Objection(
                "claim-lost",
                "Nova has lost its claim of a PCI device that the flavor asks for, so no device "
                "can take its place; a cold migration claims anew",
            )

    def against_service(self, service: Any) -> Iterator[Objection]:
        """What stands against a host whatever the guest, as ComputeFilter has it.

        :param service: its nova-compute, None for none
        """
        if service is None:
            yield Objection("no-service")
            return
        if service.disabled:
            yield Objection("disabled", service.disabled_reason or "")
        if not self._services.service_is_up(service):
            yield Objection("down")

    @staticmethod
    def against_hypervisor(node: Any, source: Any) -> Iterator[Objection]:
        """As nova/conductor/tasks/live_migrate.py (_check_compatible_with_source_hypervisor).

        :param node: the host's ComputeNode
        :param source: that of the guest's host, None where it is not known
        """
        if source is None:
            return
        if node.hypervisor_type != source.hypervisor_type:
            yield Objection(
                "other-hypervisor", f"{node.hypervisor_type}, not {source.hypervisor_type}"
            )
        elif (
            node.hypervisor_version < source.hypervisor_version
            and not CONF.workarounds.skip_hypervisor_version_check_on_lm
        ):
            yield Objection(
                "hypervisor-too-old", f"{node.hypervisor_version} < {source.hypervisor_version}"
            )

    def against_post_copy(self, instance: Any, said: HostDocument | Reason) -> Iterator[Objection]:
        """What of the guest's own host stands against a copy with VFIO devices.

        Where its nova.conf permits post-copy, Nova asks libvirt for it in each live migration
        (nova/virt/libvirt/driver.py, _handle_live_migration_post_copy), and libvirt refuses that
        of a guest with a VFIO device (Nova's guide, admin/virtual-gpu). Nova does not ask for a
        paused guest, nor does it matter what the destination permits.

        :param instance: it may have such devices
        :param said: what its host publishes
        """
        if instance.vm_state != vm_states.PAUSED and self.has_vfio and _permits(said):
            yield Objection(
                "source-post-copy",
                f"{instance.host} has [libvirt] live_migration_permit_post_copy, with which no "
                "VFIO device migrates",
            )

    def untold(self, said: HostDocument | Reason | None) -> Iterator[str]:
        """What was not judged, in a few words each.

        :param said: what the guest's host publishes, None where that was not asked
        """
        yield from UNTOLD
        if self.has_vfio and _permits(said) is None:
            yield (
                "live_migration_permit_post_copy of the guest's host, with which no VFIO device "
                "migrates"
            )

    def against_versions(
        self, node: Any, said: HostDocument | Reason, prefix: str = ""
    ) -> Iterator[Objection]:
        """What of a host is too old for the guest's mediated devices, as Nova's driver has it.

        :param node: its ComputeNode
        :param said: what it publishes
        :param prefix: of the codes
        """
        if minima.concerns(self._spec.flavor):
            for what, versions in minima.too_old(node, said):
                code = f"{prefix}{what.lower()}-too-old"
                yield Objection(code, f"{versions}, and the guest has a mediated device")

    def against_host(
        self, node: Any, service: Any, aggregates: Sequence[Any], candidates: Sequence[Any]
    ) -> Iterator[Objection]:
        """What Nova's enabled filters have against a host that has room.

        :param aggregates: that the host is in
        :param candidates: placement's for it
        """
        state = None
        for name, one in self._filters:
            try:
                if state is None:
                    # One for all filters, as Nova has it: it takes longer than they do.
                    state = _host_state(node, service, aggregates)
                    state.instances = dict(self._neighbours.get(node.host, {}))
                # A filter may prune the candidates, and is not to do so for the next.
                state.allocation_candidates = list(candidates)
                passes = bool(list(one.filter_all([state], copy.copy(self._spec))))
            except Exception as error:  # noqa: BLE001 - whatever a filter raises
                yield Objection("not-judged", f"{name}: {type(error).__name__}")
                continue
            if not passes:
                yield Objection("filter", name)


def _filters() -> tuple[list[tuple[str, Any]], list[str]]:
    """The filters of Nova and of others that are enabled, and the names of those left out."""
    handler = filters.HostFilterHandler()
    classes: Mapping[str, Any] = {
        cls.__name__: cls
        for cls in handler.get_matching_classes(CONF.filter_scheduler.available_filters)
    }
    chosen, left_out = [], []
    for name in CONF.filter_scheduler.enabled_filters:
        if name in _ASKED:
            continue
        if name in _NEEDS_MORE or name not in classes:
            left_out.append(name)
        else:
            chosen.append((name, classes[name]()))
    return chosen, left_out


def _host_state(node: Any, service: Any, aggregates: Sequence[Any]) -> Any:
    """As nova/scheduler/host_manager.py makes one (_get_host_states), without instances."""
    state = host_manager.HostState(node.host, node.hypervisor_hostname, None)
    state.update(node, dict(service), list(aggregates), {})
    return state


def _permits(said: HostDocument | Reason | None) -> bool | None:
    """Whether a host permits post-copy; None where it does not say."""
    return said.post_copy if isinstance(said, HostDocument) else None
