# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Format 2 of the stats document: written for readers that look at little of it.

It is JSON, so that readers of format 1 name the format that they do not read::

    {"d":"<body>","v":2}
    <body>   = <length><digest><context><tokens>:<meta>:<providers>:<groups>
    <tokens> = ;<class or family>=<digest>...
    <groups> = <content>.<devices>,...

* The *length* is of the whole text, and the *digest* of all that follows it, so that a document of
  which a part was lost or changed on its way is not read by its remains.
* *Context* and *tokens*: :mod:`nova_devcompat.wire.tokens`. Where they stand in the text is the
  same on hosts that have the same classes and families.
* *Meta*, the *contents* and the *devices* are packed JSON (:mod:`nova_devcompat.wire.packing`),
  the same on hosts that say the same, so that readers unpack each once for all of them.
* *Providers* are the UUIDs of resource providers, 16 bytes each, in the order of devices.

Nothing in it is escaped when Nova writes it as JSON in JSON, but the quotes around the body.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from nova_devcompat.wire import packing, tokens
from nova_devcompat.wire.stats import HostDocument, StatsTooLong, check_size, dumps, groups_of

BEGIN = '{"d":"'
END = '","v":2}'

_DIGITS = 5
#: Characters of the digest of a document, 132 bits.
DIGEST_SIZE = 22
#: Where the text has its length, its digest and its context, and from where on tokens.
LENGTH = slice(len(BEGIN), len(BEGIN) + _DIGITS)
DIGEST = slice(LENGTH.stop, LENGTH.stop + DIGEST_SIZE)
CONTEXT = slice(DIGEST.stop, DIGEST.stop + tokens.SIZE)

#: Characters that all packed parts of a document have when they are unpacked, at most.
MOST_UNPACKED = 1 << 19

#: Names of resource classes, as placement has them.
CLASS = re.compile("[A-Z0-9_]{1,255}")


def begin_of(size: int) -> str:
    """How a text of so many characters begins, up to the end of :data:`LENGTH`."""
    return f"{BEGIN}{size:0{_DIGITS}}"


def dump_stats_2(document: HostDocument) -> str:
    """The text of a stats document in format 2: the same for the same content.

    :raises StatsTooLong: it would take more than 57,344 bytes of the column
    """
    text, groups, unpacked = write(document)
    if unpacked > MOST_UNPACKED:
        raise StatsTooLong(
            f"the stats document has {unpacked} characters, not compressed: {MOST_UNPACKED} are "
            "allowed"
        )
    return check_size(text, document, groups)


def write(document: HostDocument) -> tuple[str, int, int]:
    """The text, of whatever length.

    :returns: it, how many groups of devices it has, and how many characters are packed in it
    """
    groups = groups_of(document)
    classes = _classes_by_provider(document)
    parts: list[tokens.Part] = []
    left_out: list[tuple[int, str]] = []
    host: list[str] = []
    packed = []
    unpacked = 0
    providers: list[str] = []
    for index, group in enumerate(groups):
        said = dumps({key: group[key] for key in ("f", "r", "h", "x") if key in group})
        content = tokens.content_of(said)
        listed = _devices(group, classes)
        placed = dumps(listed)
        unpacked += len(said) + len(placed)
        packed.append(f"{packing.pack(said)}.{packing.pack(placed)}")
        for address in sorted(group["d"]):
            providers += group["d"][address]
        if "x" in group:
            left_out.append((index, content))
        elif "h" in group:
            host.append(content)
        else:
            devices = [(group["d"][address], names) for (address, _, names, *_) in listed]
            parts.append(tokens.Part(content, group["f"], devices))
    meta: dict[str, Any] = {"c": document.catalog, "w": document.whole}
    if document.policies is not None:
        meta["m"] = dict(document.policies)
    if document.reads > 1:
        meta["q"] = document.reads
    if document.post_copy is not None:
        meta["t"] = document.post_copy
    if document.unnamed is not None:
        meta["n"] = sorted(document.unnamed)
    said = dumps(meta)
    whole = document.whole and not left_out
    context = tokens.context_of(whole=whole, left_out=left_out, host=host)
    rest = ":".join(
        [
            context + tokens.Tokens(context, parts, document.unnamed).text,
            packing.pack(said),
            packing.to_base64(b"".join(uuid.UUID(one).bytes for one in providers)),
            ",".join(packed),
        ]
    )
    size = len(BEGIN) + _DIGITS + DIGEST_SIZE + len(rest) + len(END)
    text = f"{begin_of(size)}{packing.digest(rest, DIGEST_SIZE)}{rest}{END}"
    return text, len(groups), unpacked + len(said)


def _classes_by_provider(document: HostDocument) -> dict[str, tuple[str, ...] | None]:
    return {
        provider: device.classes for device in document.devices for provider in device.providers
    }


def _devices(
    group: Mapping[str, Any], classes: Mapping[str, Sequence[str] | None]
) -> list[list[Any]]:
    """The devices of a group: the address, how many providers, their classes, and functions.

    None for classes that are not known of all of them.
    """
    listed = []
    for address, providers in sorted(group["d"].items()):
        listed_of = [classes[one] for one in providers]
        names = None
        if listed_of and None not in listed_of:
            names = sorted({name for each in listed_of for name in each or ()})
        entry: list[Any] = [address, len(providers), names]
        if runs := group.get("p", {}).get(address):
            entry.append(runs)
        listed.append(entry)
    return listed
