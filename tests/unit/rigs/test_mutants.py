# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What tools/mutants.sh says of survivors, and which of its mutants it runs again."""

from __future__ import annotations

import ast
import pathlib

import pytest

from rigs.mutants import __main__ as mutants
from rigs.mutants import explained
from rigs.mutants.folder import COMPAT, Folder, Outcome, modules

ROOT = pathlib.Path(__file__).resolve().parents[3]


def outcome(status: str, module: str = "ruling") -> Outcome:
    name = f"nova_devcompat.compat.{module}.x_rule__mutmut_1"
    return Outcome(name=name, module=module, status=status)


# --- the reasons --------------------------------------------------------------------------------


def flat(text: str) -> str:
    return " ".join(text.split())


def test_what_is_explained_is_in_the_code():
    """A line that has changed since may need a test, or another reason."""
    sources = {
        name: (ROOT / COMPAT / f"{name.replace('.', '/')}.py").read_text() for name in modules()
    }
    for key in (key for reason in explained.load() for key in reason.survivors):
        function, _, change = key.partition(": ")
        removed, arrow, _ = change.partition(" => ")
        assert arrow, key
        (module,) = (name for name in sources if function.startswith(f"{name}."))
        assert f"def {function.rpartition('.')[2]}(" in sources[module], key
        assert removed in flat(sources[module]), key


def test_a_key_says_what_is_changed_and_not_where():
    key = explained.key_of("ruling.rule", ["    return a(", "        b)"], ["    return a()"])
    assert key == "ruling.rule: return a( b) => return a()"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[[reason", "Expected"),
        ('[[reason]]\nwhy = "x"', "survivors"),
        ('[[reason]]\nwhy = ""\nsurvivors = ["a"]', "without words"),
        ('[[reason]]\nwhy = "x"\nsurvivors = []', "without words or survivors"),
        ('[[reason]]\nwhy = "x"\nsurvivors = ["a", "a"]', "twice: a"),
    ],
)
def test_a_broken_list_is_an_error(tmp_path, text, error):
    path = tmp_path / "explained.toml"
    path.write_text(text)
    with pytest.raises(explained.ExplainedError, match=error):
        explained.load(path)


def test_survivors_are_held_against_the_reasons():
    reasons = [explained.Reason(why="x", survivors=("a.f: 1 => 2", "a.f: 3 => 4", "b.f: 5 => 6"))]
    compared = explained.compare(["a.f: 1 => 2", "a.g: 7 => 8"], reasons, ["a"])
    assert compared == explained.Comparison(
        unexplained=["a.g: 7 => 8"], explained=1, outdated=["a.f: 3 => 4"]
    )


# --- the summary --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "unexplained", "outdated", "expected"),
    [
        (["killed"] * 19 + ["timeout", "survived"], [], [], "OK"),
        (["killed"], ["a"], [], "FAILED: there are survivors that nothing explains"),
        (["killed"], [], ["a"], "FAILED: what is explained is not as it is"),
        (["killed", "not checked"], [], [], "FAILED: not all mutants were run"),
        (["killed", "survived"], [], [], f"FAILED: fewer than {mutants.FLOOR} % are killed"),
        (["killed", "no tests"], [], [], f"FAILED: fewer than {mutants.FLOOR} % are killed"),
    ],
)
def test_when_it_fails(capsys, statuses, unexplained, outdated, expected):
    outcomes = [outcome(status) for status in statuses]
    share = mutants._table(outcomes, ["ruling"])
    compared = explained.Comparison(unexplained=unexplained, explained=0, outdated=outdated)
    assert mutants._status(outcomes, compared, share) == (expected != "OK")
    assert capsys.readouterr().out.splitlines()[-1] == expected


def test_nothing_that_was_run_is_no_pass(capsys):
    share = mutants._table([], ["ruling"])
    compared = explained.Comparison(unexplained=[], explained=0, outdated=[])
    assert mutants._status([], compared, share) == 1


def test_the_table(capsys):
    outcomes = [
        *(outcome(status) for status in ("killed", "killed", "survived", "not checked")),
        outcome("killed", module="need"),
    ]
    assert mutants._table(outcomes, ["ruling", "need"]) == 75
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert lines == [
        ["ruling", "4", "2", "1", "1", "66.7", "%"],
        ["need", "1", "1", "0", "0", "100.0", "%"],
        ["all", "5", "3", "1", "1", "75.0", "%"],
    ]


def test_functions_are_named_as_in_the_code():
    assert outcome("killed").function == "ruling.rule"
    name = "nova_devcompat.compat.given.xǁGivenǁanywhere__mutmut_15"
    assert Outcome(name=name, module="given", status="killed").function == "given.Given.anywhere"


def test_a_module_that_is_not_there(capsys):
    with pytest.raises(SystemExit):
        mutants.main(["rulings"])
    assert "no module rulings; there are accepts, " in capsys.readouterr().err


# --- the folder ---------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    """The top of a small tree, and the folder for it."""
    root = tmp_path / "tree"
    files = {
        "nova_devcompat/compat/ruling.py": "def rule(): return 1\n",
        "nova_devcompat/compat/words.py": "WORDS = 1\n",
        "nova_devcompat/compat/kinds/__init__.py": "",
        "nova_devcompat/compat/kinds/sets.py": "class Sets:\n    def rule(self): return 1\n",
        "tests/__init__.py": "",
        "tests/budget.py": "",
        "tests/conftest.py": "",
        "tests/entry_points.py": "",
        "tests/unit/__init__.py": "",
        "tests/unit/conftest.py": "",
        "tests/unit/providers.py": "",
        "tests/unit/compat/test_ruling.py": "",
        "tests/unit/compat/test_purity.py": "",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root, Folder(tmp_path / "folder", root)


def as_mutmut_does(folder: Folder) -> None:
    """Leave what tells that mutmut has made its mutants."""
    for source in folder.path.glob("nova_devcompat/**/*.py"):
        meta = folder.path / "mutants" / f"{source.relative_to(folder.path)}.meta"
        meta.parent.mkdir(parents=True, exist_ok=True)
        meta.write_text("{}")
    (folder.path / "mutants" / "mutmut-stats.json").write_text("{}")


def imported(path: pathlib.Path) -> set[str]:
    """The modules of ours that a file imports; names of what is in a module may be among them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.partition(".")[0] in ("tests", "rigs")}


def test_what_the_tests_import_is_copied(tmp_path):
    folder = Folder(tmp_path, ROOT)
    folder.update()
    tests = list((tmp_path / "tests").rglob("*.py"))
    assert len(tests) > 30
    for name in set().union(*map(imported, tests)):
        if (ROOT / f"{name.replace('.', '/')}.py").exists():
            assert (tmp_path / f"{name.replace('.', '/')}.py").exists(), name


def test_what_is_copied(tree):
    root, folder = tree
    assert modules(root) == ["kinds.sets", "ruling"]
    assert folder.update() == {"kinds.sets", "ruling"}
    assert (folder.path / "tests/unit/compat/test_ruling.py").exists()
    # It is about the text of the code, in which mutants are.
    assert not (folder.path / "tests/unit/compat/test_purity.py").exists()
    as_mutmut_does(folder)
    assert folder.update() == set()


def test_a_module_that_changed(tree):
    root, folder = tree
    folder.update()
    as_mutmut_does(folder)
    (root / "nova_devcompat/compat/ruling.py").write_text("def rule(): return 2\n")
    assert folder.update() == {"ruling"}
    assert (
        folder.path / "nova_devcompat/compat/ruling.py"
    ).read_text() == "def rule(): return 2\n"


def test_a_module_that_is_gone(tree):
    root, folder = tree
    folder.update()
    as_mutmut_does(folder)
    (root / "nova_devcompat/compat/ruling.py").unlink()
    assert folder.update() == set()
    assert not (folder.path / "nova_devcompat/compat/ruling.py").exists()
    assert not (folder.path / "mutants/nova_devcompat/compat/ruling.py.meta").exists()


@pytest.mark.parametrize("change", ["another", "gone"])
def test_tests_that_changed_are_measured_anew(tree, change):
    root, folder = tree
    folder.update()
    as_mutmut_does(folder)
    stats = folder.path / "mutants" / "mutmut-stats.json"
    folder.update()
    assert stats.exists()
    test = root / "tests/unit/compat/test_ruling.py"
    test.unlink() if change == "gone" else test.write_text("pass\n")
    assert folder.update() == set()
    assert not stats.exists()


def test_what_is_forgotten_is_run_again(tree):
    _, folder = tree
    folder.update()
    as_mutmut_does(folder)
    folder.forget(["kinds.sets"])
    assert folder.update() == {"kinds.sets"}
