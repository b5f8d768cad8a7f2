# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The ``static`` source: an inventory that an operator wrote."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.device import (
    Device,
    Function,
    bare_identifier,
    is_pci,
    normalise_address,
)
from nova_devcompat.compat.rules import Rule
from nova_devcompat.compat.runs import addresses_in
from nova_devcompat.compat.traits import check_name
from nova_devcompat.kit.document import META_SCHEMA, Schema
from nova_devcompat.kit.keeper import Keeper
from nova_devcompat.kit.once import Once
from nova_devcompat.kit.problems import DocumentError
from nova_devcompat.kit.section import Section, read_sections
from nova_devcompat.kit.text import near
from nova_devcompat.kit.yamlfile import read
from nova_devcompat.sources.base import Source, SourceError, SourceOptions

LOG = logging.getLogger(__name__)

#: Versions of the format that this release reads.
VERSIONS = ("1.0",)

#: So many functions a device of PCI can have at most, but for one that is spread over buses.
MOST_FUNCTIONS = 4096

_MISSING = "write one, or name another with [devcompat] inventory in nova.conf or --inventory"

_TEXT = {"type": "string", "minLength": 1}

_ATTRIBUTES = {
    "type": "object",
    "additionalProperties": {
        "type": ["string", "array", "object", "integer", "null"],
        "items": {"type": "string"},
        "additionalProperties": {
            "type": ["string", "array"],
            "items": {"type": "string"},
        },
    },
}

# Functions that are alike.
_FUNCTIONS = {
    "type": "object",
    "required": ["addresses", "attributes"],
    "additionalProperties": False,
    "properties": {
        "addresses": {"type": "array", "minItems": 1, "items": _TEXT},
        "family": _TEXT,
        "attributes": _ATTRIBUTES,
    },
}

_DEVICE = {
    "type": "object",
    "required": ["address", "attributes"],
    "additionalProperties": False,
    "properties": {
        "address": _TEXT,
        "family": _TEXT,
        "attributes": _ATTRIBUTES,
        "functions": {"type": "array", "minItems": 1, "items": _FUNCTIONS},
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
    inventory, problems = read_sections(
        document, VERSIONS, _SCHEMA, lambda root: _inventory(root, catalog_rules)
    )
    if inventory is None or problems:
        raise DocumentError(problems)
    return inventory


def _inventory(root: Section, catalog_rules: CatalogRules | None) -> Inventory:
    hosts: dict[str, tuple[Device, ...]] = {}
    for name, host in root.mapping("hosts").items():
        if not name.strip():
            host.problem("a host must have a name")
        hosts[name] = tuple(_devices(host, catalog_rules))
    return Inventory(hosts=hosts)


def _devices(host: Section, catalog_rules: CatalogRules | None) -> Iterator[Device]:
    lines: dict[str, int] = {}
    # Of all devices: by address, where it is written, and of which device it is.
    functions: dict[str, tuple[Section, str]] = {}
    for stated in host.rows("devices"):
        device = _device(stated, functions)
        if device is None:
            continue
        known = device.family is None or _is_name(stated.at("family"), device.family)
        if known and catalog_rules is not None:
            _check_rules(stated, device, catalog_rules)
            for listed in stated.rows("functions"):
                _check_function_rules(listed, device, catalog_rules)
        if device.address in lines:
            stated.problem(
                f"duplicate address {device.address!r}; it is first on line "
                f"{lines[device.address]}",
                "address",
            )
            continue
        lines[device.address] = stated.at("address").line
        yield device
    for address, (written, of) in functions.items():
        # A device that has no functions is its own.
        if address in lines and address != of:
            written.problem(
                f"function {address!r} has an entry of its own on line {lines[address]}; "
                "leave one of them out"
            )


def _device(stated: Section, functions: dict[str, tuple[Section, str]]) -> Device | None:
    """The device; None where the schema has said why there is none.

    :param functions: of the devices before, to which its own are added
    """
    address, family = stated.at("address").value, stated.at("family").value
    if not isinstance(address, str) or not isinstance(family, str | None):
        return None
    if address and not address.strip():
        stated.problem("a device must have an address", "address")
    attributes = _attributes(stated)
    if attributes is None:
        return None
    address = normalise_address(address)
    own = _functions(stated, address, functions)
    return Device(address, attributes, family, functions=own)


def _attributes(stated: Section) -> dict[str, object] | None:
    """The attributes of a device or of functions; None where the schema has said why not."""
    attributes = stated.at("attributes")
    for name, attribute in attributes.items().items():
        _is_name(attribute, name)
        _check_scalar(attribute)
    return attributes.value if isinstance(attributes.value, dict) else None


def _functions(
    device: Section, of: str, taken: dict[str, tuple[Section, str]]
) -> dict[str, Function]:
    """Functions by address, one object for those that are written together.

    :param of: the device's address
    :param taken: those of all devices of the host
    """
    functions: dict[str, Function] = {}
    for stated in device.rows("functions"):
        attributes, family = _attributes(stated), stated.at("family").value
        if attributes is None or not isinstance(family, str | None):
            continue
        if family is not None and not _is_name(stated.at("family"), family):
            continue
        function = Function(attributes, family=family)
        for written in stated.at("addresses").elements():
            addresses = _addresses(written)
            again = next((address for address in addresses if address in taken), None)
            if again is not None:
                written.problem(
                    f"duplicate address {again!r} of a function; it is first on line "
                    f"{taken[again][0].line}"
                )
            for address in addresses:
                taken.setdefault(address, (written, of))
                functions[address] = function
    return functions


def _addresses(written: Section) -> list[str]:
    """The addresses of one item: an address, or a run ``<first>-<last>``."""
    text = written.value
    if not isinstance(text, str):
        return []
    first, dash, last = text.partition("-")
    if not (dash and is_pci(normalise_address(first)) and is_pci(normalise_address(last))):
        return [normalise_address(text)]
    try:
        found = list(addresses_in(f"{normalise_address(first)}-{normalise_address(last)}"))
    except ValueError as error:
        written.problem(str(error))
        return []
    if len(found) > MOST_FUNCTIONS:
        written.problem(f"{len(found)} functions; {MOST_FUNCTIONS} are allowed")
    return found[:MOST_FUNCTIONS]


def _is_name(section: Section, name: str) -> bool:
    """Whether something is a name; report it in the section if not."""
    try:
        check_name(name)
    except ValueError as error:
        section.problem(str(error))
        return False
    return True


def _check_scalar(attribute: Section) -> None:
    typed = attribute.typed
    if attribute.value is None and not typed:
        attribute.problem("nothing is written here; write null if it is not known")
    if type(attribute.value) is int and not _PLAIN_INTEGER.fullmatch(typed or ""):
        attribute.ask_for_quotes()


def _check_rules(stated: Section, device: Device, catalog_rules: CatalogRules) -> None:
    try:
        rules = catalog_rules.rules_of(device)
    except ValueError as error:
        (stated.at("family") if device.family else stated).problem(str(error))
        return
    for name, attribute in stated.mapping("attributes").items():
        if type(attribute.value) is int and name in rules and not _takes_integers(rules[name]):
            attribute.ask_for_quotes()
        bare = bare_identifier(name, str(attribute.value).strip())
        if bare is not None and isinstance(attribute.value, str):
            attribute.problem(
                f"{attribute.value!r}: identifiers are written without 0x; write '{bare}'"
            )


def _check_function_rules(stated: Section, device: Device, catalog_rules: CatalogRules) -> None:
    family = stated.text("family") or device.family
    alone = Device(device.address, {}, family)
    if family is not None:
        _check_rules(stated, alone, catalog_rules)


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
        self._once = Once()

    def check(self) -> None:
        """Read the inventory.

        :raises SourceError: it cannot be used
        """
        self._inventory()

    def _inventory(self) -> Inventory:
        try:
            return self._keeper.current()
        except DocumentError as error:
            raise SourceError(f"the static inventory cannot be used: {error.told}") from error

    def read(self, host: str) -> Sequence[Device]:
        """The devices that the inventory has for a host; none, and a warning, if it has no entry.

        :raises SourceError: the inventory has never been good
        """
        inventory = self._inventory()
        devices = inventory.hosts.get(host)
        if devices is None:
            if self._once.is_new(host, inventory):
                LOG.warning(
                    "The static inventory %s has no host %r, so it has no devices%s",
                    self.options.inventory,
                    host,
                    near(host, inventory.hosts),
                )
            return ()
        self._once.is_over(host)
        return devices
