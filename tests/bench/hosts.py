# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Hosts as a scheduler has them, of which benchmarks draw as many as they want."""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Iterator

from nova.scheduler import host_manager

from nova_devcompat import wire
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.kinds import OneOf, Semver, Superset
from nova_devcompat.compat.need import DeviceNeed, Need, host_slot
from nova_devcompat.compat.traits import Atom

VERSIONS = ["1.0", "1.1", "1.2", "1.3", "1.4", "2.0"]
HOST_FAMILIES = ("libvirt", "qemu", "qemu_machine")
MACHINES = [f"pc-q35-8.{minor}" for minor in range(30)]
REQUEST_ID = "8d1b0ef4-5b0b-4a3e-a1e9-7c2f6a9a2d11"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What hosts have.

    :param families: device families of each host; the first, ``gpu``, is the one asked for
    :param devices: of that family; a candidate takes one of them
    :param unlike: whether these differ
    :param parts: whether there are three host families
    :param atoms: known ones of each family beside those of the hosts
    :param whole: whether documents name all devices of their hosts
    :param vf: whether these are functions that PCI requests ask for, else vGPUs
    :param tracked: whether placement knows them
    :param taken: whether candidates take any
    :param garbage: of so many hosts one publishes what cannot be read; 0 for none
    :param generations: of hosts: each has others of the families that are not asked for
    :param having: of so many hosts one has the family that is asked for
    """

    families: int = 1
    devices: int = 2
    unlike: bool = False
    parts: bool = False
    atoms: int = 0
    whole: bool = True
    vf: bool = False
    tracked: bool = True
    taken: bool = True
    garbage: int = 0
    generations: int = 1
    having: int = 1


def family_of(number: int) -> Family:
    """One of the device families."""
    return Family(
        name=f"family_{number}" if number else "gpu",
        rules={"version": Semver(), "caps": Superset()},
    )


def host_family(name: str) -> Family:
    """One of the host families."""
    return Family(name=name, rules={"machine": OneOf()}, subject=Subject.HOST)


def _accept_sets(family: Family, atoms: int) -> list[AcceptSet]:
    offers = [family.offer({"version": one, "caps": ["migration", "p2p"]}) for one in VERSIONS]
    known = {atom for offer in offers for atom in offer.atoms()}
    known |= {
        Atom(family.name, "version", f"{3 + number // 20}.{number % 20}")
        for number in range(atoms)
    }
    return [offer.accept_set(known) for offer in offers]


def _parts() -> list[tuple[wire.PublishedDevice, ...]]:
    known = {Atom(name, "machine", one) for name in HOST_FAMILIES for one in MACHINES}
    return [
        tuple(
            wire.PublishedDevice(
                address=name,
                accepts=host_family(name).offer({"machine": MACHINES[:most]}).accept_set(known),
            )
            for name in HOST_FAMILIES
        )
        for most in range(20, 26)
    ]


def documents(kind: Kind, count: int) -> Iterator[tuple[wire.HostDocument, list[str]]]:
    """What hosts publish, and the providers of the devices that are asked for.

    Of each family a host has one version or several, drawn for each family by itself.
    """
    draw = random.Random(5)
    sets = [_accept_sets(family_of(number), kind.atoms) for number in range(kind.families)]
    parts = _parts()
    for number in range(count):
        devices = []
        asked = []
        generation = draw.randrange(kind.generations)
        for place, of_family in enumerate(sets):
            first = draw.randrange(len(VERSIONS))
            if number % kind.having if place == 0 else generation and place % (generation + 1):
                continue
            for index in range(kind.devices if place == 0 else 1):
                provider = str(uuid.UUID(int=draw.getrandbits(128)))
                if place == 0:
                    asked.append(provider)
                apart = index if kind.unlike and place == 0 else 0
                devices.append(
                    wire.PublishedDevice(
                        address=f"0000:{0x40 + place:02x}:{index:02x}.0",
                        accepts=of_family[(first + apart) % len(VERSIONS)],
                        providers=(provider,) if kind.tracked else (),
                        classes=(class_of(kind, place),) if kind.tracked else (),
                    )
                )
        document = wire.HostDocument(
            catalog="0123456789ab",
            whole=kind.whole,
            devices=tuple(devices),
            host=parts[number % len(parts)] if kind.parts else (),
            unnamed=frozenset(),
        )
        yield document, asked


def class_of(kind: Kind, place: int = 0) -> str:
    """The resource class of the devices of one family."""
    if place:
        return f"CUSTOM_FAMILY_{place}"
    return "CUSTOM_VF" if kind.vf else "VGPU"


def make(kind: Kind, count: int, version: int) -> list[host_manager.HostState]:
    """Hosts with stats and candidates.

    :param version: of the format that they write
    """
    draw = random.Random(6)
    hosts = []
    for number, (document, providers) in enumerate(documents(kind, count)):
        host = host_manager.HostState(f"host{number}", f"host{number}", uuid.uuid4())
        root = str(uuid.UUID(int=draw.getrandbits(128)))
        text = wire.dump_stats(document, version)
        if kind.garbage and number % kind.garbage == 0:
            text = text[: len(text) // 2]
        host.stats = {"num_instances": "0", wire.STATS_KEY: text}
        host.allocation_candidates = [
            _candidate(kind, root, provider)
            for provider in ((providers if kind.taken else []) or [""])
        ]
        hosts.append(host)
    return hosts


def _candidate(kind: Kind, root: str, provider: str) -> dict[str, dict[str, object]]:
    allocations = {root: {"resources": {"VCPU": 1, "MEMORY_MB": 512}}}
    mappings = {"": [root]}
    if kind.taken and kind.tracked:
        allocations[provider] = {"resources": {class_of(kind): 1}}
        mappings[f"{REQUEST_ID}-0" if kind.vf else ""] = [provider]
    return {"allocations": allocations, "mappings": mappings}


def need_of(kind: Kind) -> Need:
    """What a guest needs that is to be moved."""
    needs = []
    if kind.taken:
        slot = f"pci:{REQUEST_ID}" if kind.vf else "rc:VGPU"
        values = {"version": ["1.2"], "caps": ["migration"]}
        needs.append(DeviceNeed.of("gpu", values, slot=slot))
    if kind.parts:
        needs += [
            DeviceNeed.of(name, {"machine": ["pc-q35-8.22"]}, slot=host_slot(name))
            for name in HOST_FAMILIES
        ]
    return Need(devices=tuple(needs))
