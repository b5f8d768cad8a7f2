# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The one place where a guest and what a host offers are put together.

Filter, weigher, admission, the commands on records and the questions about the fleet each say who
the guest is (:class:`Guest`) and what it would be given (:class:`Given`), and ask :func:`rule`.
None of them puts verdicts together by itself.

The record, each pin, each device and each host family is a part with a verdict of its own. A part
that is missing or cannot be read (:class:`Doubt`) is one UNKNOWN among the others, decided by the
strictest policy of the families that it can concern. So a worse input never helps: it only ever
adds an UNKNOWN, and takes no REJECT away.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from nova_devcompat.compat import judging
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.given import (
    NOTHING_KNOWN,
    Choice,
    Claim,
    Extra,
    Given,
    Order,
    any_of,
)
from nova_devcompat.compat.guest import (
    NO_RECORD,
    Doubt,
    Guest,
    doubt_of_pin,
    unreadable_pins,
)
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import OnUnknown, Policies, Policy, Ruling
from nova_devcompat.compat.risks import Risk
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Reason, Verdict

# With what it is asked by, so that whoever asks finds it all in one place.
__all__ = [
    "NOTHING_KNOWN",
    "NO_RECORD",
    "Choice",
    "Claim",
    "Doubt",
    "Extra",
    "Given",
    "Guest",
    "JudgeBy",
    "Order",
    "any_of",
    "doubt_of_pin",
    "judge_part",
    "required_atoms",
    "rule",
    "unreadable_pins",
    "verdicts",
]

#: Holds a need against an accept-set: :meth:`AcceptSet.judge`, or what remembers its verdicts.
JudgeBy = Callable[[AcceptSet, DeviceNeed], Verdict]

_STRICT = Policies(Policy())

#: How many families a reason names.
_NAMED = 8


def rule(
    guest: Guest, given: Given, policies: Policies, judge: JudgeBy = AcceptSet.judge
) -> Ruling:
    """What the policies of all families make of a guest on a host.

    :param judge: what holds a need against an accept-set
    """
    return Ruling.of(verdicts(guest, given, policies, judge), guest.risks)


def verdicts(
    guest: Guest, given: Given, policies: Policies, judge: JudgeBy = AcceptSet.judge
) -> Iterator[tuple[Policy, Verdict]]:
    """The verdict on each part, with the policy that it is under."""
    for doubt in guest.doubts:
        yield from _of_doubt(doubt, guest, given, policies)
    if given.silent is not None:
        yield from _of_silence(given.silent, guest, given, policies)
        return
    for family, reason in given.unreadable.items():
        yield from _of_unreadable(family, reason, policies)
    yield from _of_claims(guest, given, policies, judge)
    yield from _of_extras(guest, given, policies)
    yield from _of_device_pins(guest, given, policies)
    yield from _of_host(guest, given, policies, judge)


def judge_part(
    need: DeviceNeed, devices: Sequence[AcceptSet], *, complete: bool = False
) -> Verdict:
    """The verdict on one need that any of some devices, or of some parts of hosts, may answer.

    No policy is applied: what :func:`rule` makes of one part, for whoever asks it of very many.

    :param complete: whether there are no others, so that none at all means that there is none
    """
    if len(devices) == 1:
        return devices[0].judge(need)
    if not devices and complete:
        return judging.one_too_few(need)
    return judging.judge_each([need], [device.judge for device in devices], _STRICT)[0]


def required_atoms(
    guest: Guest, policies: Policies, risks: Sequence[Risk] = ()
) -> frozenset[Atom]:
    """The atoms that a host must accept for the guest to have a chance: what placement is asked.

    None of a family or attribute whose policy leaves the decision to the filter, nor of one of
    which a risk is accepted.

    :param risks: accepted ones of hosts, which may be those that are found
    """
    waived = {risk.family for risk in (*guest.risks, *risks)}
    needed = frozenset(
        atom
        for part in guest.need.devices
        for atom in part.atoms
        if (policy := policies(part.family)).asks_of(atom.attribute)
        and part.family not in waived
        # '' stands for entries of known-bad lists.
        and ("" not in waived or atom.attribute not in policy.known_bad)
    )
    pinned = frozenset(
        atom
        for part in guest.pins.devices
        for atom in part.atoms
        if (policy := policies(part.family)).asks_of(atom.attribute)
        and atom.attribute not in policy.known_bad
    )
    return needed | pinned


# --- what is not known ---------------------------------------------------------------------------


def _of_doubt(
    doubt: Doubt, guest: Guest, given: Given, policies: Policies
) -> Iterator[tuple[Policy, Verdict]]:
    families = policies.families if doubt.anything else doubt.families
    if families is None:
        families = _given_families(guest, given, policies) | policies.of_hosts
        if not families and not guest.assigned:
            return  # nothing that it could need
    policy = policies.strictest(families)
    if doubt.always_counts:
        policies_of = [policies(family) for family in sorted(families)] or [policies.default]
        policy = dataclasses.replace(
            max(policies_of, key=lambda one: one.mode.strength), on_unknown=OnUnknown.REJECT
        )
    yield policy, Verdict.unknown(_naming(doubt.reason, families))


def _naming(reason: Reason, families: Iterable[str]) -> Reason:
    """The reason, with the families that it can concern."""
    names = sorted(families)
    if len(names) == 1:
        return dataclasses.replace(reason, family=names[0])
    if not names:
        return reason
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    concerned = f"it can concern {', '.join(names[:_NAMED])}{more}"
    detail = f"{reason.detail}; {concerned}" if reason.detail else concerned
    return dataclasses.replace(reason, detail=detail)


def _given_families(guest: Guest, given: Given, policies: Policies) -> frozenset[str]:
    """The device families that something can concern which names none."""
    if not guest.assigned:
        return frozenset()
    taken = list(given.taken)
    if taken and all(choice and None not in choice for choice in taken):
        return frozenset(device.family for choice in taken for device in choice if device)
    return policies.of_devices


def _of_silence(
    reason: Reason, guest: Guest, given: Given, policies: Policies
) -> Iterator[tuple[Policy, Verdict]]:
    for family in sorted(guest.need.families | guest.pins.families):
        about = dataclasses.replace(reason, family=family)
        yield policies(family), Verdict.unknown(about)
    if not guest.keeps_devices:
        return
    if given.extras:
        yield policies.strictest(policies.of_devices), Verdict.unknown(reason)
    if isinstance(guest.record, Need):
        # It may have parts of which the record says nothing.
        for family in sorted(policies.of_hosts - guest.need.families):
            about = dataclasses.replace(reason, family=family)
            yield policies(family), Verdict.unknown(about)


def _of_unreadable(
    family: str, reason: Reason, policies: Policies
) -> Iterator[tuple[Policy, Verdict]]:
    policy = policies(family) if family else policies.strictest(policies.families)
    yield policy, Verdict.unknown(dataclasses.replace(reason, family=family))


# --- devices -------------------------------------------------------------------------------------


def _of_claims(
    guest: Guest, given: Given, policies: Policies, judge: JudgeBy
) -> Iterator[tuple[Policy, Verdict]]:
    groups = guest.need.by_slot()
    for told in given.claims:
        claim = _in_any_order(told) if given.whichever else told
        needs = [need for slot in claim.slots for need in groups.pop(slot, ())]
        devices = [
            _judge_of(choice, policies, judge, whichever=given.whichever)
            for choice in claim.devices
        ]
        yield from _under(policies, needs, _claimed(needs, devices, claim.order, policies))
        if guest.keeps_devices and isinstance(guest.record, Need):
            yield from _left_over(needs, claim, policies, whichever=given.whichever)
    for needs in groups.values():
        # A slot that nothing answers: the guest would arrive without the device.
        missing = judging.one_too_few if given.complete else judging.no_offer
        yield from _under(policies, needs, list(map(missing, needs)))


def _in_any_order(claim: Claim) -> Claim:
    if claim.order is not Order.CHOSEN:
        return claim
    return dataclasses.replace(claim, order=Order.UNTOLD)


def _claimed(
    needs: Sequence[DeviceNeed],
    devices: Sequence[judging.Judge],
    order: Order,
    policies: Policies,
) -> list[Verdict]:
    if order is Order.GIVEN and len(devices) >= len(needs):
        return [device(need) for need, device in zip(needs, devices, strict=False)]
    if order is Order.CHOSEN:
        return judging.judge_claim(needs, devices, policies)
    return judging.judge_any_order(needs, devices)


def _left_over(
    needs: Sequence[DeviceNeed], claim: Claim, policies: Policies, *, whichever: bool
) -> Iterator[tuple[Policy, Verdict]]:
    """More devices than needs: the record says nothing of one of them."""
    if len(claim.devices) <= len(needs):
        return
    surplus = len(claim.devices) - len(needs)
    unrecorded = [_unrecorded(choice, policies, whichever=whichever) for choice in claim.devices]
    if claim.order is Order.GIVEN:
        yield from filter(None, unrecorded[len(needs) :])
    elif claim.order is Order.UNTOLD:
        # Any of them may be the one too many.
        yield from filter(None, unrecorded)
    else:
        unrecorded.sort(key=lambda part: part[0].objection(part[1]) if part else 0)
        yield from filter(None, unrecorded[:surplus])


def _unrecorded(
    choice: Choice, policies: Policies, detail: str = "", *, whichever: bool
) -> tuple[Policy, Verdict] | None:
    """The verdict on a device of which the record says nothing; None where it may be of no family.

    Of several that it may be, the one that is objected to least; most, if it is to do whichever
    it is.
    """
    families = sorted({device.family for device in choice if device is not None})
    if not families or (None in choice and not whichever):
        return None
    parts = [(policies(family), judging.nothing_recorded(family, detail)) for family in families]
    ranked = sorted(parts, key=lambda part: part[0].objection(part[1]))
    return ranked[-1 if whichever else 0]


def _judge_of(
    choice: Choice, policies: Policies, judge: JudgeBy, *, whichever: bool
) -> judging.Judge:
    if len(choice) == 1 and choice[0] is not None:
        device = choice[0]
        return lambda need: judge(device, need)
    judges = [judging.no_offer if device is None else _bound(judge, device) for device in choice]
    if whichever and judges:
        return lambda need: Verdict.all_of(each(need) for each in judges)
    return lambda need: judging.judge_each([need], judges, policies)[0]


def _bound(judge: JudgeBy, device: AcceptSet) -> judging.Judge:
    return lambda need: judge(device, need)


def _under(
    policies: Policies, needs: Sequence[DeviceNeed], found: Sequence[Verdict]
) -> Iterator[tuple[Policy, Verdict]]:
    for need, verdict in zip(needs, found, strict=True):
        yield policies(need.family), verdict


def _of_extras(guest: Guest, given: Given, policies: Policies) -> Iterator[tuple[Policy, Verdict]]:
    if not guest.keeps_devices or isinstance(guest.record, Doubt):
        return  # without a record the doubt about that is all there is to say
    for extra in given.extras:
        part = _unrecorded(extra.device, policies, extra.detail, whichever=given.whichever)
        if part is not None:
            yield part


# --- pins ----------------------------------------------------------------------------------------


def _of_device_pins(
    guest: Guest, given: Given, policies: Policies
) -> Iterator[tuple[Policy, Verdict]]:
    for pin in guest.pins.assigned:
        policy = policies(pin.family)
        yield policy, _of_pin(pin, guest, given, policy)


def _of_pin(pin: DeviceNeed, guest: Guest, given: Given, policy: Policy) -> Verdict:
    """All devices of the family that the guest is given must act as the pin, and there is one."""
    taken = list(given.pinned)
    certain = [
        choice[0]
        for choice in taken
        if len(choice) == 1 and choice[0] is not None and choice[0].family == pin.family
    ]
    if certain and not given.whichever:
        return Verdict.all_of(device.judge_pin(pin) for device in certain)
    possible = [device for choice in taken for device in choice if device is not None]
    possible += given.others
    options = [device.judge_pin(pin) for device in any_of(possible, (pin.family,))]
    if options and given.whichever:
        return Verdict.all_of(options)
    hidden = not given.complete or any(not choice or None in choice for choice in taken)
    if not options and not hidden:
        asks = taken or guest.assigned
        return judging.one_too_few(pin) if asks else judging.not_asked_for(pin)
    if hidden:
        options.append(judging.no_offer(pin))
    return min(options, key=policy.objection)


# --- the host itself -----------------------------------------------------------------------------


def _of_host(
    guest: Guest, given: Given, policies: Policies, judge: JudgeBy
) -> Iterator[tuple[Policy, Verdict]]:
    needs = {need.family: need for need in guest.need.host}
    for family, need in needs.items():
        offered = given.host.get(family)
        verdict = judging.no_offer(need) if offered is None else judge(offered, need)
        yield policies(family), verdict
    if guest.keeps_devices and isinstance(guest.record, Need):
        for family in given.host.keys() - needs.keys():
            yield policies(family), judging.nothing_recorded(family)
    for pin in guest.pins.host:
        offered = given.host.get(pin.family)
        verdict = judging.no_offer(pin) if offered is None else offered.judge_pin(pin)
        yield policies(pin.family), verdict
