# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Format versions, and what is raised for what cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from nova_devcompat.kit.text import printable
from nova_devcompat.wire.checks import shown

T = TypeVar("T")

#: Characters of an error's text, at most: it goes into logs, reasons and tables.
ERROR_SIZE = 300


class WireError(ValueError):
    """A record or a document that cannot be read.

    Its text is one line that can be printed, of at most 300 characters, whatever was read.

    :param what: ``record`` or ``stats document``
    :param why: what is wrong with it
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(printable(f"{what}: {why}", ERROR_SIZE))
        self.why = printable(why, ERROR_SIZE)


def reader_of(what: str, version: object, readers: Mapping[int, T]) -> T:
    """The reader of a format.

    :param version: as it was written, a number if all is well
    :param readers: by version, without gaps
    :raises WireError: it is newer or older than all that are read, or no version at all
    """
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise WireError(what, f"no format version that is known: {shown(version)}")
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
