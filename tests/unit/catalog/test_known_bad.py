# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Lists of what is known not to work: how they are read, and what a family makes of them."""

from __future__ import annotations

import itertools
import pathlib

import pytest
import yaml

from nova_devcompat.catalog import CatalogError, packs
from nova_devcompat.compat.verdict import Code, Outcome
from nova_devcompat.service import load_catalog

FAMILIES = {
    "nic": {
        "match": {"model": "nic"},
        "source": "static",
        "rules": {
            "fw": {"kind": "ordered", "ordering": "numeric"},
            "psid": "equal",
            "caps": "superset",
            "abi": "semver",
        },
    },
    "build": {
        "match": {"component": "build"},
        "source": "static",
        "subject": "host",
        "rules": {"package": {"kind": "ordered", "ordering": "rpm_evr"}},
        "needs": [
            {
                "xpath": "/domain/devices/sound",
                "requires": {"package": "6.2.0-1"},
                "because": "it has sound",
                "source": "a test",
            }
        ],
    },
}


def entry(**keys):
    """An entry about firmware that loads nothing that older one has saved."""
    return {
        "name": "nic-2.4-load",
        "family": "nic",
        "need": {"fw": "<2.4"},
        "offer": {"fw": ">=2.4,<2.4.2"},
        "message": "it stops while it loads the state",
        "url": "https://example.org/1",
        **keys,
    }


@pytest.fixture
def load(tmp_path):
    """Loads the families with lists, a file each."""
    number = itertools.count()

    def written(**sections):
        path = tmp_path / f"{next(number)}.yaml"
        content = {"meta": {"schema_version": "1.0"}, **sections}
        path.write_text(yaml.safe_dump(content, sort_keys=False, width=200))
        return path

    def load(*lists, inside=None, families=FAMILIES):
        sections = {"families": families} | ({"known_bad": inside} if inside else {})
        files = [written(**sections)]
        return load_catalog(files, known_bad=[written(known_bad=list(one)) for one in lists])

    return load


FACTS = {"psid": "x", "caps": ["a", "b"], "abi": "1.2"}


def verdict(catalog, guest, host, name="nic"):
    """What the host makes of a guest that was started on what the guest's facts tell."""
    family = catalog.families[name].family
    need = family.offer({**FACTS, **guest}).freeze()
    return family.offer({**FACTS, **host}).judge(need)


def outcome(catalog, guest, host, name="nic"):
    return verdict(catalog, {"fw": guest}, {"fw": host}, name).outcome.value


def test_a_pair_is_refused_one_way_and_accepted_the_other(load):
    catalog = load([entry()])
    assert outcome(catalog, "2.3", "2.4") == outcome(catalog, "2.3.9", "2.4.1") == "reject"
    assert outcome(catalog, "2.3", "2.3.1") == "accept"  # nothing is known of this host
    assert outcome(catalog, "2.3", "2.4.2") == "accept"  # nor of this one
    assert outcome(catalog, "2.4", "2.4.1") == "accept"  # nor of this guest
    # The other way goes by the rule.
    assert outcome(catalog, "2.4", "2.3") == outcome(load(), "2.4", "2.3") == "reject"
    (reason,) = verdict(catalog, {"fw": "2.3"}, {"fw": "2.4"}).reasons
    assert (reason.code, reason.needed) == (Code.KNOWN_BAD, "2.3")
    assert "nic-2.4-load: it stops while it loads the state (https://example.org/1)" in str(reason)
    assert reason.of("cmp1").endswith("; upgrade cmp1]")


def test_bad_to_itself(load):
    """A guest stays where it is: nothing is judged there. An equal host refuses it."""
    catalog = load([entry(need={"fw": "2.4.1"}, offer={"fw": "same"})])
    assert outcome(catalog, "2.4.1", "2.4.1") == "reject"
    assert outcome(catalog, "2.4.1", "2.4.2") == outcome(catalog, "2.4", "2.4") == "accept"
    # What it needs is what it has, all the same.
    family = catalog.families["nic"].family
    need = family.offer({**FACTS, "fw": "2.4.1"}).freeze()
    assert dict(need.values)["fw"] == {"2.4.1"}


@pytest.mark.parametrize(
    ("need", "bad", "fine"),
    [
        ("2.3", ["2.3", "2.3.0"], ["2.3.1", "2.2"]),
        (["2.1", "2.3"], ["2.1", "2.3"], ["2.2"]),
        ("!=2.3", ["2.2", "2.3.1"], ["2.3"]),
        (">=2.1,<2.3", ["2.1", "2.2.9"], ["2.0", "2.3"]),
        ("<= 2.3", ["2.3", "1"], ["2.3.1"]),
        (["<2.1", ">2.2"], ["2.0", "2.3"], ["2.1", "2.2"]),
    ],
)
def test_conditions(load, need, bad, fine):
    catalog = load([entry(need={"fw": need}, offer={"fw": ">=2.4"})])
    assert {outcome(catalog, one, "2.4") for one in bad} == {"reject"}
    assert {outcome(catalog, one, "2.4") for one in fine} == {"accept"}


def test_any_attribute_of_the_host(load):
    """All that is asked must hold; what is not known makes it UNKNOWN."""
    asked = {"fw": ">=2.4", "psid": "x", "kernel": "<6.8", "arch": "s390x"}
    catalog = load([entry(offer=asked)])
    host = {"fw": "2.4", "psid": "x", "kernel": "6.7.1", "arch": "S390X"}
    guest = {"fw": "2.3"}
    assert verdict(catalog, guest, host).outcome is Outcome.REJECT
    for name, value in (("kernel", "6.8"), ("arch", "x86_64"), ("fw", "2.3.9")):
        assert verdict(catalog, guest, {**host, name: value}).outcome is Outcome.ACCEPT
    for name in ("kernel", "arch"):
        unknown = verdict(catalog, guest, {**host, name: None})
        assert unknown.outcome is Outcome.UNKNOWN
        assert unknown.reasons[0].code == Code.KNOWN_BAD
        assert "nic-2.4-load" in unknown.reasons[0].detail
        # One that surely does not hold settles it.
        other = "arch" if name == "kernel" else "kernel"
        settled = {**host, name: None, other: "9.9" if other == "kernel" else "x86_64"}
        assert verdict(catalog, guest, settled).outcome is Outcome.ACCEPT
    assert verdict(catalog, guest, {**host, "kernel": "rolling"}).outcome is Outcome.UNKNOWN


def test_features_and_lists(load):
    catalog = load([entry(need={"caps": "b"}, offer={"fw": "2.4", "caps": "b"})])
    host = {"fw": "2.4"}
    assert verdict(catalog, {"fw": "2.4"}, host).outcome is Outcome.REJECT
    assert verdict(catalog, {"fw": "2.4", "caps": ["a"]}, host).outcome is Outcome.ACCEPT


def test_until(load):
    """It ends on a host that has met it, and holds where that is not known."""
    until = {"offer": {"driver": ">=5"}}
    catalog = load([entry(offer={"fw": ">=2.4"}, until=until)])
    guest = {"fw": "2.3"}
    for driver, expected in (("4.9", "reject"), ("5.0", "accept"), (None, "reject")):
        host = {"fw": "2.4", "driver": driver}
        assert verdict(catalog, guest, host).outcome.value == expected


def test_what_a_guest_was_started_on(load):
    """Of a host family records say what guests ask for, so what they were started on is added."""
    listed = entry(
        name="build-53-54",
        family="build",
        need={"package": "6.2.0-53.el8"},
        offer={"package": "6.2.0-54.el8"},
    )
    catalog = load([listed])
    family = catalog.families["build"]
    assert set(family.family.rules) == {"package", "package_origin"}
    assert family.family.rules["package_origin"].ordering == "rpm_evr"
    assert [use.own for use in family.needs] == ["", "package_origin"]
    assert family.source_of("package_origin").source == "static"
    offer = family.family.offer({"package": "6.2.0-54.el8", "package_origin": "6.2.0-54.el8"})
    for origin, expected in (("6.2.0-53.el8", "reject"), ("6.2.0-52.el8", "accept")):
        need = offer.freeze_used({"package_origin": frozenset([origin])}, slot="host:build")
        assert dict(need.values) == {"package": frozenset(), "package_origin": {origin}}
        assert offer.judge(need).outcome.value == expected
    # It costs no trait.
    assert not {atom for atom in offer.atoms() if atom.attribute == "package_origin"}


def test_an_ordering_of_its_own(load):
    """For what has no rule that says how it is compared: on the host, and of the guest."""
    catalog = load([entry(ordering="debian", offer={"fw": "2.4", "kernel": "<6.8~rc2"})])
    for kernel, expected in (("6.8~rc1", "reject"), ("6.8", "accept")):
        assert verdict(catalog, {"fw": "2.3"}, {"fw": "2.4", "kernel": kernel}).outcome.value == (
            expected
        )
    listed = {**entry(ordering="debian"), "origin": {"driver": "<6.8~rc2"}}
    del listed["need"]
    rules = load([listed]).families["nic"].family.rules
    assert rules["driver_origin"].ordering == "debian"


def test_a_floor_says_only_whether_it_is_met(load):
    """So a guest's record gets what it was started on, and a host is compared by its version."""
    nic = FAMILIES["nic"]
    families = {"nic": {**nic, "rules": {**nic["rules"], "fw": {"kind": "floor", "at": "2.0"}}}}
    catalog = load([entry()], families=families)
    assert "fw_origin" in catalog.families["nic"].family.rules
    for guest, host, expected in (
        ("2.3", "2.4", "reject"),
        ("2.3", "2.4.2", "accept"),
        ("2.4", "2.4", "accept"),
    ):
        found = verdict(
            catalog, {"fw": guest, "fw_origin": guest}, {"fw": host, "fw_origin": host}
        )
        assert found.outcome.value == expected


@pytest.mark.parametrize("key", ["need", "origin"])
def test_attributes_without_a_rule_are_origins(load, key):
    keys = {"need": None, key: {"driver": "<5"}}
    listed = {name: value for name, value in entry(**keys).items() if value}
    catalog = load([listed])
    assert "driver_origin" in catalog.families["nic"].family.rules
    family = catalog.families["nic"].family
    old = {**FACTS, "fw": "2.4", "driver": "4.9", "driver_origin": "4.9"}
    new = {**FACTS, "fw": "2.4", "driver": "5.1", "driver_origin": "5.1"}
    need = family.offer(old).freeze()
    assert family.offer(new).judge(need).outcome is Outcome.REJECT
    assert family.offer(new).judge(family.offer(new).freeze()).outcome is Outcome.ACCEPT


def test_what_rules_hold_too_little_of_is_an_origin_where_that_is_said(load):
    catalog = load([entry(need={"fw": "2.3"}, name="other")])
    listed = {**entry(), "origin": {"abi": "1.2.7"}}
    del listed["need"]
    catalog = load([listed])
    assert "abi_origin" in catalog.families["nic"].family.rules


def test_shipped_and_own_lists(load):
    """In a catalog file, and in files of their own, of which the last counts."""
    inside = load(inside=[entry()])
    assert outcome(inside, "2.3", "2.4") == "reject"
    assert inside.digest == load([entry()]).digest != load().digest
    narrower = load([entry()], [entry(need={"fw": "<2.2"})])
    assert outcome(narrower, "2.3", "2.4") == "accept"
    assert outcome(narrower, "2.1", "2.4") == "reject"
    # What goes wrong, in words, decides nothing.
    assert load([entry(message="other words")]).digest == load([entry()]).digest


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"familiy": "nic"}, "unknown key 'familiy'; allowed: "),
        ({"familiy": "nic"}, "did you mean 'family'?"),
        ({"family": "nics"}, "has the family 'nics'; there are: build, nic; did you mean 'nic'?"),
        ({"family": None}, "known_bad.0.family: nothing is written here; it must be text"),
        ({"name": "With Blanks"}, "'With Blanks' is no name"),
        ({"need": {"fw": "<2.4", "psid": "x"}}, "need: names one attribute of the guest"),
        ({"need": {"fw": "banana"}}, "need.fw: 'banana' cannot be compared: "),
        ({"need": {"fw": 2.4}}, "2.4 was read as the number 2.4; put it in quotes"),
        ({"need": {"fw": "<"}}, "need.fw: '<' has no value; write "),
        ({"need": {"fw": ">2.4,<2.3"}}, "can never be met: >2.4 lies above <2.3"),
        ({"need": {"fw": "2.4,2.3"}}, "'2.4,2.3' can never be met"),
        ({"offer": {"fw": ">=2.4,<2.4"}}, "offer.fw: '>=2.4,<2.4' can never be met"),
        ({"need": {"psid": "<x"}}, "need.psid: '<x': these values have no order"),
        ({"need": {"fw": "same"}}, "'same' is for 'offer'"),
        ({"need": {"abi": "1.2.7"}}, "rule semver holds '1.2' of '1.2.7', so this never matches"),
        ({"need": {"abi": "1.2.7"}}, "write '1.2', or 'origin' in place of 'need'"),
        ({"origin": {"fw": "2"}}, "has just one of 'need', what a guest needs, and 'origin'"),
        ({"offer": {}}, "known_bad.0.offer: is empty"),
        ({"until": {"offer": {"fw": ">=2"}}}, "every host that 'offer' is about has met this"),
        ({"until": {"date": "2027-01-01"}}, "unknown key 'date'; allowed: offer"),
        ({"ordering": "rpm"}, "rpm' is none of: numeric, rpm_evr, debian"),
        ({"need": {"fw": "1" * 256}}, "need.fw: is longer than 255 characters; write a list"),
        ({"need": {"fw": ["2.3", 2.4]}}, "2.4 was read as the number 2.4; put it in quotes"),
        ({"need": {"abi": "7"}}, "need.abi: rule semver can hold no '7': "),
        ({"need": {"Driver-Version": "<5"}}, "need.Driver-Version: 'Driver-Version' is no name"),
        ({"need": {"": "<5"}}, "need.'': '' is no name"),
        ({"offer": {"fw version": "5"}}, "offer.fw version: 'fw version' is no name"),
        ({"until": {"offer": {"FW": "5"}}}, "until.offer.FW: 'FW' is no name"),
    ],
)
def test_mistakes_are_told_with_their_place(load, changes, told):
    with pytest.raises(CatalogError) as caught:
        load([entry(**changes)])
    assert told in str(caught.value)
    assert ".yaml:" in str(caught.value)


def test_a_name_twice_in_a_file(load):
    with pytest.raises(CatalogError) as caught:
        load([entry(), entry()])
    assert "'nic-2.4-load' is also in line 4" in str(caught.value)


def test_a_list_has_nothing_else(tmp_path):
    families = tmp_path / "a.yaml"
    families.write_text(yaml.safe_dump({"meta": {"schema_version": "1.0"}, "families": FAMILIES}))
    with pytest.raises(CatalogError) as caught:
        load_catalog([families], known_bad=[families, tmp_path / "none.yaml"])
    assert "unknown key 'families'; allowed: known_bad, meta" in str(caught.value)
    assert "key 'known_bad' is missing" in str(caught.value)
    assert "[devcompat] known_bad" in str(caught.value)


def test_attributes_that_no_source_tells(tmp_path):
    """Of live families the sources are asked, as for rules."""
    path = tmp_path / "a.yaml"
    listed = entry(family="nvidia_vgpu", need={"driver_version": "<550"}, offer={"ecc_mod": "on"})
    content = {"meta": {"schema_version": "1.0"}, "known_bad": [listed]}
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(CatalogError) as caught:
        load_catalog(packs.catalog_paths(["nvidia_vgpu"]), known_bad=[path])
    (problem,) = caught.value.problems
    assert "known_bad.0.offer.ecc_mod: no source tells 'ecc_mod'; they tell: " in str(problem)
    assert "did you mean 'ecc_mode'?" in str(problem)


def test_pins_are_judged_by_the_rules(load):
    """A guest that starts as its flavor wants comes with nothing that could not be loaded."""
    catalog = load([entry()])
    family = catalog.families["nic"].family
    pin = family.offer({**FACTS, "fw": "2.3"}).freeze()
    accepts = family.offer({**FACTS, "fw": "2.4"}).accept_set(pin.atoms)
    assert accepts.judge(pin).outcome is Outcome.REJECT
    assert accepts.judge_pin(pin).outcome is Outcome.ACCEPT


def test_what_the_documentation_shows():
    root = pathlib.Path(__file__).parents[3]
    catalog = load_catalog(
        [root / "etc" / "nova-devcompat" / "devcompat.yaml"],
        known_bad=[root / "doc" / "source" / "_examples" / "known-bad.yaml"],
    )
    nic = catalog.families["acme_nic_vf"].family

    def facts(fw):
        return {"fw_version": fw, "fw_version_origin": fw, "caps": []}

    recalled = nic.offer(facts("28.39.1002"))
    assert recalled.judge(recalled.freeze()).outcome is Outcome.REJECT
    assert recalled.judge(nic.offer(facts("28.38.900")).freeze()).outcome is Outcome.ACCEPT
    mended = nic.offer(facts("28.39.2048"))
    assert mended.judge(recalled.freeze()).outcome is Outcome.ACCEPT
    gpu = catalog.families["acme_accelerator"].family
    need = gpu.offer({"abi_version": {"min": "7.1", "max": "7.1"}, "ecc_mode": "on"}).freeze()
    for driver, kernel, expected in (
        ("5.0", "6.8.11", Outcome.REJECT),
        ("5.1", "6.8.11", Outcome.ACCEPT),
        ("5.0", "6.8.12", Outcome.ACCEPT),
    ):
        there = {"abi_version": {"min": "7.1", "max": "14.1"}, "ecc_mode": "on"}
        offer = gpu.offer({**there, "driver": driver, "kernel": kernel})
        assert offer.judge(need).outcome is expected
