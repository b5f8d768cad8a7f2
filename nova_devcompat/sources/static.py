# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The ``static`` source: an inventory that an operator wrote."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.device import Device, normalise_address
from nova_devcompat.compat.rules import Rule
from nova_devcompat.compat.traits import check_name
from nova_devcompat.kit.document import META_SCHEMA, Document, Schema
from nova_devcompat.kit.keeper import Keeper
from nova_devcompat.kit.problems import DocumentError, KeyPath, Problem
from nova_devcompat.kit.text import near
from nova_devcompat.kit.yamlfile import read
from nova_devcompat.sources.base import Source, SourceError, SourceOptions

LOG = logging.getLogger(__name__)

#: Versions of the format that this release reads.
VERSIONS = ("1.0",)

_MISSING = "write one, or name another with [devcompat] inventory in nova.conf or --inventory"

_TEXT = {"type": "string", "minLength": 1}

_DEVICE = {
    "type": "object",
    "required": ["address", "attributes"],
    "additionalProperties": False,
    "properties": {
        "address": _TEXT,
        "family": _TEXT,
        "attributes": {
            "type": "object",
            "additionalProperties": {
                "type": ["string", "array", "object", "integer", "null"],
                "items": {"type": "string"},
                "additionalProperties": {
                    "type": ["string", "array"],
                    "items": {"type": "string"},
                },
            },
        },
    },
}

_SCHEMA = Schema(
    {
        "type": "object",
        "required": ["meta", "hosts"],
        "additionalProperties": False,
        "properties": {
            "meta": META_SCHEMA,
            "hosts": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "type": "object",
                    "required": ["devices"],
                    "additionalProperties": False,
                    "properties": {"devices": {"type": "array", "items": _DEVICE}},
                },
            },
        },
    }
)

# 010 is 8 and 0x1b is 27 to YAML 1.1: nobody wants to know.
_PLAIN_INTEGER = re.compile("[-+]?(0|[1-9][0-9]*)")


class CatalogRules(Protocol):
    """What a catalog knows of a device, as far as an inventory needs it."""

    def rules_of(self, device: Device) -> Mapping[str, Rule[Any, Any]]:
        """The rules for a device; none for a device of no family.

        :raises ValueError: of which family it is cannot be told, and why
        """


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """The devices of some hosts.

    :param hosts: by hypervisor hostname; an empty tuple for a host without devices
    """

    hosts: Mapping[str, tuple[Device, ...]]


def load_inventory(
    path: str | os.PathLike[str], catalog_rules: CatalogRules | None = None
) -> Inventory:
    """The inventory in a file.

    :param catalog_rules: a catalog, where one is at hand; families are looked up in it then, and
        an integer is refused where the rule takes none
    :raises DocumentError: with all problems
    """
    document = read(path, missing=_MISSING)
    reader = _Reader(document, catalog_rules)
    # Of another format nothing else can be said.
    problems = document.check_version(VERSIONS)
    if not problems:
        problems = document.check(_SCHEMA)
        inventory = reader.inventory()
    problems = [*document.problems, *problems, *reader.problems]
    if problems:
        raise DocumentError(sorted(problems, key=lambda problem: problem.line))
    return inventory


class _Reader:
    """Makes devices of a document, of which any part may be too wrong to do so."""

    def __init__(self, document: Document, catalog_rules: CatalogRules | None) -> None:
        self.document = document
        self.catalog_rules = catalog_rules
        self.problems: list[Problem] = []

    def inventory(self) -> Inventory:
        hosts: dict[str, tuple[Device, ...]] = {}
        for host, content in _items(self.document.content.get("hosts")):
            if not host.strip():
                self._report(("hosts", host), "a host must have a name")
            devices = content.get("devices") if isinstance(content, dict) else None
            hosts[host] = tuple(self._devices(("hosts", host, "devices"), devices))
        return Inventory(hosts=hosts)

    def _devices(self, path: KeyPath, content: object) -> Iterator[Device]:
        lines: dict[str, int] = {}
        for index, item in enumerate(content if isinstance(content, list) else ()):
            device = self._device((*path, index), item)
            if device is None:
                continue
            if device.address in lines:
                self._report(
                    (*path, index, "address"),
                    f"duplicate address {device.address!r}; it is first on line "
                    f"{lines[device.address]}",
                )
                continue
            lines[device.address] = self.document.line((*path, index, "address"))
            yield device

    def _device(self, path: KeyPath, content: object) -> Device | None:
        """The device; None where the schema has said why there is none."""
        if not isinstance(content, dict):
            return None
        address, family = content.get("address"), content.get("family")
        attributes = content.get("attributes")
        if not isinstance(address, str) or not isinstance(family, str | None):
            return None
        for name, value in _items(attributes):
            at = (*path, "attributes", name)
            self._check_name(at, name)
            self._check_scalar(at, value)
        if not isinstance(attributes, dict):
            return None
        device = Device(normalise_address(address), attributes, family)
        if family is not None and not self._check_name((*path, "family"), family):
            return device
        if self.catalog_rules is not None:
            self._check_rules(path, device, self.catalog_rules)
        return device

    def _check_name(self, path: KeyPath, name: str) -> bool:
        try:
            check_name(name)
        except ValueError as error:
            self._report(path, str(error))
            return False
        return True

    def _check_scalar(self, path: KeyPath, value: object) -> None:
        typed = self.document.typed(path)
        if value is None and not typed:
            self._report(path, "nothing is written here; write null if it is not known")
        if type(value) is int and not _PLAIN_INTEGER.fullmatch(typed or ""):
            self._report(path, self.document.quote_advice(path, value))

    def _check_rules(self, path: KeyPath, device: Device, catalog_rules: CatalogRules) -> None:
        try:
            rules = catalog_rules.rules_of(device)
        except ValueError as error:
            self._report((*path, "family") if device.family else path, str(error))
            return
        for name, value in device.attributes.items():
            if type(value) is int and name in rules and not _takes_integers(rules[name]):
                at = (*path, "attributes", name)
                self._report(at, self.document.quote_advice(at, value))

    def _report(self, path: KeyPath, message: str) -> None:
        self.problems.append(self.document.problem(path, message))


def _items(content: object) -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        yield from content.items()


def _takes_integers(rule: Rule[Any, Any]) -> bool:
    try:
        rule.parse_offer(1)
    except Unreadable:
        return False
    return True


class StaticSource(Source):
    """Reads ``[devcompat] inventory``, again whenever the file has changed.

    A file that goes wrong is logged once for each change, and the last good inventory stays in
    use. Nothing but the file system is waited for.

    :param options: of which ``inventory`` must be there
    :raises SourceError: it is not
    """

    name = "static"
    stands_in = True

    def __init__(self, options: SourceOptions) -> None:
        super().__init__(options)
        path = options.inventory
        if path is None:
            raise SourceError(
                "source 'static' reads an inventory: name it with [devcompat] inventory"
            )
        self._keeper = Keeper(
            [path], lambda: load_inventory(path), what="static inventory", min_interval=0
        )
        self._lock = threading.Lock()
        # The inventory of which is known that it lacks these hosts.
        self._warned: tuple[Inventory | None, set[str]] = (None, set())

    def check(self) -> None:
        """Read the inventory.

        :raises SourceError: it cannot be used
        """
        self._inventory()

    def _inventory(self) -> Inventory:
        try:
            return self._keeper.current()
        except DocumentError as error:
            problems = "; ".join(map(str, error.problems))
            raise SourceError(f"the static inventory cannot be used: {problems}") from error

    def read(self, host: str) -> Sequence[Device]:
        """The devices that the inventory has for a host; none, and a warning, if it has no entry.

        :raises SourceError: the inventory has never been good
        """
        inventory = self._inventory()
        devices = inventory.hosts.get(host)
        if devices is None:
            self._warn(host, inventory)
            return ()
        return devices

    def _warn(self, host: str, inventory: Inventory) -> None:
        with self._lock:
            if self._warned[0] is not inventory:
                self._warned = (inventory, set())
            if host in self._warned[1]:
                return
            self._warned[1].add(host)
        LOG.warning(
            "The static inventory %s has no host %r, so it has no devices%s",
            self.options.inventory,
            host,
            near(host, inventory.hosts),
        )
