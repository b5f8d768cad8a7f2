# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is done, drawn from a seed alone, so that a seed always stands for the same.

Guests have slots. A plan follows what becomes of each slot's guest if all goes well; where the
cloud did otherwise, an operation that does not go with what the guest is by then is passed over.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from rigs.chaos.model import FLAVORS, Versions

#: Operations by what a guest is, those that are about live migration the more often.
POSSIBLE = {
    "ABSENT": ("boot", "boot-named"),
    "ACTIVE": (
        *(5 * ("live",) + 4 * ("live-named",) + ("live-forced",)),
        *("cold", "cold-named", "resize", "reboot-hard", "reboot-soft"),
        *("stop", "rescue", "suspend", "shelve", "delete"),
    ),
    "SHUTOFF": ("start", "start", "cold"),
    "SUSPENDED": ("resume",),
    "RESCUE": ("unrescue",),
    "SHELVED_OFFLOADED": ("unshelve",),
    "VERIFY_RESIZE": ("confirm", "revert"),
}
#: What a guest is afterwards; what is not here leaves it as it was.
AFTER = {
    "boot": "ACTIVE",
    "boot-named": "ACTIVE",
    "start": "ACTIVE",
    "resume": "ACTIVE",
    "unrescue": "ACTIVE",
    "unshelve": "ACTIVE",
    "delete": "ABSENT",
    "stop": "SHUTOFF",
    "rescue": "RESCUE",
    "suspend": "SUSPENDED",
    "shelve": "SHELVED_OFFLOADED",
    "cold": "VERIFY_RESIZE",
    "cold-named": "VERIFY_RESIZE",
    "resize": "VERIFY_RESIZE",
}
OPERATIONS = tuple(dict.fromkeys(name for names in POSSIBLE.values() for name in names))

#: What can go wrong at little cost, and what makes services start again.
CHEAP = (
    *("versions-waited", "versions-waited", "versions-at-once", "versions-meanwhile"),
    *("placement-stopped", "broker-stopped", "database-stopped", "compute-stopped"),
    *("placement-slow", "broker-slow", "database-slow", "catalog-broken", "catalog-other"),
)
COSTLY = (
    *("kill-compute", "kill-compute", "kill-scheduler", "kill-conductor", "kill-super-conductor"),
    *("kill-api", "kill-placement", "kill-broker", "kill-database", "plugin-absent"),
    *("catalog-broken-at-start", "clock-off", "log-full"),
)
NO_FAULT = "none"
FAULTS = tuple(dict.fromkeys((NO_FAULT, *CHEAP, *COSTLY)))
#: Shares of steps.
_CHEAP_SHARE, _COSTLY_SHARE = 0.4, 0.15

_FIRMWARE = ("28.37.1014", "28.39.1002", "28.39.2048", "28.41.1000", "28.43.1000", "29.37.1000")
_VGPU = (("7.1", "12.1"), ("7.1", "14.1"), ("7.1", "16.1"), ("7.1", "1A.1"), ("13.1", "1A.1"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operation:
    """One thing that is done to the guest of a slot.

    :ivar name: one of :data:`OPERATIONS`
    :ivar host: number of the host that is named, counted from any, if one is
    :ivar flavor: that a guest is booted with, or resized to
    :ivar delay: seconds from the step's beginning
    """

    slot: int
    name: str
    host: int
    flavor: str
    delay: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong in a step.

    :ivar name: one of :data:`FAULTS`
    :ivar host: number of the host that is concerned, if one is
    :ivar versions: that this host has from then on, if it changes
    :ivar delay: seconds from the step's beginning
    :ivar seconds: that it lasts, at least
    """

    name: str
    host: int
    versions: Versions
    delay: float
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """Operations that are done at the same time, and a fault meanwhile.

    :ivar number: of the step in its plan, from 1 on
    :ivar flavors: of the slots' guests before the step, if all went well
    """

    number: int
    fault: Fault
    operations: Sequence[Operation]
    flavors: Sequence[str]


def draw_versions(chance: random.Random) -> Versions:
    lowest, highest = chance.choice(_VGPU)
    return Versions(firmware=chance.choice(_FIRMWARE), lowest=lowest, highest=highest)


def draw(
    *, operations: int, seed: int, slots: int, at_once: int = 4, faults: Sequence[str] = FAULTS
) -> list[Step]:
    """Draw a plan.

    :param operations: how many there will be, together
    :param slots: how many guests there are at most
    :param at_once: most operations of a step
    :param faults: those that may happen
    """
    chance = random.Random(seed)
    status, flavors = ["ABSENT"] * slots, [""] * slots
    steps: list[Step] = []
    left = operations
    while left:
        before = tuple(flavors)
        chosen = []
        for slot in sorted(chance.sample(range(slots), min(at_once, slots, left))):
            one = _operation(chance, slot, status[slot], flavors[slot])
            chosen.append(one)
            status[slot] = AFTER.get(one.name, "ACTIVE")
            if one.name in ("boot", "boot-named", "resize"):
                # Whether a resize will be confirmed, nobody knows yet.
                flavors[slot] = one.flavor
        left -= len(chosen)
        fault = _fault(chance, faults)
        steps.append(
            Step(number=len(steps) + 1, fault=fault, operations=tuple(chosen), flavors=before)
        )
    return steps


def _operation(chance: random.Random, slot: int, status: str, flavor: str) -> Operation:
    name = chance.choice(POSSIBLE[status])
    # With devices in placement Nova refuses to be forced.
    if name == "live-forced" and flavor != "chaos-plain":
        name = "live-named"
    others = [one for one in FLAVORS if one != flavor]
    return Operation(
        slot=slot,
        name=name,
        host=chance.randrange(1000),
        flavor=chance.choice(others),
        delay=round(chance.uniform(0, 0.5), 2),
    )


def _fault(chance: random.Random, faults: Sequence[str]) -> Fault:
    draw = chance.random()
    if draw < _COSTLY_SHARE:
        name = chance.choice(COSTLY)
    elif draw < _COSTLY_SHARE + _CHEAP_SHARE:
        name = chance.choice(CHEAP)
    else:
        name = NO_FAULT
    return Fault(
        name=name if name in faults else NO_FAULT,
        host=chance.randrange(1000),
        versions=draw_versions(chance),
        delay=round(chance.uniform(0, 1.5), 2),
        seconds=round(chance.uniform(1, 3), 2),
    )


def chosen_steps(text: str, plan: Sequence[Step]) -> list[Step]:
    """The steps that a text such as ``3-7,12`` names.

    :raises ValueError: it is no such text, or names a step that there is not
    """
    wanted: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        wanted |= set(range(int(first), int(last if dash else first) + 1))
    known = {step.number for step in plan}
    if not wanted or wanted - known:
        raise ValueError(f"steps {text!r}: there are {min(known)} to {max(known)}")
    return [step for step in plan if step.number in wanted]


def share(text: str, plan: Sequence[Step]) -> list[Step]:
    """The steps of the share that a text such as ``2/5`` names: the second fifth, in a row.

    Steps keep their numbers, so that a share is a part of the same plan. It begins on an empty
    cloud, where guests that it goes on with are booted anew; the first operation on one that the
    plan has in another state than ACTIVE by then is passed over.

    :raises ValueError: it is no such text, or there are fewer steps than shares
    """
    number, _, count = text.partition("/")
    which, of = int(number), int(count)
    if not 1 <= which <= of <= len(plan):
        raise ValueError(f"share {text!r}: there are {len(plan)} steps to share")
    return list(plan[len(plan) * (which - 1) // of : len(plan) * which // of])
