# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What becomes of a recorded need, by what Nova says that the guest has and what devices tell.

Two things are kept apart: whether a device is the guest's, which Nova's own lists tell, and
whether it can be read. A device that is the guest's no more is dropped, always; one that cannot be
read now never is. Nothing here asks anything or raises.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

from nova_devcompat.compat.need import ORIGIN, DeviceNeed, InMigration, Need


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A device that is the guest's.

    :param slot: which of its requests it answers
    :param address: where it is on the guest's host
    :param in_migration: what a live migration does with it
    :param now: what a guest needs whose device is initialised now; None where the device cannot be
        read, or belongs to no family
    """

    slot: str
    address: str
    in_migration: InMigration = InMigration.STAYS
    now: DeviceNeed | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What is known of a guest now.

    :param devices: those that are the guest's
    :param host: what it needs of its host by what it uses now, by host family
    :param rules: by family of the catalog, the attributes that have a rule. A need of another
        family is of one that was renamed or removed
    :param complete: whether it has no devices but these; otherwise nobody told which devices that
        are assigned by allocation alone it has
    :param requested: slots of the PCI requests of its flavor. Of one that no device answers, Nova
        has lost the claim, and the guest runs on with the device
    :param untold: names of devices that are the guest's and of which nobody tells which they are,
        so that they may be of any family
    """

    devices: tuple[Found, ...] = ()
    host: tuple[DeviceNeed, ...] = ()
    rules: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)
    complete: bool = True
    requested: frozenset[str] = frozenset()
    untold: frozenset[str] = frozenset()


def initialised(recorded: Need, findings: Findings) -> Need:
    """All devices of the guest were initialised a moment ago.

    Of one that cannot be read, it is not known what it is now.
    """
    parts = []
    unknown = [_unknown(one) for one in _asked_for(recorded, findings).devices]
    for found, before in _paired(Need(devices=tuple(unknown)), findings):
        if found is not None and found.now is not None:
            parts.append(found.now)
        elif before is not None and before.family in findings.rules:
            parts.append(before if found is None else _at(before, found))
    return Need(devices=(*parts, *findings.host))


def assumed(recorded: Need, findings: Findings) -> Need:
    """The same of a guest that was started when nobody looked."""
    return Need(devices=tuple(one.assuming() for one in initialised(recorded, findings).devices))


def completed(recorded: Need, findings: Findings) -> Need:
    """With what is missing of a record that is of the guest as it runs now, marked as assumed."""
    recorded = _asked_for(recorded, findings)
    parts = []
    requested = findings.requested
    for found, before in _paired(recorded, findings, gone=lambda one: one.slot in requested):
        known = before if before is not None and before.family in findings.rules else None
        if found is None:
            parts += [known] if known is not None else []
        elif found.now is None:
            parts += [_at(known, found)] if known is not None else []
        elif known is not None and known.family == found.now.family:
            parts.append(_at(known.completed(found.now), found))
        else:
            parts.append(found.now.assuming())
    return Need(devices=(*parts, *_host(recorded, findings)))


def arrived(recorded: Need, findings: Findings) -> Need:
    """The guest has been live migrated here.

    What stays is needed as before, at its new address. The rest was initialised a moment ago.
    """
    parts = []
    for found, before in _paired(recorded, findings, same=(_same_device,), gone=_is_staying):
        if found is None:
            parts += [before.moved("")] if before is not None else []
        elif found.in_migration is InMigration.STAYS:
            parts += [_at(before, found)] if before is not None else []
        elif found.now is not None:
            parts.append(found.now)
        elif before is not None:
            parts.append(_unknown(_at(before, found)))
    return Need(devices=(*parts, *recorded.host))


def followed(recorded: Need, findings: Findings) -> Need:
    """The guest has been live migrated here, and nobody looked then."""
    here = arrived(recorded, findings)
    devices = (one if one.of_host or _is_staying(one) else one.assuming() for one in here.devices)
    return completed(Need(devices=tuple(devices)), findings)


def _asked_for(recorded: Need, findings: Findings) -> Need:
    """Without what the guest was started on where no entry of known-bad pairs asks for it now.

    Only entries make such attributes, so one that was withdrawn would leave a need that no host
    has a rule for. What other attributes ask stays: their rule may have yet to come to this host.
    """

    def withdrawn(family: str, attribute: str) -> bool:
        return attribute.endswith(ORIGIN) and attribute not in findings.rules.get(family, ())

    return Need(
        devices=tuple(
            one.without({name for name, _ in one.values if withdrawn(one.family, name)})
            for one in recorded.devices
        )
    )


def _is_staying(need: DeviceNeed) -> bool:
    return need.in_migration is InMigration.STAYS


def _host(recorded: Need, findings: Findings) -> list[DeviceNeed]:
    before = {one.family: one for one in recorded.host if one.family in findings.rules}
    now = {one.family: one for one in findings.host}
    return [
        before[family].completed(now[family])
        if family in before and family in now
        else before[family]
        if family in before
        else now[family].assuming()
        for family in {**before, **now}
    ]


def _paired(
    recorded: Need,
    findings: Findings,
    *,
    same: Sequence[Callable[[DeviceNeed, Found], bool]] | None = None,
    gone: Callable[[DeviceNeed], bool] = lambda need: False,
) -> list[tuple[Found | None, DeviceNeed | None]]:
    """Each device with what is recorded of it; then what is recorded of others that are kept.

    A request can have got a new ID, and an address be of another host, but not both. Where
    several devices answer one request, of which unlike things are needed, and nothing tells which
    of them is which, the address is left empty rather than wrong.

    :param same: what tells that a need is of a device, the surest first; by default the guest is
        on the host that the addresses are of
    :param gone: whether a need is kept whose device Nova does not name
    """
    left = list(recorded.assigned)
    pairs: dict[int, DeviceNeed] = {}
    for is_of in same or (_same_device, _same_address):
        for index, found in enumerate(findings.devices):
            if index not in pairs:
                at = next((one for one in left if is_of(one, found)), None)
                if at is not None:
                    left.remove(at)
                    pairs[index] = at
    unsure = set()
    for slot in {one.slot: None for one in left}:
        free = [
            index
            for index, found in enumerate(findings.devices)
            if found.slot == slot and index not in pairs
        ]
        several = len(free) > 1 and len({_needed(one) for one in left if one.slot == slot}) > 1
        for index in free:
            before = next((one for one in left if one.slot == slot), None)
            if before is not None:
                left.remove(before)
                pairs[index] = before
                if several:
                    unsure.add(index)
    made: list[tuple[Found | None, DeviceNeed | None]] = [
        (
            dataclasses.replace(found, address="") if index in unsure else found,
            pairs.get(index),
        )
        for index, found in enumerate(findings.devices)
    ]
    kept = [
        one
        for one in left
        if gone(one) or (one.resource_class is not None and not findings.complete)
    ]
    return [*made, *((None, one) for one in kept)]


def _same_device(need: DeviceNeed, found: Found) -> bool:
    return _same_address(need, found) and need.slot == found.slot


def _same_address(need: DeviceNeed, found: Found) -> bool:
    return bool(need.address) and need.address == found.address


def _needed(need: DeviceNeed) -> DeviceNeed:
    """What is needed, without where it is and what a migration does with it."""
    return dataclasses.replace(need, address="", in_migration=InMigration.STAYS)


def _at(need: DeviceNeed, found: Found) -> DeviceNeed:
    return dataclasses.replace(
        need, slot=found.slot, address=found.address, in_migration=found.in_migration
    )


def _unknown(need: DeviceNeed) -> DeviceNeed:
    return dataclasses.replace(
        need,
        values=tuple((attribute, None) for attribute, _ in need.values),
        assumed=frozenset(),
    )
