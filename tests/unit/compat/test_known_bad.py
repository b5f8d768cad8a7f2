# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is known not to work, in accept-sets, between processes and in rulings."""

from __future__ import annotations

import dataclasses
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat import wire
from nova_devcompat.compat.conditions import (
    COMPARERS,
    NUMERIC,
    TEXT,
    BadCondition,
    Condition,
    implies,
    parse_condition,
)
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.kinds import Ordered, Origin, Same
from nova_devcompat.compat.knownbad import Asked, Bad, Bads, KnownBad, KnownBads
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Policies, Policy
from nova_devcompat.compat.ruling import Given, Guest, required_atoms, rule
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Actor, Code, Outcome, Reason
from tests.budget import scaled

VERSIONS = ("1.0", "1.1", "1.2", "2.0", "2.0.1", "2.1")
PLAIN = Family(name="nic", rules={"fw": Ordered(), "psid": Same(), "started": Origin()})


def condition(text, by=NUMERIC) -> Condition:
    return parse_condition(text, by)


def known_bad(need="<2", offer=">=2,<2.1", *, attribute="fw", of="fw", until=None) -> KnownBad:
    return KnownBad(
        name="pair",
        need=attribute,
        condition=condition(need),
        by="numeric",
        offer=(Asked(attribute=of, condition=condition(offer), by="numeric"),),
        until=()
        if until is None
        else (Asked(attribute=of, condition=condition(until), by="numeric"),),
        message="it does not load",
        url="https://example.org",
    )


def with_entries(*entries: KnownBad, family: Family = PLAIN) -> Family:
    return dataclasses.replace(family, known_bad=KnownBads(entries))


def facts(fw, psid="x", started=None):
    return {"fw": fw, "psid": psid, "started": started or fw}


ATOMS = frozenset(Atom("nic", "fw", one) for one in VERSIONS) | {Atom("nic", "psid", "x")}


def accepts(family, fw, **others):
    return family.offer(facts(fw, **others)).accept_set(ATOMS)


def need_of(fw, psid="x", started=None):
    return PLAIN.offer(facts(fw, psid, started)).freeze(slot="rc:VF")


# --- conditions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("by", COMPARERS.values(), ids=COMPARERS)
def test_a_condition_between_processes_is_the_same(by):
    for text in ("1", ["1", "2"], "!=1", *(["<1", ">=1,<2"] if by.ordered else [])):
        stated = parse_condition(text, by)
        assert parse_condition(stated.texts, by) == stated


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        ("<9", "<9", True),
        ("<9", "<10", True),
        ("<10", "<9", False),
        (">=9.1,<9.2", ">=9", True),
        (">=9.1,<9.2", ">=9.1.2", False),
        (["9", "10"], ">=9", True),
        (["8", "10"], ">=9", False),
        (">9", ">=9", True),
        (">9", ">9", True),
        (">9", ">8", True),
        (">=9", ">9", False),
        (">=9", ">=9", True),
        ("<9", "<=9", True),
        ("<=9", "<9", False),
        ("<=9", "<=9", True),
        ("<=9", "<10", True),
        (">8", "<9", False),
        ("<8", ">7", False),
        ("!=9", ">1", False),
    ],
)
def test_what_lies_in_what(inner, outer, expected):
    assert implies(condition(inner), condition(outer), NUMERIC) is expected


def test_same_stands_alone():
    assert condition("same").same
    for text in ("same,<2", "<same", []):
        with pytest.raises(BadCondition):
            condition(text)
    with pytest.raises(BadCondition, match="no order"):
        condition("<x", TEXT)


# --- entries ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "value", "expected"),
    [
        ("2.0", "2.0", True),
        ("2.0", "2.1", False),
        ("2.1", "2.0", False),
        ("2.0", "0.9", False),  # which the condition does not hold of
        ("2.0", "banana", None),
        ("banana", "2.0", None),
        # Two branches of builds, of which nobody can tell whether they are one.
        ("1.15.9-C-22", "1.15.9-E-22", None),
        ("", "2.1", True),
    ],
)
def test_the_very_value_that_the_host_has(own, value, expected):
    bad = Bad(name="x", message="", url="", condition=condition(">=1"), by="numeric", equal=own)
    assert bad.matches(value) is expected


@pytest.mark.parametrize(
    ("values", "equal", "certain"),
    [(("2.0",), "2.0", True), (("2.0", "2.1"), "", False), ((), "", False), (None, "", False)],
)
def test_a_pair_of_equal_values_where_the_host_has_one(values, equal, certain):
    """Where what it has is not known, or is several things, it may be that value."""
    bad = known_bad(need=">=1", offer="same").on({"fw": values})
    assert (bad.equal, bad.certain) == (equal, certain)


@pytest.mark.parametrize(
    ("kernel", "concerns"),
    [(("6.8",), True), (("6.12",), False), (None, True), ((), True)],
)
def test_what_ends_an_entry_on_a_host(kernel, concerns):
    """Only if it is known to hold: a host of which that cannot be told is concerned."""
    until = Asked(attribute="kernel", condition=condition(">=6.12"), by="numeric")
    entry = dataclasses.replace(known_bad(), until=(until,))
    facts_of_host = {"fw": ("2.0",), "kernel": kernel}
    assert (entry.on(facts_of_host) is not None) is concerns
    both = dataclasses.replace(entry, until=(until, dataclasses.replace(until, attribute="fw")))
    assert both.on(facts_of_host) is not None


def test_a_certain_entry_comes_before_one_that_cannot_be_told():
    certain = known_bad().on({"fw": ("2.0",)})
    doubtful = dataclasses.replace(certain, name="other", certain=False)
    for entries in ((certain, doubtful), (doubtful, certain)):
        bads = Bads(entries)
        assert (bads.match("1.2"), bads.match("2.1")) == ((certain, True), None)
        assert (bads.match("1.2"), bads.match("2.1")) == ((certain, True), None), "remembered"
    assert Bads((doubtful,)).match("1.2") == (doubtful, False)
    assert Bads((certain,)).match("banana") == (certain, False)


def test_an_entry_without_words_is_about_the_same():
    bad = known_bad().on({"fw": ("2.0",)})
    (short,) = Bads((bad,)).without_words().entries
    assert (short.message, short.url, short.detail) == ("", "", "pair")
    assert short == dataclasses.replace(bad, message="", url="")


# --- accept-sets --------------------------------------------------------------------------------


def test_it_is_taken_out_of_what_a_host_accepts():
    """So no trait stands for it, and placement passes the host over by itself."""
    before, after = accepts(PLAIN, "2.0"), accepts(with_entries(known_bad()), "2.0")
    taken = {Atom("nic", "fw", one) for one in ("1.0", "1.1", "1.2")}
    assert before.atoms - after.atoms == taken
    assert after.judge(need_of("1.2")).reasons[0].code == Code.KNOWN_BAD
    # Hosts that the entry is not about publish as before.
    assert accepts(with_entries(known_bad()), "2.1").atoms == accepts(PLAIN, "2.1").atoms


@pytest.mark.parametrize(
    ("of", "outcome", "detail"),
    [
        ("fw", Outcome.REJECT, "pair: it does not load (https://example.org)"),
        (
            "kernel",  # which nobody tells
            Outcome.UNKNOWN,
            "or may not be, which cannot be told here: "
            "pair: it does not load (https://example.org)",
        ),
    ],
)
def test_what_is_known_is_said_with_its_entry(of, outcome, detail):
    verdict = accepts(with_entries(known_bad(of=of)), "2.0").judge(need_of("1.2"))
    assert verdict.outcome is outcome
    assert verdict.reasons == (
        Reason(
            code=Code.KNOWN_BAD,
            actor=Actor.HOST,
            family="nic",
            attribute="fw",
            kind=PLAIN.rules["fw"].kind,
            needed="1.2",
            offered="2.0",
            detail=detail,
            risk="pair",
        ),
    )


def test_a_doubt_of_the_rule_becomes_a_refusal():
    """What is known to be bad counts more than what nobody knows; a pin goes by the rule."""
    entry = dataclasses.replace(
        known_bad(attribute="psid"), condition=condition("y", TEXT), by="text"
    )
    family = with_entries(entry)
    need = need_of("1.0", psid="y")
    here = family.offer(facts("2.0")).accept_set(need.atoms)
    assert PLAIN.offer(facts("2.0")).accept_set(need.atoms).judge(need).outcome is Outcome.UNKNOWN
    assert here.judge(need).outcome is Outcome.REJECT
    assert here.judge_pin(need).outcome is Outcome.UNKNOWN


def test_origins_are_refused_only_where_a_host_names_them():
    family = with_entries(known_bad(attribute="started", need="1.1"))
    old, new = need_of("1.2", started="1.1"), need_of("1.2", started="1.2")
    here = family.offer(facts("2.0")).accept_set(old.atoms)
    (reason,) = here.judge(old).reasons
    assert (reason.code, reason.attribute, reason.needed) == (Code.KNOWN_BAD, "started", "1.1")
    assert here.judge(new).outcome is Outcome.ACCEPT
    # One that cannot be compared may be the one.
    odd = need_of("1.2", started="unknown build")
    assert here.judge(odd).outcome is Outcome.UNKNOWN
    assert not {atom for atom in here.atoms if atom.attribute == "started"}


def test_the_prefilter_asks_for_needs_and_not_for_pins():
    family = with_entries(known_bad())
    policies = Policies(Policy(), {"nic": Policy(known_bad=family.known_bad.needs)})
    need = Need(devices=(DeviceNeed.of("nic", {"fw": ["1.2"], "psid": ["x"]}, slot="rc:VF"),))
    asked = {Atom("nic", "fw", "1.2"), Atom("nic", "psid", "x")}
    assert required_atoms(Guest(record=need), policies) == asked
    pinned = Guest(pins=need, keeps_devices=False)
    assert required_atoms(pinned, policies) == {Atom("nic", "psid", "x")}


# --- between processes --------------------------------------------------------------------------


def published(family, *offers):
    devices = tuple(
        wire.PublishedDevice(address=f"0000:8{index}:00.0", accepts=accepts(family, fw))
        for index, fw in enumerate(offers)
    )
    return wire.load_stats(wire.dump_stats(wire.HostDocument(catalog="d", devices=devices)))


@pytest.mark.parametrize(
    "entry",
    [
        known_bad(),
        known_bad(attribute="started"),
        known_bad(of="kernel"),  # which nobody tells
        known_bad(need=["1.0", ">1.1"], offer="same"),
    ],
)
def test_what_is_published_judges_as_the_host_does(entry):
    family = with_entries(entry)
    for fw in VERSIONS:
        (device,) = published(family, fw).devices
        assert device.accepts == accepts(family, fw)
        for other in VERSIONS:
            need = need_of(other)
            assert device.accepts.judge(need) == accepts(family, fw).judge(need)


def test_an_entry_that_cannot_be_read_makes_its_attribute_unknown():
    text = wire.dump_stats(
        wire.HostDocument(
            catalog="d",
            devices=(
                wire.PublishedDevice(
                    address="0000:81:00.0", accepts=accepts(with_entries(known_bad()), "2.0")
                ),
            ),
        )
    )
    for broken in ('"o":"numbers"', '"o":1'):
        (device,) = wire.load_stats(text.replace('"o":"numeric"', broken)).devices
        assert device.accepts.judge(need_of("2.0")).outcome is Outcome.UNKNOWN
        assert device.accepts.attributes["psid"].accepted == {"x"}


def test_many_entries_that_do_not_fit():
    """Words are left out first; of origins no entry ever is, and all else stays known."""
    listed = tuple(
        known_bad(need=f"<{n}.1", offer=">=2", attribute="started") for n in range(3, 700)
    )
    family = with_entries(*listed)
    device = wire.PublishedDevice(address="0000:81:00.0", accepts=accepts(family, "2.0"))
    fitted = wire.fit_stats(wire.HostDocument(catalog="d", devices=(device,)))
    assert set(fitted.shortened) == {"nic"}
    (read,) = wire.load_stats(fitted.text).devices
    assert read.accepts.judge(need_of("2.0", started="700")).outcome is Outcome.ACCEPT
    verdict = read.accepts.judge(need_of("2.0", started="699"))
    assert {reason.detail for reason in verdict.reasons} == {"pair"}
    assert verdict.outcome is Outcome.REJECT


# --- properties ---------------------------------------------------------------------------------

texts = st.one_of(
    st.sampled_from(VERSIONS),
    st.tuples(st.sampled_from(["<", "<=", ">", ">=", "!="]), st.sampled_from(VERSIONS)).map(
        "".join
    ),
    st.lists(st.sampled_from(VERSIONS), min_size=1, max_size=3),
)
entries = st.builds(
    known_bad,
    texts,
    st.one_of(st.just("same"), texts),
    attribute=st.sampled_from(["fw", "started"]),
    of=st.sampled_from(["fw", "psid", "kernel"]),
    until=st.one_of(st.none(), texts),
)


@given(
    st.lists(entries, max_size=4),
    st.sampled_from(VERSIONS),
    st.sampled_from(VERSIONS),
    st.sampled_from([*VERSIONS, None]),
)
@settings(max_examples=scaled(200))
def test_entries_only_ever_take_away(listed, guest, host, kernel):
    """Whatever is listed: no refusal becomes an acceptance, and what the filter sees is what the
    host says.
    """
    family, need = with_entries(*listed), need_of(guest)
    attributes = {**facts(host), "kernel": kernel}
    offer = family.offer(attributes)
    own = offer.accept_set(need.atoms).judge(need)
    assert own.severity >= PLAIN.offer(attributes).judge(need).severity
    (device,) = wire.load_stats(
        wire.dump_stats(
            wire.HostDocument(
                catalog="d",
                devices=(
                    wire.PublishedDevice(
                        address="0000:81:00.0", accepts=offer.accept_set(ATOMS | need.atoms)
                    ),
                ),
            )
        )
    ).devices
    assert device.accepts.judge(need) == own
    # What a guest that starts there needs, and what pins come to, is as without.
    assert offer.freeze() == PLAIN.offer(attributes).freeze()
    plain = PLAIN.offer(attributes).accept_set(need.atoms)
    assert offer.accept_set(need.atoms).judge_pin(need) == plain.judge_pin(need)
    # Nor does it help to know less.
    less = family.offer({**attributes, "kernel": None})
    if own.outcome is not Outcome.ACCEPT:
        assert less.judge(need).outcome is not Outcome.ACCEPT


def test_a_host_family():
    """Through the ruling, as filter and admission ask it."""
    qemu = Family(
        name="qemu",
        rules={"started": Origin()},
        subject=Subject.HOST,
        known_bad=KnownBads((known_bad(attribute="started", need="<9", of="qemu_version"),)),
    )
    part = qemu.offer({"started": "2.0", "qemu_version": "2.0"})
    policies = Policies(Policy(), {}, {"qemu": Policy()})
    for started, refused in (("8.2", True), ("9.0", False)):
        need = DeviceNeed.of("qemu", {"started": [started]}, slot="host:qemu")
        guest = Guest(record=Need(devices=(need,)), assigned=False)
        ruling = rule(guest, Given(host={"qemu": part.accept_set(())}), policies)
        assert bool(ruling.refused) is refused


def test_a_thousand_entries_are_compared_once():
    """A cycle without news costs no comparisons, however many entries there are."""
    listed = tuple(known_bad(need=f"<{n}.1", offer=f">={n}") for n in range(1, 1_001))
    family = with_entries(*listed)
    began = time.process_time()
    first = family.offer(facts("1001.0")).accept_set(ATOMS)
    took = time.process_time() - began
    began = time.process_time()
    for _ in range(10):
        assert family.offer(facts("1001.0")).accept_set(ATOMS) == first
    again = (time.process_time() - began) / 10
    assert again < max(took / 5, 0.01)


def test_what_is_remembered_is_bounded(monkeypatch):
    """And right, whatever was forgotten."""
    monkeypatch.setattr("nova_devcompat.compat.knownbad._MOST_REMEMBERED", 2)
    family = with_entries(known_bad())
    for fw in (*VERSIONS, *VERSIONS):
        found = family.offer(facts(fw)).accept_set(ATOMS).judge(need_of("1.2"))
        again = with_entries(known_bad()).offer(facts(fw)).accept_set(ATOMS)
        assert found == again.judge(need_of("1.2"))
    assert len(family.known_bad._known) <= 2
