# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Adoption: guests that run without a record, or with one that lacks what the catalog has gained.

Their needs are read off their devices as these are now, which may be newer than what the guests
depend on; hence they are marked as assumed.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from nova import context as nova_context
from nova import exception, objects
from oslo_log import log as logging

from nova_devcompat import wire
from nova_devcompat.compat.need import Need
from nova_devcompat.compute.guests import Guests
from nova_devcompat.compute.host import ThisHost
from nova_devcompat.host.inventory import HostDevices
from nova_devcompat.stores import records
from nova_devcompat.stores.assigned import has_devices
from nova_devcompat.stores.instances import RUNNING
from nova_devcompat.stores.placement import PlacementError

LOG = logging.getLogger(__name__)

# Adoption goes on in the cycles of the resource tracker, the first of which is part of the start
# of nova-compute. So much of each may go into it.
SECONDS_A_CYCLE = 5.0
_PROGRESS_EVERY = 100


class Adoption:
    """Completes the records of one service's guests, a slice in each cycle.

    Done once after the start, and once more whenever the catalog or the devices of a family have
    changed, or what could not be read can be: a source that could not read at the start is not the
    end of it.

    :param host: this host
    :param guests: freezes needs
    """

    def __init__(self, host: ThisHost, guests: Guests) -> None:
        self._host = host
        self._guests = guests
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}

    def go_on(self, nodename: str, seconds: float = SECONDS_A_CYCLE) -> None:
        """Do what is due on a node, for a bounded time; what is left is done in later cycles."""
        devices = self._host.publisher.devices(nodename)
        if devices is None:
            return
        cause = (
            devices.catalog.digest,
            frozenset((one.address, one.family) for one in devices.everything),
            devices.fully_read,
        )
        # Two cycles of one node do not overlap in Nova; whoever comes second has nothing to do.
        if not self._lock.acquire(blocking=False):
            return
        try:
            run = self._runs.get(nodename)
            if run is None or run.cause != cause:
                run = self._runs[nodename] = _Run(cause, self._guests_of(nodename))
            if run.left:
                self._slice(run, nodename, devices, time.monotonic() + seconds)
        finally:
            self._lock.release()

    def _guests_of(self, nodename: str) -> list[str]:
        found = objects.InstanceList.get_by_host_and_node(
            nova_context.get_admin_context(), self._host.name, nodename, expected_attrs=[]
        )
        return [instance.uuid for instance in found if instance.power_state in RUNNING]

    def _slice(self, run: _Run, nodename: str, devices: HostDevices, deadline: float) -> None:
        context = nova_context.get_admin_context()
        busy = []
        while run.left and time.monotonic() < deadline:
            uuid = run.left.pop()
            try:
                run.completed += self._adopt(context, uuid, nodename, devices)
            except (exception.UnexpectedTaskStateError, PlacementError):
                busy.append(uuid)
                continue
            except exception.InstanceNotFound:
                pass
            except Exception:
                LOG.exception("Instance %s could not be adopted", uuid)
            run.seen += 1
            if run.seen % _PROGRESS_EVERY == 0:
                LOG.info(
                    "%(node)s: adoption: %(seen)d guests looked at, %(completed)d records "
                    "completed, %(left)d to go",
                    {
                        "node": nodename,
                        "seen": run.seen,
                        "completed": run.completed,
                        "left": len(run.left) + len(busy),
                    },
                )
        run.left += busy
        if not run.left and run.completed:
            LOG.info(
                "%(node)s: adoption done: %(seen)d guests looked at, %(completed)d records "
                "completed from the devices as they are now",
                {"node": nodename, "seen": run.seen, "completed": run.completed},
            )

    def _adopt(self, context: Any, uuid: str, nodename: str, devices: HostDevices) -> bool:
        """Complete one guest's record.

        :returns: whether there was anything to complete
        :raises UnexpectedTaskStateError: something is being done to the guest
        :raises PlacementError: it does not say what the guest has allocated
        """
        instance = objects.Instance.get_by_uuid(
            context,
            uuid,
            expected_attrs=["system_metadata", "flavor", "pci_devices", "pci_requests"],
        )
        if instance.task_state is not None:
            raise exception.UnexpectedTaskStateError(
                instance_uuid=uuid, expected="no task", actual=instance.task_state
            )
        if instance.host != self._host.name or instance.power_state not in RUNNING:
            return False
        try:
            recorded = records.load(instance) or Need()
        except wire.WireError as error:
            LOG.warning(
                "Not adopted: %s. 'nova-devcompat need clear' and 'need backfill' make a new one",
                error,
                instance=instance,
            )
            return False
        assigned = (
            self._host.assigned(context, instance, nodename, devices)
            if len(devices) or has_devices(instance)
            else []
        )
        if self._guests.untold(instance, assigned):
            return False
        need = recorded.completed(self._guests.need_of(instance, assigned, devices))
        exists = records.exists(instance)
        always = exists or self._guests.needs_record(instance, devices)
        if need == recorded and exists is always:
            return False
        records.store(instance, need, assigned=always)
        # What begins meanwhile comes first, and may freeze the need itself.
        instance.save(expected_task_state=[None])
        return True


class _Run:
    """What is left to look at since the last change of cause."""

    def __init__(self, cause: object, left: list[str]) -> None:
        self.cause = cause
        self.left = left
        self.seen = 0
        self.completed = 0
