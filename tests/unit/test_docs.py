# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the documentation shows is what the code does.

To write the documented outputs anew after a change that is meant to alter them, run this module:
``python -m tests.unit.test_docs``. Then read the difference.
"""

from __future__ import annotations

import ast
import configparser
import contextlib
import csv
import io
import os
import pathlib
import re
import shlex
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import yaml

from nova_devcompat.catalog import stages
from nova_devcompat.cli.main import main
from nova_devcompat.compat import kinds, rules
from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.policy import Mode, Policy
from nova_devcompat.compat.verdict import Actor, Code, Outcome, Reason
from nova_devcompat.kit.plugins import RULES, SOURCES
from nova_devcompat.service import load_catalog
from nova_devcompat.sources import SourceOptions, load_source
from tests.unit import distributions

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ROOT / "doc" / "source"
EXAMPLES = PAGES / "_examples"
SAMPLES = ROOT / "etc" / "nova-devcompat"

# Documented commands by the file that the page shows for them, and their exit status.
COMMANDS = {
    "matrix.txt": (
        "nova-devcompat matrix --catalog devcompat.yaml --inventory devcompat-inventory.yaml"
        " -c source_host -c source_address -c family -c destination_host -c verdict",
        0,
    ),
    "matrix-reasons.txt": (
        "nova-devcompat matrix --catalog devcompat.yaml --inventory devcompat-inventory.yaml"
        " --from cmp3 --to cmp2 -f json",
        0,
    ),
    "validate.txt": ("nova-devcompat catalog validate devcompat.yaml site.yaml", 0),
    "validate-wrong.txt": ("nova-devcompat catalog validate wrong.yaml", 2),
    "validate-stages.txt": (
        "nova-devcompat catalog validate stages.yaml --as-of 2027-03-01 --activating-within 365",
        0,
    ),
    "matrix-wrong.txt": (
        "nova-devcompat matrix --catalog devcompat.yaml --inventory wrong-inventory.yaml",
        2,
    ),
}

KINDS = {
    rule.kind: rule
    for rule in (
        kinds.Accepts,
        kinds.AtLeast,
        kinds.Equal,
        kinds.Floor,
        kinds.OneOf,
        kinds.Ordered,
        kinds.Origin,
        kinds.Range,
        kinds.Same,
        kinds.Semver,
        kinds.Superset,
        kinds.Undecided,
    )
}


# --- the samples and the commands ---------------------------------------------------------------


@contextlib.contextmanager
def in_folder_of_examples(folder: pathlib.Path) -> Iterator[None]:
    """All sample and example files in one folder, as the pages name them, and we are there."""
    for path in (*SAMPLES.glob("*.yaml"), *EXAMPLES.glob("*.yaml")):
        shutil.copy(path, folder)
    before = pathlib.Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(command: str) -> tuple[str, int]:
    """What a command line prints on both streams, and its exit status."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = main(shlex.split(command)[1:])
    return output.getvalue(), status


@pytest.mark.parametrize("name", COMMANDS)
def test_command_prints_what_the_page_shows(name, tmp_path, monkeypatch):
    monkeypatch.delenv("CLIFF_MAX_TERM_WIDTH", raising=False)
    monkeypatch.delenv("CLIFF_FIT_WIDTH", raising=False)
    command, expected = COMMANDS[name]
    with in_folder_of_examples(tmp_path):
        output, status = run(command)
    assert status == expected
    assert output == (EXAMPLES / name).read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_on_a_page(name):
    pages = [path.read_text() for path in PAGES.glob("*.rst")]
    (page,) = (text for text in pages if f"_examples/{name}" in text)
    command = re.sub(r"\s+", " ", COMMANDS[name][0])
    assert command in re.sub(r"\s*\\?\n\s*", " ", page)


def test_every_example_is_on_a_page():
    text = "".join(path.read_text() for path in PAGES.glob("*.rst"))
    files = [path for path in EXAMPLES.rglob("*.*") if "__pycache__" not in path.parts]
    assert [path.name for path in files if path.relative_to(PAGES).as_posix() not in text] == []


def test_a_later_file_overrides_the_whole_family():
    catalog = load_catalog([SAMPLES / "devcompat.yaml", EXAMPLES / "site.yaml"])
    assert sorted(catalog.families) == ["acme_accelerator", "acme_crypto_vf", "acme_nic_vf"]
    assert sorted(catalog.families["acme_nic_vf"].family.rules) == ["fw_version"]
    assert catalog.policy("acme_nic_vf", Policy(), stages.now()).mode is Mode.REPORT


# --- the tables of rules.rst --------------------------------------------------------------------


def table(name: str) -> list[dict[str, str]]:
    with (EXAMPLES / name).open() as file:
        return list(csv.DictReader(file))


def literals(cell: str) -> list[str]:
    return re.findall("``(.+?)``", cell)


def rule_of(cell: str) -> rules.Rule[Any, Any]:
    stated = yaml.safe_load(literals(cell)[0])
    options = {"kind": stated} if isinstance(stated, str) else dict(stated)
    return KINDS[options.pop("kind")].from_options(options)


@pytest.mark.parametrize("row", table("kinds.csv"), ids=lambda row: row["Offer"])
def test_kinds(row):
    rule = rule_of(row["Rule"])
    offer = rule.parse_offer(yaml.safe_load(literals(row["Offer"])[0]))
    if row["Need"] == "not known":
        with pytest.raises(rules.UseNotKnown):
            rule.freeze(offer)
    else:
        assert rule.freeze(offer) == set(literals(row["Need"]))
    refused = literals(row["Does not accept"])
    for text in literals(row["Need"]) + literals(row["Accepts too"]):
        if text == "unmet" and text in refused:
            continue  # the one need that a device does not meet itself
        assert rule.check(offer, rule.parse_need(text)) is None
    for case in row["Does not accept"].split(";"):
        if not case.strip():
            continue  # of an origin: there is nothing that it does not accept
        text, code = literals(case)
        refusal = rule.check(offer, rule.parse_need(text))
        assert refusal and refusal.code == code


def test_every_kind_is_shown():
    shown = {rule_of(row["Rule"]).kind for row in table("kinds.csv")}
    assert shown == KINDS.keys()
    text = (PAGES / "rules.rst").read_text()
    assert [kind for kind in KINDS if f"\n{kind}\n" not in text] == []


@pytest.mark.parametrize("row", table("versions.csv"), ids=lambda row: row["Text"])
def test_versions(row):
    rule = rule_of(row["Rule"])
    (text,) = literals(row["Text"])
    why = row["Read as"].removeprefix("UNKNOWN: ")
    if why == row["Read as"]:
        assert rule.freeze(rule.parse_offer(text)) == set(literals(why))
    else:
        with pytest.raises(Unreadable) as error:
            rule.parse_offer(text)
        assert error.value.why.startswith(why)


def test_every_code_is_documented():
    documented = [literals(row["Code"])[0] for row in table("codes.csv")]
    codes = [value for name, value in vars(Code).items() if name.isupper()]
    assert sorted(documented) == sorted(codes)


@pytest.mark.parametrize("row", table("codes.csv"), ids=lambda row: row["Code"])
def test_codes_mean_what_reasons_say(row):
    (code,) = literals(row["Code"])
    assert f": {row['Meaning']} [" in str(Reason(code=code, actor=Actor.HOST))


# --- plugins ------------------------------------------------------------------------------------


@pytest.fixture
def example_plugin(monkeypatch, tmp_path):
    """The documented distribution, as if it were installed."""
    folder = EXAMPLES / "plugin"
    points = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"]
    module = "nova_devcompat_example"
    for number, group in enumerate((RULES, SOURCES)):
        distributions.install(
            monkeypatch,
            tmp_path / str(number),
            f"{module}-{number}",
            group,
            points[group],
            {module: (folder / f"{module}.py").read_text()},
        )
    yield tmp_path
    sys.modules.pop(module, None)


def test_plugins(example_plugin):
    catalog = load_catalog([EXAMPLES / "plugin" / "catalog.yaml"])
    source = load_source("nvidia_sysfs", SourceOptions())
    assert source.name == "nvidia_sysfs"

    def device(version):
        source.sysfs = example_plugin / version
        folder = source.sysfs / "bus/pci/drivers/nvidia/0000:41:00.0"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text("0x10de\n")
        module = source.sysfs / "module/nvidia"
        module.mkdir(parents=True)
        (module / "version").write_text(f"{version}\n")
        (found,) = source.read("cmp1")
        return found

    older, newer, other = map(device, ("570.86.15", "570.133.20", "580.65.06"))
    assert older.address == "0000:41:00.0"
    family = catalog.classify(older)
    assert family.name == "nvidia_gpu"
    need = family.family.offer(older.attributes).freeze()
    assert family.family.offer(newer.attributes).judge(need).outcome is Outcome.ACCEPT
    verdict = family.family.offer(other.attributes).judge(need)
    assert verdict.outcome is Outcome.REJECT
    assert "needs 570, offered branch 580" in str(verdict)
    assert "branch-differs" in str(verdict)


def test_a_plugins_promises(example_plugin):
    catalog = load_catalog([EXAMPLES / "plugin" / "catalog.yaml"])
    rule = catalog.families["nvidia_gpu"].family.rules["driver_version"]
    offer = rule.parse_offer("570.86.15")
    for value in rule.freeze(offer) | rule.values(offer):
        assert rule.canonical(value) == value
        assert rule.check(offer, rule.parse_need(value)) is None


# --- log messages -------------------------------------------------------------------------------

_LEVELS = {"warning": "WARNING", "error": "ERROR", "exception": "ERROR", "critical": "CRITICAL"}
_PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[sdr]")


def logged(levels: Sequence[str]) -> dict[str, str]:
    """Templates of log messages with what follows LOG., commands of the operator aside."""
    found = {}
    for path in sorted((ROOT / "nova_devcompat").rglob("*.py")):
        if path.parent.name in ("cli", "fleet"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="LOG"), attr=level),
                    args=[ast.Constant(value=str(template)), *_],
                ) if level in levels:
                    found[template] = level
    return found


def pattern_of(template: str) -> re.Pattern[str]:
    words = " ".join(template.split())  # as documented_messages() has them
    return re.compile(".+".join(map(re.escape, _PLACEHOLDER.split(words))))


def documented_messages() -> list[str]:
    """The blocks of messages.rst that show a log line, joined where the page wraps them."""
    page = (PAGES / "messages.rst").read_text()
    blocks = re.findall(r"code-block:: none\n\n((?:   .*\n)+)", page)
    return [" ".join(block.split()) for block in blocks]


def test_every_warning_and_error_is_documented():
    shown = documented_messages()
    missing = [
        template
        for template, level in logged(list(_LEVELS)).items()
        if not any(
            text.startswith(_LEVELS[level]) and pattern_of(template).search(text) for text in shown
        )
    ]
    assert missing == [], "show these log lines in doc/source/messages.rst"


def test_every_documented_message_exists():
    patterns = [
        pattern_of(template)
        for template in logged([*_LEVELS, "info", "debug"])
        if len(_PLACEHOLDER.sub("", template)) > 10  # "%s: %s" would match anything
    ]
    unknown = [
        text
        for text in documented_messages()
        if not any(pattern.search(text) for pattern in patterns)
    ]
    assert unknown == []


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch, in_folder_of_examples(pathlib.Path(scratch)):
        for target, (line, _) in COMMANDS.items():
            (EXAMPLES / target).write_text(run(line)[0])


# --- faults --------------------------------------------------------------------------------------


def _tests_of(path: pathlib.Path) -> set[str]:
    """Names of the tests of a file as pytest has them, with those of base classes."""
    classes: dict[str, ast.ClassDef] = {}
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            classes[node.name] = node
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            names.add(node.name)

    def methods(name: str) -> set[str]:
        node = classes.get(name)
        if node is None:
            return set()
        own = {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
        return own.union(*(methods(base.id) for base in node.bases if isinstance(base, ast.Name)))

    for name in classes:
        names |= {f"{name}::{method}" for method in methods(name) if method.startswith("test")}
    return names


def _fault_rows() -> list[str]:
    tables = (PAGES / "faults.rst").read_text().split("   * - Fault\n")[1:]
    return [row for table in tables for row in table.split("\n   * - ")[1:]]


def test_each_fault_names_tests_that_are_there() -> None:
    rows = _fault_rows()
    assert len(rows) > 20
    for row in rows:
        cells = row.split("\n     - ")
        assert len(cells) == 5, row
        named = re.findall(r"``(tests/[\w/]+\.py)::([\w:]+)``", cells[4])
        assert named and cells[4].count("``") == 2 * len(named), row
        for file, test in named:
            assert test in _tests_of(ROOT / file), f"{file} has no {test}"


def test_each_fault_names_lines_that_are_said() -> None:
    """What one sees is a reason's code, or is on the page of messages."""
    messages = " ".join((PAGES / "messages.rst").read_text().split())
    codes = {value for name, value in vars(Code).items() if name.isupper()}
    for row in _fault_rows():
        for text in re.findall(r"``([^`]+)``", row.split("\n     - ")[2]):
            known = text in codes or all(
                part.strip() in messages for part in text.split("...") if part.strip()
            )
            assert known or text.startswith(("devcompat_", "need ", "device ", "upgrade ")), text


# --- security ------------------------------------------------------------------------------------


def test_each_command_says_what_it_needs_and_writes() -> None:
    page = (PAGES / "security.rst").read_text()
    table = page.partition("     - Needs\n")[2].partition("\nServices need")[0]
    first = " ".join(row.partition("\n     - ")[0] for row in table.split("   * - "))
    told = {
        " ".join(word for word in name.split() if not word.startswith("--"))
        for name in re.findall(r"``([a-z -]+)``", " ".join(first.split()))
    }
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options.entry_points"]["nova_devcompat.cli"].split("\n")
    commands = {line.partition("=")[0].strip().replace("_", " ") for line in listed if line}
    assert told == commands
