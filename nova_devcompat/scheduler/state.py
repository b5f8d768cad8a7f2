# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the prefilter, the filter and the weigher of one scheduler process share."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import nova.conf
from oslo_log import log as logging

from nova_devcompat import conf as devcompat_conf
from nova_devcompat import wire
from nova_devcompat.catalog import stages
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.pins import BadPin
from nova_devcompat.compat.policy import Policies, Ruling
from nova_devcompat.compat.risks import Risk
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Reason
from nova_devcompat.scheduler import lookup
from nova_devcompat.scheduler.answers import Candidate
from nova_devcompat.scheduler.judge import Judged, RequestJudge
from nova_devcompat.scheduler.judges import Judges
from nova_devcompat.scheduler.prunings import Prunings
from nova_devcompat.service import catalog_keeper, problem_at_start
from nova_devcompat.stores.published import document_in, published
from nova_devcompat.stores.risks import HostRisks

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

devcompat_conf.register_opts(CONF)


#: So many hosts at most at a time have their texts fetched, which are still in a processor's cache
#: then.
_BLOCK = 128


def blocks(hosts: Sequence[Any]) -> Iterator[tuple[Sequence[Any], list[Any]]]:
    """Some hosts at a time, with what stands where each publishes, None where nothing does.

    The texts of a block are fetched before any is looked at: each is somewhere else in memory, and
    a loop that does nothing but fetch them waits for several at a time. The first block is one
    host and each is twice as long as that before, since of the first hosts is learned where others
    go.

    :param hosts: Nova's HostStates
    """
    start, size = 0, 1
    while start < len(hosts):
        block = hosts[start : start + size]
        yield block, _texts_of(block)
        start, size = start + size, min(2 * size, _BLOCK)


def with_texts(hosts: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """The same, host by host."""
    return itertools.chain.from_iterable(
        zip(block, texts, strict=True) for block, texts in blocks(hosts)
    )


def _texts_of(hosts: Sequence[Any]) -> list[Any]:
    key = wire.STATS_KEY
    try:
        return [host.stats[key] for host in hosts]
    except (KeyError, TypeError):
        return [host.stats.get(key) if host.stats else None for host in hosts]


class SchedulerState:
    """The catalog's policies and the documents of hosts, remembered between requests."""

    def __init__(self) -> None:
        self._keeper = catalog_keeper(CONF)
        problem = problem_at_start(CONF, self._keeper.current)
        if problem:
            # As Nova does for what it cannot start without: one line, no traceback.
            LOG.critical("nova-devcompat: %s", problem)
            sys.exit(1)
        self._reader = wire.StatsReader()
        self._judges = Judges()
        #: Which providers of hosts will not do.
        self.prunings = Prunings()
        self._host_risks = HostRisks(CONF.devcompat.accepted_risks)

    def host_risks(self) -> Mapping[str, tuple[Risk, ...]]:
        """The accepted risks of hosts that hold now, by host; mostly none."""
        return self._host_risks.holding()

    def policies(self) -> Policies:
        """The policies of all families, as they are now."""
        return self._keeper.current().policies(devcompat_conf.default_policy(CONF), stages.now())

    def judge_host(self, request: RequestJudge, host: Any) -> Judged:
        """What a host's published document says of its candidates.

        :param host: Nova's HostState
        """
        return self.judge(request, host.stats, host.allocation_candidates)

    def judge(self, request: RequestJudge, stats: Any, candidates: list[Candidate]) -> Judged:
        """The same for whoever has no HostState.

        :param stats: the host's ``compute_nodes.stats``, None where there are none
        """
        text = stats.get(wire.STATS_KEY) if stats else None
        return self.judge_text(request, text, candidates)

    def judge_text(
        self, request: RequestJudge, text: str | None, candidates: list[Candidate]
    ) -> Judged:
        """The same for whoever has fetched what the host published.

        :param text: as :func:`with_texts` has it
        """
        document = document_in(text, self._reader)
        if isinstance(document, Reason):
            return request.silent(document, candidates)
        return request.judge(document, candidates)

    def rulings(
        self, request: RequestJudge, stats: Any, candidates: Sequence[Candidate]
    ) -> list[Ruling]:
        """The ruling on each of a host's candidates, as far as these differ.

        :param stats: the host's ``compute_nodes.stats``, None where there are none
        """
        document = published(stats, self._reader)
        if isinstance(document, Reason):
            return [request.silent(document, candidates).ruling]
        return request.rulings(document, candidates)

    def read(self, text: str) -> wire.HostDocument | wire.WireError:
        """The document of a text, or what is wrong with it."""
        return self._reader.read(text)

    def rarity(self, atoms: Iterable[Atom]) -> Callable[[Atom], int]:
        """Tells how common it is that a device accepts an atom: the rarer, the lower."""
        return self._reader.accepting(atoms).__getitem__

    def document_of(self, host: Any) -> wire.HostDocument | Reason:
        """What a host published, or why nothing is known of it.

        :param host: Nova's HostState
        """
        return published(getattr(host, "stats", None), self._reader)

    def other_catalog(self, stats: Any) -> str:
        """The digest of a host's catalog where that is not the one here, else ''.

        :param stats: the host's ``compute_nodes.stats``
        """
        document = published(stats, self._reader)
        digest = "" if isinstance(document, Reason) else document.catalog
        return "" if digest == self._keeper.current().digest else digest

    def look_up(self, context: Any, spec: Any) -> lookup.Lookup:
        """What a request needs, its pins by the catalog as it is now; looked up once."""
        return lookup.of(context, spec, self._pins_of, self._has_host_families)

    def look_up_moving(self, instance: Any, spec: Any) -> lookup.Lookup:
        """The same for a live migration that nobody has asked for; see :func:`lookup.moving`."""
        return lookup.moving(instance, spec, self._pins_of, self._has_host_families)

    def _pins_of(self, extra_specs: Mapping[str, str]) -> tuple[Need, tuple[BadPin, ...]]:
        return self._keeper.current().read_pins(extra_specs)

    def _has_host_families(self) -> bool:
        return self._keeper.current().has_host_families

    def request(
        self,
        found: lookup.Lookup,
        risks: Sequence[Risk] = (),
        *,
        policies: Policies | None = None,
        whichever: bool = False,
    ) -> RequestJudge:
        """A judge for one request.

        :param risks: accepted ones of the only host that it is asked about
        :param policies: None for those of now
        :param whichever: whether the rulings are to hold whichever of a host's devices is claimed
        """
        guest = found.guest
        if risks:
            guest = dataclasses.replace(guest, risks=(*guest.risks, *risks))
        return self._judges.of(
            guest,
            self.policies() if policies is None else policies,
            pci=found.pci,
            whichever=whichever,
        )


_shared: tuple[tuple[tuple[str, ...], ...], SchedulerState] | None = None
_sharing = threading.Lock()


def shared() -> SchedulerState:
    """The state that the filter and the weigher of a process have in common.

    Documents of hosts are parsed and kept once that way. Another catalog makes another state.
    """
    global _shared
    ours = CONF.devcompat
    catalog = tuple(ours.packs), tuple(ours.catalog), tuple(ours.known_bad)
    with _sharing:
        if _shared is None or _shared[0] != catalog:
            _shared = catalog, SchedulerState()
        return _shared[1]
