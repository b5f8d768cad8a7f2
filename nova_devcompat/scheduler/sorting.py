# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The hosts of one request, each put with those that are left or with those that are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oslo_log import log as logging

from nova_devcompat import wire
from nova_devcompat.scheduler import explain, state
from nova_devcompat.scheduler.judge import ACCEPTED, Judged
from nova_devcompat.scheduler.lookup import Lookup
from nova_devcompat.scheduler.ways import Ways
from nova_devcompat.wire import stats, stats_2

LOG = logging.getLogger(__name__)


class Sorting:
    """Judges the hosts of one request, and says of each what is to be said.

    :param shared: what hosts published
    :param context: of the request
    :param looked_up: what it needs
    """

    def __init__(self, shared: state.SchedulerState, context: Any, looked_up: Lookup) -> None:
        self._state = shared
        self._context = context
        self._looked_up = looked_up
        self._request = shared.request(looked_up)
        self._judge = shared.judge_text
        self._risks = shared.host_risks()
        self._debug = LOG.isEnabledFor(logging.DEBUG)
        self.left: list[Any] = []
        self.rejected: list[Any] = []
        #: Of hosts that are left and would not be if all were enforced.
        self.reported = explain.Refusals()
        #: Of hosts that are left because of accepted risks.
        self.waivers = explain.Waivers()
        self._ways = Ways(
            self._request,
            shared.read,
            # A line for each host is logged then.
            None if self._debug else shared.prunings,
            accepted=self.left.append,
            rejected=self.rejected.append,
            told=self._tell,
            each=self._each,
        )

    def sort(self, hosts: Sequence[Any]) -> None:
        """Put each host where it goes.

        What is done here is done for each of up to 10,000 hosts (tests/bench/filter.py).
        """
        by_head, risks, head, begin = self._ways.by_head, self._risks, wire.HEAD, stats_2.BEGIN
        for block, texts in state.blocks(hosts):
            told = self._ways.by_tokens(texts)
            if told is None:
                for host, text in zip(block, texts, strict=True):
                    try:
                        to = by_head[len(text)][text[head]]
                    except TypeError:
                        to = None  # it publishes nothing, or no text
                    if to is not None and not (risks and host.host in risks):
                        to(host)
                    # Only a text of format 2 has another way, and to look for one takes longer.
                    elif isinstance(text, str) and text.startswith(begin):
                        self._apart(host, text)
                    else:
                        self._each(host, text)
                continue
            for host, text, to, whole in zip(block, texts, *told, strict=True):
                if to is not None and whole and not (risks and host.host in risks):
                    to(host)
                else:
                    self._apart(host, text)

    def _apart(self, host: Any, text: Any) -> None:
        """Put a host where it goes that is not known by how others are laid out."""
        # One of which a risk is accepted is judged by itself.
        if not (self._risks and host.host in self._risks):
            to = self._ways.find(host, text)
            if to is not None:
                to(host)
                return
        self._each(host, text)

    def ruling(self, host: Any) -> Any:
        """The ruling on a host, whatever risks are accepted of it."""
        return self._state.judge_host(self._request, host).ruling

    def _each(self, host: Any, text: Any) -> None:
        """Judge a host by itself.

        :param text: that it published
        """
        request = self._request
        if self._risks and host.host in self._risks:
            request = self._state.request(self._looked_up, self._risks[host.host])
        judged = self._judge(request, text, host.allocation_candidates)
        if judged is not ACCEPTED and judged.candidates != []:
            self._tell(host, judged)
            return
        to = self.left.append if judged is ACCEPTED else self.rejected.append
        to(host)
        settled = request.settled
        if not settled or request is not self._request:
            return
        # Not where it was judged by something else: a document that cannot be read may begin as
        # those of other hosts do.
        if (
            isinstance(text, str)
            and settled.get(text[stats.SHAPE]) is judged
            and wire.says_its_length(text)
        ):
            self._ways.add(text, to)

    def _tell(self, host: Any, judged: Judged) -> None:
        """Keep a host that lost candidates, or of which something is to be said."""
        if judged.waived is not None:
            self.waivers.add(host, judged.waived)
        if judged.ruling.reported:
            catalog = self._state.other_catalog(host.stats)
            self.reported.add(host, judged.ruling.reported, catalog)
        if judged.candidates:
            # What CandidateFilterMixin does, which formats a line for each candidate.
            host.allocation_candidates = judged.candidates
            if self._debug:
                LOG.debug(
                    "%s: %d allocation candidates left for instance %s, others: %s",
                    explain.name_of(host),
                    len(judged.candidates),
                    self._looked_up.instance_uuid,
                    explain.reasons(judged.ruling),
                )
        self.left.append(host)
