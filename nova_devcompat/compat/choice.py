# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Choosing among atoms where there is no room for all of them.

Nobody knows how many atoms there are: anybody with the right to can create a trait, and a flavor
can pin whatever a rule can read. What is chosen is spread over families and attributes, so that
many atoms of one never crowd out those of another.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from nova_devcompat.compat.traits import Atom

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """How many atoms there may be.

    :param attribute: of one attribute
    :param family: of one family
    :param host: of all families together
    """

    attribute: int
    family: int
    host: int


#: What a host evaluates. Machine types and features of the hosts we know are below 200.
EVALUATED = Bounds(attribute=256, family=512, host=2_048)

#: Values of an attribute beyond which none is created for the sake of a flavor. Hosts keep the
#: other half for what their devices offer.
MOST_PINNED = EVALUATED.attribute // 2


def in_turns(atoms: Iterable[Atom], rank: Callable[[Atom], int] | None = None) -> list[Atom]:
    """Atoms in an order in which families take turns, and so do the attributes of each.

    Of one attribute those of low rank come first, among equals the short ones; the order does not
    depend on that of the input.

    :param rank: of an atom; by default all are alike
    """
    families: dict[str, dict[str, list[Atom]]] = {}
    for atom in sorted(
        atoms, key=lambda atom: (rank(atom) if rank else 0, len(atom.value), atom.value)
    ):
        families.setdefault(atom.family, {}).setdefault(atom.attribute, []).append(atom)
    by_family = [
        list(_alternating([attributes[name] for name in sorted(attributes)]))
        for _, attributes in sorted(families.items())
    ]
    return list(_alternating(by_family))


def _alternating(sequences: Sequence[Sequence[T]]) -> Iterator[T]:
    """The first of each, the second of each, and so on."""
    missing = object()
    for row in itertools.zip_longest(*sequences, fillvalue=missing):
        yield from (item for item in row if item is not missing)  # type: ignore[misc]


def fitting(
    ordered: Iterable[Atom], cost: Callable[[Atom], int], limit: int
) -> tuple[list[Atom], list[Atom]]:
    """Those that fit into so much room, the first of them first; and those that do not.

    :param cost: the room that an atom takes
    """
    chosen: list[Atom] = []
    left_out: list[Atom] = []
    for atom in ordered:
        needed = cost(atom)
        if needed <= limit:
            limit -= needed
            chosen.append(atom)
        else:
            left_out.append(atom)
    return chosen, left_out


def bounded(tiers: Iterable[Iterable[Atom]], bounds: Bounds = EVALUATED) -> tuple[Atom, ...]:
    """The atoms that bounds leave, the most useful first.

    :param tiers: the most useful ones first; one that stands in several counts in the first
    """
    chosen: dict[Atom, None] = {}
    counts: dict[tuple[str, ...], int] = {}
    for tier in tiers:
        for atom in in_turns(atom for atom in tier if atom not in chosen):
            of_family, of_attribute = (atom.family,), (atom.family, atom.attribute)
            if (
                len(chosen) < bounds.host
                and counts.get(of_family, 0) < bounds.family
                and counts.get(of_attribute, 0) < bounds.attribute
            ):
                chosen[atom] = None
                for key in (of_family, of_attribute):
                    counts[key] = counts.get(key, 0) + 1
    return tuple(chosen)
