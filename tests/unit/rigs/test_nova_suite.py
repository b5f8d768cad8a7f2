# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What tools/nova-suite.sh makes of the outcomes of Nova's tests."""

import json

import pytest

from rigs.nova_suite import __main__ as suite

DRIVEN = {"drivers": 1, "stats documents": 1, "provider trees": 2}
MOVED = {
    "filter calls": 1,
    "needs of vgpu": 1,
    "needs of sriov_nic": 1,
    "needs of nic": 1,
    "needs of hypervisor": 1,
    "prefilter requirements": 1,
    "filter decisions": 1,
    "weigher calls": 1,
    "admissions": 1,
}
DID = DRIVEN | MOVED
A, B, C = (f"nova.tests.functional.test_x.TestX.test_{name}" for name in "abc")


class Variant:
    """Stands in for a runner: tests come to what is said here, one status a time.

    :param statuses: by test, of its first run and those after it
    """

    def __init__(self, did, statuses):
        self._did = did
        self._statuses = {test: list(words) for test, words in statuses.items()}
        self.installed = {"files": [], "path": []}

    def list_tests(self):
        group = suite.Group(module="test_x", tests=tuple(self._statuses))
        return {"TestX": group}

    def run(self, groups, jobs, tell=lambda outcomes: None):
        return {
            test: suite.TestOutcome(
                status=self._statuses[test].pop(0),
                why="logged\nTraceback (most recent call last):\nE: why",
                ours=self._did,
            )
            for group in groups
            for test in group.tests
        }


@pytest.fixture
def compared(tmp_path, capsys):
    """Compare two variants; the exit status and the lines that are printed."""

    def compared(stock, ours, did=DID, installed=None, arguments=("--all",)):
        variants = {"stock": Variant({}, stock), "ours": Variant(did, ours)}
        if installed:
            variants["ours"].installed = installed
        status = suite._Suite(variants, tmp_path, suite.parse(arguments)).run()
        return status, capsys.readouterr().out.splitlines()

    return compared


def test_nothing_differs(compared, tmp_path):
    status, lines = compared(
        {A: ["pass"], B: ["skip"], C: ["fail"]}, {A: ["pass"], B: ["skip"], C: ["fail"]}
    )
    assert status == 0
    assert lines[-1] == "OK: no test differs"
    assert f"fails in both: {C}: E: why" in lines
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["ours"][B]["status"] == "skip"


@pytest.mark.parametrize(
    "stock, ours", [("pass", "fail"), ("fail", "pass"), ("pass", "skip"), ("skip", "pass")]
)
def test_a_test_that_differs_again_counts(compared, stock, ours):
    status, lines = compared({A: [stock, stock]}, {A: [ours, ours]})
    assert status == 1
    assert f"DIFFERENT: {A}: stock {stock}, ours {ours}" in lines
    assert lines[-1] == "FAILED: tests that differ: 1"
    assert "Traceback (most recent call last):" in lines
    assert "logged" not in lines


def test_a_test_that_differs_once_is_named(compared):
    status, lines = compared({A: ["pass", "pass"]}, {A: ["fail", "pass"]})
    assert status == 0
    named = f"differed once, not counted: {A}: stock pass, ours fail; alone, pass in both"
    assert named in lines


def test_a_test_that_only_one_has_counts(compared):
    status, lines = compared({A: ["pass"], B: ["pass"] * 2}, {A: ["pass"], C: ["pass"] * 2})
    assert status == 1
    assert f"DIFFERENT: {B}: stock pass, ours not there" in lines
    assert f"DIFFERENT: {C}: stock not there, ours pass" in lines


@pytest.mark.parametrize("missing", sorted(DID))
def test_where_our_code_was_not_used_the_comparison_means_nothing(compared, missing):
    did = {what: count for what, count in DID.items() if what != missing}
    status, lines = compared({A: ["pass"]}, {A: ["pass"]}, did)
    assert (status, lines[-1]) == (1, f"FAILED: no {missing}")


def test_what_somebody_selects_need_not_move_a_guest(compared):
    status, _ = compared({A: ["pass"]}, {A: ["pass"]}, DRIVEN, arguments=["test_x"])
    assert status == 0
    status, lines = compared({A: ["pass"]}, {A: ["pass"]}, MOVED, arguments=["test_x"])
    assert (status, lines[-1]) == (
        1,
        "FAILED: no drivers; no stats documents; no provider trees",
    )


def test_the_tree_is_not_what_was_to_be_tested(compared):
    tree = str(suite.venvs.ROOT)
    status, lines = compared(
        {A: ["pass"]}, {A: ["pass"]}, installed={"files": [], "path": ["/usr", tree]}
    )
    assert status == 1
    assert lines[-1].startswith(f"FAILED: {tree} is on the path")


def test_too_many_to_be_run_again(compared):
    tests = [f"{A}_{number}" for number in range(suite.AGAIN + 1)]
    status, lines = compared({t: ["pass"] for t in tests}, {t: ["fail"] for t in tests})
    assert (status, lines[-1]) == (1, f"FAILED: tests that differ: {len(tests)}")


def test_selection():
    classes = {"TestX": suite.Group(module="test_x", tests=(A, B, C))}
    (group,) = suite.select(classes, [r"test_x\..*_[ab]$"], {r"_b$": "why"})
    assert group.tests == (A,)
    assert suite.select(classes, ["functional"], {"never": "why"}) == []


def test_the_patterns_are_regular_expressions(capsys):
    with pytest.raises(SystemExit) as ended:
        suite.parse(["test_(x"])
    assert ended.value.code == 2
    assert "'test_(x' is no regular expression" in capsys.readouterr().err
