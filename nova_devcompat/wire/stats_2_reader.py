# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading format 2 of the stats document: what hosts have in common is unpacked once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.kit.text import printable
from nova_devcompat.wire import checks, packing, stats_2, tokens
from nova_devcompat.wire.checks import Malformed
from nova_devcompat.wire.groups import family_of, policies_of, post_copy_of, reads_of, runs_of
from nova_devcompat.wire.stats import HostDocument, PublishedDevice
from nova_devcompat.wire.stats_2_parts import (
    UUID_SIZE,
    Content,
    Group,
    LaterDocument,
    Meta,
    PlacedDevice,
    PlacedGroups,
    Places,
    Share,
    uuids_of,
)

_COUNTS = range(checks.MOST_DEVICES + 1)

#: The accept-set of a group and its number, one for all groups that say the same.
AcceptSetOf = Callable[[Mapping[str, Any], str], tuple[int, AcceptSet]]


@dataclasses.dataclass(slots=True)
class Found:
    """What the groups of a document come to."""

    groups: list[Group] = dataclasses.field(default_factory=list)
    host: dict[str, list[PublishedDevice]] = dataclasses.field(default_factory=dict)
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)
    lost: set[str] = dataclasses.field(default_factory=set)
    left_out: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    contents: list[str] = dataclasses.field(default_factory=list)
    certain: bool = True

    @property
    def named(self) -> tuple[Hashable, ...]:
        """For :attr:`HostDocument.kin`."""
        return tuple([group.named for group in self.groups])


class BodyReader:
    """Reads bodies of format 2, and remembers what it has unpacked by its text.

    :param accept_set: makes accept-sets, or knows those that were made
    :param share: makes what several documents say one object
    """

    def __init__(self, accept_set: AcceptSetOf, share: Share) -> None:
        self._accept_set = accept_set
        self._share = share
        self._metas: dict[str, Meta] = {}
        self._contents: dict[str, Content] = {}
        self._groups: dict[str, Group] = {}
        self._contexts: dict[tuple[object, ...], str] = {}

    def clear(self) -> None:
        """Forget everything."""
        for known in (self._metas, self._contents, self._groups, self._contexts):
            known.clear()

    def read(self, body: object, size: int) -> tuple[HostDocument, Found]:
        """The document, and what its groups came to.

        :param size: characters of the text that has the body
        :raises Malformed: it cannot be read
        """
        meta_text, providers_text, groups_text = _split(body, size)
        meta = self._meta(meta_text)
        providers = _providers(providers_text)
        total = len(providers) // UUID_SIZE
        found = Found()
        add, known = found.groups.append, self._groups.get
        unpacked = meta.size
        at = 0
        texts = groups_text.split(",", checks.MOST_DEVICES) if groups_text else []
        for index, text in enumerate(texts):
            group = known(text) or self._group(text)
            unpacked += group.size
            if unpacked > stats_2.MOST_UNPACKED:
                raise Malformed("", f"more than {stats_2.MOST_UNPACKED} characters, unpacked")
            if group.apart:
                own = providers[at * UUID_SIZE : (at + group.count) * UUID_SIZE]
                _add(found, index, group, uuids_of(own))
            add(group)
            at += group.count
        if at != total:
            raise Malformed("", f"{total} providers, of which devices have {at}")
        return self._document(meta, found, providers), found

    def _meta(self, text: str) -> Meta:
        known = self._metas.get(text)
        if known is None:
            unpacked = packing.unpack(text, "meta", stats_2.MOST_UNPACKED)
            content = checks.object_of(checks.parse(unpacked, stats_2.MOST_UNPACKED), "meta")
            known = self._metas[text] = Meta(
                size=len(unpacked),
                catalog=checks.text_of(checks.member(content, "c", "meta"), "c", empty=True),
                whole=checks.flag_of(content.get("w", False), "w"),
                policies=policies_of(content.get("m")),
                reads=reads_of(content.get("q")),
                post_copy=post_copy_of(content.get("t")),
                unnamed=frozenset(_classes(content["n"], "n")) if "n" in content else None,
            )
        return known

    def _group(self, text: str) -> Group:
        """What stands in the text of a group, which may be unreadable."""
        said, _, placed = text.partition(".")
        content, places = self._content(said), _placed(placed)
        size = content.size + places.size
        problem = content.problem or places.problem
        if content.accepts is None or problem or not places.devices:
            if content.left_out:
                problem = f": left out: {content.left_out}"
            made = Group(
                size=size,
                count=places.count,
                content=content,
                problem=problem or ".d: no devices",
                apart=True,
            )
        else:
            made = Group(
                size=size,
                count=places.count,
                content=content,
                apart=content.of_host,
                devices=tuple(
                    PublishedDevice(
                        address=address,
                        accepts=content.accepts,
                        functions=functions,
                        classes=classes,
                        content=content.digest,
                    )
                    for address, _, classes, functions in places.devices
                ),
                choice=self._share((content.accepts,)),
                counts=tuple(count for _, count, _, _ in places.devices),
                named=tuple(
                    dict.fromkeys(
                        (content.number, content.of_host, bool(count))
                        for _, count, _, _ in places.devices
                    )
                ),
            )
        self._groups[text] = made
        return made

    def _content(self, text: str) -> Content:
        known = self._contents.get(text)
        if known is None:
            known = self._contents[text] = self._unpack_content(text)
        return known

    def _unpack_content(self, text: str) -> Content:
        """Places in what is wrong begin with a dot: the group's is put before it."""
        size, said, group = 0, "", None
        try:
            said = packing.unpack(text, "", stats_2.MOST_UNPACKED)
            size = len(said)
            group = checks.parse(said, stats_2.MOST_UNPACKED)
            content = checks.object_of(group, "")
            if "x" in content:
                why = checks.text_of(content["x"], ".x")
                family = family_of(group)
                return Content(size, tokens.content_of(said), family, left_out=why)
            number, accepts = self._accept_set(content, "")
            return Content(
                size,
                tokens.content_of(said),
                accepts.family,
                number,
                accepts,
                of_host=checks.flag_of(content.get("h", False), ".h"),
            )
        except Malformed as error:
            return Content(size, "", family_of(group), problem=str(error))

    def _document(self, meta: Meta, found: Found, providers: bytes) -> HostDocument:
        # A host is one thing: of two parts of a family nobody could tell which it is.
        for family in [family for family, parts in found.host.items() if len(parts) > 1]:
            why = f"{len(found.host.pop(family))} parts of the host"
            found.unreadable.setdefault(family, why)
            found.certain = False
        whole = meta.whole and not found.unreadable
        return LaterDocument.of(
            PlacedGroups(groups=tuple(found.groups), providers=providers, share=self._share),
            catalog=meta.catalog,
            whole=whole,
            host=tuple(part for parts in found.host.values() for part in parts),
            unreadable=found.unreadable,
            unreadable_providers=frozenset(found.lost),
            policies=meta.policies,
            reads=meta.reads,
            post_copy=meta.post_copy,
            version=2,
            unnamed=meta.unnamed,
            context=self._context(whole, found) if found.certain else None,
        )

    def _context(self, whole: bool, found: Found) -> str:
        key = (whole, tuple(found.left_out), tuple(found.contents))
        known = self._contexts.get(key)
        if known is None:
            known = self._contexts[key] = tokens.context_of(
                whole=whole, left_out=found.left_out, host=found.contents
            )
        return known


def _split(body: object, size: int) -> tuple[str, str, str]:
    """Meta, providers and groups of a body that is as it was written."""
    if not isinstance(body, str) or not body.isascii():
        raise Malformed("d", "no ASCII text")
    begin = len(stats_2.BEGIN)
    digest_at = stats_2.DIGEST.start - begin
    rest = body[stats_2.DIGEST.stop - begin :]
    if body[:digest_at] != f"{size:0{digest_at}}":
        raise Malformed("", f"{size} characters, not as many as it says")
    said = body[digest_at : stats_2.DIGEST.stop - begin]
    if said != packing.digest(rest, stats_2.DIGEST_SIZE):
        raise Malformed("", "its digest differs: it was changed on its way")
    parts = rest.split(":")
    if len(parts) != 4:
        raise Malformed("", f"{len(parts)} parts, not 4")
    return parts[1], parts[2], parts[3]


def _providers(text: str) -> bytes:
    data = packing.from_base64(text, "providers")
    if len(data) % UUID_SIZE:
        raise Malformed("providers", f"{len(data)} bytes, {UUID_SIZE} for each")
    return data


def _placed(text: str) -> Places:
    unpacked = packing.unpack(text, "devices", stats_2.MOST_UNPACKED)
    listed = checks.list_of(
        checks.parse(unpacked, stats_2.MOST_UNPACKED), "devices", checks.MOST_DEVICES
    )
    # Without these nobody could tell which providers those of other groups are.
    count = sum(_count_of(entry) for entry in listed)
    try:
        return Places(len(unpacked), count, tuple(map(_device, listed)))
    except Malformed as error:
        return Places(len(unpacked), count, problem=str(error))


def _count_of(entry: object) -> int:
    """How many providers a device has."""
    count = entry[1] if isinstance(entry, list) and len(entry) > 1 else None
    if isinstance(count, int) and not isinstance(count, bool) and count in _COUNTS:
        return count
    raise Malformed("devices", "of one the number of its providers cannot be told")


def _device(entry: Any) -> PlacedDevice:
    if len(entry) not in (3, 4):
        raise Malformed(".d", f"{len(entry)} items, not 3 or 4")
    runs = runs_of(entry[3], ".p") if len(entry) > 3 else ()
    names = None if entry[2] is None else _classes(entry[2], ".d")
    return checks.address_of(entry[0], ".d"), entry[1], names, runs


def _classes(content: object, place: str) -> tuple[str, ...]:
    """Resource classes."""
    listed = checks.list_of(content, place, checks.MOST_ATTRIBUTES)
    for name in listed:
        if not isinstance(name, str) or not stats_2.CLASS.fullmatch(name):
            raise Malformed(place, f"{checks.shown(name)} is no resource class")
    return tuple(listed)


def _add(found: Found, index: int, group: Group, providers: list[str]) -> None:
    """What a group of the host, or one that cannot be read, says, to what others do."""
    content = group.content
    if group.problem:
        if content.left_out:
            found.left_out.append((index, content.digest))
        else:
            found.certain = False
        found.unreadable.setdefault(content.family, printable(f"g[{index}]{group.problem}"))
        found.lost.update(providers)
        return
    found.contents.append(content.digest)
    found.host.setdefault(content.family, []).extend(group.at(providers))
