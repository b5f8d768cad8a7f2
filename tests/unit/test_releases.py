# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What names the supported releases of OpenStack says the same as tools/lib/releases.py."""

from __future__ import annotations

import configparser
import importlib
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest

from nova_devcompat.fleet import upgrade
from tools.lib import driver_signatures, releases

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


# --- tools/test.sh -------------------------------------------------------------------------------


@pytest.fixture
def tools(monkeypatch):
    """Imports modules of tools/lib as the scripts there do."""
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "lib"))
    yield importlib.import_module
    for name in ("run_tests", "interrupts", "venvs", "releases", "junit"):
        sys.modules.pop(name, None)


def test_environments_of_releases_are_apart(tools, tmp_path, monkeypatch):
    monkeypatch.setenv("NOVA_DEVCOMPAT_VENVS", str(tmp_path))
    environment = tools("venvs").environment
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert environment("test") == environment("test", NEWEST.series)
    assert environment("test").path == tmp_path / f"test-{version}"
    older = environment("test", OLDEST.series)
    assert older.path == tmp_path / f"test-{OLDEST.name}-{version}"
    assert older.constraints == OLDEST.constraints


def functional_suites(tools: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    run_tests = tools("run_tests")
    monkeypatch.setattr(run_tests, "WORKERS", 2)
    parsed = run_tests.parse(["--functional", *arguments])
    (group,) = run_tests.choose(parsed, pathlib.Path())
    return [(suite.name, suite.arguments, suite.shared) for suite in group]


@pytest.mark.parametrize("release", releases.RELEASES, ids=NAMES)
def test_all_functional_tests_run_once_at_least(release, tools, monkeypatch):
    suites = functional_suites(tools, monkeypatch, "--nova", release.name)
    if release.native:
        assert suites == [("native", (), True), ("eventlet", ("-m", "threads"), False)]
    else:
        assert suites == [
            ("eventlet-1", ("--share=1/2",), False),
            ("eventlet-2", ("--share=2/2",), False),
        ]


def test_a_selection_runs_in_one_process(tools, monkeypatch):
    suites = functional_suites(tools, monkeypatch, "--nova", OLDEST.name, "--", "-x")
    assert suites == [("eventlet", (), False)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--nova", "2024.2"], f"there are {OLDEST.name} (Nova {OLDEST.series}), "),
        (["--nova", OLDEST.name, "--native"], f"Nova {OLDEST.series} know eventlet only"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments, told):
    command = [sys.executable, ROOT / "tools" / "lib" / "run_tests.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert told in done.stderr
