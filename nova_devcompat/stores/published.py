# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a host published of its devices, in ``compute_nodes.stats``."""

from __future__ import annotations

from collections.abc import Mapping

from nova_devcompat import wire
from nova_devcompat.compat.verdict import Actor, Code, Reason

_SILENT = Reason(code=Code.HOST_SILENT, actor=Actor.OPERATOR)


def published(
    stats: Mapping[str, str] | None, reader: wire.StatsReader
) -> wire.HostDocument | Reason:
    """A host's document, or why nothing is known of the host.

    :param stats: of its compute node, None where there are none
    :param reader: remembers what it has read
    """
    return document_in(stats.get(wire.STATS_KEY) if stats else None, reader)


def document_in(text: str | None, reader: wire.StatsReader) -> wire.HostDocument | Reason:
    """The document of a text, or why nothing is known of the host that has it.

    :param text: what stands where hosts publish, None where nothing does
    :param reader: remembers what it has read
    """
    if text is None:
        return _SILENT
    document = reader.read(text)
    if isinstance(document, wire.WireError):
        return Reason(code=Code.HOST_UNREADABLE, actor=Actor.OPERATOR, detail=str(document))
    return document
