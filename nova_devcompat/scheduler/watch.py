# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Says why placement leaves no host for a request that carries our traits.

Hosts that placement leaves out never reach the filter, so nobody could say why. Hence placement's
answer to such a request is watched: only when it leaves no host, a second question without our
traits finds those that would have had room, and their documents give the reasons.

Nobody waits for the words: they are found beside the request, which goes on meanwhile
(:func:`nova_devcompat.scheduler.explain.later`).
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import threading
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nova import context as nova_context
from nova import objects
from nova.scheduler.client import report
from oslo_log import log as logging

from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.scheduler import explain, lookup
from nova_devcompat.scheduler.state import CONF, SchedulerState

LOG = logging.getLogger(__name__)

# So many of placement's hosts are looked at first when one of a cell will do, and so many at a
# time where they are named: rows of compute nodes are long.
_FIRST_LOOK = 10
_AT_A_TIME = 100

#: Why placement leaves out a host that the filter would take.
NOT_PUBLISHED = Reason(
    code=Code.NOT_EVALUATED,
    actor=Actor.HOST,
    detail="its traits in placement do not say so yet; nova-compute's next cycle will tell",
)

#: Allocation requests by the UUID of the root provider, which is the compute node's.
ByRoot = Mapping[str, list[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What of a request tells which hosts the scheduler can choose, as it was asked.

    :param context: of the request
    :param looked_up: what it needs
    :param ignored: hosts that it passes over, the source of a move among them
    :param cell: that it is limited to, as most moves are; None for any
    """

    context: Any
    looked_up: lookup.Lookup
    ignored: frozenset[str]
    cell: Any

    @classmethod
    def of(cls, context: Any, spec: Any, looked_up: lookup.Lookup) -> Request:
        """A request as it is now."""
        return cls(
            context=context,
            looked_up=looked_up,
            ignored=frozenset(spec.ignore_hosts or ()),
            cell=_cell_of(spec),
        )

    def nodes(self, uuids: Iterable[str]) -> list[Any]:
        """The compute nodes of these UUIDs that the scheduler can choose, by host.

        Cells are asked as Nova's scheduler does it: those that are enabled, all at once, and for
        no longer than it waits itself. One that does not answer is passed over.
        """
        elevated = self.context.elevated()
        answers = nova_context.scatter_gather_cells(
            elevated,
            [self.cell] if self.cell is not None else _enabled_cells(elevated),
            nova_context.CELL_TIMEOUT,
            objects.ComputeNodeList.get_all_by_uuids,
            list(uuids),
        )
        nodes = [
            node
            for answer in answers.values()
            if not nova_context.is_cell_failure_sentinel(answer)
            for node in answer
            if node.host not in self.ignored
        ]
        return sorted(nodes, key=lambda node: (node.host, node.hypervisor_hostname))


def _cell_of(spec: Any) -> Any:
    """As nova/scheduler/host_manager.py decides it (get_host_states_by_uuids)."""
    destination = spec.requested_destination if "requested_destination" in spec else None
    if not destination or "cell" not in destination or destination.allow_cross_cell_move:
        return None
    return destination.cell


def _enabled_cells(context: Any) -> list[Any]:
    # cell0 has no hosts; disabled cells take no guests (refresh_cells_caches).
    return [
        mapping
        for mapping in objects.CellMappingList.get_all(context)
        if not (mapping.is_cell0() or mapping.disabled)
    ]


class Watched:
    """A request whose answer from placement is watched.

    :param state: what is shared with the filter
    :param spec: the request
    :param looked_up: what it needs
    :param names: the traits that were required for it
    :param forget: what to do when placement refuses the question
    """

    def __init__(
        self,
        state: SchedulerState,
        spec: Any,
        looked_up: lookup.Lookup,
        names: frozenset[str],
        forget: Callable[[frozenset[str]], None],
    ) -> None:
        self._state = state
        self._spec = spec
        self.looked_up = looked_up
        self.names = names
        self._forget = forget

    def answered(self, ask: Callable[..., Any], context: Any, resources: Any, answer: Any) -> None:
        """Have an answer explained that leaves no host, or may leave none.

        :param ask: Nova's ``get_allocation_candidates``
        :param answer: what it returned for ``resources``
        """
        if answer is None or answer[0] is None:
            LOG.warning(
                "Placement did not answer for instance %(uuid)s, for which %(count)d traits were "
                "required; Nova's own line has the error",
                {"uuid": self.looked_up.instance_uuid, "count": len(self.names)},
            )
            self._forget(self.names)
            return
        request = Request.of(context, self._spec, self.looked_up)
        roots = list(by_root(answer[0], answer[1]))
        if len(roots) > len(request.ignored) and request.cell is None:
            return
        wide = copy.copy(resources)
        wide._root_required = set(resources._root_required) - self.names
        explain.later(context, self.looked_up, lambda: self._explain(ask, request, wide, roots))

    def _explain(
        self, ask: Callable[..., Any], request: Request, wide: Any, roots: list[str]
    ) -> None:
        # Placement knows neither which hosts the scheduler will ignore, the source among them, nor
        # to which cell a move is limited.
        if _leaves_one(request, roots):
            return
        without = ask(request.context, wide)
        if without is not None and without[0]:
            self._refused(request, by_root(without[0], without[1]))

    def _refused(self, request: Request, with_room: ByRoot) -> None:
        """Say why hosts that have room for a guest cannot take it."""
        judge = self._state.request(request.looked_up)
        refusals = explain.Refusals()
        left = list(with_room)
        while left and refusals.count < explain.HOSTS_NAMED:
            some, left = left[:_AT_A_TIME], left[_AT_A_TIME:]
            for node in request.nodes(some):
                judged = self._state.judge(judge, node.stats, with_room[node.uuid])
                host = types.SimpleNamespace(host=node.host, nodename=node.hypervisor_hostname)
                reasons = judged.ruling.refused or (NOT_PUBLISHED,)
                refusals.add(host, reasons, self._state.other_catalog(node.stats))
        if refusals.count:
            # The rest is only counted: no more rows are read than are told of.
            refusals.count += len(left)
            explain.no_host(request.context, request.looked_up, refusals)


def _leaves_one(request: Request, roots: list[str]) -> bool:
    """Whether the scheduler can choose one of these hosts.

    One is enough, and most often among the first: few rows are read, however many hosts there are.
    """
    start, size = 0, _FIRST_LOOK
    while start < len(roots):
        if request.nodes(roots[start : start + size]):
            return True
        start, size = start + size, size * 10
    return False


def by_root(candidates: Iterable[Any], summaries: Mapping[str, Any]) -> ByRoot:
    """Allocation candidates by their host.

    :param summaries: placement's of the providers in them
    """
    found: dict[str, list[Any]] = {}
    for candidate in candidates:
        roots = {summaries[uuid]["root_provider_uuid"] for uuid in candidate["allocations"]}
        for root in roots:
            found.setdefault(root, []).append(candidate)
    return found


# --- Nova's question -----------------------------------------------------------------------------

# What the thread's current request is watched for, between the request filter and the question.
_current = threading.local()
_wrapping = threading.Lock()
_WRAPPED = "_devcompat_watched"


def watch(watched: Watched) -> None:
    """Watch placement's answer to the request that this thread is about to ask for."""
    client = report.report_client_singleton()
    with _wrapping:
        if not getattr(client, _WRAPPED, False):
            client.get_allocation_candidates = functools.partial(
                _ask, client.get_allocation_candidates
            )
            setattr(client, _WRAPPED, True)
    _current.watched = watched


def _ask(ask: Callable[..., Any], context: Any, resources: Any) -> Any:
    """Nova's own question, its answer watched if the request is one of ours."""
    answer = ask(context, resources)
    watched: Watched | None = getattr(_current, "watched", None)
    if watched is None or (_is_empty(answer) and _is_asked_again(resources)):
        return answer
    _current.watched = None
    try:
        if watched.names <= resources._root_required:
            watched.answered(ask, context, resources, answer)
    except Exception:
        # Nothing in Nova catches it, and it is only about words.
        LOG.exception("Could not say why no host would do for %s", watched.looked_up.instance_uuid)
    return answer


def _is_empty(answer: Any) -> bool:
    return answer is None or not answer[0]


def _is_asked_again(resources: Any) -> bool:
    # nova/scheduler/manager.py asks for VCPU where nobody has PCPU.
    return bool(
        resources.cpu_pinning_requested and not CONF.workarounds.disable_fallback_pcpu_query
    )
