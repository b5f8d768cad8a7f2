# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Whatever others write: no consumer raises, no line is forged, no other host is affected."""

import random

import pytest

from tests import budget
from tests.fuzz.__main__ import Failed, run
from tests.fuzz.consumers import Consumers, check_line

_PARTS = 4


@pytest.mark.parametrize("part", range(_PARTS))
def test_all_that_is_read_of_others(part, tmp_path, record_property):
    # By day the same inputs each time, so that a failure is of the change at hand.
    seed = part if budget.NAME == "usual" else random.SystemRandom().randrange(2**32)
    figures = run(budget.scaled(20_000, by_day=1) // _PARTS, seed, tmp_path)
    record_property("figures", figures)
    print(figures)


def test_a_failure_tells_how_to_draw_its_input_again(tmp_path, monkeypatch):
    monkeypatch.setattr(Consumers, "stats", lambda self, rng: check_line(f"\x1b{rng.random()}"))
    with pytest.raises(Failed, match=r"stats input 7/\d+: Broken: not printable") as caught:
        run(100, 7, tmp_path)
    own = str(caught.value).split()[2].rstrip(":")
    with pytest.raises(AssertionError, match="not printable") as again:
        Consumers(tmp_path).stats(random.Random(own))
    assert str(again.value) in str(caught.value)
