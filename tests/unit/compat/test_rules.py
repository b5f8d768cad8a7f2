# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Every kind with every sort of operand, and the interface that plugins implement."""

import re

import pytest

from nova_devcompat.compat import kinds, rules
from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.verdict import Code
from tests.unit.compat import facts
from tests.unit.compat.facts import (
    ABOVE,
    ACCEPT,
    BAD_NEED,
    BAD_OFFER,
    BELOW,
    MISSING,
    NEWER_MAJOR,
    NOT_IN_SET,
    NOT_TOLD,
    OLDER_MAJOR,
    TOO_FEW,
    TOO_OLD,
    TOO_OLD_MINOR,
    UNEQUAL,
    UNLISTED,
    span,
)
from tests.unit.compat.support import KINDS, family_of, judge, rule_of
from tests.unit.compat.test_vectors import check

TEN_THOUSAND = "1" * 10_000
FORTY = "9" * 40
TOO_LONG = "x" * 256

OPERANDS = [
    # What vendors print.
    ("semver", "28.39", "28.39.1002", ACCEPT),
    ("semver", "28.39.1002", "28.39.1000", ACCEPT),
    ("semver", "28.39", "28.39.1002 (MT_0000000838)", ACCEPT),
    ("semver", "28.39.1002 (MT_0000000838)", "28.38.1002", TOO_OLD_MINOR),
    ("semver", "2.4", "v2.4.1", ACCEPT),
    ("semver", "V2.4", "2.4-lts", ACCEPT),
    ("semver", "2.04", "2.4.0", ACCEPT),
    ("semver", "2.4", "02.004", ACCEPT),
    ("semver", "2.4", "2.4.1b", ACCEPT),
    ("semver", "2.4", "2.4.1+build.7", BAD_OFFER),
    ("semver", "2.4", "2.4.x", ACCEPT),
    ("semver", "8.30", "8.30 0x8000a49d 21.5.9", BAD_OFFER),
    ("semver", "1.63", "1.63, 0x800009fa", BAD_OFFER),
    ("semver", "218.0", "218.0.169.2/pkg 218.0.166.0", BAD_OFFER),
    ("semver", "1.60", "1.60.0-73", BAD_OFFER),
    ("semver", "2.4", " 2.4.0\n", ACCEPT),
    ("semver", "550.54", "550.54.15", ACCEPT),
    ("semver", "1.2", "2.0", NEWER_MAJOR),
    ("semver", "2.0", "1.9.9.9", OLDER_MAJOR),
    ("semver base=16", "1A.A", "1a.b", ACCEPT),
    ("semver base=16", "1A.B", "1A.A", TOO_OLD_MINOR),
    ("semver base=16", "19.1", "1A.1", NEWER_MAJOR),
    # What is older than the version it names, or none.
    ("semver", "2.4", "2.4.0-rc1", BAD_OFFER),
    ("semver", "2.4", "2.4.0rc1", BAD_OFFER),
    ("semver", "2.4", "2.4.0~1", BAD_OFFER),
    ("semver", "2.4", "2.4.0~", BAD_OFFER),
    ("semver", "2.4", "2.4.0-beta.2", BAD_OFFER),
    ("semver", "2.4", "2.4.0 (Beta 2)", BAD_OFFER),
    ("semver", "2.4", "2.4.0-0.rc1", BAD_OFFER),
    ("semver", "2.4", "2.4.0-SNAPSHOT", BAD_OFFER),
    ("semver", "2.4", "2.4.0-prerelease", BAD_OFFER),
    ("semver", "2.4", "2.4.0-devel", BAD_OFFER),
    ("semver", "2.4", "2.4.dev0", BAD_OFFER),
    ("semver", "2.4", "2.4b1", BAD_OFFER),
    ("semver", "2.4", "2.4b", BAD_OFFER),
    ("semver", "2.4-rc1", "2.4.0", BAD_NEED),
    ("semver", "2.4", "2", BAD_OFFER),
    ("semver", "2", "2.4", BAD_NEED),
    ("semver", "2.4", "2..4", BAD_OFFER),
    ("semver", "2.4", "2,4", BAD_OFFER),
    ("semver", "2.4", "-2.4", BAD_OFFER),
    ("semver", "2.4", "\uff12.\uff14", BAD_OFFER),
    ("semver", "2.4", "2.4.\u0661", BAD_OFFER),
    ("semver", "2.4", "2.4\n2.5", BAD_OFFER),
    ("semver", "2.4", "2.4\ud800", BAD_OFFER),
    ("semver", "2.4", f"2.{TEN_THOUSAND}", BAD_OFFER),
    ("semver", f"2.{TEN_THOUSAND}", "2.4", BAD_NEED),
    ("semver", "2.4", f"2.{FORTY}", ACCEPT),
    ("semver", "2.4", " \t", BAD_OFFER),
    ("semver", "2.4", "", BAD_OFFER),
    ("semver", "2.4", 2.4, BAD_OFFER),
    ("semver", "2.4", 2, BAD_OFFER),
    ("semver", "2.4", True, BAD_OFFER),
    ("semver", "2.4", ["2.4"], BAD_OFFER),
    ("semver", "2.4", {"version": "2.4"}, BAD_OFFER),
    ("semver", "2.4", b"2.4", BAD_OFFER),
    ("semver", "1A.1", "1A.1", BAD_OFFER),
    ("semver base=16", "1A.1", "1A.1-lts", BAD_OFFER),
    ("semver base=16", "1A.1", "v1A.1", BAD_OFFER),
    ("semver base=16", "1A.1", "0x1A.1", BAD_OFFER),
    # range
    ("range", "550.54.15", span("535", "550.54.15"), ACCEPT),
    ("range", "550.54.16", span("535", "550.54.15"), ABOVE),
    ("range", "534.99", span("535", "550.54.15"), BELOW),
    ("range", "14.1", span("14.1", "14.1"), ACCEPT),
    ("range", "14", span("14.0", "14.1"), ACCEPT),
    ("range", "14.1", span("7", "14"), ABOVE),
    ("range", "14.10", span("14.2", "14.10"), ACCEPT),
    ("range", "14.1", {**span("7.1", "14.1"), "negotiated": None}, ACCEPT),
    ("range", "14.1", span("14.1", "7.1"), BAD_OFFER),
    ("range", "14.1", {"min": "7.1", "max": None}, BAD_OFFER),
    ("range", "14.1", {"min": 7.1, "max": 14.1}, BAD_OFFER),
    ("range", "14.1", {**span("7.1", "14.1"), "Max": "15"}, BAD_OFFER),
    ("range", "14.1", {**span("7.1", "14.1"), "negotiated": "new"}, BAD_OFFER),
    ("range", "14.1", {**span("7.1", "14.1"), 1: "15"}, BAD_OFFER),
    ("range", "14.1", "7.1-14.1", BAD_OFFER),
    ("range", "14.1", ["7.1", "14.1"], BAD_OFFER),
    ("range", "1A.1", span("7.1", "19.1"), BAD_NEED),
    ("range", "14.F", span("7.1", "19.1"), BAD_NEED),
    ("range", "18.1", span("12.1", "1A.1"), BAD_OFFER),
    ("range", "14.1b", span("7.1", "19.1"), BAD_NEED),
    ("range base=16", "G.1", span("7.1", "19.1"), BAD_NEED),
    # superset
    ("superset", None, [], ACCEPT),
    ("superset", ["p2p"], [], MISSING),
    ("superset", ["p2p"], ["p2p", "p2p"], ACCEPT),
    ("superset", ["p2p"], [" p2p "], ACCEPT),
    ("superset", ["p2p"], ["P2P"], MISSING),
    ("superset", ["p2p"], {"features": ["p2p", "dma"], "in_use": []}, ACCEPT),
    ("superset", ["p2p"], {"features": ["p2p"], "in_use": ["dma"]}, BAD_OFFER),
    ("superset", ["p2p"], {"features": ["p2p"], "in_use": "p2p"}, BAD_OFFER),
    ("superset", ["p2p"], {"in_use": ["p2p"]}, BAD_OFFER),
    ("superset", ["p2p"], "p2p", BAD_OFFER),
    ("superset", ["1"], [1], BAD_OFFER),
    ("superset", ["p2p"], ["p2p", ""], BAD_OFFER),
    ("superset", ["p2p"], ["p2p", None], BAD_OFFER),
    ("superset", ["p2p"], ["p2p", ["dma"]], BAD_OFFER),
    ("superset", [" "], ["p2p"], BAD_NEED),
    ("superset", [TOO_LONG], ["p2p"], BAD_NEED),
    # equal
    ("equal", "on", "on", ACCEPT),
    ("equal", "on", " on\n", ACCEPT),
    ("equal", "on", "On", ACCEPT),
    ("equal", "on", "off", UNEQUAL),
    ("equal", "1.0", "1.00", UNEQUAL),
    ("equal", "\u00fcber", "\u00fcber", ACCEPT),
    ("equal", "a", "\u0430", UNEQUAL),
    ("equal", "1", 1, BAD_OFFER),
    ("equal", "True", True, BAD_OFFER),
    ("equal", "x", TOO_LONG, BAD_OFFER),
    ("equal", "a b", "a\x00b", BAD_OFFER),
    # at_least
    ("at_least", 0, 0, ACCEPT),
    ("at_least", 9, 10, ACCEPT),
    ("at_least", 10, 9, TOO_FEW),
    ("at_least", "010", "10", ACCEPT),
    ("at_least", "+5", " 5 ", ACCEPT),
    ("at_least", -5, -4, ACCEPT),
    ("at_least", -4, -5, TOO_FEW),
    ("at_least", FORTY, int(FORTY), ACCEPT),
    ("at_least", 1, int(FORTY) + 1, BAD_OFFER),
    ("at_least", 1, TEN_THOUSAND, BAD_OFFER),
    ("at_least", 1, "1.5", BAD_OFFER),
    ("at_least", 1, 1.0, BAD_OFFER),
    ("at_least", 1, True, BAD_OFFER),
    ("at_least", 1, "0x10", BAD_OFFER),
    ("at_least", 1, "\u0665", BAD_OFFER),
    ("at_least", 1, "1_000", BAD_OFFER),
    ("at_least", 1, [1], BAD_OFFER),
    ("at_least", "many", 1, BAD_NEED),
    # one_of
    ("one_of", "pc-q35-8.2", ["pc-q35-8.2", "pc-q35-9.0"], ACCEPT),
    ("one_of", "pc-q35-8.2", ["pc-q35-9.0"], NOT_IN_SET),
    ("one_of", "pc-q35-8.2", [], NOT_IN_SET),
    ("one_of", "pc-q35-8.2", {"values": ["pc-q35-8.2", "pc"], "in_use": "pc"}, ACCEPT),
    ("one_of", "pc", {"values": ["pc-q35-8.2"], "in_use": "pc"}, BAD_OFFER),
    ("one_of", "pc", {"values": ["pc"], "in_use": ["pc"]}, BAD_OFFER),
    ("one_of", "pc", {"values": ["pc"], "used": "pc"}, BAD_OFFER),
    ("one_of", "pc", "pc", BAD_OFFER),
    ("one_of", "pc", [None], BAD_OFFER),
    # ordered
    ("ordered", "6.8.0-45-generic", "6.8.0-45-generic", ACCEPT),
    ("ordered", "6.8.0-45-generic", "6.8.0-44-generic", TOO_OLD),
    ("ordered", "8.2.2", "8.2-10", TOO_OLD),
    ("ordered", "8.2.2", "v8.2.2", ACCEPT),
    ("ordered", "9.0", "9.0.0-rc1", NOT_TOLD),
    ("ordered", "6.8", "6.8.0-050800rc1-generic", NOT_TOLD),
    ("ordered", "10.0.0-2", "10.0.0-2~bpo12+1", NOT_TOLD),
    ("ordered", "10.0.0-2", "10.0.0-2ubuntu8.4", NOT_TOLD),
    ("ordered", "1.15.9-C-22", "1.15.9-C-22", ACCEPT),
    ("ordered", "1.15.9-C-22", "1.15.9-C-21", TOO_OLD),
    ("ordered", "1.15.9-C-22", "1.15.9-E-23", NOT_TOLD),
    ("ordered", "1.15.9-C-22", "1.60.0-73", ACCEPT),
    ("ordered", "8.2.2+ds-0ubuntu1.10", "8.2.2+ds-0ubuntu1.4", TOO_OLD),
    ("ordered", "6.2", "1:6.2+dfsg-2ubuntu6.16", BAD_OFFER),
    ("ordered", "1.5", "1,5", BAD_OFFER),
    ("ordered", "1.5", 1.5, BAD_OFFER),
    ("ordered", "banana", "1.5", BAD_NEED),
    ("ordered ordering=rpm_evr", "10.0.0-6.el9", "10.0.0-6.1.el9", ACCEPT),
    ("ordered ordering=rpm_evr", "10.0.0-6.el9", "10.0.0~rc1-6.el9", TOO_OLD),
    ("ordered ordering=rpm_evr", "1.0", "banana", BAD_OFFER),
    ("ordered ordering=rpm_evr", "v2.4.1", "2.4.0", BAD_NEED),
    ("ordered ordering=rpm_evr", "libvirt-99.0", "10.0.0", BAD_NEED),
    ("ordered ordering=rpm_evr", "qemu-kvm-8.2.0-11.el9", "8.2.0-11.el9", BAD_NEED),
    ("ordered ordering=rpm_evr", "1:", "1.0", BAD_NEED),
    ("ordered ordering=rpm_evr", f"{'1' * 10}:1.0", "1.0", BAD_NEED),
    ("ordered ordering=rpm_evr", "1.0", "1.0 2", BAD_OFFER),
    ("ordered ordering=rpm_evr", "1.0", "1.0-\u0661", BAD_OFFER),
    ("ordered ordering=debian", "1:8.2.2+ds-0ubuntu1", "1:8.2.2+ds-0ubuntu1.4", ACCEPT),
    ("ordered ordering=debian", "10.0.0-2", "10.0.0-2~bpo12+1", TOO_OLD),
    ("ordered ordering=debian", "1.0", "banana", BAD_OFFER),
    ("ordered ordering=debian", "v2.4.1", "2.4.0", BAD_NEED),
    ("ordered ordering=debian", "1.0", "1.0-", BAD_OFFER),
    ("ordered ordering=debian", "1.0", "1_0", BAD_OFFER),
    ("ordered ordering=debian", "1.0", "\u0661.0", BAD_OFFER),
    # accepts
    ("accepts", "2.0.3", {"version": "2.1", "accepts": "2.0.2-2.0.4"}, ACCEPT),
    ("accepts", "2.0.5", {"version": "2.1", "accepts": "2.0.2-2.0.4"}, UNLISTED),
    ("accepts base=16", "1A.1", {"version": "1B.0", "accepts": "19.1-1A.1"}, ACCEPT),
    ("accepts base=16", "1B.1", {"version": "1B.0", "accepts": "1A.1-"}, UNLISTED),
    ("accepts", "2.0", {"version": "2.1", "accepts": ""}, BAD_OFFER),
    ("accepts", "2.0", {"version": "2.1", "accepts": "-"}, BAD_OFFER),
    ("accepts", "2.0", {"version": "2.1", "accepts": "2.0,,2.1"}, BAD_OFFER),
    ("accepts", "2.0", {"version": "2.1", "accepts": ["2.0", ""]}, BAD_OFFER),
    ("accepts", "2.0", {"version": "2.1", "accepts": "2.0-2.1-2.2"}, BAD_OFFER),
    ("accepts", "2.0", {"version": "2.1", "accepts": "2.1-2.0"}, BAD_OFFER),
    ("accepts", "2.0", {"version": "2.1", "accepts": ">=2.0"}, BAD_OFFER),
    ("accepts", "2.0", {"version": "2.1", "accepts": "2.0-rc1"}, BAD_OFFER),
    ("accepts", "2.0", {"version": "2.1", "accepts": 2.0}, BAD_OFFER),
    ("accepts", "2.0", {"version": 2.1, "accepts": "2.0"}, BAD_OFFER),
    ("accepts", "2.0", {"accepts": "2.0"}, BAD_OFFER),
    ("accepts", "2.0", "2.0", BAD_OFFER),
    ("accepts", "2.0.4b", {"version": "2.1", "accepts": "2.0-"}, BAD_NEED),
]


@pytest.mark.parametrize(
    ("rule", "need", "offer", "expected"),
    OPERANDS,
    ids=[f"{number} {case[0]}" for number, case in enumerate(OPERANDS)],
)
def test_operands(rule, need, offer, expected):
    check(judge(rule_of(rule), need, offer), expected)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["huge", "deep", "deep in a mapping"])
def test_what_python_cannot_print_is_unreadable_too(kind, shape):
    """The reason quotes the value, and repr() refuses 4,300 digits or 1,000 brackets."""
    offer = 1 << 20_000 if shape == "huge" else nested(5_000)
    if "mapping" in shape:
        offer = dict.fromkeys(["min", "max", "features", "values", "version", "accepts"], offer)
    check(judge(KINDS[kind](), "1.0" if kind != "at_least" else 1, offer), BAD_OFFER)


@pytest.mark.parametrize(
    ("rule", "offer", "needs", "values"),
    [
        ("semver", "v2.04.1-lts", ["2.4"], ["2.4"]),
        ("semver base=16", "1A.0F.3", ["1a.f"], ["1a.f"]),
        ("range", span("7.1", "14.01"), ["14.1"], ["14.1"]),
        ("range", {**span("7.1", "14.1"), "negotiated": "12.1"}, ["12.1"], ["12.1", "14.1"]),
        ("range", {**span("7.1", "14.1"), "negotiated": "15.1"}, None, ["14.1"]),
        ("range", {**span("7.1", "14.1"), "negotiated": "7.0"}, None, ["14.1"]),
        ("range base=16", span("7.1", "1A.1"), ["1a.1"], ["1a.1"]),
        ("superset", ["b", "a"], ["a", "b"], ["a", "b"]),
        ("superset", [], [], []),
        ("superset", {"features": ["b", "a"], "in_use": ["a"]}, ["a"], ["a", "b"]),
        ("superset", {"features": ["b", "a"], "in_use": []}, [], ["a", "b"]),
        ("superset", {"features": ["b", "a"]}, ["a", "b"], ["a", "b"]),
        ("equal", " On ", ["On"], ["On"]),
        ("at_least", "+007", ["7"], ["7"]),
        ("at_least", 7, ["7"], ["7"]),
        ("one_of", ["a", "b"], None, ["a", "b"]),
        ("one_of", {"values": ["a", "b"], "in_use": "a"}, ["a"], ["a", "b"]),
        ("ordered", "v6.08.0-45-generic", ["6.8.0-45"], ["6.8.0-45"]),
        ("ordered ordering=rpm_evr", "1:10.0.0-6.el9", ["1:10.0.0-6.el9"], ["1:10.0.0-6.el9"]),
        ("ordered ordering=debian", "1:8.2+ds-1", ["1:8.2+ds-1"], ["1:8.2+ds-1"]),
        ("accepts", {"version": "2.01.3", "accepts": "2.0"}, ["2.1.3"], ["2.1.3"]),
    ],
)
def test_freeze(rule, offer, needs, values):
    family = family_of(rule_of(rule))
    offered = family.offer({"attribute": offer})
    expected = None if needs is None else frozenset(needs)
    assert offered.freeze().values == (("attribute", expected),)
    assert {atom.value for atom in offered.atoms()} == set(values)


@pytest.mark.parametrize(
    ("rule", "offer", "text"),
    [
        ("semver", "v2.04.1-lts", "2.4.1"),
        ("semver base=16", "1A.0", "1a.0"),
        ("range base=16", span("7.1", "1A.1"), "7.1 to 1a.1"),
        ("superset", ["b", "a"], "a,b"),
        ("superset", [], "nothing"),
        ("equal", "on", "on"),
        ("at_least", 7, "7"),
        ("one_of", ["b", "a"], "a,b"),
        ("ordered", "6.8.0-45-generic", "6.8.0-45"),
        ("accepts", facts.LISTED, "2.1.3 accepting 2.0.2-2.0.4,2.1.0-"),
        ("accepts", {"version": "2.1", "accepts": []}, "2.1 accepting no other"),
    ],
)
def test_describe(rule, offer, text):
    parsed = rule_of(rule)
    assert parsed.describe(parsed.parse_offer(offer)) == text


@pytest.mark.parametrize(
    ("rule", "text", "canonical"),
    [
        ("semver", "v2.04.9-lts", "2.4"),
        ("semver base=16", "1A.0", "1a.0"),
        ("range", "014.1", "14.1"),
        ("superset", " p2p ", "p2p"),
        ("equal", " On ", "On"),
        ("at_least", "-0", "0"),
        ("one_of", " pc ", "pc"),
        ("ordered", "6.8.0-045-generic", "6.8.0-45"),
        ("ordered ordering=debian", " 1.0-1 ", "1.0-1"),
        ("accepts base=16", "0A.1", "a.1"),
    ],
)
def test_canonical(rule, text, canonical):
    assert rule_of(rule).canonical(text) == canonical


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_kinds_state_the_interface_they_implement(kind):
    assert kind.api_version == rules.API_VERSION
    assert kind.from_options({}) == kind()
    assert hash(kind()) == hash(kind())


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("semver", {"bass": 16}, "unknown option 'bass'; semver takes only: base"),
        (
            "equal",
            {"base": 16},
            "unknown option 'base'; equal takes only: case, separator, integer",
        ),
        ("same", {"base": 16}, "unknown option 'base'; same takes no options"),
        ("origin", {"base": 16}, "unknown option 'base'; origin takes only: ordering"),
        ("range", {1: 2, "zeal": 3}, "unknown option 1; range takes only: base"),
        ("semver", {"base": 8}, "base: 8 is neither 10 nor 16"),
        ("range", {"base": "16"}, "base: '16' is text; leave the quotes out: base: 16"),
        ("range", {"base": 16.0}, "base: 16.0 is neither 10 nor 16"),
        ("accepts", {"base": True}, "base: True is neither 10 nor 16"),
        ("accepts", {"base": [16]}, "base: [16] is neither 10 nor 16"),
        ("ordered", {"ordering": "rpm"}, "'rpm' is none of numeric, rpm_evr, debian"),
        ("ordered", {"ordering": ["rpm_evr"]}, "is none of numeric, rpm_evr, debian"),
        ("ordered", {"ordering": None}, "None is none of numeric, rpm_evr, debian"),
    ],
)
def test_bad_options(kind, options, message):
    with pytest.raises(rules.BadOptions, match=re.escape(message)):
        KINDS[kind].from_options(options)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("7.1", "'7.1': is not a mapping {min, max, negotiated?}"),
        ({"max": "7.1"}, "min is missing from {min, max, negotiated?}"),
        (
            {**span("1", "2"), "mid": "1"},
            "unknown key 'mid'; the shape is {min, max, negotiated?}",
        ),
        ({"min": 7.1, "max": "8"}, "7.1: is not text; put it in quotes"),
    ],
)
def test_messages_say_what_to_write(raw, message):
    with pytest.raises(Unreadable, match=re.escape(message)):
        kinds.Range().parse_offer(raw)


class Nothing(rules.Rule[str, str]):
    """A plugin's kind, which brings a code of its own."""

    kind = "nothing"

    def parse_offer(self, raw):
        return str(raw)

    def parse_need(self, text):
        return text

    def canonical(self, text):
        return text

    def freeze(self, offer):
        return frozenset([offer])

    def check(self, offer, need):
        return rules.Refusal("my-own", facts.GUEST)

    def describe(self, offer):
        return offer


def test_a_plugin_brings_codes_of_its_own():
    offer = Family(name="device", rules={"attribute": Nothing()}).offer({"attribute": "x"})
    (reason,) = offer.judge(offer.freeze()).reasons
    assert str(reason) == (
        "device.attribute: needs x, offered x "
        "[nothing, my-own; restart the guest on a fitting host]"
    )
    assert {atom.value for atom in offer.atoms()} == {"x"}


def test_codes_are_unlike():
    codes = [value for name, value in vars(Code).items() if name.isupper()]
    assert len(set(codes)) == len(codes)
