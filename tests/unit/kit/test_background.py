# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

import os
import threading

import pytest

from nova_devcompat.kit.background import Background
from nova_devcompat.kit.rate import Rate


@pytest.fixture
def work():
    background = Background("tests", most=3)
    yield background
    assert background.join(10)


def test_tasks_are_done_in_order_by_one_thread(work):
    done, threads = [], set()

    def task(number):
        done.append(number)
        threads.add(threading.current_thread())

    held = threading.Event()
    assert work.submit(lambda: held.wait(10))
    for number in range(3):
        assert work.submit(lambda number=number: task(number))
    held.set()
    assert work.join(10)
    assert done == [0, 1, 2]
    (thread,) = threads
    assert thread.daemon
    thread.join(10)
    assert not thread.is_alive(), "it ends when there is nothing to do"


def test_no_more_wait_than_may(work):
    began, held = threading.Event(), threading.Event()

    def hang():
        began.set()
        held.wait(10)

    assert work.submit(hang)
    assert began.wait(10)
    assert [work.submit(lambda: None) for _ in range(5)] == [True] * 3 + [False] * 2
    assert not work.join(0.01)
    held.set()
    assert work.join(10)
    assert work.submit(lambda: None)


def test_a_task_that_fails_is_logged_and_the_next_one_done(work, caplog):
    done = threading.Event()

    def fail():
        raise ValueError("no")

    assert work.submit(fail)
    assert work.submit(done.set)
    assert work.join(10)
    assert done.is_set()
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("ERROR", "A task of tests failed")


def test_no_thread_to_be_had(work, monkeypatch, caplog):
    def start(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert not work.submit(lambda: None)
    assert work.join(0)
    assert "No thread could be started for tests" in caplog.text
    done = threading.Event()
    assert work.submit(done.set)
    assert work.join(10)
    assert done.is_set()


def test_a_child_begins_anew(work):
    """As a worker of nova-scheduler does, which is forked while its master does something."""
    held = threading.Event()
    assert work.submit(lambda: held.wait(10))
    child = os.fork()
    if not child:  # pragma: no cover  another process
        done = threading.Event()
        fine = work.submit(done.set) and done.wait(10) and work.join(10)
        os._exit(0 if fine else 1)
    held.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_rate_is_for_each_key():
    now = [0.0]
    rate = Rate(most=3, seconds=60, clock=lambda: now[0])
    assert [rate.allows("a") for _ in range(5)] == [True] * 3 + [False] * 2
    assert rate.allows("b")
    now[0] = 19.0
    assert not rate.allows("a")
    now[0] = 20.0
    assert [rate.allows("a"), rate.allows("a")] == [True, False]
    now[0] = 10_000.0
    assert [rate.allows("a") for _ in range(5)] == [True] * 3 + [False] * 2


def test_a_rate_does_not_grow_for_ever():
    rate = Rate(most=1, seconds=60, keys=100, clock=lambda: 0.0)
    for number in range(1_000):
        assert rate.allows(number)
    assert len(rate._left) <= 100
