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

    @property
    def branch(self) -> int:
        """The branch that its releases are of, the first number of each."""
        return parse_version(self.first)[0]


@dataclasses.dataclass(frozen=True, slots=True)
class PublishedRange:
    """A range of vGPU versions, as far as it is published for a release.

    :param lowest: the lower bound, hexadecimal as NVIDIA writes it
    :param highest: the upper one
    :param assumed: why it is taken for the release's, though nothing is published for just that
        one; '' where something is
    """

    lowest: str
    highest: str
    assumed: str = ""

    @property
    def attribute(self) -> dict[str, str]:
        """As the ``nvml`` source would tell it."""
        return {"min": self.lowest, "max": self.highest}


@functools.cache
def spans() -> tuple[ReleaseSpan, ...]:
    """The table, oldest releases first."""
    rows = read(TABLE).content["releases"]
    return tuple(ReleaseSpan(row["first"], row["last"], row["min"], row["max"]) for row in rows)


def published_range(release: str) -> PublishedRange:
    """What a host with this release of the driver offers.

    The table is of releases with open kernel modules. Those of vGPU hosts are numbered beside them
    (550.163.02 beside 550.163.01), and newer ones come: within a branch, the range of those beside
    it is assumed, where two differ, what both have.

    :param release: of the host's driver, ``550.144.02``
    :raises UnknownRelease: of a branch of which nothing is published
    :raises ValueError: it is no release
    """
    try:
        version = parse_version(release)
    except Unreadable as error:
        raise ValueError(f"release of NVIDIA's driver: {error}") from error
    if len(version) < 2:
        raise ValueError(f"release of NVIDIA's driver: {release!r} is none such as 550.144.02")
    for span in spans():
        if release in span:
            return PublishedRange(span.lowest, span.highest)
    branch = [span for span in spans() if span.branch == version[0]]
    if not branch:
        known = ", ".join(str(number) for number in sorted({span.branch for span in spans()}))
        raise UnknownRelease(
            f"nothing is published for release {release} of NVIDIA's driver; known are branches "
            f"{known}"
        )
    before = [one for one in branch if compare_versions(parse_version(one.last), version) < 0]
    beside = [*before[-1:], *branch[len(before) : len(before) + 1]]
    places = [one.last for one in before[-1:]]
    places += [one.first for one in branch[len(before) : len(before) + 1]]
    verb = "have" if len(places) > 1 else "has"
    return PublishedRange(
        max((one.lowest for one in beside), key=_hexadecimal),
        min((one.highest for one in beside), key=_hexadecimal),
        f"nothing is published for release {release}; it is taken to have what "
        f"{' and '.join(places)} {verb}",
    )


class UnknownRelease(ValueError):
    """A release of a branch of which nothing is published."""


def _hexadecimal(version: str) -> tuple[int, ...]:
    return parse_version(version, base=16)
