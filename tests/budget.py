# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How much tests look at that draw their inputs: ``DEVCOMPAT_BUDGET``.

Unset it is the usual budget, which is drawn alike each time; ``night`` is the large one, drawn
anew each time. ``small`` is a tenth, for what runs the tests very many times: tools/mutants.sh.
Nothing of hypothesis is needed here.
"""

from __future__ import annotations

import os

#: At night a test looks at so many times as much.
NIGHTLY = 50
#: With the small budget, so many times less.
SMALLER = 10
#: Examples of a property that does not say how many.
EXAMPLES = 50

NAMES = ("usual", "night", "small")
NAME = os.environ.get("DEVCOMPAT_BUDGET") or NAMES[0]
if NAME not in NAMES:
    raise ValueError(f"DEVCOMPAT_BUDGET={NAME}: it is one of {', '.join(NAMES)}")


def scaled(usual: int) -> int:
    """How many inputs, examples or sequences a test is to look at.

    :param usual: how many those are by day
    """
    if NAME == "small":
        return max(1, usual // SMALLER)
    return usual * NIGHTLY if NAME == "night" else usual
