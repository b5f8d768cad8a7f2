# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the parts of a stats document in format 2 say, once they are unpacked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.wire.stats import HostDocument, PublishedDevice

#: Bytes of the UUID of a provider.
UUID_SIZE = 16

#: The accept-sets that a provider stands for.
Choice = tuple[AcceptSet, ...]
Share = Callable[[Choice], Choice]


@dataclasses.dataclass(frozen=True, slots=True)
class Meta:
    """What a document says of itself."""

    size: int
    catalog: str
    whole: bool
    policies: Mapping[str, str] | None
    reads: int
    post_copy: bool | None
    unnamed: frozenset[str] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Content:
    """What a group says of its devices.

    :param size: characters, unpacked
    :param digest: of what it says
    :param family: '' where it cannot be told
    :param number: of the accept-set
    :param accepts: None where it cannot be read
    :param of_host: whether they are parts of the host
    :param left_out: why there are no devices, '' where there are
    :param problem: what is wrong with it; '' for nothing
    """

    size: int
    digest: str
    family: str
    number: int = 0
    accepts: AcceptSet | None = None
    of_host: bool = False
    left_out: str = ""
    problem: str = ""


PlacedDevice = tuple[str, int, tuple[str, ...] | None, tuple[str, ...]]


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """Where the devices of a group are.

    :param size: characters, unpacked
    :param count: how many providers they have together
    :param devices: of each the address, how many providers, their classes, and runs of functions
    :param problem: what is wrong with it; '' for nothing
    """

    size: int
    count: int
    devices: tuple[PlacedDevice, ...] = ()
    problem: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """What a document says of devices that accept the same; one for all hosts that say so.

    :param size: characters, unpacked
    :param count: how many providers its devices have together
    :param content: what it says of them
    :param devices: without providers; none where it cannot be read
    :param counts: of each device, how many providers it has
    :param choice: what a provider stands for that has no other devices
    :param named: for :attr:`HostDocument.kin`
    :param problem: why there are no devices, the place within the group first; '' for nothing
    :param apart: whether it cannot be read, or is of the host
    """

    size: int
    count: int
    content: Content
    devices: tuple[PublishedDevice, ...] = ()
    counts: tuple[int, ...] = ()
    choice: Choice = ()
    named: tuple[tuple[int, bool, bool], ...] = ()
    problem: str = ""
    apart: bool = False

    def at(self, providers: Sequence[str]) -> Iterator[PublishedDevice]:
        """Its devices.

        :param providers: of all of them, in order
        """
        if not self.count:
            yield from self.devices
            return
        at = 0
        for device, count in zip(self.devices, self.counts, strict=True):
            yield dataclasses.replace(device, providers=tuple(providers[at : at + count]))
            at += count


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlacedGroups:
    """The devices of a document: what it shares with others, and providers of its own.

    Made when they are asked for: of most hosts, nobody does.

    :param groups: all of the document
    :param providers: of all of them, in order, 16 bytes each
    :param share: makes what several documents say one object
    """

    groups: tuple[Group, ...]
    providers: bytes
    share: Share

    def devices(self) -> tuple[PublishedDevice, ...]:
        """All of them."""
        return tuple(device for group, uuids in self._placed() for device in group.at(uuids))

    def by_provider(self) -> dict[str, Choice]:
        """The accept-sets of each provider, for which devices themselves need not be made."""
        found: dict[str, Choice] = {}
        for group, uuids in self._placed():
            for uuid in uuids:
                before = found.get(uuid)
                found[uuid] = (
                    group.choice if before is None else self.share((*before, *group.choice))
                )
        return found

    def _placed(self) -> Iterator[tuple[Group, list[str]]]:
        uuids = uuids_of(self.providers)
        at = 0
        for group in self.groups:
            if not group.apart:
                yield group, uuids[at : at + group.count]
            at += group.count


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LaterDocument(HostDocument):
    """A document of which devices, and what providers stand for, are made when asked for.

    A class of its own: where a class has ``__getattr__``, each attribute of its objects takes
    longer to get, and those of format 1 are asked for some for each host of a request.
    """

    _placed: PlacedGroups | None = dataclasses.field(init=False, default=None, repr=False)

    @classmethod
    def of(cls, placed: PlacedGroups, **said: Any) -> HostDocument:
        """A document.

        :param placed: makes them, the same each time
        :param said: all else
        """
        document = cls(devices=(), **said)
        object.__setattr__(document, "_placed", placed)
        for name in _MADE:
            object.__delattr__(document, name)
        return document

    def __eq__(self, other: object) -> bool:
        """Whether both say the same, whichever of them is made later."""
        if not isinstance(other, HostDocument):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _COMPARED)

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            """What is not there yet; the same, whichever thread makes it last."""
            if name not in _MADE:
                raise AttributeError(name)
            made = getattr(self._placed, name)()
            object.__setattr__(self, name, made)
            return made


# What is made when it is asked for.
_MADE = ("devices", "by_provider")
_COMPARED = [field.name for field in dataclasses.fields(HostDocument) if field.compare]


def uuids_of(data: bytes) -> list[str]:
    """As texts."""
    digits = data.hex()
    return [
        f"{digits[at : at + 8]}-{digits[at + 8 : at + 12]}-{digits[at + 12 : at + 16]}"
        f"-{digits[at + 16 : at + 20]}-{digits[at + 20 : at + 32]}"
        for at in range(0, len(digits), 2 * UUID_SIZE)
    ]
