# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The guests of all cells that few hosts take, by cause, with what to do about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from nova import objects

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.policy import Policies
from nova_devcompat.fleet.assume import Assumptions
from nova_devcompat.fleet.causes import cause_of, name_of, remedy_of
from nova_devcompat.fleet.cloud import Cloud
from nova_devcompat.fleet.counting import listed, shown
from nova_devcompat.fleet.model import Place
from nova_devcompat.fleet.outlook import Finding, Outlook, Standing
from nova_devcompat.fleet.room import Room
from nova_devcompat.kit.progress import Track, untracked
from nova_devcompat.kit.text import near
from nova_devcompat.stores.cells import BadRequest, Refused, brief

#: What is not looked at, for whoever reads an answer.
NOT_JUDGED = (
    "whether hosts are up and enabled",
    "room for CPUs, memory and disk",
    "Nova's other filters",
    "CPU models, storage and networks",
)
FREE_DEVICES = "whether devices are free (--with-room)"


class Row(NamedTuple):
    """Guests that are stranded for the same cause.

    :param standing: nowhere, only here, one other left, unknown
    :param cause: what stands against the hosts that come nearest to taking them
    :param remedy: what to do about it
    :param guests: how many there are
    :param instances: the first few of their UUIDs, each with its host
    """

    standing: str
    cause: str
    remedy: str
    guests: str
    instances: str


class GuestRow(NamedTuple):
    """One guest that is stranded.

    :param instance: its UUID
    :param host: where it runs
    :param standing: nowhere, only here, one other left, unknown
    :param other: the one other host that takes it
    :param cause: what stands against the hosts that come nearest to taking it, of the others
    :param remedy: what to do about it
    """

    instance: str
    host: str
    standing: str
    other: str
    cause: str
    remedy: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Which:
    """Of which guests is asked.

    :param hosts: those on these hosts; None for any
    :param family: those that need something of this family, or that it stands against
    """

    hosts: frozenset[str] | None = None
    family: str | None = None

    def __contains__(self, finding: Finding) -> bool:
        if self.hosts is not None and finding.guest.place.host not in self.hosts:
            return False
        return (
            self.family is None
            or self.family in finding.families
            or any(reason.family == self.family for reason in finding.reasons)
        )


def which(cloud: Cloud, host: str | None, aggregate: str | None, family: str | None) -> Which:
    """What an operator asked for.

    :param host: a host; None for any
    :param aggregate: name or ID of a host aggregate
    :raises BadRequest: there is no such host or aggregate
    :raises Refused: the API database does not answer
    """
    hosts: frozenset[str] | None = None
    if host is not None:
        cloud.cells.select(host=host)
        hosts = frozenset({host})
    if aggregate is not None:
        members = _hosts_of(cloud, aggregate)
        hosts = members if hosts is None else hosts & members
    return Which(hosts=hosts, family=family)


def _hosts_of(cloud: Cloud, name: str) -> frozenset[str]:
    try:
        aggregates = list(objects.AggregateList.get_all(cloud.cells.context))
    except Exception as error:
        raise Refused(f"the API database does not answer: {brief(error)}") from error
    for aggregate in aggregates:
        if name in (aggregate.name, str(aggregate.id)):
            return frozenset(aggregate.hosts)
    names = sorted(aggregate.name for aggregate in aggregates)
    raise BadRequest(f"there is no aggregate {name!r}{near(name, names)}")


def findings(
    cloud: Cloud,
    catalog: Catalog,
    policies: Policies,
    wanted: Which,
    *,
    with_room: bool = False,
    imagined: bool = False,
    assumed: Assumptions | None = None,
    progress: Callable[[str, int, int], None] = lambda cell, hosts, guests: None,
    track: Track = untracked,
) -> Iterator[Finding]:
    """Guests that few hosts of their cell take: nothing is live migrated to another cell.

    :param with_room: whether devices must be free; placement is asked once for each class and
        number of units that guests ask for, in each cell
    :param imagined: whether the catalog is not the one that is decided by
    :param assumed: what hosts are taken to be
    :param progress: told of each cell how many hosts and guests were read
    :param track: follows what is judged
    :raises BadRequest: nothing is known of the family that is asked about; nothing is found then
    :raises Refused: the API database does not answer
    :raises ValueError: a host publishes nothing that is assumed of it
    """
    # Not those of the catalog alone: hosts and guests can have others.
    families = set(catalog.families)
    for cell in cloud.cells.select():
        outlook = Outlook(catalog, policies, imagined=imagined)
        outlook.read(cloud.survey(cell))
        for place, why in outlook.unreadable:
            if assumed is None or place.host not in assumed:
                cloud.cells.pass_over(
                    "What host %s published cannot be read: %s",
                    name_of(place),
                    shown(why),
                )
        if assumed is not None:
            outlook.assume(assumed, cloud.published)
        progress(str(cell.name or cell.uuid), outlook.hosts, outlook.guests)
        room = None
        if with_room and any(outlook.asks):
            room = Room.ask(cloud.placement, outlook.asks)
            if room is None:
                cloud.cells.pass_over("Placement does not tell which devices are free")
        if wanted.family is not None and wanted.family not in families:
            families |= outlook.families
        yield from (one for one in outlook.findings(room, track) if one in wanted)
    if wanted.family is not None and wanted.family not in families:
        # Not an empty answer, which would say that all is well.
        raise BadRequest(
            f"nothing is known of a family {wanted.family!r}; families: "
            f"{listed(sorted(families))}{near(wanted.family, families)}"
        )


def by_cause(found: Iterable[Finding]) -> Iterator[Row]:
    """Rows for causes, the worst first, and of these those that concern most guests."""
    groups: dict[tuple[Standing, str, str], list[Finding]] = {}
    # Guests of a kind have one object of reasons, which lives as long as what is found.
    told: dict[tuple[int, tuple[Place, ...]], tuple[str, str]] = {}
    for one in found:
        about = id(one.reasons), one.nearest
        if about not in told:
            told[about] = cause_of(one), remedy_of(one)
        groups.setdefault((one.standing, *told[about]), []).append(one)
    order = list(Standing)
    ranked = sorted(groups.items(), key=lambda item: (order.index(item[0][0]), -len(item[1])))
    for (standing, cause, remedy), guests in ranked:
        yield Row(standing, cause, remedy, str(len(guests)), listed(guests, name=_name_of))


def by_guest(found: Iterable[Finding]) -> Iterator[GuestRow]:
    """A row for each guest, as they are found."""
    for one in found:
        yield GuestRow(
            instance=one.guest.uuid,
            host=one.guest.place.host,
            standing=one.standing,
            other=name_of(one.other) if one.other else "",
            cause=cause_of(one),
            remedy=remedy_of(one),
        )


def _name_of(finding: Finding) -> str:
    return f"{finding.guest.uuid} on {name_of(finding.guest.place)}"
