# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which atoms a host evaluates where there are more than it looks at; the rest is functional."""

import types

import pytest
from nova.compute.provider_tree import ProviderTree

from nova_devcompat import wire
from nova_devcompat.catalog import Catalog
from nova_devcompat.compat import traits
from nova_devcompat.compat.choice import EVALUATED
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.kinds import AtLeast, Superset
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compute.publish import Publisher
from nova_devcompat.host.devices import HostDevice, HostDevices

NODE = "cmp1"
CARD = Family(name="card", rules={"caps": Superset(), "queues": AtLeast()})
OTHER = Family(name="other", rules={"queues": AtLeast()})


def queues(*numbers, family="card"):
    return frozenset(Atom(family, "queues", str(number)) for number in numbers)


class Placement:
    """What of placement is asked, in memory."""

    def __init__(self):
        self.known, self.accepted = frozenset(), frozenset()
        self.asked = []
        self.answers = True

    def known_atoms(self, *, associated=False):
        self.asked.append(associated)
        if not self.answers:
            return None
        return self.accepted & self.known if associated else self.known

    def providers_of(self, nodename):
        return {}


class Host:
    """A publisher, and what it published last."""

    def __init__(self, placement, caps=("a",)):
        devices = [
            HostDevice("0000:81:00.0", CARD.offer({"caps": list(caps), "queues": 10_000})),
            HostDevice("0000:82:00.0", OTHER.offer({"queues": 10_000})),
        ]
        found = HostDevices(Catalog(digest="x", families={}), devices)
        self.publisher = Publisher(types.SimpleNamespace(read=lambda node: found), placement)
        self.tree = ProviderTree()
        self.tree.new_root(NODE, "4c2a3ff6-8d21-4a85-9f53-6d4a3f5a8f0b")

    def cycle(self):
        """As nova-compute has one; the atoms that its document accepts."""
        text = self.publisher.stats(NODE)
        self.publisher.update_root_traits(self.tree, NODE)
        return {atom for part in wire.load_stats(text).devices for atom in part.accepts.atoms}

    @property
    def root(self):
        return {traits.decode(name) for name in self.tree.data(NODE).traits}


@pytest.fixture
def placement():
    return Placement()


OWN = {Atom("card", "caps", "a"), *queues(10_000), *queues(10_000, family="other")}


def test_few_atoms_are_asked_for_once(placement):
    placement.known = queues(1, 2, 3)
    assert Host(placement).cycle() == OWN | placement.known
    assert placement.asked == [False]


def test_a_flood_takes_the_place_of_nothing(placement, caplog):
    host = Host(placement)
    placement.known = queues(777, 888) | queues(5, family="other")
    before = host.cycle()
    placement.known |= queues(*range(5_000, 6_000))
    for _ in range(2):
        after = host.cycle()
        assert before <= after
        assert len([atom for atom in after if atom.family == "card"]) == EVALUATED.attribute + 1
        assert host.root == after
    (warning,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert "since placement has more of card.queues than a host looks at" in warning.getMessage()
    placement.known = queues(1)
    assert host.cycle() == OWN | queues(1)


def test_what_some_host_accepts_outweighs_what_stands_for_nothing(placement):
    """Though it came later than the flood: a new version of a new host."""
    host = Host(placement)
    placement.known = queues(*range(5_000, 6_000))
    host.cycle()
    placement.known |= queues(4_242)
    placement.accepted = queues(4_242)
    assert queues(4_242) <= host.cycle()


def test_after_a_restart_it_is_the_same_within_a_cycle(placement):
    host = Host(placement)
    placement.known = queues(777)
    host.cycle()
    placement.known |= queues(*range(1_000, 2_000))
    placement.accepted = placement.known
    host.cycle()
    again = Host(placement)
    again.tree = host.tree
    again.cycle()
    assert host.root == again.root
    assert queues(777) <= again.cycle()


def test_traits_that_others_set_are_bounded_too(placement):
    host = Host(placement)
    host.cycle()
    host.tree.add_traits(NODE, *map(traits.encode, queues(*range(1, 1_000))))
    host.cycle()
    assert len(host.root) <= EVALUATED.attribute + len(OWN)
    assert host.root >= OWN


def test_a_source_that_tells_ever_more(placement):
    host = Host(placement, caps=[f"f{number:04d}" for number in range(2_000)])
    found = host.cycle()
    assert len([atom for atom in found if atom.attribute == "caps"]) == EVALUATED.attribute
    assert queues(10_000, family="other") <= found


def test_while_placement_does_not_answer(placement):
    host = Host(placement)
    placement.known = queues(777)
    before = host.cycle()
    placement.answers = False
    assert host.cycle() == before
    assert host.root == before
