# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Guests that are held back only because of where they were started, and a restart would free."""

from __future__ import annotations

from collections.abc import Iterable

from nova_devcompat.compat.knownbad import Bads
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.fleet.model import Host, Place


class Restarts:
    """Tells which entries of known-bad lists hold guests back until they are started anew.

    Judged by what hosts publish: an entry holds a guest back that another host names and that is
    about what the guest was started on; a restart frees it where its own host has something now
    that no entry of that host is about.

    :param hosts: those that guests could go to
    """

    def __init__(self, hosts: Iterable[Host]) -> None:
        self._hosts = {host.place: host for host in hosts}
        # By family and attribute, what each host names.
        self._bads: dict[tuple[str, str], list[tuple[Place, Bads]]] = {}
        for host in self._hosts.values():
            for accepts in host.parts:
                for attribute, entry in accepts.attributes.items():
                    if entry.open_world and entry.bad:
                        named = self._bads.setdefault((accepts.family, attribute), [])
                        named.append((host.place, entry.bad))

    def pending(self, place: Place, part: DeviceNeed) -> list[str]:
        """The names of the entries that hold a guest back by a part of its need, sorted.

        :param place: where the guest is
        """
        names = set()
        for attribute, values in part.values:
            for other, bads in self._bads.get((part.family, attribute), ()):
                if other == place:
                    continue
                held = _named(bads, values or ())
                now = self._now(place, part, attribute) if held else None
                if now is not None and not _named(bads, now):
                    names |= held
        return sorted(names)

    def _now(self, place: Place, part: DeviceNeed, attribute: str) -> frozenset[str] | None:
        """What a guest would have been started on if it were now; None where that is not known."""
        host = self._hosts.get(place)
        offered = () if host is None else host.answering(part)
        frozen = [
            one.attributes[attribute].frozen for one in offered if attribute in one.attributes
        ]
        if not frozen or None in frozen:
            return None
        return frozenset().union(*(values for values in frozen if values is not None))


def _named(bads: Bads, values: Iterable[str]) -> set[str]:
    """The entries that are known to be about one of some values."""
    return {
        bad.name for value in values for bad in bads.entries if bad.certain and bad.matches(value)
    }
