# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the kinds of compute hosts differ in: the driver's options, programs, what guests run."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import ClassVar

from rigs.cloud.layout import Cloud
from rigs.cloud.processes import Service

Value = str | int | bool | Sequence[str]
Sections = Mapping[str, Mapping[str, Value]]


class Hosts(abc.ABC):
    """The compute hosts of a cloud.

    :param cloud: whose they are
    :cvar driver: Nova's name of the virt driver
    :cvar catalog: what the cloud's catalog begins with
    :cvar flavors: extra specs by name
    :cvar size: of each flavor: memory in MiB, processors, disk in GiB
    :cvar image: what guests are started from, a raw disk
    :cvar tests: the folder of scenarios on them, in the tree
    :cvar start: seconds in which a nova-compute takes requests
    """

    driver: ClassVar[str]
    catalog: ClassVar[str]
    flavors: ClassVar[Mapping[str, Mapping[str, str]]]
    size: ClassVar[Mapping[str, int]]
    image: ClassVar[bytes]
    tests: ClassVar[str]
    start: ClassVar[int] = 120

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @abc.abstractmethod
    def why_not(self) -> str:
        """Why this machine cannot have such hosts, whatever is fetched; empty if it can."""

    @abc.abstractmethod
    def install(self) -> None:
        """Fetch what the machine does not have, beside what all clouds need.

        :raises CannotInstall: that is not possible here, and why
        """

    @abc.abstractmethod
    def write(self, host: str) -> None:
        """Write what a host begins with."""

    @abc.abstractmethod
    def compute(self, host: str) -> Sections:
        """Options of a host's nova-compute, over those of all."""

    def nova(self) -> Sections:
        """Options of all of Nova."""
        return {}

    def packs(self) -> Mapping[str, Value]:
        """Options of nova-devcompat on all hosts, the controller too."""
        return {}

    def devcompat(self, host: str) -> Mapping[str, Value]:
        """Options of nova-devcompat on a host."""
        return {}

    def services(self) -> Sequence[Sequence[Service]]:
        """What runs on hosts beneath nova-compute, each group when the one before is ready."""
        return ()

    def enter(self, host: str) -> Sequence[str]:
        """What runs a command on a host, to be put before it."""
        return ()

    def on(self, host: str, service: Service) -> Service:
        """A service as it runs on a host."""
        return service
