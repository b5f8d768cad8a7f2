# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What .zuul.yaml names exists: Zuul would say so only after a change of it has been proposed."""

from __future__ import annotations

import configparser
import itertools
import re
from typing import Any

import pytest
import yaml

from rigs import nightly
from rigs.chaos import command as chaos
from tests.devstack.conftest import ROOT

# What we take from elsewhere, as of August 2026, by the repository that defines it.
ELSEWHERE = {
    "base": "opendev/base-jobs",
    "openstack-tox": "openstack/openstack-zuul-jobs",
    "openstack-tox-docs": "openstack/openstack-zuul-jobs",
    "openstack-tox-py312": "openstack/openstack-zuul-jobs",
    "devstack-tempest": "openstack/tempest",
    "tempest-multinode-full-py3": "openstack/tempest",
}
TEMPLATES = {"openstack-python3-jobs": "openstack/openstack-zuul-jobs"}
NODESETS = {"debian-bookworm": "opendev/base-jobs", "ubuntu-noble": "opendev/base-jobs"}
# Environments that tox makes from [testenv] without a section of their own.
PYTHONS = re.compile(r"py3\d*")


def objects(kind: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((ROOT / ".zuul.yaml").read_text())
    assert all(len(item) == 1 for item in document)
    return [item[kind] for item in document if kind in item]


def expand(text: str) -> list[str]:
    """The names that tox makes of ``{py3,functional}-{2025.1,2025.2}``."""
    parts = re.split(r"\{([^}]*)\}", text)
    choices = [
        [choice.strip() for choice in part.split(",")] if number % 2 else [part]
        for number, part in enumerate(parts)
    ]
    return ["".join(names) for names in itertools.product(*choices)]


def tox_environments() -> set[str]:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    texts = [name.partition(":")[2] for name in tox.sections() if name.startswith("testenv:")]
    # A comma within braces does not separate environments.
    texts += re.split(r"[\s,]+(?![^{]*\})", tox["tox"]["envlist"].strip())
    return {name for text in texts for name in expand(text)}


JOBS = {job["name"]: job for job in objects("job")}


def environments() -> list[str]:
    return [
        name
        for job in JOBS.values()
        # "all" is an environment of tempest's.
        for name in job.get("vars", {}).get("tox_envlist", "").split(",")
        if name not in ("", "all")
    ]


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_job(job):
    assert job["parent"] in JOBS | ELSEWHERE
    assert job.get("nodeset", "ubuntu-noble") in NODESETS
    for stage in ("pre-run", "run", "post-run"):
        if stage in job:
            plays = yaml.safe_load((ROOT / job[stage]).read_text())
            assert [play["hosts"] for play in plays] == ["all"]
    for pattern in job.get("irrelevant-files", ()):
        re.compile(pattern)


def test_no_job_is_defined_twice():
    assert len(JOBS) == len(objects("job"))


def test_every_job_is_run():
    (project,) = objects("project")

    used = {name for stage in ("check", "gate", "periodic") for name in project[stage]["jobs"]}

    assert used <= JOBS.keys() | ELSEWHERE.keys()
    concrete = {name for name, job in JOBS.items() if not job.get("abstract")}
    assert concrete <= used
    assert set(project["templates"]) <= TEMPLATES.keys()


@pytest.mark.parametrize("name", environments())
def test_tox_environment(name):
    assert name in tox_environments() or PYTHONS.fullmatch(name)


@pytest.mark.parametrize(
    "job", [job for job in JOBS.values() if "tox_constraints_file" in job.get("vars", {})]
)
def test_constraints(job):
    prefix = "{{ ansible_user_dir }}/{{ zuul.project.src_dir }}/"
    path = job["vars"]["tox_constraints_file"].removeprefix(prefix)
    assert (ROOT / path).is_file()


def test_plugin_is_enabled_by_the_name_of_its_folder():
    (url,) = {
        url
        for job in JOBS.values()
        for name, url in job.get("vars", {}).get("devstack_plugins", {}).items()
        if name == "nova-devcompat"
    }
    assert url == "https://opendev.org/openstack/nova-devcompat"


def test_every_part_of_the_night_is_run_once():
    named = [
        part for job in JOBS.values() for part in job.get("vars", {}).get("nightly_parts", ())
    ]
    assert sorted(named) == sorted(part.name for part in nightly.parts())
    (project,) = objects("project")
    assert {job for job in JOBS if job.startswith("nova-devcompat-nightly-")} == set(
        project["periodic"]["jobs"]
    )


@pytest.mark.parametrize(
    "job",
    [
        job
        for job in JOBS.values()
        if any(part.startswith("chaos-") for part in job.get("vars", {}).get("nightly_parts", ()))
    ],
    ids=lambda job: job["name"],
)
def test_random_operations_end_before_their_job(job):
    """With what is done again, and a quarter of an hour for programs, a cloud and its logs."""
    (part,) = job["vars"]["nightly_parts"]
    command = next(one.command for one in nightly.parts() if one.name == part)
    minutes = float(command[command.index("--minutes") + 1])
    seconds = JOBS[job["parent"]]["timeout"]
    assert minutes * 60 * (1 + chaos.BEYOND) + 15 * 60 <= seconds
