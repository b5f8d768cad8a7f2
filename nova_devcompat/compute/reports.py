# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What report mode would have refused on this host, each request once."""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterable
from typing import Any

from oslo_log import log as logging

from nova_devcompat.compat.verdict import Reason

LOG = logging.getLogger(__name__)

# Requests of which it is remembered what was reported. Those that are decided twice are so within
# seconds; the limit only bounds what stays behind.
_REQUESTS_KEPT = 1000


class Reports:
    """Logs what would have been refused and counts it.

    A live migration is decided twice, before its devices are claimed and afterwards: it counts
    once, and what was said already is not said again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._said: collections.OrderedDict[tuple[str, str], set[Reason]] = (
            collections.OrderedDict()
        )

    def add(self, context: Any, instance: Any, reasons: Iterable[Reason]) -> None:
        """Report what speaks against an instance on this host.

        :param context: its ``request_id`` tells one request from others
        """
        key = instance.uuid, context.request_id
        with self._lock:
            if key not in self._said:
                self._count += 1
            said = self._said.setdefault(key, set())
            new = [reason for reason in dict.fromkeys(reasons) if reason not in said]
            said.update(new)
            self._said.move_to_end(key)
            while len(self._said) > _REQUESTS_KEPT:
                self._said.popitem(last=False)
            count = self._count
        if new:
            LOG.warning(
                "Report mode: this host would refuse the instance (%(count)d so far): %(reasons)s",
                {"count": count, "reasons": "; ".join(map(str, new))},
                instance=instance,
            )
