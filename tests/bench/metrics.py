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

from nova_devcompat.fleet.tally import Tally
from tests.bench.stranded import CATALOG, POLICIES, guests, hosts


def run(host_count: int, guest_count: int, *, torn: bool) -> str:
    tally = Tally(CATALOG, POLICIES, datetime.datetime.now(datetime.UTC))
    read = hosts(host_count, torn=torn), guests(guest_count, host_count, torn=torn)
    outlook = tally.outlook(itertools.chain(*read), {})
    start = time.process_time()
    tally.judge(outlook)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return (
        f"{'torn' if torn else 'mixed'}: {seconds:.1f} s of CPU, {tally.pairs} pairs, "
        f"{sum(tally.stranded.values())} stranded, {peak} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=2_000)
    parser.add_argument("--guests", type=int, default=40_000)
    options = parser.parse_args()
    for torn in (False, True):
        print(run(options.hosts, options.guests, torn=torn))


if __name__ == "__main__":
    main()
