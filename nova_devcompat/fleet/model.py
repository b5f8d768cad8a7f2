# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The hosts of a cloud, and what they published."""

from __future__ import annotations

import dataclasses
from typing import Any

from nova_devcompat import wire
from nova_devcompat.compat.device import normalise_address
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.ruling import judge_part
from nova_devcompat.compat.verdict import Actor, Code, Reason, Verdict


class Node:
    """A compute node, and what it published.

    :param node: Nova's compute node
    :param reader: reads stats documents
    """

    def __init__(self, node: Any, reader: wire.StatsReader) -> None:
        self.id: int = node.id
        self.host: str = node.host
        self.name: str = node.hypervisor_hostname
        #: None where nothing was published, or nothing that can be read: see ``problem``.
        self.document: wire.HostDocument | None = None
        self.problem: Reason | None = None
        text = (node.stats or {}).get(wire.STATS_KEY)
        read = reader.read(text) if text else None
        if isinstance(read, wire.HostDocument):
            self.document = read
        elif read is None:
            self.problem = Reason(code=Code.HOST_SILENT, actor=Actor.OPERATOR)
        else:
            self.problem = Reason(
                code=Code.HOST_UNREADABLE, actor=Actor.OPERATOR, detail=str(read)
            )
        devices = self.document.devices if self.document else ()
        self._by_address = {device.address: device for device in devices}
        self._by_provider = {
            provider: device for device in devices for provider in device.providers
        }

    @property
    def providers(self) -> list[str]:
        """UUIDs of the resource providers of its devices."""
        return list(self._by_provider)

    def find(self, address: str, parent: str | None) -> wire.PublishedDevice | None:
        """The device at an address, or of the parent given beside it."""
        return self._by_address.get(normalise_address(address)) or (
            self._by_address.get(normalise_address(parent)) if parent else None
        )

    def behind(self, provider: str) -> tuple[str, wire.PublishedDevice | None]:
        """Address and device that a resource provider stands for."""
        device = self._by_provider.get(provider)
        return (device.address if device else ""), device

    def judge(self, need: DeviceNeed, parent: str | None) -> Verdict:
        """Whether the node would accept the need on the device the guest has.

        :param parent: of the device's address
        """
        if self.problem is not None:
            return Verdict.unknown(dataclasses.replace(self.problem, family=need.family))
        assert self.document is not None
        problem = self.document.problem_of(need.family)
        if problem is not None:
            return Verdict.unknown(problem)
        if need.of_host:
            part = self.document.by_family.get(need.family)
            return judge_part(need, () if part is None else (part,))
        if need.address:
            devices = [self.find(need.address, parent)]
        else:  # not known since a migration: any of the family may be the one
            devices = [dev for dev in self._by_address.values() if dev.family == need.family]
        return judge_part(need, [device.accepts for device in devices if device is not None])
