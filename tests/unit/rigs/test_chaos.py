# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What tools/cloud chaos draws, and that each of its checks finds what was planted."""

from __future__ import annotations

import ast
import collections
import contextlib
import dataclasses
import pathlib
import re
import subprocess
import sys
import time
from unittest import mock

import pytest

import rigs.chaos
from rigs.chaos import blame, checks, command, faults, late, model, operations, plan, run
from rigs.chaos.access import Access
from rigs.chaos.checks import Asked, Guest, Migration, Running, Server, Snapshot
from rigs.chaos.model import FLAVORS, Versions
from rigs.chaos.report import Found, Report
from rigs.cloud import commands
from rigs.cloud.layout import Cloud, CloudError, write

ROOT = pathlib.Path(__file__).resolve().parents[3]
OLD = Versions(firmware="28.37.1014", lowest="7.1", highest="12.1")
MIDDLE = Versions(firmware="28.39.1002", lowest="7.1", highest="14.1")
NEW = Versions(firmware="28.41.1000", lowest="13.1", highest="1A.1")
HOSTS = {"cmp1": MIDDLE, "cmp2": NEW, "cmp3": OLD}
CELLS = dict.fromkeys(HOSTS, "cell1")
FIRMWARE, VGPU = {"fw_version": "28.39.1002"}, {"vgpu_version": "14.1"}
BOTH, PLAIN = FLAVORS["chaos-both"], FLAVORS["chaos-plain"]
KNOWN = {
    *("MLX5_VF__FW_VERSION__28_37", "MLX5_VF__FW_VERSION__28_39", "MLX5_VF__FW_VERSION__28_41"),
    *("NVIDIA_VGPU__VGPU_VERSION__12_1", "NVIDIA_VGPU__VGPU_VERSION__14_1"),
    "NVIDIA_VGPU__VGPU_VERSION__1A_1",
}
TRAITS = {
    "cmp1": {
        *("MLX5_VF__FW_VERSION__28_37", "MLX5_VF__FW_VERSION__28_39"),
        *("NVIDIA_VGPU__VGPU_VERSION__12_1", "NVIDIA_VGPU__VGPU_VERSION__14_1"),
    },
    "cmp2": {
        *("MLX5_VF__FW_VERSION__28_37", "MLX5_VF__FW_VERSION__28_39"),
        *("MLX5_VF__FW_VERSION__28_41", "NVIDIA_VGPU__VGPU_VERSION__14_1"),
        "NVIDIA_VGPU__VGPU_VERSION__1A_1",
    },
    "cmp3": {"MLX5_VF__FW_VERSION__28_37", "NVIDIA_VGPU__VGPU_VERSION__12_1"},
}
#: One guest on cmp1, one in the middle of a resize from cmp3 to cmp2, and all is as it should be.
GUESTS = {
    "guest": Guest(uuid="guest", flavor=BOTH),
    "resized": Guest(uuid="resized", flavor=PLAIN, before=(BOTH, "cmp3")),
}
GOOD = Snapshot(
    servers={
        "guest": Server(status="ACTIVE", task="", host="cmp1"),
        "resized": Server(status="VERIFY_RESIZE", task="", host="cmp2"),
    },
    migrations=[
        Migration(
            uuid="moving",
            server="resized",
            kind="resize",
            status="finished",
            source="cmp3",
            destination="cmp2",
        )
    ],
    running={
        "guest": Running(host="cmp1", states=[FIRMWARE, VGPU]),
        "resized": Running(host="cmp2", states=[]),
    },
    allocations={
        "guest": {
            "cmp1": {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1},
            "cmp1_0000:81:00.0": {"CUSTOM_VF": 1},
            "cmp1_pci_0000_41_00_0": {"VGPU": 1},
        },
        "resized": {"cmp2": {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}},
        "moving": {
            "cmp3": {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1},
            "cmp3_0000:81:00.0": {"CUSTOM_VF": 1},
            "cmp3_pci_0000_41_00_0": {"VGPU": 1},
        },
    },
    claims={("cmp1", "guest"): 1, ("cmp3", "resized"): 1},
    records={
        "guest": {"mlx5_vf": {"fw_version": ["28.39"]}, "nvidia_vgpu": {"vgpu_version": ["14.1"]}}
    },
    traits=TRAITS,
    known=KNOWN,
)


def kinds(snapshot: Snapshot, **options: bool) -> list[tuple[str, str]]:
    """Kinds of findings, with what each is about."""
    found = checks.check(snapshot, GUESTS, HOSTS, **options)
    return [(one.kind, one.guest) for one in found]


def but(**changes: object) -> Snapshot:
    return dataclasses.replace(GOOD, **changes)


def server(**changes: str) -> dict[str, Server]:
    return {**GOOD.servers, "guest": dataclasses.replace(GOOD.servers["guest"], **changes)}


# --- the model -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "takers"),
    [
        ({"fw_version": "28.37.1"}, {"cmp1", "cmp2", "cmp3"}),
        ({"fw_version": "28.39.2048"}, {"cmp1", "cmp2"}),
        ({"fw_version": "28.41.1000"}, {"cmp2"}),
        ({"fw_version": "29.37.1000"}, set()),
        ({"fw_version": "27.37.1000"}, set()),
        ({"vgpu_version": "12.1"}, {"cmp1", "cmp3"}),
        ({"vgpu_version": "14.1"}, {"cmp1", "cmp2"}),
        # Hexadecimal: beyond 19.
        ({"vgpu_version": "1A.1"}, {"cmp2"}),
    ],
)
def test_what_takes_a_state(state, takers):
    assert {host for host, versions in HOSTS.items() if versions.takes(state)} == takers


def test_what_hosts_publish():
    assert {host: versions.accepted(KNOWN) for host, versions in HOSTS.items()} == TRAITS
    assert set().union(*(versions.own() for versions in HOSTS.values())) == KNOWN
    assert OLD.accepted({"SOMETHING__ELSE__1"}) == set()


def test_a_guest_needs_what_all_its_devices_have():
    states = [FIRMWARE, {"fw_version": "28.41.7"}, {"vgpu_version": "1a.1"}]
    assert model.need_of(states) == {
        "mlx5_vf": {"fw_version": ["28.39", "28.41"]},
        "nvidia_vgpu": {"vgpu_version": ["1A.1"]},
    }
    assert model.need_of([]) == {}
    assert not model.fits([FIRMWARE, VGPU], [OLD])
    assert model.fits([FIRMWARE, VGPU], [OLD, NEW])
    # Not a part of one and a part of another.
    assert not model.fits([{"fw_version": "28.41.1"}, {"vgpu_version": "12.1"}], [OLD, NEW])


def test_room():
    three = FLAVORS["chaos-three"]
    assert model.has_room(three, "cmp1", [])
    held = [three.holds("cmp1"), FLAVORS["chaos-both"].holds("cmp1"), three.holds("cmp2")]
    assert model.has_room(three, "cmp1", held)
    held.append(FLAVORS["chaos-vf"].holds("cmp1"))
    assert not model.has_room(three, "cmp1", held + held)
    assert not model.has_room(three, "cmp1", [*held, FLAVORS["chaos-vf"].holds("cmp1")])
    assert model.has_room(PLAIN, "cmp1", held + held)


# --- checks, with what they must find ------------------------------------------------------------


def test_nothing_is_found_where_all_is_well():
    assert kinds(GOOD) == []
    assert kinds(but(records={}, traits={}), stock=True) == []


def without(name: str, key: object) -> Snapshot:
    return but(**{name: {k: v for k, v in getattr(GOOD, name).items() if k != key}})


WRONG = {
    "a server in ERROR": (but(servers=server(status="ERROR")), ("in-error", "guest")),
    "a task for ever": (but(servers=server(task="migrating")), ("stuck", "guest")),
    "never placed": (but(building={"guest"}), ("stuck", "guest")),
    "elsewhere": (
        but(running={**GOOD.running, "guest": Running(host="cmp2", states=[FIRMWARE, VGPU])}),
        ("lost", "guest"),
    ),
    "nowhere": (without("running", "guest"), ("lost", "guest")),
    "without a device": (
        but(
            running={**GOOD.running, "guest": Running(host="cmp1", states=[FIRMWARE])},
            records={"guest": {"mlx5_vf": {"fw_version": ["28.39"]}}},
        ),
        ("lost", "guest"),
    ),
    "a guest that nobody wants": (
        but(running={**GOOD.running, "stranger": Running(host="cmp3", states=[])}),
        ("lost", "stranger"),
    ),
    "an allocation of nobody": (
        but(allocations={**GOOD.allocations, "gone": {"cmp2": {"VCPU": 1}}}),
        ("allocation", "gone"),
    ),
    "an allocation of a migration that has ended": (
        but(
            migrations=[
                *GOOD.migrations,
                dataclasses.replace(
                    GOOD.migrations[0], uuid="over", server="guest", status="error"
                ),
            ],
            allocations={**GOOD.allocations, "over": {"cmp2_0000:81:00.0": {"CUSTOM_VF": 1}}},
        ),
        ("allocation", "guest"),
    ),
    "no allocation": (without("allocations", "guest"), ("allocation", "guest")),
    "no allocation of a resize": (without("allocations", "moving"), ("allocation", "resized")),
    "a claim that is left": (
        but(claims={**GOOD.claims, ("cmp2", "guest"): 1}),
        ("claim", "guest"),
    ),
    "no claim": (without("claims", ("cmp1", "guest")), ("unclaimed", "guest")),
    "no claim of a resize": (without("claims", ("cmp3", "resized")), ("unclaimed", "resized")),
    "no record": (without("records", "guest"), ("record", "guest")),
    "a record of another version": (
        but(
            records={
                "guest": {
                    "mlx5_vf": {"fw_version": ["28.41"]},
                    "nvidia_vgpu": {"vgpu_version": ["14.1"]},
                }
            }
        ),
        ("record", "guest"),
    ),
    "a record of a device that is gone": (
        but(records={**GOOD.records, "resized": {"mlx5_vf": {"fw_version": ["28.37"]}}}),
        ("record", "resized"),
    ),
    "a record that is stale": (but(problems={"guest": "record-stale"}), ("record", "guest")),
    "a trait too many": (
        but(traits={**TRAITS, "cmp3": TRAITS["cmp3"] | {"MLX5_VF__FW_VERSION__28_39"}}),
        ("trait", "cmp3"),
    ),
    "a trait that lacks": (
        but(traits={**TRAITS, "cmp2": TRAITS["cmp2"] - {"MLX5_VF__FW_VERSION__28_39"}}),
        ("trait", "cmp2"),
    ),
}


@pytest.mark.parametrize("snapshot, finding", WRONG.values(), ids=WRONG)
def test_what_is_planted_is_found(snapshot, finding):
    assert kinds(snapshot) == [finding]


def test_what_nova_loses_is_not_laid_to_the_record():
    snapshot = dataclasses.replace(without("claims", ("cmp1", "guest")), records={"guest": {}})
    assert kinds(snapshot) == [("unclaimed", "guest")]


def test_what_a_revert_leaves_in_novas_request():
    more = {**GOOD.allocations["guest"], "cmp1_0000:81:00.0": {"CUSTOM_VF": 3}}
    snapshot = but(allocations={**GOOD.allocations, "guest": more})
    assert kinds(snapshot) == [("allocation", "guest")]
    reverted = dataclasses.replace(GUESTS["guest"], left=FLAVORS["chaos-three"])
    guests = {**GUESTS, "guest": reverted}
    assert checks.check(snapshot, guests, HOSTS) == []
    assert checks.check(GOOD, guests, HOSTS) == []
    # A record is of what Nova says that the guest has; only then may it be another.
    other = {"guest": {}}
    assert checks.check(dataclasses.replace(snapshot, records=other), guests, HOSTS) == []
    assert len(checks.check(dataclasses.replace(GOOD, records=other), guests, HOSTS)) == 1
    moving = begun("live", guest=reverted).asked
    assert moving.flavor.vfs == 3


def test_a_server_that_is_gone():
    snapshot = without("servers", "guest")
    assert set(kinds(snapshot)) == {
        ("lost", "guest"),
        ("allocation", "guest"),
        ("claim", "guest"),
    }


def test_a_shelved_guest_holds_nothing():
    shelved = but(servers=server(status="SHELVED_OFFLOADED", host=""))
    found = {("lost", "guest"), ("allocation", "guest"), ("claim", "guest")}
    assert found <= set(kinds(shelved))
    away = dataclasses.replace(
        shelved,
        running={"resized": GOOD.running["resized"]},
        allocations={k: v for k, v in GOOD.allocations.items() if k != "guest"},
        claims={("cmp3", "resized"): 1},
    )
    assert kinds(away) == []


def test_where_a_guest_must_not_be():
    before = GOOD.running["guest"]
    had = {host: {versions} for host, versions in HOSTS.items()}
    arrived = Server(status="ACTIVE", task="", host="cmp3")
    (finding,) = checks.unfit(before, arrived, had, "guest")
    assert (finding.kind, finding.guest) == ("unfit", "guest")
    assert checks.unfit(before, dataclasses.replace(arrived, host="cmp2"), had, "guest") == []
    assert checks.unfit(before, GOOD.servers["guest"], had, "guest") == []
    # It had other versions when the guest came.
    assert checks.unfit(before, arrived, {**had, "cmp3": {OLD, NEW}}, "guest") == []


def asked(**changes: object) -> Asked:
    usual = Asked(guest="guest", flavor=BOTH, live=True, current="cmp1", named="")
    return dataclasses.replace(usual, **changes)


def test_hosts_that_would_do():
    def hosts(one: Asked, *others: Asked, cells: dict[str, str] = CELLS) -> list[str]:
        return checks.hosts_for(one, GOOD, HOSTS, cells, others)

    assert hosts(asked()) == ["cmp2"]
    assert hosts(asked(named="cmp3")) == []
    # Its devices are started anew.
    assert hosts(asked(live=False)) == ["cmp2", "cmp3"]
    assert hosts(asked(guest="", live=False, current="")) == ["cmp1", "cmp2", "cmp3"]
    assert hosts(asked(), cells={**CELLS, "cmp2": "cell2"}) == []
    # Any of them could come to hold the last functions.
    three = asked(guest="other", flavor=FLAVORS["chaos-three"])
    assert hosts(asked(), three, three) == ["cmp2"]
    many = (three, three, asked(guest="third"), asked(guest="fourth"))
    assert hosts(asked(), *many) == []
    # Those go elsewhere, whatever Nova chooses.
    named = [dataclasses.replace(one, named="cmp3") for one in many]
    assert hosts(asked(), *named) == ["cmp2"]
    there = [dataclasses.replace(one, current="cmp2") for one in many]
    assert hosts(asked(), *there) == ["cmp2"]
    other = {**CELLS, "cmp4": "cell2"}
    away = [dataclasses.replace(one, current="cmp4") for one in many]
    versions = {**HOSTS, "cmp4": NEW}
    assert checks.hosts_for(asked(), GOOD, versions, other, away) == ["cmp2"]


def test_a_guest_that_does_not_fit_a_host_takes_no_room_there():
    needs = {"unfit": Running(host="cmp1", states=[{"fw_version": "29.37.1000"}])}
    snapshot = but(running={**GOOD.running, **needs})
    other = asked(guest="unfit", flavor=FLAVORS["chaos-three"])
    others = [other] * 4
    assert checks.hosts_for(asked(), snapshot, HOSTS, CELLS, others) == ["cmp2"]
    cold = [dataclasses.replace(other, live=False)] * 4
    assert checks.hosts_for(asked(), snapshot, HOSTS, CELLS, cold) == []


# --- what comes of operations --------------------------------------------------------------------


def begun(name: str, **more: object) -> operations.Begun:
    one = plan.Operation(slot=0, name=name, host=1, flavor="chaos-vf", delay=0)
    usual = {"guest": GUESTS["guest"], "before": GOOD.servers["guest"], "host": "", "status": 202}
    return operations.Begun(operation=one, **{**usual, **more})


def moved(status: str, *, uuid: str = "new") -> Snapshot:
    # In a cell that is listed before that of the other.
    last = dataclasses.replace(GOOD.migrations[0], uuid=uuid, server="guest", status=status)
    return but(migrations=[last, *GOOD.migrations])


@pytest.mark.parametrize(
    ("one", "snapshot", "outcome"),
    [
        (begun("live"), moved("completed"), "accepted"),
        (begun("live"), moved("error"), "refused"),
        # On a machine that is busy it can take long.
        (begun("live"), moved("running"), "error"),
        # That of an operation before.
        (begun("live"), moved("completed", uuid="before"), "error"),
        (begun("live"), but(servers=server(status="ERROR")), "error"),
        (begun("cold", status=400, answer="No valid host was found"), GOOD, "refused"),
        (begun("live", status=409), GOOD, "void"),
        (begun("live", status=500), GOOD, "error"),
        (begun("live", status=0), GOOD, "error"),
        (begun("live", guest=None, status=0), GOOD, "void"),
        (begun("stop"), but(servers=server(status="SHUTOFF")), "accepted"),
        (begun("stop"), GOOD, "error"),
        (begun("revert"), but(servers=server(status="SHUTOFF")), "accepted"),
        (begun("revert"), but(servers=server(status="VERIFY_RESIZE")), "error"),
        (begun("delete", status=204), without("servers", "guest"), "accepted"),
        (begun("delete", status=204), GOOD, "error"),
        (begun("boot", before=None), GOOD, "accepted"),
        (begun("boot", before=None), but(servers=server(status="ERROR", host="")), "refused"),
        (begun("boot", before=None), but(servers=server(status="ERROR")), "error"),
        (begun("unshelve"), but(servers=server(status="SHELVED_OFFLOADED", host="")), "refused"),
    ],
)
def test_outcomes(one, snapshot, outcome):
    assert operations.outcome(one, snapshot, known={"moving", "before"}) == outcome


# --- plans ---------------------------------------------------------------------------------------


def test_a_seed_is_a_plan():
    def drawn(seed: int) -> list[plan.Step]:
        return plan.draw(operations=300, seed=seed, slots=8)

    assert drawn(5) == drawn(5)
    assert drawn(5) != drawn(6)
    for step in drawn(5):
        slots = [one.slot for one in step.operations]
        assert len(set(slots)) == len(slots) <= 4


def test_everything_is_drawn():
    steps = plan.draw(operations=4000, seed=1, slots=8)
    assert sum(len(step.operations) for step in steps) == 4000
    names = collections.Counter(one.name for step in steps for one in step.operations)
    assert set(names) == set(plan.OPERATIONS)
    assert {step.fault.name for step in steps} == set(plan.FAULTS)
    # Nothing that Nova refuses by itself.
    flavors = [
        step.flavors[one.slot]
        for step in steps
        for one in step.operations
        if one.name == "live-forced"
    ]
    assert set(flavors) == {"chaos-plain"}


def test_faults_can_be_left_out_without_another_plan():
    all_faults = plan.draw(operations=200, seed=3, slots=8)
    none = plan.draw(operations=200, seed=3, slots=8, faults=())
    assert [step.operations for step in none] == [step.operations for step in all_faults]
    assert {step.fault.name for step in none} == {"none"}


def test_steps_by_number():
    steps = plan.draw(operations=40, seed=3, slots=8)
    chosen = plan.chosen_steps("2-4,7", steps)
    assert chosen == [step for step in steps if step.number in (2, 3, 4, 7)]
    for text in ("0", "4-99", "x", ""):
        with pytest.raises(ValueError):
            plan.chosen_steps(text, steps)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_shares_are_the_plan(count):
    steps = plan.draw(operations=400, seed=3, slots=10, at_once=10)
    shares = [plan.share(f"{number}/{count}", steps) for number in range(1, count + 1)]
    assert [step for one in shares for step in one] == steps
    sizes = [len(one) for one in shares]
    assert max(sizes) - min(sizes) <= 1 and min(sizes)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1/0", "1", "1/41", "x/y", "-1/2", ""])
def test_what_is_no_share(text):
    with pytest.raises(ValueError):
        plan.share(text, plan.draw(operations=400, seed=3, slots=10, at_once=10))


def test_steps_of_a_share():
    """They have the numbers that they have in the whole plan."""
    parse = commands._parser().parse_args
    line = ["chaos", "--seed", "7", "--operations", "40", "--share", "2/2"]
    whole = command.planned(parse(line[:-2]))
    share = command.planned(parse(line))
    assert share == whole[len(whole) // 2 :]
    last = whole[-1].number
    assert command.planned(parse([*line, "--only-steps", str(last)])) == whole[-1:]
    with pytest.raises(CloudError, match=f"there are {share[0].number} to {last}"):
        command.planned(parse([*line, "--only-steps", "1"]))


def stalls(steps: list[plan.Step]) -> bool:
    """Whether a guest is moved after its resize was reverted, which takes a minute to fail."""
    last: dict[int, str] = {}
    reverted: set[int] = set()
    for one in (one for step in steps for one in step.operations):
        if one.name in ("boot", "boot-named"):
            reverted.discard(one.slot)
        elif one.name == "revert" and last[one.slot] == "resize":
            reverted.add(one.slot)
        elif one.name in operations.PLACES and one.slot in reverted:
            return True
        last[one.slot] = one.name
    return False


def test_the_plan_of_each_day():
    """A hundred operations, much of what there is, and little to wait for."""
    (line,) = re.findall(r"^ +tools/cloud (chaos .*) \|\|", (ROOT / ".ci/run").read_text(), re.M)
    steps = command.planned(commands._parser().parse_args(line.split()))
    assert sum(len(step.operations) for step in steps) == 100
    assert not stalls(steps)
    assert stalls(plan.draw(operations=1000, seed=1, slots=10))
    names = {one.name for step in steps for one in step.operations}
    assert len(names) >= len(plan.OPERATIONS) - 2
    drawn = [step.fault.name for step in steps]
    assert len(set(drawn)) >= 8
    # So many in which a refusal must have its reason.
    assert sum(name in faults.SETTLED for name in drawn) >= 5


# --- the command ---------------------------------------------------------------------------------


def test_it_lists_its_plan_and_says_how_to_replay(tmp_path, capsys):
    line = ["--data", str(tmp_path), "chaos", "--seed", "7", "--operations", "40", "--list"]
    assert commands.main(line) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(plan.draw(operations=40, seed=7, slots=8))
    parser = commands._parser()
    more = ["--only-steps", "9-10", "--share", "2/2", "--minutes", "2.5", "--as-many", "--stock"]
    arguments = parser.parse_args([*line[2:-1], *more])
    words = command.replay(arguments).split()
    assert words[0] == "tools/cloud"
    again = parser.parse_args(words[1:])
    assert vars(again) == vars(arguments)


@pytest.mark.parametrize(
    "wrong",
    [
        *(["--faults", "x"], ["--operations", "0"], ["--only-steps", "a"], ["--slots", "0"]),
        ["--share", "3/2"],
    ],
)
def test_what_stands_for_no_plan(wrong):
    arguments = commands._parser().parse_args(["chaos", *wrong])
    with pytest.raises(CloudError):
        command.planned(arguments)


def test_a_guest_that_was_never_scheduled_is_not_active():
    guest = GUESTS["guest"]
    assert run._active(GOOD, guest)
    assert not run._active(but(servers=server(status="ERROR")), guest)
    never = dataclasses.replace(without("servers", "guest"), building={"guest"})
    assert not run._active(never, guest)


def test_a_migration_is_waited_for():
    """Without a task of its server too, unless it may have been left as it is for ever."""
    going = moved("post-migrating")
    assert run._busy(going, {"guest"}, {"moving"}, goes_on=True)
    assert not run._busy(going, {"guest"}, {"moving"}, goes_on=False)
    assert not run._busy(going, {"guest"}, {"moving", "new"}, goes_on=True)
    assert not run._busy(moved("completed"), {"guest"}, {"moving"}, goes_on=True)
    assert run._busy(but(servers=server(task="migrating")), {"guest"}, {"moving"}, goes_on=False)


@pytest.mark.parametrize("kind", [*checks.OURS, *checks.NOVAS])
def test_what_is_a_violation(kind):
    def violates(fault: str, operation: str = "stop", *, stock: bool = False) -> bool:
        finding = checks.Finding(kind=kind, guest="", text="")
        return blame.violates(finding, fault, operation, stock=stock)

    assert violates("none")
    assert violates("versions-at-once")
    # Nova leaves things behind by itself where it is interrupted.
    assert violates("kill-compute") == (kind in checks.OURS)
    assert not violates("none", stock=True)
    finding = checks.Finding(kind=kind, guest="", text="")
    assert blame.violates(finding, "none", "live", broken=True) == (kind in checks.OURS)
    # Nor does it always keep what it has claimed for a guest that comes.
    assert violates("none", "live") == (kind != "unclaimed")
    # Nor does it revert well.
    assert violates("none", "revert") == (kind in checks.OURS)


def found(kind: str, step: int = 3, operation: str = "live", *, violation: bool = True) -> Found:
    return Found(
        step=step,
        fault="none",
        operation=operation,
        kind=kind,
        text="it is so",
        violation=violation,
    )


def test_a_report_counts_and_is_kept(tmp_path):
    report = Report()
    report.count("live", "none", "accepted")
    report.count("live", "kill-compute", "error")
    report.took("none", 3.25)
    killed = dataclasses.replace(found("allocation", violation=False), fault="kill-compute")
    report.found(killed)
    report.found(found("unfit", operation=""))
    assert [str(one) for one in report.violations] == ["step 3, none: unfit: it is so"]
    report.save(tmp_path / "reports/one.json")
    again = Report.load(tmp_path / "reports/one.json")
    assert again == report
    assert Report.load(tmp_path / "none.json") is None
    lines = list(report.lines(again))
    (heading, *rows) = [line.split() for line in lines[lines.index("") + 1 :][:4]]
    table = {row[0]: dict(zip(heading[1:], map(int, row[1:]), strict=True)) for row in rows}
    whole = {"tried": 2, "accepted": 1, "refused": 0, "error": 1, "violations": 1, "Nova's": 1}
    assert table["all"] | whole == table["all"]
    assert (
        table["kill-compute"] | {"allocation": 1, "violations": 0, "Nova's": 1}
        == table["kill-compute"]
    )
    assert table["none"] | {"unfit": 1, "violations": 1, "Nova's": 0} == table["none"]


def test_what_stock_nova_shows_too_is_no_violation():
    report = Report()
    kinds = (*checks.OURS, *checks.NOVAS)
    for kind in kinds:
        report.found(found(kind))
    elsewhere = [found("claim", step=4), found("claim", operation="cold")]
    stock = Report()
    for one in elsewhere:
        stock.found(dataclasses.replace(one, violation=False))
    assert report.told_apart(stock) == []
    for kind in kinds:
        stock.found(found(kind, violation=False))
    novas = report.told_apart(stock)
    assert [one.kind for one in novas] == list(checks.NOVAS)
    report.take_off(novas)
    assert [one.kind for one in report.violations] == list(checks.OURS)
    for counts in (report.operations["live"], report.faults["none"]):
        assert counts["violations"] == len(checks.OURS)
        assert counts["Nova's"] == len(checks.NOVAS)
        assert counts["claim"] == 1


def test_doubtful_steps_are_done_again_without_us(tmp_path, monkeypatch, capsys):
    """So often as is asked, until nothing is in doubt; what only we can do is in none."""
    arguments = commands._parser().parse_args(["chaos", "--seed", "7", "--operations", "40"])
    steps = command.planned(arguments)
    report = Report()
    for one in (found("unfit", 1), found("claim", 2), found("allocation", 5), found("record", 5)):
        report.found(one)
    shows = {1: [found("claim", 2)], 2: [], 3: [found("allocation", 5), found("claim", 2)]}
    done: list[list[int]] = []
    became: list[bool] = []
    later = time.monotonic() + 60

    def go(cloud, arguments, chosen, end, *, stock):
        assert stock
        assert end == later
        done.append([step.number for step in chosen])
        return Report(findings=shows[len(done)])

    def by_itself() -> list[str]:
        stock = command._by_itself(None, arguments, steps, report, became.append, later)
        return [one.kind for one in report.told_apart(stock)]

    monkeypatch.setattr(command, "_go", go)
    assert by_itself() == ["claim", "allocation"]
    assert (done, became) == ([[2, 5], [5], [5]], [True])

    done.clear()
    shows[1] = [found("claim", 2), found("allocation", 5)]
    assert by_itself() == ["claim", "allocation"]
    assert done == [[2, 5]]

    done.clear()
    became.clear()
    arguments.replays = 0
    assert by_itself() == []
    report = Report(findings=[found("unfit"), found("claim", violation=False)])
    arguments.replays = 3
    assert by_itself() == []
    assert (done, became) == ([], [])

    # Nor when the time is over.
    later = time.monotonic() - 1
    report = Report(findings=[found("claim", 2)])
    assert by_itself() == []
    assert (done, became) == ([], [])


class Nothing(contextlib.AbstractContextManager):
    """A cloud in which nothing is, and a run that does nothing in it, a step for so long."""

    seconds = 0.0

    def __init__(self, of, *, stock=False, **options):
        self.stock, self.cells = stock or getattr(of, "stock", False), {}
        self.report = Report(stock=self.stock)

    def __exit__(self, *error):
        return None

    prepare = clear = publish = lambda self: None

    def commands(self):
        return self

    def step(self, step):
        self.report.took(step.fault.name, 30.0)
        for one in step.operations:
            self.report.count(one.name, step.fault.name, "accepted")
        time.sleep(self.seconds)


@pytest.fixture
def nothing(monkeypatch):
    monkeypatch.setattr(command, "Access", Nothing)
    monkeypatch.setattr(command, "Run", Nothing)


def chaos(folder: pathlib.Path, *more: str) -> int:
    line = ["chaos", "--seed", "7", "--operations", "400", "--slots", "10", "--at-once", "10"]
    arguments = commands._parser().parse_args([*line, *more])
    cloud = Cloud(folder)
    for host, _ in cloud.hosts():
        write(folder / f"hosts/{host}/inventory.yaml", "")
    return command.run(cloud, arguments, lambda stock: None)


def test_a_run_ends_when_its_time_is_over(nothing, tmp_path, monkeypatch, capsys):
    """After the step that goes on, and it is no pass unless that is asked for."""
    assert chaos(tmp_path) == 0
    assert "CUT SHORT" not in capsys.readouterr().out
    monkeypatch.setattr(Nothing, "seconds", 0.02)
    minutes = ("--minutes", str(0.2 / 60))
    assert chaos(tmp_path, *minutes) == command.CUT_SHORT
    told = capsys.readouterr().out
    (done,) = re.findall(r"^CUT SHORT after (\d+) of 400 operations$", told, re.M)
    assert 10 <= int(done) < 400
    assert f"The time is over before step {int(done) // 10 + 1}\n" in told
    assert chaos(tmp_path, *minutes, "--as-many") == 0
    assert "CUT SHORT" in capsys.readouterr().out
    assert chaos(tmp_path, "--minutes", "5") == 0


def test_a_cut_run_with_a_violation_has_failed_for_that(nothing, tmp_path, monkeypatch, capsys):
    def step(self, step):
        self.report.found(found("unfit", step.number))

    monkeypatch.setattr(Nothing, "step", step)
    assert chaos(tmp_path, "--share", "2/2", "--minutes", "1", "--as-many") == 1
    told = capsys.readouterr().out
    assert re.findall(r"--only-steps (\S+)$", told, re.M) == [",".join(map(str, range(21, 31)))]


def test_reports_of_shares_are_added_up(nothing, tmp_path, capsys):
    for number in (1, 2, 3):
        assert chaos(tmp_path, "--share", f"{number}/3") == 0
    assert chaos(tmp_path, "--share", "1/3", "--stock") == 0
    capsys.readouterr()
    assert chaos(tmp_path, "--add-up", *map(str, (tmp_path / "reports").iterdir())) == 0
    ours, stock = capsys.readouterr().out.split("Without nova-devcompat:\n")
    assert ours.startswith("With nova-devcompat:\n")
    assert ours.endswith("\n400 of 400 operations\n\n")
    whole = Report()
    for step in plan.draw(operations=400, seed=7, slots=10, at_once=10):
        Nothing.step(mock.Mock(report=whole, seconds=0), step)
    table = "\n".join(whole.lines())
    assert table in ours
    (steps,) = re.findall(r"^all +(\d+) +1200\.0 +30\.0 +30\.0$", ours, re.M)
    assert int(steps) == 40
    assert stock.endswith("\n130 of 130 operations\n\n")
    with pytest.raises(CloudError, match=r"none\.json is no report"):
        chaos(tmp_path, "--add-up", str(tmp_path / "none.json"))


def test_a_report_of_another_version_is_none(tmp_path):
    write(tmp_path / "old.json", '{"operations": {}, "faults": {}, "findings": []}')
    assert Report.load(tmp_path / "old.json") is None


def test_whose_request_placement_has_cut_off(tmp_path):
    """That of the guest that the request is about, whichever service sent it."""
    one, other = "452282bf-5ac6-450d-8896-e9cabe9f0780", "6b90e09d-1cbf-4a87-93be-a33ea39b772b"
    cut, whole = f"req-{one[:-1]}a", f"req-{one[:-1]}b"
    access = Access(Cloud(tmp_path))
    early = f"WARNING [None {cut} user] Placement API service is not responding.: reset\n"
    begun = f"DEBUG [None {cut} user] Starting to schedule for instances: ['{one}']\n"
    write(tmp_path / "log/nova-scheduler.log", early + begun)
    access.mark_logs()
    assert not access.cut_off(one)
    with open(tmp_path / "log/nova-scheduler.log", "a") as log:
        log.write(begun + f"DEBUG [None {whole} user] Starting for instances: ['{other}']\n")
    assert not access.cut_off(one)
    write(tmp_path / "log/nova-conductor.log", early)
    assert access.cut_off(one)
    assert not access.cut_off(other)


#: What nova-compute says of a claim that fails for what placement answers, on its own.
RESHAPE = "ERROR nova.compute.manager nova.exception.ReshapeFailed: Resource provider inventory\n"
DELETE = "ERROR nova.compute.manager nova.exception.AllocationDeleteFailed: Failed to delete\n"
LOST = "WARNING nova.scheduler.client.report Placement API service is not responding.: reset\n"


def of_run(folder: pathlib.Path) -> tuple[Access, run.Run]:
    """A run on a cloud that is nothing but its logs: one of each service, from before."""
    access = Access(Cloud(folder))
    for service, line in (("nova-compute-cmp1", RESHAPE), ("nova-scheduler", LOST)):
        write(folder / f"log/{service}.log", line)
    access.mark_logs()
    versions = dict.fromkeys(access.cells, MIDDLE)
    return access, run.Run(access, slots=1, versions=versions, say=lambda line: None)


def says(folder: pathlib.Path, service: str, line: str) -> None:
    with open(folder / f"log/{service}.log", "a") as log:
        log.write(line)


@pytest.mark.parametrize(
    ("service", "line", "ours"),
    [
        ("nova-compute-cmp1", RESHAPE, False),
        ("nova-compute-cmp1", DELETE, False),
        ("nova-scheduler", LOST, False),
        # Others than those that refuse can say it.
        ("nova-conductor", RESHAPE, True),
        ("nova-compute-cmp1", "DEBUG nova.compute.manager Starting instance...\n", True),
    ],
)
def test_a_refusal_is_ours_unless_nova_failed_by_itself(tmp_path, service, line, ours):
    """An unshelve that fails on its host leaves its guest as one that found no host."""
    _, going = of_run(tmp_path)
    shelved = Server(status=checks.OFFLOADED, task="", host="")
    one = begun("unshelve", before=shelved, outcome="refused")
    (finding,) = going._wrongly_refused(one, [one], GOOD)
    assert (finding.kind, finding.guest) == ("refusal", "guest")
    says(tmp_path, service, line)
    assert len(going._wrongly_refused(one, [one], GOOD)) == ours


def test_a_device_too_many_after_a_failed_claim_is_novas(tmp_path):
    """That of the first host stays in the guest's list when it is sent on to a second."""
    _, going = of_run(tmp_path)
    (step, *_) = plan.draw(operations=1, seed=1, slots=1)
    twice = Running(host="cmp1", states=[FIRMWARE, FIRMWARE, VGPU])
    lost = checks.check(but(running={**GOOD.running, "guest": twice}), GUESTS, HOSTS, stock=True)
    assert [one.kind for one in lost] == ["lost"]

    def violations() -> list[bool]:
        going._tell(step, "none", [], lost, 0.0)
        return [one.violation for one in going.report.findings]

    assert violations() == [True]
    says(tmp_path, "nova-compute-cmp1", RESHAPE)
    assert violations() == [True, False]


def test_a_program_whose_sleep_is_another(tmp_path):
    """It is run as it would be by itself, and sleeps for as long."""
    program = tmp_path / "program"
    program.write_text(
        "import sys, time\n"
        "began = time.monotonic()\n"
        "for seconds in (0, 0.1, 0.05):\n"
        "    time.sleep(seconds)\n"
        "print(__name__, sys.argv[1:], time.sleep.__module__, time.monotonic() - began >= 0.15)\n"
    )
    command = [sys.executable, late.__file__, str(program), "--option"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "__main__ ['--option'] __main__ True\n", done.stderr


def test_the_model_is_independent():
    """What is checked has no part in it."""
    for path in pathlib.Path(rigs.chaos.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not [name for name in names if name.startswith("nova_devcompat")]
