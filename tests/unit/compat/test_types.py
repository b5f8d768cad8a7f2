# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which rules can read what sources tell."""

import dataclasses

import pytest

from nova_devcompat.compat import kinds
from nova_devcompat.compat.types import AttributeType, reads


@pytest.mark.parametrize(
    ("rule", "types"),
    [
        (kinds.Semver(), {"text"}),
        (kinds.AtLeast(), {"text", "integer"}),
        (kinds.Superset(), {"list"}),
        (kinds.Range(), {"range"}),
        (kinds.Equal(), {"text"}),
        (kinds.Equal(choices=("on", "off")), {"text"}),
    ],
)
def test_reads(rule, types):
    assert {str(each) for each in AttributeType if reads(rule, each)} == types


def test_a_plugin_that_fails_says_itself_what_it_reads():
    @dataclasses.dataclass(frozen=True)
    class Odd(kinds.Equal):
        def parse_offer(self, raw):
            raise RuntimeError("no")

    assert all(reads(Odd(), each) for each in AttributeType)


def test_described():
    assert AttributeType.INTEGER.described == "an integer"
    assert AttributeType.LIST.described == "a list"
