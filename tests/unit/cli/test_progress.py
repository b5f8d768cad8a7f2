# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Progress of what takes long, and what an interruption leaves."""

from __future__ import annotations

import io
import logging
import os
import pty
import signal
import subprocess
import sys

import pytest

from nova_devcompat.cli.progress import Progress


class Clock:
    """A second passes with each thing."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def things(self, count):
        for number in range(count):
            self.now += 1.0
            yield number


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "nova_devcompat.cli")
    return lambda: caplog.messages


def test_lines_elsewhere(lines):
    clock, stream = Clock(), io.StringIO()
    track = Progress(stream, quiet=False, clock=clock)
    assert list(track(clock.things(25), "Hosts asked", 25)) == list(range(25))
    # After two seconds, and every ten from then on.
    assert lines() == ["Hosts asked: 2 of 25", "Hosts asked: 12 of 25", "Hosts asked: 22 of 25"]
    assert stream.getvalue() == ""


def test_time_counts_over_all_parts(lines):
    clock = Clock()
    track = Progress(io.StringIO(), quiet=False, clock=clock)
    for _ in range(3):
        assert list(track(clock.things(1), "Hosts read")) == [0]
    assert lines() == ["Hosts read: 1"]


def test_what_is_quick_says_nothing(lines):
    track = Progress(io.StringIO(), quiet=False)
    assert list(track(range(1_000), "Hosts asked", 1_000)) == list(range(1_000))
    assert lines() == []


def on_terminal(count, *, quiet=False, fail_at=None):
    """What a terminal is sent."""
    master, slave = pty.openpty()
    clock = Clock()
    with os.fdopen(slave, "w") as stream, os.fdopen(master, "rb", buffering=0) as screen:
        track = Progress(stream, quiet=quiet, clock=clock)
        for number in track(clock.things(count), "Hosts asked", count):
            if number == fail_at:
                break
        stream.write("end")
        stream.flush()
        sent = b""
        while not sent.endswith(b"end"):
            sent += screen.read(65_536)
        return sent.decode()


@pytest.mark.parametrize("fail_at", [None, 20])
def test_a_bar_on_a_terminal(lines, fail_at):
    sent = on_terminal(25, fail_at=fail_at)
    assert "Hosts asked" in sent
    assert "/25" in sent
    # It is taken away, and the cursor is there again.
    assert sent.endswith("end")
    assert "\x1b[2K" in sent.rpartition("/25")[2]
    assert sent.count("\x1b[?25l") == sent.count("\x1b[?25h") == 1
    assert lines() == []


def test_quiet(lines):
    assert on_terminal(25, quiet=True) == "end"
    assert lines() == []


def test_an_interruption(tmp_path):
    """It ends as a shell expects it, with nothing but what there is to say."""
    fifo = tmp_path / "inventory.yaml"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "nova_devcompat.cli.main", "matrix", "--pack", "mtty"]
    with subprocess.Popen(
        [*command, "--inventory", str(fifo)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # pytest may have been started in the background, where shells ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as running:
        # This waits until it reads, and it waits for what we never write.
        with fifo.open("w"):
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert "Traceback" not in err
