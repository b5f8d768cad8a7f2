# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The folder in which mutmut works: a copy of what it changes and of the tests, and what it found.

All that is particular to mutmut is here. It keeps what came of each mutant until the function that
it is of changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence

from rigs.venvs import ROOT

#: What is mutated.
COMPAT = "nova_devcompat/compat"
#: What the tests of it need of the tree; what lies beside the suites may be needed by any.
_COPIED = (
    "nova_devcompat",
    "tests/*.py",
    "tests/unit/__init__.py",
    "tests/unit/conftest.py",
    "tests/unit/providers.py",
    "tests/unit/compat",
)
_PLUGIN = pathlib.Path(__file__).with_name("cheap_first.py")
#: About the text of the code, which is another with mutants in it.
_NOT_COPIED = "tests/unit/compat/test_purity.py"

_CONFIG = """\
[tool.pytest.ini_options]
addopts = "--strict-config -p no:cacheprovider -p cheap_first"

[tool.mutmut]
source_paths = ["nova_devcompat"]
only_mutate = ["nova_devcompat/compat/*"]
also_copy = ["cheap_first.py"]
pytest_add_cli_args_test_selection = ["tests/unit/compat"]
use_git_change_detection = false
# From a process that has run no test, so that nothing is remembered which a mutant would alter.
process_isolation = "forkserver"
# Seconds: (tests + constant) * multiplier.
timeout_constant = 15.0
timeout_multiplier = 2.0
"""

#: The small budget; and no set is iterated in another order, which would be another outcome.
_ENVIRON = {"DEVCOMPAT_BUDGET": "small", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}

#: Of address space for one mutant, which may well collect things without end.
_MEMORY = 4 << 30


class MutmutError(Exception):
    """mutmut did not run to its end."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of one mutant.

    :ivar name: mutmut's, which has a number that changes when the function does
    :ivar module: ``ruling``, ``kinds.sets``
    :ivar status: mutmut's word: ``killed``, ``survived``, ``timeout``, ``no tests``,
        ``not checked`` ...
    """

    name: str
    module: str
    status: str

    @property
    def alive(self) -> bool:
        """Whether no test noticed it."""
        return self.status in ("survived", "no tests")

    @property
    def known(self) -> bool:
        """Whether it was run to its end."""
        return self.status not in ("not checked", "check was interrupted by user")

    @property
    def function(self) -> str:
        """``ruling.rule``, ``given.Given.anywhere``."""
        last = self.name.rpartition(".")[2].rpartition("__mutmut_")[0]
        if last.startswith("x_"):
            return f"{self.module}.{last.removeprefix('x_')}"
        return f"{self.module}.{last.removeprefix('xǁ').replace('ǁ', '.')}"


def modules(root: pathlib.Path = ROOT) -> list[str]:
    """The modules that are mutated: ``ruling``, ``kinds.sets``."""
    folder = root / COMPAT
    return sorted(
        ".".join(path.relative_to(folder).with_suffix("").parts)
        for path in folder.rglob("*.py")
        # A package itself, and what only has constants, is nothing that mutmut changes.
        if path.name != "__init__.py" and re.search(r"^ *def ", path.read_text(), re.M)
    )


def _file_of(module: str) -> str:
    return f"{COMPAT}/{module.replace('.', '/')}.py"


class Folder:
    """Where mutmut works.

    :param path: made if need be
    :param root: the top of the tree
    """

    def __init__(self, path: pathlib.Path, root: pathlib.Path = ROOT) -> None:
        self.path = path
        self._root = root
        self._mutants = path / "mutants"

    def update(self) -> set[str]:
        """Bring the copy up to date.

        :returns: the modules of which mutmut's list of mutants is not known or not current
        """
        self.path.mkdir(parents=True, exist_ok=True)
        wanted = {name: self._root / name for name in self._files()}
        stale = [name for name in self._copies() if name not in wanted]
        for name in stale:
            (self.path / name).unlink()
        changed = [name for name, source in sorted(wanted.items()) if self._copy(name, source)]
        if any(name.startswith("tests/") for name in (*stale, *changed)):
            # Which test runs which function is measured anew; mutmut never removes a test.
            shutil.rmtree(self._mutants / "tests", ignore_errors=True)
            (self._mutants / "mutmut-stats.json").unlink(missing_ok=True)
        for name in stale:
            (self._mutants / name).unlink(missing_ok=True)
            self._meta(name).unlink(missing_ok=True)
        (self.path / "pyproject.toml").write_text(_CONFIG)
        shutil.copyfile(_PLUGIN, self.path / _PLUGIN.name)
        files = {module: _file_of(module) for module in modules(self.path)}
        return {
            module
            for module, name in files.items()
            if name in changed or not self._meta(name).exists()
        }

    def forget(self, chosen: Iterable[str]) -> None:
        """Forget what came of the mutants of some modules."""
        for module in chosen:
            name = _file_of(module)
            self._meta(name).unlink(missing_ok=True)
            # Else mutmut takes it for current, and writes no new list.
            (self._mutants / name).unlink(missing_ok=True)

    def run(self, patterns: Sequence[str]) -> None:
        """Have mutmut run mutants, one at a time.

        :param patterns: of their names
        :raises MutmutError: it did not run to its end
        """
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, most))
        command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *patterns]
        environ = os.environ | _ENVIRON
        # The tree itself, whose code has no mutants.
        environ.pop("PYTHONPATH", None)
        log = self.path / "mutmut.log"
        with open(log, "a") as said:
            # Its progress is one line that changes all the time, which is no good for a log.
            shown = None if sys.stdout.isatty() else said
            done = subprocess.run(command, cwd=self.path, env=environ, stdout=shown, stderr=shown)
        if done.returncode:
            raise MutmutError(f"mutmut ended with status {done.returncode}; see {log}")

    def outcomes(self, chosen: Iterable[str]) -> list[Outcome]:
        """What is known of the mutants of some modules."""
        from mutmut.stats import status_by_exit_code

        found = []
        for module in chosen:
            try:
                text = self._meta(_file_of(module)).read_text()
            except FileNotFoundError:
                continue
            for name, exit_code in json.loads(text)["exit_code_by_key"].items():
                status = status_by_exit_code[exit_code]
                found.append(Outcome(name=name, module=module, status=status))
        return found

    def changes(self, outcome: Outcome) -> tuple[list[str], list[str]]:
        """The lines of the function that the mutant lacks, and those that it has instead."""
        from mutmut.mutation.diff_apply import get_diff_for_mutant

        with contextlib.chdir(self.path):
            diff = get_diff_for_mutant(outcome.name, path=_file_of(outcome.module))
        lines = diff.splitlines()[2:]
        removed = [line[1:] for line in lines if line.startswith("-")]
        return removed, [line[1:] for line in lines if line.startswith("+")]

    def _files(self) -> list[str]:
        found = []
        for top in (top for name in _COPIED for top in self._root.glob(name)):
            paths = [path for path in top.rglob("*") if path.is_file()] if top.is_dir() else [top]
            found += [path.relative_to(self._root).as_posix() for path in paths]
        return [name for name in found if not name.endswith(".pyc") and name != _NOT_COPIED]

    def _copies(self) -> list[str]:
        tops = (self.path / "nova_devcompat", self.path / "tests")
        paths = (path for top in tops for path in top.rglob("*") if path.is_file())
        return [path.relative_to(self.path).as_posix() for path in paths]

    def _copy(self, name: str, source: pathlib.Path) -> bool:
        """Copy a file unless that has been done; its new time tells mutmut to look at it."""
        target = self.path / name
        if target.exists() and target.read_bytes() == source.read_bytes():
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return True

    def _meta(self, name: str) -> pathlib.Path:
        return self._mutants / f"{name}.meta"
