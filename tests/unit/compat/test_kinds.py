# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Kinds that tell more than yes and no: the same, the floor, the origin, and masks of bits."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat import wire
from nova_devcompat.compat import kinds, rules
from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.kinds.sets import parse_mask
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.verdict import Actor, Code, Outcome
from tests.unit.compat.support import family_of, judge
from tests.unit.providers import uuid_of

ACCEPT, REJECT, UNKNOWN = Outcome


def moved(rule, there, *, here):
    """The verdict on a guest that was started on one device and goes to another."""
    family = family_of(rule)
    return family.offer({"attribute": there}).judge(family.offer({"attribute": here}).freeze())


def published(offer, need):
    """The same verdict, from what the host published of it."""
    device = wire.PublishedDevice(
        address="0000:81:00.0",
        accepts=offer.accept_set(need.atoms),
        providers=(uuid_of("device"),),
    )
    text = wire.dump_stats(wire.HostDocument(catalog="c", devices=(device,)))
    (read,) = wire.load_stats(text).devices
    return read.accepts.judge(need)


# --- same ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kinds.Same, kinds.Undecided])
def test_the_same_is_accepted_and_of_another_nothing_is_known(kind):
    assert moved(kind(), "1.60.0-73", here="1.60.0-73").outcome is ACCEPT
    assert moved(kind(), "mt_0000000359", here="MT_0000000359").outcome is ACCEPT
    verdict = moved(kind(), "1.60.0-74", here="1.60.0-73")
    assert verdict.outcome is UNKNOWN
    (reason,) = verdict.reasons
    assert (reason.code, reason.actor) == (Code.NOT_THE_SAME, Actor.OPERATOR)
    assert str(reason) == (
        "device.attribute: needs 1.60.0-73, offered 1.60.0-74, another one, and no rule is "
        f"published for that [{kind.kind}, not-the-same; "
        "give the host the same one, or state a rule in the catalog]"
    )


def test_a_doubt_is_published_as_one():
    family = family_of(kinds.Same())
    need = family.offer({"attribute": "1"}).freeze()
    for text, outcome in (("1", ACCEPT), ("2", UNKNOWN)):
        offer = family.offer({"attribute": text})
        assert published(offer, need) == offer.judge(need)
        assert published(offer, need).outcome is outcome


def test_readers_of_earlier_releases_take_a_doubt_for_unknown():
    """They know no "d", and read as if the value had not been evaluated."""
    family = family_of(kinds.Same())
    need = family.offer({"attribute": "1"}).freeze()
    accepts = family.offer({"attribute": "2"}).accept_set(need.atoms)
    device = wire.PublishedDevice(address="a", accepts=accepts)
    text = wire.dump_stats(wire.HostDocument(catalog="c", devices=(device,)))
    (read,) = wire.load_stats(text.replace('"d":{"not', '"later":{"not')).devices
    verdict = read.accepts.judge(need)
    assert verdict.outcome is UNKNOWN
    assert verdict.reasons[0].code == Code.NOT_EVALUATED


# --- floor ---------------------------------------------------------------------------------------

GUC = kinds.Floor(at="1.27")


@pytest.mark.parametrize(
    ("here", "there", "outcome", "code"),
    [
        ("1.27.0", "1.27.0", ACCEPT, None),
        ("1.27", "2.0", ACCEPT, None),
        ("2.0", "1.27", ACCEPT, None),
        ("1.27.0", "1.24.0", REJECT, Code.BELOW_FLOOR),
        ("1.24.0", "1.27.0", REJECT, Code.UNMET),
        ("1.24.0", "1.24.0", REJECT, Code.UNMET),
        ("1.27.0", "banana", UNKNOWN, Code.OFFER_UNREADABLE),
        ("1.27.0", "1.27-rc1", UNKNOWN, Code.OFFER_UNREADABLE),
        ("1.27.0", None, UNKNOWN, Code.OFFER_MISSING),
    ],
)
def test_both_ends_must_be_at_the_floor(here, there, outcome, code):
    verdict = moved(GUC, there, here=here)
    assert verdict.outcome is outcome
    assert [reason.code for reason in verdict.reasons] == ([code] if code else [])
    assert published(
        family_of(GUC).offer({"attribute": there}),
        family_of(GUC).offer({"attribute": here}).freeze(),
    ).outcome is (outcome)


def test_reasons_of_a_floor_say_what_it_is():
    (reason,) = moved(GUC, "1.24.0", here="1.27.0").reasons
    assert "needs met, offered 1.24.0, floor 1.27, below what a migration needs" in str(reason)
    (reason,) = moved(GUC, "1.27.0", here="1.24.0").reasons
    assert "the guest's own device is below" in str(reason)
    assert reason.actor is Actor.GUEST


def test_a_floor_takes_integers():
    rule = kinds.Floor(at="1")
    assert moved(rule, 1, here="1").outcome is ACCEPT
    assert moved(rule, 0, here=1).outcome is REJECT
    assert moved(rule, True, here=1).outcome is UNKNOWN


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "at: the floor is missing"),
        ({"at": "banana"}, "at: 'banana': is not a version"),
        ({"at": "1.27", "ordering": "rpm"}, "ordering: 'rpm' is none of"),
        ({"at": "1.27", "floor": "1"}, "unknown option 'floor'; floor takes only: at, ordering"),
    ],
)
def test_bad_floors(options, why):
    with pytest.raises(rules.BadOptions, match=re.escape(why)):
        kinds.Floor.from_options(options)


def test_a_floor_can_be_pinned_where_it_can_be_met():
    assert GUC.parse_pin("met") == {"met"}
    for text in ("unmet", "1.27"):
        with pytest.raises(Unreadable, match="a pin can only be 'met'"):
            GUC.parse_pin(text)
    with pytest.raises(Unreadable, match="is neither 'met' nor 'unmet'"):
        GUC.canonical("1.27")


_levels = st.builds("{}.{}".format, st.integers(0, 3), st.integers(0, 3))


@given(_levels, _levels, _levels)
def test_a_floor_is_what_it_says(at, here, there):
    def above(text):
        return [int(part) for part in text.split(".")] >= [int(part) for part in at.split(".")]

    verdict = moved(kinds.Floor(at=at), there, here=here)
    assert (verdict.outcome is ACCEPT) is (above(here) and above(there))


# --- origin --------------------------------------------------------------------------------------

BUILD = Family(name="qemu", rules={"build": kinds.Origin(), "version": kinds.Ordered()})


def test_an_origin_speaks_against_nobody_and_costs_no_trait():
    offer = BUILD.offer({"build": "9.0.2-1", "version": "9.0.2"})
    need = BUILD.offer({"build": "8.2.0-7", "version": "8.2.0"}).freeze()
    assert dict(need.values) == {"build": {"8.2.0-7"}, "version": {"8.2.0"}}
    assert {atom.attribute for atom in offer.atoms()} == {"version"}
    assert offer.judge(need).outcome is ACCEPT
    assert published(offer, need).outcome is ACCEPT


def test_a_host_that_has_never_heard_of_an_origin_meets_it():
    """What it published, it published before the guest was there."""
    offer = BUILD.offer({"build": "9.0.2-1", "version": "9.0.2"})
    before = BUILD.offer({"build": "1", "version": "8.2.0"}).freeze()
    device = wire.PublishedDevice(address="a", accepts=offer.accept_set(before.atoms))
    text = wire.dump_stats(wire.HostDocument(catalog="c", devices=(device,)))
    (read,) = wire.load_stats(text).devices
    need = BUILD.offer({"build": "8.2.0-7", "version": "8.2.0"}).freeze()
    assert read.accepts.judge(need).outcome is ACCEPT


def test_an_origin_that_cannot_be_told_is_unknown():
    offer = BUILD.offer({"version": "9.0.2"})
    need = BUILD.offer({"build": "1", "version": "8.2.0"}).freeze()
    assert offer.judge(need).outcome is UNKNOWN
    whole = BUILD.offer({"build": "2", "version": "9.0.2"})
    assert whole.judge(offer.freeze()).outcome is UNKNOWN


def test_an_origin_is_no_pin():
    with pytest.raises(Unreadable, match="which no flavor can ask for"):
        kinds.Origin().parse_pin("9.0.2")
    assert kinds.Origin().canonical("9.0.2") == "9.0.2"


def test_bad_options_of_one_of():
    with pytest.raises(rules.BadOptions, match="versioned: 'yes' is neither true nor false"):
        kinds.OneOf.from_options({"versioned": "yes"})


# --- masks of bits -------------------------------------------------------------------------------

#: QEMU's message on a guest that did not load: its features, and those of the host.
GUEST, HOST = "0x1c0010130afffa7", "0x179bfffe7"


@pytest.mark.parametrize("bits", [True, False])
def test_masks_are_compared_as_masks(bits):
    rule = kinds.Superset(bits=bits)

    def offered(text):
        return text if bits else [text]

    assert moved(rule, offered(HOST), here=offered(GUEST)).outcome is REJECT
    assert moved(rule, offered(GUEST), here=offered("0x130afffa7")).outcome is ACCEPT
    assert moved(rule, offered("0X1F"), here=offered("0x01f")).outcome is ACCEPT
    assert moved(rule, offered("0x1f"), here=offered("0x0")).outcome is ACCEPT


def test_masks_stand_beside_names():
    rule = kinds.Superset()
    offer = rule.parse_offer(["csum", "0x3", "0x8"])
    assert rule.freeze(offer) == {"csum", "0xb"}
    assert moved(rule, ["csum", "uso", "0xf"], here=["csum", "0xb"]).outcome is ACCEPT
    assert moved(rule, ["csum", "0x7"], here=["csum", "0xb"]).outcome is REJECT
    assert judge(rule, ["0x9"], ["0x3", "0x8"]).outcome is ACCEPT


@pytest.mark.parametrize(
    ("raw", "mask"),
    [
        (31, 31),
        ("0x1F", 31),
        # As sysfs prints the features of a virtio device: bit 0 first.
        ("11010", 0b01011),
        (["0", "3"], 0b1001),
        (["0x1", "4"], 0b10001),
        ([], 0),
        # The same file by a path with a wildcard, virtio*/features: a list of one.
        (["11010"], 0b01011),
        (["0001"], 0b1000),
        (["111"], 1 << 111),
        (["0010010101", "0x1"], 0b1010100101),
    ],
)
def test_a_mask_is_read_as_sources_have_it(raw, mask):
    assert parse_mask(raw) == mask


@pytest.mark.parametrize(
    "raw", ["31", "csum", True, -1, 1 << 512, ["csum"], ["900"], None, 1.5, ["0102"], ["1" * 513]]
)
def test_what_is_no_mask(raw):
    with pytest.raises(Unreadable):
        parse_mask(raw)


def test_what_a_guest_uses_of_a_mask():
    rule = kinds.Superset(bits=True)
    offer = rule.parse_offer({"features": "0x1f", "in_use": "0x3"})
    assert rule.freeze(offer) == {"0x3"}
    assert rule.values(offer) == {"0x3", "0x1f"}
    with pytest.raises(Unreadable, match="in_use but not offered: 0x20"):
        rule.parse_offer({"features": "0x1f", "in_use": "0x23"})


@given(st.integers(0, 2**70), st.integers(0, 2**70))
def test_a_mask_meets_what_has_no_bit_that_it_lacks(have, want):
    rule = kinds.Superset(bits=True)
    accepted = moved(rule, have, here=want).outcome is ACCEPT
    assert accepted is (want | have == have)


# --- equal ---------------------------------------------------------------------------------------


def test_case_counts_where_the_family_says_so():
    assert moved(kinds.Equal(), "mt_1", here="MT_1").outcome is ACCEPT
    assert moved(kinds.Equal(case=True), "mt_1", here="MT_1").outcome is REJECT


def test_parts_in_another_order_are_equal_where_the_family_says_so():
    rule = kinds.Equal(separator=";")
    assert moved(rule, "asym;sym", here="sym;asym").outcome is ACCEPT
    assert moved(rule, "sym", here="sym;asym").outcome is REJECT
    assert rule.canonical("sym; asym;") == "asym;sym"
    assert moved(kinds.Equal(), "asym;sym", here="sym;asym").outcome is REJECT


def test_integers_are_equal_where_the_family_says_so():
    rule = kinds.Equal(integer=True)
    assert moved(rule, "04", here=4).outcome is ACCEPT
    assert moved(rule, 5, here=4).outcome is REJECT
    assert moved(rule, "four", here=4).outcome is UNKNOWN


def test_all_texts_that_there_are_where_the_family_says_so():
    rule = kinds.Equal.from_options({"choices": ["enabled", "disabled", "none"]})
    assert moved(rule, "Enabled ", here="enabled").outcome is ACCEPT
    assert moved(rule, "disabled", here="enabled").outcome is REJECT
    assert moved(rule, "on", here="enabled").outcome is UNKNOWN
    assert moved(rule, "on", here="on").outcome is UNKNOWN
    assert rule.canonical("ENABLED") == "enabled"
    with pytest.raises(Unreadable, match="'on': is none of enabled, disabled, none"):
        rule.parse_pin("on")
    strict = kinds.Equal(case=True, choices=("A", "b"))
    assert moved(strict, "a", here="A").outcome is UNKNOWN
    assert strict == kinds.Equal.from_options({"case": True, "choices": ["A", "b"]})
    assert hash(strict)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"case": "no"}, "case: 'no'"),
        ({"choices": "enabled"}, "choices: 'enabled' is no list of texts"),
        ({"choices": [1]}, "choices: [1]"),
        ({"choices": ["a", " b"]}, "choices: ['a', ' b']"),
        ({"choices": [""]}, "choices: ['']"),
        ({"separator": 1}, "separator: 1"),
        ({"integer": 1}, "integer"),
    ],
)
def test_bad_options_of_equal(options, why):
    with pytest.raises(rules.BadOptions, match=re.escape(why)):
        kinds.Equal.from_options(options)


def test_bad_options_of_superset():
    with pytest.raises(rules.BadOptions, match="bits: 'yes' is neither true nor false"):
        kinds.Superset.from_options({"bits": "yes"})


def test_needs_of_a_release_that_kept_other_case_are_met():
    need = DeviceNeed.of("device", {"attribute": ["MT_0000000359"]})
    offer = family_of(kinds.Equal()).offer({"attribute": "mt_0000000359"})
    assert offer.judge(need).outcome is ACCEPT
