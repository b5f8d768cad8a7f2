# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Offers and accept-sets, and how the needs of a guest share the devices of a claim."""

import pytest

from nova_devcompat.compat import judging
from nova_devcompat.compat.accepts import AcceptSet, Evaluation
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.judging import no_offer
from nova_devcompat.compat.kinds import Equal, Floor, Semver, Superset
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Mode, OnUnknown, Policies, Policy, Ruling
from nova_devcompat.compat.ruling import Guest, required_atoms
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Actor, Code, Outcome, Reason
from tests.unit.compat.support import judge_any_order, judge_claim, judge_each

VF = Family(name="vf", rules={"fw": Semver(), "caps": Superset()})
GPU = Family(name="gpu", rules={"version": Semver()})
STRICT, LENIENT = Policy(), Policy(on_unknown=OnUnknown.ACCEPT)


def strict(name):
    return STRICT


def lenient(name):
    return LENIENT


def vf(fw="2.4.0", caps=("p2p",)):
    return VF.offer({"fw": fw, "caps": list(caps)})


def gpu(version):
    return GPU.offer({"version": version})


def codes(verdict):
    return [reason.code for reason in verdict.reasons]


@pytest.mark.parametrize(("name", "attribute"), [("VF", "fw"), ("vf", "FW"), ("vf_", "fw")])
def test_names_are_checked(name, attribute):
    with pytest.raises(ValueError, match="is no name"):
        Family(name=name, rules={attribute: Semver()})


def test_offer_keeps_why_a_value_is_not_known():
    offer = VF.offer({"fw": "banana", "model": "x"})
    assert offer.parsed == {}
    assert offer.unknown["caps"] == (Code.OFFER_MISSING, "")
    code, detail = offer.unknown["fw"]
    assert code == Code.OFFER_UNREADABLE
    assert "banana" in detail
    assert offer.atoms() == frozenset()
    assert offer.freeze().values == (("caps", None), ("fw", None))


@pytest.mark.parametrize(
    ("attribute", "told", "need"),
    [
        ("fw", "2.3.9", {"2.3"}),
        ("caps", ["p2p"], {"p2p"}),
        ("caps", [], set()),
        ("fw", "3.0", None),
        ("fw", "banana", None),
        ("fw", 2, None),
        ("caps", ["p2p", None], None),
        ("model", "x", None),
    ],
)
def test_what_a_guest_uses(attribute, told, need):
    assert vf().in_use(attribute, told) == need


def test_freeze_says_nothing_of_where_nobody_told():
    for need in (vf().freeze(), vf().accept_set(()).freeze()):
        assert (need.slot, need.address) == ("", "")


def test_freeze_says_where():
    need = vf().freeze(slot="pci:x", address="0000:81:00.1")
    assert (need.slot, need.address) == ("pci:x", "0000:81:00.1")
    assert need.values == (("caps", frozenset({"p2p"})), ("fw", frozenset({"2.4"})))


def test_accept_set_holds_what_was_evaluated():
    atoms = {
        Atom("vf", "fw", "2.3"),
        Atom("vf", "fw", "2.5"),
        Atom("vf", "fw", "banana"),
        Atom("vf", "caps", "p2p"),
        Atom("vf", "model", "x"),
        Atom("gpu", "version", "2.3"),
    }
    accepts = vf().accept_set(atoms)
    assert accepts.atoms == {Atom("vf", "fw", "2.3"), Atom("vf", "caps", "p2p")}
    assert accepts.attributes["fw"] == Evaluation(
        kind="semver",
        offered="2.4.0",
        accepted=frozenset({"2.3"}),
        rejected={"2.5": (Code.MINOR_TOO_OLD, Actor.HOST)},
        unreadable=frozenset({"banana"}),
        frozen=frozenset({"2.4"}),
    )
    assert accepts.attributes.keys() == {"fw", "caps"}


@pytest.mark.parametrize(
    ("needed", "outcome", "code", "actor"),
    [
        ({"fw": ["2.4"], "caps": ["p2p"]}, Outcome.ACCEPT, None, None),
        ({"fw": ["2.4"], "caps": []}, Outcome.ACCEPT, None, None),
        ({"fw": ["2.4"], "caps": [], "model": []}, Outcome.ACCEPT, None, None),
        ({"fw": ["2.5"], "caps": []}, Outcome.REJECT, Code.MINOR_TOO_OLD, Actor.HOST),
        ({"fw": None, "caps": []}, Outcome.UNKNOWN, Code.NEED_UNKNOWN, Actor.GUEST),
        ({"fw": ["2.4"]}, Outcome.UNKNOWN, Code.NEED_MISSING, Actor.OPERATOR),
        (
            {"fw": ["2.4"], "caps": [], "model": ["x"]},
            Outcome.UNKNOWN,
            Code.NO_RULE,
            Actor.OPERATOR,
        ),
        (
            {"fw": ["2.4"], "caps": [], "model": None},
            Outcome.UNKNOWN,
            Code.NEED_UNKNOWN,
            Actor.GUEST,
        ),
        ({"fw": ["no"], "caps": []}, Outcome.UNKNOWN, Code.NEED_UNREADABLE, Actor.OPERATOR),
    ],
)
def test_judge(needed, outcome, code, actor):
    verdict = vf().judge(DeviceNeed.of("vf", needed))
    assert verdict.outcome is outcome
    assert [(r.code, r.actor) for r in verdict.reasons] == ([(code, actor)] if code else [])


def test_judge_another_family():
    verdict = vf().judge(gpu("1.0").freeze())
    assert verdict.outcome is Outcome.REJECT
    (reason,) = verdict.reasons
    assert (reason.code, reason.actor) == (Code.OTHER_FAMILY, Actor.OPERATOR)
    assert (reason.family, reason.needed, reason.offered) == ("gpu", "gpu", "vf")


def test_judge_names_all_that_is_wrong_and_nothing_else():
    need = DeviceNeed.of("vf", {"fw": ["1.0", "2.3", "2.9"], "caps": ["dma", "p2p", "sva"]})
    verdict = vf().judge(need)
    assert verdict.outcome is Outcome.REJECT
    assert [(r.attribute, r.code, r.actor, r.needed, r.offered) for r in verdict.reasons] == [
        ("caps", Code.FEATURE_MISSING, Actor.HOST, "dma,sva", "p2p"),
        ("fw", Code.MAJOR_DIFFERS, Actor.GUEST, "1.0", "2.4.0"),
        ("fw", Code.MINOR_TOO_OLD, Actor.HOST, "2.9", "2.4.0"),
    ]


def test_a_rejected_value_outweighs_one_that_was_not_evaluated():
    need = DeviceNeed.of("vf", {"fw": ["2.5", "2.6"], "caps": []})
    verdict = vf().accept_set([Atom("vf", "fw", "2.6")]).judge(need)
    assert (verdict.outcome, codes(verdict)) == (Outcome.REJECT, [Code.MINOR_TOO_OLD])


def test_what_was_not_evaluated_is_unknown():
    accepts = vf().accept_set([Atom("vf", "fw", "2.3"), Atom("vf", "fw", "bad")])
    verdict = accepts.judge(DeviceNeed.of("vf", {"fw": ["2.3", "2.4"], "caps": []}))
    (reason,) = verdict.reasons
    assert verdict.outcome is Outcome.UNKNOWN
    assert (reason.code, reason.actor, reason.needed) == (Code.NOT_EVALUATED, Actor.HOST, "2.4")
    # What can never be evaluated is said rather than what may yet be.
    verdict = accepts.judge(DeviceNeed.of("vf", {"fw": ["2.4", "bad"], "caps": []}))
    (reason,) = verdict.reasons
    assert (reason.code, reason.needed) == (Code.NEED_UNREADABLE, "bad")


def test_an_accept_set_of_nothing_decides_nothing():
    verdict = AcceptSet(family="vf", attributes={}).judge(DeviceNeed.of("vf", {"fw": ["2.4"]}))
    assert codes(verdict) == [Code.NO_RULE]


def test_no_offer():
    verdict = no_offer(vf().freeze())
    (reason,) = verdict.reasons
    assert verdict.outcome is Outcome.UNKNOWN
    assert (reason.code, reason.family) == (Code.DEVICE_UNKNOWN, "vf")


OLD, NEW, SILENT = vf("2.3.0"), vf("2.5.0"), vf(None)
NEED_OLD, NEED_NEW = OLD.freeze(), NEW.freeze()


@pytest.mark.parametrize(
    ("devices", "outcome", "code"),
    [
        ([NEW], Outcome.ACCEPT, None),
        ([OLD, NEW], Outcome.ACCEPT, None),
        ([OLD], Outcome.REJECT, Code.MINOR_TOO_OLD),
        ([gpu("1.0"), OLD], Outcome.REJECT, Code.MINOR_TOO_OLD),
        ([OLD, SILENT], Outcome.UNKNOWN, Code.OFFER_MISSING),
        ([], Outcome.UNKNOWN, Code.DEVICE_UNKNOWN),
    ],
)
def test_judge_each(devices, outcome, code):
    judges = [device.judge for device in devices]
    verdict = judge_each([NEED_NEW, NEED_NEW], judges, strict)
    assert (verdict.outcome, codes(verdict)) == (outcome, [code] if code else [])


def test_judge_each_needs_nothing():
    assert judge_each([], [], strict).outcome is Outcome.ACCEPT


@pytest.mark.parametrize(
    ("needs", "devices", "policy", "outcome", "expected"),
    [
        ([], [], strict, Outcome.ACCEPT, []),
        ([], [OLD], strict, Outcome.ACCEPT, []),
        ([NEED_NEW], [], strict, Outcome.REJECT, [Code.NO_DEVICE]),
        ([NEED_OLD, NEED_NEW], [NEW, OLD], strict, Outcome.ACCEPT, []),
        ([NEED_NEW, NEED_OLD], [NEW, OLD], strict, Outcome.ACCEPT, []),
        ([NEED_NEW, NEED_NEW], [NEW, OLD], strict, Outcome.REJECT, [Code.MINOR_TOO_OLD]),
        ([NEED_NEW, NEED_NEW], [NEW, SILENT], strict, Outcome.UNKNOWN, [Code.OFFER_MISSING]),
        ([NEED_NEW, NEED_NEW], [NEW], strict, Outcome.REJECT, [Code.NO_DEVICE]),
        ([NEED_NEW, NEED_OLD], [OLD], strict, Outcome.REJECT, [Code.MINOR_TOO_OLD]),
        ([NEED_NEW, NEED_NEW], [NEW, NEW, OLD], strict, Outcome.ACCEPT, []),
        ([NEED_NEW, NEED_OLD], [OLD, OLD], strict, Outcome.REJECT, [Code.MINOR_TOO_OLD]),
        ([NEED_NEW], [gpu("1.0"), OLD], strict, Outcome.REJECT, [Code.MINOR_TOO_OLD]),
        ([NEED_NEW], [gpu("1.0")], strict, Outcome.REJECT, [Code.OTHER_FAMILY]),
        ([NEED_NEW], [SILENT, OLD], strict, Outcome.UNKNOWN, [Code.OFFER_MISSING]),
        ([NEED_NEW], [OLD, SILENT], lenient, Outcome.UNKNOWN, [Code.OFFER_MISSING]),
        ([NEED_NEW], [SILENT, NEW], lenient, Outcome.ACCEPT, []),
        ([NEED_NEW, NEED_OLD], [SILENT, NEW], lenient, Outcome.UNKNOWN, [Code.OFFER_MISSING]),
        ([NEED_NEW, NEED_NEW], [SILENT, OLD], lenient, Outcome.REJECT, [Code.MINOR_TOO_OLD]),
    ],
)
def test_judge_claim(needs, devices, policy, outcome, expected):
    verdict = judge_claim(needs, [device.judge for device in devices], policy)
    assert verdict.outcome is outcome
    assert codes(verdict)[: len(expected)] == expected
    assert bool(verdict.reasons) is bool(expected)


def test_judge_claim_where_unknown_will_do_for_one_family_only():
    """The need that could live with UNKNOWN leaves the slot accepted as a whole."""
    needs = [NEED_NEW, NEED_NEW, gpu("1.0").freeze()]
    devices = [SILENT.judge, NEW.judge, NEW.judge, gpu("1.0").judge]
    verdict = judge_claim(needs, devices, {"vf": LENIENT, "gpu": STRICT}.__getitem__)
    assert verdict.outcome is Outcome.ACCEPT


def test_a_family_that_is_only_reported_on_takes_no_device_from_the_others():
    """Report: log and count, never reject."""
    report = Policy(mode=Mode.REPORT)
    needs = [NEED_NEW, gpu("1.0").freeze()]
    verdicts = judging.judge_claim(
        [needs[0], needs[0], needs[1]],
        [gpu("1.0").judge, NEW.judge],
        {"vf": report, "gpu": STRICT}.__getitem__,
    )
    assert [verdict.outcome for verdict in verdicts] == [
        Outcome.ACCEPT,
        Outcome.REJECT,
        Outcome.ACCEPT,
    ]


@pytest.mark.parametrize(
    ("mode", "devices", "refused", "reported"),
    [
        # Two that fit best are not to be had: what is only reported on is let pass.
        (Mode.REPORT, [vf("2.6"), vf("2.6", ())], [], [Code.FEATURE_MISSING]),
        (Mode.REPORT, [vf("2.6", ()), vf("2.4", ())], [], [Code.FEATURE_MISSING]),
        (Mode.ANNOUNCE, [vf("2.6", ()), vf("2.4", ())], [], []),
        (Mode.ENFORCE, [vf("2.6", ()), vf("2.4")], [Code.FEATURE_MISSING], []),
        # The device that is old is left to the guest's other need, although that lacks a feature.
        (Mode.REPORT, [vf("2.4"), vf("2.6", ())], [], [Code.FEATURE_MISSING]),
        (Mode.REPORT, [vf("2.4"), vf("2.4")], [Code.MINOR_TOO_OLD], []),
        (Mode.REPORT, [vf("2.6", ())], [Code.NO_DEVICE], [Code.FEATURE_MISSING]),
        # Nothing is reported where devices that accept are to be had, in whatever order.
        (Mode.REPORT, [vf("2.6", ()), vf("2.4"), vf("2.6")], [], []),
    ],
)
def test_judge_claim_where_an_attribute_has_a_mode_of_its_own(mode, devices, refused, reported):
    policy = Policy(attributes=(("caps", mode),))
    needs = [vf("2.4").freeze(), vf("2.6").freeze()]
    judges = [device.judge for device in devices]
    verdicts = judging.judge_claim(needs, judges, lambda name: policy)
    ruling = Ruling.of((policy, verdict) for verdict in verdicts)
    assert [reason.code for reason in ruling.refused] == refused
    assert [reason.code for reason in ruling.reported] == reported


def test_what_is_only_reported_on_costs_no_other_family_a_device():
    """The one device of which nothing is known will do for both, the other only for the VF."""
    policies = {
        "gpu": LENIENT,
        "vf": Policy(on_unknown=OnUnknown.ACCEPT, attributes=(("caps", Mode.REPORT),)),
    }
    needs = [vf().freeze(), gpu("1.0").freeze()]
    verdicts = judging.judge_claim(needs, [vf(caps=()).judge, no_offer], policies.__getitem__)
    ruling = Ruling.of(
        (policies[need.family], verdict) for need, verdict in zip(needs, verdicts, strict=True)
    )
    assert ruling.accepts
    assert [reason.code for reason in ruling.reported] == [Code.FEATURE_MISSING]


def test_a_device_in_doubt_goes_to_the_family_that_is_enforced():
    """What is only reported on gets what the others leave, wherever it stands in the record."""
    policies = {"vf": Policy(mode=Mode.REPORT, on_unknown=OnUnknown.ACCEPT), "gpu": LENIENT}
    for needs in ([NEED_NEW, gpu("1.0").freeze()], [gpu("1.0").freeze(), NEED_NEW]):
        verdicts = judging.judge_claim(needs, [no_offer], policies.__getitem__)
        found = {
            need.family: codes(verdict) for need, verdict in zip(needs, verdicts, strict=True)
        }
        assert found == {"gpu": [Code.DEVICE_UNKNOWN], "vf": [Code.NO_DEVICE]}


def test_what_nothing_is_made_of_gets_a_device_in_doubt_rather_than_one_that_refuses():
    announce = Policy(mode=Mode.ANNOUNCE)
    for devices in ([OLD, SILENT], [SILENT, OLD]):
        judges = [device.judge for device in devices]
        (verdict,) = judging.judge_claim([NEED_NEW], judges, lambda name: announce)
        assert verdict.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("told", "outcome", "reason"),
    [
        (
            lambda: no_offer(NEED_NEW),
            Outcome.UNKNOWN,
            Reason(code=Code.DEVICE_UNKNOWN, actor=Actor.OPERATOR, family="vf"),
        ),
        (
            lambda: judging.one_too_few(NEED_NEW),
            Outcome.REJECT,
            Reason(code=Code.NO_DEVICE, actor=Actor.OPERATOR, family="vf", needed="a device"),
        ),
        (
            lambda: judging.not_asked_for(NEED_NEW),
            Outcome.REJECT,
            Reason(code=Code.NOT_ASKED_FOR, actor=Actor.OPERATOR, family="vf"),
        ),
        (
            lambda: judging.nothing_recorded("vf"),
            Outcome.UNKNOWN,
            Reason(code=Code.NEED_MISSING, actor=Actor.OPERATOR, family="vf"),
        ),
    ],
)
def test_what_lacks_is_said_with_the_family_and_who_can_act(told, outcome, reason):
    verdict = told()
    assert (verdict.outcome, verdict.reasons) == (outcome, (reason,))


def test_judge_claim_on_devices_the_host_says_nothing_of():
    assert codes(judge_claim([NEED_NEW], [no_offer], strict)) == [Code.DEVICE_UNKNOWN]


@pytest.mark.parametrize(
    ("needs", "devices", "outcome", "expected"),
    [
        ([], [], Outcome.ACCEPT, []),
        ([NEED_OLD, NEED_NEW], [NEW, NEW], Outcome.ACCEPT, []),
        ([NEED_OLD, NEED_NEW], [NEW, OLD], Outcome.REJECT, [Code.MINOR_TOO_OLD]),
        ([NEED_OLD, NEED_OLD], [NEW], Outcome.REJECT, [Code.NO_DEVICE]),
        ([NEED_OLD], [NEW, SILENT], Outcome.UNKNOWN, [Code.OFFER_MISSING]),
    ],
)
def test_judge_any_order(needs, devices, outcome, expected):
    verdict = judge_any_order(needs, [device.judge for device in devices])
    assert (verdict.outcome, codes(verdict)) == (outcome, expected)


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        (STRICT, {"vf", "gpu"}),
        (LENIENT, {"gpu"}),
        (Policy(mode=Mode.REPORT), {"gpu"}),
    ],
)
def test_required_atoms(policy, asked):
    need = Need(devices=(NEED_NEW, NEED_OLD, gpu("1.0").freeze()))
    atoms = required_atoms(Guest(record=need), Policies(STRICT, {"vf": policy}))
    assert atoms == {atom for atom in need.atoms if atom.family in asked}


@pytest.mark.parametrize("mode", [Mode.REPORT, Mode.ANNOUNCE])
def test_of_placement_only_what_is_enforced_is_asked(mode):
    need = Need(devices=(NEED_NEW,))
    policy = Policy(attributes=(("caps", mode),))
    asked = {atom.attribute for atom in required_atoms(Guest(record=need), Policies(policy))}
    assert asked == {"fw"}


def test_what_another_wrote_hides_nothing():
    """Atoms are judged each by itself, wherever those stand that nobody can read."""
    atoms = [Atom("vf", "fw", value) for value in ("banana", "2.1.0", "apple", "3.0.0")]
    evaluation = vf().accept_set(atoms).attributes["fw"]
    assert evaluation.unreadable == {"banana", "apple"}
    assert evaluation.accepted == {"2.1.0"}
    assert set(evaluation.rejected) == {"3.0.0"}


def test_a_need_of_what_is_used_has_no_slot_unless_it_is_given():
    offer = gpu("1.2")
    assert offer.freeze_used({"version": frozenset({"1.0"})}).slot == ""
    assert offer.freeze_used({}, slot="rc:VGPU").slot == "rc:VGPU"


# --- rules that hold for devices of any family --------------------------------------------------


def test_implied_rules():
    """Only what is known to fail is said, of the guest's own device as of another."""
    family = Family(
        name="vf",
        rules={"fw": Semver()},
        implied={"migratable": Floor(at="1"), "other": Floor(at="1")},
    )
    met, unmet = {"fw": "2.4", "migratable": "1"}, {"fw": "2.4", "migratable": "0"}
    assert family.fails(met) == family.fails({"migratable": "?"}) == {}
    assert set(family.fails(unmet)) == {"migratable"}
    # Nothing that is told of one, or not, is about another.
    for first in ({}, {"migratable": "?"}, {"migratable": "1"}):
        assert set(family.fails({**first, "other": "0"})) == {"other"}
    stuck, free = family.offer(unmet).freeze(), family.offer(met).freeze()
    assert family.offer(met).judge(free).outcome is Outcome.ACCEPT
    for offer, need, code in (
        (family.offer(met), stuck, Code.UNMET),
        (family.offer(unmet), free, Code.BELOW_FLOOR),
    ):
        verdict = offer.judge(need)
        assert (verdict.outcome, verdict.reasons[0].code) == (Outcome.REJECT, code)


@pytest.mark.parametrize(
    ("needed", "outcome", "reason"),
    [
        (
            {"fw": None},
            Outcome.UNKNOWN,
            Reason(
                code=Code.NEED_UNKNOWN,
                actor=Actor.GUEST,
                family="vf",
                attribute="fw",
                kind="semver",
                offered="2.4.0",
            ),
        ),
        (
            {"model": ["x", "w"]},
            Outcome.UNKNOWN,
            Reason(
                code=Code.NO_RULE,
                actor=Actor.OPERATOR,
                family="vf",
                attribute="model",
                needed="w,x",
            ),
        ),
        (
            {"migratable": ["unmet"]},
            Outcome.REJECT,
            Reason(
                code=Code.UNMET,
                actor=Actor.GUEST,
                family="vf",
                attribute="migratable",
                needed="unmet",
            ),
        ),
        (
            {"caps": ["p2p", "dma"]},
            Outcome.UNKNOWN,
            Reason(
                code=Code.OFFER_MISSING,
                actor=Actor.OPERATOR,
                family="vf",
                attribute="caps",
                kind="superset",
                needed="dma,p2p",
            ),
        ),
    ],
)
def test_what_is_said_of_an_attribute(needed, outcome, reason):
    offer = VF.offer({"fw": "2.4.0"})
    values = {"fw": ["2.4"], "caps": [], **needed}
    need = DeviceNeed.of("vf", values)
    for judge in (offer.judge, offer.accept_set(need.atoms).judge):
        verdict = judge(need)
        assert (verdict.outcome, verdict.reasons) == (outcome, (reason,))


def test_what_is_refused_is_refused_whatever_else_is_not_recorded():
    verdict = vf().judge(DeviceNeed.of("vf", {"fw": ["2.5"]}))
    assert verdict.outcome is Outcome.REJECT
    assert {reason.code for reason in verdict.reasons} == {Code.MINOR_TOO_OLD, Code.NEED_MISSING}


def test_what_no_record_has_is_said_with_the_attribute():
    """Below the floor no guest is taken, whatever it needs; else it is not known."""
    family = Family(name="vf", rules={"migratable": Floor(at="1"), "other": Floor(at="1")})
    verdict = family.offer({"migratable": "0", "other": "1"}).judge(DeviceNeed.of("vf", {}))
    assert (verdict.outcome, len(verdict.doubts)) == (Outcome.REJECT, 1)
    assert [(one.code, one.actor, one.attribute, one.needed) for one in verdict.reasons] == [
        (Code.BELOW_FLOOR, Actor.HOST, "migratable", "met"),
        (Code.NEED_MISSING, Actor.OPERATOR, "other", ""),
    ]


def test_the_value_of_another_kind_that_is_called_as_what_a_floor_needs():
    """Whoever calls a model 'unmet' has no device below a floor."""
    family = Family(name="vf", rules={"model": Equal()})
    verdict = family.offer({"model": "unmet"}).judge(DeviceNeed.of("vf", {}))
    assert [reason.code for reason in verdict.reasons] == [Code.NEED_MISSING]
