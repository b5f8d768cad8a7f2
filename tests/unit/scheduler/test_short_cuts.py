# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Short cuts give the ruling of the long way, and a worse input never helps.

On the very code of nova-scheduler and nova-compute; in the core alone, tests/unit/compat has it.
"""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat import wire
from nova_devcompat.compat.need import DeviceNeed, Need, host_slot
from nova_devcompat.compat.pins import BadPin
from nova_devcompat.compat.policy import OnUnknown, Policies, Policy
from nova_devcompat.compat.ruling import (
    NO_RECORD,
    NOTHING_KNOWN,
    Doubt,
    Extra,
    Given,
    Guest,
    doubt_of_pin,
    required_atoms,
    rule,
)
from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.compute import admit
from nova_devcompat.host.devices import HostDevice
from nova_devcompat.scheduler.judge import RequestJudge
from nova_devcompat.stores.assigned import Assigned
from tests.budget import scaled
from tests.unit.providers import uuid_of
from tests.unit.scheduler import test_judge as judging
from tests.unit.scheduler.test_judge import ENFORCE, LENIENT, NOTHING, REPORT, ROOT, atoms_of, gpu

SILENT = Reason(code=Code.HOST_SILENT, actor=Actor.OPERATOR)
UNREADABLE = Doubt(reason=Reason(code=Code.RECORD_UNREADABLE, actor=Actor.OPERATOR))
FAILED = Doubt(reason=Reason(code=Code.NEED_UNKNOWN, actor=Actor.OPERATOR), always_counts=True)
REQUESTS = [f"8d1b0ef4-5b0b-4a3e-a1e9-7c2f6a9a2d1{number}" for number in range(3)]
QEMU = DeviceNeed.of("qemu", {"machine": ["q1"]}, slot=host_slot("qemu"))


def document_of(offers, known, *, number=0, part=None, placed=True, whole=True):
    """What a host publishes, its devices at providers ``h<number>p<index>``."""
    devices = tuple(
        wire.PublishedDevice(
            address=f"0000:8{index}:00.0",
            accepts=offer.accept_set(known),
            providers=(uuid_of(f"h{number}p{index}"),) if placed else (),
        )
        for index, offer in enumerate(offers)
    )
    host = ()
    if part is not None:
        host = (wire.PublishedDevice(address="qemu", accepts=part.accept_set(judging.KNOWN)),)
    return wire.HostDocument(catalog="", whole=whole, devices=devices, host=host)


def candidate_of(groups, *, number=0):
    """An allocation candidate.

    :param groups: by slot, the indexes of the devices that answer it
    """
    candidate = {"allocations": {ROOT: {"resources": {"VCPU": 1}}}, "mappings": {"": [ROOT]}}
    for slot, indexes in groups.items():
        for place, index in enumerate(indexes):
            provider = uuid_of(f"h{number}p{index}")
            resource = "VGPU" if slot == judging.VGPU else "CUSTOM_VF"
            resources = candidate["allocations"].setdefault(provider, {"resources": {}})
            held = resources["resources"]
            held[resource] = held.get(resource, 0) + 1
            if slot != judging.VGPU:
                candidate["mappings"][f"{slot.removeprefix('pci:')}-{place}"] = [provider]
    return candidate


@st.composite
def requests(draw):
    """Slots with so many devices each, and what the guest's record says of them."""
    slots = draw(
        st.lists(
            st.sampled_from([judging.VGPU, *(f"pci:{one}" for one in REQUESTS)]),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    sizes = {slot: draw(st.integers(1, 2)) for slot in slots}
    needs = []
    for slot, size in sizes.items():
        for started in draw(st.lists(judging.gpus | judging.nics, max_size=size)):
            needs.append(started.freeze(slot=slot, address=f"s{len(needs)}"))
    if draw(st.booleans()):
        needs.append(QEMU)
    # Now and then of a request that has got another ID since.
    if needs and not needs[0].of_host and not draw(st.integers(0, 4)):
        needs[0] = dataclasses.replace(needs[0], slot=f"pci:{REQUESTS[2]}")
    return sizes, Need(devices=tuple(needs))


@st.composite
def hosts(draw, sizes, known, number):
    """A host's document and its candidates, made alike."""
    offers = draw(st.lists(judging.gpus | judging.nics, min_size=1, max_size=3))
    if draw(st.booleans()):
        offers = [offers[0]] * len(offers)
    document = document_of(
        offers,
        known | atoms_of(*offers),
        number=number,
        part=draw(judging.parts),
        placed=draw(st.booleans()),
        whole=draw(st.booleans()),
    )
    index = st.integers(0, len(offers) - 1)
    candidates = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    slot: st.lists(index, min_size=size, max_size=size)
                    for slot, size in sizes.items()
                }
            ).map(lambda groups: candidate_of(groups, number=number)),
            min_size=1,
            max_size=3,
        )
    )
    return document, candidates


@settings(max_examples=scaled(200))
@given(st.data(), requests(), judging.policies, st.booleans(), judging.pinned_values)
def test_short_cuts_give_what_the_long_way_gives(data, request_now, policies, keeps, pins):
    """Of requests with several slots, of which the record may miss some."""
    sizes, need = request_now
    known = need.atoms | pins.atoms
    ours = Policies(ENFORCE, policies, {"qemu": ENFORCE})
    guest = Guest(record=need, pins=pins, keeps_devices=keeps)
    reader = wire.StatsReader()
    short = RequestJudge(guest, ours, pci=True)
    for number in range(data.draw(st.integers(1, 3))):
        document, candidates = data.draw(hosts(sizes, known, number))
        read = reader.read(wire.dump_stats(document))
        long = RequestJudge(guest, ours, pci=True, short_cuts=False)
        assert short.judge(read, candidates) == long.judge(read, candidates)


def garbled(text, data):
    """The document, one of its groups not what it must be."""
    content = json.loads(text)
    content.pop("a", None)
    group = data.draw(st.sampled_from(content["g"]))
    wrong = data.draw(st.sampled_from(["r", "d", "f"]))
    group[wrong] = {"r": "?", "d": 7, "f": "GPU!"}[wrong]
    return json.dumps(content)


@settings(max_examples=scaled(200))
@given(
    st.data(),
    requests(),
    st.sampled_from([Policy(), REPORT]),
    judging.pinned_values,
    st.sampled_from(["no record", "unreadable record", "failed", "pin", "silent", "garbled"]),
)
def test_a_worse_input_never_helps_in_the_scheduler(data, request_now, policy, pins, worse):
    sizes, need = request_now
    ours = judging.every(policy)
    guest = Guest(record=need, pins=pins)
    document, candidates = data.draw(hosts(sizes, need.atoms | pins.atoms, 0))
    text = wire.dump_stats(document)
    reader = wire.StatsReader()
    before = RequestJudge(guest, ours, pci=True).judge(reader.read(text), candidates)
    if worse == "silent":
        after = RequestJudge(guest, ours, pci=True).silent(SILENT, candidates)
    else:
        if worse == "pin" and pins.devices:
            bad = doubt_of_pin(BadPin("key", "why", family=data.draw(st.none() | st.just("gpu"))))
            guest = dataclasses.replace(guest, pins=NOTHING, bad_pins=(bad,))
        elif worse in ("no record", "unreadable record", "failed"):
            record = {"no record": NO_RECORD, "unreadable record": UNREADABLE, "failed": FAILED}
            guest = dataclasses.replace(guest, record=record[worse])
        elif worse == "garbled":
            text = garbled(text, data)
        after = RequestJudge(guest, ours, pci=True).judge(reader.read(text), candidates)
    lost = before.candidates or [] if before.candidates is not None else candidates
    left = after.candidates or [] if after.candidates is not None else candidates
    if worse == "pin" and not all(pin.family == "gpu" for pin in pins.devices):
        return  # several pins went, and one is left to speak for them
    assert all(candidate in lost for candidate in left)


@settings(max_examples=scaled(100))
@given(
    st.data(),
    requests(),
    st.sampled_from([Policy(), REPORT]),
    judging.pinned_values,
    st.sampled_from([NO_RECORD, UNREADABLE, FAILED, None]),
)
def test_a_worse_input_never_helps_at_admission(data, request_now, policy, pins, record):
    sizes, need = request_now
    ours = judging.every(policy)
    claimed = [
        Assigned(slot, f"d{slot}{place}", HostDevice(f"d{slot}{place}", offer))
        for slot, size in sizes.items()
        for place, offer in enumerate(
            data.draw(st.lists(judging.gpus | judging.nics, min_size=size, max_size=size))
        )
    ]
    part = data.draw(judging.parts)
    host = {} if part is None else {"qemu": HostDevice("qemu", part)}
    guest = Guest(record=need, pins=pins)
    before = rule(guest, admit.given_by_claims(guest, {}, {}, claimed, host), ours)
    if record is None:  # nothing of what was claimed can be told
        after = rule(
            guest, Given(silent=SILENT, extras=(Extra(device=NOTHING_KNOWN),) * len(claimed)), ours
        )
    else:
        guest = dataclasses.replace(guest, record=record)
        after = rule(guest, admit.given_by_claims(guest, {}, {}, claimed, host), ours)
    assert before.accepts or not after.accepts


BAD_PINS = [doubt_of_pin(BadPin("key", "why", family=family)) for family in ("gpu", "qemu", None)]


@settings(max_examples=scaled(80))
@given(
    st.data(),
    requests(),
    judging.policies,
    judging.pinned_values,
    st.sampled_from([None, NO_RECORD, UNREADABLE, FAILED]),
    st.lists(st.sampled_from(BAD_PINS), max_size=2),
)
def test_the_lines_of_defence_whatever_cannot_be_read(
    data, request_now, policies, pins, record, bad_pins
):
    """Admission accepts => filter accepts => prefilter accepts, on the code of all three."""
    sizes, need = request_now
    ours = Policies(ENFORCE, policies, {"qemu": data.draw(st.sampled_from([ENFORCE, LENIENT]))})
    guest = Guest(record=need if record is None else record, pins=pins, bad_pins=tuple(bad_pins))
    offers = data.draw(st.lists(judging.gpus | judging.nics, min_size=1, max_size=3))
    part = data.draw(judging.parts)
    index = st.integers(0, len(offers) - 1)
    taken = {
        slot: data.draw(st.lists(index, min_size=size, max_size=size))
        for slot, size in sizes.items()
    }

    claimed = [
        Assigned(slot, f"d{slot}{place}", HostDevice(f"0000:8{one}:00.0", offers[one]))
        for slot, indexes in taken.items()
        for place, one in enumerate(indexes)
    ]
    host = {} if part is None else {"qemu": HostDevice("qemu", part)}
    admitted = rule(guest, admit.given_by_claims(guest, {}, {}, claimed, host), ours).accepts

    known = need.atoms | pins.atoms | atoms_of(*offers) | judging.KNOWN
    document = document_of(offers, known, part=part, whole=data.draw(st.booleans()))
    read = wire.StatsReader().read(wire.dump_stats(document))
    judged = RequestJudge(guest, ours, pci=True).judge(read, [candidate_of(taken)])
    filtered = judged.candidates is None or bool(judged.candidates)

    root = {
        atom for one in (*offers, *filter(None, [part])) for atom in one.accept_set(known).atoms
    }
    prefiltered = required_atoms(guest, ours) <= root

    assert filtered or not admitted
    assert prefiltered or not filtered


# --- single cases that were wrong once -----------------------------------------------------------


class TestNothingRecorded:
    """A guest without a record is steered to no host of which nothing is known."""

    VGPU = (judging.vgpu_candidate("p0"),)

    @pytest.mark.parametrize("record", [NO_RECORD, UNREADABLE])
    def test_no_host_will_do(self, record):
        guest = Guest(record=record)
        document = judging.publish([gpu("1.0")], known=atoms_of(gpu("1.0")))
        for policy, accepted in ((ENFORCE, False), (LENIENT, True), (REPORT, True)):
            request = RequestJudge(guest, judging.every(policy))
            assert request.judge(document, self.VGPU).ruling.accepts is accepted
            assert request.silent(SILENT, self.VGPU).ruling.accepts is accepted

    def test_pci_devices_not_in_placement(self):
        document = judging.publish([gpu("1.0")], known=atoms_of(gpu("1.0")), placed=False)
        request = RequestJudge(Guest(record=NO_RECORD), judging.every(ENFORCE), pci=True)
        assert not request.judge(document, [candidate_of({})]).ruling.accepts

    def test_a_plain_guest_where_there_are_host_families(self):
        guest = Guest(record=NO_RECORD, assigned=False)
        request = RequestJudge(guest, judging.every(ENFORCE))
        assert not request.silent(SILENT, [candidate_of({})]).ruling.accepts
        none = RequestJudge(guest, Policies(ENFORCE, {"gpu": ENFORCE}))
        assert none.silent(SILENT, [candidate_of({})]).ruling.accepts


def test_the_devices_of_other_slots_are_looked_at():
    """With one need recorded of three devices, alike on the host: what of the other two?"""
    need = Need(devices=(gpu("1.0").freeze(slot=judging.VGPU),))
    document = judging.publish([gpu("1.0")] * 3, known=need.atoms)
    groups = {judging.VGPU: [0], f"pci:{REQUESTS[0]}": [1], f"pci:{REQUESTS[1]}": [2]}
    candidate = json.loads(
        json.dumps(candidate_of(groups))
        .replace(uuid_of("h0p1"), uuid_of("p1"))
        .replace(uuid_of("h0p0"), uuid_of("p0"))
        .replace(uuid_of("h0p2"), uuid_of("p2"))
    )
    for short_cuts in (True, False):
        request = RequestJudge(
            Guest(record=need), judging.every(ENFORCE), pci=True, short_cuts=short_cuts
        )
        (reason,) = request.judge(document, [candidate]).ruling.refused
        assert (reason.code, reason.family) == (Code.NEED_MISSING, "gpu")


def test_a_port_that_was_attached_later_strands_nobody():
    """An old request ID beside a port that stands in no request: one provider is left for two."""
    need = Need(
        devices=(
            gpu("1.0").freeze(slot=f"pci:{REQUESTS[0]}", address="a"),
            gpu("1.0").freeze(slot=f"pci:{REQUESTS[1]}", address="b"),
        )
    )
    document = judging.publish([gpu("1.0")] * 2, known=need.atoms)
    candidate = judging.pci_candidate("p0")
    request = RequestJudge(Guest(record=need), judging.every(ENFORCE), pci=True)
    assert request.judge(document, [candidate]).ruling.accepts
    old = judging.publish([gpu("0.9")] * 2, known=need.atoms)
    assert not request.judge(old, [candidate]).ruling.accepts


@pytest.mark.parametrize("on_unknown", OnUnknown)
def test_what_placement_is_asked_is_never_more_than_the_filter_wants(on_unknown):
    need = Need(devices=(gpu("1.2").freeze(slot=judging.VGPU), QEMU))
    guest = Guest(record=need)
    ours = judging.every(Policy(on_unknown=on_unknown))
    asked = required_atoms(guest, ours)
    assert asked == (need.atoms if on_unknown is OnUnknown.REJECT else frozenset())
