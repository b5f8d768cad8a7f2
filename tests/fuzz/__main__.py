# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Run the fuzzer: ``python -m tests.fuzz [--count N] [--seed N]``; a failure names its input."""

from __future__ import annotations

import argparse
import collections
import pathlib
import random
import tempfile
import time
from collections.abc import Callable

from tests.fuzz.consumers import Consumers

# How often each kind of input is drawn.
_SHARES = {"stats": 34, "stats_2": 10, "record": 34, "traits": 8, "flavor": 12, "inventory": 2}


class Failed(AssertionError):
    """An input that a consumer did not stand; its text has the input and how to draw it again."""


def run(count: int, seed: int, folder: pathlib.Path) -> str:
    """Feed inputs to all consumers.

    :param count: how many
    :param seed: they are drawn alike for the same seed
    :param folder: where files can be written
    :returns: figures in a line
    :raises Failed: something that must hold did not, or a consumer raised
    """
    rng = random.Random(seed)
    consumers = Consumers(folder)
    feed: dict[str, Callable[[random.Random], object]] = {
        kind: getattr(consumers, kind) for kind in _SHARES
    }
    drawn = rng.choices(list(_SHARES), list(_SHARES.values()), k=count)
    began = time.process_time()
    for number, kind in enumerate(drawn):
        # Of its own, so that one input can be drawn again without those before it.
        own = f"{seed}/{number}"
        try:
            feed[kind](random.Random(own))
        except Exception as error:
            raise Failed(f"{kind} input {own}: {type(error).__name__}: {error}") from error
    consumers.page()
    seconds = time.process_time() - began
    kinds = collections.Counter(drawn)
    told = ", ".join(
        f"{kind} {kinds[kind]} ({consumers.read.get(kind, 0)} readable)" for kind in _SHARES
    )
    return f"{count} inputs in {seconds:.1f} s of CPU, seed {seed}: {told}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz what one process writes for others.")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="SEED/NUMBER KIND", nargs=2, help="one input, again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.only:
            own, kind = arguments.only
            print(getattr(Consumers(pathlib.Path(folder)), kind)(random.Random(own)))
            return
        print(run(arguments.count, arguments.seed, pathlib.Path(folder)))


if __name__ == "__main__":
    main()
