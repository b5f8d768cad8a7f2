# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What one host says changes nothing for another, whichever of them is asked about first."""

import itertools
import json
import re
import types

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nova_devcompat import wire
from nova_devcompat.compat.ruling import Guest
from nova_devcompat.scheduler import filters, lookup
from nova_devcompat.scheduler.judge import RequestJudge
from nova_devcompat.scheduler.judges import Judges
from nova_devcompat.scheduler.mobility import Mobility
from nova_devcompat.scheduler.prunings import Prunings
from nova_devcompat.scheduler.state import SchedulerState
from tests.fuzz import inputs
from tests.fuzz.consumers import CANDIDATES, FIRST, GOOD, REQUESTS, STRICT, candidate
from tests.unit.providers import uuid_of

# A host whose devices are all alike, and one that says the same of other providers than it has.
RIGHT = GOOD[1]
WRONG = RIGHT.replace(FIRST, uuid_of("elsewhere"))

# One as the first release wrote it.
_SIZE = re.compile(r'"b":"\d+",')
RECORDED = _SIZE.sub("", RIGHT)


def test_both_have_the_same_shape():
    assert wire.load_stats(RIGHT).shape == wire.load_stats(WRONG).shape is not None
    assert FIRST in json.dumps(RIGHT)
    assert FIRST not in WRONG


@pytest.mark.parametrize("guest", REQUESTS)
@pytest.mark.parametrize("candidates", CANDIDATES)
def test_a_host_that_names_other_providers_than_it_has(guest, candidates):
    def judged(*texts):
        reader = wire.StatsReader()
        judge = RequestJudge(guest, STRICT)
        return {text: judge.judge(reader.read(text), candidates) for text in texts}

    def weighed(*texts):
        reader = wire.StatsReader()
        request = Mobility(guest, STRICT)
        groups = {text: request.group(reader.read(text), candidates) for text in texts}
        for group in groups.values():
            group.hosts += 1
        request.weigh()
        return {text: group.why for text, group in groups.items()}

    for ask in (judged, weighed):
        alone = ask(RIGHT)[RIGHT]
        for texts in itertools.permutations([RIGHT, WRONG]):
            assert ask(*texts)[RIGHT] == alone


# --- the filter's own short cut, by the text that nobody has parsed ------------------------------

_GPU_GUEST, _PLAIN_GUEST = REQUESTS[1], REQUESTS[5]


class _State(SchedulerState):
    """What filter and weigher share, without a catalog on disk."""

    def __init__(self):
        self._reader = wire.StatsReader()
        self._judges = Judges()
        self.prunings = Prunings()

    def host_risks(self):
        return {}

    def other_catalog(self, stats):
        return ""

    def policies(self):
        return STRICT


def host_of(number, text):
    return types.SimpleNamespace(
        host=f"h{number}",
        nodename=f"h{number}",
        stats={wire.STATS_KEY: text},
        allocation_candidates=[candidate(FIRST)],
    )


def left_of(texts, guest):
    """Which of some hosts the filter leaves, by their places."""
    filter_ = object.__new__(filters.DeviceCompatFilter)
    filter_._state = _State()
    found = lookup.Lookup("an-instance", guest)
    context = types.SimpleNamespace(update_store=lambda: None, elevated=lambda: None)
    hosts = [host_of(number, text) for number, text in enumerate(texts)]
    left = filter_._filter_known(context, hosts, found)
    return [hosts.index(host) for host in left]


@pytest.fixture(autouse=True)
def no_events(monkeypatch):
    """There are no databases that events could be added to."""
    monkeypatch.setattr("nova_devcompat.stores.events.add_in_cell", lambda *args, **values: None)


def test_alike_hosts_take_the_short_cut(monkeypatch):
    """Or else what follows would show nothing."""
    asked = []
    original = _State.judge_text
    monkeypatch.setattr(_State, "judge_text", lambda *args: asked.append(1) or original(*args))
    for guest in (_PLAIN_GUEST, Guest()):
        asked.clear()
        assert left_of([RIGHT] * 50, guest) == list(range(50)) * bool(left_of([RIGHT], guest))
        assert len(asked) < 20
    assert wire.says_its_length(RIGHT)


@given(
    st.sampled_from([RIGHT, GOOD[2]]),
    st.sampled_from([REQUESTS[0], _GPU_GUEST, _PLAIN_GUEST, REQUESTS[4], Guest()]),
    st.data(),
)
def test_a_document_that_was_cut_off_is_never_taken_for_a_whole_one(text, guest, data):
    """Nor a whole one for it, whichever is asked about first and between which others."""
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    texts = data.draw(st.permutations([text, text, cut, text, cut]))
    alone = {whole: bool(left_of([whole], guest)) for whole in (text, cut)}
    assert left_of(texts, guest) == [i for i, one in enumerate(texts) if alone[one]]


@given(
    st.sampled_from([RIGHT, GOOD[2]]),
    st.sampled_from([REQUESTS[0], _GPU_GUEST, _PLAIN_GUEST, REQUESTS[4], Guest()]),
    st.randoms(use_true_random=False),
)
def test_a_document_that_is_wrong_anywhere_is_judged_as_it_is_alone(text, guest, rng):
    """Though it says that it decides as others do, and ends as they end."""
    if rng.randrange(3):
        content = json.loads(text)
        group = rng.randrange(len(content["g"]))
        wrong = inputs.dumps(inputs.spoil(rng, content, ("g", group)))
    else:
        wrong = inputs.stats_text(rng, text)
    assume(
        not wire.says_its_length(wrong)
    )  # as long as it was: what a host says of itself is believed
    texts = [text, text, wrong, text, wrong]
    rng.shuffle(texts)
    alone = {one: bool(left_of([one], guest)) for one in (text, wrong)}
    assert left_of(texts, guest) == [i for i, one in enumerate(texts) if alone[one]]


def test_documents_of_the_first_release_are_read_whole():
    """They do not say how long they are."""
    old, cut = (RECORDED, RECORDED[:-20])
    for guest in (_PLAIN_GUEST, REQUESTS[4], Guest()):
        alone = {one: bool(left_of([one], guest)) for one in (old, cut)}
        texts = [old, cut, old, cut]
        assert left_of(texts, guest) == [i for i, one in enumerate(texts) if alone[one]]


@given(st.sampled_from([RIGHT, GOOD[2]]), st.sampled_from([REQUESTS[0], _PLAIN_GUEST]), st.data())
def test_a_document_that_begins_as_others_do_spoils_none_of_them(text, guest, data):
    """Whatever the rest of it is."""
    begin = text[: wire.SHAPE.stop]
    garbage = begin + data.draw(st.text(max_size=40))
    texts = data.draw(st.permutations([text, text, garbage, text]))
    alone = bool(left_of([text], guest))
    left = left_of(texts, guest)
    assert [i for i in left if texts[i] == text] == [
        i for i, one in enumerate(texts) if one == text and alone
    ]
