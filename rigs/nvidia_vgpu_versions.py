# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Makes the table of NVIDIA's vGPU versions anew, of a clone of open-gpu-kernel-modules.

``python -m rigs.nvidia_vgpu_versions CLONE`` prints it, for
``nova_devcompat/catalog/tables/nvidia_vgpu_versions.yaml``.

Each tag is a release; its header has the range that the release supports. Releases that have the
same range and follow each other, with none of another range between them, are one row.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator

#: Where the header is, up to branch 550 and since.
HEADERS = (
    "src/nvidia/kernel/inc/vgpu/vgpu_version.h",
    "src/nvidia/inc/kernel/vgpu/vgpu_version.h",
)

COMMENT = """\
# Which vGPU versions NVIDIA's host drivers support, for planning: on a live host NVML's word
# counts.
#
# Read off src/nvidia/inc/kernel/vgpu/vgpu_version.h, until branch 550 src/nvidia/kernel/inc/vgpu/
# vgpu_version.h, at each release of NVIDIA's open-gpu-kernel-modules (NV_VGPU_MIN_ and
# NV_VGPU_MAX_SUPPORTED_GRIDSW_VERSION_EXTERNAL_MAJOR and _MINOR, hexadecimal): the first and the
# last release that has these values, and all published ones between them. What is assumed of
# releases outside of these spans, catalog/nvidia.py says.
#
# Made by: python -m rigs.nvidia_vgpu_versions CLONE
meta:
  schema_version: '1.0'

releases:
"""

_TAG = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_BOUND = re.compile(
    r"#define\s+NV_VGPU_(MIN|MAX)_SUPPORTED_GRIDSW_VERSION_EXTERNAL_(MAJOR|MINOR)\s+"
    r"(?:0[xX])?([0-9a-fA-F]+)"
)

Range = tuple[str, str]


def bounds(header: str) -> Range | None:
    """The range in a header, hexadecimal; None where it has none, as before 525."""
    found = {(end, part): number.upper() for end, part, number in _BOUND.findall(header)}
    if len(found) < 4:
        return None
    lowest, highest = (
        f"{found[end, 'MAJOR'].lstrip('0') or '0'}.{found[end, 'MINOR'].lstrip('0') or '0'}"
        for end in ("MIN", "MAX")
    )
    return lowest, highest


def rows(releases: Iterable[tuple[str, Range]]) -> Iterator[tuple[str, str, Range]]:
    """First and last release of each span, and its range.

    :param releases: with their ranges, in any order
    """
    ordered = sorted(releases, key=lambda one: [int(part) for part in one[0].split(".")])
    first = last = ""
    before: Range | None = None
    for release, found in ordered:
        if before is not None and (found != before or _branch(release) != _branch(last)):
            yield first, last, before
            first = release
        first = first or release
        last, before = release, found
    if before is not None:
        yield first, last, before


def _branch(release: str) -> str:
    return release.split(".", 1)[0]


def read(clone: pathlib.Path) -> Iterator[tuple[str, Range]]:
    """The releases of a clone that have a range.

    :raises ValueError: one has the header nowhere that is known here
    """
    for tag in _git(clone, "tag", "--list").split():
        if not _TAG.fullmatch(tag):
            continue
        there = _git(clone, "ls-tree", "--name-only", tag, *HEADERS).split()
        if not there:
            raise ValueError(f"{tag} has none of {', '.join(HEADERS)}; see where its header is")
        found = bounds(_git(clone, "show", f"{tag}:{there[0]}"))
        if found is not None:
            yield tag, found


def _git(clone: pathlib.Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(clone), *arguments], check=True, capture_output=True, text=True
    ).stdout


def table(releases: Iterable[tuple[str, Range]]) -> str:
    """The table as the file has it."""
    return COMMENT + "".join(
        f"  - {{first: '{first}', last: '{last}', min: '{lowest}', max: '{highest}'}}\n"
        for first, last, (lowest, highest) in rows(releases)
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clone", type=pathlib.Path, help="of open-gpu-kernel-modules, with tags")
    sys.stdout.write(table(read(parser.parse_args().clone)))


if __name__ == "__main__":
    main()
