#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.


"""What a loaded catalog is: families with their rules, and how devices match them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from nova_devcompat.catalog import patterns
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.pins import is_pin, parse_pins
from nova_devcompat.compat.rules import Rule
from nova_devcompat.compat.verdict import Mode, OnUnknown, Policy
from nova_devcompat.documents import near
from nova_devcompat.sources.base import Device


class AmbiguousDevice(ValueError):
    """A device that several families match.

    :param device: the device
    :param families: their names
    """

    def __init__(self, device: Device, families: Iterable[str]) -> None:
        self.device = device
        self.families = tuple(families)
        super().__init__(
            f"device {device.address} matches several families: {', '.join(self.families)}; "
            "make their 'match' disjoint, or name the family in the inventory"
        )


class UnknownFamily(ValueError):
    """A device that names a family which the catalog does not have."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CatalogFamily:
    """A family as a catalog has it.

    :param family: its name and rules
    :param match: patterns by attribute; a device that has them all belongs to the family
    :param source: the name of the source that reads its devices
    :param mode: None where the catalog leaves it to ``[devcompat] mode``
    :param on_unknown: None where the catalog leaves it to ``[devcompat] on_unknown``
    """

    family: Family
    match: Mapping[str, str]
    source: str
    mode: Mode | None = None
    on_unknown: OnUnknown | None = None

    @property
    def name(self) -> str:
        """The family's name."""
        return self.family.name

    def matches(self, attributes: Mapping[str, object]) -> bool:
        """Whether a device with these attributes belongs to the family, none being named."""
        for attribute, pattern in self.match.items():
            value = attributes.get(attribute)
            if isinstance(value, bool) or not isinstance(value, str | int):
                return False
            if not patterns.matches(pattern, str(value).strip()):
                return False
        return True

    def policy(self, default: Policy) -> Policy:
        """The default, with what the catalog says otherwise."""
        return Policy(
            mode=default.mode if self.mode is None else self.mode,
            on_unknown=default.on_unknown if self.on_unknown is None else self.on_unknown,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Catalog:
    """The families that one or several files define.

    :param families: by name, sorted
    :param digest: twelve hexadecimal digits that tell whether two processes have the same catalog:
        the order of keys, comments, and options that are the default do not count
    """

    families: Mapping[str, CatalogFamily]
    digest: str

    def policy(self, family_name: str, default: Policy) -> Policy:
        """The policy of a family; the default for one that is not in the catalog."""
        family = self.families.get(family_name)
        return default if family is None else family.policy(default)

    def pins(self, extra_specs: Mapping[str, str]) -> Need:
        """What a flavor pins.

        :param extra_specs: the flavor's
        :raises BadPin: one of ours cannot be read
        """
        if not any(map(is_pin, extra_specs)):
            return Need()
        return parse_pins(extra_specs, {name: one.family for name, one in self.families.items()})

    def classify(self, device: Device) -> CatalogFamily | None:
        """The family of a device: the one it names, else the one that matches; None for neither.

        A device that names a family which is not in the catalog belongs to none.

        :raises AmbiguousDevice: it names none and several match
        """
        if device.family is not None:
            return self.families.get(device.family)
        found = [family for family in self.families.values() if family.matches(device.attributes)]
        if len(found) > 1:
            raise AmbiguousDevice(device, [family.name for family in found])
        return found[0] if found else None

    def rules_of(self, device: Device) -> Mapping[str, Rule[Any, Any]]:
        """The rules for a device by attribute; none for a device of no family.

        :raises AmbiguousDevice: it names no family and several match
        :raises UnknownFamily: it names one that is not in the catalog
        """
        family = self.classify(device)
        if family is not None:
            return family.family.rules
        if device.family is not None:
            raise UnknownFamily(
                f"no catalog file has the family {device.family!r}; families: "
                + ", ".join(self.families)
                + near(device.family, self.families)
            )
        return {}
