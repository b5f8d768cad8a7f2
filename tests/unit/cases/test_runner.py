# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The runner of cases: that it says what is right, what is wrong, and what cannot be asked."""

from __future__ import annotations

import pytest
import yaml

from tests.cases.__main__ import main


@pytest.fixture
def run(tmp_path, capsys):
    """Runs a case: its lines but the last, the last, and the status."""

    def runs(case, **files):
        folder = tmp_path / "one-case"
        folder.mkdir(exist_ok=True)
        text = case if isinstance(case, str) else yaml.safe_dump(case)
        (folder / "case.yaml").write_text(text)
        for name, content in files.items():
            whole = content if isinstance(content, str) else yaml.safe_dump(content)
            (folder / f"{name}.yaml").write_text(whole)
        status = main([str(folder)])
        *lines, last = capsys.readouterr().out.splitlines()
        return lines, last, status

    return runs


def row(**changed):
    return {
        "kind": "versions",
        "rows": [
            {"rule": "Semver", "offer": "2.4", "need": "2.3", "expected": "accept", **changed}
        ],
    }


def test_right_and_wrong_are_told_apart(run):
    assert run(row()) == (
        ["one-case rows[0] Semver offer 2.4 need 2.3: accept [expected accept] ok"],
        "1 right, 0 wrong",
        0,
    )
    lines, last, status = run(row(expected="reject or unknown"))
    assert lines[0].endswith(": accept [expected reject or unknown] WRONG")
    assert (last, status) == ("0 right, 1 wrong", 1)


def test_a_kind_can_be_named_as_a_catalog_does(run):
    assert run(row(rule="semver"))[2] == 0


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ({**row(), "colour": "red"}, "unknown key 'colour'"),
        (row(verdict="accept"), "rows[0]: unknown key 'verdict'"),
        (row(expected="accepts"), "rows[0].expected: 'accepts' is none of"),
        (row(expected="silent"), "'silent' is none of"),
        (row(rule="Nope"), "rows[0].rule: 'Nope' is no kind of rule"),
        ({"kind": "other"}, "kind: 'other' is none of hosts, matrix"),
        ({"kind": "versions"}, "rows is missing"),
        ({"kind": "versions", "rows": "x"}, "rows: 'x' is no list"),
        ("]", "case.yaml: "),
        ("[]", "case.yaml is no mapping"),
        ("", "case.yaml is no mapping"),
    ],
)
def test_what_cannot_be_asked_is_wrong_and_says_where(run, case, why):
    lines, last, status = run(case)
    assert why in lines[-1]
    assert lines[-1].endswith("WRONG")
    assert (last, status) == ("0 right, 1 wrong", 1)


def host(**devices):
    return {
        "static": [
            {"address": name, "family": "gpu", "attributes": facts}
            for name, facts in devices.items()
        ]
    }


CATALOG = {
    "meta": {"schema_version": "1.0"},
    "families": {
        "gpu": {"match": {"vendor_id": "10de"}, "source": "static", "rules": {"fw": "equal"}}
    },
}


def moved(there, expected, **changed):
    return {
        "kind": "hosts",
        "source": host(a={"fw": "1"}),
        "guest": {"device": "a"},
        "destinations": {"there": {**there, "device": "b"}},
        "expected": {"there": expected},
        **changed,
    }


@pytest.mark.parametrize(
    ("facts", "verdict"), [({"fw": "1"}, "accept"), ({"fw": "2"}, "reject"), ({}, "unknown")]
)
def test_a_guest_is_judged_on_the_device_that_it_would_get(run, facts, verdict):
    lines, _, status = run(moved(host(b=facts), verdict), catalog=CATALOG)
    assert status == 0, lines


def test_a_device_that_nobody_judges_is_never_right(run):
    plain = {"static": [{"address": "b", "attributes": {"fw": "1"}}]}
    case = moved(plain, "accept", source={"static": [{"address": "a", "attributes": {}}]})
    lines, _, status = run(case, catalog=CATALOG)
    assert lines[0].startswith("one-case there: silent b is of no family")
    assert status == 1


def test_a_catalog_that_is_refused_is_an_error(run):
    lines, _, status = run(moved(host(), "error"), catalog={"families": {}})
    assert status == 0
    assert "catalog.yaml" in lines[0]


def test_what_is_expected_of_nobody_is_an_error(run):
    case = {**moved(host(), "accept"), "expected": {"elsewhere": "accept"}}
    assert "is not expected, or not there" in run(case, catalog=CATALOG)[0][0]


def test_commands_are_run_on_the_folder(run):
    case = {"kind": "validate", "command": "catalog validate CASE/catalog.yaml"}
    assert run({**case, "expected": "accept"}, catalog=CATALOG)[2] == 0
    lines, _, status = run({**case, "expected": "error"}, catalog={"meta": {}})
    assert status == 0
    assert "catalog.yaml" in lines[0]


def test_a_pin_is_refused_when_it_is_set_or_judged_on_hosts(run):
    case = {
        "kind": "pin",
        "extra_specs": {"devcompat:gpu.fw": "1"},
        "destinations": {"yes": host(a={"fw": "1"}), "no": host(a={"fw": "2"})},
        "expected": {"yes": "accept", "no": "reject"},
    }
    assert run(case, catalog=CATALOG)[1:] == ("2 right, 0 wrong", 0)
    case |= {"extra_specs": {"devcompat:gpu.fv": "1"}, "expected": "error"}
    lines, _, status = run(case, catalog=CATALOG)
    assert status == 0
    assert "has no attribute 'fv'" in lines[0]


def test_paths_without_cases_are_wrong_and_the_others_are_asked(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    one = tmp_path / "several" / "one"
    one.mkdir(parents=True)
    (one / "case.yaml").write_text(yaml.safe_dump(row()))
    assert main([str(tmp_path / "empty"), str(tmp_path / "several")]) == 1
    told = capsys.readouterr().out
    assert "neither a case nor a folder of cases" in told
    assert told.endswith("1 right, 1 wrong\n")
