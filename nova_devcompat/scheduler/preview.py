# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a live migration that nobody has asked for would meet on its way through the scheduler.

The request is made as nova-conductor makes it, and asked of placement as nova-scheduler asks it.
What our prefilter and our filter say of it is said by the very objects that do so there. Nothing
is written, to Nova's databases or to placement.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from nova import exception, objects
from nova.compute import utils as compute_utils
from nova.network import neutron
from nova.scheduler import request_filter, utils
from oslo_utils import uuidutils

from nova_devcompat.compat.traits import Atom
from nova_devcompat.scheduler import prefilter, watch
from nova_devcompat.scheduler.judge import ACCEPTED, Judged, RequestJudge
from nova_devcompat.scheduler.lookup import Lookup
from nova_devcompat.scheduler.state import CONF, SchedulerState
from nova_devcompat.stores.assigned import is_device_class
from nova_devcompat.stores.placement import Placement

#: What is joined to an instance that is asked about, beside what its record needs.
ATTRIBUTES = ("system_metadata", "pci_requests", "pci_devices", "flavor", "info_cache")

#: Told of what could not be asked: a message and what stands in it, as for a log.
PassOver = Callable[..., None]

# Allocation candidates for each host, at most, if Nova's own limit is not above that.
_CANDIDATES = 10


# --- the request ---------------------------------------------------------------------------------


def request_of(context: Any, instance: Any, cell: Any, pass_over: PassOver) -> Any:
    """The request that a live migration to whichever host would be.

    As nova/conductor/tasks/live_migrate.py makes it (_get_request_spec_for_select_destinations),
    but nothing of it is saved.

    :param context: of the instance's cell
    :param instance: with :data:`ATTRIBUTES`
    :param cell: the instance's
    :param pass_over: told where Neutron does not say what ports ask for
    :raises Exception: whatever Nova's databases raise; RequestSpecNotFound where there is none
    """
    spec = objects.RequestSpec.get_by_instance_uuid(context, instance.uuid)
    spec.reset_forced_destinations()
    spec.requested_resources, spec.request_level_params = [], objects.RequestLevelParams()
    if instance.info_cache is not None and instance.info_cache.network_info:
        try:
            spec.requested_resources, spec.request_level_params = (
                neutron.API().get_requested_resource_for_instance(context, instance.uuid)
            )
        except Exception as error:  # noqa: BLE001 - Neutron's, keystone's and requests' errors
            pass_over("What its ports ask of placement is left out: %s", error)
    spec.generate_request_groups_from_pci_requests()
    utils.setup_instance_group(context, spec)
    spec.requested_destination = objects.Destination(cell=cell)
    spec.ignore_hosts = [instance.host]
    spec.ensure_project_and_user_id(instance)
    spec.ensure_network_information(instance)
    if "is_bfv" not in spec:
        spec.is_bfv = compute_utils.is_volume_backed_instance(context, instance)
    return spec


def neighbours(context: Any, spec: Any) -> dict[str, dict[str, Any]]:
    """The instances that a request is about beside its own, by host and by UUID.

    Those of its server group, and those that its scheduler hints name, as far as they are in the
    cell: what filters compare of the instances that a host has.

    :param context: of the instance's cell
    """
    named = set(spec.instance_group.members) if spec.instance_group else set()
    for name in ("different_host", "same_host"):
        hinted = spec.get_scheduler_hint(name) or ()
        named.update([hinted] if isinstance(hinted, str) else hinted)
    # A hint is any text.
    uuids = sorted(uuid for uuid in named if uuidutils.is_uuid_like(uuid))
    by_host: dict[str, dict[str, Any]] = {}
    if uuids:
        for instance in objects.InstanceList.get_by_filters(
            context, {"uuid": uuids, "deleted": False}, expected_attrs=[]
        ):
            by_host.setdefault(instance.host, {})[instance.uuid] = instance
    return by_host


# --- placement -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Which hosts placement has a guest's resources on, our traits aside.

    :param candidates: allocation candidates by host, that is by root provider
    :param left_out: hosts that have the resources, and lack a trait or an aggregate that Nova asks
        for
    :param without_device: hosts that have all of the resources but free devices
    :param whole: whether a host that is in none of these has no room: not if there were more
        candidates than can be asked for
    :param free: units of resource classes, by provider, that are free on the hosts of candidates
    """

    candidates: watch.ByRoot
    left_out: frozenset[str] = frozenset()
    without_device: frozenset[str] = frozenset()
    whole: bool = True
    free: Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)


def room_for(context: Any, client: Any, spec: Any, hosts: int) -> Room | None:
    """Ask placement where there is room.

    Two requests, and a third where a host has not all that is asked for and devices are among
    that; twice as many where CPUs are pinned.

    :param client: Nova's report client, or what asks it
    :param spec: of :func:`request_of`; Nova's request filters are applied to it
    :param hosts: how many there are
    :returns: None where placement does not tell
    """
    free: dict[tuple[str, str], int] = {}
    most = max(CONF.scheduler.max_placement_results, hosts * _CANDIDATES)
    try:
        for one in request_filter.ALL_REQUEST_FILTERS:
            # Ours is asked by itself, to tell its answer from Nova's.
            if getattr(one, "__name__", "") != prefilter.NAME:
                one(context, spec)
    except exception.RequestFilterFailed:
        found: watch.ByRoot | None = {}
    else:
        found = _candidates(context, client, spec, most, free=free)
    anywhere = _candidates(context, client, spec, most, change=_only_resources)
    if found is None or anywhere is None:
        return None
    having = found.keys() | anywhere.keys()
    but_devices: watch.ByRoot | None = {}
    if len(having) < hosts:
        but_devices = _candidates(context, client, spec, most, change=_no_devices)
    if but_devices is None:
        return None
    return Room(
        candidates=found,
        left_out=frozenset(anywhere.keys() - found.keys()),
        without_device=frozenset(but_devices.keys() - having),
        whole=max(map(_count, (found, anywhere, but_devices))) < most,
        free=free,
    )


def _candidates(
    context: Any,
    client: Any,
    spec: Any,
    most: int,
    change: Callable[[Any], None] = lambda resources: None,
    free: dict[tuple[str, str], int] | None = None,
) -> watch.ByRoot | None:
    found: dict[str, list[Any]] = {}
    # As nova/scheduler/manager.py: hosts may have VCPU where PCPU is asked for.
    for translated in (True, False):
        resources = utils.resources_from_request_spec(
            context, spec, None, enable_pinning_translate=translated
        )
        resources._limit = most
        change(resources)
        answer = client.get_allocation_candidates(context, resources)
        if answer is None or answer[0] is None:
            return None
        for root, candidates in watch.by_root(answer[0], answer[1]).items():
            found.setdefault(root, []).extend(candidates)
        if free is not None:
            free.update(_free(answer[1]))
        if not _is_asked_again(resources):
            break
    return found


def _free(summaries: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], int]]:
    for provider, summary in summaries.items():
        for resource_class, units in summary["resources"].items():
            yield (provider, resource_class), units["capacity"] - units["used"]


def _is_asked_again(resources: Any) -> bool:
    return bool(
        resources.cpu_pinning_requested and not CONF.workarounds.disable_fallback_pcpu_query
    )


def _only_resources(resources: Any) -> None:
    """Take away what Nova asks for beside room, as far as it is asked of the compute node."""
    resources._root_required = set()
    resources._root_forbidden = set()
    group = resources.get_request_group(None)
    group.required_traits = set()
    group.forbidden_traits = set()
    group.aggregates = []
    group.forbidden_aggregates = set()


def _no_devices(resources: Any) -> None:
    """Ask for what is no device alone, whatever else Nova asks for."""
    _only_resources(resources)
    groups = resources._rg_by_id
    for name, group in list(groups.items()):
        left = {
            resource_class: units
            for resource_class, units in group.resources.items()
            if not is_device_class(resource_class)
        }
        if len(left) == len(group.resources):
            continue
        # Not in place: groups may be the request's own.
        del groups[name]
        if left:
            groups[name] = objects.RequestGroup(requester_id=name, resources=left)
    subtrees = [[name for name in names if name in groups] for names in resources._same_subtree]
    resources._same_subtree = [names for names in subtrees if names]
    if resources.get_num_of_suffixed_groups() < 2:
        resources.group_policy = None


def _count(by_root: watch.ByRoot) -> int:
    return sum(map(len, by_root.values()))


# --- ours ----------------------------------------------------------------------------------------


class Node(Protocol):
    """What is asked of a compute node."""

    @property
    def host(self) -> str: ...

    @property
    def stats(self) -> Mapping[str, str] | None: ...


class Preview:
    """What our prefilter and our filter would say to a live migration, host by host.

    :param state: as the scheduler's
    :param instance: with :data:`ATTRIBUTES`
    :param spec: of :func:`request_of`
    """

    def __init__(self, state: SchedulerState, instance: Any, spec: Any) -> None:
        self.looked_up: Lookup = state.look_up_moving(instance, spec)
        self._state = state
        self._request: RequestJudge = state.request(self.looked_up)

    def judge(self, node: Node, candidates: Sequence[Any]) -> Judged:
        """What the filter would say of a host.

        :param node: Nova's ComputeNode, or what stands for it
        :param candidates: placement's for it; none to hear of any of its devices
        """
        if not self.looked_up.decides:
            return ACCEPTED
        request = self._request
        if risks := self._state.host_risks().get(node.host):
            request = self._state.request(self.looked_up, risks)
        return self._state.judge(request, node.stats, list(candidates))

    @property
    def atoms(self) -> frozenset[Atom]:
        """What the guest needs, and what its flavor pins."""
        guest = self.looked_up.guest
        parts = (*guest.need.devices, *guest.pins.devices)
        return frozenset(atom for part in parts for atom in part.atoms)

    def traits(self) -> frozenset[str]:
        """The traits that the prefilter would require, once all hosts have been judged."""
        if not CONF.devcompat.prefilter or not self.looked_up.decides:
            return frozenset()
        return prefilter.Prefilter(self._state).names(self.looked_up)


def having(placement: Placement, names: frozenset[str]) -> Mapping[str, frozenset[str]] | None:
    """For each trait the hosts that have it. A request for each, of which there are few.

    :returns: UUIDs of root providers by trait; None where placement does not tell
    """
    missing = placement.missing(names) if names else set()
    found: dict[str, frozenset[str]] = {name: frozenset() for name in missing}
    for name in sorted(names - missing):
        providers = placement.providers_with(name)
        if providers is None:
            return None
        found[name] = providers
    return found
