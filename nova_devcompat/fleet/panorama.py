# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The picture of a whole cloud, with what could not be asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from nova import objects

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.policy import Policies
from nova_devcompat.fleet.census import FREE_DEVICES, NOT_JUDGED
from nova_devcompat.fleet.cloud import Cloud
from nova_devcompat.fleet.outlook import Outlook
from nova_devcompat.fleet.overview import Overview
from nova_devcompat.fleet.room import Room
from nova_devcompat.stores.cells import Refused, brief, label_of


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Panorama:
    """What was seen.

    :param overview: the picture
    :param aggregates: names of hosts by name of host aggregate
    :param incomplete: what could not be asked, each in a line
    :param not_judged: what was not looked at
    """

    overview: Overview
    aggregates: Mapping[str, frozenset[str]]
    incomplete: Sequence[str]
    not_judged: Sequence[str]


def of(
    cloud: Cloud,
    catalog: Catalog,
    policies: Policies,
    *,
    with_room: bool = False,
    imagined: bool = False,
    progress: Callable[[str, int, int], None] = lambda cell, hosts, guests: None,
) -> Panorama:
    """All cells. What cannot be asked is left out, and that is said.

    :param with_room: whether devices must be free for a guest not to be stranded; placement is
        asked once for each class and number of units that guests ask for, in each cell
    :param imagined: whether the catalog is not the one that is decided by
    :param progress: told of each cell how many hosts and guests were read
    :raises Refused: the API database does not answer
    """
    overview = Overview()
    incomplete: list[str] = []
    for cell in cloud.cells.select():
        before, cloud.cells.incomplete = cloud.cells.incomplete, False
        outlook = Outlook(catalog, policies, imagined=imagined)
        outlook.read(cloud.survey(cell))
        if cloud.cells.incomplete:
            incomplete.append(f"of cell {label_of(cell)} not all hosts and guests could be read")
        cloud.cells.incomplete |= before
        progress(label_of(cell), outlook.hosts, outlook.guests)
        room = _room(cloud, outlook, incomplete) if with_room and any(outlook.asks) else None
        overview.add(label_of(cell), outlook, room)
    return Panorama(
        overview=overview,
        aggregates=_aggregates(cloud, incomplete),
        incomplete=incomplete,
        not_judged=NOT_JUDGED + (() if with_room else (FREE_DEVICES,)),
    )


def _room(cloud: Cloud, outlook: Outlook, incomplete: list[str]) -> Room | None:
    try:
        room = Room.ask(cloud.placement, outlook.asks)
    except Refused as error:
        cloud.cells.pass_over("Which devices are free is not known: %s", error)
        room = None
    else:
        if room is None:
            cloud.cells.pass_over("Placement does not tell which devices are free")
    if room is None:
        incomplete.append("placement does not tell which devices are free, so all count as free")
    return room


def _aggregates(cloud: Cloud, incomplete: list[str]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    try:
        for one in objects.AggregateList.get_all(cloud.cells.context):
            # Names need not be unique.
            found[one.name] = found.get(one.name, frozenset()) | frozenset(one.hosts)
    except Exception as error:  # noqa: BLE001 - whatever the database layer raises
        cloud.cells.pass_over("Aggregates are left out: %s", brief(error))
        incomplete.append("host aggregates could not be read")
    return found
