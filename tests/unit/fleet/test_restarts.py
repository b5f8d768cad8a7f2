# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which guests a restart would free of what is known not to work."""

from __future__ import annotations

import pytest

from nova_devcompat import wire
from nova_devcompat.compat.conditions import NUMERIC, parse_condition
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.kinds import Ordered, Origin
from nova_devcompat.compat.knownbad import Asked, KnownBad, KnownBads
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.fleet.model import Host, Place
from nova_devcompat.fleet.restarts import Restarts


def known_bad(name: str, need: str, offer: str, attribute: str = "origin") -> KnownBad:
    return KnownBad(
        name=name,
        need=attribute,
        condition=parse_condition(need, NUMERIC),
        by="numeric",
        offer=(
            Asked(attribute="version", condition=parse_condition(offer, NUMERIC), by="numeric"),
        ),
        message="it does not load",
        url="https://example.org",
    )


QEMU = Family(
    name="qemu",
    rules={"version": Ordered(), "origin": Origin()},
    subject=Subject.HOST,
    known_bad=KnownBads(
        (
            known_bad("8-to-9", "<9", ">=9,<10"),
            known_bad("8.0-to-9", "8.0", ">=9,<10"),
            known_bad("8-to-8.2", "8.2", "8.2"),
            known_bad("by-need", "<9", "9", attribute="version"),
        )
    ),
)


def host(name: str, version: str | None) -> Host:
    """As it is read from what it published."""
    offer = QEMU.offer({"version": version, "origin": version})
    part = wire.PublishedDevice(address="qemu", accepts=offer.accept_set(()))
    text = wire.dump_stats(wire.HostDocument(catalog="d", devices=(), host=(part,)))
    return Host(place=Place(name, name), said=wire.load_stats(text))


@pytest.mark.parametrize(
    ("started", "here", "other", "expected"),
    [
        # Its host was upgraded under it, and to be started there frees it.
        ("8.2", "9.1", "9.1", ["8-to-9"]),
        ("8.0", "9.1", "9.1", ["8-to-9", "8.0-to-9"]),
        # Started anew it would be the same.
        ("8.2", "8.2", "9.1", []),
        ("8.2", "8.1", "9.1", []),
        ("8.0", "8.1", "9.1", []),
        # Nothing holds it back.
        ("9.0", "9.1", "9.1", []),
        ("8.2", "9.1", "10.0", []),
        # Its own host's word is no matter: it is there.
        ("8.2", "9.1", "7.0", []),
        # What its host has now is not known.
        ("8.2", None, "9.1", []),
    ],
)
def test_pending(started, here, other, expected):
    restarts = Restarts([host("a", here), host("b", other)])
    need = DeviceNeed.of("qemu", {"version": [], "origin": [started]}, slot="host:qemu")
    assert restarts.pending(Place("a", "a"), need) == expected


def test_what_is_no_matter_of_where_a_guest_was_started():
    restarts = Restarts([host("a", "9.1"), host("b", "9")])
    need = DeviceNeed.of("qemu", {"version": ["8.2"], "origin": ["9.0"]}, slot="host:qemu")
    assert restarts.pending(Place("a", "a"), need) == []
    unknown = DeviceNeed.of("qemu", {"version": None, "origin": None}, slot="host:qemu")
    assert restarts.pending(Place("a", "a"), unknown) == []
    assert restarts.pending(Place("nowhere", "x"), need) == []
