# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Accepted risks as they are kept with an instance: one entry of ``system_metadata`` each."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Iterable, Mapping

from nova_devcompat.compat.risks import Risk
from nova_devcompat.kit.text import printable
from nova_devcompat.wire import checks
from nova_devcompat.wire.checks import Malformed
from nova_devcompat.wire.stats import dumps

RISK_VERSION = 1

#: What the keys of accepted risks begin with; their names follow.
RISK_PREFIX = "devcompat:risk:"

# A value of system_metadata has 255 characters, of which this much is for words.
_LIMIT = 255
_WHO, _WHY = 32, 110
# Characters of what logs say of a risk, at most.
_TOLD = 1_000
_TIME = "%Y-%m-%dT%H:%MZ"


class RiskTooLong(ValueError):
    """A risk that does not fit into the database."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AcceptedRisk:
    """A risk that somebody has accepted.

    :param name: of an entry of a known-bad list, or ``<family>:unknown``
    :param until: when it ends, in UTC
    :param who: accepted it
    :param reason: why
    :param accepted: when, in UTC
    :param host: of a guest's risk: it holds only while the guest is on this host, so for one move;
        '' for any number of moves. Of a host's: the host that takes guests
    """

    name: str
    until: datetime.datetime
    who: str
    reason: str
    accepted: datetime.datetime
    host: str = ""

    def holds(self, now: datetime.datetime) -> bool:
        """Whether it has not ended."""
        return now < self.until

    @property
    def risk(self) -> Risk:
        """As rulings take it."""
        until = f"{self.until:%Y-%m-%d %H:%M} UTC"
        # Of a host's, which a file has, the words are of any length and in any number of lines.
        told = printable(f"accepted by {self.who} until {until}: {self.reason.strip()}", _TOLD)
        return Risk(name=self.name, told=told)


def dump_risk(risk: AcceptedRisk) -> tuple[str, str]:
    """The key and the value of ``system_metadata`` that keep a risk.

    :raises RiskTooLong: its words do not fit
    """
    content = {
        "v": RISK_VERSION,
        "u": risk.until.strftime(_TIME),
        "a": risk.accepted.strftime(_TIME),
        "w": printable(risk.who, _WHO),
        "r": printable(risk.reason, _WHY),
    }
    if risk.host:
        content["h"] = risk.host
    text = dumps(content)
    if len(text) > _LIMIT:
        raise RiskTooLong(
            f"risk {risk.name} takes {len(text)} characters, {_LIMIT} are allowed; give a "
            "shorter reason, in ASCII"
        )
    return f"{RISK_PREFIX}{risk.name}", text


def load_risks(system_metadata: Mapping[str, str]) -> list[AcceptedRisk]:
    """The risks that are kept with an instance; what cannot be read lets nothing pass."""
    found = []
    for key, text in sorted(system_metadata.items()):
        if key.startswith(RISK_PREFIX):
            with contextlib.suppress(Malformed, ValueError):
                found.append(_load(key.removeprefix(RISK_PREFIX), text))
    return found


def _load(name: str, text: str) -> AcceptedRisk:
    content = checks.object_of(checks.parse(text, _LIMIT), "")
    if checks.member(content, "v", "") != RISK_VERSION:
        raise Malformed("v", "no format that is known")

    def text_of(key: str) -> str:
        return checks.text_of(checks.member(content, key, ""), key)

    return AcceptedRisk(
        name=checks.text_of(name, "name"),
        until=_time(text_of("u")),
        accepted=_time(text_of("a")),
        who=text_of("w"),
        reason=text_of("r"),
        host=text_of("h") if "h" in content else "",
    )


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.strptime(text, _TIME).replace(tzinfo=datetime.UTC)


def holding(
    risks: Iterable[AcceptedRisk], now: datetime.datetime, host: str | None = None
) -> tuple[Risk, ...]:
    """Those that hold at a moment.

    :param host: where the guest is, for risks of one move; None where that does not count
    """
    return tuple(
        one.risk
        for one in risks
        if one.holds(now) and (host is None or not one.host or one.host == host)
    )
