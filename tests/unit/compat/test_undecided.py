# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The rule of what nobody has published a rule for: it decides nothing."""

import pytest

from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.kinds import Undecided
from nova_devcompat.compat.verdict import Actor, Code, Outcome

OFFER = Family(name="nic", rules={"fw": Undecided()}).offer({"fw": "1.60.0-73"})


def test_what_it_runs_is_shown_and_nothing_more():
    """No atom, so no trait: a guest needs what is not known."""
    need = OFFER.freeze()
    assert OFFER.atoms() == need.atoms == frozenset()
    verdict = OFFER.judge(need)
    assert verdict.outcome is Outcome.UNKNOWN
    assert "offered 1.60.0-73" in str(verdict.reasons[0])


def test_it_accepts_nothing():
    refusal = Undecided().check("1.60.0-73", "1.60.0-73")
    assert (refusal.code, refusal.actor) == (Code.NO_RULE, Actor.OPERATOR)


@pytest.mark.parametrize("read", [Undecided().parse_need, Undecided().canonical])
def test_no_need_is_readable(read):
    with pytest.raises(Unreadable, match="no rule is published for it; state one in a catalog"):
        read("1.60.0-73")
