# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Stats documents that fit into the column, whatever there is to say.

What does not fit is left out family by family, the longest first, and of a family step by step:
so many atoms of one never silence the others, and the host stays known but for what is left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from nova_devcompat.compat.accepts import AcceptSet, Evaluation
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Code
from nova_devcompat.wire.stats import (
    STATS_LIMIT,
    STATS_VERSION,
    HostDocument,
    PublishedDevice,
    StatsTooLong,
    column_size,
    dump_stats_1,
    dumps,
    groups_of,
)
from nova_devcompat.wire.stats_2 import dump_stats_2
from nova_devcompat.wire.stats_2 import write as write_2

# Of a family: all; without the values that it refuses; the more useful half of its atoms, of
# these half and so on; its devices alone; not even these.
_WHOLE, _NO_REFUSALS, _FIRST_HALF, _LAST_HALF, _DEVICES_ALONE, _NOTHING = 0, 1, 2, 6, 7, 8

_LEFT_OUT = "there is no room for its devices"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """A document as it was made to fit.

    :param text: what is published
    :param shortened: by family, what was left out
    """

    text: str
    shortened: Mapping[str, str]


def dump_stats(document: HostDocument, version: int = STATS_VERSION) -> str:
    """The text of a stats document.

    :param version: of the format
    :raises StatsTooLong: it would take more than 57,344 bytes of the column
    """
    return _WRITERS[version](document)


def fit_stats(
    document: HostDocument, useful: Sequence[Atom] = (), version: int = STATS_VERSION
) -> Fitted:
    """The text of a document that the column takes; see :func:`dump_stats`.

    :param useful: the atoms that were evaluated, the most useful first; those that are not among
        them are left out first
    :param version: of the format
    :raises StatsTooLong: it would be too long with nothing but the names of its families
    """
    try:
        return Fitted(text=dump_stats(document, version), shortened={})
    except StatsTooLong:
        pass
    order = {atom: index for index, atom in enumerate(useful)}
    wholes = _by_family(document)
    steps = dict.fromkeys(wholes, _WHOLE)
    parts = dict(wholes)
    size = _SIZES[version]
    sizes = {family: size(part) for family, part in parts.items()}
    while True:
        # Sizes leave out what is around the groups, so this may take a step more.
        if sum(sizes.values()) <= STATS_LIMIT:
            with contextlib.suppress(StatsTooLong):
                fitted = _together(document, parts)
                said = {family: _said(step) for family, step in steps.items() if step}
                return Fitted(text=dump_stats(fitted, version), shortened=said)
        longest = max(
            (family for family in steps if steps[family] < _NOTHING),
            key=lambda family: (sizes[family], family),
            default=None,
        )
        if longest is None:
            raise StatsTooLong(f"the names of its {len(steps)} families alone are too long")
        steps[longest] += 1
        parts[longest] = _at_step(wholes[longest], longest, steps[longest], order)
        sizes[longest] = size(parts[longest])


def _by_family(document: HostDocument) -> dict[str, HostDocument]:
    """What a document says of each family, in a document of its own."""
    families = {part.family: None for part in (*document.devices, *document.host)}
    devices: dict[str, list[PublishedDevice]] = {family: [] for family in families}
    host: dict[str, list[PublishedDevice]] = {family: [] for family in families}
    for device in document.devices:
        devices[device.family].append(device)
    for part in document.host:
        host[part.family].append(part)
    return {
        family: HostDocument(catalog="", devices=tuple(devices[family]), host=tuple(host[family]))
        for family in families
    }


def _size_1(part: HostDocument) -> int:
    """The bytes that its groups take in the column."""
    return sum(column_size(dumps(group)) for group in groups_of(part))


def _size_2(part: HostDocument) -> int:
    return len(write_2(part)[0])


_WRITERS = {1: dump_stats_1, 2: dump_stats_2}
_SIZES = {1: _size_1, 2: _size_2}


def _together(document: HostDocument, parts: Mapping[str, HostDocument]) -> HostDocument:
    """A document with what is left of each family."""
    unreadable = dict(document.unreadable)
    for part in parts.values():
        unreadable.update(part.unreadable)
    return dataclasses.replace(
        document,
        devices=tuple(device for part in parts.values() for device in part.devices),
        host=tuple(one for part in parts.values() for one in part.host),
        whole=document.whole and not unreadable,
        unreadable=unreadable,
    )


def _at_step(
    whole: HostDocument, family: str, step: int, order: Mapping[Atom, int]
) -> HostDocument:
    """What of a family is published at a step."""
    if step == _NOTHING:
        return HostDocument(catalog="", devices=(), unreadable={family: _LEFT_OUT})
    kept = None
    if step >= _FIRST_HALF:
        # Of the family, not of each device: those that one of many needs are not cut with it.
        accepted = {atom for part in (*whole.devices, *whole.host) for atom in part.accepts.atoms}
        ordered = sorted(accepted, key=lambda atom: (order.get(atom, len(order)), atom))
        kept = frozenset(ordered[: len(ordered) >> (step - _NO_REFUSALS)])
    known: dict[int, AcceptSet] = {}

    def fit(parts: Iterable[PublishedDevice]) -> tuple[PublishedDevice, ...]:
        fitted = []
        for part in parts:
            accepts = known.get(id(part.accepts))
            if accepts is None:
                accepts = known[id(part.accepts)] = _shortened(part.accepts, step, kept)
            fitted.append(dataclasses.replace(part, accepts=accepts))
        return tuple(fitted)

    return dataclasses.replace(whole, devices=fit(whole.devices), host=fit(whole.host))


def _shortened(accepts: AcceptSet, step: int, kept: frozenset[Atom] | None) -> AcceptSet:
    """What of an accept-set is published at a step between the first and the last.

    :param kept: the atoms that are, None for all
    """
    if step == _DEVICES_ALONE:
        attributes = {
            name: Evaluation(kind=entry.kind, unknown=entry.unknown or (Code.DOCUMENT_FULL, ""))
            for name, entry in accepts.attributes.items()
        }
        return dataclasses.replace(accepts, attributes=attributes)
    if kept is not None:
        accepts = accepts.within(kept)
    attributes = {name: entry.without_refusals() for name, entry in accepts.attributes.items()}
    return dataclasses.replace(accepts, attributes=attributes)


def _said(step: int) -> str:
    """What is left out at a step, in words for an operator."""
    if step == _NO_REFUSALS:
        return "the values that its devices refuse"
    if step < _DEVICES_ALONE:
        return f"all but 1/{1 << (step - _NO_REFUSALS)} of what its devices accept"
    return "all that its devices accept" if step == _DEVICES_ALONE else "its devices"
