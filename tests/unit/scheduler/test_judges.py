# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What was ruled for one request holds for another that is alike, and for no other."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat import wire
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.policy import Policies
from nova_devcompat.compat.ruling import Guest
from nova_devcompat.scheduler.judge import RequestJudge
from nova_devcompat.scheduler.judges import Judges
from tests.budget import scaled
from tests.unit.scheduler import test_judge as judging
from tests.unit.scheduler.test_judge import ENFORCE, LENIENT, NOTHING, atoms_of, gpu
from tests.unit.scheduler.test_short_cuts import candidate_of, document_of, hosts, requests

STRICT = Policies(ENFORCE, {"gpu": ENFORCE})
LAX = Policies(ENFORCE, {"gpu": LENIENT})


def guest(version="1.4"):
    return Guest(record=Need(devices=(gpu(version).freeze(slot=judging.VGPU),)))


def host(*versions, number=0):
    offers = [gpu(version) for version in versions]
    return document_of(offers, atoms_of(*offers) | guest().need.atoms, number=number)


def asked(judges, who, policies, document, candidates):
    return judges.of(who, policies, pci=False).judge(document, candidates)


def test_an_equal_guest_finds_what_was_ruled(monkeypatch):
    judges, reader = Judges(), wire.StatsReader()
    document = reader.read(wire.dump_stats(host("1.4", "2.0")))
    candidates = [candidate_of({judging.VGPU: [index]}) for index in (0, 1)]
    first = asked(judges, guest(), STRICT, document, candidates)
    assert first.candidates == candidates[:1]
    ruled = []
    rule = RequestJudge._rule
    monkeypatch.setattr(RequestJudge, "_rule", lambda *args: ruled.append(1) or rule(*args))
    assert asked(judges, guest(), STRICT, document, candidates) == first
    assert not ruled
    assert asked(judges, guest("2.0"), STRICT, document, candidates) != first
    assert ruled


def test_other_policies_of_the_same_guest_are_ruled_anew():
    judges = Judges()
    document = wire.StatsReader().read(
        wire.dump_stats(document_of([gpu("1.4")], frozenset(), whole=True))
    )
    candidates = [candidate_of({judging.VGPU: [0]})]
    asks = [asked(judges, guest(), one, document, candidates) for one in (STRICT, LAX, STRICT)]
    assert [one.candidates for one in asks] == [[], None, []]


def test_a_request_that_is_made_otherwise():
    """The same need, and another device beside it of which its record says nothing."""
    judges, reader = Judges(), wire.StatsReader()
    document = reader.read(wire.dump_stats(host("1.4", "1.4")))
    plain, more = candidate_of({judging.VGPU: [0]}), candidate_of({judging.VGPU: [0, 1]})
    for candidates in ([plain], [more], [plain]):
        fresh = RequestJudge(guest(), STRICT, short_cuts=False).judge(document, candidates)
        assert asked(judges, guest(), STRICT, document, candidates) == fresh
    assert fresh.candidates is None


def test_what_is_remembered_is_bounded():
    judges, reader = Judges(limit=2, rulings=3), wire.StatsReader()
    candidates = [candidate_of({judging.VGPU: [0]})]
    for version in ("1.0", "1.2", "1.4", "2.0"):
        judges.of(guest(version), STRICT, pci=False)
    assert [key[0] for key in judges._known] == [guest("1.4"), guest("2.0")]
    for minor in range(10):
        document = reader.read(wire.dump_stats(host(f"1.{minor}", "2.0")))
        asked(judges, guest(), STRICT, document, candidates)
    assert all(len(known.remembered.rulings) <= 4 for known in judges._known.values())


@settings(max_examples=scaled(100))
@given(st.data(), requests(), judging.policies, judging.pinned_values)
def test_it_is_what_a_judge_finds_who_remembers_nothing(data, request_now, policies, pins):
    sizes, need = request_now
    reader, judges = wire.StatsReader(), Judges()
    for number in range(data.draw(st.integers(2, 4))):
        who = Guest(record=need, pins=data.draw(st.sampled_from([pins, NOTHING])))
        ours = Policies(ENFORCE, data.draw(st.sampled_from([policies, {}])), {"qemu": ENFORCE})
        fewer = dict(list(sizes.items())[: data.draw(st.integers(1, len(sizes)))])
        made, candidates = data.draw(hosts(fewer, need.atoms | pins.atoms, number % 2))
        document = reader.read(wire.dump_stats(made))
        long = RequestJudge(who, ours, pci=True, short_cuts=False).judge(document, candidates)
        assert judges.of(who, ours, pci=True).judge(document, candidates) == long
