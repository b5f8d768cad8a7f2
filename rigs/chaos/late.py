# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Run a Python program whose clock libfaketime turns back, with a sleep that works there.

    python late.py PROGRAM ARGUMENT...

Python sleeps until a time of the monotonic clock (clock_nanosleep, TIMER_ABSTIME), which
libfaketime takes for one of the clock that it turns back, and refuses: EINVAL. If it turns the
monotonic clock back too, waiting for events with a limit takes minutes too long.
"""

from __future__ import annotations

import runpy
import select
import sys
import time
from typing import SupportsIndex


def sleep(seconds: float | SupportsIndex) -> None:
    """As time.sleep, by other means."""
    left = seconds if isinstance(seconds, float) else float(seconds.__index__())
    end = time.monotonic() + left
    while left >= 0:
        select.select([], [], [], left)
        left = end - time.monotonic()


if __name__ == "__main__":
    time.sleep = sleep
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
