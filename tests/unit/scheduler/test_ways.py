# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Where hosts go by a part of their text is where they go when all of it is read."""

import copy
import dataclasses
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nova import context

from nova_devcompat import wire
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.policy import Policies
from nova_devcompat.compat.risks import Risk
from nova_devcompat.compat.ruling import Guest
from nova_devcompat.scheduler import explain, filters, layouts, sorting, told, ways
from nova_devcompat.scheduler import state as state_module
from nova_devcompat.scheduler.grouping import Grouping
from nova_devcompat.scheduler.judge import RequestJudge
from nova_devcompat.scheduler.judges import Judges
from nova_devcompat.scheduler.lookup import Lookup
from nova_devcompat.scheduler.mobility import Mobility
from nova_devcompat.scheduler.prunings import Prunings
from nova_devcompat.scheduler.state import SchedulerState
from nova_devcompat.scheduler.verdicts import Verdicts
from nova_devcompat.stores import events
from nova_devcompat.wire import stats_2
from tests.budget import scaled
from tests.unit.providers import uuid_of
from tests.unit.scheduler import test_judge as judging
from tests.unit.scheduler import test_short_cuts as short_cuts
from tests.unit.scheduler.test_judge import ENFORCE, NIC, atoms_of, gpu


class State(SchedulerState):
    """What schedulers share, without a catalog on disk."""

    def __init__(self, policies):
        self._reader = wire.StatsReader()
        self._judges = Judges()
        self.prunings = Prunings()
        self._policies = policies
        self.judged = 0

    def host_risks(self):
        return {}

    def other_catalog(self, stats):
        return ""

    def policies(self):
        return self._policies

    def judge_text(self, request, text, candidates):
        self.judged += 1
        return super().judge_text(request, text, candidates)


def nic(mode):
    return NIC.offer({"mode": mode})


def with_classes(document, candidates, *, known=True):
    """The document with the classes of its providers, as the candidates show them.

    :param known: whether all of them are
    """
    having = {}
    for candidate in candidates:
        for provider, allocation in candidate["allocations"].items():
            having.setdefault(provider, set()).update(allocation["resources"])
    named = {one for device in document.devices for one in device.providers}
    unnamed = set().union(*(having[one] for one in having if one not in named), set())
    devices = tuple(
        dataclasses.replace(
            device,
            classes=tuple(sorted(set().union(*(having.get(one, ()) for one in device.providers))))
            if device.providers and known
            else None,
        )
        for device in document.devices
    )
    return dataclasses.replace(
        document, devices=devices, unnamed=frozenset(unnamed - {"VCPU"}) if known else None
    )


def hosts_of(published):
    return [
        types.SimpleNamespace(
            host=f"h{number:02}",
            nodename=f"h{number:02}",
            stats={wire.STATS_KEY: text},
            allocation_candidates=copy.deepcopy(candidates),
        )
        for number, (text, candidates) in enumerate(published)
    ]


def sort(state, guest, published, *, pci=True):
    """What becomes of hosts: by number, their candidates that are left; and who is reported."""
    hosts = hosts_of(published)
    sorted_ = sorting.Sorting(state, None, Lookup("an-instance", guest, pci=pci))
    sorted_.sort(hosts)
    left = [host.host for host in sorted_.left]
    # Each is somewhere, and the order is kept.
    assert left == sorted(left) and len(left) + len(sorted_.rejected) == len(hosts)
    return (
        {host.host: host.allocation_candidates for host in sorted_.left},
        {host.host: str(sorted_.ruling(host)) for host in sorted_.rejected},
        sorted_.reported.count,
    )


def the_long_way(guest, policies, published):
    """The same, each host judged by a reader and a judge of its own."""
    left, rejected, reported = {}, {}, 0
    for number, (text, candidates) in enumerate(published):
        judge = RequestJudge(guest, policies, pci=True, short_cuts=False)
        judged = judge.judge(wire.load_stats(text), candidates)
        if judged.candidates == []:
            rejected[f"h{number:02}"] = str(judged.ruling)
            continue
        left[f"h{number:02}"] = judged.candidates or candidates
        reported += bool(judged.ruling.reported)
    return left, rejected, reported


@settings(max_examples=scaled(150))
@given(
    st.data(),
    short_cuts.requests(),
    judging.policies,
    st.booleans(),
    judging.pinned_values,
    st.booleans(),
)
def test_it_is_the_long_way_in_both_formats(data, asked, policies, keeps, pins, again):
    sizes, need = asked
    known = need.atoms | pins.atoms
    ours = Policies(ENFORCE, policies, {"qemu": ENFORCE})
    guest = Guest(record=need, pins=pins, keeps_devices=keeps)
    published = {1: [], 2: []}
    for number in range(data.draw(st.integers(1, 4))):
        if number and data.draw(st.booleans()):
            # A host that is like an earlier one, but for its providers.
            other = data.draw(st.integers(0, number - 1))
            for version, listed in published.items():
                text, candidates = listed[other]
                published[version].append((text, candidates))
            continue
        document, candidates = data.draw(short_cuts.hosts(sizes, known, number))
        document = with_classes(document, candidates, known=data.draw(st.integers(0, 5)) > 0)
        for version in published:
            published[version].append((wire.dump_stats(document, version), candidates))
    expected = the_long_way(guest, ours, published[1])
    for listed in (
        *published.values(),
        [data.draw(st.sampled_from(pair)) for pair in zip(*published.values(), strict=True)],
    ):
        state = State(ours)
        assert sort(state, guest, listed) == expected
        if again:
            assert sort(state, guest, listed) == expected


@settings(max_examples=scaled(50))
@given(st.data(), short_cuts.requests(), judging.policies, st.booleans())
def test_it_is_the_long_way_among_many_hosts_of_several_generations(data, asked, policies, keeps):
    """They have other families and classes, so that the same stands elsewhere, or nowhere."""
    sizes, need = asked
    ours = Policies(ENFORCE, policies, {"qemu": ENFORCE})
    guest = Guest(record=need, keeps_devices=keeps)
    alike = []
    for number in range(data.draw(st.integers(2, 4))):
        document, candidates = data.draw(short_cuts.hosts(sizes, need.atoms, number))
        document = with_classes(document, candidates)
        version = data.draw(st.sampled_from([2, 2, 2, 1]))
        alike.append((wire.dump_stats(document, version), candidates))
    published = [*alike, *data.draw(st.lists(st.sampled_from(alike), max_size=20))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_module, "_BLOCK", 4)
        patch.setattr(layouts, "MOST", 2)
        found = sort(State(ours), guest, published)
    assert found == the_long_way(guest, ours, published)


def weigh(guest, policies, published, *, alone=False):
    """The weight of each host.

    :param alone: whether each is looked at by itself
    """
    state = State(policies)
    hosts = hosts_of(published)
    mobility = Mobility(guest, policies)
    if alone:
        groups = [
            mobility.group(state.document_of(host), host.allocation_candidates) for host in hosts
        ]
        for group in groups:
            group.hosts += 1
    else:
        groups = Grouping(mobility, state.document_of).of(hosts)
    mobility.weigh()
    return [(group.why, group.weight) for group in groups]


@settings(max_examples=scaled(100))
@given(st.data(), short_cuts.requests(), judging.policies, st.booleans())
def test_weights_are_the_same_in_both_formats(data, asked, policies, keeps):
    sizes, need = asked
    ours = Policies(ENFORCE, policies, {"qemu": ENFORCE})
    guest = Guest(record=need, keeps_devices=keeps)
    published = {1: [], 2: []}
    for number in range(data.draw(st.integers(1, 3))):
        document, candidates = data.draw(short_cuts.hosts(sizes, need.atoms, number))
        document = with_classes(document, candidates)
        for version in published:
            text = wire.dump_stats(document, version)
            # Of the third on, what the first two say is known.
            published[version] += [(text, candidates)] * data.draw(st.integers(1, 4))
    for listed in published.values():
        assert weigh(guest, ours, listed) == weigh(guest, ours, listed, alone=True)


def test_hosts_that_are_alike_are_weighed_by_a_look_at_their_tokens(monkeypatch):
    asked = []
    original = State.document_of
    monkeypatch.setattr(State, "document_of", lambda *args: asked.append(1) or original(*args))
    published = [host(number, "1.2", "1.2", cards="ab"[number % 2]) for number in range(40)]
    listed = weigh(Guest(record=VGPU), judging.every(ENFORCE), published)
    assert len(asked) == 4
    assert len(set(listed)) == 1 and listed[0][0] == ""


def test_hosts_that_are_unlike_are_not_asked_whether_they_say_it_all(monkeypatch):
    """Which takes as long as all else that is done for one, and is of use to no other."""
    asked = []
    original = told.tells_all
    monkeypatch.setattr(told, "tells_all", lambda *args: asked.append(1) or original(*args))
    versions = [f"1.{number}" for number in range(20)]
    published = [host(number, one, one) for number, one in enumerate(versions)]
    listed = weigh(Guest(record=VGPU), judging.every(ENFORCE), published)
    assert len(set(listed)) > 1 and not asked
    assert weigh(Guest(record=VGPU), judging.every(ENFORCE), [*published, *published]) and asked


# --- which short cuts there are ------------------------------------------------------------------

KNOWN = atoms_of(gpu("1.0"), gpu("1.2"), gpu("1.4"), nic("a"), nic("b"))
VGPU = Need(devices=(gpu("1.2").freeze(slot=judging.VGPU),))


def host(number, *versions, cards="", whole=True):
    """A host with GPUs, and with a card that no request is about.

    :param cards: the card's version; '' for none
    """
    offers = [gpu(one) for one in versions] + ([nic(cards)] if cards else [])
    document = short_cuts.document_of(offers, KNOWN, number=number, whole=whole)
    candidates = [
        short_cuts.candidate_of({judging.VGPU: [index]}, number=number)
        for index in range(len(versions))
    ]
    known = with_classes(document, candidates)
    devices = tuple(
        device if device.classes else dataclasses.replace(device, classes=("CUSTOM_CARD",))
        for device in known.devices
    )
    known = dataclasses.replace(known, devices=devices)
    return wire.dump_stats(known, 2), candidates


def judged_of(published, guest=None):
    state = State(judging.every(ENFORCE))
    found = sort(state, guest or Guest(record=VGPU), published, pci=False)
    asked, state.judged = state.judged - len(found[1]), 0
    return found, asked


@pytest.mark.parametrize("whole", [True, False])
def test_other_families_defeat_no_short_cut(whole):
    published = [
        host(number, "1.2" if number % 2 else "1.0", cards="ab"[number // 2 % 2], whole=whole)
        for number in range(40)
    ]
    (left, rejected, _), asked = judged_of(published)
    assert (len(left), len(rejected), asked) == (20, 20, 0)


def test_hosts_with_more_devices_go_the_same_way():
    published = [host(number, *["1.2"] * (number % 3 + 1)) for number in range(30)]
    assert len({len(text) for text, _ in published}) == 3
    state = State(judging.every(ENFORCE))
    read = []
    original = state.read
    state.read = lambda text: read.append(text) or original(text)
    left, _, _ = sort(state, Guest(record=VGPU), published, pci=False)
    assert (len(left), len(read), state.judged) == (30, 1, 0)


def test_what_is_said_of_accepted_risks_is_bounded(monkeypatch):
    """However many hosts are left because of them: some lines, and one event."""
    added = []
    monkeypatch.setattr(events, "add_in_cell", lambda *args, **values: added.append(values))
    guest = Guest(record=VGPU, risks=(Risk(name="gpu:unknown", told="accepted by ann"),))
    ours = object.__new__(filters.DeviceCompatFilter)
    ours._state = State(Policies(ENFORCE, {"gpu": ENFORCE}))
    _, candidates = host(0, "1.2")
    hosts = hosts_of([("no document", candidates)] * 25)
    looked_up = Lookup("an-instance", guest)
    admin = context.RequestContext("ann", "ours", is_admin=True)
    assert ours._filter_known(admin, hosts, looked_up) == hosts
    assert explain.WORKER.join(10)
    (values,) = added
    assert values["summary"].startswith("25 hosts are left because of accepted risks, such as h00")
    assert len(values["lines"]) == explain.HOSTS_NAMED + 1
    assert all("accepted by ann" in line for line in values["lines"][:-1])
    assert values["lines"][-1] == "and 15 more"


def test_unlike_devices_are_pruned_by_their_providers():
    published = [host(number, "1.0", "1.4", "1.0") for number in range(30)]
    (left, rejected, _), asked = judged_of(published)
    assert (len(left), rejected, asked) == (30, {}, 0)
    for name, candidates in left.items():
        (one,) = candidates
        assert uuid_of(f"h{int(name[1:])}p1") in one["allocations"]


def test_one_that_cannot_be_read_is_pruned_by_none_of_them():
    """Though it says what unlike ones say, and is as long as it says."""
    published = [host(number, "1.0", "1.4") for number in range(3)]
    text, candidates = published[1]
    other = "A" if text[stats_2.DIGEST][0] != "A" else "B"
    digest = f"{other}{text[stats_2.DIGEST][1:]}"
    published[1] = text.replace(text[stats_2.DIGEST], digest), candidates
    (left, rejected, _), asked = judged_of(published)
    assert (sorted(left), sorted(rejected), asked) == (["h00", "h02"], ["h01"], 1)
    assert "unreadable" in rejected["h01"]


def test_one_that_cannot_be_read_does_not_say_where_to_look_in_others(monkeypatch):
    """Though it has its token elsewhere; the texts of many are looked at alike."""
    asked = finds(monkeypatch)
    text, candidates = host(0, "1.2", cards="a")
    name = ";VGPU="
    assert text.count(name) == 1
    shifted = text.replace(name, f"{name}{'x' * 22};ZZZ=")
    shifted = shifted.replace(name, f";AAA={'x' * 22}{name}")
    shifted = shifted.replace(stats_2.begin_of(len(text)), stats_2.begin_of(len(shifted)))
    published = [(text, candidates)] * 30
    (_, _, _), judged = judged_of(published)
    assert (len(asked), judged) == (1, 0)
    published[5] = shifted, candidates
    asked.clear()
    (left, rejected, _), judged = judged_of(published)
    assert (len(left), sorted(rejected), judged) == (29, ["h05"], 1)
    assert len(asked) == 2


def finds(monkeypatch):
    """Notes each host that is looked at by itself."""
    asked = []
    original = ways.Ways.find
    monkeypatch.setattr(ways.Ways, "find", lambda *args: asked.append(1) or original(*args))
    monkeypatch.setattr(state_module, "_BLOCK", 8)
    return asked


def of_generation(number, kind, version="1.2"):
    """A host that has more classes the later its generation."""
    text, candidates = host(number, version, cards="a")
    document = wire.load_stats(text)
    *gpus, card = document.devices
    more = tuple(f"CUSTOM_A_{one}" for one in range(kind))
    card = dataclasses.replace(card, classes=(*more, "CUSTOM_CARD"))
    return wire.dump_stats(dataclasses.replace(document, devices=(*gpus, card)), 2), candidates


@pytest.mark.parametrize(("generations", "most"), [(2, 12), (5, 24), (20, 90)])
def test_hosts_of_several_generations_defeat_no_short_cut(monkeypatch, generations, most):
    """Each generation has what decides elsewhere; hosts of all stand in any order."""
    asked = finds(monkeypatch)
    published = [of_generation(number, number * 7 % generations) for number in range(100)]
    places = {text.index(";VGPU=") for text, _ in published}
    assert len(places) == generations
    (left, _, _), judged = judged_of(published)
    assert (len(left), judged) == (100, 0)
    assert len(asked) <= most
    # In groups, as hosts are that were added year by year.
    asked.clear()
    published.sort(key=lambda one: one[0].index(";VGPU="))
    (left, _, _), judged = judged_of(published)
    assert (len(left), judged) == (100, 0)
    assert len(asked) <= most


def test_hosts_without_the_family_defeat_no_short_cut(monkeypatch):
    """Of PCI devices that placement does not know hosts are asked that have none of them, too."""
    asked = finds(monkeypatch)
    need = Need(devices=(gpu("1.2").freeze(slot=judging.PCI),))
    plain = {"allocations": {judging.ROOT: {"resources": {"VCPU": 1}}}, "mappings": {}}
    published = []
    for number in range(100):
        offers = [nic("ab"[number % 2])] + ([] if number % 4 else [gpu("1.2")])
        document = short_cuts.document_of(offers, KNOWN, number=number, placed=False)
        document = dataclasses.replace(document, unnamed=frozenset())
        published.append((wire.dump_stats(document, 2), [plain]))
    state = State(judging.every(ENFORCE))
    left, rejected, _ = sort(state, Guest(record=need), published)
    assert (len(left), len(rejected)) == (25, 75)
    assert all("gpu" in why for why in rejected.values())
    # Each that is rejected is asked why.
    assert state.judged == len(rejected)
    assert len(asked) < 10


def test_hosts_of_both_formats_defeat_no_short_cut(monkeypatch):
    """As in a cloud that begins to write format 2."""
    published = []
    for number in range(60):
        text, candidates = host(number, "1.2")
        version = 1 + number // 3 % 2
        published.append((wire.dump_stats(wire.load_stats(text), version), candidates))
    (left, _, _), judged = judged_of(published)
    assert (len(left), judged) == (60, 1)


def test_what_one_host_says_spoils_no_other():
    """It borrows the token of another, and is judged by what it is where that is read."""
    (right, candidates), (wrong, _) = host(0, "1.2", cards="a"), host(0, "1.0", cards="a")
    name = ";VGPU="
    at = right.index(name), wrong.index(name)
    token = [text[place : place + 22] for text, place in zip((right, wrong), at, strict=True)]
    assert token[0] != token[1]
    forged = wrong.replace(token[1], token[0])
    for published in ([forged, right, right], [right, forged, right]):
        (left, _, _), _ = judged_of([(text, candidates) for text in published])
        rights = {f"h{number:02}" for number, text in enumerate(published) if text == right}
        assert rights <= left.keys()


@pytest.mark.parametrize("what", ["cut", "longer", "spoilt", "other", "says less", "says more"])
def test_a_document_that_was_changed_is_judged_alone(what):
    text, candidates = host(0, "1.2", cards="a")
    middle = len(text) // 2
    changed = {
        "cut": text[:middle],
        "longer": f"{text[:middle]}A{text[middle:]}",
        "spoilt": text[: middle - 3] + text[middle:],
        "other": 7,
        # As long as those that say how long they are.
        "says less": text.replace(f"{len(text):05}", f"{len(text) - 1:05}", 1),
        "says more": text.replace(f"{len(text):05}", "65000", 1),
    }[what]
    assert changed != text
    published = [(one, candidates) for one in (changed, text, changed, text)]
    (left, rejected, _), _ = judged_of(published)
    assert (sorted(left), sorted(rejected)) == (["h01", "h03"], ["h00", "h02"])


def test_two_requests_share_what_was_found():
    state = State(judging.every(ENFORCE))
    published = [host(number, "1.0", "1.4") for number in range(5)]
    first = sort(state, Guest(record=VGPU), published, pci=False)
    documents = dict(state._reader._documents)
    assert sort(state, Guest(record=VGPU), published, pci=False) == first
    assert state._reader._documents == documents
    (bad,) = state.prunings._known
    assert len(state.prunings.of(bad)) == 5


def test_what_is_remembered_is_bounded():
    text, _ = host(0, "1.0", "1.4")
    document = wire.load_stats(text)
    prunings = Prunings(limit=3)
    for number in range(10):
        prunings.add(frozenset({(str(number % 2),)}), str(number), document)
    assert sum(map(len, prunings._known.values())) <= 3
    verdicts = Verdicts(limit=3)
    accepts = document.devices[0].accepts
    for version in ("1.0", "1.2", "1.4", "2.0", "2.1"):
        need = gpu(version).freeze()
        assert verdicts.of(accepts, need) == verdicts.of(accepts, need) == accepts.judge(need)
    assert len(verdicts._known) <= 3
