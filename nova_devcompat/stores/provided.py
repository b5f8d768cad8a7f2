# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a resource provider stands for. Nothing here needs Nova."""

from __future__ import annotations

import dataclasses
from typing import Generic, Protocol, TypeVar

from nova_devcompat.compat.need import DeviceNeed


class Device(Protocol):
    """What is known of a host's device: by nova-compute itself, or by what it published."""

    @property
    def family(self) -> str:
        """Name of its family."""

    def freeze(self, *, slot: str, address: str, pin: DeviceNeed | None) -> DeviceNeed:
        """The need of a guest whose device is initialised now."""


DeviceT = TypeVar("DeviceT", bound=Device)


@dataclasses.dataclass(frozen=True, slots=True)
class Provided(Generic[DeviceT]):
    """What a resource provider stands for on one host.

    :param address: of its device, or of the parent of its functions; '' for a provider that stands
        for no device of the host
    :param devices: what is known of that: one, or several where a unit of it may be any of them,
        each of another kind; empty for a device of no family
    :param told: whether it is known which device it is, so that none is one of no family
    """

    address: str = ""
    devices: tuple[DeviceT, ...] = ()
    told: bool = True
