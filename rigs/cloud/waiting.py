# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Waiting for something, in bounded time and never in silence."""

from __future__ import annotations

import dataclasses
import http.client
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from rigs.cloud.layout import ADDRESS, CloudError

#: Seconds of waiting before it is worth a line.
PATIENCE = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """Tells whether a service can be used.

    :param what: what is checked, to follow the service's name
    :param met: tells; what it raises ends the waiting
    """

    what: str
    met: Callable[[], bool]


def until(
    what: str,
    met: Callable[[], bool],
    *,
    limit: float,
    alive: Callable[[], None] = lambda: None,
    problem: Callable[[], str] = lambda: "",
    quiet: bool = False,
    pause: float = 0.2,
) -> None:
    """Wait until something is so.

    :param what: what is waited for
    :param limit: seconds
    :param alive: raises if there is no use in waiting any more
    :param problem: what to add if it takes too long
    :param quiet: print nothing
    :raises CloudError: it was not so in time
    """
    started = time.monotonic()
    told = quiet
    while not met():
        alive()
        waited = time.monotonic() - started
        if waited > limit:
            raise CloudError(f"Waited {limit:.0f} s in vain for {what}.\n{problem()}".rstrip())
        if waited > PATIENCE and not told:
            told = True
            print(f"  waiting for {what} (at most {limit:.0f} s) ...", flush=True)
        time.sleep(pause)


def port(number: int, address: str = ADDRESS) -> Check:
    """Whether something listens."""

    def met() -> bool:
        try:
            with socket.create_connection((address, number), timeout=2):
                return True
        except OSError:
            return False

    return Check(what=f"to listen on {address}:{number}", met=met)


def http_answer(url: str) -> Check:
    """Whether an API answers with anything but a server's error."""

    def met() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return True
        except urllib.error.HTTPError as error:
            return error.code < 500
        except (OSError, http.client.HTTPException):
            return False

    return Check(what=f"to answer at {url}", met=met)
