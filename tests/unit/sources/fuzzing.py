# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Inputs for parsers, many for each example of hypothesis, which alone takes a millisecond."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.budget import scaled

#: Inputs a test.
INPUTS = scaled(1000)
#: Of these for each example of hypothesis.
EACH = 50

#: For tests where hypothesis finds the shapes that matter; numbers are for those of :func:`fuzz`.
shapes = settings(max_examples=scaled(150), database=None, suppress_health_check=list(HealthCheck))


def fuzz(test: Callable[[random.Random], None]) -> Callable[[], None]:
    """Have a test run :data:`INPUTS` times, each time with another state of a generator."""

    def run(seed):
        for number in range(EACH):
            test(random.Random(f"{seed} {number}"))

    run.__name__, run.__qualname__, run.__module__ = (
        test.__name__,
        test.__qualname__,
        test.__module__,
    )
    seeds = given(seed=st.integers(0, 2**64 - 1))
    return settings(max_examples=INPUTS // EACH)(seeds(run))


def mutate(generator: random.Random, text: bytes, words: Sequence[bytes]) -> bytes:
    """The text with one to three things changed: cut, doubled, or replaced."""
    for _ in range(generator.randint(1, 3)):
        start = generator.randrange(len(text) + 1)
        end = min(len(text), start + generator.choice([0, 1, 5, 50, 500]))
        new = generator.choice(
            [
                b"",
                text[start:end] * 2,
                generator.choice(words),
                generator.randbytes(generator.randint(1, 20)),
            ]
        )
        text = text[:start] + new + text[end:]
    return text
