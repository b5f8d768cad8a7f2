# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import logging

from nova_devcompat.kit.once import Once


def messages(caplog):
    found = [(record.levelname, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return found


def test_each_is_logged_once(caplog):
    caplog.set_level(logging.INFO)
    once = Once("cmp1")
    once.update({"source a": "no socket", "fw of device x": "is binary"})
    assert messages(caplog) == [
        ("WARNING", "cmp1: source a cannot be used until this is mended: no socket"),
        ("WARNING", "cmp1: fw of device x cannot be used until this is mended: is binary"),
    ]
    for _ in range(3):
        once.update({"fw of device x": "is binary", "source a": "no socket"})
    assert messages(caplog) == []
    once.update({"source a": "no library"})
    assert messages(caplog) == [
        ("WARNING", "cmp1: source a cannot be used until this is mended: no library"),
        ("INFO", "cmp1: fw of device x can be used again, or is gone"),
    ]
    once.update({})
    once.update({})
    assert messages(caplog) == [("INFO", "cmp1: source a can be used again, or is gone")]


def test_what_was_logged_elsewhere(caplog):
    caplog.set_level(logging.INFO)
    known = {"source a": "no socket", "source b": "no library"}
    once = Once("cmp1", known)
    once.update({"source a": "no socket"})
    assert messages(caplog) == [("INFO", "cmp1: source b can be used again, or is gone")]
    assert known == {"source a": "no socket", "source b": "no library"}


def test_new_until_it_is_over():
    once = Once()
    assert once.is_new("a") and not once.is_new("a") and once.is_new("b")
    assert once.is_over("a") and not once.is_over("a")
    assert once.is_new("a") and not once.is_new("b")


def test_another_state_is_new():
    once = Once()
    states = [1, 1, 2, 2, 1, None, None]
    assert [once.is_new("a", state) for state in states] == [True, False] * 2 + [True, True, False]
    assert not once.is_over("b")


def test_what_has_passed():
    once = Once()
    for what in "abc":
        once.is_new(what)
    assert once.past({"b": "still", "d": "never said"}) == ["a", "c"]
    assert once.past([]) == ["b"] and once.past([]) == []
    assert once.is_new("a")
