# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The numbers of a cloud as Prometheus reads them, through node_exporter's textfile collector."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.policy import Policies
from nova_devcompat.fleet.cloud import Cloud
from nova_devcompat.fleet.room import Room
from nova_devcompat.fleet.tally import State, Tally
from nova_devcompat.kit.problems import DocumentError
from nova_devcompat.kit.replacing import replace
from nova_devcompat.stores import risks
from nova_devcompat.stores.cells import Refused, brief, label_of, silent_since

_PREFIX = "nova_devcompat_"

# What can be asked.
_API_DATABASE = ("api_database", "")
_PLACEMENT = ("placement", "")
_RISKS = ("file_of_risks", "")


def ask(
    cloud: Cloud,
    catalog: Catalog,
    policies: Policies,
    *,
    risk_file: str,
    with_room: bool = False,
    progress: Callable[[str, int, int], None] = lambda cell, hosts, guests: None,
) -> Tally:
    """The numbers of all cells. What cannot be asked is left out, and the numbers say so.

    :param risk_file: of the accepted risks of hosts
    :param with_room: whether devices must be free; placement is asked once for each class and
        number of units that guests ask for, in each cell
    :param progress: told of each cell how many hosts and guests were read
    """
    tally = Tally(catalog, policies, risks.now())
    try:
        cells = cloud.cells.select()
    except Refused as error:
        cloud.cells.pass_over("Nothing is known of the cells: %s", error)
        cells = []
    tally.answered[_API_DATABASE] = not cloud.cells.incomplete
    for cell in cells:
        outlook, complete = _read(cloud, cell, tally)
        tally.answered["cell", label_of(cell)] = complete
        progress(label_of(cell), outlook.hosts, outlook.guests)
        room = None
        if with_room and any(outlook.asks):
            room = _room(cloud, outlook.asks)
            tally.answered[_PLACEMENT] = tally.answered.get(_PLACEMENT, True) and room is not None
        tally.judge(outlook, room)
    _count_risks_of_hosts(cloud, tally, risk_file)
    return tally


def _read(cloud: Cloud, cell: Any, tally: Tally) -> tuple[Any, bool]:
    """The hosts and guests of a cell, and whether it told of all of them."""
    before, cloud.cells.incomplete = cloud.cells.incomplete, False
    silent = {
        host: since if since is None or since.tzinfo else since.replace(tzinfo=datetime.UTC)
        for host, since in cloud.cells.each([cell], lambda ctxt: iter(silent_since(ctxt).items()))
    }
    outlook = tally.outlook(cloud.survey(cell), silent)
    complete = not cloud.cells.incomplete
    cloud.cells.incomplete |= before
    return outlook, complete


def _room(cloud: Cloud, asks: Any) -> Room | None:
    try:
        room = Room.ask(cloud.placement, asks)
    except Refused as error:
        cloud.cells.pass_over("Which devices are free is not known: %s", error)
        return None
    if room is None:
        cloud.cells.pass_over("Placement does not tell which devices are free")
    return room


def _count_risks_of_hosts(cloud: Cloud, tally: Tally, path: str) -> None:
    now = risks.now()
    try:
        for one in risks.read_file(path):
            if one.holds(now):
                tally.count_risk("host", one.name)
        tally.answered[_RISKS] = True
    except (DocumentError, OSError) as error:
        cloud.cells.pass_over("Accepted risks of hosts are left out: %s", brief(error))
        tally.answered[_RISKS] = False


class Gauges(Collector):
    """The numbers as gauges.

    :param tally: they
    :param catalog: the one that is here
    :param began: when it was begun to ask, in UTC
    :param ended: when that was done
    """

    def __init__(
        self,
        tally: Tally,
        catalog: Catalog,
        began: datetime.datetime,
        ended: datetime.datetime,
    ) -> None:
        self._tally = tally
        self._catalog = catalog
        self._began = began
        self._ended = ended

    def collect(self) -> Iterator[Metric]:
        """All that was asked, and of each part whether it answered.

        Where no cell could be asked, that alone: no number is better than a wrong zero.
        """
        yield _gauge(
            "run_timestamp_seconds", "When these numbers were asked for.", self._began.timestamp()
        )
        yield _gauge(
            "run_duration_seconds",
            "How long that took.",
            (self._ended - self._began).total_seconds(),
        )
        yield _labelled(
            "answered",
            "Whether a part could be asked, whole (1) or not (0).",
            ("part", "name"),
            {part: int(told) for part, told in self._tally.answered.items()},
        )
        yield _labelled(
            "catalog_info", "The catalog that is here.", ("digest",), {(self._catalog.digest,): 1}
        )
        if any(told for (part, _), told in self._tally.answered.items() if part == "cell"):
            yield from self._of_cells()

    def _of_cells(self) -> Iterator[Metric]:
        tally = self._tally
        yield _gauge("guests", "Running guests.", tally.guests)
        yield _labelled(
            "hosts",
            "Hosts by what is known of them.",
            ("state",),
            {(state,): tally.hosts[state] for state in State},
        )
        yield _gauge(
            "stale_seconds",
            "Seconds since the nova-compute of a host that published was last heard of, "
            "the most of those that are down; 0 where none is.",
            tally.stale_seconds,
        )
        yield _labelled(
            "catalog_hosts",
            "Hosts that published under the catalog that is here, and under others.",
            ("catalog",),
            {(name,): tally.by_catalog[name] for name in ("here", "other")},
        )
        yield _gauge("catalogs", "Catalogs that hosts published under.", tally.digests)
        yield _labelled(
            "unknown_guests",
            "Running guests of which it is not known what they need, by reason.",
            ("reason",),
            {(reason,): count for reason, count in tally.unknown.items()},
        )
        yield _labelled(
            "accepted_risks",
            "Accepted risks that hold now, of running guests and of hosts.",
            ("of", "risk"),
            tally.risks,
        )
        yield from self._of_verdicts()

    def _of_verdicts(self) -> Iterator[Metric]:
        tally = self._tally
        yield _labelled(
            "stranded_guests",
            "Guests that few hosts take: now (enforce), or were all families enforced (report).",
            ("standing", "mode"),
            tally.stranded,
        )
        yield _labelled(
            "stranded_guests_by_reason",
            "The same by what stands against the nearest host, a guest once for each reason.",
            ("standing", "mode", "family", "reason"),
            {
                (*stranding, family, reason): count
                for (stranding, family, reason), count in tally.causes.items()
            },
        )
        yield _gauge(
            "pairs",
            "Pairs of a running guest that hosts can object to and another host of its cell.",
            tally.pairs,
        )
        yield _labelled(
            "refused_pairs",
            "Those that do not fit, once for each reason: refused (enforce), or only reported "
            "(report).",
            ("mode", "family", "reason"),
            tally.refusals,
        )


def write(path: str, gauges: Gauges) -> None:
    """Write a file that node_exporter reads, in place of what was there, in one step.

    :raises Refused: it cannot be written
    """
    registry = CollectorRegistry()
    registry.register(gauges)
    try:
        replace(path, generate_latest(registry).decode())
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}") from error


def _gauge(name: str, told: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, told, value=value)


def _labelled(
    name: str, told: str, labels: tuple[str, ...], values: Mapping[Any, float]
) -> GaugeMetricFamily:
    """A gauge with labels, sorted by these, so that equal clouds give equal files."""
    family = GaugeMetricFamily(_PREFIX + name, told, labels=labels)
    for key in sorted(values):
        family.add_metric([str(part) for part in key], values[key])
    return family
