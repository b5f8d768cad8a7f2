# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How the tools end when they are told to: SIGTERM is to them what Ctrl-C is."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable


def run(main: Callable[[], int]) -> int:
    """Run a tool's main function.

    :returns: the exit status: that of the function, or 130 if it was interrupted
    """
    catch_sigterm()
    try:
        return main()
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def catch_sigterm() -> None:
    """Have SIGTERM raise KeyboardInterrupt, so that what was begun is cleaned up."""
    signal.signal(signal.SIGTERM, _interrupted)


def _interrupted(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
