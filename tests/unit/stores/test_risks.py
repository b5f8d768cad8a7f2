# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Accepted risks as they are kept: with an instance, and in a file."""

from __future__ import annotations

import datetime
import re
import types

import pytest
from oslo_utils.fixture import uuidsentinel as uuids

from nova_devcompat.catalog import packs
from nova_devcompat.fleet.risks import check_name, check_until
from nova_devcompat.kit.problems import DocumentError
from nova_devcompat.service import load_catalog
from nova_devcompat.stores import risk_writer, risks, writer
from nova_devcompat.stores.cells import BadRequest
from nova_devcompat.stores.records import moving_guest
from nova_devcompat.wire.risks import (
    RISK_PREFIX,
    AcceptedRisk,
    RiskTooLong,
    dump_risk,
    holding,
    load_risks,
)

NOW = datetime.datetime(2027, 1, 1, 12, 0, tzinfo=datetime.UTC)


def risk(name="one", *, hours=1, host="", **others):
    return AcceptedRisk(
        name=name,
        until=NOW + datetime.timedelta(hours=hours),
        accepted=NOW,
        host=host,
        **{"who": "ann", "reason": "tested on cmp1", **others},
    )


@pytest.fixture(autouse=True)
def noon(monkeypatch):
    """It is noon."""
    monkeypatch.setattr(risks, "now", lambda: NOW)


# --- with an instance ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kept", [risk(), risk("nic:unknown", host="cmp1"), risk(reason='say "x"', hours=24 * 90)]
)
def test_what_is_kept_is_what_was_accepted(kept):
    key, text = dump_risk(kept)
    assert key == f"devcompat:risk:{kept.name}"
    assert len(text) <= 255
    assert load_risks({key: text, "devcompat:need": "x", "other": text}) == [kept]


def test_words_that_do_not_fit():
    with pytest.raises(RiskTooLong, match="give a shorter reason"):
        dump_risk(risk(reason="\u00e4" * 110))
    _, text = dump_risk(risk(reason="x" * 500, who="y" * 500))
    assert len(text) <= 255


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"v":2}', '{"v":1,"u":"soon"}'])
def test_what_cannot_be_read_lets_nothing_pass(text):
    _, good = dump_risk(risk())
    broken = {f"{RISK_PREFIX}one": text, f"{RISK_PREFIX}two": good}
    assert [one.name for one in load_risks(broken)] == ["two"]
    assert load_risks({f"{RISK_PREFIX}": good}) == []
    assert load_risks({f"{RISK_PREFIX}a\nb": good}) == []


def test_it_ends_by_itself_and_with_the_move_that_it_is_for():
    kept = [risk("ends", hours=1), risk("ended", hours=0), risk("once", host="a")]
    assert [one.name for one in holding(kept, NOW, "a")] == ["ends", "once"]
    assert [one.name for one in holding(kept, NOW, "b")] == ["ends"]
    later = NOW + datetime.timedelta(hours=2)
    assert holding(kept, later, "a") == ()
    (told,) = holding(kept[:1], NOW)
    assert str(told) == "ends, accepted by ann until 2027-01-01 13:00 UTC: tested on cmp1"


def instance(**kept):
    return types.SimpleNamespace(
        host="a",
        node="a",
        system_metadata=dict(dump_risk(one) for one in kept.values()),
        saved=[],
    )


def test_a_guest_brings_its_own():
    found = moving_guest(instance(one=risk(), two=risk("two", hours=-1)), assigned=True)
    assert [one.name for one in found.risks] == ["one"]


def test_writing_it_bears_with_others_that_write():
    """Nova saves all of the metadata at once, as it had read it."""
    stored = {"devcompat:need": "x"}
    lost = [True, False]

    def read():
        def save():
            if lost.pop(0):
                return  # somebody else has written what it was before
            stored.clear()
            stored.update(own.system_metadata)

        own = types.SimpleNamespace(system_metadata=dict(stored), save=save)
        return own

    risk_writer.write(uuids.vm, read, risk())
    assert load_risks(stored) == [risk()] and stored["devcompat:need"] == "x"
    lost[:] = [False]
    assert risk_writer.remove(uuids.vm, read, "one") is True
    assert stored == {"devcompat:need": "x"}
    assert risk_writer.remove(uuids.vm, read, "one") is False
    lost[:] = [True] * 9
    with pytest.raises(writer.NotKept):
        risk_writer.write(uuids.vm, read, risk())


def test_a_risk_for_one_move_ends_with_it():
    """And does not come back with the guest."""
    stored = dict(dump_risk(one) for one in (risk("once", host="a"), risk("many")))

    def read():
        own = types.SimpleNamespace(system_metadata=dict(stored))
        own.save = lambda: (stored.clear(), stored.update(own.system_metadata))
        return own

    risk_writer.end_moves(uuids.vm, read, "a")
    assert len(stored) == 2
    risk_writer.end_moves(uuids.vm, read, "b")
    assert [one.name for one in load_risks(stored)] == ["many"]


# --- of hosts ------------------------------------------------------------------------------------


def test_a_file(tmp_path):
    path = tmp_path / "risks.yaml"
    of_hosts = risks.HostRisks(str(path), min_interval=0)
    assert risks.read_file(path) == [] and of_hosts.holding() == {}
    kept = [risk(host="a"), risk("nic:unknown", host="b"), risk("two", host="b", hours=-1)]
    risks.write_file(path, kept)
    assert risks.read_file(path) == kept
    names = {host: [one.name for one in some] for host, some in of_hosts.holding().items()}
    assert names == {"a": ["one"], "b": ["nic:unknown"]}
    path.unlink()
    assert of_hosts.holding() == {}


@pytest.mark.parametrize("lacks", ["who", "reason"])
def test_nothing_is_written_that_nobody_could_read(tmp_path, lacks):
    """Or else no risk of any host would hold any more."""
    path = tmp_path / "risks.yaml"
    risks.write_file(path, [risk(host="a")])
    with pytest.raises(DocumentError, match=f"{path}:.*: risks.1.{lacks}: is empty"):
        risks.write_file(path, [risk(host="a"), risk("two", host="b", **{lacks: ""})])
    assert risks.read_file(path) == [risk(host="a")]


def test_words_of_a_file_are_one_line_of_a_log(tmp_path):
    """A block of YAML ends in a line break, and who writes the file can write anything."""
    path = tmp_path / "risks.yaml"
    words = ["|\n    lab firmware\n", f'"x\\n2027-01-01 CRITICAL forged{"y" * 2_000}"\n']
    rows = [
        f"- name: {name}\n  host: a\n  until: '2027-02-01'\n  accepted: '2027-01-01'\n  who: ann\n"
        f"  reason: {reason}"
        for name, reason in zip(("one", "two"), words, strict=True)
    ]
    path.write_text("meta: {schema_version: '1.0'}\nrisks:\n" + "".join(rows))
    one, other = risks.HostRisks(str(path), min_interval=0).holding()["a"]
    assert str(one) == "one, accepted by ann until 2027-02-01 00:00 UTC: lab firmware"
    assert r"x\n2027-01-01 CRITICAL" in str(other)
    assert str(other).isprintable() and len(str(other)) < 1_100


def test_a_file_that_is_wrong_lets_nothing_pass(tmp_path, caplog):
    path = tmp_path / "risks.yaml"
    path.write_text("meta: {schema_version: '1.0'}\nrisks: [{name: one, hots: a, until: soon}]\n")
    with pytest.raises(DocumentError) as caught:
        risks.read_file(path)
    for told in ("unknown key 'hots'", "did you mean 'host'", "'soon' is no time such as"):
        assert told in str(caught.value) or "key 'accepted' is missing" in str(caught.value)
    assert "unknown key 'hots'" in str(caught.value)
    of_hosts = risks.HostRisks(str(path), min_interval=0)
    assert of_hosts.holding() == {} and of_hosts.holding() == {}
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith("The file of accepted risks is wrong, so none is: ")
    assert "unknown key 'hots'" in message and "'soon' is no time" in message
    assert "\n" not in message
    # Once it was right, what was let pass then goes on to be, and nothing more.
    risks.write_file(path, [risk(host="a")])
    assert set(of_hosts.holding()) == {"a"}
    path.write_text("{")
    assert set(of_hosts.holding()) == {"a"}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-02", datetime.datetime(2027, 1, 2, tzinfo=datetime.UTC)),
        ("2027-01-02T18:00", datetime.datetime(2027, 1, 2, 18, tzinfo=datetime.UTC)),
        ("2027-01-02T18:00+02:00", datetime.datetime(2027, 1, 2, 16, tzinfo=datetime.UTC)),
    ],
)
def test_times(text, moment):
    assert risks.parse_moment(text) == moment
    with pytest.raises(ValueError, match="is no time such as"):
        risks.parse_moment(f"{text}x")


#: Times of their own zone that there are not in UTC.
BEYOND_THE_CALENDAR = ("9999-12-31T23:59-05:00", "0001-01-01T00:00+05:00")


@pytest.mark.parametrize("text", BEYOND_THE_CALENDAR)
def test_times_beyond_the_calendar_of_utc(text, tmp_path):
    """One in the file is an error of the file, and no end of the service that reads it."""
    with pytest.raises(ValueError, match="is no time such as"):
        risks.parse_moment(text)
    path = tmp_path / "risks.yaml"
    risks.write_file(path, [risk(host="a")])
    path.write_text(path.read_text().replace("2027-01-01T13:00", text))
    with pytest.raises(DocumentError, match=f"risks.yaml:6: risks.0.until: '{re.escape(text)}'"):
        risks.read_file(path)
    assert risks.HostRisks(str(path), min_interval=0).holding() == {}


def test_the_last_day_of_the_calendar():
    assert risks.parse_moment("9999-12-31T23:59").year == 9999


def test_words_from_a_terminal_in_another_encoding(tmp_path):
    """Python has bytes that are no UTF-8 as surrogates, which no file of YAML can hold."""
    path = tmp_path / "risks.yaml"
    kept = [risk(host="a", who="andr\udce9", reason="caf\udce9\n"), risk("two", host="b")]
    for _ in range(2):
        risks.write_file(path, kept)
        kept = risks.read_file(path)
        assert [(one.who, one.reason) for one in kept] == [
            ("andr\\udce9", "caf\\udce9\\n"),
            ("ann", "tested on cmp1"),
        ]


# --- what can be accepted ------------------------------------------------------------------------


def test_only_what_has_a_name():
    catalog = load_catalog(packs.catalog_paths(["qemu", "mlx5_vf"]))
    for name in ("qemu-s390-css-9.1", "qemu:unknown", "mlx5_vf:unknown"):
        check_name(name, catalog)
    for name in ("too-old", "qemu", "known-bad", "mlx5:unknown", "qemu-s390-css-9.2", ""):
        with pytest.raises(BadRequest, match="neither an entry of a known-bad list nor FAMILY"):
            check_name(name, catalog)
    with pytest.raises(BadRequest, match=r"did you mean 'qemu-s390-css-9\.1'"):
        check_name("qemu-s390-css-9.2", catalog)


def test_only_for_a_while():
    check_until(NOW + datetime.timedelta(days=90), NOW, 90)
    for until, told in (
        (NOW, "has passed"),
        (NOW + datetime.timedelta(days=90, hours=1), "more than 90 days ahead"),
    ):
        with pytest.raises(BadRequest, match=told):
            check_until(until, NOW, 90)


@pytest.mark.parametrize("days", [5_000_000, 10**12])
def test_for_longer_than_the_calendar_goes(days):
    last = datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC)
    assert check_until(last, NOW, days) == last
