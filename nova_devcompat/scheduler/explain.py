# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Says why no host would do, wherever in the scheduler that came out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import nova.conf
from oslo_log import log as logging

from nova_devcompat.compat.need import Need
from nova_devcompat.compat.policy import Ruling
from nova_devcompat.compat.ruling import NO_RECORD
from nova_devcompat.compat.verdict import Reason
from nova_devcompat.kit.background import Background
from nova_devcompat.kit.rate import Rate
from nova_devcompat.kit.text import printable
from nova_devcompat.scheduler.lookup import Lookup
from nova_devcompat.stores import events

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

#: How many hosts a line names.
HOSTS_NAMED = 10

#: What is said beside the requests, which wait for none of it. One at a time: a cell or a
#: placement that hangs costs one thread, and once so many wait no more are taken.
WORKER = Background("explanations", most=32)

# How often an explanation is looked up for the boots of one project, in a minute: who may boot may
# do so again and again. To migrate guests is for administrators.
_RATE = Rate(most=5, seconds=60)

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
    #: Digests of catalogs that are not the one here, by host.
    catalogs: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, host: Any, reasons: tuple[Reason, ...], catalog: str = "") -> None:
        """Count a host; keep its reasons if there is room.

        :param host: whatever has ``host`` and ``nodename``
        :param catalog: digest of its catalog where that is not the one here
        """
        self.count += 1
        if len(self.named) < HOSTS_NAMED:
            self.named.append((name_of(host), reasons))
            if catalog:
                self.catalogs[name_of(host)] = catalog

    @property
    def lines(self) -> list[str]:
        """A line for each host that is named, and one that counts the rest."""
        lines = [
            f"{host}{self._catalog(host)}: {', '.join(line(one.of(host)) for one in reasons)}"
            for host, reasons in self.named
        ]
        rest = self.count - len(self.named)
        if rest:
            lines.append(f"and {rest} more")
        return lines

    def _catalog(self, host: str) -> str:
        digest = self.catalogs.get(host)
        return f" (which has another catalog, {digest})" if digest else ""

    def __str__(self) -> str:
        return " | ".join(self.lines)


@dataclasses.dataclass(slots=True)
class Waivers:
    """Hosts that are left because of accepted risks, the first few with these.

    :param named: the first hosts, each with what is let pass
    :param count: how many hosts there are in all
    """

    named: list[tuple[str, list[str]]] = dataclasses.field(default_factory=list)
    count: int = 0

    def add(self, host: Any, ruling: Ruling) -> None:
        """Count a host; keep what is let pass if there is room.

        :param host: whatever has ``host`` and ``nodename``
        """
        self.count += 1
        if len(self.named) < HOSTS_NAMED:
            name = name_of(host)
            why = [f"{line(reason.of(name))}: {line(risk)}" for reason, risk in ruling.waived]
            self.named.append((name, why))

    @property
    def lines(self) -> list[str]:
        """A line for each host that is named and thing let pass, and one that counts the rest."""
        found = [f"{name}: {one}" for name, why in self.named for one in why]
        rest = self.count - len(self.named)
        return [*found, f"and {rest} more"] if rest else found


def reasons(ruling: Ruling) -> str:
    """All reasons of a ruling."""
    return "; ".join(map(line, (*ruling.refused, *ruling.reported)))


def line(value: object) -> str:
    """A reason or a need in one line of bounded length, whatever others put into it."""
    return printable(str(value), _LINE_SIZE)


def name_of(host: Any) -> str:
    """``host``, or ``host/node`` where the node has another name."""
    if host.nodename in (None, "", host.host):
        return printable(str(host.host))
    return printable(f"{host.host}/{host.nodename}", _LINE_SIZE)


def describe(looked_up: Lookup) -> str:
    """What a request needs, in a line."""
    parts = []
    record = looked_up.guest.record
    if looked_up.moving and record is NO_RECORD:
        parts.append("of which no need is recorded")
    elif looked_up.moving and isinstance(record, Need):
        needs = "; ".join(map(line, record.devices)) or "nothing of a device or a host"
        parts.append(f"which needs {needs}")
    elif looked_up.moving:
        parts.append("of which it is not known what it needs")
    if looked_up.guest.pins.devices:
        parts.append(f"whose flavor pins {'; '.join(map(line, looked_up.guest.pins.devices))}")
    if looked_up.guest.bad_pins:
        parts.append("whose flavor has pins that cannot be read")
    return " and ".join(parts)


def later(
    context: Any, looked_up: Lookup, task: Callable[[], None], *, costs: bool = True
) -> None:
    """Say something beside the request. Never raises, and never waits.

    :param task: says it
    :param costs: whether it asks placement or reads hosts, so that its number is bounded for what
        tenants can repeat
    """
    if costs and not looked_up.moving and not _RATE.allows(context.project_id):
        LOG.info(
            "Why no host would do for instance %(uuid)s is not looked up: project %(project)s has "
            "had too many such requests in the last minute",
            {"uuid": looked_up.instance_uuid, "project": printable(str(context.project_id))},
        )
        return

    def run() -> None:
        # So that the lines carry the ID of the request.
        context.update_store()
        try:
            task()
        except Exception:
            LOG.exception("Could not say why no host would do for %s", looked_up.instance_uuid)

    if not WORKER.submit(run):
        LOG.warning(
            "Why no host would do for instance %s is not said: too many requests wait for that",
            looked_up.instance_uuid,
        )


def no_host(context: Any, looked_up: Lookup, refusals: Refusals) -> None:
    """Say that every host was rejected, and why: in the log now, to the instance's action later.

    :param context: of the request
    """
    LOG.info(
        "No host accepts instance %(uuid)s, %(need)s. %(count)d rejected: %(refusals)s",
        {
            "uuid": looked_up.instance_uuid,
            "need": describe(looked_up),
            "count": refusals.count,
            "refusals": refusals,
        },
    )
    summary = f"no host accepts it, {refusals.count} rejected; {describe(looked_up)}"
    add = functools.partial(
        events.add_in_cell,
        context,
        looked_up.instance_uuid,
        events.NO_HOST,
        summary=summary,
        lines=[summary, *refusals.lines],
        host=CONF.host,
    )
    later(context, looked_up, add, costs=False)


def reported(looked_up: Lookup, refusals: Refusals, hosts: int, so_far: int) -> None:
    """Say what ``enforce`` would have rejected.

    :param hosts: how many hosts there were
    :param so_far: for how many requests there was something to report since the start
    """
    LOG.info(
        "Report mode: %(count)d of %(hosts)d hosts would be rejected for instance %(uuid)s, "
        "%(need)s (%(so_far)d such requests so far): %(refusals)s",
        {
            "uuid": looked_up.instance_uuid,
            "need": describe(looked_up),
            "count": refusals.count,
            "hosts": hosts,
            "so_far": so_far,
            "refusals": refusals,
        },
    )


def waived(context: Any, looked_up: Lookup, waivers: Waivers) -> None:
    """Say that hosts are left because of accepted risks: in the log now, to the action later.

    :param context: of the request
    """
    for name, why in waivers.named:
        LOG.info(
            "%(host)s is left for instance %(uuid)s because of accepted risks: %(lines)s",
            {"host": name, "uuid": looked_up.instance_uuid, "lines": "; ".join(why)},
        )
    rest = waivers.count - len(waivers.named)
    if rest:
        LOG.info(
            "%(count)d more hosts are left for instance %(uuid)s because of accepted risks",
            {"count": rest, "uuid": looked_up.instance_uuid},
        )
    names = ", ".join(name for name, _ in waivers.named)
    summary = (
        f"{waivers.count} hosts are left because of accepted risks, such as {names}"
        if waivers.count > 1
        else f"{names} is left because of accepted risks"
    )
    add = functools.partial(
        events.add_in_cell,
        context,
        looked_up.instance_uuid,
        events.RISK,
        summary=summary,
        lines=waivers.lines,
        host=CONF.host,
        result="Success",
    )
    later(context, looked_up, add, costs=False)


def doubts(looked_up: Lookup, *, left: int, of: int) -> None:
    """Say what is not known of a guest that should be, and what followed.

    :param left: how many hosts passed
    :param of: of how many
    """
    for doubt in looked_up.guest.doubts:
        if doubt is not NO_RECORD:
            LOG.warning(
                "What instance %(uuid)s needs is not known; %(left)d of %(of)d hosts will do: "
                "%(reason)s",
                {
                    "uuid": looked_up.instance_uuid,
                    "left": left,
                    "of": of,
                    "reason": line(doubt.reason),
                },
            )
