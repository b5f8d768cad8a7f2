# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What holds for every need, offer and catalog. Quotations are from the design document."""

import itertools
import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.attributes import Unreadable, compare_versions
from nova_devcompat.compat.judging import (
    judge_any_order,
    judge_claim,
    judge_each,
    no_offer,
)
from nova_devcompat.compat.kinds import Ordered
from nova_devcompat.compat.need import DeviceNeed, assign
from nova_devcompat.compat.policy import Ruling
from nova_devcompat.compat.ruling import Extra, Given, Guest, required_atoms, rule
from nova_devcompat.compat.traits import PREFIX, Atom, TraitTooLong, decode, encode
from nova_devcompat.compat.verdict import Outcome, Verdict
from tests.unit.compat import strategies as mine
from tests.unit.compat.support import family_of


def readable(rule, raw):
    """The offer, or an example that hypothesis drops."""
    try:
        return rule.parse_offer(raw)
    except Unreadable:
        return assume(False)


# --- The three lines of defence ------------------------------------------------------------------


def rule_on(need, claim, judge_group, policy):
    """The ruling on a claim, slot by slot, as both admission and the filter come to it."""
    return Ruling.of(
        (policy(one.family), verdict)
        for slot, group in need.by_slot().items()
        for one, verdict in zip(group, judge_group(group, claim[slot]), strict=True)
    )


@st.composite
def claims(draw, need, host):
    """For each slot as many devices as it needs, mostly of the family asked for.

    Now and then one is of another family, or one that the host says nothing of, or there is one
    too many or too few.
    """
    claim = {}
    for slot, group in need.by_slot().items():
        devices = []
        for one in group:
            alike = [offer for offer in host if offer.family.name == one.family]
            odd = [*host, None] if not alike or not draw(st.integers(0, 7)) else []
            devices.append(draw(st.sampled_from(odd or alike)))
        dice = draw(st.integers(0, 9))
        if dice == 1:
            devices.append(draw(st.sampled_from(host)))
        elif dice == 2:
            devices.pop()
        claim[slot] = draw(st.permutations(devices))
    return claim


@given(st.data(), mine.fleets())
def test_admission_filter_prefilter(data, fleet):
    """Design: "admission accepts => filter accepts => prefilter accepts, for every need, offer and
    catalog."

    Admission knows the devices claimed, and perhaps which takes the place of which. The filter
    knows the accept-sets that the host published, over all atoms known in the cloud. The prefilter
    knows the union of what the host's devices accept.
    """
    need, _ = data.draw(mine.guests(data.draw(st.sampled_from(fleet.hosts))))
    host = data.draw(st.sampled_from(fleet.hosts))
    claim = data.draw(claims(need, host))
    known = fleet.atoms | need.atoms
    published = {id(offer): offer.accept_set(known) for offer in host}

    def own(device):
        return no_offer if device is None else device.judge

    def said(device):
        return no_offer if device is None else published[id(device)].judge

    def in_pairs(group, devices):
        assume(len(devices) >= len(group))
        return [own(device)(one) for one, device in zip(group, devices, strict=False)]

    def in_any_order(group, devices):
        return judge_any_order(group, [own(device) for device in devices])

    def in_some_order(group, devices):
        return judge_claim(group, [own(device) for device in devices], fleet.policy)

    def by_what_is_published(group, devices):
        return judge_claim(group, [said(device) for device in devices], fleet.policy)

    def by_the_whole_host(group, devices):
        families = {one.family for one in group}
        judges = [published[id(offer)].judge for offer in host if offer.family.name in families]
        return judge_each(group, judges, fleet.policy)

    admission = data.draw(st.sampled_from([in_pairs, in_any_order, in_some_order]))
    admitted = rule_on(need, claim, admission, fleet.policy).accepts
    filtered = rule_on(need, claim, by_what_is_published, fleet.policy).accepts
    union = frozenset().union(*(accepts.atoms for accepts in published.values()))
    prefiltered = required_atoms(Guest(record=need), fleet.all_policies) <= union

    assert not admitted or filtered
    assert not filtered or prefiltered

    # A request that placement does not track is filtered by all devices of the host.
    filtered = rule_on(need, claim, by_the_whole_host, fleet.policy).accepts
    if all(device is not None for devices in claim.values() for device in devices):
        assert not admitted or filtered
    assert not filtered or prefiltered


@given(st.data(), mine.fleets())
def test_prefilter_is_sound(data, fleet):
    """Design: "Sound: it never removes a host that would accept, catalogue lag aside."

    Whatever devices are claimed there, and whatever the filter makes of them.
    """
    need, _ = data.draw(mine.guests(data.draw(st.sampled_from(fleet.hosts))))
    host = data.draw(st.sampled_from(fleet.hosts))
    asked = [one for one in need.devices if fleet.policy(one.family).asks_placement]
    would_accept = all(
        any(offer.judge(one).outcome is Outcome.ACCEPT for offer in host) for one in asked
    )
    published = (offer.accept_set(fleet.atoms | need.atoms).atoms for offer in host)
    union = frozenset(atom for accepted in published for atom in accepted)
    assert not would_accept or required_atoms(Guest(record=need), fleet.all_policies) <= union


@given(st.data(), mine.fleets())
def test_what_is_left_to_the_filter_is_not_asked(data, fleet):
    """Design: "for a family with on_unknown: accept (and in report mode) the prefilter asks
    nothing and leaves the decision to the filter."
    """
    need, _ = data.draw(mine.guests(data.draw(st.sampled_from(fleet.hosts))))
    asked = {atom.family for atom in required_atoms(Guest(record=need), fleet.all_policies)}
    for family in asked:
        assert fleet.policy(family).enforced
        assert fleet.policy(family).refuses(no_offer(DeviceNeed.of(family, {})))


@given(st.data(), mine.fleets())
def test_the_filter_decides_as_admission_would(data, fleet):
    """Design: "three lines of defence, each exact where the one before is coarse": where the atoms
    were evaluated, an accept-set's verdict on a device is the offer's, reasons and all.
    """
    need, _ = data.draw(mine.guests(data.draw(st.sampled_from(fleet.hosts))))
    offer = data.draw(st.sampled_from(data.draw(st.sampled_from(fleet.hosts))))
    accepts = offer.accept_set(fleet.atoms | need.atoms)
    for one in need.devices:
        assert accepts.judge(one) == offer.judge(one)
        # Order and repetition of atoms change nothing, and neither do those of other families.
        assert offer.accept_set([*sorted(need.atoms), *need.atoms]).judge(one) == offer.judge(one)


@given(st.data(), mine.fleets())
def test_lag_is_unknown_and_never_wrong(data, fleet):
    """Design: "catalogue lag aside": fewer atoms evaluated leave a verdict as it is, or make of
    ACCEPT or of a REJECT something less certain, never the other way.
    """
    need, _ = data.draw(mine.guests(data.draw(st.sampled_from(fleet.hosts))))
    offer = data.draw(st.sampled_from(data.draw(st.sampled_from(fleet.hosts))))
    some = data.draw(st.sets(st.sampled_from(sorted(need.atoms)))) if need.atoms else set()
    for one in need.devices:
        whole, partial = offer.judge(one).outcome, offer.accept_set(some).judge(one).outcome
        assert partial in (whole, Outcome.UNKNOWN)


@given(st.data(), mine.fleets())
def test_the_lines_of_defence_of_pins(data, fleet):
    """Design: "admission accepts => filter accepts => prefilter accepts", for what flavors pin.

    nova-compute knows the devices given to the guest, some of them of no family. The filter knows
    either the same devices' accept-sets, or only that some of the host's may be meant.
    """
    pinned = data.draw(mine.pins(fleet))
    host = data.draw(st.sampled_from(fleet.hosts))
    given_devices = data.draw(st.lists(st.sampled_from([*host, None]), max_size=4))
    known = fleet.atoms | pinned.atoms
    published = {id(offer): offer.accept_set(known) for offer in host}
    guest = Guest(pins=pinned, keeps_devices=False)

    def ruling(choices, **given):
        extras = tuple(Extra(device=choice) for choice in choices)
        return rule(guest, Given(extras=extras, **given), fleet.all_policies)

    def own(device):
        return () if device is None else (device.accept_set(pinned.atoms),)

    def said(device):
        return () if device is None else (published[id(device)],)

    admitted = ruling(map(own, given_devices), complete=True)
    filtered = ruling(map(said, given_devices), complete=True)
    anything = ruling([], others=tuple(published.values()), complete=None not in given_devices)
    union = frozenset().union(*(accepts.atoms for accepts in published.values()))
    prefiltered = required_atoms(guest, fleet.all_policies) <= union

    assert admitted == filtered
    assert not admitted.accepts or anything.accepts
    assert not anything.accepts or prefiltered


# --- Where a guest can stay, and where it can go back --------------------------------------------


@given(st.data(), mine.fleets(one_catalog=True))
def test_a_guest_can_always_stay(data, fleet):
    """Design: "for a need N frozen on offer O: O accepts N (a guest can always stay where it
    started)", where N is known.
    """
    host = data.draw(st.sampled_from(fleet.hosts))
    need, given_devices = data.draw(mine.guests(host))
    for one, offer in zip(need.devices, given_devices, strict=True):
        verdict = offer.judge(one)
        if all(listed is not None for _, listed in one.values):
            assert verdict.outcome is Outcome.ACCEPT
        else:
            assert verdict.outcome is Outcome.UNKNOWN


@given(st.data(), mine.fleets(one_catalog=True))
def test_a_guest_can_stay_with_several_devices(data, fleet):
    """Design: "a guest can always stay where it started", in whatever order its devices come."""
    host = data.draw(st.sampled_from(fleet.hosts))
    need, given_devices = data.draw(mine.guests(host))
    position = {id(one): index for index, one in enumerate(need.devices)}
    for group in need.by_slot().values():
        own = [given_devices[position[id(one)]] for one in group]
        shuffled = data.draw(st.permutations(own))
        known = all(listed is not None for one in group for _, listed in one.values)
        expected = Outcome.ACCEPT if known else Outcome.UNKNOWN
        judges = [offer.judge for offer in shuffled]
        for verdicts in (
            judge_claim(group, judges, fleet.policy),
            judge_each(group, judges, fleet.policy),
        ):
            assert Verdict.all_of(verdicts).outcome is expected


@given(st.data(), mine.fleets(one_catalog=True))
def test_a_pinned_guest_can_always_stay(data, fleet):
    """Design: "a guest can always stay where it started", recorded as needing what its flavor pins
    or, where the device refuses that, what it would need without.
    """
    offer = data.draw(st.sampled_from(data.draw(st.sampled_from(fleet.hosts))))
    pinned = {pin.family: pin for pin in data.draw(mine.pins(fleet)).devices}
    pin = pinned.get(offer.family.name)
    need = offer.freeze(pin=pin)
    assert offer.judge(need).outcome is not Outcome.REJECT
    own = dict(offer.freeze().values)
    for attribute, values in need.values:
        assert values in (own[attribute], dict(pin.values if pin else ()).get(attribute))


@given(st.data(), mine.fleets(one_catalog=True))
def test_no_ratchet(data, fleet):
    """Design: "acceptance never depends on the offer of the host the guest is on now: after a
    migration to a newer host the guest can go back."
    """
    everywhere = [offer for host in fleet.hosts for offer in host]
    known = [offer for offer in everywhere if None not in dict(offer.freeze().values).values()]
    assume(known)
    start = data.draw(st.sampled_from(known))
    need = start.freeze(slot="pci:one", address="0000:81:00.0")
    at_first = [offer.judge(need) for offer in everywhere]
    guest = need
    for offer in everywhere:
        if offer.judge(guest).outcome is Outcome.ACCEPT:
            guest = guest.moved(data.draw(st.sampled_from(["", "0000:41:00.0"])))
            # Kept as it is, never raised to the new host's version: nothing is decided otherwise.
            assert guest.atoms == need.atoms
            assert [other.judge(guest) for other in everywhere] == at_first
    assert start.judge(guest).outcome is Outcome.ACCEPT


# --- Rules ---------------------------------------------------------------------------------------


@given(st.data(), mine.kinds)
def test_an_offer_meets_what_is_frozen_from_it(data, kind):
    """Design: "O accepts N": and each atom that a host creates for its own offer, which is how the
    traits exist "long before a guest depends on them".
    """
    offer = family_of(kind.rule).offer({"attribute": data.draw(kind.offers)})
    assume(offer.parsed)
    accepts = offer.accept_set(offer.atoms())
    assert accepts.atoms == offer.atoms()
    assert offer.freeze().atoms <= offer.atoms()


@given(st.data(), mine.kinds)
def test_needs_are_frozen_canonical(data, kind):
    """Design: "different atoms never share a trait name": so equal needs must be equal atoms."""
    offer = readable(kind.rule, data.draw(kind.offers))
    for value in kind.rule.values(offer):
        assert kind.rule.canonical(value) == value


@given(st.data(), mine.kinds)
def test_canonical(data, kind):
    """``canonical`` of a canonical text is that text, and no verdict depends on the spelling."""
    text = data.draw(mine.needs(kind))
    offer = readable(kind.rule, data.draw(kind.offers))
    try:
        canonical = kind.rule.canonical(text)
    except Unreadable:
        with pytest.raises(Unreadable):
            kind.rule.parse_need(text)
        return
    assert kind.rule.canonical(canonical) == canonical
    assert canonical
    check, parse = kind.rule.check, kind.rule.parse_need
    assert check(offer, parse(canonical)) == check(offer, parse(text))


@given(st.data(), mine.kinds)
def test_pins_are_canonical(data, kind):
    """A pin's values are such as a need frozen from a device has, whatever the operator wrote."""
    text = data.draw(mine.needs(kind) | st.lists(mine.needs(kind), max_size=3).map(",".join))
    try:
        values = kind.rule.parse_pin(text)
    except Unreadable as error:
        assert error.why in str(error)
        return
    assert values
    assert {kind.rule.canonical(value) for value in values} == values


@given(mine.kinds, mine.json_like)
def test_nothing_but_unreadable_is_raised(kind, value):
    """Design: "Whatever is missing or unreadable gives UNKNOWN for that rule": whatever a source
    reads or a record says, no rule raises anything else.
    """
    for read in (kind.rule.parse_offer, kind.rule.parse_need, kind.rule.canonical):
        try:
            parsed = read(value)
        except Unreadable as error:
            assert error.why in str(error)
        else:
            assert parsed is not None


@given(mine.kinds, mine.json_like)
def test_no_offer_raises(kind, value):
    """Design: "never raises for what they hold": reading, freezing, publishing and judging."""
    offer = family_of(kind.rule).offer({"attribute": value})
    need = offer.freeze()
    assert bool(offer.parsed) is not bool(offer.unknown)
    assert offer.judge(need).outcome is not Outcome.REJECT
    assert str(offer.judge(need))
    assert all(encode(atom).startswith(PREFIX) for atom in offer.atoms() if len(atom.value) < 20)


@given(st.data(), mine.kinds, mine.json_like)
def test_unreadable_needs_decide_nothing(data, kind, value):
    """Design: "Whatever is missing or unreadable gives UNKNOWN": for needs too."""
    text = data.draw(mine.any_text)
    assume(text)
    offer = family_of(kind.rule).offer({"attribute": data.draw(kind.offers)})
    verdict = offer.judge(DeviceNeed.of("device", {"attribute": [text]}))
    try:
        kind.rule.parse_need(text)
    except Unreadable:
        assert verdict.outcome is Outcome.UNKNOWN


@given(st.data(), mine.orderings)
def test_orderings_are_total(data, kind):
    """Design: "offer >= need under the named ordering": reflexive, antisymmetric and transitive.

    rpm's own comparison holds to that, odd as some of it is (1b.fc17 < 1.fc17 < 1g.fc17). Numeric
    versions of which it cannot be told are left to test_builds.
    """
    ordering = kind.rule
    assert isinstance(ordering, Ordered)
    one, two, three = (readable(ordering, data.draw(kind.needs)) for _ in range(3))
    for a, b in itertools.permutations([one, two, three], 2):
        refusal = ordering.check(a, b)
        assume(refusal is None or refusal.certain)

    def meets(offer, need):
        return ordering.check(offer, need) is None

    assert meets(one, one)
    assert meets(one, two) or meets(two, one)
    for a, b, c in itertools.permutations([one, two, three]):
        if meets(a, b) and meets(b, c):
            assert meets(a, c)
        if meets(a, b) and meets(b, a):
            # Equal ones are equal to everybody.
            assert meets(a, c) is meets(b, c)
            assert meets(c, a) is meets(c, b)


_version = st.lists(st.integers(0, 3), max_size=4).map(tuple)


@given(_version, _version)
def test_a_part_that_is_not_there_counts_as_zero(left, right):
    assert compare_versions(left, right) == -compare_versions(right, left)
    assert compare_versions(left, (*left, 0)) == 0
    padded = [(*one, 0, 0, 0, 0)[:4] for one in (left, right)]
    assert compare_versions(left, right) == (padded[0] > padded[1]) - (padded[0] < padded[1])


# --- Traits --------------------------------------------------------------------------------------


@given(mine.atoms)
def test_decode_encode(atom):
    """Design: "decode(encode(atom)) == atom"; "Over 255 characters is an error at publish time,
    never a truncation."
    """
    try:
        name = encode(atom)
    except TraitTooLong as error:
        assert error.length > 255
        return
    assert re.fullmatch("CUSTOM_[A-Z0-9_]+", name)
    assert len(name) <= 255
    assert decode(name) == atom


_tricky = st.text(".-_aA05F", min_size=1, max_size=6)


@given(_tricky, _tricky)
@example(".", "_")
@example("..", "._")
@example("a.", "a_")
def test_different_atoms_never_share_a_name(one, other):
    """Design: "different atoms never share a trait name"."""
    names = encode(Atom("f", "a", one)), encode(Atom("f", "a", other))
    assert (names[0] == names[1]) is (one == other)


@given(mine.atoms, mine.atoms)
def test_whole_atoms_never_share_a_name(one, other):
    """Design: "different atoms never share a trait name", families and attributes that differ
    included.
    """
    assume(len(one.value) < 20 and len(other.value) < 20)
    assert (encode(one) == encode(other)) is (one == other)


@given(
    st.text("AF0_2E", max_size=16).map(f"{PREFIX}F__A__".__add__)
    | st.text("AF0_", max_size=16).map(PREFIX.__add__)
    | mine.any_text.map(PREFIX.__add__)
    | mine.any_text
)
def test_decode_takes_what_encode_makes_and_nothing_else(name):
    """Design: "Traits under our prefix that do not decode, whoever wrote them, are ignored"."""
    atom = decode(name)
    assert atom is None or encode(atom) == name


# --- Verdicts ------------------------------------------------------------------------------------

_verdicts = st.lists(mine.verdicts, max_size=5)


@given(st.data(), _verdicts)
def test_all_of_does_not_depend_on_the_order(data, verdicts):
    shuffled = Verdict.all_of(data.draw(st.permutations(verdicts)))
    whole = Verdict.all_of(verdicts)
    assert shuffled.outcome is whole.outcome
    assert set(shuffled.reasons) == set(whole.reasons)


@given(_verdicts, _verdicts)
def test_all_of_does_not_depend_on_the_grouping(left, right):
    grouped = Verdict.all_of([Verdict.all_of(left), Verdict.all_of(right)])
    whole = Verdict.all_of([*left, *right])
    assert grouped.outcome is whole.outcome
    assert set(grouped.reasons) == set(whole.reasons)


@given(_verdicts)
def test_all_of_loses_no_reason_and_repeats_none(verdicts):
    whole = Verdict.all_of(verdicts)
    assert set(whole.reasons) == {reason for one in verdicts for reason in one.reasons}
    assert len(set(whole.reasons)) == len(whole.reasons)
    assert whole.severity == max((one.severity for one in verdicts), default=0)


@given(st.lists(st.tuples(mine.policies, mine.verdicts), max_size=5))
def test_a_ruling_acts_on_what_is_enforced_only(verdicts):
    """Design: "report: log and count, never reject"."""
    ruling = Ruling.of(verdicts)
    acted_on = [one for policy, one in verdicts if policy.enforced and policy.refuses(one)]
    assert ruling.accepts is not bool(acted_on)
    assert set(ruling.refused) == {reason for one in acted_on for reason in one.reasons}


# --- Assignment ----------------------------------------------------------------------------------


def most(fitting, devices):
    """The size of a largest matching, by trying all."""
    best = 0
    for order in itertools.permutations(range(devices)):
        for subset in itertools.combinations(range(len(fitting)), min(len(fitting), devices)):
            pairs = zip(subset, order, strict=False)
            best = max(best, sum(device in fitting[need] for need, device in pairs))
    return best


@given(
    st.integers(0, 4).flatmap(
        lambda devices: st.tuples(
            st.lists(st.sets(st.integers(0, devices)).map(frozenset), max_size=5),
            st.just(devices),
        )
    )
)
def test_as_many_needs_as_can_be_get_a_device(drawn):
    """Design: "exact per device": a guest is not turned away because another took the wrong
    device.
    """
    fitting, devices = drawn
    needs = [DeviceNeed.of("f", {}, address=str(index)) for index in range(len(fitting))]
    result = assign(needs, range(devices), lambda one, dev: dev in fitting[int(one.address)])
    used = [device for device in result if device is not None]
    assert len(result) == len(needs)
    assert len(set(used)) == len(used)
    assert all(
        device in fitting[index] for index, device in enumerate(result) if device is not None
    )
    assert len(used) == most(fitting, devices)


@given(st.data(), mine.fleets())
def test_any_order_is_stricter_than_some_order(data, fleet):
    """What is admitted however the devices are dealt out is admitted where they can be dealt."""
    need, _ = data.draw(mine.guests(data.draw(st.sampled_from(fleet.hosts))))
    host = data.draw(st.sampled_from(fleet.hosts))
    group = list(need.devices)
    judges = [offer.judge for offer in data.draw(st.lists(st.sampled_from(host), max_size=4))]
    any_order = Verdict.all_of(judge_any_order(group, judges))
    some_order = Verdict.all_of(judge_claim(group, judges, fleet.policy))
    assert some_order.severity <= any_order.severity


@given(st.data(), mine.fleets())
def test_accept_sets_hold_only_what_the_device_accepts(data, fleet):
    """Design: an accept-set is "the atoms that an offer accepts, out of all atoms known"."""
    offer = data.draw(st.sampled_from(data.draw(st.sampled_from(fleet.hosts))))
    accepts = offer.accept_set(fleet.atoms)
    assert isinstance(accepts, AcceptSet)
    assert offer.atoms() <= accepts.atoms <= fleet.atoms
    for atom in fleet.atoms:
        if atom.family == offer.family.name and atom.attribute in offer.family.rules:
            rule = offer.family.rules[atom.attribute]
            alone = offer.accept_set([atom]).attributes[atom.attribute]
            assert (atom in accepts.atoms) is (atom.value in alone.accepted)
            assert alone.kind == rule.kind
        else:
            assert atom not in accepts.atoms


@given(mine.policies, mine.verdicts)
def test_an_objection_is_what_the_ruling_has(policy, verdict):
    """However it is come to."""
    ruling = policy.rule(verdict)
    assert policy.objection(verdict) == (2 if ruling.refused else int(bool(ruling.reported)))
    assert policy.refuses(verdict) is bool(policy.objection(verdict))
