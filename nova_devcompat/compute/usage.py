# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What running guests use of their devices, where a source knows it.

A guest's need is frozen before the guest's own driver has said anything. What the driver then
negotiates is what the guest depends on, after a reboot of its own too, which nobody tells Nova of.
So it is looked up in the cycles of the resource tracker.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any

from nova import context as nova_context
from nova import exception, objects
from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_devcompat import wire
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.record import Record
from nova_devcompat.compute.host import ThisHost
from nova_devcompat.host.devices import HostDevices
from nova_devcompat.stores import records, writer
from nova_devcompat.stores.writer import Change

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class _Use:
    """What a guest uses of one attribute of a device.

    :param guest: UUID of the guest, or of its mdev
    :param device: the address of the device, or of the parent of the function
    :param values: as needs have them
    """

    guest: str
    device: str
    attribute: str
    values: frozenset[str]


class _NotHere(Exception):
    """A guest is on another host, as far as Nova knows."""


@dataclasses.dataclass(slots=True)
class _Node:
    """What is remembered of a node.

    :ivar seen: what was used in the last cycle, with how often the guest had been forgotten
    :ivar done: of that, what is recorded
    :ivar owners: guests by the mdevs that they have
    """

    seen: dict[_Use, int] = dataclasses.field(default_factory=dict)
    done: dict[_Use, int] = dataclasses.field(default_factory=dict)
    owners: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def owner(self, use: _Use) -> str:
        return self.owners.get(use.guest, use.guest)


class Usage:
    """Brings the needs of guests in line with what these use.

    :param host: this host
    :param guests_of_mdevs: the guest's UUID by that of its mdev; may raise
    """

    def __init__(self, host: ThisHost, guests_of_mdevs: Callable[[], Mapping[str, str]]) -> None:
        self._host = host
        self._guests_of_mdevs = guests_of_mdevs
        self._lock = threading.Lock()
        self._nodes: dict[str, _Node] = {}
        # By UUID of a guest, how often it was forgotten.
        self._starts: collections.Counter[str] = collections.Counter()
        self._started = False

    def forget(self, uuid: str) -> None:
        """Take nothing for granted of one guest: its devices were initialised a moment ago.

        What was read before may be of the driver that ran until then.
        """
        with self._lock:
            self._starts[uuid] += 1
            self._started = True

    def go_on(self, nodename: str) -> None:
        """Record what is seen in two cycles on end.

        In the first of these it was published, so that other hosts have said by now whether they
        accept it.
        """
        devices = self._host.publisher.devices(nodename)
        # Of functions of one device each tells what guests of all of them use.
        telling = {(one.place, id(one.in_use)): one for one in devices or ()}
        uses = {
            _Use(guest, device.place, attribute, values)
            for device in telling.values()
            for attribute, guests in device.in_use.items()
            for guest, values in guests.items()
        }
        node = self._nodes.setdefault(nodename, _Node())
        with self._lock:
            started = self._started
            self._started = False
        # A mediated device can be given to another guest. Where none uses anything, and while
        # nothing changes, nobody is asked whose they are.
        if uses and (started or not uses <= node.done.keys()):
            node.owners = self._owners()
        with self._lock:
            starts = {use: self._starts[node.owner(use)] for use in uses}
        recorded = {
            use
            for use in uses & node.seen.keys()
            # Seen of the same start before, and not recorded of that.
            if node.seen[use] == starts[use] != node.done.get(use)
            and devices
            and self._record(node.owner(use), use, devices)
        }
        node.done = {
            use: starts[use]
            for use in uses
            if use in recorded or node.done.get(use) == starts[use]
        }
        node.seen = starts
        with self._lock:
            # Counts of guests that use nothing any more are of no use to anybody.
            using = {each.owner(use) for each in self._nodes.values() for use in each.seen}
            for uuid in self._starts.keys() - using:
                del self._starts[uuid]

    def _owners(self) -> Mapping[str, str]:
        try:
            return self._guests_of_mdevs()
        except Exception:
            LOG.exception("Whose the mediated devices are could not be told")
            return {}

    def _record(self, uuid: str, use: _Use, devices: HostDevices) -> bool:
        """Write it to the guest's record.

        :returns: whether there is nothing left to do
        """
        if not devices.may_be(use.device) or not uuidutils.is_uuid_like(uuid):
            return True
        context = nova_context.get_admin_context()

        def read() -> Any:
            instance = objects.Instance.get_by_uuid(
                context, uuid, expected_attrs=list(records.RECORD_ATTRIBUTES)
            )
            if instance.host != self._host.name:
                raise _NotHere
            return instance

        need: Need | None = None

        def merge(record: Record | None) -> Change | None:
            nonlocal need
            if record is None:
                return None
            need = Need(
                devices=tuple(
                    _using(one, use) if _is_of(one, use.device, devices) else one
                    for one in record.need.devices
                )
            )
            return None if need == record.need else Change(need=need)

        try:
            changed = writer.write(uuid, read, merge, idle=True)
        except (exception.UnexpectedTaskStateError, _NotHere):
            return False
        except (exception.InstanceNotFound, wire.WireError):
            return True
        if need is None:
            return False
        if not changed:
            return True
        LOG.info(
            "The guest uses %(attribute)s %(values)s; it needs now: %(need)s",
            {
                "attribute": use.attribute,
                "values": ", ".join(sorted(use.values)),
                "need": "; ".join(map(str, need.devices)),
            },
            instance_uuid=uuid,
        )
        # Somebody who read the instance before may save it after this, as Nova's source of a
        # resize does (nova/compute/manager.py, _delete_stashed_flavor_info): to be looked at once
        # more.
        return False


def _is_of(need: DeviceNeed, place: str, devices: HostDevices) -> bool:
    device = devices.find(need.address)
    return device is not None and (device.family, device.place) == (need.family, place)


def _using(need: DeviceNeed, use: _Use) -> DeviceNeed:
    return dataclasses.replace(
        need,
        values=tuple(
            (attribute, use.values if attribute == use.attribute else values)
            for attribute, values in need.values
        ),
        assumed=need.assumed - {use.attribute},
    )
