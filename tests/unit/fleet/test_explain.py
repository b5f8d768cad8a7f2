# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The order of hosts, and what is told of each; asked of real Nova in tests/functional."""

from __future__ import annotations

import itertools
import random

import pytest

from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.fleet.answers import Answer, Says
from nova_devcompat.fleet.model import Place
from nova_devcompat.fleet.nearness import distance
from nova_devcompat.scheduler.beside import Objection


def reason(needed: str = "1.4", offered: str = "1.2", **others) -> Reason:
    values = {"code": Code.MINOR_TOO_OLD, "actor": Actor.HOST, "family": "gpu"}
    return Reason(**{**values, **others}, attribute="version", needed=needed, offered=offered)


def answer(name: str, *refused: Reason, nova=(), **others) -> Answer:
    values = {
        "filter": Says.REJECT if refused else Says.ACCEPT,
        "admission": Says.REJECT if refused else Says.ACCEPT,
        "refused": refused,
        "nova": tuple(Objection(code) for code in nova),
    }
    return Answer(place=Place(name, name), uuid=name, cell="c", **{**values, **others})


NEAREST_FIRST = [
    answer("takes it"),
    answer("no room for it", nova=["no-room"]),
    answer("nearly", reason("1.4", "1.3")),
    answer("less so", reason("1.4", "1.0")),
    answer("by far", reason("1.4", "9.4")),
    answer("untold", reason("1.4", "")),
    answer("two things", reason("1.4", "1.3"), reason("1.4", "1.3", family="nic")),
    answer("three", reason("1.4", "1.3"), nova=["disabled", "no-room"]),
    answer("elsewhere", nova=["another-cell"]),
]


def test_the_nearest_miss_comes_first():
    shuffled = list(NEAREST_FIRST)
    random.Random(1).shuffle(shuffled)
    found = sorted(shuffled, key=lambda one: one.order)
    # One thing in the way is one thing, whoever has it there.
    names = [one.place.host for one in found]
    assert names == [one.place.host for one in NEAREST_FIRST]


@pytest.mark.parametrize("text", ["", "x", "9" * 5_000, "1." * 5_000, "\u0661.\u0662", "-1"])
def test_any_text_has_a_distance(text):
    for needed, offered in itertools.product((text, "1.4"), repeat=2):
        one = reason(needed, offered)
        # Fewer reasons are nearer, whatever they say.
        assert distance([]) < distance([one]) < distance([one, one])


@pytest.mark.parametrize(
    ("prefilter", "filter_", "admission", "verdict"),
    [
        ("none", "accept", "accept", "accept"),
        ("accept", "accept", "none", "accept"),
        ("accept", "accept", "unknown", "unknown"),
        ("unknown", "accept", "accept", "unknown"),
        ("reject", "accept", "accept", "reject"),
        ("unknown", "reject", "reject", "reject"),
    ],
)
def test_what_the_lines_come_to(prefilter, filter_, admission, verdict):
    lines = {"prefilter": prefilter, "filter": filter_, "admission": admission}
    one = answer("a", **{name: Says(value) for name, value in lines.items()})
    assert one.verdict == one.row.verdict == verdict
    assert one.takes_it is (verdict != "reject")


def test_what_is_not_known_comes_between():
    silent = reason(code=Code.HOST_SILENT, actor=Actor.OPERATOR)
    untold = answer("a", admission=Says.UNKNOWN, untold=(silent,))
    sure, refused = answer("z"), answer("b", reason())
    assert sorted([refused, untold, sure], key=lambda one: one.order) == [sure, untold, refused]
    assert untold.takes_it and not untold.surely_takes_it
    assert untold.row.reasons.startswith("only the host itself can tell: gpu.version: ")
    assert untold.row.act == "operator"
    # What refuses it is what counts where something does.
    both = answer("c", reason(), admission=Says.UNKNOWN, untold=(silent,))
    assert "only the host" not in both.row.reasons
    # Placement has the word on traits, and no host.
    silence = answer("d", prefilter=Says.UNKNOWN)
    assert silence.row.reasons == "placement does not tell whether it has the traits"


def test_what_is_shown():
    host, mend = reason(), reason(actor=Actor.OPERATOR, detail="x\ny\x1b[0m" + "z" * 5_000)
    row = answer("a", mend, host, reported=(reason("1.4", "1.1"),), nova=["disabled"]).row
    assert row.act == "host, operator"
    assert "needs 1.4, offered 1.2" in row.reasons
    assert "only reported: gpu.version: needs 1.4, offered 1.1" in row.reasons
    assert row.nova == "disabled"
    assert row.reasons.isprintable()
    assert len(row.reasons) < 2_000
