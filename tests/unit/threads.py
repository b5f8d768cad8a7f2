# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which threads a test has begun, whatever becomes of those of earlier tests."""

import threading


class Begun:
    """Threads begun since this was made. One of an earlier test may end at any time."""

    def __init__(self):
        self._earlier = set(threading.enumerate())

    def alive(self):
        """How many of them are left."""
        return len(set(threading.enumerate()) - self._earlier)
