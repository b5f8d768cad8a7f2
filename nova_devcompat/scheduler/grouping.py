# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which hosts a request comes to the same on, by no more of their texts than it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nova_devcompat import wire
from nova_devcompat.compat.verdict import Reason
from nova_devcompat.scheduler import state, told
from nova_devcompat.scheduler.mobility import Group, Mobility
from nova_devcompat.wire import stats_2


class Grouping:
    """Divides the hosts of one request into groups.

    Where all devices of a host accept the same, the head of its document says it all, if the text
    is of that length; so do all of its tokens in format 2, where those that the guest would be
    given do.

    :param mobility: makes the groups
    :param document_of: reads what a host published, or tells why nothing is known of it
    """

    def __init__(
        self, mobility: Mobility, document_of: Callable[[Any], wire.HostDocument | Reason]
    ) -> None:
        self._mobility = mobility
        self._document_of = document_of
        # By a part of texts, the group that it tells, and how long such a text is, 0 where it says
        # so itself.
        self._told: dict[str, tuple[Group, int]] = {}
        # Tokens that a host has: where another has them too, it is worth to find out whether they
        # say it all.
        self._once: set[str] = set()

    def of(self, hosts: Sequence[Any]) -> list[Group]:
        """The group of each host, which is counted in it."""
        groups: list[Group] = []
        # Done for each of up to 10,000 hosts (tests/bench/weigher.py).
        by_part, add, says_length = self._told, groups.append, stats_2.LENGTH
        part = wire.HEAD
        for host, text in state.with_texts(hosts):
            try:
                group, size = by_part[text[part]]
                known = len(text) == (size or int(text[says_length]))
            except (KeyError, TypeError, ValueError):
                known = False
            if not known:
                group, part = self._look_at(host, text, part)
            group.hosts += 1
            add(group)
        return groups

    def _look_at(self, host: Any, text: Any, part: slice) -> tuple[Group, slice]:
        """The group of a host, and which part of other texts may tell theirs.

        :param part: the one that was looked at last
        """
        all_tokens = told.tokens_in(text)
        if all_tokens is not None and text[all_tokens] in self._told:
            return self._told[text[all_tokens]][0], all_tokens
        document = self._document_of(host)
        group = self._mobility.group(document, host.allocation_candidates)
        if not isinstance(document, wire.HostDocument):
            return group, part
        if document.shape in self._mobility.by_shape and wire.says_its_length(text):
            self._told[text[wire.HEAD]] = group, len(text)
            return group, wire.HEAD
        if all_tokens is None:
            return group, part
        tokens = text[all_tokens]
        if tokens not in self._once:
            self._once.add(tokens)
        elif told.tells_all(document, text, host.allocation_candidates):
            self._told[tokens] = group, 0
            return group, all_tokens
        return group, part
