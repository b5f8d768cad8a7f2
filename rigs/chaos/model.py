# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The rule of the pretended hardware, written anew: which device takes which state over.

A virtual function remembers the firmware that it was initialised with and runs on firmware of the
same major version whose minor version is not lower. A vGPU remembers the highest version of its
driver and runs where that is between the lowest and the highest.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

#: Virtual functions of a host's network card, and vGPUs of its GPU.
CAPACITY = {"CUSTOM_VF": 8, "VGPU": 8}
#: What provider of a host has a resource; the host's own has the others.
PROVIDERS = {"CUSTOM_VF": "{}_0000:81:00.0", "VGPU": "{}_pci_0000_41_00_0"}
PREFIX = "CUSTOM_DEVCOMPAT_"
#: By the prefix of traits: what a need is of, and the key of a device's state.
_FIRMWARE, _VGPU = "MLX5_VF__FW_VERSION__", "NVIDIA_VGPU__VGPU_VERSION__"

#: A device's state, as the driver of the pretended hardware keeps it.
State = Mapping[str, str]
#: Values by family and attribute.
Need = dict[str, dict[str, list[str]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Versions:
    """What a host's devices have.

    :ivar firmware: of the network card: major, minor and build
    :ivar lowest: version that its GPU takes, hexadecimal numbers
    :ivar highest: the same; what vGPUs are initialised with
    """

    firmware: str
    lowest: str
    highest: str

    def takes(self, state: State) -> bool:
        """Whether a device of such a host can go on from a state."""
        if "fw_version" in state:
            needs, has = _numbers(state["fw_version"], 10), _numbers(self.firmware, 10)
            return needs[0] == has[0] and needs[1] <= has[1]
        version = _numbers(state["vgpu_version"], 16)
        return _numbers(self.lowest, 16) <= version <= _numbers(self.highest, 16)

    def accepted(self, known: Iterable[str]) -> set[str]:
        """Of traits without their prefix those that stand for a state that is taken."""
        return {trait for trait in known if self._accepts(trait)}

    def _accepts(self, trait: str) -> bool:
        value = trait.rpartition("__")[2].replace("_", ".")
        if trait.startswith(_FIRMWARE):
            return self.takes({"fw_version": value})
        return trait.startswith(_VGPU) and self.takes({"vgpu_version": value})

    def own(self) -> set[str]:
        """Traits without their prefix of what guests need that start here."""
        firmware = "_".join(self.firmware.split(".")[:2])
        return {_FIRMWARE + firmware, _VGPU + self.highest.replace(".", "_").upper()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flavor:
    """What a guest of a flavor is given, beside the same processor, memory and disk for all."""

    name: str
    vfs: int = 0
    vgpus: int = 0

    @property
    def devices(self) -> dict[str, int]:
        """Amounts by resource class."""
        amounts = {"CUSTOM_VF": self.vfs, "VGPU": self.vgpus}
        return {name: amount for name, amount in amounts.items() if amount}

    @property
    def extra_specs(self) -> dict[str, str]:
        specs = {}
        if self.vfs:
            specs["pci_passthrough:alias"] = f"vf:{self.vfs}"
        if self.vgpus:
            specs["resources:VGPU"] = str(self.vgpus)
        return specs

    def holds(self, host: str) -> dict[str, dict[str, int]]:
        """What placement has of such a guest on a host, by provider."""
        held = {host: {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}}
        for name, amount in self.devices.items():
            held[PROVIDERS[name].format(host)] = {name: amount}
        return held


FLAVORS = {
    flavor.name: flavor
    for flavor in (
        Flavor(name="chaos-plain"),
        Flavor(name="chaos-vf", vfs=1),
        # Two fill a network card but for two functions.
        Flavor(name="chaos-three", vfs=3),
        Flavor(name="chaos-vgpu", vgpus=1),
        Flavor(name="chaos-both", vfs=1, vgpus=1),
    )
}


def need_of(states: Iterable[State]) -> Need:
    """What has to be recorded of devices in some states."""
    found: dict[str, dict[str, set[str]]] = {}
    for state in states:
        if "fw_version" in state:
            value = ".".join(state["fw_version"].split(".")[:2])
            found.setdefault("mlx5_vf", {}).setdefault("fw_version", set()).add(value)
        else:
            value = state["vgpu_version"].upper()
            found.setdefault("nvidia_vgpu", {}).setdefault("vgpu_version", set()).add(value)
    return {
        family: {name: sorted(values) for name, values in attributes.items()}
        for family, attributes in found.items()
    }


def fits(states: Iterable[State], had: Collection[Versions]) -> bool:
    """Whether a host could take all states, with some of the versions that it had meanwhile."""
    states = list(states)
    return any(all(versions.takes(state) for state in states) for versions in had)


def has_room(flavor: Flavor, host: str, held: Sequence[Mapping[str, Mapping[str, int]]]) -> bool:
    """Whether a host has the devices for one more guest.

    :param held: what guests and migrations hold, by provider, those that may come included
    """
    used: collections.Counter[str] = collections.Counter()
    for providers in held:
        for name, provider in PROVIDERS.items():
            used[name] += providers.get(provider.format(host), {}).get(name, 0)
    return all(used[name] + count <= CAPACITY[name] for name, count in flavor.devices.items())


def _numbers(text: str, base: int) -> tuple[int, ...]:
    return tuple(int(part, base) for part in text.split("."))
