# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Format versions, and what is raised for what cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


class WireError(ValueError):
    """A record or a document that cannot be read.

    :param what: ``record`` or ``stats document``
    :param why: what is wrong with it
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.why = why


def dumps(value: object) -> str:
    # ASCII, because MySQL's utf8mb3 has no room for characters beyond the basic plane.
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=True)


def guarded(what: str, read: Callable[[], T]) -> T:
    """Run a reader; whatever a malformed input makes it raise becomes a WireError."""
    try:
        return read()
    except WireError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise WireError(what, f"malformed: {type(error).__name__}: {error}") from error


def reader_of(what: str, version: object, readers: Mapping[int, T]) -> T:
    """The reader of a format.

    :param version: as it was written, a number if all is well
    :param readers: by version, without gaps
    :raises WireError: it is newer or older than all that are read, or no version at all
    """
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise WireError(what, f"no format version that is known: {str(version)[:40]!r}")
    if version in readers:
        return readers[version]
    read = " and ".join(map(str, sorted(readers)))
    if version > max(readers):
        raise WireError(
            what,
            f"written in format {version} by a newer nova-devcompat; this one reads {read}: "
            "upgrade it here",
        )
    raise WireError(
        what,
        f"written in format {version} by an older nova-devcompat; this one reads {read}: "
        "it has to be written anew",
    )
