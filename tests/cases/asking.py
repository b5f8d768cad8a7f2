# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is asked of each kind of case, and of whom."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import logging
import pathlib
import shlex
import tempfile
import types
from collections.abc import Callable, Iterator
from typing import Any

from nova_devcompat.catalog import CatalogKeeper, packs
from nova_devcompat.catalog.stages import now
from nova_devcompat.cli.main import main as command
from nova_devcompat.compat import kinds, ruling
from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.need import DeviceNeed, Need, pci_slot
from nova_devcompat.compat.pins import BadPin
from nova_devcompat.compat.policy import Policy
from nova_devcompat.compat.rules import BadOptions
from nova_devcompat.compat.ruling import NO_RECORD, Guest
from nova_devcompat.compat.verdict import Outcome, Verdict
from nova_devcompat.compute import admit
from nova_devcompat.compute.domain import Domains
from nova_devcompat.fleet.matrix import Matrix
from nova_devcompat.host.devices import HostDevice, HostDevices
from nova_devcompat.kit.problems import DocumentError
from nova_devcompat.service import load_catalog
from nova_devcompat.sources import registered
from nova_devcompat.sources.static import load_inventory
from nova_devcompat.stores.assigned import Assigned
from tests.cases.hosts import Machine
from tests.cases.reading import SHAPES, BadCase, Case, expectations, keys, listed, mapped

#: What a verdict is where a device of the destination is not judged at all.
SILENT = "silent"

_SLOT = pci_slot("5f1d2a8e-0000-4000-8000-00000000cafe")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What one expectation came to.

    :param what: which of the case's it is
    :param verdict: ``accept``, ``reject``, ``unknown``, ``error``, ``silent``; ``crash`` for what
        should never be
    :param reason: why
    :param expected: verdicts of which any is right
    """

    what: str
    verdict: str
    reason: str
    expected: frozenset[str]

    @property
    def right(self) -> bool:
        """Whether it is what was expected."""
        return self.verdict in self.expected

    def line(self, case: str) -> str:
        """It as the report has it."""
        told = " ".join(f"{self.verdict} {self.reason}".split())
        expected = " or ".join(sorted(self.expected))
        mark = "ok" if self.right else "WRONG"
        return f"{case} {self.what}: {told} [expected {expected}] {mark}"


def answers(case: Case) -> Iterator[Answer]:
    """What a case comes to, an answer for each of its expectations.

    :raises BadCase: it cannot be asked
    """
    with tempfile.TemporaryDirectory(prefix="case-") as scratch:
        yield from _KINDS[case.kind](case, pathlib.Path(scratch))


# --- hosts ---------------------------------------------------------------------------------------


def _hosts(case: Case, scratch: pathlib.Path) -> Iterator[Answer]:
    content = case.content
    expected = _by_name(content, list(mapped(content["destinations"], "destinations")))
    stated = keys("guest", content["guest"], "guest")
    try:
        keeper = _keeper(case)
        keeper.current()
    except DocumentError as error:
        yield from _errors(expected, error)
        return
    address, xml = stated.get("device"), case.text(stated["xml"]) if "xml" in stated else None
    claimed = (address, stated.get("parent"))
    home = _machine(case, "source", content["source"], "source", scratch / "source", claimed)
    here = home.read(keeper)
    guest = _guest(here, home, address, stated.get("parent"), xml)
    for number, (name, there) in enumerate(content["destinations"].items()):
        place = f"destinations.{name}"
        to = there.get("device", address)
        claimed = (to, there.get("parent") or stated.get("parent"))
        machine = _machine(case, "destination", there, place, scratch / str(number), claimed)
        parent = there.get("parent") or (to and machine.parent_of(to))
        if parent is None and "device" not in there:
            parent = stated.get("parent")
        verdict = _admitted(guest, address, to, parent, machine.read(keeper))
        yield Answer(what=name, expected=expected[name], verdict=verdict[0], reason=verdict[1])


def _machine(
    case: Case,
    shape: str,
    stated: object,
    place: str,
    folder: pathlib.Path,
    claimed: tuple[str | None, str | None] = (None, None),
) -> Machine:
    folder.mkdir()
    host = {key: keys(shape, stated, place)[key] for key in SHAPES["source"] & set(stated or ())}
    return Machine(case, host, place, folder, claimed)


def _keeper(case: Case) -> CatalogKeeper:
    named = [str(name) for name in listed(case.content.get("packs"), "packs")]
    own = [case.folder / "catalog.yaml"] if case.has("catalog.yaml") else []
    try:
        packs.catalog_paths(named, own)
    except packs.UnknownPack as error:
        raise BadCase(str(error)) from error
    return CatalogKeeper(own or [""], named, registered=registered(), min_interval=0)


def _guest(
    devices: HostDevices,
    machine: Machine,
    address: str | None,
    parent: str | None,
    xml: str | None,
) -> Guest:
    """A guest that was started there and has run for a while."""
    found: list[DeviceNeed] = []
    if address:
        parent = parent or machine.parent_of(address)
        device = devices.find(address, parent)
        if device is not None:
            found.append(_used(device, address, xml))
        elif not devices.is_of_none(address, parent):
            # As nova-compute has it: nothing is recorded while nobody can tell what it has.
            return Guest(record=NO_RECORD)
    domain = types.SimpleNamespace(get_xml_desc=lambda: xml)
    driver = types.SimpleNamespace()
    if xml is not None:
        driver._host = types.SimpleNamespace(get_guest=lambda instance: domain)
    instance = types.SimpleNamespace(uuid="", name="case", system_metadata={})
    return Guest(record=Need(devices=(*found, *Domains(driver).needs(instance, devices))))


def _used(device: HostDevice, address: str, xml: str | None) -> DeviceNeed:
    """Frozen when the device was initialised, then what the guest's own driver agreed on."""
    need = device.freeze(slot=_SLOT, address=address, pin=None)
    values = dict(need.values)
    for attribute, guests in device.in_use.items():
        mine = [used for uuid, used in guests.items() if xml is None or uuid in xml]
        if len(mine) == 1:
            values[attribute] = mine[0]
    return dataclasses.replace(need, values=tuple(values.items()))


def _admitted(
    guest: Guest, address: str | None, to: str | None, parent: str | None, devices: HostDevices
) -> tuple[str, str]:
    """What the destination says once the device is claimed there, before any policy."""
    slots, moves, claimed = {}, {}, []
    if address and to:
        slots, moves = {address: _SLOT}, {address: to}
        claimed.append(Assigned(_SLOT, to, devices.find(to, parent)))
    given = admit.given_by_claims(guest, slots, moves, claimed, devices.host)
    policies = devices.catalog.policies(Policy(), now())
    verdict = Verdict.all_of(found for _, found in ruling.verdicts(guest, given, policies))
    if verdict.outcome is Outcome.ACCEPT and _is_passed_over(guest.need, claimed, devices):
        return SILENT, f"{to} is of no family"
    return verdict.outcome.value, "; ".join(map(str, verdict.reasons))


def _is_passed_over(need: Need, claimed: list[Assigned[HostDevice]], devices: HostDevices) -> bool:
    return any(one.device is None for one in claimed) or (
        not need.devices and not claimed and not devices.host
    )


def _errors(expected: dict[str, frozenset[str]], error: Exception) -> Iterator[Answer]:
    for name, wanted in expected.items():
        yield Answer(what=name, verdict="error", reason=str(error), expected=wanted)


def _by_name(content: Any, names: list[str]) -> dict[str, frozenset[str]]:
    """What is expected of each, one for all or one for each."""
    stated = content["expected"]
    if not isinstance(stated, dict):
        return dict.fromkeys(names, expectations(stated, "expected"))
    found = {str(name): expectations(one, f"expected.{name}") for name, one in stated.items()}
    for name in set(found) ^ set(names):
        raise BadCase(f"expected: {name!r} is not expected, or not there")
    return {name: found[name] for name in names}


# --- matrix --------------------------------------------------------------------------------------


def _matrix(case: Case, scratch: pathlib.Path) -> Iterator[Answer]:
    stated = case.content["expected"]
    pairs = list(stated) if isinstance(stated, dict) else ["all"]
    expected = _by_name(case.content, pairs)
    own = [case.folder / "catalog.yaml"] if case.has("catalog.yaml") else []
    named = [str(name) for name in listed(case.content.get("packs"), "packs")]
    try:
        catalog = load_catalog(packs.catalog_paths(named, own), check_sources=False)
        inventory = load_inventory(case.folder / "inventory.yaml", catalog)
        moves = list(Matrix(catalog, inventory).moves())
    except (DocumentError, ValueError) as error:
        yield from _errors(expected, error)
        return
    rows: dict[str, list[tuple[str, str]]] = {}
    for move in moves:
        pair = f"{move.source_host}->{move.destination_host}"
        rows.setdefault(pair, []).append((move.verdict, move.reason))
    for pair, wanted in expected.items():
        verdicts = rows.get(pair.replace(" ", ""), [])
        if pair == "all":
            verdicts = list(itertools.chain.from_iterable(rows.values()))
        verdict, reason = max(verdicts, key=_severity, default=(SILENT, "no row"))
        yield Answer(what=pair, verdict=verdict, reason=reason, expected=wanted)


def _severity(verdict: tuple[str, str]) -> int:
    return ("accept", "unknown", "reject").index(verdict[0])


# --- versions ------------------------------------------------------------------------------------


def _versions(case: Case, scratch: pathlib.Path) -> Iterator[Answer]:
    for number, stated in enumerate(listed(case.content["rows"], "rows")):
        place = f"rows[{number}]"
        row = keys("row", stated, place)
        for key in ("rule", "expected"):
            if key not in row:
                raise BadCase(f"{place}: {key} is missing")
        offer, need = row.get("offer"), row.get("need")
        told = f"{row['rule']} offer {_shown(offer)} need {_shown(need)}"
        verdict, reason = _compared(row, place)
        yield Answer(
            what=f"{place} {told}",
            verdict=verdict,
            reason=reason,
            expected=expectations(row["expected"], f"{place}.expected"),
        )


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _compared(row: dict[str, Any], place: str) -> tuple[str, str]:
    kind = getattr(kinds, str(row["rule"]), None) or kinds.BY_NAME.get(str(row["rule"]))
    if kind is None:
        raise BadCase(f"{place}.rule: {row['rule']!r} is no kind of rule")
    try:
        rule = kind.from_options(mapped(row.get("options"), f"{place}.options"))
    except BadOptions as error:
        return "error", str(error)
    needed = row.get("need")
    texts = needed if isinstance(needed, list) else [] if needed is None else [needed]
    values = []
    for text in texts:
        try:
            values.append(rule.canonical(text if isinstance(text, str) else str(text)))
        except Unreadable as error:
            return Outcome.UNKNOWN.value, f"the need {error}"
    family = Family(name="case", rules={"attribute": rule})
    need = DeviceNeed.of("case", {"attribute": frozenset(values)})
    verdict = family.offer({"attribute": row.get("offer")}).judge(need)
    return verdict.outcome.value, "; ".join(map(str, verdict.reasons))


# --- pin, plan, validate -------------------------------------------------------------------------


def _pin(case: Case, scratch: pathlib.Path) -> Iterator[Answer]:
    content = case.content
    names = list(mapped(content["destinations"], "destinations"))
    stated = content["expected"]
    when_set = not isinstance(stated, dict)
    expected = _by_name(content, ["when set"] if when_set else names)
    keeper = _keeper(case)
    specs = {
        key: str(value) for key, value in mapped(content["extra_specs"], "extra_specs").items()
    }
    try:
        pins = keeper.current().pins(specs)
    except (DocumentError, BadPin) as error:
        yield from _errors(expected, error)
        return
    if when_set:
        yield Answer(what="when set", verdict="accept", reason="", expected=expected["when set"])
        return
    for number, (name, there) in enumerate(content["destinations"].items()):
        machine = _machine(
            case, "destination", there, f"destinations.{name}", scratch / str(number)
        )
        devices = machine.read(keeper)
        guest = Guest(pins=pins, keeps_devices=False)
        assigned = [Assigned("", device.address, device) for device in devices]
        given = admit.given_devices(guest, assigned, devices.host)
        policies = devices.catalog.policies(Policy(), now())
        verdict = Verdict.all_of(found for _, found in ruling.verdicts(guest, given, policies))
        yield Answer(
            what=name,
            verdict=verdict.outcome.value,
            reason="; ".join(map(str, verdict.reasons)),
            expected=expected[name],
        )


def _plan(case: Case, scratch: pathlib.Path) -> Iterator[Answer]:
    for release in listed(case.content["releases"], "releases"):
        verdict, told = _ran(["inventory", "plan", "--ecc-mode", "enabled", f"host={release}"])
        if verdict == "accept" and "min:" not in told:
            verdict = Outcome.UNKNOWN.value  # an inventory without a range is no answer
        yield Answer(
            what=str(release), verdict=verdict, reason=told, expected=frozenset({"accept"})
        )


def _validate(case: Case, scratch: pathlib.Path) -> Iterator[Answer]:
    stated = str(case.content["command"])
    arguments = [word.replace("CASE", str(case.folder)) for word in shlex.split(stated)]
    verdict, told = _ran(arguments)
    yield Answer(
        what=stated.split(" ", 1)[0],
        verdict=verdict,
        reason=told,
        expected=expectations(case.content["expected"], "expected"),
    )


def _ran(arguments: list[str]) -> tuple[str, str]:
    """What a command of ours says: ``accept`` where it exits with 0, ``error`` with 2."""
    out, errors = io.StringIO(), io.StringIO()
    disabled = logging.root.manager.disable
    logging.disable(logging.NOTSET)  # a command tells what is wrong by its log
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            status = command(arguments)
    finally:
        logging.disable(disabled)
    told = f"{errors.getvalue()} {out.getvalue()}".strip()
    if status == 2 and not told:
        return "crash", "it says nothing"
    return {0: "accept", 2: "error"}.get(status, "crash"), told


_KINDS: dict[str, Callable[[Case, pathlib.Path], Iterator[Answer]]] = {
    "hosts": _hosts,
    "matrix": _matrix,
    "versions": _versions,
    "pin": _pin,
    "plan": _plan,
    "validate": _validate,
}
