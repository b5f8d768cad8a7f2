# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Who is looked at in which cycle."""

import itertools
import types

from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat.compute.todo import Todo, told
from tests.budget import scaled

GPU = ("0000:81:00.0", None)


class Devices:
    """A host with a GPU that tells some attributes, or is not found."""

    host = {}

    def __init__(self, *attributes, digest="d", family="gpu", fully_read=True):
        self.fully_read = fully_read
        self.catalog = types.SimpleNamespace(digest=digest, host_families=())
        offer = types.SimpleNamespace(parsed=attributes)
        self._device = types.SimpleNamespace(family=family, offer=offer) if attributes else None

    def find(self, address, parent):
        return self._device

    def may_be(self, address):
        return ()


def cycle(todo, starts, devices, again=()):
    return todo.begin(starts, again, devices, others_are_gone=True)


def look_at_all(todo, due, devices, again=False):
    for uuid in due:
        todo.guests[uuid].devices = told([GPU], devices)
        todo.looked_at(uuid, devices.catalog.digest, again=again)


def test_each_once():
    todo, devices = Todo(), Devices("version")
    starts = {str(n): "1" for n in range(200)}
    assert set(cycle(todo, starts, devices)) == set(starts)
    look_at_all(todo, starts, devices)
    for _ in range(20):
        assert cycle(todo, starts, devices) == []
    assert cycle(todo, {**starts, "7": "2"}, devices) == ["7"], "it was started"
    look_at_all(todo, ["7"], devices)
    assert cycle(todo, {**starts, "7": "2"}, devices, ["8"]) == ["8"]
    look_at_all(todo, ["8"], devices)
    assert set(cycle(todo, starts, Devices("version", digest="other"))) == set(starts)


def test_a_device_that_comes_and_goes():
    todo, starts = Todo(), {"one": "1"}
    present, absent = Devices("version"), Devices()
    look_at_all(todo, cycle(todo, starts, present), present)
    for devices in (absent, present, absent, present):
        assert cycle(todo, starts, devices) == []
    assert cycle(todo, starts, Devices("version", "more")) == ["one"]
    look_at_all(todo, ["one"], present)
    assert cycle(todo, starts, Devices("version", family="gpu2")) == ["one"], "renamed"


def test_what_was_absent_when_it_was_looked_at():
    todo, starts, absent = Todo(), {"one": "1"}, Devices()
    look_at_all(todo, cycle(todo, starts, absent), absent)
    assert cycle(todo, starts, absent) == []
    assert cycle(todo, starts, Devices("version")) == ["one"]


def test_a_host_that_could_not_be_read_as_a_whole():
    todo, starts = Todo(), {"one": "1", "two": "1"}
    partly, whole = Devices("version", fully_read=False), Devices("version")
    look_at_all(todo, cycle(todo, starts, partly), partly)
    todo.guests["one"].unread = True
    assert cycle(todo, starts, partly) == []
    assert cycle(todo, starts, whole) == ["one"]


def test_nothing_is_given_up():
    """What cannot be told is asked for again, ever more rarely but for ever."""
    todo, starts, devices = Todo(), {"one": "1"}, Devices("version")
    looked = []
    for number in range(60):
        due = cycle(todo, starts, devices)
        if due:
            looked.append(number)
        look_at_all(todo, due, devices, again=True)
    apart = [after - before for before, after in itertools.pairwise(looked)]
    assert apart == [1, 2, 4, *[8] * (len(apart) - 3)]
    assert len(looked) > 8


@given(st.lists(st.sets(st.integers(0, 9), max_size=3), min_size=1, max_size=30), st.data())
@settings(max_examples=scaled(50))
def test_all_have_their_turn(busy, data):
    """However few a cycle has time for, and whoever else comes due meanwhile."""
    todo, devices = Todo(), Devices("version")
    starts = {str(n): "1" for n in range(10)}
    left = set(starts)
    for hung in busy:
        due = cycle(todo, starts, devices)
        assert left <= set(due)
        for uuid in due[:3]:
            if int(uuid) in hung:
                todo.look_later(uuid)
            else:
                look_at_all(todo, [uuid], devices)
                left.discard(uuid)
    for _ in range(10):
        look_at_all(todo, cycle(todo, starts, devices)[:3], devices)
    assert cycle(todo, starts, devices) == []


def test_who_is_gone_is_forgotten():
    todo, devices = Todo(), Devices("version")
    cycle(todo, {"one": "1", "two": "1"}, devices)
    assert cycle(todo, {"one": "1"}, devices) == ["one"]
    assert set(todo.guests) == {"one"}
    # Without an answer nobody is taken for gone.
    assert todo.begin({}, (), devices, others_are_gone=False) == ["one"]
