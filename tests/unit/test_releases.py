# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What names the supported releases of OpenStack says the same as rigs/releases.py."""

from __future__ import annotations

import configparser
import pathlib
import re

import pytest

from nova_devcompat.fleet import upgrade
from rigs import driver_signatures, releases

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = [release.name for release in releases.RELEASES]
OLDEST, NEWEST = releases.RELEASES[0], releases.RELEASES[-1]
EVENTLET = ",".join(release.name for release in releases.RELEASES if not release.native)


def lines_of(path: str) -> list[str]:
    return (ROOT / path).read_text().splitlines()


def pins(path: str) -> dict[str, str]:
    return dict(line.split("==") for line in lines_of(path) if not line.startswith("#"))


# --- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("release", releases.RELEASES, ids=NAMES)
def test_a_release_is_found_by_name_and_by_nova(release):
    assert releases.find(release.name) is releases.find(release.series) is release


@pytest.mark.parametrize("text", ["2024.2", "3", "34.0.0", ""])
def test_another_release_is_not_found(text):
    with pytest.raises(releases.UnknownRelease) as error:
        releases.find(text)
    assert repr(text) in str(error.value)
    assert all(f"{one.name} (Nova {one.series})" in str(error.value) for one in releases.RELEASES)


# --- what must agree with it ---------------------------------------------------------------------


def test_each_release_has_constraints_and_nothing_else_has():
    files = sorted(path.name for path in (ROOT / "constraints").glob("20*.txt"))
    assert files == [f"{name}.txt" for name in NAMES]


def test_the_cloud_runs_the_newest():
    pinned = pins(f"constraints/cloud-{NEWEST.name}.txt")
    assert (pinned["nova"], pinned["openstack-placement"]) == (NEWEST.nova, NEWEST.placement)


@pytest.mark.parametrize("release", releases.RELEASES, ids=NAMES)
def test_constraints_have_the_versions(release):
    pinned = pins(release.constraints)
    assert (pinned["nova"], pinned["openstack-placement"]) == (release.nova, release.placement)
    # Nova's functional fixtures turn a deprecation of 2.1 into an error.
    assert pinned["SQLAlchemy"].startswith("2.0.")


def test_the_recorded_signatures_are_theirs():
    recorded = {series: one["version"] for series, one in driver_signatures.recorded().items()}
    assert recorded == {release.series: release.nova for release in releases.RELEASES}


def test_the_upgrade_check_supports_them():
    assert list(upgrade.SUPPORTED_NOVA) == [int(release.series) for release in releases.RELEASES]


def test_tox_has_them():
    # tox itself is not needed to run the tests, so its file is read as text.
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    constraints = "-c {env:TOX_CONSTRAINTS_FILE:{toxinidir}/constraints/%s.txt}"
    dependencies = tox["testenv"]["deps"].splitlines()
    for name in NAMES:
        assert f"{name}: {constraints % name}" in dependencies
    others = "-".join(f"!{name}" for name in NAMES)
    assert f"{others}: {constraints % releases.DEFAULT}" in dependencies
    assert f"testenv:py3-{{{','.join(NAMES)}}}" in tox.sections()
    functional = tox[f"testenv:functional{{,{','.join(f'-{name}' for name in NAMES)}}}"]
    assert f"{EVENTLET}: OS_NOVA_DISABLE_EVENTLET_PATCHING = false" in functional["setenv"]


def test_the_documentation_has_them():
    page = (ROOT / "doc/source/support.rst").read_text()
    rows = re.findall(r"   \* - (\d{4}\.\d)\n     - (\S+)\n     - (\S+)\n     - (\w+)", page)
    assert rows == [
        (one.name, one.nova, one.placement, "native" if one.native else "eventlet")
        for one in releases.RELEASES
    ]


@pytest.mark.parametrize(
    "path", ["README.rst", "doc/source/support.rst", "doc/source/installation.rst"]
)
def test_the_span_is_told(path):
    span = f"{OLDEST.series} ({OLDEST.name}) to {NEWEST.series} ({NEWEST.name})"
    assert span in (ROOT / path).read_text()
