# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading the versions that vendors print."""

import re

import pytest

from nova_devcompat.compat.attributes import (
    Unreadable,
    compare_versions,
    format_version,
    parse_version,
    text_of,
)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("7", (7,)),
        ("2.4", (2, 4)),
        ("28.39.1002", (28, 39, 1002)),
        ("28.39.1002 (MT_0000000838)", (28, 39, 1002)),
        ("550.54.15", (550, 54, 15)),
        ("1.2.3.4.5", (1, 2, 3, 4, 5)),
        ("v2.4.1", (2, 4, 1)),
        ("02.004", (2, 4)),
        ("22.41.1000 (NVD0000000079)", (22, 41, 1000)),
        ("2.4.1-lts", (2, 4, 1)),
        ("2.4.1 (stable)", (2, 4, 1)),
    ],
)
def test_parse_version(text, numbers):
    assert parse_version(text) == numbers


LETTER = (
    "has a letter on a number that counts; a hexadecimal version needs 'base: 16', a package's "
    "version a rule of kind 'ordered' with its ordering"
)
DIGITS = (
    "has digits behind the version, which this rule does not compare; one of kind 'ordered' does, "
    "with ordering numeric, or rpm_evr or debian for packages"
)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "is not text"),
        (["2.4"], "is not text"),
        (True, "is not text; put it in quotes"),
        (28.4, "is not text; put it in quotes"),
        (7, "is not text; put it in quotes"),
        ("", "is empty"),
        ("\u2003\n", "is empty"),
        ("1" * 256, "is longer than 255 characters"),
        ("2.4\x00", "has characters that cannot be printed"),
        ("banana", "is not a version such as '2.4.1'"),
        ("1A.1", "is hexadecimal, which needs 'base: 16', or a pre-release"),
        ("2.4b1", "is hexadecimal, which needs 'base: 16', or a pre-release"),
        ("14.F", "is hexadecimal, which needs 'base: 16', or a pre-release"),
        ("2.4x", LETTER),
        ("0x10", LETTER),
        ("2.4\u00b2", LETTER),
        ("2.4.0-rc1", "is a pre-release, which no rule can place"),
        ("2.4.0~git20", "is a pre-release, which no rule can place"),
        ("2.4.0-lts-rc1", "is a pre-release, which no rule can place"),
        ("1.60.0-73", DIGITS),
        ("1.15.9-C-22", DIGITS),
        ("2.4.1-5-gdeadbee", DIGITS),
        ("4.40 0x8001c967", DIGITS),
        ("6.2.0-11.module+el8.6.0+20793", DIGITS),
        ("8.2.2+ds-0ubuntu1.4", DIGITS),
        ("8.2.2 (Debian 1:8.2.2+ds-0ubuntu1.4)", DIGITS),
        ("28.39.1002 (MT_838)", DIGITS),
        ("7..1", "is more than one version, or a broken one"),
        ("2.4:1", "is more than one version, or a broken one"),
    ],
)
def test_unreadable_versions(value, why):
    with pytest.raises(Unreadable, match=f": {re.escape(why)}$") as caught:
        parse_version(value)
    assert caught.value.value is value
    assert caught.value.why == why


@pytest.mark.parametrize("text", ["1A.1-lts", "v1A", "G", "1A.", "0x1A"])
def test_unreadable_hexadecimal(text):
    with pytest.raises(Unreadable) as caught:
        parse_version(text, base=16)
    assert str(caught.value) == f"{text!r}: is not a hexadecimal version such as '1A.1'"


def test_a_letter_matters_only_on_a_part_that_counts():
    assert parse_version("2.4.1b", significant=2) == (2, 4, 1)
    with pytest.raises(Unreadable):
        parse_version("2.4.1b", significant=3)
    with pytest.raises(Unreadable):
        parse_version("2.4b", significant=2)


def test_unreadable_quotes_what_can_be_quoted():
    assert str(Unreadable("x", "why")) == "'x': why"
    assert str(Unreadable("x" * 78, "why")) == f"{'x' * 78!r}: why"
    assert str(Unreadable("x" * 79, "why")) == "'" + "x" * 76 + "...: why"
    assert str(Unreadable("x" * 300, "why")) == "'" + "x" * 76 + "...: why"
    assert str(Unreadable(1 << 20_000, "why")) == "a value of type int: why"


def test_text_of_takes_white_space_off():
    assert text_of(" p2p\n") == "p2p"
    assert text_of("x" * 255) == "x" * 255


@pytest.mark.parametrize(
    ("left", "right", "result"),
    [
        ((2, 5), (2, 5, 0), 0),
        ((2, 5), (2, 5, 1), -1),
        ((2, 10), (2, 9, 9), 1),
        ((), (0, 0), 0),
        ((), (0, 1), -1),
    ],
)
def test_compare_versions(left, right, result):
    assert compare_versions(left, right) == result
    assert compare_versions(right, left) == -result


def test_format_version():
    assert format_version((28, 39)) == "28.39"
    assert format_version((26, 1), base=16) == "1a.1"
