# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Where there is no room for all atoms, none crowds out those of others."""

import collections

from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat.compat.choice import EVALUATED, MOST_PINNED, Bounds, bounded, fitting, in_turns
from nova_devcompat.compat.traits import Atom

FEW = Bounds(attribute=3, family=5, host=8)
atoms = st.builds(
    Atom, st.sampled_from(["f", "g", "h"]), st.sampled_from("ab"), st.sampled_from("123456789")
)
tiers = st.lists(st.frozensets(atoms, max_size=30), max_size=4)


def attribute(atom):
    return atom.family, atom.attribute


def many(count, family="f", attribute="a"):
    return frozenset(Atom(family, attribute, f"{number:05d}") for number in range(count))


def test_families_and_their_attributes_take_turns():
    listed = [
        Atom("f", "a", "1"),
        Atom("f", "a", "2"),
        Atom("f", "a", "3"),
        Atom("f", "b", "1"),
        Atom("g", "c", "1"),
        Atom("g", "c", "2"),
    ]
    expected = ["f.a=1", "g.c=1", "f.b=1", "g.c=2", "f.a=2", "f.a=3"]
    assert [str(atom) for atom in in_turns(listed)] == expected
    assert [str(atom) for atom in in_turns(reversed(listed))] == expected


def test_the_low_rank_and_then_the_short_come_first():
    listed = [Atom("f", "a", value) for value in ("long", "b", "a", "rare")]
    ranked = in_turns(listed, {atom: atom.value != "rare" for atom in listed}.__getitem__)
    assert [atom.value for atom in ranked] == ["rare", "a", "b", "long"]


@given(st.lists(atoms), st.integers(0, 40))
def test_what_fits_is_taken_in_order(listed, room):
    chosen, left_out = fitting(listed, lambda atom: int(atom.value), room)
    assert sorted(chosen + left_out) == sorted(listed)
    assert sum(int(atom.value) for atom in chosen) <= room
    assert not left_out or room - sum(int(atom.value) for atom in chosen) < max(
        int(atom.value) for atom in left_out
    )


def test_what_just_fits_is_taken():
    three, two, one = (Atom("f", "a", value) for value in "321")
    assert fitting([three, two, one], lambda atom: int(atom.value), 4) == ([three, one], [two])


def test_how_many_there_may_be():
    """Of an attribute, of a family and of all; what was chosen before counts."""
    of = {(family, name): many(9, family, name) for family in "fgh" for name in "ab"}
    assert len(bounded([of["f", "a"]], FEW)) == FEW.attribute
    assert len(bounded([of["f", "a"], of["f", "b"]], FEW)) == FEW.family
    assert len(bounded(of.values(), FEW)) == FEW.host
    first = frozenset(sorted(of["f", "a"])[:2])
    assert len(bounded([first, of["f", "a"]], FEW)) == FEW.attribute
    one_each = [frozenset(sorted(each)[:1]) for each in of.values()]
    assert len(bounded(one_each, FEW)) == len(of)
    just_one = Bounds(attribute=1, family=1, host=1)
    assert bounded([of["f", "a"], of["g", "a"]], just_one) == (min(of["f", "a"]),)


@given(tiers)
def test_bounds_hold_and_the_more_useful_come_first(listed):
    chosen = bounded(listed, FEW)
    everything = frozenset().union(*listed)
    assert len(set(chosen)) == len(chosen) <= FEW.host
    assert everything.issuperset(chosen)
    families = collections.Counter(atom.family for atom in chosen)
    attributes = collections.Counter(map(attribute, chosen))
    assert max(families.values(), default=0) <= FEW.family
    assert max(attributes.values(), default=0) <= FEW.attribute

    def tier(atom):
        return next(index for index, each in enumerate(listed) if atom in each)

    assert [tier(atom) for atom in chosen] == sorted(map(tier, chosen))
    for atom in everything.difference(chosen):
        # Nothing is left out for which there is room, nor for the sake of what is less useful.
        full = (
            len(chosen) == FEW.host
            or families[atom.family] == FEW.family
            or attributes[attribute(atom)] == FEW.attribute
        )
        assert full
        if attributes[attribute(atom)] == FEW.attribute:
            same = [one for one in chosen if attribute(one) == attribute(atom)]
            assert max(map(tier, same)) <= tier(atom)


@given(tiers, st.frozensets(atoms, max_size=3))
def test_a_flood_takes_nothing_from_what_is_more_useful(listed, own):
    calm = bounded([own, *listed], FEW)
    flooded = bounded([own, *listed, many(1_000), many(1_000, "z")], FEW)
    assert calm == flooded[: len(calm)]


def test_there_is_room_for_what_devices_offer_beside_all_that_flavors_pin():
    own = many(EVALUATED.attribute - MOST_PINNED)
    pinned = frozenset(Atom("f", "a", f"p{number}") for number in range(MOST_PINNED))
    assert set(bounded([own, pinned])) == own | pinned
    other = many(300, "other")
    assert {atom for atom in bounded([own, pinned, other]) if atom.family == "f"} == own | pinned
