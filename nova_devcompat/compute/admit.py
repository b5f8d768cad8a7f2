# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Admission: the destination's last word on a live migration, on the devices really claimed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nova_devcompat.compat.judging import (
    Judge,
    PolicyOf,
    judge_any_order,
    judge_each,
    judge_host,
    judge_host_pins,
    judge_pins,
    judge_pins_loosely,
    no_offer,
    nothing_recorded,
)
from nova_devcompat.compat.need import DeviceNeed, Need, pci_slot
from nova_devcompat.compat.policy import Policy, Ruling
from nova_devcompat.compat.verdict import Verdict
from nova_devcompat.host.inventory import HostDevice, HostDevices
from nova_devcompat.stores.assigned import Assigned, Behind, from_allocations

if TYPE_CHECKING:
    from nova.objects import Instance
    from nova.objects.migrate_data import LiveMigrateData

#: Parent of a PCI address of this host, None where Nova knows none.
ParentOf = Callable[[str], str | None]

_NO_PINS = Need()
_NO_HOST: Mapping[str, HostDevice] = {}


def rule_on_host(
    need: Need,
    allocated: Mapping[str, list[HostDevice | None]],
    devices: HostDevices,
    policy: PolicyOf,
    pins: Need = _NO_PINS,
) -> Ruling:
    """Whether the host can take the guest, as far as that is known before PCI devices are claimed.

    :param need: the guest's recorded need, without devices where there is no record
    :param allocated: by slot, the devices that placement allocated here
    :param devices: all devices of the host, any of which may be claimed for the other slots
    :param policy: the policy of each family
    :param pins: what the guest's flavor pins
    """

    def verdicts() -> Iterator[tuple[Policy, Verdict]]:
        for slot, group in need.by_slot().items():
            families = {one.family for one in group}
            if slot in allocated:
                possible = [_judge_by(one) for one in allocated[slot]]
            else:
                possible = [dev.offer.judge for dev in devices if dev.family in families]
            yield from _under(policy, group, judge_each(group, possible, policy))
        accept_sets = [device.offer.accept_set(pins.atoms) for device in devices]
        of_devices = Need(devices=pins.assigned)
        loosely = judge_pins_loosely(of_devices, accept_sets, policy)
        yield from _under(policy, of_devices.devices, loosely)
        yield from _verdicts_on_host(need, devices.host, policy)
        yield from _verdicts_on_host_pins(pins, devices.host, policy)

    return Ruling.of(verdicts())


def allocated_devices(
    need: Need,
    instance: Instance,
    allocations: Mapping[str, Any] | None,
    behind: Behind[HostDevice],
) -> dict[str, list[HostDevice | None]]:
    """What placement allocated to the guest on this host, by slot; only slots that it tracks.

    :param need: the guest's recorded need
    :param instance: its PCI requests name the providers that the conductor took for them
        (nova/conductor/tasks/live_migrate.py)
    """
    found: dict[str, list[HostDevice | None]] = {}
    tracked = set()
    for request in instance.pci_requests.requests if instance.pci_requests else ():
        providers = (request.spec[0].get("rp_uuids") if request.spec else None) or ""
        found_there = [behind(provider) for provider in providers.split(",") if provider]
        # A forced move leaves the source's providers there, which are none of this host.
        if found_there and all(address for address, _ in found_there):
            here = [device for _, device in found_there]
            tracked.update(id(device) for device in here if device is not None)
            found[pci_slot(request.request_id)] = here
    for one in from_allocations(allocations, behind, need.by_slot()):
        if id(one.device) not in tracked:
            found.setdefault(one.slot, []).append(one.device)
    return found


def rule_on_claim(
    need: Need | None,
    source: Mapping[str, str],
    moves: Mapping[str, str],
    claimed: list[Assigned[HostDevice]],
    policy: PolicyOf,
    pins: Need = _NO_PINS,
    host: Mapping[str, HostDevice] = _NO_HOST,
) -> Ruling:
    """Whether the devices that were claimed here can take the guest.

    :param need: the guest's recorded need, None without a record
    :param source: slots by address of the guest's PCI devices where it is now
    :param moves: this host's PCI addresses by the source's
    :param claimed: the devices claimed here
    :param policy: the policy of each family
    :param pins: what the guest's flavor pins
    :param host: the host itself, by family
    """
    return Ruling.of(
        itertools.chain(
            _verdicts(need or Need(), source, moves, claimed, policy),
            _verdicts_on_host(need or Need(), host, policy),
            _verdicts_on_pins(pins, claimed, policy),
            _verdicts_on_host_pins(pins, host, policy),
        )
    )


def rule_on_pins(
    pins: Need,
    given: list[Assigned[HostDevice]],
    policy: PolicyOf,
    host: Mapping[str, HostDevice] = _NO_HOST,
) -> Ruling:
    """Whether the devices given to a guest, and its host, can act as its flavor wants.

    :param pins: what the guest's flavor pins
    :param given: the guest's devices on this host
    :param policy: the policy of each family
    :param host: the host itself, by family
    """
    return Ruling.of(
        itertools.chain(
            _verdicts_on_pins(pins, given, policy), _verdicts_on_host_pins(pins, host, policy)
        )
    )


def _verdicts_on_host(
    need: Need, host: Mapping[str, HostDevice], policy: PolicyOf
) -> Iterator[tuple[Policy, Verdict]]:
    judges = {family: part.offer.judge for family, part in host.items()}
    for family, verdict in judge_host(need.host, judges, complete=True).items():
        yield policy(family), verdict


def _verdicts_on_host_pins(
    pins: Need, host: Mapping[str, HostDevice], policy: PolicyOf
) -> Iterator[tuple[Policy, Verdict]]:
    accept_sets = {family: part.offer.accept_set(pins.atoms) for family, part in host.items()}
    for family, verdict in judge_host_pins(pins.host, accept_sets).items():
        yield policy(family), verdict


def _verdicts_on_pins(
    pins: Need, given: list[Assigned[HostDevice]], policy: PolicyOf
) -> Iterator[tuple[Policy, Verdict]]:
    accept_sets = [
        None if one.device is None else one.device.offer.accept_set(pins.atoms) for one in given
    ]
    of_devices = Need(devices=pins.assigned)
    yield from _under(policy, of_devices.devices, judge_pins(of_devices, accept_sets))


def _verdicts(
    need: Need,
    source: Mapping[str, str],
    moves: Mapping[str, str],
    claimed: list[Assigned[HostDevice]],
    policy: PolicyOf,
) -> Iterator[tuple[Policy, Verdict]]:
    here = {one.address: one for one in claimed}
    by_slot: dict[str, list[Assigned[HostDevice]]] = {}
    for one in claimed:
        by_slot.setdefault(one.slot, []).append(one)
    needs = need.by_slot()

    for slot, group in needs.items():
        pairs = _pairs(group, source, moves, here)
        if pairs is not None:
            verdicts = [_judge_by(device)(one) for one, device in pairs]
        else:
            # Nobody can tell which of the devices takes the place of which: all must do.
            verdicts = judge_any_order(
                group, [_judge_by(one.device) for one in by_slot.get(slot, ())]
            )
        yield from _under(policy, group, verdicts)

    for slot, assigned in by_slot.items():
        if slot in needs:
            continue
        for one in assigned:
            if one.device is not None:
                yield policy(one.device.family), _nothing_recorded(one.device)


def _under(
    policy: PolicyOf, group: Sequence[DeviceNeed], verdicts: list[Verdict]
) -> Iterator[tuple[Policy, Verdict]]:
    for one, verdict in zip(group, verdicts, strict=True):
        yield policy(one.family), verdict


def _pairs(
    group: list[DeviceNeed],
    source: Mapping[str, str],
    moves: Mapping[str, str],
    here: Mapping[str, Assigned[HostDevice]],
) -> list[tuple[DeviceNeed, HostDevice | None]] | None:
    """Each need with the very device that takes its device's place; None if that is not known."""
    pairs = []
    for one in group:
        moved = moves.get(one.address)
        # An address the guest no longer has would be a record left behind by an earlier host.
        if source.get(one.address) != one.slot or moved not in here:
            return None
        pairs.append((one, here[moved].device))
    return pairs


def _judge_by(device: HostDevice | None) -> Judge:
    return device.offer.judge if device is not None else no_offer


def _nothing_recorded(device: HostDevice) -> Verdict:
    return nothing_recorded(device.family, f"{device.address} was claimed for it here")


def moved_addresses(migrate_data: LiveMigrateData) -> dict[str, str]:
    """This host's PCI addresses by the source's, of flavor-based devices and of ports."""
    moves = {}
    if "pci_dev_map_src_dst" in migrate_data and migrate_data.pci_dev_map_src_dst:
        moves.update(migrate_data.pci_dev_map_src_dst)
    for vif in (migrate_data.vifs if "vifs" in migrate_data else None) or ():
        source = ((vif.source_vif or {}).get("profile") or {}).get("pci_slot")
        # Set only once the port's device was claimed here; unset it would read as the source's.
        target = (vif.profile or {}).get("pci_slot") if "profile_json" in vif else None
        if source and target:
            moves[source] = target
    return moves


def claimed_devices(
    need: Need | None,
    instance: Instance,
    moves: Mapping[str, str],
    allocations: Mapping[str, Any] | None,
    devices: HostDevices,
    behind: Behind[HostDevice],
    parent_of: ParentOf,
) -> tuple[dict[str, str], list[Assigned[HostDevice]]]:
    """What the guest has at the source, and what was claimed for it here.

    :param need: the guest's recorded need, None without a record
    :returns: slots by source address of its PCI devices, and the devices claimed here
    """
    source = {pci.address: pci_slot(pci.request_id) for pci in instance.pci_devices}
    claimed = []
    for old, new in moves.items():
        slot = source.get(old, pci_slot(None))
        claimed.append(Assigned(slot, new, devices.find(new, parent_of(new))))
    tracked = {id(one.device) for one in claimed if one.device is not None}
    claimed += [
        one
        for one in from_allocations(allocations, behind, need.by_slot() if need else ())
        if id(one.device) not in tracked
    ]
    return source, claimed


def relocate(need: Need, moves: Mapping[str, str], claimed: list[Assigned[HostDevice]]) -> Need:
    """The need as it will be recorded once the guest is here: the same, at its new addresses.

    An address that cannot be told is left empty rather than wrong.
    """
    by_slot: dict[str, list[str]] = {}
    for one in claimed:
        by_slot.setdefault(one.slot, []).append(one.address)

    def address_of(device: DeviceNeed) -> str:
        if device.address in moves:
            return moves[device.address]
        several = by_slot.get(device.slot, [])
        return several[0] if len(set(several)) == 1 else ""

    return Need(devices=tuple(device.moved(address_of(device)) for device in need.devices))
