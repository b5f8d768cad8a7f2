#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.


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
