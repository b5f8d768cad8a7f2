# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Accepted risks let pass what they name, and nothing that a rule refuses."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat.compat.conditions import NUMERIC, parse_condition
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.kinds import Ordered, Origin, Same
from nova_devcompat.compat.knownbad import Asked, KnownBad, KnownBads
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Mode, OnUnknown, Policies, Policy
from nova_devcompat.compat.risks import Risk, of_entries, waive
from nova_devcompat.compat.ruling import NO_RECORD, Claim, Given, Guest, required_atoms, rule
from nova_devcompat.compat.verdict import Actor, Code, Reason, Verdict
from tests.budget import scaled

VERSIONS = ("1.0", "1.1", "2.0", "2.1")
NAMES = ("one", "two", "three")
PLAIN = Family(name="nic", rules={"fw": Ordered(), "psid": Same(), "started": Origin()})


def entry(name: str, need: str, offer: str, attribute: str = "fw") -> KnownBad:
    return KnownBad(
        name=name,
        need=attribute,
        condition=parse_condition(need, NUMERIC),
        by="numeric",
        offer=(Asked(attribute="fw", condition=parse_condition(offer, NUMERIC), by="numeric"),),
        message="it does not load",
        url="https://example.org",
    )


def with_entries(*entries: KnownBad) -> Family:
    return dataclasses.replace(PLAIN, known_bad=KnownBads(entries))


def need_of(fw, psid="x", started=None):
    facts = {"fw": fw, "psid": psid, "started": started or fw}
    return PLAIN.offer(facts).freeze(slot="rc:VF")


def ruled(family, need, fw, risks=(), *, psid="x", policy=None):
    accepts = family.offer({"fw": fw, "psid": psid, "started": fw}).accept_set(need.atoms)
    guest = Guest(record=Need(devices=(need,)), risks=tuple(Risk(name=name) for name in risks))
    given_ = Given(claims=(Claim(slots=("rc:VF",), devices=((accepts,),)),))
    policy = policy or Policy()
    return rule(guest, given_, Policies(policy, {"nic": policy}))


BAD = with_entries(entry("one", "<2", ">=2"), entry("two", "1.1", "2.0"))


def test_the_entry_that_is_named_and_no_other():
    need = need_of("1.0")
    assert not ruled(BAD, need, "2.0").accepts
    assert not ruled(BAD, need, "2.0", ["two"]).accepts
    ruling = ruled(BAD, need, "2.0", ["one"])
    assert ruling.accepts
    ((reason, risk),) = ruling.waived
    assert (reason.risk, risk.name) == ("one", "one")
    # Both are about this guest, and each counts for itself.
    need = need_of("1.1")
    for names in ([], ["one"], ["two"]):
        refused = {reason.risk for reason in ruled(BAD, need, "2.0", names).refused}
        assert refused == {"one", "two"} - set(names)
    assert ruled(BAD, need, "2.0", ["one", "two"]).accepts


def test_what_else_speaks_against_the_host_still_does():
    need = need_of("1.0", psid="y")
    (reason,) = ruled(BAD, need, "2.0", ["one"]).refused
    assert reason.code == Code.NOT_THE_SAME
    assert ruled(BAD, need, "2.0", ["one", "nic:unknown"]).accepts
    # Another attribute of the very value, which the rule doubts.
    family = with_entries(dataclasses.replace(entry("one", "7", ">=2"), need="psid"))
    (reason,) = ruled(family, need_of("1.0", psid="7"), "2.0", ["one"], psid="8").refused
    assert reason.code == Code.NOT_THE_SAME


def test_what_a_name_is_of():
    assert Risk(name="nic:unknown").of_unknown
    assert not Risk(name="nic").of_unknown
    both = (Risk(name="nic:unknown"), Risk(name="one"))
    assert of_entries(both) == both[1:]


def test_unknown_of_one_family():
    need = DeviceNeed.of("nic", {"fw": None, "psid": ["x"], "started": ["1.0"]}, slot="rc:VF")
    assert [one.code for one in ruled(PLAIN, need, "2.0").refused] == [Code.NEED_UNKNOWN]
    assert not ruled(PLAIN, need, "2.0", ["gpu:unknown"]).accepts
    assert ruled(PLAIN, need, "2.0", ["nic:unknown"]).accepts
    # A rule's refusal beside it remains.
    old = DeviceNeed.of("nic", {"fw": ["2.1"], "psid": None, "started": ["1.0"]}, slot="rc:VF")
    (reason,) = ruled(PLAIN, old, "2.0", ["nic:unknown"]).refused
    assert reason.code == Code.TOO_OLD


def test_a_record_that_is_missing_is_no_family_by_itself():
    """It can concern several, and none of them is accepted for all."""
    policies = Policies(Policy(), {"nic": Policy(), "gpu": Policy()})
    guest = Guest(record=NO_RECORD, risks=(Risk(name="nic:unknown"),))
    assert not rule(guest, Given(), policies).accepts
    alone = Policies(Policy(), {"nic": Policy()})
    assert rule(guest, Given(), alone).accepts


def test_what_is_only_reported_on():
    report = Policy(mode=Mode.REPORT)
    assert ruled(BAD, need_of("1.0"), "2.0", policy=report).reported
    assert not ruled(BAD, need_of("1.0"), "2.0", ["one"], policy=report).reported


def test_nothing_is_said_of_what_does_not_count():
    lenient = Policy(on_unknown=OnUnknown.ACCEPT)
    need = DeviceNeed.of("nic", {"fw": None, "psid": ["x"], "started": ["1.0"]}, slot="rc:VF")
    ruling = ruled(PLAIN, need, "2.0", ["nic:unknown"], policy=lenient)
    assert ruling.accepts and not ruling.waived


def test_placement_is_not_asked_for_what_is_accepted():
    need = Need(devices=(need_of("1.0"),))
    policies = Policies(Policy(), {"nic": Policy(known_bad=frozenset({"fw"}))})

    def asked(*names, of_hosts=()):
        guest = Guest(record=need, risks=tuple(Risk(name=name) for name in names))
        found = required_atoms(guest, policies, [Risk(name=name) for name in of_hosts])
        return {atom.attribute for atom in found}

    assert asked() == {"fw", "psid", "started"}
    assert asked("one") == asked(of_hosts=["one"]) == {"psid", "started"}
    assert asked("nic:unknown") == asked(of_hosts=["nic:unknown"]) == set()
    assert asked("gpu:unknown") == {"fw", "psid", "started"}


@pytest.mark.parametrize("name", ["known-bad", "", "nic", "too-old", ":unknown", "one:unknown"])
def test_a_rules_refusal_has_no_name(name):
    reason = Reason(code=Code.TOO_OLD, actor=Actor.HOST, family="nic", attribute="fw")
    verdict = Verdict.reject(reason)
    assert waive(verdict, [Risk(name=name)]) == (verdict, {})


@given(
    st.lists(
        st.builds(
            entry,
            st.sampled_from(NAMES),
            st.sampled_from(["<2", "1.0", ">=1.1", "!=2.0"]),
            st.sampled_from([">=2", "2.0", "<2"]),
            st.sampled_from(["fw", "started"]),
        ),
        max_size=3,
        unique_by=lambda one: one.name,
    ),
    st.sets(st.sampled_from([*NAMES, "nic:unknown", "gpu:unknown", "too-old", "known-bad"])),
    st.sampled_from(VERSIONS),
    st.sampled_from(VERSIONS),
    st.sampled_from(["x", "y"]),
)
@settings(max_examples=scaled(200))
def test_no_refusal_of_a_rule_becomes_an_acceptance(listed, names, guest, host, psid):
    """Whatever is accepted. And where everything is, what is left is what the rules say."""
    need = need_of(guest, psid)
    by_rules = ruled(PLAIN, need, host)
    some = ruled(with_entries(*listed), need, host, sorted(names))
    rejects = [reason for reason in by_rules.refused if reason.code == Code.TOO_OLD]
    assert set(rejects) <= set(some.refused)
    if "nic:unknown" not in names:
        assert set(by_rules.refused) <= set(some.refused)
    # An entry that was not accepted still refuses.
    none = ruled(with_entries(*listed), need, host)
    bad = {reason.risk for reason in none.refused if reason.risk}
    assert {reason.risk for reason in some.refused if reason.risk} == bad - names
    every = ruled(with_entries(*listed), need, host, NAMES)
    assert set(every.refused) == set(by_rules.refused)
    assert every.accepts is by_rules.accepts
    assert none.accepts <= by_rules.accepts


def test_as_people_read_it():
    assert str(Risk(name="one", told="accepted by ann")) == "one, accepted by ann"
    assert str(Risk(name="one")) == "one"


def reason(code, **options):
    return Reason(code=code, actor=Actor.HOST, family="nic", attribute="fw", **options)


BAD_PAIR = reason(Code.KNOWN_BAD, risk="one")
LACK, DOUBT = reason(Code.TOO_OLD), reason(Code.OFFER_MISSING)


@pytest.mark.parametrize(
    ("refused", "doubtful", "left"),
    [
        ([BAD_PAIR], [], Verdict.accept()),
        ([BAD_PAIR], [DOUBT], Verdict.unknown(DOUBT)),
        ([BAD_PAIR, LACK], [], Verdict.reject(LACK)),
        (
            [BAD_PAIR, LACK],
            [DOUBT],
            Verdict.all_of([Verdict.reject(LACK), Verdict.unknown(DOUBT)]),
        ),
    ],
)
def test_what_is_left_of_a_verdict(refused, doubtful, left):
    """A doubt stays one, so that a policy which accepts what is not known still does."""
    verdict = Verdict.all_of([Verdict.reject(*refused), *map(Verdict.unknown, doubtful)])
    risk = Risk(name="one")
    assert waive(verdict, [risk]) == (left, {BAD_PAIR: risk})
    assert waive(verdict, [Risk(name="two")]) == (verdict, {})
