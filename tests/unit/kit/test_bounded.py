# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest

from nova_devcompat.kit.bounded import Bounded, CallError, NoAnswer
from tests.unit.threads import Begun


@pytest.fixture
def gate():
    event = threading.Event()
    yield event
    event.set()


def test_the_result():
    bounded = Bounded("x", 5)
    assert bounded.call(lambda: 42) == 42
    assert bounded.call(lambda: None) is None
    assert not bounded.stuck


@pytest.mark.parametrize(
    "error", [KeyError("a"), RuntimeError("b"), SystemExit(3), OSError(5, "c")]
)
def test_what_the_function_raises_is_raised(error):
    def fail():
        raise error

    with pytest.raises(type(error)) as caught:
        Bounded("x", 5).call(fail)
    assert caught.value is error


def test_it_runs_in_a_daemon_thread():
    thread = Bounded("smi", 5).call(threading.current_thread)
    assert thread is not threading.current_thread()
    assert thread.daemon and thread.name == "devcompat-smi"


def test_a_call_that_hangs(gate):
    bounded = Bounded("x", 0.05, "look in dmesg")
    began = time.monotonic()
    with pytest.raises(NoAnswer, match=r"^x gives no answer; look in dmesg$"):
        bounded.call(gate.wait)
    assert time.monotonic() - began < 2
    assert bounded.stuck


def test_while_one_hangs_others_fail_at_once_without_a_thread(gate):
    bounded = Bounded("x", 0.05)
    with pytest.raises(NoAnswer):
        bounded.call(gate.wait)
    bounded.seconds = 60
    begun = Begun()
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(NoAnswer, match=r"^x gives no answer$"):
            bounded.call(lambda: 1)
    assert time.monotonic() - began < 5
    assert not begun.alive()
    gate.set()
    deadline = time.monotonic() + 5
    while bounded.stuck and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not bounded.stuck
    assert bounded.call(lambda: 1) == 1


def test_an_answer_that_comes_too_late_is_dropped(gate):
    bounded = Bounded("x", 0.05)
    with pytest.raises(NoAnswer):
        bounded.call(lambda: gate.wait() and "late")
    gate.set()
    deadline = time.monotonic() + 5
    while bounded.stuck and time.monotonic() < deadline:
        time.sleep(0.01)
    assert bounded.call(lambda: "now") == "now"


def test_calls_of_several_threads_run_one_after_the_other():
    bounded = Bounded("x", 10)
    running, most, results = 0, 0, []

    def work(number):
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.002)
        running -= 1
        return number

    threads = [
        threading.Thread(target=lambda n=n: results.append(bounded.call(lambda: work(n))))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == list(range(20))
    assert most == 1


def test_a_call_that_does_not_get_its_turn():
    """Which of two calls gives up first is a matter of luck, so the first is only pretended."""
    bounded = Bounded("x", 0.05)
    with bounded._lock:
        with pytest.raises(NoAnswer, match=r"^x was busy with an earlier call for 0\.05 s$"):
            bounded.call(lambda: 42)
    assert bounded.call(lambda: 42) == 42


def test_many_threads_and_one_that_hangs(gate):
    bounded = Bounded("x", 0.2)
    begun = Begun()
    errors = []

    def ask():
        try:
            bounded.call(gate.wait)
        except NoAnswer as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 10
    assert time.monotonic() - began < 5
    assert begun.alive() == 1


def test_no_thread_to_be_had(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    bounded = Bounded("x", 1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(CallError, match=r"^x cannot start a thread: can't start"):
            bounded.call(lambda: 1)
    assert bounded.call(lambda: 1) == 1


def test_nothing_of_a_call_stays():
    class Thing:
        pass

    bounded = Bounded("x", 5)
    thing = Thing()
    known = weakref.ref(thing)
    bounded.call(lambda kept=thing: None)
    with pytest.raises(ValueError):
        bounded.call(lambda kept=thing: int("x"))
    del thing
    gc.collect()
    assert known() is None
