# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What ``nova-devcompat metrics`` costs once a cloud is read.

Run ``python -m tests.bench.metrics [--hosts N] [--guests N]``. The cloud is that of
:mod:`tests.bench.stranded`. All kinds of guests are asked about all kinds of hosts, twice where
few hosts take a guest: as it is, and as if all families were enforced.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import resource
import time
from collections.abc import Iterator

from nova_devcompat.fleet.tally import Tally
from tests.bench.measuring import Row, Size, Times
from tests.bench.stranded import CATALOG, POLICIES, guests, hosts


def run(host_count: int, guest_count: int, *, torn: bool) -> dict[str, object]:
    """What it costs, and what came of it."""
    tally = Tally(CATALOG, POLICIES, datetime.datetime.now(datetime.UTC))
    read = hosts(host_count, torn=torn), guests(guest_count, host_count, torn=torn)
    start = time.process_time()
    outlook = tally.outlook(itertools.chain(*read), {})
    read_in = time.process_time() - start
    start = time.process_time()
    tally.judge(outlook)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {
        "case": "torn" if torn else "mixed",
        "read": read_in,
        "cpu": seconds,
        "pairs": tally.pairs,
        "stranded": sum(tally.stranded.values()),
        "peak_mib": peak,
    }


def rows(size: Size) -> Iterator[Row]:
    """Those of both cases, of 2,000 hosts and 50,000 guests."""
    host_count = size.of(2_000, 4)
    guest_count = 25 * host_count
    for torn in (False, True):
        turns = [run(host_count, guest_count, torn=torn) for _ in range(size.rounds(2))]
        yield Row(
            case=f"{turns[0]['case']}, {guest_count:,} guests",
            unit="s",
            ours=Times.of(float(one["cpu"]) for one in turns),
            stock=Times.of(float(one["read"]) for one in turns),
            beside="reading the same from memory; Nova has no such question",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=2_000)
    parser.add_argument("--guests", type=int, default=40_000)
    options = parser.parse_args()
    for torn in (False, True):
        found = run(options.hosts, options.guests, torn=torn)
        print(
            "{case}: {cpu:.1f} s of CPU, {pairs} pairs, {stranded} stranded, "
            "{peak_mib} MiB".format(**found)
        )


if __name__ == "__main__":
    main()
