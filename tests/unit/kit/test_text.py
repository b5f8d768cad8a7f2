# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Texts of others on one line, whatever is in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat.kit.text import is_printable, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("28.39.1002 (MT_0000000838)", "28.39.1002 (MT_0000000838)"),
        ("Größe 7 電", "Größe 7 電"),
        ("a\nCRITICAL forged", r"a\nCRITICAL forged"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\r\tb", r"a\r\tb"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),  # turn the direction of writing
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),  # have no width
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),  # break lines too
        ("\x9b31m", r"\x9b31m"),  # one byte that stands for escape and bracket
        ("\ud800", r"\ud800"),
        ("a\xa0b", r"a\xa0b"),
        ("", ""),
    ],
)
def test_what_cannot_be_printed_is_spelled_out(text, shown):
    assert printable(text) == shown


def test_a_long_text_is_cut():
    assert printable("x" * 300) == "x" * 252 + "..."
    assert printable("x" * 255) == "x" * 255
    assert printable("\x1b" * 100, 9) == r"\x1b\x..."
    assert [printable("abcdef", limit) for limit in range(5)] == ["", ".", "..", "...", "a..."]


@given(st.text(st.characters()), st.integers(0, 300))
def test_one_short_line_of_any_text(text, limit):
    shown = printable(text, limit)
    assert is_printable(shown, limit)
    assert len(shown.splitlines()) <= 1
    assert printable(shown, limit) == shown
    assert (shown == text) is is_printable(text, limit)
