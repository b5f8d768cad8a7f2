# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How much tests look at that draw their inputs: ``DEVCOMPAT_BUDGET``.

Unset it is the usual budget, a part, which is drawn alike each time; ``night`` is the large one,
drawn anew each time. ``small`` is for what runs the tests very many times: tools/mutants.sh.
Nothing of hypothesis is needed here.
"""

from __future__ import annotations

import os

#: By day a test looks at this part of its number.
BY_DAY = 2
#: At night, at so many times as much.
NIGHTLY = 50
#: With the small budget, at this part.
SMALLER = 10

NAMES = ("usual", "night", "small")
NAME = os.environ.get("DEVCOMPAT_BUDGET") or NAMES[0]
if NAME not in NAMES:
    raise ValueError(f"DEVCOMPAT_BUDGET={NAME}: it is one of {', '.join(NAMES)}")


def scaled(number: int, *, by_day: int = BY_DAY, name: str = NAME) -> int:
    """How many inputs, examples or sequences a test is to look at.

    :param number: what the budgets are parts and multiples of
    :param by_day: which part is looked at by day; larger for a test that is slow, 1 for all
    :param name: of the budget
    """
    parts = {"usual": by_day, "small": SMALLER}
    return number * NIGHTLY if name == "night" else max(1, number // parts[name])


#: Examples of a property that does not say how many, by budget.
EXAMPLES = {name: scaled(50, name=name) for name in NAMES}
