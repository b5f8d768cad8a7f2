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
import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from nova_devcompat.compat import judging
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.pins import BadPin
from nova_devcompat.compat.policy import Mode, OnUnknown, Policies, Policy, Ruling
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Actor, Code, Reason, Verdict

#: Holds a need against an accept-set: :meth:`AcceptSet.judge`, or what remembers its verdicts.
JudgeBy = Callable[[AcceptSet, DeviceNeed], Verdict]

#: What a device may be: the accept-set of the very device, of several if it is one of them, None
#: among them for one of which nothing is known. Empty: nothing at all is known of the device.
Choice = tuple[AcceptSet | None, ...]

#: A device of which nothing is known.
NOTHING_KNOWN: Choice = ()

_NOTHING = Need()
_STRICT = Policies(Policy())

#: How many families a reason names.
_NAMED = 8


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """A part that is missing or cannot be read.

    :param reason: why
    :param families: those that it can concern; None where that is for the guest and the host to
        tell: the families of the devices that it is given, and all host families
    :param anything: whether it can concern any family that there is
    :param always_counts: whether it refuses under ``on_unknown: accept`` too, since it is no fact
        about the guest, such as a database that does not answer
    """

    reason: Reason
    families: frozenset[str] | None = None
    anything: bool = False
    always_counts: bool = False


#: What stands in place of the record of a guest that has none.
NO_RECORD = Doubt(
    reason=Reason(code=Code.NEED_MISSING, actor=Actor.OPERATOR, detail="it has no record")
)


def doubt_of_pin(error: BadPin) -> Doubt:
    """What stands in place of a pin that cannot be read."""
    doubt = unreadable_pins(str(error))
    if error.family is None:
        return doubt
    return dataclasses.replace(doubt, families=frozenset({error.family}), anything=False)


def unreadable_pins(detail: str) -> Doubt:
    """What stands in place of a flavor's pins where none of them can be told.

    :param detail: why
    """
    reason = Reason(code=Code.PIN_UNREADABLE, actor=Actor.OPERATOR, detail=detail)
    return Doubt(reason=reason, anything=True)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Guest:
    """A guest that is to run on a host.

    :param record: what it needs; a doubt where that is not known
    :param pins: what its flavor wants its devices and its host to act as
    :param bad_pins: pins that cannot be read
    :param keeps_devices: whether it runs on, so that its record holds and a device of which that
        says nothing is UNKNOWN; otherwise its devices are initialised anew, and only pins count
    :param assigned: whether it has assigned devices, or may have; of a guest that runs on, devices
        that stay
    """

    record: Need | Doubt = _NOTHING
    pins: Need = _NOTHING
    bad_pins: tuple[Doubt, ...] = ()
    keeps_devices: bool = True
    assigned: bool = True

    @property
    def need(self) -> Need:
        """What is known of what it needs of the destination."""
        if not self.keeps_devices or not isinstance(self.record, Need):
            return _NOTHING
        return self.record.required

    def concerned_by(
        self,
        problems: Mapping[str, Reason],
        *,
        hosts: frozenset[str] = frozenset(),
        devices: bool = False,
    ) -> dict[str, Reason]:
        """What of a host cannot be read and may concern it.

        :param problems: by family; '' where the family cannot be told
        :param hosts: all host families, of which a guest that runs on may need something
        :param devices: whether it may be given devices of which the host says nothing
        """
        named = self.need.families | self.pins.families
        if self.keeps_devices:
            named |= hosts
        return {
            family: reason
            for family, reason in problems.items()
            if devices or family in named or (not family and named)
        }

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """What is not known of it."""
        if self.keeps_devices and isinstance(self.record, Doubt):
            return (self.record, *self.bad_pins)
        return self.bad_pins


class Order(enum.Enum):
    """Which device of a claim is for which need."""

    #: The first for the first, and so on.
    GIVEN = enum.auto()
    #: Whoever claims them hands them out, so that as many needs as possible are met.
    CHOSEN = enum.auto()
    #: Nobody can tell, so each must do for each.
    UNTOLD = enum.auto()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """The devices that answer the needs of some slots.

    :param slots: of the needs, in this order
    :param devices: a choice each; more than needs are devices of which the record says nothing
    :param order: which is for which
    """

    slots: tuple[str, ...]
    devices: tuple[Choice, ...]
    order: Order = Order.CHOSEN


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Extra:
    """A device that the guest is given and of which its record says nothing.

    :param device: what it may be
    :param detail: what helps to find it
    """

    device: Choice
    detail: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What a guest would be given on a host.

    :param claims: the devices for its needs
    :param extras: devices that it would be given beside
    :param anew: devices that are initialised for it there whether it runs on or not, so that its
        record does not matter to them
    :param others: devices that it may be given instead or as well, since nobody tells which of
        them it is given
    :param complete: whether it can be given no devices but these, so that a device that is not
        among them is one that the host does not have
    :param host: what the host itself accepts, by host family
    :param silent: why nothing at all is known of the host; then all else is passed over but
        ``extras``
    :param unreadable: what of the host cannot be read and may concern this guest, by family; ''
        where the family cannot be told
    """

    claims: tuple[Claim, ...] = ()
    extras: tuple[Extra, ...] = ()
    anew: tuple[Choice, ...] = ()
    others: tuple[AcceptSet, ...] = ()
    complete: bool = False
    host: Mapping[str, AcceptSet] = dataclasses.field(default_factory=dict)
    silent: Reason | None = None
    unreadable: Mapping[str, Reason] = dataclasses.field(default_factory=dict)

    @classmethod
    def anywhere(
        cls,
        guest: Guest,
        devices: Sequence[AcceptSet],
        *,
        complete: bool,
        host: Mapping[str, AcceptSet] | None = None,
        unreadable: Mapping[str, Reason] | None = None,
    ) -> Given:
        """Where each of a host's devices may be the one that answers a need.

        :param devices: of the host
        :param complete: whether the host has no others
        :param host: what the host itself accepts
        """
        claims = []
        for slot, needs in guest.need.by_slot().items():
            choice = tuple(any_of(devices, {need.family for need in needs}))
            if choice or not complete:
                devices_of = (choice,) * len(needs)
                claims.append(Claim(slots=(slot,), devices=devices_of, order=Order.GIVEN))
        return cls(
            claims=tuple(claims),
            others=tuple(devices),
            complete=complete,
            host=host or {},
            unreadable=unreadable or {},
        )

    @property
    def taken(self) -> Iterator[Choice]:
        """All devices that the guest would be given."""
        for claim in self.claims:
            yield from claim.devices
        for extra in self.extras:
            yield extra.device

    @property
    def pinned(self) -> Iterator[Choice]:
        """All devices that the pins of its flavor are about."""
        yield from self.taken
        yield from self.anew


def any_of(devices: Iterable[AcceptSet], families: Iterable[str]) -> Iterator[AcceptSet]:
    """The unlike ones of some families: each accept-set once."""
    wanted = frozenset(families)
    distinct = {id(device): device for device in devices if device.family in wanted}
    yield from distinct.values()


def rule(
    guest: Guest, given: Given, policies: Policies, judge: JudgeBy = AcceptSet.judge
) -> Ruling:
    """What the policies of all families make of a guest on a host.

    :param judge: what holds a need against an accept-set
    """
    return Ruling.of(verdicts(guest, given, policies, judge))


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
        yield from _of_unreadable(family, reason, guest, policies)
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


def required_atoms(guest: Guest, policies: Policies) -> frozenset[Atom]:
    """The atoms that a host must accept for the guest to have a chance: what placement is asked.

    None of a family or attribute whose policy leaves the decision to the filter.
    """
    return frozenset(
        atom
        for part in (*guest.need.devices, *guest.pins.devices)
        if (policy := policies(part.family)).asks_placement
        for atom in part.atoms
        if policy.mode_of(atom.attribute) is Mode.ENFORCE and atom.attribute not in policy.unasked
    )


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
    family: str, reason: Reason, guest: Guest, policies: Policies
) -> Iterator[tuple[Policy, Verdict]]:
    policy = policies(family) if family else policies.strictest(policies.families)
    yield policy, Verdict.unknown(dataclasses.replace(reason, family=family))


# --- devices -------------------------------------------------------------------------------------


def _of_claims(
    guest: Guest, given: Given, policies: Policies, judge: JudgeBy
) -> Iterator[tuple[Policy, Verdict]]:
    groups = guest.need.by_slot()
    for claim in given.claims:
        needs = [need for slot in claim.slots for need in groups.pop(slot, ())]
        devices = [_judge_of(choice, policies, judge) for choice in claim.devices]
        yield from _under(policies, needs, _claimed(needs, devices, claim.order, policies))
        if guest.keeps_devices and isinstance(guest.record, Need):
            yield from _left_over(needs, claim, policies)
    for needs in groups.values():
        # A slot that nothing answers: the guest would arrive without the device.
        missing = judging.one_too_few if given.complete else judging.no_offer
        yield from _under(policies, needs, list(map(missing, needs)))


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
    needs: Sequence[DeviceNeed], claim: Claim, policies: Policies
) -> Iterator[tuple[Policy, Verdict]]:
    """More devices than needs: the record says nothing of one of them."""
    if len(claim.devices) <= len(needs):
        return
    surplus = len(claim.devices) - len(needs)
    unrecorded = [_unrecorded(choice, policies) for choice in claim.devices]
    if claim.order is Order.GIVEN:
        yield from filter(None, unrecorded[len(needs) :])
    elif claim.order is Order.UNTOLD:
        # Any of them may be the one too many.
        yield from filter(None, unrecorded)
    else:
        unrecorded.sort(key=lambda part: part[0].objection(part[1]) if part else 0)
        yield from filter(None, unrecorded[:surplus])


def _unrecorded(
    choice: Choice, policies: Policies, detail: str = ""
) -> tuple[Policy, Verdict] | None:
    """The verdict on a device of which the record says nothing; None where it may be of no family.

    Of several that it may be, the one that is objected to least.
    """
    families = sorted({device.family for device in choice if device is not None})
    if not families or None in choice:
        return None
    parts = [(policies(family), judging.nothing_recorded(family, detail)) for family in families]
    return min(parts, key=lambda part: part[0].objection(part[1]))


def _judge_of(choice: Choice, policies: Policies, judge: JudgeBy) -> judging.Judge:
    if len(choice) == 1 and choice[0] is not None:
        device = choice[0]
        return lambda need: judge(device, need)
    judges = [judging.no_offer if device is None else _bound(judge, device) for device in choice]
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
        part = _unrecorded(extra.device, policies, extra.detail)
        if part is not None:
            yield part


# --- pins ----------------------------------------------------------------------------------------


def _of_device_pins(
    guest: Guest, given: Given, policies: Policies
) -> Iterator[tuple[Policy, Verdict]]:
    for pin in guest.pins.assigned:
        policy = policies(pin.family)
        yield policy, _of_pin(pin, given, policy)


def _of_pin(pin: DeviceNeed, given: Given, policy: Policy) -> Verdict:
    """All devices of the family that the guest is given must act as the pin, and there is one."""
    taken = list(given.pinned)
    certain = [
        choice[0]
        for choice in taken
        if len(choice) == 1 and choice[0] is not None and choice[0].family == pin.family
    ]
    if certain:
        return Verdict.all_of(device.judge_pin(pin) for device in certain)
    possible = [device for choice in taken for device in choice if device is not None]
    possible += given.others
    options = [device.judge_pin(pin) for device in any_of(possible, (pin.family,))]
    hidden = not given.complete or any(not choice or None in choice for choice in taken)
    if not options and not hidden:
        return judging.one_too_few(pin)
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
