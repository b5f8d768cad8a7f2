# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import functools
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat.catalog import patterns
from tests.budget import scaled

ALPHABET = "ab"
PATTERNS = st.text(alphabet="abAB*?", max_size=5)


def regex(pattern: str) -> re.Pattern[str]:
    pieces = {"*": ".*", "?": "."}
    return re.compile("".join(pieces.get(char, char) for char in pattern.lower()))


@functools.cache
def all_texts(length: int) -> list[str]:
    # "c" stands for any character that is in neither pattern.
    return [
        "".join(chars)
        for size in range(length + 1)
        for chars in itertools.product(ALPHABET + "c", repeat=size)
    ]


@given(PATTERNS, PATTERNS)
@settings(max_examples=scaled(100))
def test_common_text_against_brute_force(left, right):
    """All texts of up to seven characters are tried; a longer answer only has to match."""
    found = patterns.common_text(left, right)
    both = [
        text
        for text in all_texts(7)
        if regex(left).fullmatch(text) and regex(right).fullmatch(text)
    ]
    if found is None:
        assert both == []
        return
    assert patterns.matches(left, found) and patterns.matches(right, found)
    if both:
        assert len(found) == len(both[0])
    else:
        assert len(found) > 7


@given(PATTERNS, st.text(alphabet="abABc\n", max_size=6))
@settings(max_examples=scaled(200))
def test_matches_is_the_regular_expression(pattern, text):
    expected = re.compile(regex(pattern).pattern, re.DOTALL).fullmatch(text.lower())
    assert patterns.matches(pattern, text) == bool(expected)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("nvidia-*", "nvidia-35", "nvidia-35"),
        ("nvidia-*", "NVIDIA-?", "nvidia-x"),
        ("15b3", "15B3", "15b3"),
        ("15b3", "15b?", "15b3"),
        ("15b3", "15b", None),
        ("*a", "*b", None),
        ("a*", "*b", "ab"),
        ("*", "*", ""),
        ("?", "*", "x"),
        ("?", "", None),
        ("a?c*", "*bcd", "abcd"),
        ("*a*b*", "b*a", "baba"),
    ],
)
def test_common_text(left, right, expected):
    assert patterns.common_text(left, right) == expected
    back = patterns.common_text(right, left)
    assert (back is None) == (expected is None)
    assert back is None or len(back) == len(expected)


def test_long_patterns_take_no_time():
    assert patterns.common_text("*a" * 100 + "c", "*b" * 100 + "d") is None
    assert patterns.matches("*a" * 60 + "c", "a" * 250) is False
