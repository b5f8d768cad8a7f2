# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Tells operators what is wrong once, not in each cycle."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

LOG = logging.getLogger(__name__)


class Told:
    """Keeps what has been told of things that cannot be used.

    Safe for several threads.

    :param who: whom it is about: a node, or ``Source libvirt``
    :param known: what has been told of it elsewhere
    """

    def __init__(self, who: str, known: Mapping[str, str] | None = None) -> None:
        self._who = who
        self._lock = threading.Lock()
        self._known = dict(known or {})

    def update(self, problems: Mapping[str, str]) -> None:
        """Log a WARNING for each that is new or other than before, an INFO for each that is gone.

        :param problems: all that there are now: what cannot be used, and why
        """
        with self._lock:
            known, self._known = self._known, dict(problems)
        for what, why in problems.items():
            if known.get(what) != why:
                LOG.warning("%s: %s cannot be used until this is mended: %s", self._who, what, why)
        for what in known.keys() - problems.keys():
            LOG.info("%s: %s can be used again, or is gone", self._who, what)
