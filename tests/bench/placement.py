# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What our traits cost placement.

Run ``python -m tests.bench placement [--hosts N]``. Placement has 10,000 hosts: a root provider
with 60 traits of Nova's, and one for each of four devices of three families. It is asked for
allocation candidates as Nova's scheduler asks, of which it gives 1,000 at most; through WSGI in
this process, on SQLite. Nova's own request is asked of the same hosts without any trait of ours;
between rounds they are taken from the roots and given back. ``hosts have ours`` is the same
request, which does not concern us; the others require of hosts what many or few of them accept.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Iterator

import webob

from tests.bench import nova_cloud
from tests.bench.hosts import Kind
from tests.bench.measuring import Row, Size, Times, figure, timed
from tests.bench.nova_cloud import TRAITS_OF_NOVA, Cloud, Host, Providers

KIND = Kind(families=3)
HOSTS = 10_000
#: An answer may grow by so much of it.
GROWTH = 1.2
#: What is measured varies by as much from one round to the next.
NO_SLOWER = 1.05

_PATH = (
    "/allocation_candidates?limit=1000&resources=VCPU:2,MEMORY_MB:4096,DISK_GB:20,VGPU:1"
    "&root_required="
)
_OF_NOVA = ("OWNER_NOVA", "%21COMPUTE_STATUS_DISABLED")
_HEADERS = {"OpenStack-API-Version": "placement 1.36", "x-auth-token": "admin"}


def rows(size: Size) -> Iterator[Row]:
    """Those of a request that does not concern us, and of those that do."""
    found: list[Row] = []
    nova_cloud.run(lambda cloud: found.extend(_measured(cloud, size)))
    yield from found


def _ask(cloud: Cloud, traits: tuple[str, ...]) -> bytes:
    request = webob.Request.blank(_PATH + ",".join([*_OF_NOVA, *traits]), headers=_HEADERS)
    answer = request.get_response(cloud.counted.app)
    assert answer.status_code == 200, answer.text
    return bytes(answer.body)


def _timed(cloud: Cloud, traits: tuple[str, ...]) -> tuple[float, bytes]:
    found: list[bytes] = []
    return timed(lambda: found.append(_ask(cloud, traits))), found[0]


def _requests(made: list[Host]) -> dict[str, tuple[str, ...]]:
    """What is required of hosts, by a description that says how many have it."""
    having = collections.Counter(trait for host in made for trait in host.traits)
    ordered = [trait for trait, _ in having.most_common() if "_GPU__VERSION__" in trait]

    def described(traits: tuple[str, ...]) -> str:
        hosts = sum(set(traits) <= set(host.traits) for host in made)
        return f"{len(traits)} required, {hosts:,} hosts have them"

    chosen = [(ordered[0],), (ordered[-1],), (ordered[0], ordered[len(ordered) // 2], ordered[-1])]
    return {"hosts have ours": (), **{described(traits): traits for traits in chosen}}


def _measured(cloud: Cloud, size: Size) -> Iterator[Row]:
    count = size.of(HOSTS, 6)
    made = nova_cloud.make_hosts(KIND, count)
    providers = Providers(made)
    providers.write()
    requests = _requests(made)
    times: dict[str, list[float]] = {name: [] for name in requests}
    stock: list[float] = []
    answers: dict[str, bytes] = {}
    without = b""
    for turn in range(size.unmeasured + size.rounds(5)):
        for name, traits in requests.items():
            seconds, answers[name] = _timed(cloud, traits)
            if turn >= size.unmeasured:
                times[name].append(seconds)
        providers.take_ours()
        seconds, without = _timed(cloud, ())
        if turn >= size.unmeasured:
            stock.append(seconds)
        providers.put_ours()
    many = f"{count:,} hosts"
    enough = count >= HOSTS
    yield Row(
        case=f"{many}, traits of the one that has most",
        unit="traits",
        ours=figure(max(len(host.traits) for host in made)),
        stock=figure(TRAITS_OF_NOVA),
        beside="Nova's own",
    )
    for name, listed in times.items():
        yield Row(
            case=f"{many}, {name}",
            unit="ms",
            ours=Times.of(listed, 1e3),
            stock=Times.of(stock, 1e3),
            beside="Nova's request of the same hosts without ours",
            budget=NO_SLOWER,
            enough=enough,
        )
    candidates = len(json.loads(without)["allocation_requests"])
    assert candidates == len(json.loads(answers["hosts have ours"])["allocation_requests"])
    yield Row(
        case=f"{many}, answer of {candidates:,} candidates",
        unit="kB",
        ours=figure(len(answers["hosts have ours"]) / 1e3),
        stock=figure(len(without) / 1e3),
        beside="the same hosts without ours",
        budget=GROWTH,
        enough=enough,
    )
