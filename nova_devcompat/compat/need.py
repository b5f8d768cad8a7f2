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

"""What a running instance depends on: one need for each of its assigned devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from nova_devcompat.compat.traits import Atom, check_name

NeedT = TypeVar("NeedT")
DeviceT = TypeVar("DeviceT")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DeviceNeed:
    """What an instance depends on of one assigned device, frozen when that was initialised.

    :param family: the family of the device
    :param values: by attribute, sorted, the canonical values needed of it; an empty set where
        nothing is needed, None where the need is not known
    :param slot: which of the instance's device requests it answers, the same on every host:
        ``pci:<request id>`` or ``rc:<resource class>``
    :param address: the device's address on the host the instance is on, '' where not known
    :raises ValueError: a family or attribute that is no name, an attribute given twice, or an
        empty value
    """

    family: str
    values: tuple[tuple[str, frozenset[str] | None], ...]
    slot: str = ""
    address: str = ""

    def __post_init__(self) -> None:
        check_name(self.family)
        for attribute, listed in self.values:
            check_name(attribute)
            if listed and "" in listed:
                raise ValueError(f"{self.family}.{attribute}: an empty value")
        if len({attribute for attribute, _ in self.values}) < len(self.values):
            raise ValueError(f"{self.family}: an attribute is given twice")
        object.__setattr__(self, "values", tuple(sorted(self.values, key=lambda item: item[0])))

    @classmethod
    def of(
        cls,
        family: str,
        values: Mapping[str, Iterable[str] | None],
        *,
        slot: str = "",
        address: str = "",
    ) -> DeviceNeed:
        """A need from a mapping of attributes to the values needed, None where not known.

        :raises ValueError: see the class; or one text where values are expected
        """
        for name, listed in values.items():
            if isinstance(listed, str):  # which is an iterable of texts too, one a letter
                raise ValueError(f"{family}.{name}: {listed!r} is a text, not a list of texts")
        return cls(
            family=family,
            values=tuple(
                (name, None if listed is None else frozenset(listed))
                for name, listed in values.items()
            ),
            slot=slot,
            address=address,
        )

    @property
    def atoms(self) -> frozenset[Atom]:
        """The atoms of all attributes whose need is known."""
        return frozenset(
            Atom(self.family, attribute, value)
            for attribute, listed in self.values
            for value in listed or ()
        )

    def __str__(self) -> str:
        values = ", ".join(
            f"{attribute} {'unknown' if listed is None else ','.join(sorted(listed)) or 'nothing'}"
            for attribute, listed in self.values
        )
        return f"{self.family} ({values})" + (f" at {self.address}" if self.address else "")

    def moved(self, address: str) -> DeviceNeed:
        """The same need of a device at another address."""
        return dataclasses.replace(self, address=address)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """All that an instance depends on; without devices, an instance that needs nothing.

    :param devices: one entry for each assigned device that belongs to a family
    """

    devices: tuple[DeviceNeed, ...] = ()

    @property
    def families(self) -> frozenset[str]:
        """Names of the families concerned."""
        return frozenset(device.family for device in self.devices)

    @property
    def atoms(self) -> frozenset[Atom]:
        """All atoms that are known."""
        return frozenset(atom for device in self.devices for atom in device.atoms)

    def by_slot(self) -> dict[str, list[DeviceNeed]]:
        """The needs grouped by the device request they answer."""
        groups: dict[str, list[DeviceNeed]] = {}
        for device in self.devices:
            groups.setdefault(device.slot, []).append(device)
        return groups


def assign(
    needs: Sequence[NeedT],
    devices: Sequence[DeviceT],
    fits: Callable[[NeedT, DeviceT], bool],
) -> list[int | None]:
    """Give each need a device of its own, as many as possible (augmenting paths, Kuhn 1955).

    :param fits: whether a device may serve a need
    :returns: for each need the index of its device; None for one that is left without
    """
    owner: dict[int, int] = {}

    def find(need: int, seen: set[int]) -> bool:
        for index, device in enumerate(devices):
            if index in seen or not fits(needs[need], device):
                continue
            seen.add(index)
            if index not in owner or find(owner[index], seen):
                owner[index] = need
                return True
        return False

    for need in range(len(needs)):
        find(need, set())
    given: list[int | None] = [None] * len(needs)
    for index, need in owner.items():
        given[need] = index
    return given
