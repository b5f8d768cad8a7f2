# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import logging

from nova_devcompat.kit.once import Told


def messages(caplog):
    found = [(record.levelname, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return found


def test_each_is_told_once(caplog):
    caplog.set_level(logging.INFO)
    told = Told("cmp1")
    told.update({"source a": "no socket", "fw of device x": "is binary"})
    assert messages(caplog) == [
        ("WARNING", "cmp1: source a cannot be used until this is mended: no socket"),
        ("WARNING", "cmp1: fw of device x cannot be used until this is mended: is binary"),
    ]
    for _ in range(3):
        told.update({"fw of device x": "is binary", "source a": "no socket"})
    assert messages(caplog) == []
    told.update({"source a": "no library"})
    assert messages(caplog) == [
        ("WARNING", "cmp1: source a cannot be used until this is mended: no library"),
        ("INFO", "cmp1: fw of device x can be used again, or is gone"),
    ]
    told.update({})
    told.update({})
    assert messages(caplog) == [("INFO", "cmp1: source a can be used again, or is gone")]


def test_what_was_told_elsewhere(caplog):
    caplog.set_level(logging.INFO)
    known = {"source a": "no socket", "source b": "no library"}
    told = Told("cmp1", known)
    told.update({"source a": "no socket"})
    assert messages(caplog) == [("INFO", "cmp1: source b can be used again, or is gone")]
    assert known == {"source a": "no socket", "source b": "no library"}
