# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Distributions that exist for one test."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import pytest


def install(
    monkeypatch: pytest.MonkeyPatch,
    folder: pathlib.Path,
    name: str,
    group: str,
    entry_points: Mapping[str, str],
    modules: Mapping[str, str] | None = None,
) -> None:
    """Make Python believe that a distribution is installed.

    :param folder: an empty folder of its own
    :param entry_points: object references by name, all of one group
    :param modules: the text of modules by name
    """
    info = folder / f"{name.replace('-', '_')}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    lines = [f"{key} = {value}" for key, value in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    for module, text in (modules or {}).items():
        (folder / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
