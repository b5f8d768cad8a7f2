# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which start of a guest a record is of."""

from __future__ import annotations

import pytest

from nova_devcompat.compat.record import Incarnation

HERE = Incarnation(node="a", start="7")


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Incarnation(node="a", start="7", time="2027-01-01T00:00:00Z"), True),
        (Incarnation(node="a"), True),  # it does not tell
        (Incarnation(node="a", start="8"), False),
        (Incarnation(node="b", start="7"), False),
    ],
)
def test_the_same_start(other, same):
    assert HERE.is_of(other) is other.is_of(HERE) is same
