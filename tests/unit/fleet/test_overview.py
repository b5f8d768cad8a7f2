# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The picture says what the verdicts say, of a cloud and on paper."""

from __future__ import annotations

import csv
import dataclasses
import pathlib

from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat.compat.ruling import NO_RECORD
from nova_devcompat.compat.verdict import DOUBTS
from nova_devcompat.fleet.imagined import outlook_of
from nova_devcompat.fleet.kinds import Needs
from nova_devcompat.fleet.matrix import Matrix
from nova_devcompat.fleet.outlook import Outlook, Standing
from nova_devcompat.fleet.overview import Overview
from nova_devcompat.fleet.paper import Paper
from nova_devcompat.service import load_catalog
from nova_devcompat.sources.static import load_inventory
from tests.budget import scaled
from tests.unit.fleet.test_stranded import (
    ENFORCE,
    GUESTS,
    POLICIES,
    SAID,
    catalog,
    document,
    every,
    fleet,
    part,
    running,
)

ROOT = pathlib.Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "etc" / "nova-devcompat"
PAGES = ROOT / "doc" / "source"


def picture(guests, *said, policies=None):
    outlook = Outlook(catalog(), policies or every(ENFORCE))
    cloud = fleet(guests, *said)
    outlook.read([*cloud.hosts, *cloud.guests])
    overview = Overview()
    overview.add("cell1", outlook)
    return overview, cloud


@given(st.lists(GUESTS, min_size=1, max_size=4), st.lists(SAID, max_size=4), POLICIES)
@settings(max_examples=scaled(40))
def test_each_cell_is_what_the_host_says_to_the_guest(guests, said, policies):
    named = [dataclasses.replace(one, uuid=str(index)) for index, one in enumerate(guests)]
    overview, cloud = picture(named, *said, policies=policies)
    (cell,) = overview.cells
    group_of = {
        cell.hosts[number]: group
        for group, hosts in enumerate(cell.groups)
        for number in hosts.hosts
    }
    assert group_of.keys() == {host.place for host in cloud.hosts}
    shown = {guest.name: guest for guest in cell.guests}
    for one in named:
        guest = Needs(catalog()).asked(one)
        if guest is None:
            assert one.uuid not in shown
            continue
        answers = cell.kinds[shown[one.uuid].group].answers
        for host in cloud.hosts:
            ruling = host.rule(guest, policies, pci=one.pci)
            answer = cell.answers[answers[group_of[host.place]]]
            assert not (answer.untold and answer.says in ("takes", "reports"))
            assert (set(answer.refused), set(answer.reported)) == (
                set(ruling.refused),
                set(ruling.reported),
            )
    assert overview.guests == len(named)


def test_those_that_are_stranded_name_their_cause():
    hosts = [document(("gpu", version)) for version in ("1.2", "1.0", "1.2")]
    guests = [running(part("gpu", "1.2")), running(record=NO_RECORD)]
    named = [dataclasses.replace(one, uuid=f"vm{index}") for index, one in enumerate(guests)]
    overview, _ = picture([*named, dataclasses.replace(named[0], uuid="vm2")], *hosts)
    counts = {one: overview.with_standing(one) for one in (*Standing, None)}
    assert {one: count for one, count in counts.items() if count} == {
        Standing.NOWHERE: 1,
        Standing.ONE_LEFT: 2,
    }
    causes = {
        guest.name: overview.causes[guest.cause].remedy for guest in overview.cells[0].guests
    }
    assert causes["vm0"] == causes["vm2"] == "upgrade h1"
    assert causes["vm1"] == "have the need recorded: need backfill"


def test_on_paper_it_is_the_matrix():
    """A guest on a device is taken where each of its rows accepts."""
    known = load_catalog([SAMPLES / "devcompat.yaml"], check_sources=False)
    inventory = load_inventory(SAMPLES / "devcompat-inventory.yaml", known)
    overview = Overview()
    overview.add("paper", outlook_of(known, Paper(known, inventory)))
    (cell,) = overview.cells
    rows = list(Matrix(known, inventory).moves())
    assert len(rows) == len(cell.guests) * (len(cell.hosts) - 1)
    for row in rows:
        (guest,) = (
            one for one in cell.guests if one.name == f"{row.source_address} on {row.source_host}"
        )
        answers = cell.kinds[guest.group].answers
        (answer,) = (
            cell.answers[answers[number]]
            for number, group in enumerate(cell.groups)
            if row.destination_host in {cell.hosts[host].host for host in group.hosts}
        )
        shown = {"takes": "accept", "unknown": "unknown", "refuses": "reject"}
        assert shown[answer.says] == row.verdict, row


def test_what_is_not_known_is_what_the_page_says():
    with (PAGES / "_examples" / "codes.csv").open() as file:
        documented = {
            row["Code"].strip("`") for row in csv.DictReader(file) if row["Verdict"] == "UNKNOWN"
        }
    assert documented == DOUBTS
