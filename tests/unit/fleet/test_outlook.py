# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How many hosts a guest has left, that it is what nova-scheduler's filter leaves, and why."""

from __future__ import annotations

import dataclasses
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nova.objects.instance_pci_requests import InstancePCIRequest

from nova_devcompat.compat.policy import Mode, OnUnknown, Policy
from nova_devcompat.compat.risks import Risk
from nova_devcompat.compat.ruling import NO_RECORD
from nova_devcompat.compat.verdict import HIDDEN, Actor, Code, Reason
from nova_devcompat.fleet import census
from nova_devcompat.fleet.model import Place
from nova_devcompat.fleet.outlook import NO_FREE_DEVICE, Outlook, Standing
from nova_devcompat.fleet.room import MOST_QUESTIONS, Room, asks_of
from nova_devcompat.fleet.stranded import Stranded
from nova_devcompat.fleet.untold import OTHER_CATALOG, OTHER_SETTINGS
from tests.budget import scaled
from tests.unit.fleet.test_stranded import (
    ENFORCE,
    GUESTS,
    LENIENT,
    POLICIES,
    SAID,
    by_the_filter,
    catalog,
    document,
    every,
    fleet,
    part,
    running,
)


def outlook(guests, *said, policies=None):
    found = Outlook(catalog(), policies or every(ENFORCE))
    cloud = fleet(guests, *said)
    found.read([*cloud.guests, *cloud.hosts])
    return found


def standings(guests, *said, room=None, policies=None):
    return list(outlook(guests, *said, policies=policies).findings(room))


# --- against nova-scheduler's filter -------------------------------------------------------------


@given(st.lists(GUESTS, min_size=1, max_size=4), st.lists(SAID, max_size=4), POLICIES)
@settings(max_examples=scaled(150))
def test_those_that_the_filter_leaves(guests, said, policies):
    named = [dataclasses.replace(one, uuid=str(index)) for index, one in enumerate(guests)]
    cloud = fleet(named, *said)
    expected = {}
    for guest in named:
        accepting = {
            host.place
            for host in cloud.hosts
            if not by_the_filter(guest, policies, host.said).refused
        }
        # Those that are let pass because too little is known of them.
        untold = {
            host.place
            for host in cloud.hosts
            for reason in by_the_filter(guest, policies.as_strict(), host.said).refused
            if reason.code in HIDDEN
        }
        others = accepting - {guest.place}
        if others and others <= untold:
            only = next(iter(others)) if len(others) == 1 else None
            expected[guest.uuid] = Standing.UNKNOWN, only
        elif len(others) == 1:
            expected[guest.uuid] = Standing.ONE_LEFT, *others
        elif not others:
            here = guest.place in accepting
            expected[guest.uuid] = (Standing.ONLY_HERE if here else Standing.NOWHERE), None
    found = standings(named, *said, policies=policies)
    assert {one.guest.uuid: (one.standing, one.other) for one in found} == expected
    for one in found:
        assert one.guest.place not in one.nearest
        assert bool(one.reasons) is bool(one.nearest)


# --- causes --------------------------------------------------------------------------------------


def test_the_cause_is_that_of_the_nearest_host():
    hosts = [document(("gpu", version)) for version in ("1.2", "2.0", "1.0")]
    (one,) = standings([running(part("gpu", "1.2"))], *hosts)
    assert (one.standing, one.nearest) == (Standing.ONLY_HERE, (Place("h2", "h2"),))
    assert census.cause_of(one).startswith("gpu.version: needs 1.2, offered 1.0")
    assert census.remedy_of(one) == "upgrade h2"


@given(GUESTS, st.lists(SAID, min_size=1, max_size=4))
@settings(max_examples=scaled(60))
def test_the_nearest_is_that_of_the_upgrade_check(guest, said):
    cloud = fleet([guest], *said)
    (why,) = Stranded(cloud, catalog()).under(
        every(ENFORCE), lambda ruling: ruling.refused
    ).values() or [None]
    for one in standings([guest], *said):
        if one.standing is not Standing.ONE_LEFT and one.nearest:
            assert why.startswith(f"{one.nearest[0].host} is nearest: ")


def test_guests_of_one_cause_are_one_row():
    hosts = [document(("gpu", version)) for version in ("1.2", "1.0", "1.2", "1.0")]
    far = document(("gpu", "1.0"))
    need = part("gpu", "1.2")
    guests = [dataclasses.replace(running(need), uuid=f"vm{index}") for index in range(12)]
    odd = running(record=NO_RECORD)
    rows = list(census.by_cause(standings([*guests, odd], *hosts)))
    assert [(row.standing, row.guests) for row in rows] == [
        ("nowhere", "1"),
        ("one other left", "12"),
    ]
    assert rows[0].remedy == "have the need recorded: need backfill"
    assert rows[1].instances.endswith("vm9 on h0, and 2 more")
    by_guest = list(census.by_guest(standings(guests[:1], hosts[0], far)))
    assert [(row.instance, row.host, row.standing, row.other) for row in by_guest] == [
        ("vm0", "h0", "only here", "")
    ]
    (alone,) = standings(guests[:1], hosts[0])
    assert (census.cause_of(alone), census.remedy_of(alone)) == (
        "there is no other host in its cell",
        "add a host",
    )


def test_which_guests():
    (one,) = standings([running(part("gpu", "1.2"))], document(("gpu", "1.2")))
    for wanted, is_in in (
        (census.Which(), True),
        (census.Which(hosts=frozenset({"h0"}), family="gpu"), True),
        (census.Which(hosts=frozenset({"h1"})), False),
        (census.Which(family="nic"), False),
    ):
        assert (one in wanted) is is_in
    against = Reason(code="x", actor=Actor.HOST, family="nic")
    assert dataclasses.replace(one, reasons=(against,)) in census.Which(family="nic")


def test_risks_that_are_accepted_of_hosts():
    """As nova-scheduler's filter has it, a host takes then what is only UNKNOWN of it."""
    risk = Risk(name="gpu:unknown")
    guest = running(part("gpu", "1.2"))
    cloud = fleet([guest], document(("gpu", "1.2")), document(("gpu", None)), document())
    for risky, standing in (((), Standing.ONLY_HERE), (("h1",), Standing.ONE_LEFT)):
        found = Outlook(catalog(), every(ENFORCE))
        hosts = [
            dataclasses.replace(host, risks=(risk,)) if host.place.host in risky else host
            for host in cloud.hosts
        ]
        found.read([guest, *hosts])
        (one,) = found.findings()
        assert one.standing is standing
        assert one.other == (Place("h1", "h1") if risky else None)


def test_hosts_of_which_too_little_is_known():
    """They are let pass, and what they say is not claimed to be known."""
    lenient = every(Policy(on_unknown=OnUnknown.ACCEPT))
    silent = Reason(code=Code.HOST_SILENT, actor=Actor.OPERATOR)
    guest, here = running(part("gpu", "1.2")), document(("gpu", "1.2"))
    like_it, older = document(("gpu", "1.2")), document(("gpu", "1.0"))
    (one,) = standings([guest], here, silent, older, silent, policies=lenient)
    assert (one.standing, one.other) == (Standing.UNKNOWN, None)
    assert one.nearest == (Place("h1", "h1"), Place("h3", "h3"))
    (row,) = census.by_cause([one])
    assert row.standing == "unknown"
    assert row.cause.startswith("only the hosts themselves can tell: gpu: ")
    assert row.remedy == "run nova-compute with our driver on h1 or h3"
    (one,) = standings([guest], here, silent, older, policies=lenient)
    assert (one.standing, one.other) == (Standing.UNKNOWN, Place("h1", "h1"))
    # One that is known to take it will do, beside another.
    assert standings([guest], here, silent, like_it, policies=lenient) == []
    # A risk that is accepted lets no more be known.
    risks = tuple(Risk(name=f"{name}:unknown") for name in catalog().families)
    risky = dataclasses.replace(guest, risks=risks)
    (one,) = standings([risky], here, silent, older)
    assert one.standing is Standing.UNKNOWN
    # Where nothing is acted on, nothing is refused.
    reported = every(Policy(mode=Mode.REPORT))
    assert standings([guest], here, silent, silent, policies=reported) == []


def test_hosts_that_decide_otherwise():
    """By another catalog, or by policies under which they would refuse, they may."""
    lenient = every(LENIENT)
    strict = {"": "enforce reject"}
    need = running(part("gpu", "1.2"))
    here, alike = document(("gpu", "1.2")), document(("gpu", "1.2"), policies=lenient.told)
    elsewhere = dataclasses.replace(here, catalog="another")
    (one,) = standings([need], here, elsewhere)
    assert (one.standing, one.other) == (Standing.UNKNOWN, Place("h1", "h1"))
    assert one.reasons == (OTHER_CATALOG,)
    assert census.remedy_of(one) == "give h1 the catalog that is here"
    # What it refuses by any catalog's rules is refused, and one that decides alike will do.
    (one,) = standings([need], here, dataclasses.replace(document(("gpu", "1.0")), catalog="x"))
    assert one.standing is Standing.ONLY_HERE
    assert standings([need], here, elsewhere, alike) == []

    # The record is missing, which those here let pass.
    doubted = running(record=NO_RECORD)
    other = document(("gpu", "1.2"), policies=strict)
    (one,) = standings([doubted], here, other, policies=lenient)
    assert (one.standing, one.reasons) == (Standing.UNKNOWN, (OTHER_SETTINGS,))
    assert census.remedy_of(one) == "give h1 the mode and the on_unknown that are here"
    assert standings([doubted], here, other, alike, policies=lenient) == []
    # They make no difference to what is compared.
    (one,) = standings([need], here, other, policies=lenient)
    assert one.standing is Standing.ONE_LEFT


def test_policies_that_are_imagined_are_those_of_all_hosts():
    doubted, need = running(record=NO_RECORD), running(part("gpu", "1.2"))
    here = document(("gpu", "1.2"))
    other = dataclasses.replace(here, catalog="another", policies={"": "enforce reject"})
    cloud = fleet([doubted, need], here, other)
    imagined = Outlook(catalog(), every(LENIENT), imagined=True)
    imagined.read([*cloud.guests, *cloud.hosts])
    found = outlook([doubted, need], here, other, policies=every(LENIENT))
    assert {one.standing for one in found.findings()} == {Standing.UNKNOWN}
    for one in (imagined, found.under(every(LENIENT))):
        assert {finding.standing for finding in one.findings()} == {Standing.ONE_LEFT}


# --- free devices --------------------------------------------------------------------------------

VGPU = (("VGPU", 1),)


def test_a_fitting_device_must_be_free():
    here, both, third = (
        document(("gpu", "1.2")),
        document(("gpu", "1.0"), ("gpu", "1.2")),
        document(("gpu", "1.2")),
    )
    guest = dataclasses.replace(running(part("gpu", "1.2")), asks=VGPU)
    assert standings([guest], here, both, third) == []

    def left(*providers):
        return standings([guest], here, both, third, room=Room({VGPU[0]: frozenset(providers)}))

    # document() calls the providers of all hosts alike: the second GPU of h1 is gpu1.
    assert left("gpu0", "gpu1") == []
    (one,) = left("gpu0")
    assert (one.standing, one.other) == (Standing.ONE_LEFT, Place("h2", "h2"))
    assert one.reasons == (NO_FREE_DEVICE,)
    assert census.remedy_of(one) == "free a device on h1"
    (one,) = left()
    assert one.standing is Standing.ONLY_HERE
    # Of a guest that asks placement for no device, none is counted.
    assert standings([running(part("gpu", "1.2"))], here, both, third, room=Room({})) == []


def test_what_guests_ask_for():
    def request(source, **spec):
        return types.SimpleNamespace(source=source, spec=[spec])

    port, alias = InstancePCIRequest.NEUTRON_PORT, InstancePCIRequest.FLAVOR_ALIAS
    requests = types.SimpleNamespace(
        requests=[
            request(port, physical_network="x"),
            request(alias, resource_class="vf"),
            request(alias, vendor_id="15b3", product_id="101e"),
        ]
    )
    specs = {"resources:VGPU": "2", "resources_a:CUSTOM_X": "1", "resources:VCPU": "4"}
    ours = (("CUSTOM_X", 1), ("VGPU", 2))
    assert asks_of(specs, None, pci_in_placement=True) == ours
    assert asks_of(specs, requests, pci_in_placement=False) == ours
    assert asks_of(specs, requests, pci_in_placement=True) == tuple(
        sorted([*ours, ("CUSTOM_VF", 1), ("CUSTOM_PCI_15B3_101E", 1)])
    )
    assert asks_of({"resources:VGPU": "many"}, None, pci_in_placement=True) == ()


class Answering:
    """Placement with one GPU free."""

    def __init__(self, answer=frozenset({"gpu0"})):
        self.asked = []
        self.answer = answer

    def providers_with_room(self, resource_class, units):
        self.asked.append((resource_class, units))
        return self.answer


def test_placement_is_asked_once_for_each_kind_of_request():
    placement = Answering()
    room = Room.ask(placement, [VGPU, VGPU, (("VGPU", 2), *VGPU), ()])
    assert placement.asked == [("VGPU", 1), ("VGPU", 2)]
    assert room is not None
    assert Room.ask(Answering(None), [VGPU]) is None
    many = Answering()
    assert Room.ask(many, [((f"CUSTOM_{n}", 1),) for n in range(MOST_QUESTIONS + 1)]) is None
    assert many.asked == []


@pytest.mark.parametrize("asks", [VGPU, ()])
def test_nothing_is_known_of_devices_of_a_silent_host(asks):
    guest = dataclasses.replace(running(part("gpu", "1.2")), asks=asks)
    cloud = fleet([guest], document(("gpu", "1.2")))
    silent = dataclasses.replace(cloud.hosts[0], said=Reason(code="x", actor=Actor.HOST))
    assert Room({}).free_devices(silent, asks) is None
