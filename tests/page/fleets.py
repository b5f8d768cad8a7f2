# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Fleets to be shown: of a few hosts, of hostile names, and of the size of a large cloud."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Iterator

from nova_devcompat import wire
from nova_devcompat.catalog.model import Catalog, CatalogFamily
from nova_devcompat.cli.rendering import Head, render
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.kinds import Semver
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Mode, Policies, Policy
from nova_devcompat.compat.ruling import NO_RECORD
from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.fleet.model import Host, Place, RunningGuest
from nova_devcompat.fleet.outlook import Outlook
from nova_devcompat.fleet.overview import Overview

FAMILIES = {
    "gpu": Family(name="gpu", rules={"version": Semver()}),
    "nic": Family(name="nic", rules={"fw_version": Semver()}),
}
CATALOG = Catalog(
    digest="0123456789ab",
    families={
        name: CatalogFamily(family=family, match={"x": "y"}, source="static")
        for name, family in FAMILIES.items()
    },
)
#: The GPU's family is enforced, the NIC's only reports.
POLICIES = Policies(Policy(), {"gpu": Policy(), "nic": Policy(mode=Mode.REPORT)}, {})
SILENT = Reason(code=Code.HOST_SILENT, actor=Actor.OPERATOR)

GPUS = [f"1.{minor}" for minor in range(61)]
NICS = [f"28.{minor}" for minor in range(18)]
_OFFERS = {("gpu", one): FAMILIES["gpu"].offer({"version": one}) for one in GPUS}
_OFFERS |= {("nic", one): FAMILIES["nic"].offer({"fw_version": one}) for one in NICS}
_ATOMS = frozenset(atom for offer in _OFFERS.values() for atom in offer.atoms())
_ACCEPTS = {key: offer.accept_set(_ATOMS) for key, offer in _OFFERS.items()}

NOON = datetime.datetime(2026, 11, 27, 12, tzinfo=datetime.UTC)


def host(name: str, gpu: str = "", nic: str = "", **others: object) -> Host:
    parts = [_ACCEPTS[key] for key in (("gpu", gpu), ("nic", nic)) if key[1]]
    said: wire.HostDocument | Reason = SILENT
    if parts:
        devices = [
            wire.PublishedDevice(address=f"0000:8{place}:00.0", accepts=accepts)
            for place, accepts in enumerate(parts)
        ]
        said = wire.HostDocument(catalog="0123456789ab", whole=True, devices=tuple(devices))
    return Host(place=Place(name, name), said=said, **others)


def guest(number: int, on: str, gpu: str = "", nic: str = "", name: str = "") -> RunningGuest:
    parts = []
    if gpu:
        parts.append(DeviceNeed.of("gpu", {"version": [gpu]}, slot="rc:VGPU"))
    if nic:
        parts.append(DeviceNeed.of("nic", {"fw_version": [nic]}, slot="rc:CUSTOM_VF"))
    return RunningGuest(
        uuid=name or str(uuid.UUID(int=number)),
        place=Place(on, on),
        record=Need(devices=tuple(parts)) if parts else NO_RECORD,
    )


def page(
    *cells: Iterable[Host | RunningGuest],
    aggregates: dict[str, frozenset[str]] | None = None,
    title: str = "the cloud",
    incomplete: tuple[str, ...] = (),
) -> str:
    """The page of some cells."""
    overview = Overview()
    for number, entries in enumerate(cells, start=1):
        outlook = Outlook(CATALOG, POLICIES)
        outlook.read(entries)
        overview.add(f"cell{number}", outlook)
    head = Head(
        title=title,
        when=NOON,
        digest=CATALOG.digest,
        version="1.2.3",
        noun="running guests",
        not_judged=("CPU models",),
        incomplete=incomplete,
        aggregates=aggregates or {},
    )
    return render(overview, head)


def small() -> Iterator[Host | RunningGuest]:
    """Four kinds of hosts, of which one is silent, and all kinds of guests."""
    for number in range(6):
        yield host(f"old{number}", "1.1", "28.1")
    yield host("new0", "1.4", "28.4")
    yield host("newest", "1.9", "28.9", down="2026-11-27 10:00:00")
    yield host("silent")
    for number in range(60):
        yield guest(number, f"old{number % 6}", "1.1", "28.1")
    for number in range(60, 64):
        yield guest(number, "new0", "1.4", "28.4")
    for number in range(64, 66):
        yield guest(number, "newest", "1.9", "28.9")
    yield guest(66, "newest", "1.9")
    yield guest(67, "old1")


def large(hosts: int = 2_000, guests: int = 40_000) -> Iterator[Host | RunningGuest]:
    """Hosts of 558 kinds, guests of 549 kinds of need."""
    for number in range(hosts):
        kind = number % (31 * 18)
        yield host(f"cmp{number}", GPUS[kind % 31], NICS[kind // 31])
    for number in range(guests):
        kind = number % (61 * 9)
        yield guest(number, f"cmp{number % hosts}", GPUS[kind % 61], NICS[kind // 61])


#: What tries to leave the text that it is put in, or to turn the direction of writing.
HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "'\"><svg/onload=document.title='owned'>",
    "{{ 7*7 }}${7*7}",
    "<!--<script>",
    "\u202eevil\u2066\u200f",
    "a\u2028b\u2029c\x00\x1b[31m",
    "שלום עולם",
    "%3Cscript%3E&lt;b&gt;&amp;",
    "__proto__",
    "constructor",
)


def hostile() -> Iterator[Host | RunningGuest]:
    for number, name in enumerate(HOSTILE):
        yield host(name, f"1.{number}", "28.1")
        yield guest(number, name, f"1.{number}", "28.1", name=f"{name} {number}")
    torn = Reason(code=HOSTILE[0], actor=Actor.OPERATOR, family="gpu", detail=HOSTILE[1])
    yield Host(place=Place("torn", HOSTILE[2]), said=torn)
