# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The numbers are those of the verdicts, and whatever a host says adds no label."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import pathlib
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from nova_devcompat.compat.policy import Mode, Policy
from nova_devcompat.compat.risks import Risk
from nova_devcompat.compat.ruling import NO_RECORD
from nova_devcompat.compat.verdict import Actor, Reason
from nova_devcompat.fleet.kinds import Needs
from nova_devcompat.fleet.metrics import Gauges, write
from nova_devcompat.fleet.outlook import Outlook
from nova_devcompat.fleet.tally import CODES, NONE, OTHER, State, Tally
from nova_devcompat.stores.cells import Refused
from tests.budget import scaled
from tests.unit.fleet.test_stranded import (
    ENFORCE,
    GARBAGE,
    GUESTS,
    POLICIES,
    SAID,
    SILENT,
    catalog,
    document,
    every,
    fleet,
    part,
    running,
)

ROOT = pathlib.Path(__file__).resolve().parents[3]
RULES = ROOT / "etc" / "nova-devcompat" / "prometheus-alerts.yaml"
PAGES = ROOT / "doc" / "source"

NOON = datetime.datetime(2026, 11, 27, 12, tzinfo=datetime.UTC)
REPORT = Policy(mode=Mode.REPORT)


def tally(guests, *said, policies=None, silent=None):
    found = Tally(catalog(), policies or every(ENFORCE), NOON)
    cloud = fleet(guests, *said)
    found.judge(found.outlook([*cloud.hosts, *cloud.guests], silent or {}))
    return found


def samples(found, folder):
    """All that is written, by name without the prefix and by labels, sorted by their names."""
    found.answered.setdefault(("cell", "cell1"), True)
    path = folder / "devcompat.prom"
    write(str(path), Gauges(found, catalog(), NOON, NOON + datetime.timedelta(seconds=2)))
    return {
        (sample.name.removeprefix("nova_devcompat_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def named(guests):
    return [dataclasses.replace(one, uuid=str(index)) for index, one in enumerate(guests)]


def family_of(reason):
    if not reason.family:
        return NONE
    return reason.family if reason.family in catalog().families else OTHER


# --- against the verdicts ------------------------------------------------------------------------


@given(st.lists(GUESTS, min_size=1, max_size=4), st.lists(SAID, max_size=4), POLICIES)
@settings(max_examples=scaled(40))
def test_pairs_are_those_of_each_guest_and_each_other_host(guests, said, policies):
    """Each asked by itself, where the numbers come from kinds."""
    found = tally(named(guests), *said, policies=policies)
    cloud = fleet(named(guests), *said)
    pairs, refused, reported = 0, collections.Counter(), collections.Counter()
    for running_guest in cloud.guests:
        guest = Needs(catalog()).asked(running_guest)
        if guest is None:
            continue
        for host in cloud.hosts:
            if host.place == running_guest.place:
                continue
            pairs += 1
            ruling = host.rule(guest, policies, pci=running_guest.pci)
            refused.update({(family_of(one), one.code) for one in ruling.refused})
            reported.update({(family_of(one), one.code) for one in ruling.reported})
    assert found.pairs == pairs
    for mode, expected in (("enforce", refused), ("report", reported)):
        assert {
            (one.family, one.reason): count
            for one, count in found.refusals.items()
            if one.mode == mode
        } == expected


@given(st.lists(GUESTS, min_size=1, max_size=4), st.lists(SAID, max_size=4), POLICIES)
@settings(max_examples=scaled(40))
def test_stranded_are_those_of_the_other_command(guests, said, policies):
    found = tally(named(guests), *said, policies=policies)
    cloud = fleet(named(guests), *said)

    def standings(policies):
        outlook = Outlook(catalog(), policies)
        outlook.read([*cloud.guests, *cloud.hosts])
        return {one.guest.uuid: one.standing.replace(" ", "_") for one in outlook.findings()}

    now, enforced = standings(policies), standings(policies.as_enforced())
    worse = {uuid: one for uuid, one in enforced.items() if now.get(uuid) != one}
    for mode, expected in (("enforce", now), ("report", worse)):
        counted = {one.standing: n for one, n in found.stranded.items() if one.mode == mode}
        assert counted == collections.Counter(expected.values())


# --- each number ---------------------------------------------------------------------------------


def test_all_that_is_written(tmp_path):
    guests = named(
        [
            running(part("gpu", "1.2")),
            running(part("gpu", "1.2"), on="h1", risks=(Risk(name="gpu:unknown"),)),
            running(record=NO_RECORD, on="h1"),
            running(part("gpu", "1.2"), pins=(("devcompat:gpu.version", "x"),)),
        ]
    )
    stale = document(("gpu", "1.0"))
    found = tally(
        guests,
        document(("gpu", "1.2")),
        dataclasses.replace(stale, catalog="0123456789ab"),
        document(("gpu", "1.2"), whole=False, unreadable={"nic": "torn"}),
        SILENT,
        GARBAGE,
        silent={"h1": NOON - datetime.timedelta(hours=2), "h3": None},
    )
    found.count_risk("host", "no-such-entry")
    found.answered = {("cell", "cell1"): True, ("cell", "cell2"): False}
    told = samples(found, tmp_path)
    assert {key: told[key] for key in told if key[0] == "hosts"} == {
        ("hosts", state): 1 for state in State
    }
    for key, value in {
        ("run_timestamp_seconds",): NOON.timestamp(),
        ("run_duration_seconds",): 2,
        ("answered", "cell1", "cell"): 1,
        ("answered", "cell2", "cell"): 0,
        ("catalog_info", ""): 1,
        ("catalog_hosts", "here"): 2,
        ("catalog_hosts", "other"): 1,
        ("catalogs",): 2,
        ("stale_seconds",): 7200,
        ("guests",): 4,
        ("unknown_guests", "need-missing"): 1,
        ("unknown_guests", "pin-unreadable"): 1,
        ("accepted_risks", "guest", "gpu:unknown"): 1,
        ("accepted_risks", "host", OTHER): 1,
        ("stranded_guests", "enforce", "one_other_left"): 1,
        ("stranded_guests", "enforce", "nowhere"): 2,
    }.items():
        assert told[key] == value, key


def test_a_family_that_only_reports(tmp_path):
    guest = running(part("gpu", "1.2"))
    hosts = document(("gpu", "1.2")), document(("gpu", "1.0"))
    told = samples(tally([guest], *hosts, policies=every(REPORT)), tmp_path)
    assert told["stranded_guests", "enforce", "one_other_left"] == 1
    assert told["stranded_guests", "report", "only_here"] == 1
    assert told["stranded_guests_by_reason", "gpu", "report", "minor-too-old", "only_here"] == 1
    assert told["refused_pairs", "gpu", "report", "minor-too-old"] == 1
    assert told["pairs",] == 1


def test_no_number_where_no_cell_answered(tmp_path):
    found = Tally(catalog(), every(ENFORCE), NOON)
    found.answered = {("api_database", ""): True, ("cell", "cell1"): False}
    assert {name for name, *_ in samples(found, tmp_path)} == {
        "run_timestamp_seconds",
        "run_duration_seconds",
        "answered",
        "catalog_info",
    }


# --- labels --------------------------------------------------------------------------------------


def test_what_hosts_and_plugins_name_adds_no_label(tmp_path):
    """Neither a family that the catalog lacks, nor codes of others, nor what forges lines."""
    odd = 'x"} 1\nnova_devcompat_guests 9 \\'
    hosts = []
    for number in range(40):
        reason = Reason(code=f"code{number}{odd}", actor=Actor.OPERATOR, family=f"f{number}{odd}")
        hosts.append(reason)
    guest = running(part("gpu", "1.2"), risks=tuple(Risk(name=f"r{n}{odd}") for n in range(40)))
    told = samples(tally([guest], document(("gpu", "1.2")), *hosts), tmp_path)
    assert [key for key in told if key[0] == "refused_pairs" and key[-1] == OTHER]
    assert told["accepted_risks", "guest", OTHER] == 40
    assert told["guests",] == 1
    allowed = {*catalog().families, *CODES, NONE, OTHER, "enforce", "report", "guest", "host"}
    labels = {
        label
        for name, *labels in told
        if name in ("refused_pairs", "stranded_guests_by_reason", "accepted_risks")
        for label in labels
    }
    assert labels - allowed == {"only_here"}


def test_the_file_is_replaced_whole(tmp_path):
    path = tmp_path / "devcompat.prom"
    path.write_text("what was there\n")
    before = path.stat().st_ino
    samples(tally([], SILENT), tmp_path)
    assert path.stat().st_ino != before
    assert [one.name for one in tmp_path.iterdir()] == ["devcompat.prom"]
    with pytest.raises(Refused, match="cannot be written"):
        gauges = Gauges(tally([]), catalog(), NOON, NOON)
        write(str(tmp_path / "nowhere" / "x.prom"), gauges)


# --- alerts and pages ----------------------------------------------------------------------------


def alerts():
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return group["rules"]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_every_alert_has_its_runbook(rule):
    page, _, anchor = rule["annotations"]["runbook_url"].rpartition("/")[2].partition("#")
    title = rule["alert"]
    assert anchor == title.lower()
    assert f"\n{title}\n{'-' * len(title)}\n" in (PAGES / page).read_text()


def test_every_runbook_has_its_alert():
    text = (PAGES / "messages.rst").read_text()
    assert re.findall(r"^(Devcompat\w+)\n-+$", text, re.M) == [rule["alert"] for rule in alerts()]


def written():
    """The names of all metrics."""
    found = Tally(catalog(), every(ENFORCE), NOON)
    found.answered = {("cell", "cell1"): True}
    return {one.name for one in Gauges(found, catalog(), NOON, NOON).collect()}


def test_alerts_ask_for_what_is_written():
    asked = {name for one in alerts() for name in re.findall(r"nova_devcompat_\w+", one["expr"])}
    assert asked - written() == set()


def test_every_metric_is_on_the_page():
    text = (PAGES / "cli.rst").read_text()
    missing = [
        name for name in written() if f"``{name.removeprefix('nova_devcompat_')}``" not in text
    ]
    assert missing == []
