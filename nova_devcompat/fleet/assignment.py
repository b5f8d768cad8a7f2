# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which of several guests find a place at the same time.

That is an assignment problem with several resources, which is hard in general. It is tried first
with whoever has the fewest hosts first, which nearly always does where there is room. Where that
leaves somebody over, the integer program is solved by HiGHS, if that is installed: it finds a
place for as many as can have one, and proves that no more can. Without it, or where it does not
end in time, nothing is claimed of those that are left over but that no place was found.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from nova_devcompat.fleet.model import Place

#: Of what there are so many units: a resource class of a provider, a pool of PCI devices.
Pool = Hashable

Var = TypeVar("Var")

#: How long to look for an answer that is certain, in seconds.
SECONDS = 30.0

# Ways to place guests that are given to the solver, at most: it takes 1 KiB for each.
_MOST_OPTIONS = 200_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One way to place a guest.

    :param place: on which host
    :param takes: units of each pool
    :param doubtful: whether the host may yet refuse
    """

    place: Place
    takes: Mapping[Pool, int]
    doubtful: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """Where guests go at the same time.

    :param chosen: an option for each guest, None for those without a place
    :param certain: whether it is known that no more of them can have one
    """

    chosen: tuple[Option | None, ...]
    certain: bool

    @property
    def placed(self) -> int:
        """How many have a place."""
        return sum(one is not None for one in self.chosen)


def assign(
    options: Sequence[Sequence[Option]], free: Mapping[Pool, int], *, seconds: float = SECONDS
) -> Assignment:
    """Find a place for as many guests as can have one.

    :param options: of each guest
    :param free: units of all pools in these
    :param seconds: how long to look for an answer that is certain
    """
    fitting = [[one for one in of_guest if _fits(one, free)] for of_guest in options]
    most = sum(map(bool, fitting))
    found = _fewest_hosts_first(fitting, free)
    if _count(found) < most and sum(map(len, fitting)) <= _MOST_OPTIONS:
        solved = _solved(fitting, free, seconds)
        if solved is not None:
            better = max(found, solved.chosen, key=_count)
            certain = solved.certain or _count(better) == most
            return Assignment(chosen=tuple(better), certain=certain)
    return Assignment(chosen=tuple(found), certain=_count(found) == most)


def _fits(option: Option, left: Mapping[Pool, int]) -> bool:
    return all(left[pool] >= units for pool, units in option.takes.items())


def _count(chosen: Sequence[Option | None]) -> int:
    return sum(one is not None for one in chosen)


def _fewest_hosts_first(
    options: Sequence[Sequence[Option]], free: Mapping[Pool, int]
) -> list[Option | None]:
    left = dict(free)
    hosts = [{one.place for one in of_guest} for of_guest in options]
    wanted = collections.Counter(place for places in hosts for place in places)
    chosen: list[Option | None] = [None] * len(options)
    for index in sorted(range(len(options)), key=lambda index: len(hosts[index])):
        # Where fewest others could go.
        best = min(
            (one for one in options[index] if _fits(one, left)),
            key=lambda one: (one.doubtful, wanted[one.place], one.place),
            default=None,
        )
        chosen[index] = best
        if best is not None:
            for pool, units in best.takes.items():
                left[pool] -= units
    return chosen


def _solved(
    options: Sequence[Sequence[Option]], free: Mapping[Pool, int], seconds: float
) -> Assignment | None:
    """What HiGHS makes of it; None without it, or where it fails."""
    try:
        import highspy
    except ImportError:
        return None
    solver = highspy.Highs()
    solver.silent()
    solver.HandleKeyboardInterrupt = True
    # By default it ends within a small part of the optimum, which is a guest where there are many.
    for name, value in (("time_limit", seconds), ("mip_rel_gap", 0.0), ("mip_abs_gap", 0.5)):
        solver.setOptionValue(name, value)
    chosen = [[solver.addBinary() for _ in of_guest] for of_guest in options]
    pairs = list(_pairs(options, chosen))
    for of_guest in chosen:
        if len(of_guest) > 1:
            solver.addConstr(solver.qsum(of_guest) <= 1)
    for pool, parts in _by_pool(pairs).items():
        solver.addConstr(solver.qsum([units * one for one, units in parts]) <= free[pool])
    # One more guest is worth more than any doubt.
    worth = len(options) + 2
    solver.maximize(solver.qsum([(worth - option.doubtful) * one for option, one in pairs]))
    if solver.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None
    found = [
        next((option for option, value in zip(of_guest, values, strict=True) if value > 0.5), None)
        for of_guest, values in zip(options, map(solver.vals, chosen), strict=True)
    ]
    if not _holds(found, free):
        return None
    optimal = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return Assignment(chosen=tuple(found), certain=optimal)


def _pairs(
    options: Sequence[Sequence[Option]], chosen: Sequence[Sequence[Var]]
) -> Iterator[tuple[Option, Var]]:
    for of_guest, variables in zip(options, chosen, strict=True):
        yield from zip(of_guest, variables, strict=True)


def _by_pool(pairs: Iterable[tuple[Option, Var]]) -> dict[Pool, list[tuple[Var, int]]]:
    by_pool: dict[Pool, list[tuple[Var, int]]] = {}
    for option, one in pairs:
        for pool, units in option.takes.items():
            by_pool.setdefault(pool, []).append((one, units))
    return by_pool


def _holds(chosen: Sequence[Option | None], free: Mapping[Pool, int]) -> bool:
    """Whether no pool is asked for more than it has: numbers of a solver are inexact."""
    taken: collections.Counter[Pool] = collections.Counter()
    for one in chosen:
        if one is not None:
            taken.update(one.takes)
    return all(units <= free[pool] for pool, units in taken.items())
