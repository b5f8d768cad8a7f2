# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which vGPU versions NVIDIA's host drivers support, as published: for planning only."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

from nova_devcompat.compat.attributes import Unreadable, compare_versions, parse_version
from nova_devcompat.kit.yamlfile import read

#: The facts, and where they are from.
TABLE = pathlib.Path(__file__).parent / "tables" / "nvidia_vgpu_versions.yaml"


@dataclasses.dataclass(frozen=True, slots=True)
class ReleaseSpan:
    """Releases of the driver that have one range of vGPU versions.

    :param first: the oldest release, such as ``550.40.07``
    :param last: the newest that is known
    :param lowest: the range's lower bound, hexadecimal as NVIDIA writes it
    :param highest: the upper one
    """

    first: str
    last: str
    lowest: str
    highest: str

    def __contains__(self, release: str) -> bool:
        version = parse_version(release)
        return (
            compare_versions(parse_version(self.first), version) <= 0
            and compare_versions(version, parse_version(self.last)) <= 0
        )


@functools.cache
def spans() -> tuple[ReleaseSpan, ...]:
    """The table, oldest releases first."""
    rows = read(TABLE).content["releases"]
    return tuple(ReleaseSpan(row["first"], row["last"], row["min"], row["max"]) for row in rows)


def vgpu_version(release: str) -> dict[str, str]:
    """What a host with this release of the driver offers, as the ``nvml`` source would tell it.

    :param release: of the host's driver, ``550.144.02``
    :raises ValueError: it is no release, or none of a span that is published
    """
    try:
        found = [span for span in spans() if release in span]
    except Unreadable as error:
        raise ValueError(f"release of NVIDIA's driver: {error}") from error
    if not found:
        known = ", ".join(f"{span.first} to {span.last}" for span in spans())
        raise ValueError(
            f"nothing is published for release {release} of NVIDIA's driver; known: {known}"
        )
    return {"min": found[0].lowest, "max": found[0].highest}
