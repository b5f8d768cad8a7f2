# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The rules, asked for what vendors' code and developers' threads say."""

import shutil
import subprocess

import pytest

from nova_devcompat.compat import kinds
from nova_devcompat.compat.verdict import Outcome
from tests.unit.compat import facts
from tests.unit.compat.support import family_of, judge, rule_of


def name_of(fact):
    return f"{fact.rule}: {fact.need} on {fact.offer}"


def check(verdict, expected):
    assert verdict.outcome is expected.outcome, str(verdict)
    if expected is facts.ACCEPT:
        assert not verdict.reasons
    else:
        (reason,) = verdict.reasons
        assert (reason.code, reason.actor) == (expected.code, expected.actor)


@pytest.mark.parametrize("fact", facts.FACTS, ids=name_of)
def test_fact(fact):
    check(judge(rule_of(fact.rule), fact.need, fact.offer), fact.expected)


def test_unreadable_text_is_said_in_the_reason():
    (reason,) = judge(kinds.Semver(), "1.2", "banana").reasons
    assert "banana" in reason.detail
    assert "banana" in str(reason)


def nvidia_moves():
    header, *rows = facts.NVIDIA_MOVES.split("\n")[1:-1]
    for row in rows:
        source, *marks = row.split()
        for destination, mark in zip(header.split(), marks, strict=True):
            yield source, destination, mark


@pytest.mark.parametrize(("source", "destination", "mark"), nvidia_moves())
def test_nvidia_releases(source, destination, mark):
    family = family_of(rule_of("range base=16"))
    need = family.offer({"attribute": facts.NVIDIA_RELEASES[source]}).freeze()
    verdict = family.offer({"attribute": facts.NVIDIA_RELEASES[destination]}).judge(need)
    check(verdict, {"+": facts.ACCEPT, "<": facts.BELOW, ">": facts.ABOVE}[mark])


@pytest.mark.parametrize("destination", facts.NVIDIA_RELEASES)
def test_nvidia_guest_keeps_what_it_negotiated(destination):
    """A guest that began on 550 and runs on 575 needs 14.1 still, wherever it goes."""
    family = family_of(rule_of("range base=16"))
    now = {**facts.NVIDIA_RELEASES["575"], "negotiated": "14.1"}
    need = family.offer({"attribute": now}).freeze()
    began = family.offer({"attribute": facts.NVIDIA_RELEASES["550"]}).freeze()
    assert need.atoms == began.atoms
    expected = Outcome.ACCEPT if int(destination) in range(550, 595) else Outcome.REJECT
    offer = family.offer({"attribute": facts.NVIDIA_RELEASES[destination]})
    assert offer.judge(need).outcome is expected


def bits(mask):
    return [str(bit) for bit in range(mask.bit_length()) if mask >> bit & 1]


def test_virtio_masks():
    verdict = judge(kinds.Superset(), bits(facts.VIRTIO_GUEST), bits(facts.VIRTIO_ALLOWED))
    check(verdict, facts.MISSING)
    assert verdict.reasons[0].needed == facts.VIRTIO_MISSING


def orderings():
    for ordering, table in facts.ORDERINGS.items():
        for line in filter(None, table.splitlines()):
            yield ordering, *line.split()


@pytest.mark.parametrize(("ordering", "left", "sign", "right"), orderings())
def test_ordering(ordering, left, sign, right):
    rule = kinds.Ordered(ordering=ordering)
    check(judge(rule, right, left), facts.TOO_OLD if sign == "<" else facts.ACCEPT)
    check(judge(rule, left, right), facts.TOO_OLD if sign == ">" else facts.ACCEPT)


needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is not on this machine")


@needs_dpkg
def test_dpkg_says_the_same():
    for line in filter(None, facts.DEBIAN.splitlines()):
        left, sign, right = line.split()
        operator = {"<": "lt", "=": "eq", ">": "gt"}[sign]
        compared = subprocess.run(
            ["dpkg", "--compare-versions", left, operator, right], check=False
        )
        assert compared.returncode == 0, line
