# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How needs are held against devices that are handed out to them.

For :mod:`nova_devcompat.compat.ruling` alone, which says which devices these are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from nova_devcompat.compat.need import DeviceNeed, assign
from nova_devcompat.compat.policy import Policy
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
        # What is only reported on takes no device of another family from those that might use it.
        verdict = verdicts[index][device]
        return not policies[index].refuses(verdict) and not _is_of_another_family(verdict)

    def is_not_refused(index: int, device: int) -> bool:
        return fits(index, device) and verdicts[index][device].outcome is not Outcome.REJECT

    def is_let_pass(index: int, device: int) -> bool:
        verdict = verdicts[index][device]
        objection = policies[index].objection(verdict)
        return objection <= policies[index].enforced and not _is_of_another_family(verdict)

    def accepts(index: int, device: int) -> bool:
        return verdicts[index][device].outcome is Outcome.ACCEPT

    # Where UNKNOWN will do for one need, it must not cost another the device that accepts.
    given = assign(order, range(len(devices)), accepts)
    if None in given:
        given = assign(order, range(len(devices)), fits)
        # Nor do needs that are only reported on get what refuses them, where another is in doubt.
        milder = assign(order, range(len(devices)), is_not_refused)
        if _placed(order, milder) >= _placed(order, given):
            given = milder
    # Nor must what is only reported on of one attribute cost a device that all else accepts.
    will_do = fits
    if any(one.tells_apart for one in policies) and any(
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
        return one_too_few(needs[index])

    found = {
        index: without(index) if device is None else verdicts[index][device]
        for index, device in zip(order, given, strict=True)
    }
    return [found[index] for index in range(len(needs))]


def _placed(order: Sequence[int], given: Sequence[int | None]) -> frozenset[int]:
    """The needs that are given a device."""
    placed = zip(order, given, strict=True)
    return frozenset(index for index, device in placed if device is not None)


def judge_any_order(needs: Sequence[DeviceNeed], devices: Sequence[Judge]) -> list[Verdict]:
    """Whether the needs can be given the devices whichever need gets which.

    For a claim of which nobody can tell the order.

    :returns: a verdict for each need
    """
    if len(devices) < len(needs):
        return [one_too_few(need) for need in needs]
    return [Verdict.all_of(judge(need) for judge in devices) for need in needs]


def _best(need: DeviceNeed, devices: Sequence[Judge], policy: PolicyOf) -> Verdict:
    verdicts = [judge(need) for judge in devices]
    if not verdicts:
        return one_too_few(need)
    objection = policy(need.family).objection
    # Of several that will not do, a device of the right family tells the operator most.
    return min(
        verdicts,
        key=lambda verdict: (
            objection(verdict),
            _is_of_another_family(verdict),
            verdict.severity,
        ),
    )


def _is_of_another_family(verdict: Verdict) -> bool:
    return any(reason.code == Code.OTHER_FAMILY for reason in verdict.reasons)


def one_too_few(need: DeviceNeed) -> Verdict:
    """The verdict on a need for which the host has no device left."""
    return Verdict.reject(
        Reason(code=Code.NO_DEVICE, actor=Actor.OPERATOR, family=need.family, needed="a device")
    )


def not_asked_for(pin: DeviceNeed) -> Verdict:
    """The verdict on a pin of a family of whose devices the guest's flavor asks for none."""
    return Verdict.reject(Reason(code=Code.NOT_ASKED_FOR, actor=Actor.OPERATOR, family=pin.family))


def nothing_recorded(family: str, detail: str = "") -> Verdict:
    """The verdict where a guest's record says nothing of a family that concerns it.

    :param detail: how it does
    """
    return Verdict.unknown(
        Reason(code=Code.NEED_MISSING, actor=Actor.OPERATOR, family=family, detail=detail)
    )
