# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The request filter: has placement leave out hosts that cannot accept what a guest needs.

Nova has no plugin hook for request filters, but a plain list of them
(nova/scheduler/request_filter.py, ALL_REQUEST_FILTERS). The filter adds ours to it when Nova makes
the filter, so only where an operator enabled that.

It is a sieve, which may let hosts pass that do not fit, since the filter decides. So of a long
need as many traits are asked for as fit into a request line that every server takes.
"""

from __future__ import annotations

import threading
from typing import Any

from nova import exception
from nova.scheduler import request_filter
from nova.scheduler.client import report
from oslo_log import log as logging

from nova_devcompat.compat import choice, traits, words
from nova_devcompat.compat.ruling import required_atoms
from nova_devcompat.scheduler import lookup, watch
from nova_devcompat.scheduler.state import CONF, SchedulerState
from nova_devcompat.stores.placement import Placement, PlacementError

LOG = logging.getLogger(__name__)

#: What Nova's list has our request filter under.
NAME = "devcompat_filter"

#: Characters of all names in the request line, with what separates them there: %2C. Nova's own
#: part is below 1 KiB, and the shortest line that a server in use takes by default has 4 KiB.
LONGEST = 2_048
_SEPARATOR = 3

# How many names are remembered to exist.
_MOST_EXISTING = 20_000


def install(state: SchedulerState) -> None:
    """Add our request filter to Nova's, in the place of an earlier one of ours."""

    prefilter = Prefilter(state)

    def devcompat_filter(context: Any, request_spec: Any) -> bool:
        return prefilter(context, request_spec)

    filters = request_filter.ALL_REQUEST_FILTERS
    filters[:] = [one for one in filters if getattr(one, "__name__", "") != NAME]
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
        looked_up = self._state.look_up(context, spec)
        names = self._make_exist(context, self.names(looked_up))
        if not names:
            return False
        spec.root_required.update(names)
        LOG.debug(
            "Placement is asked for hosts that accept what instance %s needs: %s",
            looked_up.instance_uuid,
            ", ".join(sorted(names)),
        )
        watch.watch(watch.Watched(self._state, spec, looked_up, names, self.forget))
        return True

    def names(self, looked_up: lookup.Lookup) -> frozenset[str]:
        """The traits to ask for, as many as fit; which they are does not depend on the request."""
        names = {}
        # A host of which a risk is accepted may be one that has no trait.
        of_hosts = [one for risks in self._state.host_risks().values() for one in risks]
        for atom in required_atoms(looked_up.guest, self._state.policies(), of_hosts):
            try:
                names[atom] = traits.encode(atom)
            except traits.TraitTooLong as error:
                # No host can publish it either; the filter compares the value itself.
                LOG.warning("Not asked of placement: %s", error)
        if sum(map(_cost, names.values())) <= LONGEST:
            return frozenset(names.values())
        # Those that the fewest hosts accept leave out the most.
        ordered = choice.in_turns(names, self._state.rarity(names))
        chosen, left_out = choice.fitting(ordered, lambda atom: _cost(names[atom]), LONGEST)
        LOG.debug(
            "Placement is asked for %(chosen)d of the %(all)d atoms that instance %(uuid)s needs; "
            "the filter decides by the others: %(left_out)s",
            {
                "chosen": len(chosen),
                "all": len(names),
                "uuid": looked_up.instance_uuid,
                "left_out": ", ".join(map(str, left_out)),
            },
        )
        return frozenset(names[atom] for atom in chosen)

    def _make_exist(self, context: Any, names: frozenset[str]) -> frozenset[str]:
        """Create traits that are gone: placement answers 400 to one that it does not know.

        With the trait there it answers that no host has it, and hosts evaluate it in their next
        cycle. Asked once for each name in the life of a process.

        :returns: those that exist now. None is created of an attribute that has too many values
            already; the filter decides by it
        """
        missing = names - self._existing
        if not missing:
            return names
        try:
            left_out = Placement(report.report_client_singleton()).make_traits(
                missing, context.global_id, most=choice.MOST_PINNED
            )
        except PlacementError as error:
            # Only families in enforce mode ask for traits, so this fails closed.
            LOG.error("No host will do for a request: placement did not take %s", error)
            raise exception.RequestFilterFailed(reason=words.NOT_FOUND_OUT) from error
        if left_out:
            LOG.warning(
                "Not asked of placement, which has too many values of the attribute already: %s",
                ", ".join(sorted(left_out)),
            )
        with self._lock:
            if len(self._existing) > _MOST_EXISTING:
                self._existing.clear()
            self._existing |= missing - left_out
        return names - left_out

    def forget(self, names: frozenset[str]) -> None:
        """Look again whether these traits exist, since placement refused a request with them."""
        with self._lock:
            self._existing -= names


def _cost(name: str) -> int:
    return len(name) + _SEPARATOR
