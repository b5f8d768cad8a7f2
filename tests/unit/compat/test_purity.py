# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Who may import whom: the core nothing that knows a host, and every room only those below it."""

import ast
import functools
import importlib.util
import pathlib
import subprocess
import sys

import pytest

PACKAGE = "nova_devcompat"
ROOT = pathlib.Path(importlib.util.find_spec(PACKAGE).origin).parent

#: The floors, from top to bottom. A module imports from its own room and from lower floors; rooms
#: on one floor import nothing of each other.
LAYERS = [
    {"cli"},
    {"fleet"},
    {"compute", "scheduler", "api"},
    {"host", "stores", "service"},
    {"sources", "catalog", "wire", "conf"},
    {"compat", "kit"},
]
LAYER = {room: depth for depth, rooms in enumerate(LAYERS) for room in rooms}

#: All that the core is made of. Nothing here opens a file, a socket or a process.
PURE = {
    "__future__",
    "abc",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "itertools",
    "re",
    "types",
    "typing",
    "univers",
}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}


def modules(folder=ROOT):
    return sorted(path for path in folder.rglob("*.py"))


def name_of(path):
    return path.relative_to(ROOT.parent).as_posix()


def dotted(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text())


@functools.cache
def imports(path):
    return tuple(_imports(path))


def _imports(path):
    """Dotted names that a module imports anywhere in it, with the names taken from packages."""
    # What "." stands for: the package itself in an __init__, else the package around the module.
    package = dotted(path) if path.name == "__init__.py" else dotted(path)[:-1]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base = (*base, *(node.module.split(".") if node.module else ()))
            yield from (".".join((*base, alias.name)) for alias in node.names)


def rooms(path):
    """The rooms of our package that a module imports from."""
    for name in imports(path):
        package, *rest = name.split(".")
        if package == PACKAGE and rest:
            yield rest[0], name


def room_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def test_there_is_something_to_check():
    assert ROOT / "compat" / "rules.py" in modules()
    assert "nova_devcompat.compat.traits.Atom" in imports(ROOT / "compat" / "need.py")


@pytest.mark.parametrize("path", modules(ROOT / "compat"), ids=name_of)
def test_the_core_is_pure(path):
    allowed = {
        name
        for name in imports(path)
        if name.split(".")[0] in PURE or name.startswith(f"{PACKAGE}.compat.")
    }
    assert not set(imports(path)) - allowed
    called = {
        node.func.id
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & IMPURE_CALLS


def test_the_core_loads_nothing_of_openstack():
    names = [".".join(dotted(path)) for path in modules(ROOT / "compat")]
    program = f"import sys, {', '.join(names)}; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert set(names) <= set(loaded)
    strangers = {"nova", "stevedore", "yaml", "eventlet", "cliff", "requests"}
    assert not [
        name
        for name in loaded
        if name.split(".")[0] in strangers or name.startswith(("oslo", "openstack", "keystone"))
    ]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_run_downwards_only(path):
    room = room_of(path)
    if room == "__init__":
        assert not list(rooms(path)), "the package itself imports none of its rooms"
        return
    assert room in LAYER, f"{room} has no place in LAYERS yet"
    for other, name in rooms(path):
        assert other in LAYER, f"{other} has no place in LAYERS yet"
        assert other == room or LAYER[other] > LAYER[room], f"{room} imports {name}"


def test_conf_imports_oslo_config_and_the_core_only():
    names = set(imports(ROOT / "conf.py")) if (ROOT / "conf.py").exists() else set()
    assert not {
        name
        for name in names
        if name.split(".")[0] not in ("__future__", "oslo_config")
        and not name.startswith(f"{PACKAGE}.compat.")
    }
