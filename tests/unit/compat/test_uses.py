# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What guests need of their host, by what they use."""

import pytest

from nova_devcompat.compat import kinds, uses
from nova_devcompat.compat.family import Family, Subject
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
    assert uses.most(TABLE, offer) == {"machine": None, "version": {"3.0.0"}, "caps": {"a", "b"}}


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
