# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is left of accept-sets of which not all can be said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat.compat.accepts import AcceptSet, Evaluation
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
