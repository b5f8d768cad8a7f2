# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What files change of policies, and how it is told which is in force."""

from __future__ import annotations

import datetime
import itertools
import pathlib

import pytest

from nova_devcompat.catalog import CatalogError, inforce, packs
from nova_devcompat.catalog.stages import Moment
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Mode, OnUnknown, Policy, unlike
from nova_devcompat.compat.ruling import Guest, required_atoms
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Actor, Reason, Verdict
from nova_devcompat.service import load_catalog

NOW = Moment(day=datetime.date(2027, 1, 1), release=34)

OWN = """
meta: {schema_version: '1.0'}
families:
  nic:
    match: {model: nic}
    source: static
    rules: {fw: semver, psid: equal}
  gpu:
    match: {model: gpu}
    source: static
    mode: enforce
    rules: {version: {kind: semver, stages: [{from: '2026-01-01', mode: enforce}]}}
"""


@pytest.fixture
def load(tmp_path):
    """Loads a catalog of texts, a file each, after packs."""
    number = itertools.count()

    def load(*texts, pack=()):
        paths = []
        for text in texts:
            path = tmp_path / f"{next(number)}.yaml"
            path.write_text(text)
            paths.append(path)
        return load_catalog(packs.catalog_paths(pack, paths))

    return load


def policies(text):
    return f"meta: {{schema_version: '1.0'}}\npolicies:\n  {text}\n"


def modes(catalog, default=None):
    found = catalog.policies(default or Policy(), NOW)
    return {name: found(name).mode for name in catalog.families}


def test_a_file_changes_a_policy_and_nothing_else(load):
    before = load(pack=["nvidia_vgpu", "mlx5_vf"])
    after = load(policies("nvidia_vgpu: {mode: report}"), pack=["nvidia_vgpu", "mlx5_vf"])
    assert modes(after) == {"mlx5_vf": Mode.ENFORCE, "nvidia_vgpu": Mode.REPORT}
    assert after.families["mlx5_vf"] == before.families["mlx5_vf"]
    changed, whole = after.families["nvidia_vgpu"], before.families["nvidia_vgpu"]
    assert (changed.family, changed.match, changed.sources) == (
        whole.family,
        whole.match,
        whole.sources,
    )
    assert after.digest != before.digest
    # Without it, it is as before.
    assert load(pack=["nvidia_vgpu", "mlx5_vf"]).digest == before.digest


def test_all_families_and_what_concerns_none(load):
    off = load(OWN, policies("'*': {mode: report, on_unknown: accept}"))
    found = off.policies(Policy(), NOW)
    for policy in (found("nic"), found("gpu"), found.default, off.policy("none", Policy(), NOW)):
        assert (policy.mode, policy.on_unknown) == (Mode.REPORT, OnUnknown.ACCEPT)
    assert off.digest != load(OWN).digest


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        # Of one file a family's own counts more, wherever it stands.
        (["nic: {mode: enforce}\n  '*': {mode: report}"], {"nic": "enforce", "gpu": "report"}),
        # A later file counts more than all before.
        (["nic: {mode: enforce}", "'*': {mode: report}"], {"nic": "report", "gpu": "report"}),
        (["'*': {mode: report}", "nic: {mode: enforce}"], {"nic": "enforce", "gpu": "report"}),
        (["'*': {mode: report}", "'*': {mode: enforce}"], {"nic": "enforce", "gpu": "enforce"}),
    ],
)
def test_order(load, texts, expected):
    assert modes(load(OWN, *map(policies, texts))) == expected
    # Before the families, too: what is stated of a policy is no part of a family.
    assert modes(load(*map(policies, texts), OWN)) == expected


def test_one_attribute(load):
    catalog = load(OWN, policies("nic: {rules: {fw: {mode: report}, psid: {on_unknown: accept}}}"))
    policy = catalog.policy("nic", Policy(), NOW)
    fw, psid, other = (
        Reason(code="x", actor=Actor.HOST, family="nic", attribute=name)
        for name in ("fw", "psid", "")
    )
    assert policy.rule(Verdict.reject(fw)).reported == (fw,)
    assert policy.rule(Verdict.reject(psid)).refused == (psid,)
    assert not policy.rule(Verdict.unknown(psid)).refused
    assert policy.rule(Verdict.unknown(psid, other)).refused
    assert policy.objection(Verdict.unknown(psid)) == 0
    assert policy.objection(Verdict.unknown(other)) == 2
    # Placement is asked only for what both would have refused.
    need = Need(devices=(DeviceNeed.of("nic", {"fw": ["1.2"], "psid": ["x"]}),))
    assert required_atoms(Guest(record=need), catalog.policies(Policy(), NOW)) == frozenset()
    unchanged = load(OWN).policies(Policy(), NOW)
    assert required_atoms(Guest(record=need), unchanged) == {
        Atom("nic", "fw", "1.2"),
        Atom("nic", "psid", "x"),
    }


def test_an_attribute_whose_unknown_counts_in_a_family_that_lets_it_pass(load):
    catalog = load(OWN, policies("nic: {on_unknown: accept, rules: {fw: {on_unknown: reject}}}"))
    policy = catalog.policy("nic", Policy(), NOW)
    fw = Reason(code="x", actor=Actor.HOST, family="nic", attribute="fw")
    psid = Reason(code="x", actor=Actor.HOST, family="nic", attribute="psid")
    assert policy.rule(Verdict.unknown(fw)).refused == (fw,)
    assert not policy.rule(Verdict.unknown(psid)).refused


def test_no_attribute_is_enforced_more_strictly_than_its_family(load):
    catalog = load(OWN, policies("nic: {mode: report, rules: {fw: {mode: enforce}}}"))
    policy = catalog.policy("nic", Policy(), NOW)
    reason = Reason(code="x", actor=Actor.HOST, family="nic", attribute="fw")
    assert policy.rule(Verdict.reject(reason)).reported == (reason,)


def test_a_mode_ends_stages(load):
    staged = OWN.replace("mode: enforce\n", "stages: [{from: '2028-01-01', mode: enforce}]\n", 1)
    assert modes(load(staged))["gpu"] is Mode.ANNOUNCE
    now = load(staged, policies("gpu: {mode: report}"))
    assert modes(now)["gpu"] is Mode.REPORT
    assert not now.coming(NOW, 10_000)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "nics: {mode: report}",
            "policies.nics: no file or pack has the family 'nics'; there are: ",
        ),
        ("nics: {mode: report}", "did you mean 'nic'?"),
        ("nic: {mode: off}", "policies.nic.mode: off is none of: enforce, report"),
        ("nic: {mod: report}", "unknown key 'mod'; allowed: mode, on_unknown, rules; did you mea"),
        ("nic: {}", "policies.nic: is empty"),
        (
            "nic: {rules: {psids: {mode: report}}}",
            "family nic has no rule 'psids'; it has: fw, psid, vf_driver_migrates; d",
        ),
        ("'*': {rules: {fw: {mode: report}}}", "names no rules"),
    ],
)
def test_mistakes_are_told_with_their_place(load, text, told):
    with pytest.raises(CatalogError) as caught:
        load(OWN, policies(text))
    assert told in str(caught.value)
    assert "1.yaml:3" in str(caught.value)


def test_policies_without_their_packs(load):
    """The file is most likely right, and what is asked lacks its packs."""
    with pytest.raises(CatalogError) as caught:
        load(policies("nvidia_vgpu: {mode: report}"))
    assert str(caught.value).endswith(
        "no file or pack has the family 'nvidia_vgpu'; there are none; packs are named with "
        "[devcompat] packs or --pack"
    )


def test_a_catalog_without_a_family_is_told(load, caplog):
    catalog = load(policies("'*': {mode: report}"))
    (line,) = inforce.nothing(catalog)
    inforce.log(catalog, Policy(), NOW)
    assert caplog.messages == [f"Nothing is in force: {line}"]
    assert inforce.nothing(load(OWN)) == []


def test_a_file_has_something(load):
    with pytest.raises(CatalogError) as caught:
        load("meta: {schema_version: '1.0'}\n")
    assert "key 'families' is missing" in str(caught.value)


def test_what_is_in_force(load):
    catalog = load(OWN, policies("'*': {on_unknown: accept}"), pack=["mlx5_vf"])
    lines = dict(line.split(": ", 1) for line in inforce.told(catalog, Policy(), NOW))
    assert set(lines) == {"gpu", "mlx5_vf", "nic"}
    assert lines["mlx5_vf"].startswith(
        "enforce today, on_unknown accept; from pack mlx5_vf; policy changed by "
    )
    assert lines["mlx5_vf"].endswith("1.yaml:3; source devlink")
    assert "0.yaml:4" in lines["nic"]
    # Without a nova.conf, what that decides is not known.
    lines = dict(line.split(": ", 1) for line in inforce.told(catalog, None, NOW))
    assert lines["nic"].startswith("the mode of [devcompat], on_unknown accept; from ")
    assert lines["gpu"].startswith("enforce today, on_unknown accept; from ")
    assert inforce.overriding(catalog) == []


def test_a_family_of_a_pack_that_is_replaced_is_told_with_both_files(load):
    own = OWN.replace("nic:\n", "mlx5_vf:\n")
    catalog = load(own, pack=["mlx5_vf"])
    (line,) = inforce.overriding(catalog)
    assert line.startswith("family mlx5_vf of ")
    assert "0.yaml:4 takes the place of all of mlx5_vf of pack mlx5_vf (" in line
    assert "mlx5_vf.yaml:" in line and "'policies'" in line
    (told,) = (one for one in inforce.told(catalog, None, NOW) if one.startswith("mlx5_vf"))
    assert "in place of pack mlx5_vf" in told
    # One of a file that a later file has too is told, and no warning.
    catalog = load(own, own)
    assert inforce.overriding(catalog) == []
    assert "in place of " in " ".join(inforce.told(catalog, None, NOW))


def test_what_the_documentation_shows():
    examples = pathlib.Path(__file__).parents[3] / "doc" / "source" / "_examples"
    paths = packs.catalog_paths(["nvidia_vgpu", "mlx5_vf"], [examples / "policies.yaml"])
    found = load_catalog(paths).policies(Policy(), NOW)
    assert found.told == {
        "": "enforce reject",
        "mlx5_vf.fw_version": "enforce accept",
        "nvidia_vgpu": "report reject",
    }
    paths[-1] = examples / "off.yaml"
    assert load_catalog(paths).policies(Policy(), NOW).told == {"": "report reject"}


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"": "enforce reject", "gpu": "report reject"}, {}),
        ({"": "enforce reject"}, {"gpu": ("report reject", "enforce reject")}),
        (
            {"": "report reject"},
            {"": ("enforce reject", "report reject")},
        ),
        (
            {"": "enforce reject", "gpu": "report reject", "gpu.fw": "enforce reject"},
            {"gpu.fw": ("report reject", "enforce reject")},
        ),
    ],
)
def test_what_two_processes_make_something_else_of(there, expected):
    assert unlike({"": "enforce reject", "gpu": "report reject"}, there) == expected


def test_services_log_it_whenever_they_read_it(load, tmp_path, caplog):
    caplog.set_level("INFO")
    inforce.log(load(OWN.replace("nic:\n", "mlx5_vf:\n"), pack=["mlx5_vf"]), Policy(), NOW)
    told = [(one.levelname, one.getMessage()) for one in caplog.records]
    assert [level for level, _ in told] == ["INFO", "INFO", "WARNING"]
    assert told[0][1].startswith("In force now: gpu: enforce today, on_unknown reject; from ")
