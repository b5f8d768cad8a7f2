# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import inspect
import logging
from typing import Any

import pytest

from nova_devcompat.compute.contract import Hook
from nova_devcompat.compute.hooks import hooked

HOOK = Hook(method="move", relies_on=("instance",), lost="moves are unseen", raises=("Refused",))


class Refused(Exception):
    pass


class Driver:
    """What is wrapped; it notes its calls."""

    def __init__(self, raises: Exception | None = None) -> None:
        self.calls: list[Any] = []
        self.raises = raises

    def move(self, context: Any, instance: Any, *, fast: bool = False) -> str:
        self.calls.append((context, instance, fast))
        if self.raises:
            raise self.raises
        return "moved"


def method(around: Any, wrapped: Any = Driver.move) -> Any:
    return hooked(HOOK, around, wrapped, [inspect.signature(Driver.move)], (Refused,))


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.levelno for record in caplog.records} <= {logging.ERROR}
    return caplog.messages


def test_nova_gets_what_the_driver_returns(caplog):
    seen = []

    def around(driver, call, instance):
        seen.append(instance)
        assert call() == "moved"
        return "not this"

    driver = Driver()
    assert method(around)(driver, "c", instance="i", fast=True) == "moved"
    assert driver.calls == [("c", "i", True)]
    assert seen == ["i"]
    assert errors(caplog) == []


def test_nova_gets_what_the_driver_raises(caplog):
    driver = Driver(KeyError("its own"))
    with pytest.raises(KeyError) as caught:
        method(lambda driver, call, instance: call())(driver, "c", "i")
    assert caught.value is driver.raises
    assert len(driver.calls) == 1
    assert errors(caplog) == []


def test_a_refusal_leaves(caplog):
    def around(driver, call, instance):
        raise Refused

    driver = Driver()
    with pytest.raises(Refused):
        method(around)(driver, "c", "i")
    assert driver.calls == []
    assert errors(caplog) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_nothing_else_of_ours_leaves(caplog, when):
    def around(driver, call, instance):
        if when == "after":
            call()
        raise TypeError("our own")

    driver = Driver()
    assert method(around)(driver, "c", "i") == "moved"
    assert len(driver.calls) == 1
    (told,) = errors(caplog)
    assert "failed in move" in told and told.endswith("What is lost: moves are unseen")


def test_a_fault_of_ours_does_not_hide_the_drivers(caplog):
    def around(driver, call, instance):
        try:
            call()
        finally:
            raise TypeError("our own")

    driver = Driver(KeyError("its own"))
    with pytest.raises(KeyError):
        method(around)(driver, "c", "i")
    assert len(driver.calls) == 1
    assert len(errors(caplog)) == 1


def test_an_end_of_the_process_is_not_held_up():
    def around(driver, call, instance):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        method(around)(Driver(), "c", "i")


def test_a_call_with_unexpected_arguments_passes(caplog):
    """As they are: the driver may know what to do with them."""

    def around(driver, call, instance):
        raise AssertionError("it has no part in this")

    passed = []

    def wrapped(driver, *args, **kwargs):
        passed.append((args, kwargs))
        return "moved"

    assert method(around, wrapped)(Driver(), "c", "i", 3, quick=1) == "moved"
    assert passed == [(("c", "i", 3), {"quick": 1})]
    (told,) = errors(caplog)
    assert told.startswith(
        "move was called with unexpected arguments (3 by place, by name: quick)"
    )
    assert told.endswith("What is lost: moves are unseen")


def test_it_looks_like_the_drivers_method():
    made = method(None)
    assert made.__name__ == "move"
    assert list(inspect.signature(made).parameters) == ["self", "context", "instance", "fast"]
