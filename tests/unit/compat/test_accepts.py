# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is left of accept-sets of which not all can be said."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat.compat.accepts import AcceptSet, Evaluation
from nova_devcompat.compat.conditions import TEXT, parse_condition
from nova_devcompat.compat.knownbad import Bad, Bads
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Actor, Code

VALUES = "abcdef"
some = st.frozensets(st.sampled_from(VALUES))
WHY = Code.TOO_OLD, Actor.OPERATOR


@st.composite
def accepts(draw):
    """One attribute; no value is in two places."""
    place = {value: draw(st.integers(0, 4)) for value in VALUES}
    at = [frozenset(value for value in VALUES if place[value] == number) for number in range(5)]
    return Evaluation(
        kind="equal",
        accepted=at[0],
        rejected=dict.fromkeys(sorted(at[1]), WHY),
        doubtful=dict.fromkeys(sorted(at[2]), WHY),
        unreadable=at[3],
        frozen=draw(st.none() | some),
        open_world=draw(st.booleans()),
    )


@given(accepts(), some, some)
def test_what_is_left_out_is_not_met(whole, values, needed):
    for less in (whole.within(values), whole.without_refusals(), whole.within(values | needed)):
        assert less.meets(needed) <= whole.meets(needed)
    assert whole.within(frozenset(VALUES)) == whole
    assert whole.without_refusals().accepted == whole.accepted


WHOLE = Evaluation(
    kind="equal",
    offered="a",
    accepted=frozenset("ab"),
    rejected={"c": WHY, "d": WHY},
    doubtful={"e": WHY, "f": WHY},
    unreadable=frozenset("gh"),
    frozen=frozenset("a"),
    open_world=True,
)


def test_of_what_is_left_out_nothing_is_said():
    """Not that it is refused, nor why; and a need with a value that is left out is not known."""
    assert WHOLE.within(frozenset("aceg")) == Evaluation(
        kind="equal",
        offered="a",
        accepted=frozenset("a"),
        rejected={"c": WHY},
        doubtful={"e": WHY},
        unreadable=frozenset("g"),
        frozen=frozenset("a"),
    )
    assert WHOLE.within(frozenset("bdfh")).frozen is None
    assert dataclasses.replace(WHOLE, frozen=None).within(frozenset("a")).frozen is None


def test_without_refusals_the_rest_is_as_it_was():
    """But not that all else is met, since that is what is left out."""
    assert WHOLE.without_refusals() == dataclasses.replace(
        WHOLE, rejected={}, doubtful={}, open_world=False
    )
    bad = Bad(
        name="x",
        message="it fails",
        url="https://example.org",
        condition=parse_condition("z", TEXT),
        by="text",
    )
    # Of what meets all that is not named, no name can be left out.
    closed = dataclasses.replace(WHOLE, open_world=False, bad=Bads((bad,)))
    assert closed.without_refusals().bad == Bads()
    listed = dataclasses.replace(closed, open_world=True)
    assert listed.without_refusals().bad == Bads((bad,)).without_words()
    nothing_refused = dataclasses.replace(WHOLE, rejected={}, doubtful={})
    assert nothing_refused.without_refusals() == nothing_refused


def test_a_need_of_what_is_used_is_of_no_slot_unless_one_is_told():
    whole = AcceptSet(family="gpu", attributes={"version": WHOLE})
    assert whole.freeze_used({}).slot == ""
    assert whole.freeze_used({}, slot="rc:VGPU").slot == "rc:VGPU"


def test_atoms_of_other_families_are_passed_over():
    whole = AcceptSet(family="gpu", attributes={"version": WHOLE, "caps": WHOLE})
    less = whole.within([Atom("gpu", "version", "a"), Atom("nic", "caps", "b")])
    assert less.atoms == {Atom("gpu", "version", "a")}
    assert less.attributes["version"] == WHOLE.within(frozenset("a"))
    assert less.attributes["caps"] == WHOLE.within(frozenset())


@given(accepts(), some)
def test_atoms_within(one, values):
    whole = AcceptSet(family="gpu", attributes={"version": one, "caps": one})
    assert whole.within([Atom("nic", "caps", "a")]).atoms == frozenset()
    atoms = [Atom("gpu", "version", value) for value in sorted(values)]
    others = [Atom("nic", "caps", value) for value in VALUES]
    less = whole.within([*atoms, *others])
    assert less.atoms == whole.atoms.intersection(atoms)
    assert less.attributes["version"] == one.within(values)
    assert less.attributes["caps"] == one.within(frozenset())
