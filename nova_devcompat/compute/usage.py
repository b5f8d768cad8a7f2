# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What running guests use of their devices, where a source knows it.

A guest's need is frozen before the guest's own driver has said anything. What the driver then
negotiates is what the guest depends on, after a reboot of its own too, which nobody tells Nova of.
So it is looked up in the cycles of the resource tracker.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping

from nova import context as nova_context
from nova import exception, objects
from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_devcompat import wire
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compute.host import ThisHost
from nova_devcompat.host.inventory import HostDevices
from nova_devcompat.stores import records

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


class Usage:
    """Brings the needs of guests in line with what these use.

    :param host: this host
    :param guests_of_mdevs: the guest's UUID by that of its mdev; may raise
    """

    def __init__(self, host: ThisHost, guests_of_mdevs: Callable[[], Mapping[str, str]]) -> None:
        self._host = host
        self._guests_of_mdevs = guests_of_mdevs
        self._lock = threading.Lock()
        self._seen: dict[str, frozenset[_Use]] = {}
        self._done: dict[str, frozenset[_Use]] = {}

    def forget(self) -> None:
        """Take nothing for granted: the devices of a guest were initialised a moment ago.

        What was read before may be of the driver that ran until then.
        """
        with self._lock:
            self._seen.clear()
            self._done.clear()

    def go_on(self, nodename: str) -> None:
        """Record what is seen in two cycles on end.

        In the first of these it was published, so that other hosts have said by now whether they
        accept it.
        """
        devices = self._host.publisher.devices(nodename)
        # Of functions of one device each tells what guests of all of them use.
        telling = {(one.place, id(one.in_use)): one for one in devices or ()}
        uses = frozenset(
            _Use(guest, device.place, attribute, values)
            for device in telling.values()
            for attribute, guests in device.in_use.items()
            for guest, values in guests.items()
        )
        with self._lock:
            seen = self._seen.get(nodename, frozenset())
            done = self._done.get(nodename, frozenset())
            self._seen[nodename] = uses
        due = (uses & seen) - done
        if due and devices:
            owners = self._owners(due)
            recorded = {
                use for use in due if self._record(owners.get(use.guest, use.guest), use, devices)
            }
        else:
            recorded = set()
        with self._lock:
            # Not where a guest was initialised meanwhile.
            if self._seen.get(nodename) is uses:
                self._done[nodename] = (done & uses) | recorded

    def _owners(self, due: frozenset[_Use]) -> Mapping[str, str]:
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
        try:
            instance = objects.Instance.get_by_uuid(
                nova_context.get_admin_context(), uuid, expected_attrs=["system_metadata"]
            )
            if instance.task_state is not None:
                return False
            recorded = records.load(instance)
        except (exception.InstanceNotFound, wire.WireError):
            return True
        if instance.host != self._host.name or recorded is None:
            return False
        need = Need(
            devices=tuple(
                _using(one, use) if _is_of(one, use.device, devices) else one
                for one in recorded.devices
            )
        )
        if need == recorded:
            return True
        records.store(instance, need)
        try:
            instance.save(expected_task_state=[None])
        except (exception.UnexpectedTaskStateError, exception.InstanceNotFound):
            return False
        LOG.info(
            "The guest uses %(attribute)s %(values)s; it needs now: %(need)s",
            {
                "attribute": use.attribute,
                "values": ", ".join(sorted(use.values)),
                "need": "; ".join(map(str, need.devices)),
            },
            instance=instance,
        )
        return True


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
