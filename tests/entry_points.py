# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Entry points, looked for as often as the path changes.

Each look opens a file of every distribution there is, and each catalog that is loaded, source and
service looks.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import Any

_find = importlib.metadata.entry_points
_found: dict[Any, Any] = {}


def find_once(**wanted: Any) -> Any:
    """Stand in for importlib.metadata.entry_points."""
    places = tuple((path, _changed(path)) for path in sys.path)
    key = (places, *sorted(wanted.items()))
    if key not in _found:
        _found[key] = _find(**wanted)
    return _found[key]


def _changed(path: str) -> int | None:
    """When something was put into a folder of the path; None if it is not there."""
    try:
        return os.stat(path or ".").st_mtime_ns
    except OSError:
        return None
