# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Instances read page by page."""

from __future__ import annotations

import types

import pytest
from nova import exception, objects

from nova_devcompat.stores import cells
from nova_devcompat.stores.cells import Refused


@pytest.fixture
def instances(monkeypatch):
    """UUIDs of instances that pages of two are read from; take one out to purge it."""
    present = list("abcdef")

    def get_by_filters(context, filters, *, limit, marker, **others):
        assert filters == {"deleted": False, "host": "a"}
        if marker is not None and marker not in present:
            raise exception.MarkerNotFound(marker=marker)
        left = [uuid for uuid in present if marker is None or uuid > marker]
        return [types.SimpleNamespace(uuid=uuid) for uuid in left[:limit]]

    monkeypatch.setattr(objects, "InstanceList", types.SimpleNamespace(), raising=False)
    objects.InstanceList.get_by_filters = get_by_filters
    monkeypatch.setattr(cells, "_PAGE", 2)
    return present


def test_pages(instances):
    read = cells.instances(None, {"host": "a"}, [])
    assert [instance.uuid for instance in read] == list("abcdef")


def test_an_instance_is_purged_between_two_pages(instances):
    read = cells.instances(None, {"host": "a"}, [])
    assert [next(read).uuid, next(read).uuid] == ["a", "b"]
    instances.remove("b")
    assert [instance.uuid for instance in read] == list("cdef")


def test_a_whole_page_is_purged(instances):
    read = cells.instances(None, {"host": "a"}, [])
    assert [next(read).uuid, next(read).uuid] == ["a", "b"]
    del instances[:2]
    with pytest.raises(Refused, match="purged"):
        next(read)


def test_errors_in_one_line():
    assert cells.brief(ValueError("what\nwhy")) == "ValueError: what"
    assert cells.brief(KeyError()) == "KeyError"
