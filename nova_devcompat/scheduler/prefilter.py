# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The request filter: has placement leave out hosts that cannot accept what a guest needs.

Nova has no plugin hook for request filters, but a plain list of them
(nova/scheduler/request_filter.py, ALL_REQUEST_FILTERS). The filter adds ours to it when Nova makes
the filter, so only where an operator enabled that.

Hosts that placement leaves out never reach the filter, so nobody could say why. Hence placement's
answer to a request that carries our traits is watched: only when it leaves no host, a second
question without our traits finds those that would have had room, and their documents give the
reasons.
"""

from __future__ import annotations

import copy
import functools
import threading
import types
from collections.abc import Callable, Iterable
from typing import Any

from nova import context as nova_context
from nova import exception, objects
from nova.scheduler import request_filter
from nova.scheduler.client import report
from oslo_log import log as logging

from nova_devcompat.compat import traits, words
from nova_devcompat.compat.ruling import required_atoms
from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.scheduler import explain, lookup
from nova_devcompat.scheduler.state import CONF, SchedulerState
from nova_devcompat.stores.placement import Placement, PlacementError

LOG = logging.getLogger(__name__)

_NAME = "devcompat_filter"


def install(state: SchedulerState) -> None:
    """Add our request filter to Nova's, in the place of an earlier one of ours."""

    prefilter = Prefilter(state)

    def devcompat_filter(context: Any, request_spec: Any) -> bool:
        return prefilter(context, request_spec)

    filters = request_filter.ALL_REQUEST_FILTERS
    filters[:] = [one for one in filters if getattr(one, "__name__", "") != _NAME]
    filters.append(request_filter.trace_request_filter(devcompat_filter))


class Prefilter:
    """Requires the traits of a guest's need and of its flavor's pins on the host's root provider.

    :param state: what is shared with the filter
    """

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._existing: set[str] = set()

    def __call__(self, context: Any, spec: Any) -> bool:
        """Whether anything was required.

        :raises RequestFilterFailed: placement did not take a trait that a family asks for which is
            in the mode ``enforce``
        """
        if not CONF.devcompat.prefilter or not lookup.concerns_us(spec):
            return False
        found = self._state.look_up(context, spec)
        names = self._names(found)
        if not names:
            return False
        self._make_exist(context, names)
        spec.root_required.update(names)
        LOG.debug(
            "Placement is asked for hosts that accept what instance %s needs: %s",
            found.instance_uuid,
            ", ".join(sorted(names)),
        )
        _watch(Watched(self, spec, found, names))
        return True

    def _names(self, found: lookup.Lookup) -> frozenset[str]:
        names = set()
        for atom in required_atoms(found.guest, self._state.policies()):
            try:
                names.add(traits.encode(atom))
            except traits.TraitTooLong as error:
                # No host can publish it either; the filter compares the value itself.
                LOG.warning("Not asked of placement: %s", error)
        return frozenset(names)

    def _make_exist(self, context: Any, names: frozenset[str]) -> None:
        """Create traits that are gone: placement answers 400 to one that it does not know.

        With the trait there it answers that no host has it, and hosts evaluate it in their next
        cycle. Asked once for each name in the life of a process.
        """
        missing = names - self._existing
        if not missing:
            return
        try:
            Placement(report.report_client_singleton()).make_traits(missing, context.global_id)
        except PlacementError as error:
            # Only families in enforce mode ask for traits, so this fails closed.
            LOG.error("No host will do for a request: placement did not take %s", error)
            raise exception.RequestFilterFailed(reason=words.NOT_FOUND_OUT) from error
        with self._lock:
            self._existing |= missing

    def forget(self, names: frozenset[str]) -> None:
        """Look again whether these traits exist, since placement refused a request with them."""
        with self._lock:
            self._existing -= names

    def explain(
        self,
        context: Any,
        watched: Watched,
        candidates: Iterable[Any],
        summaries: dict[str, Any],
    ) -> None:
        """Say why hosts that have room for a guest cannot take it.

        :param candidates: placement's allocation requests, asked without our traits
        """
        by_root = _by_root(candidates, summaries)
        request = self._state.request(watched.found)
        refusals = explain.Refusals()
        for node in _options(context, watched.spec, by_root):
            judged = self._state.judge(request, node.stats, by_root[node.uuid])
            host = types.SimpleNamespace(host=node.host, nodename=node.hypervisor_hostname)
            refusals.add(host, judged.ruling.refused or (_NOT_PUBLISHED,))
        if refusals.count:
            explain.no_host(context, watched.found, refusals)


#: So many of placement's hosts are looked at first when one of a cell will do.
_FIRST_LOOK = 10

_NOT_PUBLISHED = Reason(
    code=Code.NOT_EVALUATED,
    actor=Actor.HOST,
    detail="its traits in placement do not say so yet; nova-compute's next cycle will tell",
)


class Watched:
    """A request whose answer from placement is watched.

    :param prefilter: explains it
    :param spec: the request
    :param found: what it needs
    :param names: the traits that were required for it
    """

    def __init__(
        self, prefilter: Prefilter, spec: Any, found: lookup.Lookup, names: frozenset[str]
    ) -> None:
        self.prefilter = prefilter
        self.spec = spec
        self.found = found
        self.names = names

    def answered(self, ask: Callable[..., Any], context: Any, resources: Any, answer: Any) -> None:
        """Explain an answer that leaves no host.

        :param ask: Nova's ``get_allocation_candidates``
        :param answer: what it returned for ``resources``
        """
        candidates, summaries, _ = answer if answer is not None else (None, None, None)
        if candidates is None:
            self.prefilter.forget(self.names)
            return
        if candidates and self._leaves_one(context, candidates, summaries):
            return
        wide = copy.copy(resources)
        wide._root_required = set(resources._root_required) - self.names
        without = ask(context, wide)
        if without is not None and without[0]:
            self.prefilter.explain(context, self, without[0], without[1])

    def _leaves_one(self, context: Any, candidates: Any, summaries: Any) -> bool:
        # Placement knows neither which hosts the scheduler will ignore, the source among them, nor
        # to which cell a move is limited.
        roots = list(_by_root(candidates, summaries))
        if _cell_of(self.spec) is None:
            if len(roots) > len(self.spec.ignore_hosts or ()):
                return True
            return bool(_options(context, self.spec, roots))
        # One host is enough, and most often among the first: few rows are read, however many
        # hosts there are.
        start, size = 0, _FIRST_LOOK
        while start < len(roots):
            if _options(context, self.spec, roots[start : start + size]):
                return True
            start, size = start + size, size * 10
        return False


def _by_root(candidates: Iterable[Any], summaries: dict[str, Any]) -> dict[str, list[Any]]:
    """Allocation requests by the UUID of the root provider, which is the compute node's."""
    by_root: dict[str, list[Any]] = {}
    for candidate in candidates:
        roots = {summaries[uuid]["root_provider_uuid"] for uuid in candidate["allocations"]}
        for root in roots:
            by_root.setdefault(root, []).append(candidate)
    return by_root


def _cell_of(spec: Any) -> Any:
    """The cell that a request is limited to, as most moves are; None for any.

    As nova/scheduler/host_manager.py decides it (get_host_states_by_uuids).
    """
    destination = spec.requested_destination if "requested_destination" in spec else None
    if not destination or "cell" not in destination or destination.allow_cross_cell_move:
        return None
    return destination.cell


def _options(context: Any, spec: Any, uuids: Iterable[str]) -> list[Any]:
    """The compute nodes of these UUIDs that the scheduler can choose, by host."""
    elevated = context.elevated()
    only = _cell_of(spec)
    found: list[Any] = []
    for mapping in objects.CellMappingList.get_all(elevated) if only is None else [only]:
        if mapping.is_cell0():
            continue
        with nova_context.target_cell(elevated, mapping) as cell:
            found.extend(objects.ComputeNodeList.get_all_by_uuids(cell, list(uuids)))
    ignored = spec.ignore_hosts or ()
    return sorted(
        (node for node in found if node.host not in ignored),
        key=lambda node: (node.host, node.hypervisor_hostname),
    )


# What the thread's current request is watched for, between the request filter and the question.
_current = threading.local()
_wrapping = threading.Lock()
_WRAPPED = "_devcompat_watched"


def _watch(watched: Watched) -> None:
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
        LOG.exception("Could not say why no host would do for %s", watched.found.instance_uuid)
    return answer


def _is_empty(answer: Any) -> bool:
    return answer is None or not answer[0]


def _is_asked_again(resources: Any) -> bool:
    # nova/scheduler/manager.py asks for VCPU where nobody has PCPU.
    return bool(
        resources.cpu_pinning_requested and not CONF.workarounds.disable_fallback_pcpu_query
    )
