# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the hooks of our driver have in common."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from nova.virt import driver as virt_driver
from oslo_log import log as logging

from nova_devcompat.compute.adopt import Adoption
from nova_devcompat.compute.guests import Guests
from nova_devcompat.compute.host import ThisHost
from nova_devcompat.compute.reports import Reports
from nova_devcompat.compute.usage import Usage

LOG = logging.getLogger(__name__)


class Inside(threading.local):
    """What a thread is doing.

    :ivar uuids: of the instances that it is in an operation on
    :ivar suspended: of those that were suspended in the course of another operation
    """

    def __init__(self) -> None:
        self.uuids: set[str] = set()
        self.suspended: set[str] = set()


@contextlib.contextmanager
def never_failing(doing: str, instance: Any = None) -> Iterator[None]:
    """Our own faults are logged and end here: nova-compute goes on without us."""
    try:
        yield
    except Exception:
        kwargs = {"instance": instance} if instance is not None else {}
        LOG.exception("nova-devcompat could not %s", doing, **kwargs)


class Shared(virt_driver.ComputeDriver):
    """What each group of hooks finds in our driver, which makes it."""

    _devcompat_host: ThisHost
    _devcompat_guests: Guests
    _devcompat_adoption: Adoption
    _devcompat_usage: Usage
    _devcompat_reports: Reports
    _devcompat_inside: Inside

    def _nodename(self) -> str:
        # Drivers with several nodes (Ironic) do not live migrate.
        return str(self.get_available_nodes()[0])

    def _node_of(self, instance: Any) -> str:
        # An evacuated instance still names the node that it was on when it is spawned here.
        nodes = self.get_available_nodes()
        return str(instance.node if instance.node in nodes else nodes[0])

    @contextlib.contextmanager
    def _operation(self, instance: Any) -> Iterator[bool]:
        """Whether this is what Nova asked for, not a step that the wrapped driver takes in it.

        Nova's fake driver spawns a guest that has arrived by live migration, for example.
        """
        inside = self._devcompat_inside.uuids
        if instance.uuid in inside:
            yield False
            return
        inside.add(instance.uuid)
        try:
            yield True
        finally:
            inside.discard(instance.uuid)
