# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading cases: strict, since a key that nobody knows is an expectation that nobody checks."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

#: What a case may be expected to come to. ``silent`` is what a verdict may be, and never right.
EXPECTED = frozenset({"accept", "reject", "unknown", "error"})

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: Keys by kind, beside ``kind``: those that must be there, and those that may.
_KEYS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "hosts": (
        frozenset({"source", "guest", "destinations", "expected"}),
        frozenset({"packs"}),
    ),
    "matrix": (frozenset({"expected"}), frozenset({"packs"})),
    "versions": (frozenset({"rows"}), frozenset()),
    "pin": (frozenset({"extra_specs", "destinations", "expected"}), frozenset({"packs"})),
    "plan": (frozenset({"releases"}), frozenset()),
    "validate": (frozenset({"command", "expected"}), frozenset()),
}

_HOST = frozenset({"sysfs", "devlink", "nvml", "libvirt", "static"})

#: Keys of the mappings in a case, by what they describe.
SHAPES: dict[str, frozenset[str]] = {
    "guest": frozenset({"device", "parent", "xml"}),
    "source": _HOST,
    "destination": _HOST | {"device", "parent"},
    "row": frozenset({"rule", "options", "offer", "need", "expected"}),
    "sysfs": frozenset({"modules", "devices"}),
    "module": frozenset({"name", "version", "srcversion", "holds"}),
    "pci": frozenset(
        {
            "address", "vendor", "device", "subsystem", "class", "revision", "driver",
            "totalvfs", "vf_device", "files", "mdev_types", "vfs",
        }
    ),
    "vfs": frozenset({"count", "driver", "files", "each", "drivers"}),
    "devlink": frozenset({"info"}),
    "libvirt": frozenset(
        {"lib_version", "version", "type", "machines", "arch", "capabilities", "nodedevs"}
    ),
}  # fmt: skip


class BadCase(ValueError):
    """A case that cannot be asked; the message names the key."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A case.

    :param name: what the report calls it
    :param folder: where the files are that it names
    :param content: what it says, without ``kind`` and with the keys of its kind only
    """

    name: str
    kind: str
    folder: pathlib.Path
    content: Mapping[str, Any]

    def text(self, name: object) -> str:
        """The text of one of its files."""
        if not isinstance(name, str) or not name:
            raise BadCase(f"{name!r} names no file")
        try:
            return (self.folder / name).read_text()
        except (OSError, ValueError) as error:
            raise BadCase(f"file {name!r} cannot be read: {error}") from error

    def has(self, name: str) -> bool:
        """Whether it has a file of this name."""
        return (self.folder / name).exists()


def keys(shape: str, value: object, place: str) -> dict[str, Any]:
    """A mapping in a case.

    :param shape: one of :data:`SHAPES`
    :param place: where it stands
    :raises BadCase: it is none, or has a key that the shape has not
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadCase(f"{place}: {value!r:.60} is no mapping")
    unknown = sorted(map(str, set(value) - SHAPES[shape]))
    if unknown:
        known = ", ".join(sorted(SHAPES[shape]))
        raise BadCase(f"{place}: unknown key {unknown[0]!r}; there are: {known}")
    return value


def listed(value: object, place: str) -> list[Any]:
    """A list in a case; nothing is an empty one.

    :raises BadCase: it is none
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadCase(f"{place}: {value!r:.60} is no list")
    return value


def mapped(value: object, place: str) -> dict[str, Any]:
    """A mapping of any keys; nothing is an empty one.

    :raises BadCase: it is none
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadCase(f"{place}: {value!r:.60} is no mapping")
    return {str(key): inner for key, inner in value.items()}


def expectations(expected: object, place: str) -> frozenset[str]:
    """The verdicts of which any is right: ``reject or unknown``.

    :raises BadCase: it names another one
    """
    wanted = frozenset(part.strip() for part in str(expected).split(" or "))
    unknown = sorted(wanted - EXPECTED)
    if unknown:
        raise BadCase(f"{place}: {unknown[0]!r} is none of {', '.join(sorted(EXPECTED))}")
    return wanted


def check(kind: object, content: Mapping[str, Any]) -> str:
    """The kind of a case whose keys are those of its kind.

    :raises BadCase: they are not
    """
    if not isinstance(kind, str) or kind not in _KEYS:
        raise BadCase(f"kind: {kind!r} is none of {', '.join(_KEYS)}")
    required, optional = _KEYS[kind]
    missing = sorted(required - set(content))
    if missing:
        raise BadCase(f"{missing[0]} is missing; kind {kind} has it")
    unknown = sorted(set(map(str, content)) - required - optional)
    if unknown:
        known = ", ".join(sorted({"kind", *required, *optional}))
        raise BadCase(f"unknown key {unknown[0]!r}; kind {kind} has: {known}")
    return kind


def found(path: pathlib.Path) -> list[pathlib.Path]:
    """The cases at a path: a folder that is one or has some, or a file of several.

    :raises BadCase: there are none
    """
    if path.is_file() or (path / "case.yaml").is_file():
        return [path]
    below = sorted(
        one
        for one in (path.iterdir() if path.is_dir() else ())
        if (one / "case.yaml").is_file() or (one.is_file() and one.suffix == ".yaml")
    )
    if not below:
        raise BadCase("neither a case nor a folder of cases")
    return below


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[list[Case | tuple[str, BadCase]]]:
    """The cases of a folder or of a file, each or what is wrong with it."""
    if path.is_dir():
        yield [_load(path.resolve().name, path, _parsed(path / "case.yaml"))]
        return
    with tempfile.TemporaryDirectory(prefix="cases-") as scratch:
        yield list(_of_file(path, pathlib.Path(scratch)))


def _parsed(path: pathlib.Path) -> object:
    try:
        return yaml.load(path.read_bytes(), _LOADER)  # noqa: S506  a safe loader
    except (OSError, yaml.YAMLError, ValueError) as error:
        return BadCase(f"{path.name}: {' '.join(str(error).split())}")


def _load(name: str, folder: pathlib.Path, content: object) -> Case | tuple[str, BadCase]:
    if isinstance(content, BadCase):
        return name, content
    if not isinstance(content, dict):
        return name, BadCase("case.yaml is no mapping")
    try:
        rest = {key: value for key, value in content.items() if key != "kind"}
        return Case(name=name, kind=check(content.get("kind"), rest), folder=folder, content=rest)
    except BadCase as error:
        return name, error


def _of_file(path: pathlib.Path, scratch: pathlib.Path) -> Iterator[Case | tuple[str, BadCase]]:
    """The cases of a file: what is told of each, its files, and what a ``case.yaml`` has."""
    content = _parsed(path)
    if not isinstance(content, dict) or not isinstance(content.get("cases"), dict):
        why = content if isinstance(content, BadCase) else BadCase("has no 'cases'")
        yield path.name, why
        return
    for name, stated in content["cases"].items():
        if not isinstance(stated, dict):
            yield str(name), BadCase("is no mapping")
            continue
        folder = scratch / str(name)
        folder.mkdir()
        body = {key: value for key, value in stated.items() if key not in ("told", "files")}
        for file, text in (stated.get("files") or {}).items():
            whole = text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False)
            (folder / file).write_text(whole)
        yield _load(str(name), folder, body)
