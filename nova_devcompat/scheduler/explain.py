# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Says why no host would do, wherever in the scheduler that came out."""

from __future__ import annotations

import dataclasses
from typing import Any

import nova.conf
from oslo_log import log as logging

from nova_devcompat.compat.need import Need
from nova_devcompat.compat.policy import Ruling
from nova_devcompat.compat.ruling import NO_RECORD
from nova_devcompat.compat.verdict import Reason
from nova_devcompat.kit.text import printable
from nova_devcompat.scheduler.lookup import Lookup
from nova_devcompat.stores import events

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

#: How many hosts a line names.
HOSTS_NAMED = 10

# Characters of a reason or a need, at most: a need can have thousands of values.
_LINE_SIZE = 1_000


@dataclasses.dataclass(slots=True)
class Refusals:
    """Hosts that were refused, or would be, the first few with their reasons.

    :param named: the first hosts, each with the reasons
    :param count: how many hosts there are in all
    """

    named: list[tuple[str, tuple[Reason, ...]]] = dataclasses.field(default_factory=list)
    count: int = 0

    def add(self, host: Any, reasons: tuple[Reason, ...]) -> None:
        """Count a host; keep its reasons if there is room.

        :param host: whatever has ``host`` and ``nodename``
        """
        self.count += 1
        if len(self.named) < HOSTS_NAMED:
            self.named.append((name_of(host), reasons))

    @property
    def lines(self) -> list[str]:
        """A line for each host that is named, and one that counts the rest."""
        lines = [f"{host}: {', '.join(map(line, reasons))}" for host, reasons in self.named]
        rest = self.count - len(self.named)
        if rest:
            lines.append(f"and {rest} more")
        return lines

    def __str__(self) -> str:
        return " | ".join(self.lines)


def reasons(ruling: Ruling) -> str:
    """All reasons of a ruling."""
    return "; ".join(map(line, (*ruling.refused, *ruling.reported)))


def line(told: object) -> str:
    """A reason or a need in one line of bounded length, whatever others put into it."""
    return printable(str(told), _LINE_SIZE)


def name_of(host: Any) -> str:
    """``host``, or ``host/node`` where the node has another name."""
    if host.nodename in (None, "", host.host):
        return printable(str(host.host))
    return printable(f"{host.host}/{host.nodename}", _LINE_SIZE)


def describe(found: Lookup) -> str:
    """What a request needs, in a line."""
    parts = []
    record = found.guest.record
    if found.moving and record is NO_RECORD:
        parts.append("of which no need is recorded")
    elif found.moving and isinstance(record, Need):
        needs = "; ".join(map(line, record.devices)) or "nothing of a device or a host"
        parts.append(f"which needs {needs}")
    elif found.moving:
        parts.append("of which it is not known what it needs")
    if found.guest.pins.devices:
        parts.append(f"whose flavor pins {'; '.join(map(line, found.guest.pins.devices))}")
    if found.guest.bad_pins:
        parts.append("whose flavor has pins that cannot be read")
    return " and ".join(parts)


def no_host(context: Any, found: Lookup, refusals: Refusals) -> None:
    """Say that every host was rejected, and why: in the log and to the instance's action."""
    LOG.info(
        "No host accepts the devices of instance %(uuid)s, %(need)s. "
        "%(count)d rejected: %(refusals)s",
        {
            "uuid": found.instance_uuid,
            "need": describe(found),
            "count": refusals.count,
            "refusals": refusals,
        },
    )
    summary = f"no host accepts its devices, {refusals.count} rejected; {describe(found)}"
    events.add_in_cell(
        context,
        found.instance_uuid,
        events.NO_HOST,
        summary=summary,
        lines=[summary, *refusals.lines],
        host=CONF.host,
    )


def reported(found: Lookup, refusals: Refusals, hosts: int, so_far: int) -> None:
    """Say what ``enforce`` would have rejected.

    :param hosts: how many hosts there were
    :param so_far: for how many requests there was something to report since the start
    """
    LOG.info(
        "Report mode: %(count)d of %(hosts)d hosts would be rejected for instance %(uuid)s, "
        "%(need)s (%(so_far)d such requests so far): %(refusals)s",
        {
            "uuid": found.instance_uuid,
            "need": describe(found),
            "count": refusals.count,
            "hosts": hosts,
            "so_far": so_far,
            "refusals": refusals,
        },
    )


def doubts(found: Lookup, *, left: int, of: int) -> None:
    """Say what is not known of a guest that should be, and what followed.

    :param left: how many hosts passed
    :param of: of how many
    """
    for doubt in found.guest.doubts:
        if doubt is not NO_RECORD:
            LOG.warning(
                "What instance %(uuid)s needs is not known; %(left)d of %(of)d hosts will do: "
                "%(reason)s",
                {
                    "uuid": found.instance_uuid,
                    "left": left,
                    "of": of,
                    "reason": line(doubt.reason),
                },
            )
