# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Adoption on a service that has several nodes, as that of Ironic's driver."""

import types

import pytest
from nova import objects

from nova_devcompat.compute.adopt import Adoption
from nova_devcompat.host.devices import HostDevices
from nova_devcompat.stores import asked
from tests.unit.providers import uuid_of

objects.register_all()

CATALOG = types.SimpleNamespace(digest="d", host_families=())


@pytest.fixture
def looked(monkeypatch):
    """The guests that were looked at, with the node in whose cycle."""
    seen = []

    def adopt(self, context, todo, uuid, nodename, devices):
        seen.append((uuid, nodename))
        return False

    monkeypatch.setattr(Adoption, "_adopt", adopt)
    monkeypatch.setattr(asked, "guests", lambda *args: set())
    monkeypatch.setattr(objects.InstanceList, "get_by_host_and_node", lambda *args, **kwargs: [])
    return seen


def test_a_guest_is_looked_at_in_the_cycle_of_its_node(looked):
    publisher = types.SimpleNamespace(devices=lambda nodename: HostDevices(CATALOG, []))
    host = types.SimpleNamespace(name="cmp", publisher=publisher)
    domains = types.SimpleNamespace(tells_starts=False)
    adoption = Adoption(host, guests=None, domains=domains)
    one, two = uuid_of("one"), uuid_of("two")
    adoption.look_again(two, "node2")
    adoption.look_again(one, "node1")
    for nodename in ("node1", "node2", "node1", "node2"):
        adoption.go_on(nodename)
    assert looked == [(one, "node1"), (two, "node2")]
