# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Who is to be placed: what is known of a guest, and what is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from nova_devcompat.compat.need import Need
from nova_devcompat.compat.pins import BadPin
from nova_devcompat.compat.risks import Risk
from nova_devcompat.compat.verdict import Actor, Code, Reason

_NOTHING = Need()


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
    :param risks: accepted ones that hold now, of the guest or of the host that is asked
    """

    record: Need | Doubt = _NOTHING
    pins: Need = _NOTHING
    bad_pins: tuple[Doubt, ...] = ()
    keeps_devices: bool = True
    assigned: bool = True
    risks: tuple[Risk, ...] = ()
    #: What is known of what it needs of the destination. Asked again for every host.
    need: Need = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        need = _NOTHING
        if self.keeps_devices and isinstance(self.record, Need):
            need = self.record.required
        object.__setattr__(self, "need", need)

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
