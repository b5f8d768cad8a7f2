# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What must hold once a cloud has settled, of what it says and of what its hardware remembers."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

from rigs.chaos import model
from rigs.chaos.model import Flavor, Need, State, Versions

#: What only nova-devcompat can be to blame for, whatever else went wrong.
OURS = ("unfit", "refusal", "record", "trait")
#: What stock Nova leaves behind too where a service was interrupted.
NOVAS = ("in-error", "stuck", "lost", "allocation", "claim", "unclaimed")
#: Of a server: it has no host, and holds nothing.
OFFLOADED = "SHELVED_OFFLOADED"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is not as it should be.

    :ivar kind: one of :data:`OURS` or :data:`NOVAS`
    :ivar guest: UUID of the guest or migration, or name of the host, that it is about
    """

    kind: str
    guest: str
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """A server as Nova has it.

    :ivar status: as the API says it, such as ``ACTIVE``
    :ivar task: what is being done to it, '' for nothing
    :ivar host: '' for none
    """

    status: str
    task: str
    host: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Migration:
    """A live migration, cold migration or resize as Nova has it."""

    uuid: str
    server: str
    kind: str
    status: str
    source: str
    destination: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Running:
    """A guest as the pretended hardware has it."""

    host: str
    states: Sequence[State]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a cloud says at one moment.

    :ivar servers: by UUID
    :ivar migrations: those of a cell together, the oldest first
    :ivar running: guests of the hardware, by UUID
    :ivar allocations: amounts by resource class, by provider, by consumer
    :ivar claims: how many virtual functions hosts keep for servers, by host and server
    :ivar records: what is recorded of servers' needs, by UUID
    :ivar problems: what is said to be wrong with records, by UUID
    :ivar traits: without the prefix, by host
    :ivar known: all traits that there are under the prefix
    :ivar building: servers that have no cell yet
    """

    servers: Mapping[str, Server]
    migrations: Sequence[Migration]
    running: Mapping[str, Running]
    allocations: Mapping[str, Mapping[str, Mapping[str, int]]]
    claims: Mapping[tuple[str, str], int]
    records: Mapping[str, Need] = dataclasses.field(default_factory=dict)
    problems: Mapping[str, str] = dataclasses.field(default_factory=dict)
    traits: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)
    known: Collection[str] = ()
    building: Collection[str] = ()


@dataclasses.dataclass(kw_only=True)
class Guest:
    """What the model knows of a guest.

    :ivar flavor: that it has, or will have if its resize is confirmed
    :ivar before: flavor and host from before a resize that is neither confirmed nor reverted
    """

    uuid: str
    flavor: Flavor
    before: tuple[Flavor, str] | None = None
    #: What Nova's request for it asks for beside: a revert leaves there what the resize asked for
    #: (nova/compute/api.py, revert_resize), and the next move has it allocated.
    left: Flavor | None = None

    def holds(self, host: str) -> list[dict[str, dict[str, int]]]:
        """What it may hold on a host: what it should, and what Nova makes of that by itself."""
        should = self.flavor.holds(host)
        if self.left is None:
            return [should]
        also = self.left.holds(host)
        functions = model.PROVIDERS["CUSTOM_VF"].format(host)
        held = {name: one for name, one in should.items() if name != functions}
        return [should, held | {name: one for name, one in also.items() if name == functions}]


def check(
    snapshot: Snapshot,
    guests: Mapping[str, Guest],
    versions: Mapping[str, Versions],
    *,
    stock: bool = False,
) -> list[Finding]:
    """All that is not as it should be in a cloud that has settled.

    :param guests: all that there should be, by UUID
    :param versions: what hosts' devices have now, by host
    :param stock: it runs without nova-devcompat: nobody publishes or records
    """
    found = [*_states(snapshot, guests), *_held(snapshot, guests), *_claims(snapshot, guests)]
    if not stock:
        found += [*_records(snapshot, guests), *_traits(snapshot, versions)]
    return found


def _states(snapshot: Snapshot, guests: Mapping[str, Guest]) -> Iterator[Finding]:
    for uuid in guests:
        server, running = snapshot.servers.get(uuid), snapshot.running.get(uuid)
        if server is None:
            yield Finding(kind="lost", guest=uuid, text="Nova does not know it any more")
        elif server.status == "ERROR":
            yield Finding(kind="in-error", guest=uuid, text="it is in ERROR")
        elif server.task or uuid in snapshot.building:
            yield Finding(kind="stuck", guest=uuid, text=f"{server.task or 'building'} for ever")
        elif server.status == OFFLOADED:
            if running is not None:
                text = f"shelved, and it runs on {running.host}"
                yield Finding(kind="lost", guest=uuid, text=text)
        elif running is None or running.host != server.host:
            where = running.host if running else "nowhere"
            text = f"Nova has it on {server.host}, the hardware {where}"
            yield Finding(kind="lost", guest=uuid, text=text)
        else:
            yield from _devices(uuid, guests[uuid].flavor, running)
    for uuid in snapshot.running.keys() - guests.keys():
        text = f"it runs on {snapshot.running[uuid].host}, and nobody wants it"
        yield Finding(kind="lost", guest=uuid, text=text)


def _devices(uuid: str, flavor: Flavor, running: Running) -> Iterator[Finding]:
    functions = sum("fw_version" in state for state in running.states)
    vgpus = len(running.states) - functions
    if (functions, vgpus) != (flavor.vfs, flavor.vgpus):
        text = f"{flavor.name} on {running.host} has {functions} functions and {vgpus} vGPUs"
        yield Finding(kind="lost", guest=uuid, text=text)


def _held(snapshot: Snapshot, guests: Mapping[str, Guest]) -> Iterator[Finding]:
    wanted: dict[str, list[dict[str, dict[str, int]]]] = {}
    for uuid, guest in guests.items():
        server = snapshot.servers.get(uuid)
        if server is not None and server.host and server.status != OFFLOADED:
            wanted[uuid] = guest.holds(server.host)
            if server.status == "VERIFY_RESIZE" and guest.before is not None:
                flavor, host = guest.before
                earlier = dataclasses.replace(guest, flavor=flavor)
                wanted[_last_migration(snapshot, uuid)] = earlier.holds(host)
    for consumer in sorted(wanted.keys() | snapshot.allocations.keys()):
        should = wanted.get(consumer, [{}])
        holds = _plain(snapshot, consumer)
        if holds not in should:
            text = f"it holds {holds or 'nothing'}, and should {should[0] or 'nothing'}"
            yield Finding(kind="allocation", guest=_owner(snapshot, consumer), text=text)


def _last_migration(snapshot: Snapshot, server: str) -> str:
    return [one.uuid for one in snapshot.migrations if one.server == server][-1]


def _owner(snapshot: Snapshot, consumer: str) -> str:
    """The server of a migration, or what it is by itself."""
    servers = {one.uuid: one.server for one in snapshot.migrations}
    return servers.get(consumer, consumer)


def _claims(snapshot: Snapshot, guests: Mapping[str, Guest]) -> Iterator[Finding]:
    wanted: collections.Counter[tuple[str, str]] = collections.Counter()
    for uuid, guest in guests.items():
        server = snapshot.servers.get(uuid)
        if server is None or not server.host or server.status == OFFLOADED:
            continue
        wanted[server.host, uuid] = guest.flavor.vfs
        if server.status == "VERIFY_RESIZE" and guest.before is not None:
            flavor, host = guest.before
            wanted[host, uuid] = flavor.vfs
    for host, uuid in sorted(wanted.keys() | snapshot.claims.keys()):
        kept, should = snapshot.claims.get((host, uuid), 0), wanted[host, uuid]
        if kept != should:
            text = f"{host} keeps {kept} functions for it, and should {should}"
            kind = "claim" if kept > should else "unclaimed"
            yield Finding(kind=kind, guest=uuid, text=text)


def _records(snapshot: Snapshot, guests: Mapping[str, Guest]) -> Iterator[Finding]:
    for uuid in guests:
        running, server = snapshot.running.get(uuid), snapshot.servers.get(uuid)
        if running is None or server is None or server.status == "ERROR":
            continue
        if snapshot.claims.get((running.host, uuid), 0) != guests[uuid].flavor.vfs:
            # What Nova has lost is found as a claim; a record is of what Nova says that it has.
            continue
        if guests[uuid].left and guests[uuid].flavor.holds(running.host) != _plain(snapshot, uuid):
            # So it is with functions that are allocated to it and that it has not been given.
            continue
        recorded, should = snapshot.records.get(uuid, {}), model.need_of(running.states)
        if recorded != should:
            text = f"on {running.host}: {recorded or 'nothing'} is recorded, and it needs {should}"
            yield Finding(kind="record", guest=uuid, text=text)
        elif problem := snapshot.problems.get(uuid):
            yield Finding(kind="record", guest=uuid, text=f"of its record is said: {problem}")


def _plain(snapshot: Snapshot, uuid: str) -> dict[str, dict[str, int]]:
    return {name: dict(one) for name, one in snapshot.allocations.get(uuid, {}).items()}


def _traits(snapshot: Snapshot, versions: Mapping[str, Versions]) -> Iterator[Finding]:
    known = set(snapshot.known).union(*(one.own() for one in versions.values()))
    for host, offered in versions.items():
        has, should = set(snapshot.traits.get(host, ())), offered.accepted(known)
        if has != should:
            lacks, beyond = sorted(should - has), sorted(has - should)
            text = f"it lacks {lacks}, and has {beyond} beyond what it accepts"
            yield Finding(kind="trait", guest=host, text=text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """An operation that places a guest, before it is begun.

    :ivar guest: UUID, '' for one that is booted
    :ivar live: the guest takes its devices' states with it
    :ivar current: the host that it is on, '' for none
    :ivar named: the host that it shall go to, '' for any
    """

    guest: str
    flavor: Flavor
    live: bool
    current: str
    named: str


def hosts_for(
    asked: Asked,
    snapshot: Snapshot,
    versions: Mapping[str, Versions],
    cells: Mapping[str, str],
    others: Sequence[Asked],
) -> list[str]:
    """Hosts that would certainly do: they fit, and have room whatever the others come to hold.

    :param snapshot: from before
    :param versions: that hosts have, and have published
    :param cells: by host
    :param others: operations of the same moment
    """
    coming = [(one, _may_come_to(one, snapshot, versions, cells)) for one in others]
    held = list(snapshot.allocations.values())
    held += [one.flavor.holds(host) for one, hosts in coming for host in hosts]
    return [
        host
        for host in _may_come_to(asked, snapshot, versions, cells)
        if model.has_room(asked.flavor, host, held)
    ]


def _may_come_to(
    asked: Asked,
    snapshot: Snapshot,
    versions: Mapping[str, Versions],
    cells: Mapping[str, str],
) -> list[str]:
    """Hosts that would do, had they room."""
    running = snapshot.running.get(asked.guest)
    states = running.states if running and asked.live else ()
    return [
        host
        for host, cell in cells.items()
        if asked.named in ("", host)
        and host != asked.current
        and (not asked.current or cell == cells[asked.current])
        and model.fits(states, [versions[host]])
    ]


def unfit(
    before: Running | None, after: Server, had: Mapping[str, Collection[Versions]], guest: str
) -> list[Finding]:
    """Whether a live migration brought a guest to where it does not fit.

    :param before: the guest before
    :param had: the versions that hosts had meanwhile
    """
    if before is None or after.host == before.host or after.host not in had:
        return []
    if model.fits(before.states, had[after.host]):
        return []
    states = [dict(state) for state in before.states]
    text = f"it went to {after.host}, which does not take {states}: {list(had[after.host])}"
    return [Finding(kind="unfit", guest=guest, text=text)]
