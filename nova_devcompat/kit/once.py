# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Tells operators what is wrong once, not in each cycle."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping

LOG = logging.getLogger(__name__)


class Once:
    """Remembers what has been logged of things, so that it is logged once.

    Safe for several threads.

    :param who: whom it is about, for :meth:`update`: a node, or ``Source libvirt``
    :param known: what has been logged elsewhere, by thing
    """

    def __init__(self, who: str = "", known: Mapping[str, str] | None = None) -> None:
        self._who = who
        self._lock = threading.Lock()
        self._known: dict[str, object] = dict(known or {})

    def is_new(self, what: str, state: object = None) -> bool:
        """Whether nothing has been logged of a thing, or when it was in another state.

        From then on it has been.
        """
        with self._lock:
            new = what not in self._known or self._known[what] != state
            self._known[what] = state
        return new

    def is_over(self, what: str) -> bool:
        """Whether something had been logged of a thing, which has passed now."""
        with self._lock:
            known = what in self._known
            self._known.pop(what, None)
        return known

    def past(self, present: Iterable[str]) -> list[str]:
        """The things of which something had been logged, and which have passed now.

        :param present: all that have not
        """
        remaining = set(present)
        with self._lock:
            past = [what for what in self._known if what not in remaining]
            for what in past:
                del self._known[what]
        return past

    def update(self, problems: Mapping[str, str]) -> None:
        """Log a WARNING for each that is new or other than before, an INFO for each that is gone.

        :param problems: all that there are now: what cannot be used, and why
        """
        for what, why in problems.items():
            if self.is_new(what, why):
                LOG.warning("%s: %s cannot be used until this is mended: %s", self._who, what, why)
        for what in self.past(problems):
            LOG.info("%s: %s can be used again, or is gone", self._who, what)
