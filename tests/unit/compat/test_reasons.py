# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What kinds say of a value that they cannot take: the value, and all of the reason."""

import pytest

from nova_devcompat.compat import kinds, rules
from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.kinds import shapes
from nova_devcompat.compat.kinds.sets import parse_mask
from nova_devcompat.compat.kinds.values import parse_integer

FLOOR = kinds.Floor(at="1.27")
RANGE, ACCEPTS = kinds.Range(base=16), kinds.Accepts(base=16)
MACHINE = kinds.OneOf(versioned=True)
BOTH_ENDS = (
    "may be a version with a build, which this rule does not compare; a range has no fewer parts "
    "at its end than at its beginning, such as '2.0.2-2.0.4'"
)


def accept_list(entry):
    return ACCEPTS.parse_offer({"version": "2.1", "accepts": [entry]})


@pytest.mark.parametrize(
    ("read", "value", "why"),
    [
        (FLOOR.parse_need, "perhaps", "is neither 'met' nor 'unmet'"),
        (FLOOR.parse_offer, "1.27-rc1", "cannot be compared with the floor 1.27"),
        (FLOOR.parse_pin, "unmet", "is met by no host; a pin can only be 'met'"),
        (
            kinds.Origin().parse_pin,
            "9.0",
            "is where a guest was started, which no flavor can ask for",
        ),
        (
            MACHINE.parse_offer,
            {"values": ["pc-q35-8.2"], "in_use": "q35"},
            "in_use but not offered: q35",
        ),
        (
            MACHINE.parse_pin,
            "q35",
            "is an alias or has no version, so that on another host it is another machine; write "
            "a type with its version, such as pc-q35-8.2",
        ),
        (MACHINE.parse_pin, "PC-Q35-8.2", "is in another case than QEMU's; write pc-q35-8.2"),
        (parse_mask, -1, "is no mask of up to 512 bits"),
        (
            parse_mask,
            "2f",
            "is neither a mask such as '0x1f' nor a string of bits such as '11111'",
        ),
        (shapes.texts, "p2p", "is not a list of texts"),
        (kinds.Semver().parse_offer, "2", "has no minor; write major.minor such as '2.4'"),
        (RANGE.parse_offer, {"min": "7.1"}, "max is missing from {min, max, negotiated?}"),
        (
            RANGE.parse_offer,
            {"min": "7.1", "max": "8.1", "most": "9"},
            "unknown key 'most'; the shape is {min, max, negotiated?}",
        ),
        (RANGE.parse_offer, {"min": "1A.1", "max": "19.1"}, "min is above max"),
        (parse_integer, "1.5", "is not an integer of up to 40 decimal digits"),
        (accept_list, "1-2-3", "is neither a version nor a range such as '2.0.2-2.0.4'"),
        (accept_list, "2.0.4-1", BOTH_ENDS),
        (accept_list, "1A-19", "begins above its end"),
    ],
)
def test_a_value_is_quoted_with_the_whole_reason(read, value, why):
    with pytest.raises(Unreadable) as caught:
        read(value)
    assert str(caught.value) == f"{value!r}: {why}"


def test_of_features_the_offered_are_quoted():
    with pytest.raises(Unreadable) as caught:
        kinds.Superset().parse_offer({"features": ["a"], "in_use": ["b", "c"]})
    assert str(caught.value) == "['a']: in_use but not offered: b,c"


@pytest.mark.parametrize("entry", ["512", "bit"])
def test_of_a_list_the_entry_is_quoted(entry):
    with pytest.raises(Unreadable) as caught:
        parse_mask(["1", entry])
    why = "is neither the number of a bit nor a mask such as '0x1f'"
    assert str(caught.value) == f"{entry!r}: {why}"
    assert parse_mask(["511"]) == 1 << 511


@pytest.mark.parametrize(
    ("rule", "offer", "why"),
    [
        (
            RANGE,
            {"min": "7.1", "max": "14.1", "negotiated": "15.1"},
            "the guest negotiated a version outside of the device's range",
        ),
        (
            MACHINE,
            ["pc-q35-8.2"],
            "which of the host's values the guest uses is not known",
        ),
    ],
)
def test_why_it_is_not_known_what_a_guest_uses(rule, offer, why):
    with pytest.raises(rules.UseNotKnown) as caught:
        rule.freeze(rule.parse_offer(offer))
    assert str(caught.value) == why


def test_a_floor_says_how_it_is_written():
    with pytest.raises(rules.BadOptions) as caught:
        kinds.Floor()
    assert str(caught.value) == "at: the floor is missing; write {kind: floor, at: '1.27'}"


def test_hexadecimal_versions_stay_so():
    assert RANGE.canonical("001A.1") == "1a.1"
    offer = ACCEPTS.parse_offer({"version": "1A.1", "accepts": "19.1-1A.1"})
    assert ACCEPTS.describe(offer) == "1a.1 accepting 19.1-1A.1"


@pytest.mark.parametrize("digits", [39, 40])
def test_the_largest_integers(digits):
    """As an integer, and as the text that most sources have."""
    largest = 10**digits - 1
    assert parse_integer(largest) == parse_integer(str(largest)) == largest
    assert parse_integer(-largest) == -largest
    assert kinds.Floor(at="1").parse_offer(largest).met


def test_integers_that_no_device_has():
    for value in (10**40, -(10**40)):
        with pytest.raises(Unreadable) as caught:
            parse_integer(value)
        # Python would not write the digits of the longest.
        assert str(caught.value) == "'too large': is not an integer of up to 40 decimal digits"
        with pytest.raises(Unreadable):
            kinds.Floor(at="1").parse_offer(value)


def test_a_mask_without_bits_has_a_text():
    assert kinds.Superset(bits=True).canonical("0x0") == "0x0"


def test_a_need_of_bits_is_a_mask_and_no_number_of_a_bit():
    assert kinds.Superset(bits=True).parse_need("11").bits == 0b11


@pytest.mark.parametrize(
    ("base", "why"),
    [
        ("10", "'10' is text; leave the quotes out: base: 10"),
        ("16", "'16' is text; leave the quotes out: base: 16"),
        ("ten", "'ten' is neither 10 nor 16"),
        (8, "8 is neither 10 nor 16"),
    ],
)
def test_bases(base, why):
    with pytest.raises(rules.BadOptions) as caught:
        kinds.Range(base=base)
    assert str(caught.value) == f"base: {why}"
