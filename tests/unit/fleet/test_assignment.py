# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Guests that look for a place at the same time, held against trying all that there is."""

from __future__ import annotations

import collections
import itertools
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat.fleet.assignment import Option, assign
from nova_devcompat.fleet.model import Place
from tests.budget import scaled

POOLS = ("cpu", "gpu", "vf")


def option(host: str, doubtful: bool = False, **takes: int) -> Option:
    return Option(
        place=Place(host, host),
        takes={(host, name): units for name, units in takes.items()},
        doubtful=doubtful,
    )


def holds(chosen, free) -> bool:
    taken = collections.Counter()
    for one in chosen:
        if one is not None:
            taken.update(one.takes)
    return all(units <= free[pool] for pool, units in taken.items())


def most(options, free) -> int:
    """How many can have a place at the same time, found by trying everything."""
    tried = itertools.product(*([None, *of_guest] for of_guest in options))
    return max(sum(one is not None for one in chosen) for chosen in tried if holds(chosen, free))


HOSTS = st.sampled_from("abc")
OPTIONS = st.lists(
    st.builds(
        option, HOSTS, st.booleans(), cpu=st.integers(1, 3), gpu=st.integers(0, 2), vf=st.just(1)
    ),
    max_size=3,
)
FREE = st.fixed_dictionaries({(host, pool): st.integers(0, 4) for host in "abc" for pool in POOLS})


@given(st.lists(OPTIONS, min_size=1, max_size=5), FREE)
@settings(max_examples=scaled(60))
def test_as_many_as_can_have_a_place(options, free):
    found = assign(options, free)
    assert found.certain
    assert holds(found.chosen, free)
    assert found.placed == most(options, free)
    for one, of_guest in zip(found.chosen, options, strict=True):
        assert one is None or one in of_guest


@given(st.lists(OPTIONS, min_size=1, max_size=5), FREE)
@settings(max_examples=scaled(60))
def test_without_a_solver_nothing_is_claimed(options, free):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "highspy", None)
        found = assign(options, free)
    assert holds(found.chosen, free)
    if found.certain:
        assert found.placed == most(options, free)


def test_a_place_that_only_moving_another_frees():
    """Whoever comes first must not take the only place of the next."""
    # Each has two hosts, and one choice of the first two leaves nothing for the third.
    options = [
        [option("a", gpu=1), option("b", gpu=1)],
        [option("b", gpu=1), option("c", gpu=1)],
        [option("a", gpu=1), option("a", gpu=1)],
    ]
    free = {(host, "gpu"): 1 for host in "abc"}
    found = assign(options, free)
    assert [one.place.host for one in found.chosen] == ["b", "c", "a"]
    assert found.certain


def test_hosts_that_may_refuse_come_last():
    options = [[option("a", True, gpu=1), option("b", gpu=1)], [option("b", gpu=1)]]
    roomy = assign(options, {("a", "gpu"): 1, ("b", "gpu"): 2})
    assert [one.place.host for one in roomy.chosen] == ["b", "b"]
    # But a place in doubt is more than none.
    tight = assign(options, {("a", "gpu"): 1, ("b", "gpu"): 1})
    assert [one.place.host for one in tight.chosen] == ["a", "b"]


def test_no_time_to_be_certain():
    """What was found is told, and nothing is claimed of the rest."""
    hosts = [f"h{number}" for number in range(12)]
    options = [[option(host, cpu=7 + number % 5) for host in hosts] for number in range(40)]
    found = assign(options, {(host, "cpu"): 25 for host in hosts}, seconds=0.0)
    assert not found.certain
    assert 0 < found.placed < 40
