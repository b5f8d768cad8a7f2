# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which start of a guest a record is of."""

import pytest

from nova_devcompat.compat.record import Incarnation


@pytest.mark.parametrize(
    ("recorded", "now", "same"),
    [
        (("a", "1@boot"), ("a", "1@boot"), True),
        (("a", "1@boot"), ("a", "2@boot"), False),
        (("a", "1@boot"), ("b", "1@boot"), False),
        # Where one of them tells no start, the node decides.
        (("a", ""), ("a", "2@boot"), True),
        (("a", "1@boot"), ("a", ""), True),
        (("a", ""), ("b", ""), False),
    ],
)
def test_whether_two_are_of_one_start(recorded, now, same):
    one, other = (Incarnation(node=node, start=start) for node, start in (recorded, now))
    assert one.is_of(other) is same
    assert other.is_of(one) is same
    # When it was recorded, and in which request, tells nothing of it.
    again = Incarnation(node=now[0], start=now[1], time="2026-11-27T05:00:00Z", request="req-1")
    assert one.is_of(again) is same
