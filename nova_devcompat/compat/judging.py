# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How the needs of a guest are held against the devices that it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.need import DeviceNeed, Need, assign
from nova_devcompat.compat.policy import Mode, Policy
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Actor, Code, Outcome, Reason, Verdict

PolicyOf = Callable[[str], Policy]
Judge = Callable[[DeviceNeed], Verdict]


def no_offer(need: DeviceNeed) -> Verdict:
    """The verdict on a device of which the host says nothing."""
    return Verdict.unknown(
        Reason(code=Code.DEVICE_UNKNOWN, actor=Actor.OPERATOR, family=need.family)
    )


def judge_each(
    needs: Iterable[DeviceNeed], devices: Sequence[Judge], policy: PolicyOf
) -> list[Verdict]:
    """Whether each need has some device, several perhaps the same one.

    For devices that placement does not track: one physical function serves many guests. A host
    that says nothing of such devices is UNKNOWN, since it may have one all the same.

    :returns: a verdict for each need
    """
    return [_best(need, devices, policy) if devices else no_offer(need) for need in needs]


def judge_claim(
    needs: Sequence[DeviceNeed], devices: Sequence[Judge], policy: PolicyOf
) -> list[Verdict]:
    """Whether the needs can be given the devices of one claim, a device each.

    :param devices: what judges a need for each device claimed, :meth:`AcceptSet.judge` or
        :meth:`Offer.judge`; a device that serves two instances' worth stands in it twice
    :param policy: the policy of each family, which says whether UNKNOWN will do. Needs whose
        family is only reported on get what the others leave
    :returns: a verdict for each need
    """
    verdicts = [[judge(need) for judge in devices] for need in needs]
    policies = [policy(need.family) for need in needs]
    order = sorted(range(len(needs)), key=lambda index: -policies[index].mode.strength)

    def fits(index: int, device: int) -> bool:
        return not policies[index].refuses(verdicts[index][device])

    def is_let_pass(index: int, device: int) -> bool:
        return policies[index].objection(verdicts[index][device]) <= policies[index].enforced

    def accepts(index: int, device: int) -> bool:
        return verdicts[index][device].outcome is Outcome.ACCEPT

    # Where UNKNOWN will do for one need, it must not cost another the device that accepts.
    given = assign(order, range(len(devices)), accepts)
    if None in given:
        given = assign(order, range(len(devices)), fits)
    # Nor must what is only reported on of one attribute cost a device that all else accepts.
    will_do = fits
    if any(one.attributes for one in policies) and any(
        device is None and policies[index].enforced
        for index, device in zip(order, given, strict=True)
    ):
        will_do = is_let_pass
        given = assign(order, range(len(devices)), will_do)
    left = [judge for device, judge in enumerate(devices) if device not in given]

    def without(index: int) -> Verdict:
        # No device that is left will do, and why not is what the operator wants to know.
        if left or not any(will_do(index, device) for device in range(len(devices))):
            return _best(needs[index], left or devices, policy)
        return _one_too_few(needs[index])

    found = {
        index: without(index) if device is None else verdicts[index][device]
        for index, device in zip(order, given, strict=True)
    }
    return [found[index] for index in range(len(needs))]


def judge_any_order(needs: Sequence[DeviceNeed], devices: Sequence[Judge]) -> list[Verdict]:
    """Whether the needs can be given the devices whichever need gets which.

    For a claim of which nobody can tell the order.

    :returns: a verdict for each need
    """
    if len(devices) < len(needs):
        return [_one_too_few(need) for need in needs]
    return [Verdict.all_of(judge(need) for judge in devices) for need in needs]


def _best(need: DeviceNeed, devices: Sequence[Judge], policy: PolicyOf) -> Verdict:
    verdicts = [judge(need) for judge in devices]
    if not verdicts:
        return _one_too_few(need)
    objection = policy(need.family).objection
    # Of several that will not do, a device of the right family tells the operator most.
    return min(
        verdicts,
        key=lambda verdict: (
            objection(verdict),
            any(reason.code == Code.OTHER_FAMILY for reason in verdict.reasons),
            verdict.severity,
        ),
    )


def judge_pins(pins: Need, devices: Sequence[AcceptSet | None]) -> list[Verdict]:
    """Whether the devices given to a guest can act as its flavor wants.

    All those of a pinned family must, and there must be one.

    :param devices: None for one of which the host says nothing
    :returns: a verdict for each family that is pinned
    """
    return [_judge_pin(pin, devices) for pin in pins.devices]


def judge_pins_loosely(
    pins: Need, devices: Sequence[AcceptSet | None], policy: PolicyOf
) -> list[Verdict]:
    """The same where any of the devices may be given to the guest."""
    return [
        min(
            (_judge_pin(pin, [device]) for device in devices),
            key=lambda verdict, pin=pin: (  # type: ignore[misc]
                policy(pin.family).objection(verdict),
                verdict.severity,
            ),
            default=_one_too_few(pin),
        )
        for pin in pins.devices
    ]


def _judge_pin(pin: DeviceNeed, devices: Sequence[AcceptSet | None]) -> Verdict:
    concerned = [one for one in devices if one is not None and one.family == pin.family]
    if concerned:
        return Verdict.all_of(one.judge_pin(pin) for one in concerned)
    return no_offer(pin) if None in devices else _one_too_few(pin)


def _one_too_few(need: DeviceNeed) -> Verdict:
    return Verdict.reject(
        Reason(code=Code.NO_DEVICE, actor=Actor.OPERATOR, family=need.family, needed="a device")
    )


def judge_host(
    needs: Iterable[DeviceNeed], judges: Mapping[str, Judge], *, complete: bool
) -> dict[str, Verdict]:
    """Whether a host meets what guests need of hosts, by family.

    :param needs: what a guest needs, :attr:`Need.host`
    :param judges: what judges a need for each host family of which the host says something
    :param complete: whether a family of the host that the guest's record says nothing of is
        UNKNOWN: so it is for a guest that runs on
    """
    verdicts = {one.family: judges.get(one.family, no_offer)(one) for one in needs}
    for family in judges if complete else ():
        if family not in verdicts:
            verdicts[family] = nothing_recorded(family)
    return verdicts


def judge_host_pins(
    pins: Iterable[DeviceNeed], accept_sets: Mapping[str, AcceptSet]
) -> dict[str, Verdict]:
    """Whether a host is what a flavor wants of it, by family.

    :param pins: what it pins of host families
    :param accept_sets: the host's own, by family
    """
    return {
        pin.family: accept_sets[pin.family].judge_pin(pin)
        if pin.family in accept_sets
        else no_offer(pin)
        for pin in pins
    }


def nothing_recorded(family: str, detail: str = "") -> Verdict:
    """The verdict where a guest's record says nothing of a family that concerns it.

    :param detail: how it does
    """
    return Verdict.unknown(
        Reason(code=Code.NEED_MISSING, actor=Actor.OPERATOR, family=family, detail=detail)
    )


def required_atoms(need: Need, policy: PolicyOf) -> frozenset[Atom]:
    """The atoms that a host must accept for the need to have a chance: what placement is asked.

    None of a family or attribute whose policy leaves the decision to the filter.
    """
    return frozenset(
        atom
        for device in need.devices
        if (of_family := policy(device.family)).asks_placement
        for atom in device.atoms
        if of_family.mode_of(atom.attribute) is Mode.ENFORCE
    )
