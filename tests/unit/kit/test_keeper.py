# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import logging
import sys
import threading
import time

import pytest

from nova_devcompat.kit import keeper
from nova_devcompat.kit.keeper import Keeper
from nova_devcompat.kit.problems import DocumentError
from nova_devcompat.kit.yamlfile import read


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("a: 1")
    return path


def replace(path, text):
    """Put a new file in place, as an editor does."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def keeper_of(path, **options) -> Keeper[dict]:
    return Keeper([path], lambda: read(path).content, what="thing", min_interval=0, **options)


def test_keeper_follows_the_file(path, caplog):
    caplog.set_level(logging.INFO)
    keeper = keeper_of(path)
    first = keeper.current()
    assert first == {"a": 1}
    assert keeper.current() is first
    replace(path, "a: 2")
    assert keeper.current() == {"a": 2}
    assert [record.getMessage() for record in caplog.records] == [
        f"Read the changed thing: {path}"
    ]


def test_keeper_first_reading_raises_until_it_is_good(path):
    path.unlink()
    keeper = keeper_of(path)
    for _ in range(2):
        with pytest.raises(DocumentError, match="no such file"):
            keeper.current()
    path.write_text("a: 3")
    assert keeper.current() == {"a": 3}


def test_keeper_keeps_the_last_good_and_says_so_once_a_change(path, caplog):
    caplog.set_level(logging.ERROR)
    keeper = keeper_of(path)
    keeper.current()
    replace(path, "a: 1\na: 2\nb: 1\nb: 2\nc: *d")
    for _ in range(3):
        assert keeper.current() == {"a": 1}
    (record,) = caplog.records
    message = record.getMessage()
    assert record.levelno == logging.ERROR and record.exc_info is None
    assert "The changed thing is wrong and not used; the last good one stays in use" in message
    assert "duplicate key 'a'" in message and "duplicate key 'b'" in message
    assert "\n" not in message  # or else who searches the log finds no reason

    path.unlink()
    for _ in range(3):
        assert keeper.current() == {"a": 1}
    assert len(caplog.records) == 2
    assert "no such file" in caplog.records[1].getMessage()

    path.write_text("a: 5")
    assert keeper.current() == {"a": 5}
    assert len(caplog.records) == 2


def test_keeper_says_what_is_wrong_once(path):
    """oslo.log adds the exception that is being handled to a line of ERROR, if there is one."""
    handled = []

    class Handler(logging.Handler):
        def emit(self, record):
            handled.append(sys.exc_info()[0])

    keeper, handler = keeper_of(path), Handler(logging.ERROR)
    keeper.current()
    replace(path, "a: *b")
    logging.getLogger().addHandler(handler)
    try:
        keeper.current()
    finally:
        logging.getLogger().removeHandler(handler)
    assert handled == [None]


def test_keeper_keeps_the_last_good_whatever_goes_wrong(path, caplog):
    """A fault of ours or of a plugin's is no end of the service that asks."""

    def load():
        content = read(path).content
        if content != {"a": 1}:
            raise KeyError("boolean")
        return content

    keeper = Keeper([path], load, what="thing", min_interval=0)
    assert keeper.current() == {"a": 1}
    replace(path, "a: 2")
    for _ in range(3):
        assert keeper.current() == {"a": 1}
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and record.exc_info is not None
    assert record.getMessage() == (
        f"The changed thing could not be read; the last good one stays in use: {path}"
    )


def test_keeper_sees_a_change_of_mode(path, caplog):
    """A file that could not be read may be readable after a chmod, which leaves mtime alone."""
    before = keeper._signature_of(str(path))
    time.sleep(0.01)
    path.chmod(0o600)
    assert keeper._signature_of(str(path)) != before


def test_keeper_looks_no_more_often_than_it_should(path):
    clock = Clock()
    keeper = Keeper(
        [path], lambda: read(path).content, what="thing", min_interval=1.0, clock=clock
    )
    assert keeper.current() == {"a": 1}
    replace(path, "a: 2")
    clock.now = 0.9
    assert keeper.current() == {"a": 1}
    clock.now = 1.0
    assert keeper.current() == {"a": 2}


def test_keeper_does_not_block_readers_while_one_reloads(path):
    started, go_on = threading.Event(), threading.Event()

    def load():
        content = read(path).content
        if content != {"a": 1}:
            started.set()
            assert go_on.wait(10)
        return content

    keeper = Keeper([path], load, what="thing", min_interval=0)
    keeper.current()
    replace(path, "a: 2")
    results = []
    thread = threading.Thread(target=lambda: results.append(keeper.current()))
    thread.start()
    assert started.wait(10)
    assert keeper.current() == {"a": 1}  # and returns at all
    go_on.set()
    thread.join(10)
    assert results == [{"a": 2}]
    assert keeper.current() == {"a": 2}


def test_keeper_loads_once_for_many_threads(path):
    loads = []
    barrier = threading.Barrier(8)

    def load():
        loads.append(1)
        time.sleep(0.05)
        return read(path).content

    keeper = Keeper([path], load, what="thing", min_interval=60)
    seen = []

    def work():
        barrier.wait(10)
        seen.append(keeper.current())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == [{"a": 1}] * 8
    assert len(loads) == 1
