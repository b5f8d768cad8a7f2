# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What guests need of their host, by what they use."""

import pytest

from nova_devcompat.compat import kinds, uses
from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.machines import is_versioned
from nova_devcompat.compat.need import DeviceNeed, Need, host_slot
from nova_devcompat.compat.pins import parse_pins
from nova_devcompat.compat.policy import Policies, Policy
from nova_devcompat.compat.ruling import Given, Guest, verdicts
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.uses import Use
from nova_devcompat.compat.verdict import Code, Outcome

HYPERVISOR = Family(
    name="hypervisor",
    rules={"machine": kinds.OneOf(), "version": kinds.Ordered(), "caps": kinds.Superset()},
    subject=Subject.HOST,
)
TABLE = (
    Use(xpath="machine", takes="machine", aliases="aliases"),
    Use(xpath="old", requires={"version": frozenset({"3.0.0"})}),
    Use(xpath="new", requires={"version": frozenset({"4.10.0"}), "caps": frozenset({"a"})}),
    Use(xpath="other", requires={"caps": frozenset({"b"})}),
)
FACTS = {
    "machine": ["pc-q35-8.1", "pc-q35-8.2"],
    "version": "9.0.0",
    "caps": ["a", "b"],
    "aliases": {"q35": "pc-q35-8.2", "gone": "pc-q35-2.0", "odd": ["pc-q35-8.2"]},
}
SLOT = host_slot("hypervisor")


def used(facts=FACTS, **found):
    domain = {name: frozenset(texts) for name, texts in found.items()}
    return uses.used(
        TABLE, HYPERVISOR.offer(facts), facts, lambda xpath: domain.get(xpath, frozenset())
    )


def need(facts=FACTS, **found):
    return HYPERVISOR.offer(facts).freeze_used(used(facts, **found), slot=SLOT)


def test_what_is_not_used_is_not_needed():
    assert used() == {}
    assert dict(need().values) == {"machine": set(), "version": set(), "caps": set()}
    nothing = HYPERVISOR.offer({"machine": ["none"], "version": "0.1", "caps": []})
    assert nothing.judge(need()).outcome is Outcome.ACCEPT


def test_each_row_asks_for_its_own():
    assert used(old=["x"]) == {"version": {"3.0.0"}}
    assert used(other=["x"]) == {"caps": {"b"}}
    assert used(new=[""]) == {"version": {"4.10.0"}, "caps": {"a"}}


def test_of_several_the_highest():
    assert used(old=["x"], new=["x"], other=["x"]) == {"version": {"4.10.0"}, "caps": {"a", "b"}}


@pytest.mark.parametrize(
    ("rule", "values", "left"),
    [
        (kinds.Ordered(), ["3.0.0", "10.0.0", "4.10.0"], {"10.0.0"}),
        (kinds.Ordered(), ["4.10", "4.10.0"], {"4.10"}),
        (kinds.Semver(), ["2.4", "2.6", "3.1"], {"2.6", "3.1"}),
        (kinds.Equal(), ["a", "b"], {"a", "b"}),
        (kinds.Superset(), ["a", "b"], {"a", "b"}),
        (kinds.AtLeast(), ["8", "16"], {"16"}),
        (kinds.Range(), ["7.1"], {"7.1"}),
        (kinds.Ordered(), [], set()),
    ],
)
def test_highest(rule, values, left):
    assert uses.highest(rule, values) == left
    assert uses.highest(rule, reversed(values)) == left


def test_a_canonical_value_is_taken_as_it_is():
    assert used(machine=["pc-q35-8.1"]) == {"machine": {"pc-q35-8.1"}}


def test_an_alias_never_leaks():
    assert used(machine=["q35"]) == {"machine": {"pc-q35-8.2"}}
    # What it stands for is not there, is no text, or is not known.
    for alias in ("gone", "odd", "pc", ""):
        assert used(machine=[alias]) == {"machine": None}
    without = {key: value for key, value in FACTS.items() if key != "aliases"}
    assert used(without, machine=["q35"]) == {"machine": None}


def test_a_host_that_does_not_say_what_it_has():
    silent = {"aliases": {"q35": "pc-q35-8.2"}}
    assert used(silent, machine=["pc-q35-8.2"]) == {"machine": None}
    # What a use requires, the table says.
    assert dict(need(silent, old=["x"]).values)["version"] == {"3.0.0"}


def test_a_value_that_cannot_be_told_stays_so():
    table = (*TABLE, Use(xpath="more", requires={"machine": frozenset({"pc-q35-8.1"})}))
    found = uses.used(table, HYPERVISOR.offer(FACTS), FACTS, lambda xpath: frozenset({"pc"}))
    assert found["machine"] is None


def test_what_of_its_own_a_host_cannot_tell():
    """Which of several machine types it uses."""
    table = (Use(xpath="x", own="machine"),)
    offer = HYPERVISOR.offer(FACTS)
    assert uses.used(table, offer, FACTS, lambda _: frozenset("x")) == {"machine": None}


def test_a_domain_that_cannot_be_read():
    unknown = uses.used(TABLE, HYPERVISOR.offer(FACTS), FACTS, None)
    assert unknown == {"machine": None, "version": None, "caps": None}
    frozen = HYPERVISOR.offer(FACTS).freeze_used(unknown, slot=SLOT)
    verdict = HYPERVISOR.offer(FACTS).judge(frozen)
    assert verdict.outcome is Outcome.UNKNOWN
    assert {reason.code for reason in verdict.reasons} == {Code.NEED_UNKNOWN}


def test_a_guest_can_stay_where_it_runs_whatever_the_table_says():
    old = {**FACTS, "version": "2.9.0"}  # with the feature ported back
    frozen = need(old, new=["x"])
    assert dict(frozen.values)["version"] == {"2.9.0"}
    assert HYPERVISOR.offer(old).judge(frozen).outcome is Outcome.ACCEPT


def test_most():
    offer = HYPERVISOR.offer({**FACTS, "version": "4.0.0"})
    # It is too old for 4.10.0, so what it has itself is needed of the next.
    assert uses.most(TABLE, offer) == {"machine": None, "version": {"4.0.0"}, "caps": {"a", "b"}}


def test_announced():
    assert uses.announced(HYPERVISOR, TABLE) == {
        Atom("hypervisor", "version", "3.0.0"),
        Atom("hypervisor", "version", "4.10.0"),
        Atom("hypervisor", "caps", "a"),
        Atom("hypervisor", "caps", "b"),
    }


def test_needs_of_the_host_stand_beside_those_of_devices():
    of_host = need(machine=["pc-q35-8.2"])
    of_device = DeviceNeed.of("nic", {"fw": ["1.2"]}, slot="pci:1", address="0000:81:00.1")
    whole = Need(devices=(of_device, of_host))
    assert of_host.of_host and not of_device.of_host
    assert (whole.assigned, whole.host) == ((of_device,), (of_host,))
    assert whole.by_slot() == {"pci:1": [of_device]}
    assert Need(devices=(of_device,)).completed(whole).host == (of_host.assuming(),)
    assert whole.completed(whole) == whole


def on_host(guest, *offers):
    """The verdicts on a guest on a host that is this."""
    atoms = guest.need.atoms | guest.pins.atoms
    host = {offer.family.name: offer.accept_set(atoms) for offer in offers}
    return [verdict for _, verdict in verdicts(guest, Given(host=host), Policies(Policy()))]


def test_what_a_guest_needs_of_its_host():
    taken = need(machine=["pc-q35-8.2"])
    guest = Guest(record=Need(devices=(taken,)))
    new, old = HYPERVISOR.offer(FACTS), HYPERVISOR.offer({**FACTS, "machine": ["pc-q35-8.1"]})
    assert on_host(guest, new) == [new.judge(taken)]
    for offers, code in (([old], Code.NOT_IN_SET), ([], Code.DEVICE_UNKNOWN)):
        (verdict,) = on_host(guest, *offers)
        assert [reason.code for reason in verdict.reasons] == [code]
    (missing,) = on_host(Guest(), new)
    assert [reason.code for reason in missing.reasons] == [Code.NEED_MISSING]
    assert on_host(Guest(keeps_devices=False), new) == []


def test_pins():
    pins = parse_pins({"devcompat:hypervisor.machine": "pc-q35-8.2"}, {"hypervisor": HYPERVISOR})
    assert [pin.slot for pin in pins.host] == [SLOT]
    guest = Guest(pins=pins, keeps_devices=False)
    assert [verdict.outcome for verdict in on_host(guest, HYPERVISOR.offer(FACTS))] == ["accept"]
    assert [verdict.outcome for verdict in on_host(guest)] == ["unknown"]


# --- what the guest's own host has ---------------------------------------------------------------

MACHINES = Family(
    name="machines",
    rules={"machine": kinds.OneOf(), "qemu": kinds.Same(), "build": kinds.Origin()},
    subject=Subject.HOST,
)
OWN = (
    Use(xpath="machine", takes="machine", unversioned="qemu", aliases="aliases"),
    Use(xpath="any", own="build"),
)
HOST = {
    "machine": ["pc-q35-8.2", "microvm"],
    "qemu": "8.2.2",
    "build": "8.2.2-1",
    "aliases": {"q35": "pc-q35-8.2", "small": "microvm"},
}


def own(facts=HOST, **found):
    domain = {name: frozenset([text]) for name, text in found.items()}
    return uses.used(OWN, MACHINES.offer(facts), facts, lambda path: domain.get(path, frozenset()))


def test_a_row_can_ask_for_what_the_host_has():
    assert own(any="yes") == {"build": {"8.2.2-1"}}
    assert own({**HOST, "build": None}, any="yes") == {"build": None}


@pytest.mark.parametrize("machine", ["microvm", "small"])
def test_a_machine_without_a_version_needs_the_qemu_of_its_host(machine):
    assert own(machine=machine) == {"machine": {"microvm"}, "qemu": {"8.2.2"}}


@pytest.mark.parametrize("machine", ["pc-q35-8.2", "q35"])
def test_a_machine_with_a_version_does_not(machine):
    """An alias neither: it counts as what it stands for."""
    assert own(machine=machine) == {"machine": {"pc-q35-8.2"}}


def test_on_paper_a_guest_needs_what_its_host_is_too_old_for_the_others():
    table = (*OWN, Use(xpath="new", requires={"qemu": frozenset({"9.0.0"})}))
    most = uses.most(table, MACHINES.offer(HOST))
    assert most == {"machine": None, "build": {"8.2.2-1"}, "qemu": {"8.2.2"}}


def test_on_paper_no_guest_is_stuck_below_a_floor():
    floors = Family(name="f", rules={"v": kinds.Floor(at="8.6")}, subject=Subject.HOST)
    table = (Use(xpath="mdev", requires={"v": frozenset({"met"})}),)
    assert uses.most(table, floors.offer({"v": "8.0"})) == {}
    assert uses.most(table, floors.offer({"v": "8.6"})) == {"v": {"met"}}
    old = floors.offer({"v": "8.0"})
    need = old.freeze_used(uses.used(table, old, {}, lambda path: frozenset({"x"})))
    assert dict(need.values) == {"v": {"unmet"}}


@pytest.mark.parametrize(
    ("name", "versioned"),
    [
        ("pc-q35-8.2", True), ("pc-0.14", True), ("pc-i440fx-rhel7.6.0", True),
        ("rhel6.6.0", True), ("s390-ccw-virtio-9.0", True), ("s390-ccw-virtio-noble", True),
        ("virt-8.2", True),
        ("pseries-9.1", True), ("pc-i440fx-bionic-hpb", True), ("xenfv-4.2", True),
        ("pc-q35-noble", True), ("ubuntu-q35", False), ("ubuntu", False), ("q35", False),
        ("pc", False), ("virt", False), ("microvm", False), ("s390-ccw-virtio", False),
        ("pseries", False), ("isapc", False), ("x-remote", False), ("raspi3b", False),
        ("vexpress-a15", False), ("pc-q35", False), ("pc-i440fx", False), ("none", False),
    ],
)  # fmt: skip
def test_which_machine_types_have_a_version(name, versioned):
    assert is_versioned(name) is versioned


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("q35", "is an alias or has no version"),
        ("virt", "is an alias or has no version"),
        ("PC-Q35-8.2", "is in another case than QEMU's; write pc-q35-8.2"),
    ],
)
def test_pins_of_machine_types_that_no_host_can_meet(text, why):
    rule = kinds.OneOf(versioned=True)
    assert rule.parse_pin(" pc-q35-8.2 ") == {"pc-q35-8.2"}
    with pytest.raises(Unreadable, match=why):
        rule.parse_pin(text)
    assert kinds.OneOf().parse_pin(text) == {text}
