# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a guest would be given on a host, by whoever knows that."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence

from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.guest import Guest
from nova_devcompat.compat.verdict import Reason

#: What a device may be: the accept-set of the very device, of several if it is one of them, None
#: among them for one of which nothing is known. Empty: nothing at all is known of the device.
Choice = tuple[AcceptSet | None, ...]

#: A device of which nothing is known.
NOTHING_KNOWN: Choice = ()


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
    :param whichever: whether the ruling is to hold whichever of the devices that it may be given
        the guest is given, rather than with those that do best
    """

    claims: tuple[Claim, ...] = ()
    extras: tuple[Extra, ...] = ()
    anew: tuple[Choice, ...] = ()
    others: tuple[AcceptSet, ...] = ()
    complete: bool = False
    host: Mapping[str, AcceptSet] = dataclasses.field(default_factory=dict)
    silent: Reason | None = None
    unreadable: Mapping[str, Reason] = dataclasses.field(default_factory=dict)
    whichever: bool = False

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
