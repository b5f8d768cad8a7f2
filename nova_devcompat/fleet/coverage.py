# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the families of a catalog have on the hosts of a cloud, and what is not known of that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.fleet.model import Host
from nova_devcompat.wire import PublishedDevice


def unmatched(catalog: Catalog, hosts: Iterable[Host]) -> dict[str, list[str]]:
    """By family, the hosts on which it matches nothing, sorted.

    Hosts that publish nothing that can be read, or nothing of the family that can, are left out:
    of them nobody knows.
    """
    found: dict[str, list[str]] = {name: [] for name in catalog.families}
    for host in hosts:
        if host.document is None:
            continue
        there = {accepts.family for accepts in host.accepts} | host.document.by_family.keys()
        for name, without in found.items():
            if name not in there and host.document.problem_of(name) is None:
                without.append(host.place.host)
    return {name: sorted(without) for name, without in found.items()}


def in_doubt(hosts: Iterable[Host]) -> list[str]:
    """A line for each device, or part of a host, of which a host does not know what a rule asks.

    That several families match it, that its family's primary source does not list it, or that what
    it has cannot be read. Devices of which nothing but the address differs are told together.
    """
    lines: dict[tuple[str, str, str], list[str]] = {}
    for host in hosts:
        if host.document is None:
            continue
        for device in (*host.document.devices, *host.document.host):
            why = _doubt(device)
            if why:
                addresses = device.functions or (device.address,)
                key = (host.place.host, device.family, why)
                lines.setdefault(key, []).extend(addresses)
    return [
        f"{host}: {' '.join(sorted(set(addresses)))} of {family}: {why}"
        for (host, family, why), addresses in sorted(lines.items())
    ]


def _doubt(device: PublishedDevice) -> str:
    by_why: dict[str, list[str]] = {}
    for attribute, accepts in sorted(device.accepts.attributes.items()):
        if accepts.unknown:
            code, detail = accepts.unknown
            by_why.setdefault(detail or code, []).append(attribute)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in by_why.items())


def nowhere(without: dict[str, list[str]], hosts: Sequence[Host]) -> list[str]:
    """The families of :func:`unmatched` that match nothing on any host that can be read."""
    readable = sum(host.document is not None for host in hosts)
    return [name for name, found in without.items() if readable and len(found) == readable]
