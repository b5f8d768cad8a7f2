# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Everything that reads what others wrote, and what must hold whatever that is.

No consumer raises; no line is forged; no other host, and no other family of the same host, is
affected. Nova's services are not needed: what they would be asked is what they have in memory.
"""

from __future__ import annotations

import argparse
import io
import json
import pathlib
import random
import types
from collections.abc import Iterable, Sequence
from typing import Any

from cliff.formatters import commaseparated

from nova_devcompat import wire
from nova_devcompat.catalog import AmbiguousDevice, Catalog, CatalogFamily
from nova_devcompat.cli.formatters import Shown, Table
from nova_devcompat.compat import traits
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.kinds import Equal, OneOf, Semver, Superset
from nova_devcompat.compat.need import DeviceNeed, Need, host_slot
from nova_devcompat.compat.policy import OnUnknown, Policies, Policy
from nova_devcompat.compat.ruling import Guest, doubt_of_pin, required_atoms
from nova_devcompat.compat.verdict import Actor, Code, Outcome, Reason
from nova_devcompat.fleet import records
from nova_devcompat.fleet.cloud import host_of
from nova_devcompat.fleet.matrix import Matrix, Move
from nova_devcompat.fleet.model import Fleet, Host, RunningGuest
from nova_devcompat.fleet.stranded import Stranded
from nova_devcompat.kit.problems import DocumentError
from nova_devcompat.scheduler import explain
from nova_devcompat.scheduler.judge import Judged, RequestJudge
from nova_devcompat.scheduler.lookup import Lookup
from nova_devcompat.scheduler.mobility import Mobility
from nova_devcompat.sources.static import load_inventory
from nova_devcompat.stores.placement import Placement
from tests.fuzz import inputs, stats_2
from tests.unit.providers import uuid_of

FAMILIES = {
    "gpu": Family(name="gpu", rules={"version": Semver(), "caps": Superset()}),
    "nic": Family(name="nic", rules={"mode": Equal()}),
    "qemu": Family(name="qemu", rules={"machine": OneOf()}, subject=Subject.HOST),
}
CATALOG = Catalog(
    digest="0123456789ab",
    families={
        name: CatalogFamily(family=family, match={"model": name}, source="static")
        for name, family in FAMILIES.items()
    },
)
REQUEST = "8d1b0ef4-5b0b-4a3e-a1e9-7c2f6a9a2d11"
ROOT = uuid_of("root")


def _policies(policy: Policy) -> Policies:
    return Policies(policy, {"gpu": policy, "nic": policy}, {"qemu": policy})


STRICT = _policies(Policy())
LENIENT = _policies(Policy(on_unknown=OnUnknown.ACCEPT))

ROW = ("host", "family", "address", "need", "reason")
# Rows are printed together, since a table's head costs more than its rows.
_PAGE = 200
# What no document is longer than, so that all of a longer one is lost.
_MOST_TEXT = 65_536

_INVENTORY = """\
meta: {schema_version: '1.0'}
hosts:
  cmp1:
    devices:
      - address: '0000:81:00.0'
        family: gpu
        attributes: {version: '1.2.3', caps: [p2p]}
  cmp2:
    devices:
      - address: '0000:81:00.0'
        attributes: {model: nic, mode: x}
"""


class Broken(AssertionError):
    """Something that must hold did not."""


def check(held: object, what: str) -> None:
    """Say what did not hold."""
    if not held:
        raise Broken(what)


def check_line(text: str, limit: int = 1_000) -> str:
    """A text is one line that can be printed."""
    check(text.isprintable(), f"not printable: {text[:300]!r}")
    check(len(text) <= limit, f"{len(text)} characters")
    return text


def published(
    *devices: tuple[str, dict[str, object]], machines: Sequence[str], version: int = 1
) -> str:
    """The text that a host publishes; its devices are behind providers of their addresses."""
    atoms = {
        traits.Atom(family, attribute, value)
        for family, attribute, values in (
            ("gpu", "version", ("1.2", "1.3", "1.4", "2.0")),
            ("gpu", "caps", ("p2p", "dirty")),
            ("nic", "mode", ("x", "y")),
            ("qemu", "machine", ("q1", "q2")),
        )
        for value in values
    }
    listed = [
        (f"0000:8{index}:00.0", FAMILIES[family].offer(facts))
        for index, (family, facts) in enumerate(devices)
    ]
    part = FAMILIES["qemu"].offer({"machine": list(machines)})
    document = wire.HostDocument(
        catalog=CATALOG.digest,
        whole=True,
        devices=tuple(
            wire.PublishedDevice(
                address=address,
                accepts=offer.accept_set(atoms),
                providers=(uuid_of(address),),
                classes=("VGPU",),
            )
            for address, offer in listed
        ),
        unnamed=frozenset(),
        host=(wire.PublishedDevice(address="qemu", accepts=part.accept_set(atoms)),),
    )
    return wire.dump_stats(document, version)


def _gpu(version: str, *caps: str) -> tuple[str, dict[str, object]]:
    return "gpu", {"version": version, "caps": list(caps)}


_NIC: tuple[str, dict[str, object]] = ("nic", {"mode": "x"})

#: The hosts beside the one that is fuzzed.
GOOD = (
    published(_gpu("1.3", "p2p"), _NIC, machines=["q1"]),
    published(_gpu("1.2"), machines=["q1", "q2"]),
    published(machines=["q2"]),
)
#: What the fuzzed host published before: what others do, or something of its own.
BASES = (
    *GOOD,
    published(_gpu("1.3", "p2p"), _gpu("1.4"), _NIC, machines=["q1", "q2"]),
    published(_gpu("1.4"), machines=["q2"]),
    published(_NIC, machines=["q1"]),
)
#: The same in format 2.
GOOD_2, BASES_2 = (
    tuple(
        published(*devices, machines=machines, version=2)
        for devices, machines in (
            ((_gpu("1.3", "p2p"), _NIC), ["q1"]),
            ((_gpu("1.2"),), ["q1", "q2"]),
            ((), ["q2"]),
            ((_gpu("1.3", "p2p"), _gpu("1.4"), _NIC), ["q1", "q2"]),
        )[:count]
    )
    for count in (3, 4)
)
FIRST, SECOND, THIRD = (uuid_of(f"0000:8{index}:00.0") for index in range(3))


def candidate(*providers: str) -> dict[str, Any]:
    """An allocation candidate that takes a device of each provider."""
    taken = {one: {"resources": {"VGPU": 1}} for one in providers}
    mapped = {f"{REQUEST}-{index}": [one] for index, one in enumerate(providers)}
    return {
        "allocations": {ROOT: {"resources": {"VCPU": 1}}, **taken},
        "mappings": {"": [ROOT, *providers], **mapped},
    }


CANDIDATES = ([], [candidate(FIRST), candidate(SECOND)], [candidate(FIRST, SECOND)], [candidate()])

_GPU = DeviceNeed.of("gpu", {"version": ["1.3"], "caps": ["p2p"]}, slot="rc:VGPU", address="a")
_CARD = DeviceNeed.of("nic", {"mode": ["x"]}, slot=f"pci:{REQUEST}", address="b")
_QEMU = DeviceNeed.of("qemu", {"machine": ["q1"]}, slot=host_slot("qemu"))
_PIN = DeviceNeed.of("gpu", {"version": ["1.2"]})

#: Who is to be placed.
REQUESTS = (
    Guest(record=Need(devices=(_GPU,))),
    Guest(record=Need(devices=(_GPU, _QEMU))),
    Guest(record=Need(devices=(_CARD, _QEMU))),
    Guest(record=Need(devices=(_GPU, _CARD)), pins=Need(devices=(_PIN,))),
    Guest(pins=Need(devices=(_PIN,)), keeps_devices=False),
    Guest(record=Need(devices=(_QEMU,)), assigned=False),
    Guest(record=Need()),
)
RECORD = wire.dump_record(Need(devices=(_GPU, _CARD, _QEMU, _GPU)))
TRAITS = tuple(sorted(map(traits.encode, (*_GPU.atoms, *_CARD.atoms, *_QEMU.atoms))))


class _Client:
    """Nova's report client as far as GET /traits goes."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)

    def get(self, url: str, version: str) -> Any:
        return types.SimpleNamespace(status_code=200, json=lambda: {"traits": self._names})


class Consumers:
    """All of them, for one run.

    :param folder: where inventories can be written
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._path = folder / "inventory.yaml"
        self._rows: list[tuple[str, ...]] = []
        self._reader = wire.StatsReader()
        self._good: list[wire.HostDocument] = []
        self._before: dict[tuple[int, bool, int], list[Judged]] = {}
        self._weights: dict[tuple[int, bool, int], list[tuple[str, int]]] = {}
        self._ways: dict[tuple[int, int], list[tuple[bool, int]]] = {}
        self._stranded: frozenset[str] | None = None
        #: How many inputs could be read all the same, by kind.
        self.read: dict[str, int] = {}
        self.page()

    def page(self) -> None:
        """Print what has come together, and begin anew with a reader that knows nothing."""
        for formatter in (Shown(Table()), Shown(commaseparated.CSVLister())):
            stream = io.StringIO()
            options = argparse.Namespace(
                max_width=0, fit_width=False, print_empty=False, quote_mode="all"
            )
            formatter.emit_list(ROW, iter(self._rows), stream, options)
            lines = stream.getvalue().split("\n")[:-1]
            frame = 4 if self._rows and formatter is not None and lines[0][0] == "+" else 1
            check(len(lines) == len(self._rows) + frame, "a row that is not one line")
            for line in lines:
                check(line.isprintable(), f"printed: {line[:300]!r}")
                check(not any(cell[0] in "=+-@" for cell in _cells(line)), f"formula: {line!r}")
        self._rows.clear()
        self._reader = wire.StatsReader()

    def _note(self, kind: str) -> None:
        self.read[kind] = self.read.get(kind, 0) + 1

    def _row(self, *cells: str) -> None:
        self._rows.append((*cells, *[""] * (len(ROW) - len(cells))))
        if len(self._rows) >= _PAGE:
            self.page()

    # --- stats documents ------------------------------------------------------------------------

    def stats(self, rng: random.Random) -> object:
        """A host publishes something."""
        base = rng.choice(BASES)
        if rng.randrange(3):
            text = inputs.stats_text(rng, base)
            self._published(rng, text)
            return text
        # One group alone is wrong: all others of the host say what they said before.
        content = json.loads(base)
        at = rng.randrange(len(content["g"]))
        inputs.spoil(rng, content, ("g", at))
        text = inputs.dumps(content)
        found = self._published(rng, text)
        if len(text) <= _MOST_TEXT:
            check(isinstance(found, wire.HostDocument), f"one group took all with it: {found}")
        if isinstance(found, wire.HostDocument):
            self._others_stand(base, json.loads(base)["g"][at]["f"], found)
        return text

    def stats_2(self, rng: random.Random) -> object:
        """A host publishes something in format 2."""
        base = rng.choice(BASES_2)
        text, family = stats_2.text_of(rng, base)
        found = self._published(rng, text)
        if isinstance(found, wire.HostDocument):
            self._note("stats_2")
        if family is not None:
            check(isinstance(found, wire.HostDocument), f"one group took all with it: {found}")
            assert isinstance(found, wire.HostDocument)
            self._others_stand(base, family, found)
        if not rng.randrange(3):
            which, how = rng.randrange(len(REQUESTS)), rng.randrange(1, len(CANDIDATES))
            self._go(rng, text, which, how)
        return text

    def _go(self, rng: random.Random, text: str, which: int, how: int) -> None:
        """The other hosts go where they go without it, whoever is asked first."""
        key = (which, how)
        if key not in self._ways:
            self._ways[key] = [
                stats_2.ways_of([one], REQUESTS[which], STRICT, CANDIDATES[how])[0]
                for one in GOOD_2
            ]
        texts = [text, *GOOD_2, text, *GOOD_2]
        order = list(range(len(texts)))
        rng.shuffle(order)
        ways = stats_2.ways_of(
            [texts[at] for at in order], REQUESTS[which], STRICT, CANDIDATES[how]
        )
        for at, way in zip(order, ways, strict=True):
            if texts[at] in GOOD_2:
                alone = self._ways[key][GOOD_2.index(texts[at])]
                check(way == alone, "another host goes elsewhere")

    def _others_stand(self, base: str, spoilt: str, found: wire.HostDocument) -> None:
        """No other family of the host is affected by a group of one."""
        before = self._reader.read(base)
        assert isinstance(before, wire.HostDocument)
        for part in (*before.devices, *before.host):
            if part.family == spoilt:
                continue
            same = [
                one
                for one in (*found.devices, *found.host)
                if (one.address, one.family) == (part.address, part.family)
            ]
            check(same, f"{part.family} is gone with {spoilt}")
            check(same[0].accepts == part.accepts, f"{part.family} changed with {spoilt}")

    def _published(self, rng: random.Random, text: str) -> wire.HostDocument | wire.WireError:
        found = self._reader.read(text)
        if isinstance(found, wire.WireError):
            check_line(str(found), 300)
        else:
            self._note("stats")
            self._check_document(found)
        which = rng.randrange(len(REQUESTS))
        lenient, how = bool(rng.randrange(2)), rng.randrange(len(CANDIDATES))
        self._judge(found, which, lenient=lenient, how=how)
        if not rng.randrange(4):
            self._weigh(found, which, lenient=lenient, how=how)
        if not rng.randrange(12):
            self._ask_the_fleet(text, found)
        return found

    def _check_document(self, found: wire.HostDocument) -> None:
        check_line(found.catalog, 255)
        for family, why in found.unreadable.items():
            check_line(why)
            if family:
                traits.check_name(family)
        check(not (found.unreadable and (found.whole or found.shape or found.kin)), "short cuts")
        for part in (*found.devices, *found.host):
            _check_accepts(part.accepts)
            check_line(part.address, 255)
            check(part.address == part.address.strip(), "white space in an address")
            need = part.freeze(slot="rc:X", address=part.address, pin=None)
            again = wire.load_record(wire.dump_record(Need(devices=(need,))))
            check(again == Need(devices=(need,)), "a record that reads otherwise")
            verdict = part.accepts.judge(need)
            for reason in verdict.reasons:
                check_line(str(reason), 2_000_000)

    def _new_judge(self, which: int, *, lenient: bool) -> RequestJudge:
        return RequestJudge(REQUESTS[which], LENIENT if lenient else STRICT)

    def _judge(
        self, found: wire.HostDocument | wire.WireError, which: int, *, lenient: bool, how: int
    ) -> None:
        """The other hosts are judged as they are without it, whoever is asked first."""
        candidates = CANDIDATES[how]
        key = (which, lenient, how)
        if key not in self._before:
            # Each by a reader and a judge of its own, so that nothing can be shared.
            self._before[key] = [
                self._new_judge(which, lenient=lenient).judge(wire.load_stats(text), candidates)
                for text in GOOD
            ]
        judge = self._new_judge(which, lenient=lenient)
        judged = _judged(judge, found, candidates)
        refusals = explain.Refusals()
        refusals.add(
            types.SimpleNamespace(host="bad", nodename="bad"),
            (*judged.ruling.refused, *judged.ruling.reported),
        )
        check_line(str(refusals), 1_000_000)
        for text, before in zip(GOOD, self._before[key], strict=True):
            document = self._reader.read(text)
            assert isinstance(document, wire.HostDocument)
            check(judge.judge(document, candidates) == before, "another host is judged otherwise")
        if how == 1:
            again = _judged(judge, found, candidates)
            check(again == judged, "asked again, it is judged otherwise")
        for reason in judged.ruling.refused[:2]:
            check_line(explain.line(reason))
            self._row("bad", reason.family, "", reason.needed, str(reason))

    def _weigh(
        self, found: wire.HostDocument | wire.WireError, which: int, *, lenient: bool, how: int
    ) -> None:
        key = (which, lenient, how)
        if key not in self._weights:
            self._weights[key] = self._groups(None, key)[1:]
        others = self._groups(found, key)[1:]
        for (why, count), (why_before, before) in zip(others, self._weights[key], strict=True):
            check(why == why_before, f"another host weighs nothing: {why}")
            check(count - before in (0, 1), "another host is accepted by others than before")

    def _groups(
        self, found: wire.HostDocument | wire.WireError | None, key: tuple[int, bool, int]
    ) -> list[tuple[str, int]]:
        which, lenient, how = key
        request = Mobility(REQUESTS[which], LENIENT if lenient else STRICT, [REQUEST])
        documents: list[Any] = [] if found is None else [_reason_or(found)]
        documents += map(self._reader.read, GOOD)
        groups = [request.group(document, CANDIDATES[how]) for document in documents]
        for group in groups:
            group.hosts += 1
        request.weigh()
        pairs = [(group.why, group.accepted_by) for group in groups]
        return pairs if found is not None else [("", 0), *pairs]

    def _ask_the_fleet(self, text: str, found: wire.HostDocument | wire.WireError) -> None:
        """What a controller asks of a host, and of guests that could go there."""
        hosts = [
            host_of(
                types.SimpleNamespace(
                    id=number,
                    host=f"cmp{number}",
                    hypervisor_hostname=f"cmp{number}",
                    stats={wire.STATS_KEY: one},
                ),
                self._reader,
            )
            for number, one in enumerate((text, *GOOD))
        ]
        host = hosts[0]
        check((host.document is None) is not isinstance(found, wire.HostDocument), "another text")
        for provider in host.providers:
            check(len(provider) == 36 and provider.isascii(), f"provider {provider!r}")
            host.behind(provider)
        for part in (_GPU, _CARD, _QEMU):
            for reason in host.judge(part).reasons:
                self._row("bad", part.family, part.address, "", str(reason))
        if self._stranded is None:
            self._stranded = self._stranded_on(hosts[1:])
        check(self._stranded_on(hosts) <= self._stranded, "stranded for another host's sake")

    @staticmethod
    def _stranded_on(hosts: Sequence[Host]) -> frozenset[str]:
        guests = [
            RunningGuest(uuid=uuid_of(str(number)), place=hosts[-1].place, record=guest.record)
            for number, guest in enumerate(REQUESTS)
        ]
        stranded = Stranded(Fleet(hosts=hosts, guests=guests), CATALOG)
        why = stranded.under(STRICT, lambda ruling: ruling.refused)
        for text in why.values():
            check_line(text, 1_000_000)
        return frozenset(guest.uuid for guest in why)

    # --- records, traits, flavors ---------------------------------------------------------------

    def record(self, rng: random.Random) -> object:
        """A guest has some record."""
        metadata = inputs.record(rng, RECORD)
        try:
            need = wire.load_record(metadata)
        except wire.WireError as error:
            check_line(str(error), 300)
            self._row("guest", "", "", "", f"{Code.RECORD_UNREADABLE}: {error}")
            return metadata
        if need is None:
            return metadata
        self._note("record")
        check(wire.load_record(wire.dump_record(need)) == need, "a record that reads otherwise")
        guest = types.SimpleNamespace(uuid=uuid_of("g"), host="cmp1")
        for device in need.devices[:3]:
            row = records._row(guest, device, "")
            check_line(row.address, 255)
            self._row(row.host, row.family, row.address, row.need)
        check_line(explain.describe(Lookup(uuid_of("g"), Guest(record=need))), 100_000)
        self._ask(Guest(record=need))
        need.completed(REQUESTS[3].need)
        return metadata

    def _ask(self, guest: Guest) -> None:
        judge = RequestJudge(guest, STRICT)
        for text in GOOD:
            document = self._reader.read(text)
            assert isinstance(document, wire.HostDocument)
            for reason in judge.judge(document, CANDIDATES[2]).ruling.refused:
                check_line(explain.line(reason))
        for atom in list(required_atoms(guest, STRICT))[:3]:
            try:
                check(traits.decode(traits.encode(atom)) == atom, "another atom")
            except traits.TraitTooLong as error:
                check_line(str(error))

    def traits(self, rng: random.Random) -> object:
        """Somebody made traits under our prefix: hosts evaluate them and publish."""
        names = inputs.trait_names(rng, TRAITS)
        atoms = Placement(_Client([*TRAITS, *names])).known_atoms()  # type: ignore[arg-type]
        assert atoms is not None
        offers = {
            "gpu": FAMILIES["gpu"].offer({"version": "1.3", "caps": ["p2p"]}),
            "nic": FAMILIES["nic"].offer({"mode": "x"}),
        }
        devices = tuple(
            wire.PublishedDevice(address=name, accepts=offer.accept_set(atoms))
            for name, offer in offers.items()
        )
        written = wire.HostDocument(catalog="", whole=True, devices=devices)
        found = self._reader.read(wire.dump_stats(written))
        assert isinstance(found, wire.HostDocument)
        check(found.unreadable == {}, f"traits made a host unreadable: {found.unreadable}")
        for device in found.devices:
            _check_accepts(device.accepts)
            for accepts in device.accepts.attributes.values():
                check(accepts.unknown is None, f"traits made it unknown: {accepts.unknown}")
        gpu, nic = sorted(found.devices, key=lambda one: one.family)
        check(gpu.accepts.judge(_GPU).outcome is Outcome.ACCEPT, "it accepts no more")
        check(nic.accepts.judge(_CARD).outcome is Outcome.ACCEPT, "it accepts no more")
        self._note("traits")
        return names

    def flavor(self, rng: random.Random) -> object:
        """A flavor has some extra specs."""
        specs = inputs.extra_specs(rng)
        pins, bad = CATALOG.read_pins(specs)
        guest = Guest(pins=pins, bad_pins=tuple(map(doubt_of_pin, bad)), keeps_devices=False)
        for doubt in guest.doubts:
            check_line(explain.line(doubt.reason))
            self._row("flavor", doubt.reason.family, "", "", str(doubt.reason))
        if pins.devices:
            self._note("flavor")
        check_line(explain.describe(Lookup(uuid_of("g"), guest)), 100_000)
        self._ask(guest)
        return specs

    # --- inventories ----------------------------------------------------------------------------

    def inventory(self, rng: random.Random) -> object:
        """An operator wrote an inventory."""
        content = inputs.inventory(rng, _INVENTORY)
        self._path.write_bytes(content)
        try:
            loaded = load_inventory(self._path, CATALOG)
            matrix = Matrix(CATALOG, loaded)
        except DocumentError as error:
            for problem in error.problems:
                check_line(str(problem), 2_000)
            return content
        except AmbiguousDevice:
            return content
        self._note("inventory")
        for move in matrix.moves():
            self._print_move(move)
        return content

    def _print_move(self, move: Move) -> None:
        self._row(move.source_host, move.family, move.source_address, "", move.reason)


def _check_accepts(accept_set: AcceptSet) -> None:
    """Whatever of it may come to stand in a line can."""
    for atom in accept_set.atoms:
        check_line(atom.value, 255)
    for accepts in accept_set.attributes.values():
        for text in (accepts.kind, accepts.offered, *(accepts.unknown or ())):
            check_line(text, 255)
        for value, (code, _) in accepts.rejected.items():
            check_line(value, 255)
            check_line(code, 64)


def _judged(
    judge: RequestJudge,
    found: wire.HostDocument | wire.WireError,
    candidates: Sequence[dict[str, Any]],
) -> Judged:
    known = _reason_or(found)
    return judge.silent(known) if isinstance(known, Reason) else judge.judge(known, candidates)


def _reason_or(found: wire.HostDocument | wire.WireError) -> wire.HostDocument | Reason:
    """As the scheduler's state has it."""
    if isinstance(found, wire.WireError):
        return Reason(code=Code.HOST_UNREADABLE, actor=Actor.OPERATOR, detail=str(found))
    return found


def _cells(line: str) -> Iterable[str]:
    """What a spreadsheet would find in a line of CSV; nothing in a table's."""
    cells = line.strip('"').split('","') if line.startswith('"') else ()
    return [cell for cell in cells if cell]
