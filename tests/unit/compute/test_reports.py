# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Report mode counts a request once, however often it is decided."""

import logging
import types

import pytest

from nova_devcompat.compat.verdict import Actor, Reason
from nova_devcompat.compute.reports import Reports

OLD, OTHER = (Reason(code=code, actor=Actor.HOST, family="gpu") for code in ("too-old", "other"))


@pytest.fixture
def report(caplog):
    """Report reasons of one request for one guest; the lines that it made."""
    caplog.set_level(logging.WARNING)
    reports = Reports()

    def report(guest, request, *reasons):
        caplog.clear()
        context = types.SimpleNamespace(request_id=request)
        reports.add(context, types.SimpleNamespace(uuid=guest), reasons)
        return [record.getMessage() for record in caplog.records]

    return report


def test_a_migration_that_is_decided_twice(report):
    (line,) = report("a", "first", OLD)
    assert "(1 so far): gpu: " in line and "too-old" in line
    assert report("a", "first", OLD) == []
    (line,) = report("a", "first", OLD, OTHER)
    assert "(1 so far)" in line and "other" in line and "too-old" not in line


def test_each_request_and_each_guest_counts(report):
    report("a", "first", OLD)
    assert "(2 so far)" in report("a", "second", OLD)[0]
    assert "(3 so far)" in report("b", "first", OLD)[0]
    assert report("a", "first", OLD) == []


def test_what_is_remembered_is_bounded(report, monkeypatch):
    monkeypatch.setattr("nova_devcompat.compute.reports._REQUESTS_KEPT", 2)
    for request in ("first", "second", "third"):
        report("a", request, OLD)
    assert report("a", "third", OLD) == []
    assert "(4 so far)" in report("a", "first", OLD)[0]
