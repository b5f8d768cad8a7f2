# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Why a guest can be moved to a host or not, for each host of the cloud. Nothing is moved."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from keystoneauth1 import exceptions as ks_exc

from nova_devcompat import wire
from nova_devcompat.compat import traits
from nova_devcompat.compat.ruling import Doubt
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Reason
from nova_devcompat.compute import departures
from nova_devcompat.fleet.answers import Answer, Says
from nova_devcompat.fleet.destinations import Destination, Destinations
from nova_devcompat.fleet.foretold import Foretold
from nova_devcompat.fleet.model import Place
from nova_devcompat.scheduler import preview
from nova_devcompat.scheduler.beside import Nova, Objection
from nova_devcompat.scheduler.state import SchedulerState
from nova_devcompat.scheduler.watch import NOT_PUBLISHED
from nova_devcompat.stores.cells import (
    BadRequest,
    Refused,
    brief,
    label_of,
)

LOG = logging.getLogger(__name__)


_ROOM_NOT_TOLD = Objection("not-judged", "whether placement has room")


class _Seen(NamedTuple):
    """What stands for a compute node."""

    host: str
    stats: Mapping[str, str]


class Explain:
    """Asks all lines of defence, and Nova, about one guest.

    :param destinations: the hosts that can be asked about
    :param state: what nova-scheduler would decide by
    :param instance: the guest's, with :data:`nova_devcompat.scheduler.preview.ATTRIBUTES`
    :param cell: the one that it is in
    :raises BadRequest: it is on no host
    :raises Refused: its request cannot be made
    """

    def __init__(
        self, destinations: Destinations, state: SchedulerState, instance: Any, cell: Any
    ) -> None:
        self._destinations = destinations
        self._cells = destinations.cells
        self._state = state
        self._instance, self._cell = instance, cell
        if not instance.host:
            raise BadRequest(f"instance {instance.uuid} is on no host")
        #: The request that a live migration of it would be.
        self.spec: Any
        try:
            # Its own context, which is that of its cell.
            self.spec = preview.request_of(
                instance._context, instance, cell, self._cells.pass_over
            )
            #: Other instances that it is about, by host.
            self.neighbours = preview.neighbours(instance._context, self.spec)
        except Exception as error:
            raise Refused(f"the request cannot be made: {brief(error)}") from error
        self._preview = preview.Preview(state, instance, self.spec)
        #: What stands against moving the guest anywhere, of Nova itself.
        self.against_guest: tuple[Objection, ...] = ()
        #: What was not judged, each in a few words.
        self.not_judged: list[str] = []
        #: What placement said of room; None where it did not, or was not asked yet.
        self.room: preview.Room | None = None

    def answers(self, hosts: Sequence[str] = ()) -> list[Answer]:
        """Each host but the guest's own: those that take it first, then the nearest miss.

        :param hosts: only these
        :raises BadRequest: there is no such host, or it is the guest's own
        :raises Refused: the API database does not answer
        """
        wanted = list(dict.fromkeys(hosts))
        cells = {label_of(cell): cell for cell in self._cells_of(wanted)}
        return self.judge(self._destinations.of(cells.values(), wanted))

    def judge(self, hosts: Iterable[Destination]) -> list[Answer]:
        """The same of hosts that were read; the guest's own is left out."""
        room = self.room = self._room()
        nova = Nova(self.spec, self.neighbours)
        source = self._destinations.node(self._cell, self._instance.host, self._instance.node)
        against = [*nova.against_guest(self._instance, None if source is None else source.service)]
        source_node = None if source is None else source.node
        said: wire.HostDocument | Reason | None = None
        if source_node is not None:
            said = self._state.document_of(source_node)
            against += nova.against_versions(source_node, said, prefix="source-")
            against += nova.against_post_copy(self._instance, said)
        self.against_guest = tuple(against)
        foretold = Foretold(self._state, self._preview.looked_up, self._doubt_there())
        answers = [
            self._answer(one, source_node, room, nova, foretold)
            for one in self._destinations.track(hosts, "Hosts asked", self._destinations.count)
            if one.node.host != self._instance.host
        ]
        self._say_what_was_not_judged(nova, said, room)
        return sorted(self._with_prefilter(answers), key=lambda answer: answer.order)

    # --- what is read ----------------------------------------------------------------------------

    def _cells_of(self, hosts: Sequence[str]) -> Iterator[Any]:
        if not hosts:
            yield from self._cells.select()
        for host in hosts:
            if host == self._instance.host:
                raise BadRequest(f"the server is on {host} already")
            yield from self._cells.select(host=host)

    def _room(self) -> preview.Room | None:
        client = self._destinations.candidates
        if client is None:
            return None
        context = self._instance._context
        try:
            room = preview.room_for(context, client, self.spec, self._destinations.count)
        except ks_exc.ClientException as error:
            LOG.debug("Placement does not answer: %s", error)
            room = None
        if room is None:
            self._cells.pass_over("Placement does not tell which hosts have room")
        return room

    def _doubt_there(self) -> Doubt | None:
        """What the destination finds in place of the guest's record."""
        try:
            return departures.doubt_of(self._instance._context, self._instance)
        except Exception as error:  # noqa: BLE001 - whatever Nova's databases raise
            self._cells.pass_over(
                "Whether the guest's record is still of it is left out: %s", brief(error)
            )
            return None

    # --- what is made of it ----------------------------------------------------------------------

    def _answer(
        self,
        one: Destination,
        source: Any,
        room: preview.Room | None,
        nova: Nova,
        foretold: Foretold,
    ) -> Answer:
        node, service, cell = one
        seen, accepted = self._as_it_would_be(node)
        candidates = room.candidates.get(node.uuid, []) if room is not None else []
        judged = self._preview.judge(seen, candidates)
        passes = judged.candidates != []
        word = foretold.of(seen, judged, candidates)
        objections = list(nova.against_service(service))
        if cell.uuid != self._cell.uuid:
            objections.append(Objection("another-cell", label_of(cell)))
        objections += nova.against_hypervisor(node, source)
        objections += nova.against_versions(node, self._state.document_of(seen))
        if candidates and service is not None:
            objections += nova.against_host(
                node,
                service,
                self._destinations.aggregates.get(node.host, ()),
                judged.candidates or candidates,
            )
        elif room is not None and not any(one.code == "disabled" for one in objections):
            objections += _without_room(node, room)
        elif room is None:
            objections.append(_ROOM_NOT_TOLD)
        return Answer(
            place=Place(node.host, node.hypervisor_hostname),
            uuid=node.uuid,
            cell=label_of(cell),
            filter=Says.ACCEPT if passes else Says.REJECT,
            admission=word.says,
            refused=word.refused if passes else judged.ruling.refused,
            untold=word.untold,
            reported=judged.ruling.reported,
            nova=tuple(objections),
            accepted=accepted,
            candidates=tuple(candidates if judged.candidates is None else judged.candidates),
        )

    def _as_it_would_be(self, node: Any) -> tuple[preview.Node, frozenset[Atom] | None]:
        """A host, with what it would publish if something is assumed of it.

        :returns: and what it would have traits for; None where placement can be asked
        """
        assumed = self._destinations.assumed
        if assumed is None or node.host not in assumed:
            return node, None
        atoms = self._preview.atoms
        document = assumed.document(node.host, self._state.document_of(node), atoms)
        text = wire.fit_stats(document, sorted(atoms)).text
        accepts = (part.accepts for part in (*document.devices, *document.host))
        return _Seen(node.host, {wire.STATS_KEY: text}), frozenset(
            atom for one in accepts for atom in one.atoms
        )

    def _with_prefilter(self, answers: Sequence[Answer]) -> Iterator[Answer]:
        names = self._preview.traits()
        if not names:
            yield from answers
            return
        having = self._destinations.having(names)
        if having is None:
            self._cells.pass_over("Placement does not tell which hosts have our traits")
            yield from (dataclasses.replace(one, prefilter=Says.UNKNOWN) for one in answers)
            return
        for answer in answers:
            lacks = [name for name in sorted(names) if not _has(answer, name, having)]
            if not lacks:
                yield dataclasses.replace(answer, prefilter=Says.ACCEPT)
                continue
            refused = answer.refused or tuple(map(_not_published, lacks))
            yield dataclasses.replace(answer, prefilter=Says.REJECT, refused=refused)

    def _say_what_was_not_judged(
        self, nova: Nova, said: wire.HostDocument | Reason | None, room: preview.Room | None
    ) -> None:
        self.not_judged = [*nova.untold(said), *(f"filter {name}" for name in nova.left_out)]
        if not nova.has_ours:
            self.not_judged.append(
                "that DeviceCompatFilter is not among the enabled_filters of the configuration "
                "that was read, so name nova-scheduler's with --config-file if it is there"
            )
        if room is not None and not room.whole:
            self._cells.pass_over(
                "Placement has more allocation candidates than it was asked for, so it is not "
                "known of all hosts whether they have room"
            )


def _has(answer: Answer, name: str, having: Mapping[str, frozenset[str]]) -> bool:
    """Whether a host has a trait, or would have."""
    if answer.accepted is not None:
        return traits.decode(name) in answer.accepted
    return answer.uuid in having[name]


def _without_room(node: Any, room: preview.Room) -> Iterator[Objection]:
    if node.uuid in room.left_out:
        yield Objection("left-out", "it lacks a trait or an aggregate that Nova asks for")
    elif node.uuid in room.without_device:
        yield Objection("no-free-device", "placement has no free device there for the guest")
    elif room.whole:
        yield Objection("no-room", "placement has no room there for the guest")
    else:
        yield _ROOM_NOT_TOLD


def _not_published(name: str) -> Reason:
    atom = traits.decode(name)
    if atom is None:
        return NOT_PUBLISHED
    return dataclasses.replace(
        NOT_PUBLISHED, family=atom.family, attribute=atom.attribute, needed=atom.value
    )
