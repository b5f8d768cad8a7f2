# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Format 2 of the stats document, wrong somewhere, and the way of hosts that publish it."""

from __future__ import annotations

import copy
import json
import random
import types
from collections.abc import Sequence
from typing import Any

from nova_devcompat import wire
from nova_devcompat.compat.policy import Policies
from nova_devcompat.compat.ruling import Guest
from nova_devcompat.scheduler.judges import Judges
from nova_devcompat.scheduler.lookup import Lookup
from nova_devcompat.scheduler.prunings import Prunings
from nova_devcompat.scheduler.sorting import Sorting
from nova_devcompat.scheduler.state import SchedulerState
from nova_devcompat.wire import packing, stats_2
from tests.fuzz import inputs


def text_of(rng: random.Random, base: str) -> tuple[str, str | None]:
    """A document that is wrong somewhere.

    :param base: one in which all is well
    :returns: it, and the family of which alone something is wrong; None where all of it may be
    """
    if not rng.randrange(4):
        text = base
        for _ in range(rng.choice((1, 1, 2))):
            text = inputs.spoil_text(rng, text)
        return text, None
    head, meta, providers, listed = json.loads(base)["d"].split(":")
    groups = listed.split(",")
    at = rng.randrange(len(groups))
    said, _, placed = groups[at].partition(".")
    what = rng.randrange(8)
    family: str = json.loads(packing.unpack(said, "", 1 << 19))["f"]
    if what < 4:
        groups[at] = f"{_spoilt(rng, said)}.{placed}"
    elif what == 4:
        groups[at] = f"{said}.{_spoilt(rng, placed)}"
    elif what == 5:
        meta = _spoilt(rng, meta)
    elif what == 6:
        providers = inputs.spoil_text(rng, providers)
    else:
        head = inputs.spoil_text(rng, head)
    return whole(head, meta, providers, groups), family if what < 4 else None


def whole(head: str, meta: str, providers: str, groups: Sequence[str]) -> str:
    """A text of parts, its length and its digest as they must be."""
    begin = stats_2.DIGEST.stop - len(stats_2.BEGIN)
    rest = ":".join([head[begin:], meta, providers, ",".join(groups)])
    digest = packing.digest(rest.encode(errors="replace").decode(), stats_2.DIGEST_SIZE)
    size = len(json.dumps(rest)) - 2 + begin + len(stats_2.BEGIN) + len(stats_2.END)
    body = json.dumps(f"{size:05}{digest}{rest}")
    return f'{{"d":{body},"v":2}}'


def _spoilt(rng: random.Random, packed: str) -> str:
    """A packed part, wrong inside or outside."""
    if not rng.randrange(4):
        wrong = inputs.spoil_text(rng, packed)
        # What parts groups from each other would be another group.
        return "".join(one for one in wrong if one.isascii() and one not in ",.:")
    content = json.loads(packing.unpack(packed, "", 1 << 19))
    return packing.pack(inputs.dumps(inputs.spoil(rng, content)))


class _State(SchedulerState):
    """What schedulers share, without a catalog on disk."""

    def __init__(self, reader: wire.StatsReader, policies: Policies) -> None:
        self._reader = reader
        self._judges = Judges()
        self.prunings = Prunings()
        self._policies = policies

    def host_risks(self) -> dict[str, Any]:
        return {}

    def other_catalog(self, stats: Any) -> str:
        return ""

    def policies(self) -> Policies:
        return self._policies


def ways_of(
    texts: Sequence[Any], guest: Guest, policies: Policies, candidates: Sequence[Any]
) -> list[tuple[bool, int]]:
    """Of each host, whether it is left, and how many candidates it has.

    :param texts: what the hosts publish
    """
    hosts = [
        types.SimpleNamespace(
            host=f"h{number}",
            nodename="",
            stats={wire.STATS_KEY: text},
            allocation_candidates=copy.deepcopy(candidates),
        )
        for number, text in enumerate(texts)
    ]
    sorting = Sorting(_State(wire.StatsReader(), policies), None, Lookup("an-instance", guest))
    sorting.sort(hosts)
    left = {host.host for host in sorting.left}
    return [(host.host in left, len(host.allocation_candidates)) for host in hosts]
