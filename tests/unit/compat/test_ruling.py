# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""One ruling for all: parts with verdicts of their own, and what cannot be told among them."""

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat.compat import ruling
from nova_devcompat.compat.accepts import Evaluation
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.kinds import Equal, Semver
from nova_devcompat.compat.need import DeviceNeed, InMigration, Need, host_slot
from nova_devcompat.compat.pins import BadPin
from nova_devcompat.compat.policy import Mode, OnUnknown, Policies, Policy
from nova_devcompat.compat.ruling import (
    NO_RECORD,
    NOTHING_KNOWN,
    Claim,
    Doubt,
    Extra,
    Given,
    Guest,
    Order,
    rule,
)
from nova_devcompat.compat.verdict import Actor, Code, Outcome, Reason
from tests.budget import scaled

GPU = Family(name="gpu", rules={"version": Semver()})
NIC = Family(name="nic", rules={"fw": Semver()})
QEMU = Family(name="qemu", rules={"machine": Equal()}, subject=Subject.HOST)
VERSIONS = ("1.0", "1.2", "1.4", "2.0")
MACHINES = ("q1", "q2")

STRICT, LENIENT = Policy(), Policy(on_unknown=OnUnknown.ACCEPT)
REPORT, ANNOUNCE = Policy(mode=Mode.REPORT), Policy(mode=Mode.ANNOUNCE)
SLOT, OTHER_SLOT = "pci:a", "pci:b"
SILENT = Reason(code=Code.HOST_SILENT, actor=Actor.OPERATOR)
UNREADABLE = Doubt(reason=Reason(code=Code.RECORD_UNREADABLE, actor=Actor.OPERATOR, detail="x"))
FAILED = Doubt(reason=Reason(code=Code.NEED_UNKNOWN, actor=Actor.OPERATOR), always_counts=True)


def policies(gpu=STRICT, nic=STRICT, qemu=None, default=STRICT):
    """A catalog's; without a policy of qemu it has no host family."""
    return Policies(default, {"gpu": gpu, "nic": nic}, {"qemu": qemu} if qemu else None)


def gpu(version):
    return GPU.offer({"version": version}).accept_set(_atoms("gpu", "version"))


def nic(version):
    return NIC.offer({"fw": version}).accept_set(_atoms("nic", "fw"))


def qemu(machine):
    known = frozenset().union(*(QEMU.offer({"machine": one}).atoms() for one in MACHINES))
    return QEMU.offer({"machine": machine}).accept_set(known)


def _atoms(family, attribute):
    of = Family(name=family, rules={attribute: Semver()})
    return frozenset().union(*(of.offer({attribute: one}).atoms() for one in VERSIONS))


def need_of(accepts, slot=SLOT):
    return accepts.freeze(slot=slot, address="0000:81:00.1")


def guest_of(*needs, **options):
    return Guest(record=Need(devices=needs), **options)


def claim(*devices, slots=(SLOT,), order=Order.CHOSEN):
    choices = tuple((device,) if device is not None else NOTHING_KNOWN for device in devices)
    return Claim(slots=slots, devices=choices, order=order)


def given_one(device, **options):
    return Given(claims=(claim(device),), **options)


def codes(found):
    return sorted(reason.code for reason in found.refused)


MACHINE = qemu("q1").freeze(slot=host_slot("qemu"))


class TestDevices:
    @pytest.mark.parametrize("order", Order)
    def test_a_device_is_held_against_its_need(self, order):
        guest = guest_of(need_of(gpu("1.2")))
        fits = Given(claims=(claim(gpu("1.4"), order=order),))
        assert rule(guest, fits, policies()) == ruling.Ruling()
        too_old = Given(claims=(claim(gpu("1.0"), order=order),))
        assert codes(rule(guest, too_old, policies())) == [Code.MINOR_TOO_OLD]

    def test_the_order_says_which_is_for_which(self):
        guest = guest_of(need_of(gpu("1.4")), need_of(gpu("2.0")))
        crossed = (gpu("2.0"), gpu("1.4"))
        for order, fits in ((Order.GIVEN, False), (Order.CHOSEN, True), (Order.UNTOLD, False)):
            found = rule(guest, Given(claims=(claim(*crossed, order=order),)), policies())
            assert found.accepts is fits, order

    def test_each_in_its_turn_though_neither_does_for_the_other(self):
        guest = guest_of(need_of(gpu("1.4")), need_of(gpu("2.0")))
        in_turn = (gpu("1.4"), gpu("2.0"))
        for order, fits in ((Order.GIVEN, True), (Order.CHOSEN, True), (Order.UNTOLD, False)):
            found = rule(guest, Given(claims=(claim(*in_turn, order=order),)), policies())
            assert found.accepts is fits, order

    def test_a_device_of_which_nothing_is_known(self):
        guest = guest_of(need_of(gpu("1.2")))
        for choice in (NOTHING_KNOWN, (None,)):
            here = Given(claims=(Claim(slots=(SLOT,), devices=(choice,)),))
            assert codes(rule(guest, here, policies())) == [Code.DEVICE_UNKNOWN]
            assert rule(guest, here, policies(gpu=LENIENT)).accepts

    def test_fewer_devices_than_needs(self):
        guest = guest_of(need_of(gpu("1.2")), need_of(gpu("1.2")))
        for order in Order:
            given_few = Given(claims=(claim(gpu("1.2"), order=order),))
            assert Code.NO_DEVICE in codes(rule(guest, given_few, policies()))

    def test_a_slot_that_nothing_answers(self):
        guest = guest_of(need_of(gpu("1.2")))
        assert codes(rule(guest, Given(complete=True), policies())) == [Code.NO_DEVICE]
        assert codes(rule(guest, Given(), policies())) == [Code.DEVICE_UNKNOWN]
        assert rule(guest, Given(), policies(gpu=LENIENT)).accepts
        assert not rule(guest, Given(complete=True), policies(gpu=LENIENT)).accepts

    def test_one_of_several_will_do(self):
        guest = guest_of(need_of(gpu("1.2")))

        def given_any(*devices):
            one = Claim(slots=(SLOT,), devices=(devices,), order=Order.GIVEN)
            return rule(guest, Given(claims=(one,)), policies())

        assert given_any(gpu("1.0"), gpu("1.4")).accepts
        assert codes(given_any(gpu("1.0"), gpu("2.0"))) in (
            [Code.MINOR_TOO_OLD],
            [Code.MAJOR_DIFFERS],
        )
        assert codes(given_any()) == [Code.DEVICE_UNKNOWN]
        assert codes(given_any(gpu("1.0"), None)) == [Code.DEVICE_UNKNOWN]

    @pytest.mark.parametrize("order", Order)
    def test_more_devices_than_needs(self, order):
        """The record says nothing of one of them, whichever that is."""
        guest = guest_of(need_of(gpu("1.2")))
        given_two = Given(claims=(claim(gpu("1.2"), gpu("1.2"), order=order),))
        (reason,) = rule(guest, given_two, policies()).refused
        assert (reason.code, reason.family, reason.detail) == (Code.NEED_MISSING, "gpu", "")
        assert rule(guest, given_two, policies(gpu=LENIENT)).accepts

    def test_the_one_too_many_is_the_one_that_matters_least(self):
        guest = guest_of(need_of(gpu("1.2")))
        both = (gpu("1.2"), nic("1.0"))
        chosen = Given(claims=(claim(*both),))
        assert rule(guest, chosen, policies(nic=LENIENT)).accepts
        untold = Given(claims=(claim(*both, order=Order.UNTOLD),))
        assert not rule(guest, untold, policies(nic=LENIENT)).accepts
        in_order = Given(claims=(claim(*both, order=Order.GIVEN),))
        assert rule(guest, in_order, policies(nic=LENIENT)).accepts
        assert not rule(guest, in_order, policies(gpu=LENIENT)).accepts

    def test_the_one_too_many_may_be_one_of_no_family(self):
        guest = guest_of(need_of(gpu("1.2")))
        for policy in (STRICT, REPORT):
            here = Given(claims=(claim(gpu("1.2"), None),))
            assert rule(guest, here, policies(gpu=policy)) == ruling.Ruling()

    def test_a_device_beside_that_may_be_of_either_family(self):
        """Nothing tells which it is, so the family that objects least decides."""
        guest = guest_of(need_of(gpu("1.2")))
        either = Extra(device=(gpu("1.0"), nic("1.0")))
        here = given_one(gpu("1.2"), extras=(either,))
        (reason,) = rule(guest, here, policies()).refused
        assert (reason.code, reason.detail) == (Code.NEED_MISSING, "")
        assert rule(guest, here, policies(nic=LENIENT)).accepts
        assert rule(guest, here, policies(gpu=LENIENT)).accepts

    def test_a_device_beside(self):
        guest = guest_of(need_of(gpu("1.2")))
        beside = dataclasses.replace(
            given_one(gpu("1.2")), extras=(Extra(device=(nic("1.0"),), detail="at x"),)
        )
        (reason,) = rule(guest, beside, policies()).refused
        assert (reason.code, reason.family, reason.detail) == (Code.NEED_MISSING, "nic", "at x")
        assert rule(guest, beside, policies(nic=LENIENT)).accepts
        anew = dataclasses.replace(guest, keeps_devices=False)
        assert rule(anew, beside, policies()).accepts

    def test_a_device_of_no_family_beside(self):
        beside = dataclasses.replace(given_one(gpu("1.2")), extras=(Extra(device=NOTHING_KNOWN),))
        assert rule(guest_of(need_of(gpu("1.2"))), beside, policies()).accepts

    def test_verdicts_can_be_remembered(self):
        asked = []

        def judge(device, need):
            asked.append((device.family, need.family))
            return device.judge(need)

        guest = guest_of(need_of(gpu("1.2")), MACHINE)
        here = given_one(gpu("1.2"), host={"qemu": qemu("q1")})
        assert rule(guest, here, policies(qemu=STRICT), judge).accepts
        assert asked == [("gpu", "gpu"), ("qemu", "qemu")]


class TestWhatDoesNotStay:
    """Devices that a live migration takes away from the guest, or that it does not see."""

    PORTS = (InMigration.REPLUGGED, InMigration.HIDDEN)

    @pytest.mark.parametrize("done", PORTS)
    def test_nothing_is_required_of_them(self, done):
        port = dataclasses.replace(need_of(nic("1.4")), in_migration=done)
        stays = need_of(gpu("1.2"), slot=OTHER_SLOT)
        guest = guest_of(port, stays)
        assert guest.need == Need(devices=(stays,))
        given = Given(
            claims=(claim(gpu("1.2"), slots=(OTHER_SLOT,)),), anew=((nic("1.0"),),), complete=True
        )
        assert rule(guest, given, policies()).accepts
        refusing = dataclasses.replace(given, claims=(claim(gpu("1.0"), slots=(OTHER_SLOT,)),))
        (reason,) = rule(guest, refusing, policies()).refused
        assert reason.family == "gpu"
        assert ruling.required_atoms(guest, policies()) == stays.atoms

    def test_one_of_which_nothing_is_recorded_is_none_too_many(self):
        given = Given(anew=((nic("1.0"),), NOTHING_KNOWN), complete=True)
        assert rule(guest_of(), given, policies()).accepts

    def test_pins_go_for_them(self):
        pins = Need(devices=(DeviceNeed.of("nic", {"fw": ["1.4"]}),))
        for keeps in (True, False):
            guest = guest_of(pins=pins, keeps_devices=keeps)
            for version, accepts in (("1.0", False), ("1.4", True)):
                given = Given(anew=((nic(version),),), complete=True)
                assert rule(guest, given, policies()).accepts is accepts


class TestPins:
    PIN = DeviceNeed.of("gpu", {"version": ["1.2"]})

    def pinned(self, *devices, policy=STRICT, **options):
        guest = Guest(pins=Need(devices=(self.PIN,)), keeps_devices=False)
        extras = tuple(Extra(device=choice) for choice in devices)
        return rule(guest, Given(extras=extras, **options), policies(gpu=policy))

    def test_all_devices_that_it_is_given_must_act_as_it(self):
        assert self.pinned((gpu("1.2"),), (gpu("1.4"),)).accepts
        assert codes(self.pinned((gpu("1.2"),), (gpu("1.0"),))) == [Code.MINOR_TOO_OLD]

    def test_there_must_be_one(self):
        assert codes(self.pinned((nic("1.0"),), complete=True)) == [Code.NO_DEVICE]
        assert codes(self.pinned((nic("1.0"),))) == [Code.DEVICE_UNKNOWN]
        assert self.pinned((nic("1.0"),), policy=LENIENT).accepts

    def test_any_that_it_may_be_given_will_do(self):
        others = (gpu("1.0"), gpu("1.4"))
        assert self.pinned(others=others, complete=True).accepts
        assert self.pinned((gpu("1.0"), gpu("1.4")), complete=True).accepts
        assert codes(self.pinned(others=others[:1], complete=True)) == [Code.MINOR_TOO_OLD]

    def test_what_is_known_to_be_wrong_says_more_than_what_is_not_known(self):
        assert codes(self.pinned(others=(gpu("1.0"),))) == [Code.MINOR_TOO_OLD]
        assert self.pinned(others=(gpu("1.0"),), policy=LENIENT).accepts

    def test_what_placement_is_asked(self):
        guest = Guest(record=Need(devices=(need_of(nic("1.4")),)), pins=Need(devices=(self.PIN,)))
        names = {str(atom) for atom in ruling.required_atoms(guest, policies())}
        assert names == {"nic.fw=1.4", "gpu.version=1.2"}
        assert not ruling.required_atoms(guest, policies(gpu=LENIENT, nic=REPORT))
        of_attribute = Policy(attributes=(("version", Mode.REPORT),))
        names = ruling.required_atoms(guest, policies(gpu=of_attribute))
        assert {atom.family for atom in names} == {"nic"}


class TestAnywhere:
    def test_any_device_of_the_family_may_be_the_one(self):
        guest = guest_of(need_of(gpu("1.2")), need_of(nic("1.0"), slot=OTHER_SLOT))
        here = Given.anywhere(guest, [gpu("1.0"), gpu("1.4"), nic("1.0")], complete=True)
        assert rule(guest, here, policies()).accepts

    def test_several_needs_of_a_slot_may_share_a_device(self):
        """Nobody tells which device is given, so each need may get the one that will do."""
        guest = guest_of(need_of(gpu("1.2")), need_of(gpu("1.4")))
        here = Given.anywhere(guest, [gpu("1.2"), gpu("1.4")], complete=True)
        assert rule(guest, here, policies()).accepts

    def test_what_else_is_known_of_the_host_is_held_against_the_guest(self):
        guest = guest_of(need_of(gpu("1.2")), MACHINE)
        broken = Reason(code=Code.HOST_UNREADABLE, actor=Actor.OPERATOR)
        ours = policies(qemu=STRICT)
        here = Given.anywhere(
            guest, [gpu("1.2")], complete=True, host={"qemu": qemu("q2")}, unreadable={"": broken}
        )
        assert codes(rule(guest, here, ours)) == [Code.HOST_UNREADABLE, Code.NOT_EQUAL]
        without = Given.anywhere(guest, [gpu("1.2")], complete=True)
        assert codes(rule(guest, without, ours)) == [Code.DEVICE_UNKNOWN]

    def test_any_of_the_devices_may_act_as_the_pin(self):
        pins = Need(devices=(DeviceNeed.of("gpu", {"version": ["1.2"]}),))
        guest = Guest(pins=pins, keeps_devices=False)
        for version, accepts in (("1.4", True), ("1.0", False)):
            here = Given.anywhere(guest, [gpu(version)], complete=True)
            assert rule(guest, here, policies()).accepts is accepts

    def test_none_of_the_family(self):
        guest = guest_of(need_of(gpu("1.2")))
        for complete, code in ((True, Code.NO_DEVICE), (False, Code.DEVICE_UNKNOWN)):
            here = Given.anywhere(guest, [nic("1.0")], complete=complete)
            assert codes(rule(guest, here, policies())) == [code]

    def test_a_flavor_that_pins_what_it_does_not_ask_for(self):
        pins = Need(devices=(need_of(gpu("1.2")),))
        plain = Guest(pins=pins, keeps_devices=False, assigned=False)
        assert codes(rule(plain, Given(complete=True), policies())) == [Code.NOT_ASKED_FOR]
        asks = Guest(pins=pins, keeps_devices=False)
        assert codes(rule(asks, Given(complete=True), policies())) == [Code.NO_DEVICE]

    def test_one_part_alone(self):
        need = need_of(gpu("1.2"))
        assert ruling.judge_part(need, [gpu("1.2")]).outcome is Outcome.ACCEPT
        assert ruling.judge_part(need, [gpu("1.0"), gpu("1.2")]).outcome is Outcome.ACCEPT
        assert ruling.judge_part(need, []).outcome is Outcome.UNKNOWN
        assert ruling.judge_part(need, [], complete=True).outcome is Outcome.REJECT


class TestDoubts:
    """What is missing or cannot be read is decided by the families that it can concern."""

    @pytest.mark.parametrize("doubt", [NO_RECORD, UNREADABLE])
    def test_of_the_record(self, doubt):
        guest = Guest(record=doubt)
        here = given_one(gpu("1.2"))
        (reason,) = rule(guest, here, policies()).refused
        assert (reason.code, reason.family) == (doubt.reason.code, "gpu")
        assert rule(guest, here, policies(gpu=LENIENT)).accepts
        assert rule(guest, here, policies(gpu=REPORT)).reported
        assert rule(guest, here, policies(gpu=REPORT)).accepts
        # What it is not given does not concern it.
        assert rule(guest, here, policies(gpu=LENIENT, nic=STRICT)).accepts

    def test_nova_conf_overrules_no_family(self):
        """The mode of nova.conf is for families that state none."""
        guest = Guest(record=UNREADABLE)
        here = given_one(gpu("1.2"))
        assert not rule(guest, here, policies(gpu=STRICT, default=REPORT)).accepts
        assert rule(guest, here, policies(gpu=REPORT, default=STRICT)).accepts

    def test_devices_that_nobody_tells_can_be_of_any_family(self):
        guest = Guest(record=NO_RECORD)
        for given_something in (Given(), given_one(None)):
            found = rule(guest, given_something, policies(gpu=LENIENT))
            (reason,) = found.refused
            assert reason.family == ""
            assert "it can concern gpu, nic" in reason.detail
            assert rule(guest, given_something, policies(LENIENT, LENIENT)).accepts

    def test_without_a_catalog_the_default_decides(self):
        guest = Guest(record=NO_RECORD)
        assert not rule(guest, Given(), Policies(STRICT)).accepts
        assert rule(guest, Given(), Policies(LENIENT)).accepts

    def test_a_guest_without_devices_needs_something_of_hosts_only(self):
        guest = Guest(record=NO_RECORD, assigned=False)
        assert rule(guest, Given(), policies()) == ruling.Ruling()
        found = rule(guest, Given(), policies(qemu=STRICT))
        assert [reason.family for reason in found.refused] == ["qemu"]
        assert rule(guest, Given(), policies(qemu=LENIENT)).accepts

    def test_a_record_that_is_not_asked_for(self):
        guest = Guest(record=UNREADABLE, keeps_devices=False)
        assert rule(guest, given_one(gpu("1.2")), policies()) == ruling.Ruling()

    def test_a_database_that_does_not_answer(self):
        """It is no fact about the guest, so ``on_unknown: accept`` is not meant."""
        guest = Guest(record=FAILED)
        here = given_one(gpu("1.2"))
        assert not rule(guest, here, policies(gpu=LENIENT)).accepts
        assert rule(guest, here, policies(gpu=REPORT)).accepts
        assert not rule(guest, Given(), Policies(LENIENT)).accepts

    @pytest.mark.parametrize("strict", ["gpu", "nic"])
    def test_a_database_that_does_not_answer_concerns_the_strictest_family(self, strict):
        """Devices of a family that is reported on do not excuse those of one that is enforced."""
        guest = Guest(record=FAILED)
        both = Given(claims=(claim(gpu("1.2"), nic("1.0")),))
        modes = {"gpu": REPORT, "nic": REPORT, strict: LENIENT}
        assert not rule(guest, both, policies(**modes)).accepts
        found = rule(guest, both, policies(gpu=REPORT, nic=REPORT))
        assert (found.accepts, len(found.reported)) == (True, 1)

    def test_of_a_pin(self):
        typo = ruling.doubt_of_pin(BadPin("devcompat:gpu.versoin", "no such", family="gpu"))
        other = ruling.doubt_of_pin(BadPin("devcompat:gup.version", "no such"))
        here = given_one(gpu("1.2"))
        for doubt, lenient in (
            (typo, policies(gpu=LENIENT)),
            (other, policies(LENIENT, LENIENT)),
        ):
            guest = guest_of(need_of(gpu("1.2")), bad_pins=(doubt,))
            assert codes(rule(guest, here, policies())) == [Code.PIN_UNREADABLE]
            assert rule(guest, here, lenient).accepts
        # One that names no family can be meant for any.
        guest = guest_of(need_of(gpu("1.2")), bad_pins=(other,))
        assert not rule(guest, here, policies(gpu=LENIENT)).accepts

    def test_what_is_said_of_a_pin(self):
        """What is wrong with it, and that its own family decides, or any where it has none."""

        def doubt(detail, **options):
            reason = Reason(code=Code.PIN_UNREADABLE, actor=Actor.OPERATOR, detail=detail)
            return Doubt(reason=reason, **options)

        of_gpu = BadPin("devcompat:gpu.versoin", "no such", family="gpu")
        assert ruling.doubt_of_pin(of_gpu) == doubt(
            "devcompat:gpu.versoin: no such", families=frozenset({"gpu"})
        )
        of_none = BadPin("devcompat:gup.version", "no such")
        assert ruling.doubt_of_pin(of_none) == doubt(
            "devcompat:gup.version: no such", anything=True
        )
        assert ruling.unreadable_pins("x") == doubt("x", anything=True)

    def test_a_pin_that_cannot_be_read_ends_no_decision(self):
        """The rest is judged, whatever the policy makes of the pin."""
        doubt = ruling.unreadable_pins("x")
        guest = guest_of(need_of(gpu("1.2")), bad_pins=(doubt,))
        here = given_one(gpu("1.0"))
        assert codes(rule(guest, here, policies(LENIENT, LENIENT))) == [Code.MINOR_TOO_OLD]

    def test_many_families_are_not_all_named(self):
        many = Policies(STRICT, {f"f{number}": STRICT for number in range(20)})
        (reason,) = rule(Guest(record=UNREADABLE), Given(), many).refused
        assert reason.detail.startswith("x; it can concern f0, f1, ")
        assert reason.detail.endswith(" and 12 more")

    @pytest.mark.parametrize(
        ("doubt", "count", "detail"),
        [
            (UNREADABLE, 2, "x; it can concern f0, f1"),
            (FAILED, 2, "it can concern f0, f1"),
            (FAILED, 8, "it can concern f0, f1, f2, f3, f4, f5, f6, f7"),
            (FAILED, 9, "it can concern f0, f1, f2, f3, f4, f5, f6, f7 and 1 more"),
        ],
    )
    def test_what_is_said_of_the_families(self, doubt, count, detail):
        some = Policies(STRICT, {f"f{number}": STRICT for number in range(count)})
        (reason,) = rule(Guest(record=doubt), Given(), some).refused
        assert reason.detail == detail


class TestHosts:
    def test_a_host_of_which_nothing_is_known(self):
        guest = guest_of(need_of(gpu("1.2")))
        (reason,) = rule(guest, Given(silent=SILENT), policies()).refused
        assert (reason.code, reason.family) == (Code.HOST_SILENT, "gpu")
        assert rule(guest, Given(silent=SILENT), policies(gpu=LENIENT)).accepts
        assert rule(guest_of(), Given(silent=SILENT), policies()) == ruling.Ruling()

    def test_no_record_is_unknown_there_too(self):
        guest = Guest(record=NO_RECORD)
        assert codes(rule(guest, Given(silent=SILENT), policies())) == [Code.NEED_MISSING]

    def test_devices_of_which_the_record_says_nothing_there(self):
        beside = Given(silent=SILENT, extras=(Extra(device=NOTHING_KNOWN),))
        assert codes(rule(guest_of(), beside, policies())) == [Code.HOST_SILENT]
        assert rule(guest_of(), beside, policies(LENIENT, LENIENT)).accepts
        assert rule(guest_of(keeps_devices=False), beside, policies()) == ruling.Ruling()

    def test_pins_there(self):
        pin = DeviceNeed.of("gpu", {"version": ["1.2"]})
        guest = Guest(pins=Need(devices=(pin,)), keeps_devices=False)
        assert codes(rule(guest, Given(silent=SILENT), policies())) == [Code.HOST_SILENT]

    def test_what_is_needed_of_the_host(self):
        guest = guest_of(MACHINE)
        ours = policies(qemu=STRICT)
        assert rule(guest, Given(host={"qemu": qemu("q1")}), ours).accepts
        assert codes(rule(guest, Given(host={"qemu": qemu("q2")}), ours)) == [Code.NOT_EQUAL]
        assert codes(rule(guest, Given(), ours)) == [Code.DEVICE_UNKNOWN]
        assert codes(rule(guest_of(), Given(host={"qemu": qemu("q1")}), ours)) == [
            Code.NEED_MISSING
        ]

    def test_what_may_be_needed_of_a_silent_host(self):
        ours = policies(qemu=STRICT)
        assert codes(rule(guest_of(), Given(silent=SILENT), ours)) == [Code.HOST_SILENT]
        assert codes(rule(guest_of(MACHINE), Given(silent=SILENT), ours)) == [Code.HOST_SILENT]
        (reason,) = rule(guest_of(), Given(silent=SILENT), ours).refused
        assert reason.family == "qemu"

    @pytest.mark.parametrize("policy", [REPORT, ANNOUNCE])
    def test_its_own_family_decides_what_is_made_of_it(self, policy):
        """Whatever is wrong with a part of the host, the default has no say in it."""
        ours = policies(qemu=policy, default=STRICT)
        pin = DeviceNeed.of("qemu", {"machine": ["q1"]}, slot=host_slot("qemu"))
        pinned = Guest(pins=Need(devices=(pin,)), keeps_devices=False)
        for guest, here in (
            (guest_of(MACHINE), Given(silent=SILENT)),
            (guest_of(), Given(silent=SILENT)),
            (guest_of(MACHINE), Given(host={"qemu": qemu("q2")})),
            (guest_of(MACHINE), Given()),
            (guest_of(), Given(host={"qemu": qemu("q1")})),
            (pinned, Given(host={"qemu": qemu("q2")})),
            (pinned, Given()),
        ):
            found = rule(guest, here, ours)
            assert found.accepts
            assert [reason.family for reason in found.reported] == ["qemu"] * (policy is REPORT)

    def test_what_is_pinned_of_the_host(self):
        pin = DeviceNeed.of("qemu", {"machine": ["q1"]}, slot=host_slot("qemu"))
        guest = Guest(pins=Need(devices=(pin,)), keeps_devices=False)
        ours = policies(qemu=STRICT)
        assert rule(guest, Given(host={"qemu": qemu("q1")}), ours).accepts
        assert codes(rule(guest, Given(host={"qemu": qemu("q2")}), ours)) == [Code.NOT_EQUAL]
        assert codes(rule(guest, Given(), ours)) == [Code.DEVICE_UNKNOWN]

    @pytest.mark.parametrize("family", ["gpu", ""])
    def test_what_of_a_host_cannot_be_read(self, family):
        broken = Reason(code=Code.HOST_UNREADABLE, actor=Actor.OPERATOR)
        here = given_one(nic("1.0"), unreadable={family: broken})
        guest = guest_of(need_of(nic("1.0")))
        (reason,) = rule(guest, here, policies()).refused
        assert (reason.code, reason.family) == (Code.HOST_UNREADABLE, family)
        lenient = policies(gpu=LENIENT) if family else policies(LENIENT, LENIENT)
        assert rule(guest, here, lenient).accepts


# --- a worse input never helps -------------------------------------------------------------------

devices = st.builds(gpu, st.sampled_from(VERSIONS)) | st.builds(nic, st.sampled_from(VERSIONS))
modes = st.sampled_from([STRICT, STRICT, REPORT, ANNOUNCE])
bad_family = st.sampled_from(["gpu", "nic", None])


@st.composite
def requests(draw):
    """A guest, and what it is given: devices of the families that it needs, perhaps others."""
    needs, claims = [], []
    for slot in (SLOT, OTHER_SLOT)[: draw(st.integers(0, 2))]:
        started = draw(st.lists(devices, min_size=1, max_size=2))
        needs += [need_of(device, slot) for device in started]
        make = {"gpu": gpu, "nic": nic}
        alike = [
            (make[device.family](draw(st.sampled_from(VERSIONS))),)
            for device in started
            if device.family
        ]
        alike += [(device,) for device in draw(st.lists(devices, max_size=1))]
        claims.append(
            Claim(slots=(slot,), devices=tuple(alike), order=draw(st.sampled_from(Order)))
        )
    if draw(st.booleans()):
        machine = draw(st.sampled_from(MACHINES))
        needs.append(qemu(machine).freeze(slot=host_slot("qemu")))
    pins = draw(
        st.lists(
            st.builds(
                lambda family, version: DeviceNeed.of(
                    family, {"version" if family == "gpu" else "fw": [version]}
                ),
                st.sampled_from(["gpu", "nic"]),
                st.sampled_from(VERSIONS),
            ),
            max_size=2,
            unique_by=lambda pin: pin.family,
        )
    )
    guest = Guest(record=Need(devices=tuple(needs)), pins=Need(devices=tuple(pins)))
    extras = tuple(Extra(device=(one,)) for one in draw(st.lists(devices, max_size=1)))
    machine = draw(st.none() | st.sampled_from(MACHINES))
    given_now = Given(
        claims=tuple(claims),
        extras=extras,
        complete=draw(st.booleans()),
        host={} if machine is None else {"qemu": qemu(machine)},
    )
    return guest, given_now


def without_record(data, guest, given_now):
    record = data.draw(st.sampled_from([NO_RECORD, UNREADABLE, FAILED]))
    return dataclasses.replace(guest, record=record), given_now


def garbled_pin(data, guest, given_now):
    if not guest.pins.devices:
        return guest, given_now
    pin = data.draw(st.sampled_from(guest.pins.devices))
    told = data.draw(st.booleans())
    doubt = ruling.doubt_of_pin(BadPin("k", "why", family=pin.family if told else None))
    pins = Need(devices=tuple(one for one in guest.pins.devices if one is not pin))
    return dataclasses.replace(guest, pins=pins, bad_pins=(doubt,)), given_now


def silenced(data, guest, given_now):
    """Beside are the devices that answer no need, as far as a candidate tells them."""
    surplus = sum(len(one.devices) for one in given_now.claims) - len(guest.need.assigned)
    beside = bool(given_now.extras) or surplus > 0
    extras = (Extra(device=NOTHING_KNOWN),) if beside else ()
    return guest, Given(silent=SILENT, extras=extras)


def device_lost(data, guest, given_now):
    """What the host says of one device cannot be read any more."""
    if not given_now.claims:
        return guest, given_now
    index = data.draw(st.integers(0, len(given_now.claims) - 1))
    one = given_now.claims[index]
    place = data.draw(st.integers(0, len(one.devices) - 1))
    ((device,),) = (one.devices[place],)
    lost = (*one.devices[:place], NOTHING_KNOWN, *one.devices[place + 1 :])
    claims = list(given_now.claims)
    claims[index] = dataclasses.replace(one, devices=lost)
    broken = Reason(code=Code.HOST_UNREADABLE, actor=Actor.OPERATOR)
    family = data.draw(st.sampled_from([device.family, ""]))
    return guest, dataclasses.replace(
        given_now, claims=tuple(claims), complete=False, unreadable={family: broken}
    )


def attribute_lost(data, guest, given_now):
    """The source of a device tells nothing of an attribute any more."""
    unknown = Evaluation(kind="semver", unknown=(Code.OFFER_MISSING, ""))

    def worse(choice):
        return tuple(
            dataclasses.replace(device, attributes=dict.fromkeys(device.attributes, unknown))
            for device in choice
        )

    claims = tuple(
        dataclasses.replace(one, devices=tuple(map(worse, one.devices)))
        for one in given_now.claims
    )
    return guest, dataclasses.replace(given_now, claims=claims)


def host_part_lost(data, guest, given_now):
    if not given_now.host:
        return guest, given_now
    broken = Reason(code=Code.HOST_UNREADABLE, actor=Actor.OPERATOR)
    family = data.draw(st.sampled_from(["qemu", ""]))
    return guest, dataclasses.replace(given_now, host={}, unreadable={family: broken})


WORSE = [
    without_record,
    garbled_pin,
    silenced,
    device_lost,
    attribute_lost,
    host_part_lost,
]


@settings(max_examples=scaled(300))
@given(st.data(), requests(), modes, modes, modes, st.sampled_from(WORSE))
def test_a_worse_input_never_helps(data, request_now, of_gpu, of_nic, of_qemu, worsen):
    """Design: "making any input less readable or less complete never turns a refusal into an
    acceptance where ``on_unknown`` is ``reject``".
    """
    guest, given_now = request_now
    ours = Policies(STRICT, {"gpu": of_gpu, "nic": of_nic}, {"qemu": of_qemu})
    before = rule(guest, given_now, ours)
    after = rule(*worsen(data, guest, given_now), ours)
    assert before.accepts or not after.accepts


@settings(max_examples=scaled(150))
@given(requests(), modes, modes, modes)
def test_a_part_more_never_helps(request_now, of_gpu, of_nic, of_qemu):
    """Parts only ever add reasons: nothing is outweighed by what else is known."""
    guest, given_now = request_now
    ours = Policies(STRICT, {"gpu": of_gpu, "nic": of_nic}, {"qemu": of_qemu})
    less = dataclasses.replace(guest, pins=Need())
    assert set(rule(less, given_now, ours).refused) <= set(rule(guest, given_now, ours).refused)


def resolved(claim):
    """What a claim may turn out to be: each device told, in each order."""
    for told in itertools.product(*claim.devices):
        for order in itertools.permutations(told):
            devices = tuple((device,) for device in order)
            yield dataclasses.replace(claim, devices=devices, order=Order.GIVEN)


@pytest.mark.parametrize("needed", itertools.product(("1.0", "1.2", "2.0"), repeat=2))
def test_whichever_it_is_given(needed):
    """That holds exactly where each device, in each order, will do, for needs and for pins."""
    offers = [gpu(version) for version in ("1.0", "1.2", "2.0")]
    choices = [*itertools.combinations(offers, 1), *itertools.combinations(offers, 2)]
    runs_on = guest_of(*(need_of(gpu(version)) for version in needed))
    pins = Need(devices=(DeviceNeed.of("gpu", {"version": [needed[0]]}),))
    anew = Guest(pins=pins, keeps_devices=False)
    accepted = []
    for devices in itertools.product(choices, repeat=2):
        untold = Claim(slots=(SLOT,), devices=devices)
        for guest in (runs_on, anew):
            told = rule(guest, Given(claims=(untold,), whichever=True, complete=True), policies())
            each = [
                rule(guest, Given(claims=(one,), complete=True), policies()).accepts
                for one in resolved(untold)
            ]
            assert told.accepts is all(each)
            accepted.append(told.accepts)
    assert set(accepted) == {True, False}


def test_whichever_it_is_given_in_an_order_that_is_told():
    """The first answers the first need, whatever the second is."""
    told = Claim(
        slots=(SLOT,), devices=((gpu("1.0"),), (gpu("1.0"), gpu("1.2"))), order=Order.GIVEN
    )
    given_now = Given(claims=(told,), whichever=True, complete=True)
    for needed, accepts in (
        (("1.0", "1.0"), True),
        (("1.0", "1.2"), False),
        (("1.2", "1.0"), False),
    ):
        guest = guest_of(*(need_of(gpu(version)) for version in needed))
        assert rule(guest, given_now, policies()).accepts is accepts


def test_whichever_part_has_no_record():
    """Of several families that a device may be of, the one that is objected to most."""
    device = Extra(device=(gpu("1.2"), nic("1.2")))
    lenient = policies(nic=LENIENT)
    assert rule(guest_of(), Given(extras=(device,)), lenient).accepts
    assert not rule(guest_of(), Given(extras=(device,), whichever=True), lenient).accepts
    perhaps = Extra(device=(gpu("1.2"), None))
    assert rule(guest_of(), Given(extras=(perhaps,)), policies()).accepts
    assert not rule(guest_of(), Given(extras=(perhaps,), whichever=True), policies()).accepts
    surplus = claim(gpu("1.2"), gpu("1.2"))
    for whichever in (False, True):
        given_now = Given(claims=(surplus,), whichever=whichever, complete=True)
        assert not rule(guest_of(need_of(gpu("1.2"))), given_now, policies()).accepts


def test_only_the_ruling_holds_needs_against_devices():
    """``compat.judging`` is for it alone, so that nobody composes verdicts beside it."""
    import pathlib

    package = pathlib.Path(ruling.__file__).parents[1]
    users = {
        path.name
        for path in package.rglob("*.py")
        if "judging" in path.read_text() and path.name != "judging.py"
    }
    assert users == {"ruling.py"}


def test_what_cannot_be_read_concerns_whom_it_may():
    problems = {
        family: Reason(code=Code.HOST_UNREADABLE, actor=Actor.OPERATOR, family=family)
        for family in ("gpu", "qemu", "")
    }

    def concerned(guest, **kwargs):
        return sorted(guest.concerned_by(problems, **kwargs))

    needs = Guest(record=Need(devices=(gpu("1.2").freeze(slot="rc:VGPU"),)))
    assert concerned(needs) == ["", "gpu"]
    assert concerned(needs, hosts=frozenset({"qemu"})) == ["", "gpu", "qemu"]
    assert concerned(needs, devices=True) == ["", "gpu", "qemu"]
    nothing = Guest(record=Need(), keeps_devices=False)
    assert concerned(nothing, hosts=frozenset({"qemu"})) == []
