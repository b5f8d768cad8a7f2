# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Verdicts, the reasons for them, and the policy that acts on them."""

import dataclasses

import pytest

from nova_devcompat.compat.policy import Mode, OnUnknown, Policies, Policy, Ruling, unlike
from nova_devcompat.compat.verdict import Actor, Code, Outcome, Reason, Verdict

LACK = Reason(code=Code.TOO_OLD, actor=Actor.HOST, family="f", attribute="a")
DOUBT = Reason(code=Code.NO_RULE, actor=Actor.OPERATOR, family="f", attribute="b")
ACCEPT, REJECT, UNKNOWN = Verdict.accept(), Verdict.reject(LACK), Verdict.unknown(DOUBT)

STRICT = Policy()
LENIENT = Policy(on_unknown=OnUnknown.ACCEPT)
REPORT = Policy(mode=Mode.REPORT)
REPORT_LENIENT = Policy(mode=Mode.REPORT, on_unknown=OnUnknown.ACCEPT)


@pytest.mark.parametrize(
    ("outcome", "reasons"),
    [(Outcome.ACCEPT, (LACK,)), (Outcome.REJECT, ()), (Outcome.UNKNOWN, ())],
)
def test_half_a_verdict_cannot_be(outcome, reasons):
    with pytest.raises(ValueError, match=r"with \d reasons"):
        Verdict(outcome=outcome, reasons=reasons)


@pytest.mark.parametrize(
    ("verdicts", "outcome", "reasons"),
    [
        ([], Outcome.ACCEPT, ()),
        ([ACCEPT, ACCEPT], Outcome.ACCEPT, ()),
        ([ACCEPT, UNKNOWN], Outcome.UNKNOWN, (DOUBT,)),
        ([UNKNOWN, REJECT], Outcome.REJECT, (LACK, DOUBT)),
        ([REJECT, UNKNOWN, REJECT], Outcome.REJECT, (LACK, DOUBT)),
        ([UNKNOWN, UNKNOWN, ACCEPT], Outcome.UNKNOWN, (DOUBT,)),
    ],
)
def test_all_of(verdicts, outcome, reasons):
    verdict = Verdict.all_of(iter(verdicts))
    assert (verdict.outcome, verdict.reasons) == (outcome, reasons)


def test_severity():
    assert [verdict.severity for verdict in (ACCEPT, UNKNOWN, REJECT)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (
            Reason(
                code=Code.MINOR_TOO_OLD,
                actor=Actor.HOST,
                family="mlx5_vf",
                attribute="fw_version",
                kind="semver",
                needed="28.39",
                offered="28.38",
                detail="0000:81:00.0",
            ),
            "mlx5_vf.fw_version: needs 28.39, offered 28.38, too old, 0000:81:00.0 "
            "[semver, minor-too-old; upgrade the host]",
        ),
        (
            Reason(code=Code.HOST_SILENT, actor=Actor.OPERATOR, family="mlx5_vf"),
            "mlx5_vf: the host publishes nothing "
            "[host-silent; run nova-compute with our driver on the host]",
        ),
        (
            Reason(code=Code.RECORD_UNREADABLE, actor=Actor.OPERATOR),
            "device: the guest's record cannot be read "
            "[record-unreadable; have the need recorded anew: need clear]",
        ),
        (
            Reason(code="my-own", actor=Actor.GUEST),
            "device:  [my-own; restart the guest on a fitting host]",
        ),
    ],
)
def test_reasons_read_well(reason, text):
    assert str(reason) == text


def test_verdicts_read_well():
    assert str(ACCEPT) == "accept"
    assert str(Verdict.all_of([UNKNOWN, REJECT])) == f"reject: {LACK}; {DOUBT}"


@pytest.mark.parametrize("code", [v for name, v in vars(Code).items() if name.isupper()])
def test_every_code_is_explained(code):
    reason = Reason(code=code, actor=Actor.HOST)
    text = str(reason).removesuffix(f" [{code}; {reason.remedy('the host')}]")
    assert len("device: ") < len(text) < len(str(reason))


@pytest.mark.parametrize("actor", Actor)
def test_every_actor_has_a_remedy(actor):
    assert Reason(code="my-own", actor=actor).remedy("cmp1")


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        (Reason(code=Code.TOO_OLD, actor=Actor.HOST), "upgrade cmp1"),
        (Reason(code=Code.NO_RULE, actor=Actor.OPERATOR), "give cmp1 the catalog that is here"),
        (Reason(code=Code.NOT_ASKED_FOR, actor=Actor.OPERATOR), "mend the flavor"),
        (
            Reason(code=Code.OFFER_MISSING, actor=Actor.OPERATOR),
            "mend the source or the inventory of cmp1",
        ),
    ],
)
def test_reasons_say_who_can_do_what(reason, remedy):
    assert reason.of("cmp1").endswith(f"; {remedy}]")


@pytest.mark.parametrize(
    ("policy", "refuses_unknown", "enforced", "asks_placement"),
    [
        (STRICT, True, True, True),
        (LENIENT, False, True, False),
        (REPORT, True, False, False),
        (REPORT_LENIENT, False, False, False),
    ],
)
def test_policy(policy, refuses_unknown, enforced, asks_placement):
    assert policy.refuses(UNKNOWN) is refuses_unknown
    assert policy.refuses(REJECT)
    assert not policy.refuses(ACCEPT)
    assert policy.enforced is enforced
    assert policy.asks_placement is asks_placement


@pytest.mark.parametrize(
    ("verdicts", "refused", "reported"),
    [
        ([], (), ()),
        ([(STRICT, ACCEPT), (REPORT, ACCEPT)], (), ()),
        ([(STRICT, REJECT), (STRICT, UNKNOWN)], (LACK, DOUBT), ()),
        ([(REPORT, REJECT), (REPORT, UNKNOWN)], (), (LACK, DOUBT)),
        ([(LENIENT, UNKNOWN), (REPORT_LENIENT, UNKNOWN)], (), ()),
        ([(LENIENT, REJECT), (REPORT_LENIENT, REJECT)], (LACK,), (LACK,)),
        ([(STRICT, REJECT), (STRICT, REJECT)], (LACK,), ()),
    ],
)
def test_ruling(verdicts, refused, reported):
    ruling = Ruling.of(iter(verdicts))
    assert (ruling.refused, ruling.reported) == (refused, reported)
    assert ruling.accepts is (not refused)


# --- attributes with a mode of their own --------------------------------------------------------


def reason(attribute, code=Code.TOO_OLD):
    return Reason(code=code, actor=Actor.HOST, family="f", attribute=attribute)


OLD, ODD = reason("old"), reason("odd", Code.OFFER_MISSING)
DEVICE = Reason(code=Code.NO_DEVICE, actor=Actor.OPERATOR, family="f")
MIXED = Verdict.all_of([Verdict.unknown(ODD), Verdict.reject(OLD)])


def staged(mode=Mode.ENFORCE, on_unknown=OnUnknown.REJECT, **attributes):
    return Policy(mode=mode, on_unknown=on_unknown, attributes=tuple(attributes.items()))


def test_doubts_of_a_reject_are_kept():
    assert (MIXED.outcome, MIXED.reasons, MIXED.doubts) == (Outcome.REJECT, (OLD, ODD), {ODD})
    both = Verdict.all_of([MIXED, Verdict.reject(DEVICE), Verdict.unknown(OLD)])
    assert set(both.reasons) == {OLD, ODD, DEVICE}
    assert both.doubts == {ODD}
    assert not both.is_doubt(OLD)
    assert both.is_doubt(ODD)
    assert Verdict.unknown(ODD).is_doubt(ODD)


@pytest.mark.parametrize(
    ("policy", "verdict", "refused", "reported"),
    [
        (staged(old=Mode.REPORT), Verdict.reject(OLD), (), (OLD,)),
        (staged(old=Mode.REPORT), Verdict.reject(DEVICE), (DEVICE,), ()),
        (staged(old=Mode.ANNOUNCE), Verdict.reject(OLD), (), ()),
        (staged(old=Mode.REPORT), MIXED, (ODD,), (OLD,)),
        (staged(odd=Mode.REPORT), MIXED, (OLD,), (ODD,)),
        (staged(odd=Mode.ANNOUNCE), MIXED, (OLD,), ()),
        # What is not known is accepted, whatever else is refused that is only reported.
        (staged(on_unknown=OnUnknown.ACCEPT, old=Mode.REPORT), MIXED, (), (OLD,)),
        (staged(on_unknown=OnUnknown.ACCEPT, odd=Mode.REPORT), MIXED, (OLD,), ()),
        (staged(on_unknown=OnUnknown.ACCEPT), MIXED, (OLD, ODD), ()),
        (Policy(unknowns=(("odd", OnUnknown.ACCEPT),)), Verdict.unknown(ODD), (), ()),
        (Policy(unknowns=(("old", OnUnknown.ACCEPT),)), Verdict.unknown(ODD), (ODD,), ()),
        # No attribute is enforced more strictly than its family.
        (staged(Mode.REPORT, old=Mode.ENFORCE), Verdict.reject(OLD), (), (OLD,)),
        (staged(Mode.ANNOUNCE, old=Mode.ENFORCE), MIXED, (), ()),
    ],
)
def test_ruling_by_attribute(policy, verdict, refused, reported):
    ruling = policy.rule(verdict)
    assert (ruling.refused, ruling.reported) == (refused, reported)
    assert Ruling.of([(policy, verdict)]) == ruling
    assert policy.objection(verdict) == (2 if refused else int(bool(reported)))
    assert policy.refuses(verdict) is bool(refused or reported)
    assert policy.rule(ACCEPT) == Ruling()


# --- what processes make of verdicts ------------------------------------------------------------


def test_what_a_policy_makes_of_single_attributes():
    policy = Policy(
        attributes=(("a", Mode.REPORT),),
        unknowns=(("b", OnUnknown.ACCEPT),),
        unasked=frozenset("c"),
    )
    assert policy.tells_apart and not Policy().tells_apart
    assert [name for name in "abcd" if policy.asks_of(name)] == ["d"]
    assert policy.as_enforced().mode_of("a") is Mode.ENFORCE
    strict = dataclasses.replace(policy, on_unknown=OnUnknown.ACCEPT).as_strict()
    assert strict == dataclasses.replace(policy, unknowns=())


def test_the_strictest_is_the_one_that_objects_most_to_what_is_not_known():
    """One that reports it is stricter than one that enforces and accepts it."""
    policies = Policies(STRICT, {"a": LENIENT, "b": REPORT, "c": REPORT_LENIENT})
    assert policies.strictest("abc") == REPORT
    assert policies.strictest("ac") == LENIENT
    assert policies.strictest("") == policies.strictest("x") == STRICT


def test_policies_as_texts():
    policies = Policies(
        Policy(),
        {
            "gpu": Policy(mode=Mode.REPORT),
            "nic": Policy(
                attributes=(("fw", Mode.REPORT),), unknowns=(("psid", OnUnknown.ACCEPT),)
            ),
        },
        {"qemu": Policy()},
    )
    told = policies.told
    assert told == {
        "": "enforce reject",
        "gpu": "report reject",
        "nic.fw": "report reject",
        "nic.psid": "enforce accept",
    }
    assert unlike(told, told) == {}
    assert unlike(told, {"": "enforce reject", "nic": "report reject"}) == {
        "gpu": ("report reject", "enforce reject"),
        "nic": ("enforce reject", "report reject"),
        "nic.psid": ("enforce accept", "report reject"),
    }
    # An attribute of a family of which nothing else is told is held against the default.
    assert unlike({"": "enforce accept"}, {"": "enforce accept", "nic.fw": "report reject"}) == {
        "nic.fw": ("enforce accept", "report reject")
    }
    enforced = policies.as_enforced()
    assert {enforced(name).mode for name in ("gpu", "nic", "qemu", "none")} == {Mode.ENFORCE}
    assert (enforced.of_devices, enforced.of_hosts) == (policies.of_devices, policies.of_hosts)
    strict = policies.as_strict()
    assert strict("nic").unknowns == () and strict("gpu") == policies("gpu")
    assert {strict(name).on_unknown for name in ("gpu", "nic", "none")} == {OnUnknown.REJECT}


def test_policies_are_equal_that_treat_all_families_alike():
    ours = Policies(STRICT, {"gpu": LENIENT}, {"qemu": STRICT})
    assert len({ours, Policies(STRICT, {"gpu": LENIENT}, {"qemu": STRICT})}) == 1
    unlike = [
        Policies(LENIENT, {"gpu": LENIENT}, {"qemu": STRICT}),
        Policies(STRICT, {"gpu": STRICT}, {"qemu": STRICT}),
        Policies(STRICT, {"gpu": LENIENT, "qemu": STRICT}),
        Policies(STRICT, {"gpu": LENIENT}),
        "policies",
    ]
    assert all(ours != one for one in unlike)
