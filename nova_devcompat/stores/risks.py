# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Accepted risks: those that are kept with an instance, and those of hosts, in a file.

Those of an instance are written in :mod:`nova_devcompat.stores.risk_writer`.
"""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from nova_devcompat.compat.risks import Risk
from nova_devcompat.kit.document import META_SCHEMA, Schema
from nova_devcompat.kit.keeper import Keeper
from nova_devcompat.kit.problems import DocumentError
from nova_devcompat.kit.replacing import replace
from nova_devcompat.kit.section import Section, read_sections
from nova_devcompat.kit.text import printable
from nova_devcompat.kit.yamlfile import parse, read
from nova_devcompat.wire.risks import AcceptedRisk, holding, load_risks

LOG = logging.getLogger(__name__)

VERSIONS = ("1.0",)

_TEXT = {"type": "string", "minLength": 1}
_SCHEMA = Schema(
    {
        "type": "object",
        "required": ["meta", "risks"],
        "additionalProperties": False,
        "properties": {
            "meta": META_SCHEMA,
            "risks": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "host", "until", "who", "reason", "accepted"],
                    "additionalProperties": False,
                    "properties": dict.fromkeys(
                        ("name", "host", "until", "who", "reason", "accepted"), _TEXT
                    ),
                },
            },
        },
    }
)


def now() -> datetime.datetime:
    """The time it is, in UTC."""
    return datetime.datetime.now(datetime.UTC)


# --- of instances --------------------------------------------------------------------------------


def of_instance(instance: Any) -> tuple[Risk, ...]:
    """The risks that are accepted for an instance and hold now, where it is now."""
    return holding(load_risks(instance.system_metadata), now(), instance.host or "")


# --- of hosts ------------------------------------------------------------------------------------


def read_file(path: str | os.PathLike[str]) -> list[AcceptedRisk]:
    """The risks of hosts; none where there is no such file.

    :raises DocumentError: it cannot be read
    """
    if not os.path.lexists(path):
        return []
    document = read(path)
    found, problems = read_sections(document, VERSIONS, _SCHEMA, _risks)
    if problems:
        raise DocumentError(problems)
    return found or []


def _risks(root: Section) -> list[AcceptedRisk]:
    risks = []
    for row in root.rows("risks"):
        until, accepted = (_moment(row.at(key)) for key in ("until", "accepted"))
        if until is not None and accepted is not None:
            risks.append(
                AcceptedRisk(
                    name=row.text("name"),
                    host=row.text("host"),
                    until=until,
                    accepted=accepted,
                    who=row.text("who"),
                    reason=row.text("reason"),
                )
            )
    return risks


def _moment(stated: Section) -> datetime.datetime | None:
    if not isinstance(stated.value, str):
        return None  # the schema says so
    try:
        return parse_moment(stated.value)
    except ValueError as error:
        stated.problem(str(error))
        return None


def parse_moment(text: str) -> datetime.datetime:
    """A time as ``2026-12-01T18:00``, in UTC where it names no zone; a day is its first moment.

    :raises ValueError: it is none, or not in UTC: the last day of the year 9999 west of Greenwich
    """
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return moment.replace(tzinfo=datetime.UTC)
        return moment.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time such as '2026-12-01T18:00'") from None


def write_file(path: str | os.PathLike[str], risks: Sequence[AcceptedRisk]) -> None:
    """Write the risks of hosts, all or nothing.

    :raises DocumentError: nobody could read what would be written, so nothing is
    :raises OSError: it cannot be written
    """
    content = {
        "meta": {"schema_version": VERSIONS[-1]},
        "risks": [
            {
                "name": one.name,
                "host": one.host,
                "until": f"{one.until:%Y-%m-%dT%H:%M}",
                # What a terminal in another encoding typed is no text that YAML could hold.
                "who": printable(one.who, None),
                "reason": printable(one.reason, None),
                "accepted": f"{one.accepted:%Y-%m-%dT%H:%M}",
            }
            for one in risks
        ],
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    _, problems = read_sections(parse(text.encode(), os.fspath(path)), VERSIONS, _SCHEMA, _risks)
    if problems:
        raise DocumentError(problems)
    replace(path, text)


class HostRisks:
    """The accepted risks of hosts, as they follow their file.

    A file that is wrong lets nothing pass that was not let pass before.

    :param path: the file, which need not be there
    """

    def __init__(self, path: str, *, min_interval: float = 1.0) -> None:
        self._keeper = Keeper(
            [path], lambda: read_file(path), what="file of risks", min_interval=min_interval
        )
        self._path = path
        self._failed = ""

    def holding(self) -> Mapping[str, tuple[Risk, ...]]:
        """Those that hold now, by host."""
        wrong = ""
        risks: list[AcceptedRisk] = []
        try:
            risks = self._keeper.current()
        except DocumentError as error:
            wrong = error.told
        if wrong and wrong != self._failed:
            # Not while it is handled: oslo.log would say it again at the end of the line.
            LOG.error("The file of accepted risks is wrong, so none is: %s", wrong)
        self._failed = wrong or self._failed
        if not risks:
            return {}
        moment = now()
        return {
            host: holding((one for one in risks if one.host == host), moment)
            for host in {one.host for one in risks if one.holds(moment)}
        }
