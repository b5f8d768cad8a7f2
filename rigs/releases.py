# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The releases of OpenStack that we support: the only table of them.

Their constraints are constraints/<name>.txt. tests/unit/test_releases.py compares what else names
them: tox.ini, the documentation, the recorded signatures. Only the standard library is used here.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence


class UnknownRelease(ValueError):
    """There is no such release; the text says which there are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
    """A release of OpenStack, with the versions that we test.

    :ivar name: of OpenStack
    :ivar nova: the newest release of its series
    :ivar placement: likewise
    :ivar native: whether nova.tests runs functional tests on native threads. Before 34 it keeps
        the database in memory, on one connection that all threads share.
    """

    name: str
    nova: str
    placement: str
    native: bool = True

    @property
    def series(self) -> str:
        """Nova's major version, which is the release's own."""
        return self.nova.partition(".")[0]

    @property
    def constraints(self) -> str:
        """The file that has them, from the top of the tree."""
        return f"constraints/{self.name}.txt"


#: Oldest first. Which placement belongs to which Nova is said by openstack/releases,
#: deliverables/<cycle>/placement.yaml.
RELEASES = (
    Release(name="2025.1", nova="31.3.1", placement="13.0.1", native=False),
    Release(name="2025.2", nova="32.2.1", placement="14.0.0", native=False),
    Release(name="2026.1", nova="33.0.2", placement="15.0.0", native=False),
    Release(name="2026.2", nova="34.0.0", placement="16.0.0"),
)
#: What is tested where nobody names another.
DEFAULT = RELEASES[-1].name


def find(text: str) -> Release:
    """The release with this name (``2026.2``) or major version of Nova (``34``).

    :raises UnknownRelease: there is none
    """
    for release in RELEASES:
        if text in (release.name, release.series):
            return release
    known = ", ".join(f"{one.name} (Nova {one.series})" for one in RELEASES)
    raise UnknownRelease(
        f"no supported release of OpenStack is called {text!r}; there are {known}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print name, versions and constraints of a release, for tools/refresh-constraints.sh."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--nova", metavar="RELEASE", default=DEFAULT)
    try:
        release = find(parser.parse_args(argv).nova)
    except UnknownRelease as error:
        print(error, file=sys.stderr)
        return 2
    print(release.name, release.nova, release.placement, release.constraints)
    return 0


if __name__ == "__main__":
    sys.exit(main())
