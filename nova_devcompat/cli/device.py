# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat device ...``: on the host whose devices they are, without Nova."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cliff.columns import FormattableColumn

from nova_devcompat.catalog import inforce
from nova_devcompat.catalog.merging import Classified
from nova_devcompat.catalog.stages import now
from nova_devcompat.cli.formatters import SafeLister
from nova_devcompat.cli.hosts import add_host_options, survey
from nova_devcompat.host.inventory import HostSurvey
from nova_devcompat.kit.text import printable

LOG = logging.getLogger(__name__)

COLUMNS = ("address", "family", "attributes", "source", "problems")

_WIDTH = 60


class DeviceList(SafeLister):
    """List the devices that this host has, what the sources read of them, and what failed.

    Asks the sources that the catalog names, as nova-compute does, but needs neither Nova nor a
    nova.conf. A source that could not be asked has a row of its own, and so have functions that
    are devices of their own: those of one device that are alike have a row together, with their
    addresses. On standard error stands what is in force of the named catalog: of each family its
    policy, where it comes from and what it overrides; and which families no device belongs to.
    With -f json or yaml all attributes are there, and the source of each; a table has those that
    the family matches or compares, shortened.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_host_options(parser)
        parser.add_argument("--family", metavar="FAMILY", help="only devices of this family")
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        found = survey(parsed_args)
        if parsed_args.family is not None and parsed_args.family not in found.catalog.families:
            raise ValueError(
                f"the catalog has no family {parsed_args.family!r}; families: "
                + ", ".join(found.catalog.families)
            )
        named = bool(parsed_args.catalog or parsed_args.pack)
        for line in inforce.told(found.catalog, None, now()) if named else ():
            LOG.info("%s", line)
        for line in inforce.overriding(found.catalog):
            LOG.warning("%s", line)
        # Nobody expects a host to have what every pack is for.
        if found.unmatched and named:
            LOG.info("No device belongs to these families: %s", ", ".join(found.unmatched))
        return COLUMNS, list(_rows(found, parsed_args.family, everything=parsed_args.all))


def _rows(found: HostSurvey, family: str | None, *, everything: bool) -> Iterator[tuple[Any, ...]]:
    wanted = None if family is None else found.catalog.families[family]
    for device in found.devices:
        if (device.family or everything) if wanted is None else device.family == wanted:
            yield _row(device)
    listed = {device.address for device in found.devices}
    for address, why in found.left_out.items():
        if address in listed:
            continue  # it is there with what is wrong with it
        yield address, "", _Attributes({}), _Origins({}), _Problems({"device": why})
    for name, why in sorted(found.failed.items()):
        if wanted is None or name in wanted.sources:
            origin = _Origins({"source": name})
            yield "", "", _Attributes({}), origin, _Problems({"source": why})


def problems_of(device: Classified) -> dict[str, str]:
    """Why an attribute is not known, or not to its rule, by its name."""
    problems = dict(device.problems)
    if device.family is not None:
        offer = device.family.family.offer(device.attributes)
        for name, (_, detail) in offer.unknown.items():
            source = device.family.source_of(name).source
            problems.setdefault(name, detail or f"source {source} does not tell it")
    return problems


def _row(device: Classified) -> tuple[Any, ...]:
    attributes, problems = dict(device.attributes), problems_of(device)
    shown = set(attributes) | set(problems)
    if device.family is not None:
        shown &= {*device.family.match, *device.family.family.rules, *device.family.implied}
    return (
        device.address if device.family is None else device.where,
        device.family.name if device.family else "",
        _Attributes(attributes, shown),
        _Origins({name: device.origins[name] for name in attributes}, shown),
        _Problems(problems, shown),
    )


class _Column(FormattableColumn[dict[str, Any]]):
    """Something by attribute: nested for machines, lines for people.

    :param shown: the attributes that people are shown; None for all
    """

    def __init__(self, value: Mapping[str, Any], shown: set[str] | None = None) -> None:
        super().__init__(dict(value))
        self._shown = shown

    def machine_readable(self) -> dict[str, Any]:
        return {name: _plain(self._value[name]) for name in sorted(self._value)}

    def _lines(self) -> list[tuple[str, Any]]:
        return [
            (name, value)
            for name, value in sorted(self._value.items())
            if self._shown is None or name in self._shown
        ]


class _Attributes(_Column):
    def human_readable(self) -> str:
        return "\n".join(f"{name}={_short(value)}" for name, value in self._lines())


class _Origins(_Column):
    def human_readable(self) -> str:
        return ",".join(sorted({source for _, source in self._lines()}))


class _Problems(_Column):
    def human_readable(self) -> str:
        return "\n".join(f"{name}: {printable(why, None)}" for name, why in self._lines())


def _plain(value: object) -> object:
    """A value of any source's plugin as what JSON and YAML can show."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        text = ",".join(f"{key}:{_short(inner)}" for key, inner in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        text = ",".join(map(str, value))
    else:
        text = str(value)
    return printable(text, _WIDTH)
