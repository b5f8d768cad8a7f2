# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import threading

import pytest

from nova_devcompat.sources import SourceError
from nova_devcompat.sources.calls import SourceCall, TimedOut, Turns


@pytest.fixture
def gate():
    event = threading.Event()
    yield event
    event.set()


def test_what_a_call_returns_and_raises():
    call = SourceCall("x", 5)
    assert call.call(lambda: 42) == 42
    with pytest.raises(KeyError):
        call.call(lambda: {}["a"])
    error = SourceError("no driver")
    with pytest.raises(SourceError) as caught:
        call.call(lambda: (_ for _ in ()).throw(error))
    assert caught.value is error


def test_a_call_that_hangs_is_an_error_of_the_source(gate):
    call = SourceCall("x", 0.05)
    for _ in range(2):
        with pytest.raises(TimedOut, match=r"^source 'x' gives no answer; look .*dmesg") as caught:
            call.call(gate.wait)
        assert isinstance(caught.value, SourceError)
    assert call.stuck


def test_a_call_that_cannot_be_made_is_one_too(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(SourceError, match=r"^source 'x' cannot start a thread: can't start"):
        SourceCall("x", 1).call(lambda: 1)


def test_turns(gate):
    turns = Turns("x", 0.05)
    taken = threading.Event()

    def hold():
        with turns.turn():
            taken.set()
            gate.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(5)
    with pytest.raises(TimedOut, match=r"^source 'x' was busy for 0\.05 s$"):
        with turns.turn():
            raise AssertionError("two have a turn")
    gate.set()
    thread.join(5)
    with turns.turn():
        pass


def test_what_fails_in_a_turn_ends_it():
    turns = Turns("x", 0.05)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            with turns.turn():
                raise ZeroDivisionError
