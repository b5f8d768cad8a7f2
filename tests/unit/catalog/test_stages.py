# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Stages: which holds when, which catalogs are refused, and that all services read them alike."""

import datetime
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat.catalog import Catalog, CatalogFamily, stages
from nova_devcompat.catalog.stages import Moment, Stage, mode_at, parse_stages
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.kinds import Semver, Superset
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.policy import Mode, OnUnknown, Policy, Ruling
from nova_devcompat.compat.ruling import Guest, required_atoms
from nova_devcompat.service import load_catalog
from tests.unit.catalog.test_loader import catalog_of, family, problems_of, write

__all__ = ["write"]

DATES = "[{from: '2027-04-01', mode: report}, {from: '2027-10-01', mode: enforce}]"
RELEASES = "[{from: nova 35, mode: report}, {from: nova 36, mode: enforce}]"


def at(day: str = "2026-11-21", release: int | None = 34) -> Moment:
    return Moment(day=datetime.date.fromisoformat(day), release=release)


# --- which stage holds --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "moment", "mode"),
    [
        (DATES, at("2027-03-31"), Mode.ANNOUNCE),
        (DATES, at("2027-04-01"), Mode.REPORT),
        (DATES, at("2027-09-30", 40), Mode.REPORT),
        (DATES, at("2027-10-01"), Mode.ENFORCE),
        (DATES, at("2031-01-01"), Mode.ENFORCE),
        (RELEASES, at("2031-01-01", 34), Mode.ANNOUNCE),
        (RELEASES, at(release=35), Mode.REPORT),
        (RELEASES, at(release=36), Mode.ENFORCE),
        (RELEASES, at(release=None), Mode.ANNOUNCE),
        ("[{from: '2027-04-01', mode: enforce}]", at("2027-04-01"), Mode.ENFORCE),
    ],
)
def test_a_familys_mode(write, stated, moment, mode):
    catalog = load_catalog([write(catalog_of(family(stages=stated)))])
    for default in (Policy(), Policy(mode=Mode.REPORT)):
        policy = catalog.policy("fam", default, moment)
        assert policy == Policy(mode=mode)
        assert catalog.policies(default, moment)("fam") == policy


RULES = "{fw: {kind: semver, stages: %s}, caps: superset}"


@pytest.mark.parametrize(
    ("keys", "default", "moment", "expected"),
    [
        ({}, Mode.ENFORCE, at(), (Mode.ENFORCE, {"fw": Mode.ANNOUNCE})),
        ({}, Mode.ENFORCE, at("2027-04-01"), (Mode.ENFORCE, {"fw": Mode.REPORT})),
        ({}, Mode.ENFORCE, at("2027-10-01"), (Mode.ENFORCE, {})),
        ({}, Mode.REPORT, at("2027-10-01"), (Mode.REPORT, {})),
        ({"mode": "report"}, Mode.ENFORCE, at(), (Mode.REPORT, {"fw": Mode.ANNOUNCE})),
        (
            {"stages": "[{from: '2027-09-01', mode: enforce}]"},
            Mode.ENFORCE,
            at("2027-09-01"),
            (Mode.ENFORCE, {"fw": Mode.REPORT}),
        ),
        (
            {"stages": "[{from: '2027-11-01', mode: enforce}]"},
            Mode.ENFORCE,
            at("2027-10-01"),
            (Mode.ANNOUNCE, {}),
        ),
    ],
)
def test_an_attributes_mode(write, keys, default, moment, expected):
    catalog = load_catalog([write(catalog_of(family(rules=RULES % DATES, **keys)))])
    policy = catalog.policy("fam", Policy(mode=default), moment)
    assert (policy.mode, dict(policy.attributes)) == expected
    assert policy.mode_of("caps") is policy.mode_of("") is policy.mode


def test_a_family_all_of_whose_rules_wait_waits_itself(write):
    later = "[{from: '2028-01-01', mode: enforce}]"
    rules = f"{{fw: {{kind: semver, stages: {DATES}}}, caps: {{kind: superset, stages: {later}}}}}"
    catalog = load_catalog([write(catalog_of(family(rules=rules)))])
    found = {
        day: catalog.policy("fam", Policy(), at(day))
        for day in ("2027-01-01", "2027-04-01", "2027-10-01", "2028-01-01")
    }
    assert [policy.mode for policy in found.values()] == [
        Mode.ANNOUNCE,
        Mode.REPORT,
        Mode.ENFORCE,
        Mode.ENFORCE,
    ]
    assert found["2027-10-01"].attributes == (("caps", Mode.ANNOUNCE),)


def test_stages_are_part_of_the_digest(write):
    def digest(**keys):
        return load_catalog([write(catalog_of(family(**keys)))]).digest

    rules = "{fw_version: {kind: semver, stages: %s}}"
    assert len({digest(), digest(stages=DATES), digest(stages=RELEASES)}) == 3
    assert len({digest(), digest(rules=rules % DATES), digest(stages=DATES)}) == 3
    assert digest(rules="{fw_version: {kind: semver}}") == digest()


def test_now():
    moment = stages.now()
    assert abs((moment.day - datetime.datetime.now(datetime.UTC).date()).days) <= 1
    assert moment.release is None or moment.release >= 31


@pytest.mark.parametrize(
    ("version", "release"), [("34.0.0", 34), ("35.1.0.dev12", 35), ("unknown", None), (None, None)]
)
def test_the_release_that_runs(monkeypatch, version, release):
    def told(name):
        if version is None:
            raise stages.importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(stages.importlib.metadata, "version", told)
    assert stages._nova_release.__wrapped__() == release


# --- what is listed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "days", "told"),
    [
        (at(), 90, []),
        (at("2027-03-31"), 1, ["announce becomes report on 2027-04-01, in 1 day"]),
        (at("2027-03-31"), 0, []),
        (
            at("2027-01-01"),
            365,
            [
                "announce becomes report on 2027-04-01, in 90 days",
                "report becomes enforce on 2027-10-01, in 273 days",
            ],
        ),
        (at("2027-04-01"), 365, ["report becomes enforce on 2027-10-01, in 183 days"]),
        (at("2027-10-01"), 365, []),
    ],
)
def test_coming(write, moment, days, told):
    catalog = load_catalog([write(catalog_of(family(stages=DATES)))])
    assert [one.line(moment) for one in catalog.coming(moment, days)] == [
        f"fam: {line}" for line in told
    ]


def test_coming_of_releases_and_rules(write):
    rules = f"{{fw: {{kind: semver, stages: {RELEASES}}}, caps: superset}}"
    catalog = load_catalog([write(catalog_of(family(rules=rules, stages=DATES)))])
    found = catalog.coming(at("2027-08-01", 35), 90)
    assert [one.line(at("2027-08-01", 35)) for one in found] == [
        "fam: report becomes enforce on 2027-10-01, in 61 days",
        "fam.fw: report becomes enforce with nova 36",
    ]
    for one in found:
        begin = one.stage.begin(at("2027-08-01", 35))
        assert one.stage.reached(begin)
        assert not one.stage.reached(at("2027-08-01", 35))


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "problem"),
    [
        (
            "[{from: '2027-10-01', mode: report}, {from: '2027-04-01', mode: enforce}]",
            "1.from: '2027-04-01' is before '2027-10-01'; put stages in order",
        ),
        (
            "[{from: '2027-04-01', mode: report}, {from: '2027-04-01', mode: enforce}]",
            "1.from: two stages from '2027-04-01'; leave one out",
        ),
        (
            "[{from: '2027-04-01', mode: enforce}, {from: '2027-10-01', mode: report}]",
            "1.mode: 'report' after 'enforce' goes back; a stage only gets stricter",
        ),
        (
            "[{from: '2027-04-01', mode: report}, {from: '2027-10-01', mode: report}]",
            "1.mode: 'report' again, so the stage changes nothing; leave it out",
        ),
        (
            "[{from: '2027-04-01', mode: report}, {from: nova 35, mode: enforce}]",
            "1.from: 'nova 35' after '2027-04-01': which comes first cannot be told; take dates "
            "alone, or releases alone",
        ),
        (
            "[{from: nova 36, mode: report}, {from: nova 35, mode: enforce}]",
            "1.from: 'nova 35' is before 'nova 36'; put stages in order",
        ),
        ("[{from: '2027-02-30', mode: report}]", "0.from: '2027-02-30' is no date: "),
        *(
            (
                f"[{{from: '{text}', mode: report}}]",
                f"0.from: '{text}' is neither a date such as '2027-04-01' nor a release such as "
                "'nova 35'",
            )
            for text in ("2027.1", "35", "nova 2027.1", "20270401", "2027-04-01T00:00")
        ),
        ("[{from: 2027-04-01, mode: report}]", "0.from: 2027-04-01 was read as the date"),
        ("[{from: 35, mode: report}]", "0.from: 35 was read as the number 35; put it in quotes"),
        ("[{from: '2027-04-01', mode: announce}]", "0.mode: 'announce' is none of: enforce, rep"),
        ("[{from: '2027-04-01'}]", "0: key 'mode' is missing"),
        ("[{from: '2027-04-01', mode: report, to: x}]", "0.to: unknown key 'to'; allowed: from,"),
        ("[]", " is empty"),
        ("[report]", "0: 'report' must be a mapping"),
        ("enforce", " 'enforce' must be a list"),
        ("[{from: [], mode: []}]", "0.from: a list must be text"),
    ],
)
def test_errors(write, stated, problem):
    prefix = "a.yaml:3: families.fam.stages"
    found = problems_of(write(catalog_of(family(stages=stated))))
    assert found[0].startswith(prefix)
    assert found[0].removeprefix(prefix).lstrip(".:").startswith(problem), found
    rules = f"{{fw: {{kind: semver, stages: {stated}}}}}"
    prefix = "b.yaml:3: families.fam.rules.fw.stages"
    found = problems_of(write(catalog_of(family(rules=rules))))
    assert found[0].removeprefix(prefix).lstrip(".:").startswith(problem), found


def test_stages_beside_a_mode(write):
    assert problems_of(write(catalog_of(family(stages=DATES, mode="report")))) == [
        "a.yaml:3: families.fam.stages: 'stages' say what 'mode' is and when; leave 'mode' out"
    ]


# --- for all stages -----------------------------------------------------------------------------


days = st.dates(datetime.date(2027, 1, 1), datetime.date(2027, 12, 31))


@given(st.lists(days, min_size=2, max_size=2, unique=True).map(sorted), days, days)
def test_a_mode_never_gets_weaker(since, one, other):
    stated = tuple(
        Stage(since=day, mode=mode)
        for day, mode in zip(since, (Mode.REPORT, Mode.ENFORCE), strict=True)
    )
    first, later = sorted([one, other])
    before, after = (mode_at(stated, Moment(day=day)) for day in (first, later))
    assert before.strength <= after.strength


any_stages = st.sampled_from(
    [
        (),
        *(
            parse_stages(list(stated))
            for count in (1, 2)
            for stated in itertools.combinations(
                [
                    {"from": "2027-03-01", "mode": "report"},
                    {"from": "2027-06-01", "mode": "report"},
                    {"from": "2027-06-01", "mode": "enforce"},
                    {"from": "2027-09-01", "mode": "enforce"},
                ],
                count,
            )
            if count == 1
            or (
                (stated[0]["mode"], stated[1]["mode"]) == ("report", "enforce")
                and stated[0]["from"] < stated[1]["from"]
            )
        ),
    ]
)
GPU = Family(name="gpu", rules={"version": Semver(), "caps": Superset()})
gpus = st.builds(
    lambda version, caps: GPU.offer({"version": version, "caps": caps}),
    st.sampled_from(["1.0", "1.1", "2.0", None]),
    st.sampled_from([[], ["p2p"], None]),
)


@given(
    any_stages,
    st.fixed_dictionaries({}, optional={"version": any_stages, "caps": any_stages}),
    st.builds(Policy, mode=st.sampled_from(Mode), on_unknown=st.sampled_from(OnUnknown)),
    st.lists(days, min_size=2, max_size=2).map(sorted),
    gpus,
    gpus,
)
def test_time_only_makes_it_stricter(of_family, of_rules, default, when, source, here):
    """And a clock that is behind asks no more of placement than one that is right."""
    family = CatalogFamily(
        family=GPU,
        match={"x": "y"},
        source="static",
        stages=of_family,
        rule_stages={name: each for name, each in of_rules.items() if each},
    )
    catalog = Catalog(families={"gpu": family}, digest="")
    one = source.freeze()
    need = Need(devices=(one,))
    verdict = here.judge(one)
    root = here.accept_set(need.atoms).atoms
    rulings, asked = [], []
    for day in when:
        policy = catalog.policies(default, Moment(day=day))
        rulings.append(Ruling.of([(policy("gpu"), verdict)]))
        asked.append(required_atoms(Guest(record=need), policy))
        # The chain, on one day.
        assert not rulings[-1].accepts or asked[-1] <= root
        for name, mode in policy("gpu").attributes:
            assert mode.strength < policy("gpu").mode.strength, name
    assert rulings[0].accepts or not rulings[1].accepts
    assert set(rulings[0].refused) <= set(rulings[1].refused)
    assert asked[0] <= asked[1]


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "from": st.sampled_from(["2027-01-01", "2027-06-01", "nova 34", "nova 35"]),
                "mode": st.sampled_from(["report", "enforce"]),
            }
        ),
        min_size=1,
        max_size=3,
    )
)
def test_what_is_taken_is_in_order(stated):
    try:
        found = parse_stages(stated)
    except stages.BadStage as error:
        assert 0 < error.index < len(stated)
        return
    assert [stage.when for stage in found] == [one["from"] for one in stated]
    for one, other in itertools.pairwise(found):
        assert one.since < other.since
        assert one.mode.strength < other.mode.strength
