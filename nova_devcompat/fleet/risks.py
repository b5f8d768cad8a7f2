# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Accepting risks, listing and revoking them, on a controller."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator
from typing import Any, NamedTuple

from nova import exception
from oslo_log import log as logging

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.risks import UNKNOWN
from nova_devcompat.kit.problems import DocumentError
from nova_devcompat.kit.text import near
from nova_devcompat.stores import risk_writer, risks, writer
from nova_devcompat.stores.cells import BadRequest, Cells, Refused, instances
from nova_devcompat.wire.risks import AcceptedRisk, RiskTooLong, load_risks

LOG = logging.getLogger(__name__)

_ATTRIBUTES = ("system_metadata",)


class Row(NamedTuple):
    """An accepted risk.

    :param name: of an entry of a known-bad list, or ``<family>:unknown``
    :param server: UUID of the guest that it is of, '' for a host's
    :param host: the host that it is of; of a guest's, the host that it leaves, '' for any
    :param until: when it ends, in UTC
    :param state: ``holds``, ``ended``, or ``used``: the guest has left the host
    :param who: accepted it
    :param accepted: when, in UTC
    :param reason: why
    """

    name: str
    server: str
    host: str
    until: str
    state: str
    who: str
    accepted: str
    reason: str


def check_name(name: str, catalog: Catalog) -> None:
    """See that a risk can be accepted: it is named, and there is such a thing.

    :raises BadRequest: it cannot
    """
    entries = {
        entry.name
        for family in catalog.families.values()
        for entry in family.family.known_bad.entries
    }
    known = sorted(entries) + [f"{family}{UNKNOWN}" for family in catalog.families]
    if name not in known:
        raise BadRequest(
            f"{name!r} can be accepted by nobody: it is neither an entry of a known-bad list nor "
            f"FAMILY{UNKNOWN}; there are: {', '.join(known) or 'none'}{near(name, known)}"
        )


def check_until(until: datetime.datetime, now: datetime.datetime, days: int) -> datetime.datetime:
    """The end of a risk.

    :param days: how far ahead it may be
    :raises BadRequest: it has passed, or is too far ahead
    """
    if until <= now:
        raise BadRequest(f"{until:%Y-%m-%d %H:%M} UTC has passed; it is {now:%Y-%m-%d %H:%M} UTC")
    # Not the day so many days ahead: an option may have any number, and the calendar ends.
    if (until - now) / datetime.timedelta(days=1) > days:
        raise BadRequest(
            f"{until:%Y-%m-%d %H:%M} UTC is more than {days} days ahead, what [devcompat] "
            "accepted_risk_days allows"
        )
    return until


class Risks:
    """The accepted risks of a cloud.

    :param cells: all cells of the cloud
    :param path: the file of those of hosts
    """

    def __init__(self, cells: Cells, path: str) -> None:
        self._cells = cells
        self._path = path

    def accept_of_server(self, uuid: str, risk: AcceptedRisk, *, once: bool) -> Row:
        """Accept a risk of one guest.

        :param once: whether it is for one move: it ends when the guest leaves its host
        :raises BadRequest: there is no such instance, it has no host to leave, or too many words
        :raises Refused: it cannot be kept now
        """
        instance = self._instance(uuid)
        if once and not instance.host:
            raise BadRequest(f"instance {uuid} is on no host, so it has none to leave")
        risk = dataclasses.replace(risk, host=instance.host if once else "")
        try:
            risk_writer.write(uuid, lambda: self._instance(uuid), risk)
        except RiskTooLong as error:
            raise BadRequest(str(error)) from error
        except (writer.NotKept, exception.InstanceNotFound) as error:
            raise Refused(str(error)) from error
        LOG.info("Risk accepted for instance %s: %s", uuid, risk.risk)
        return _row(risk, uuid, instance.host or "")

    def accept_of_host(self, host: str, risk: AcceptedRisk) -> Row:
        """Accept a risk of one host, whatever guest it takes.

        :raises BadRequest: no cell has such a host, or the file is wrong
        :raises Refused: the file cannot be written
        """
        self._cells.select(host=host)
        risk = dataclasses.replace(risk, host=host)
        others = [
            one for one in self._of_hosts() if (one.host, one.name) != (risk.host, risk.name)
        ]
        self._write([*others, risk])
        LOG.info("Risk accepted for host %s: %s", host, risk.risk)
        return _row(risk, "", "")

    def revoke(self, name: str, *, server: str | None, host: str | None) -> Row:
        """Take a risk away, in force or not.

        :param server: UUID of the guest that it is of; None for a host's
        :param host: that it is of
        :raises BadRequest: there is no such risk
        :raises Refused: it cannot be taken away now
        """
        if server is not None:
            instance = self._instance(server)
            found = next(
                (one for one in load_risks(instance.system_metadata) if one.name == name), None
            )
            try:
                removed = risk_writer.remove(server, lambda: self._instance(server), name)
            except (writer.NotKept, exception.InstanceNotFound) as error:
                raise Refused(str(error)) from error
            if not removed or found is None:
                raise BadRequest(f"no risk {name!r} is accepted for instance {server}")
            LOG.info("Risk revoked for instance %s: %s", server, found.risk)
            return _row(found, server, instance.host or "")
        accepted = self._of_hosts()
        of_host = [one for one in accepted if (one.host, one.name) == (host, name)]
        if not of_host:
            raise BadRequest(f"no risk {name!r} is accepted for host {host} in {self._path}")
        self._write([one for one in accepted if one not in of_host])
        LOG.info("Risk revoked for host %s: %s", host, of_host[0].risk)
        return _row(of_host[0], "", "")

    def listed(self, *, ended: bool) -> Iterator[Row]:
        """All accepted risks, those of hosts first.

        :param ended: whether those are listed, too, that do not hold any more
        """
        rows = [_row(one, "", "") for one in self._of_hosts()]

        def of_instances(context: Any) -> Iterator[Row]:
            for instance in instances(context, {}, _ATTRIBUTES):
                for one in load_risks(instance.system_metadata):
                    yield _row(one, instance.uuid, instance.host or "")

        rows_of_guests = self._cells.each(self._cells.select(), of_instances)
        for row in (*rows, *rows_of_guests):
            if ended or row.state == "holds":
                yield row

    def _instance(self, uuid: str) -> Any:
        return self._cells.instance(uuid, _ATTRIBUTES)[0]

    def _of_hosts(self) -> list[AcceptedRisk]:
        try:
            return risks.read_file(self._path)
        except DocumentError as error:
            raise BadRequest(str(error)) from error

    def _write(self, accepted: list[AcceptedRisk]) -> None:
        try:
            risks.write_file(self._path, accepted)
        except DocumentError as error:
            raise BadRequest(error.told) from error
        except OSError as error:
            raise Refused(f"{self._path} cannot be written: {error.strerror}") from error


def _row(risk: AcceptedRisk, server: str, at: str) -> Row:
    state = "holds"
    if not risk.holds(risks.now()):
        state = "ended"
    elif server and risk.host and risk.host != at:
        state = "used"
    return Row(
        name=risk.name,
        server=server,
        host=risk.host,
        until=f"{risk.until:%Y-%m-%d %H:%M}",
        state=state,
        who=risk.who,
        accepted=f"{risk.accepted:%Y-%m-%d %H:%M}",
        reason=risk.reason,
    )
