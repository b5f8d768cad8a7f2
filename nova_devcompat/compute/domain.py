# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the guests of this host use of it, and since when they run, read off their domains."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from lxml import etree
from oslo_log import log as logging

from nova_devcompat.catalog import xpaths
from nova_devcompat.compat import uses
from nova_devcompat.compat.need import DeviceNeed, host_slot
from nova_devcompat.host.devices import HostDevice, HostDevices
from nova_devcompat.kit.bounded import SECONDS, Bounded, CallError

LOG = logging.getLogger(__name__)

T = TypeVar("T")

# Calls that hang leave a thread behind each; of so many domains at once.
_MOST_STUCK = 8

_BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")

# What nova/virt/libvirt/driver.py keeps of the machine type, and other drivers may.
_MACHINE_TYPE = "image_hw_machine_type"


class Domains:
    """Tells what guests need of this host. Nothing leaves it but that.

    :param driver: the wrapped driver. libvirt's has the domains; guests of others use what their
        system_metadata tells, if anything
    :param seconds: how long libvirt may take to describe a domain, or to list all
    """

    def __init__(self, driver: Any, seconds: float = SECONDS) -> None:
        self._driver = driver
        self._seconds = seconds
        self._boot = _boot_id()
        self._list = Bounded("the list of domains", seconds)
        self._lock = threading.Lock()
        # One that hangs must not keep the others from being read.
        self._stuck: dict[str, Bounded] = {}

    @property
    def _hypervisor(self) -> Any:
        """libvirt's host, None for other drivers."""
        found = getattr(self._driver, "_host", None)
        return found if hasattr(found, "get_guest") else None

    # --- starts ----------------------------------------------------------------------------------

    @property
    def tells_starts(self) -> bool:
        """Whether the driver can tell one start of a guest from another."""
        return self._hypervisor is not None

    def starts(self) -> dict[str, str]:
        """By UUID, a token of the start of each guest that runs here.

        libvirt numbers domains as they are started, and begins anew when the host does.

        :raises Exception: whatever libvirt or Nova raise
        """
        hypervisor = self._hypervisor
        return self._list.call(
            lambda: {
                str(guest.uuid): self._token(guest.id)
                for guest in hypervisor.list_guests(only_running=True)
            }
        )

    def start_of(self, instance: Any) -> str:
        """The token of a guest's start, '' where it cannot be told."""
        hypervisor = self._hypervisor
        if hypervisor is None:
            return ""
        try:
            return self._token(
                self._bounded(instance.uuid, lambda: hypervisor.get_guest(instance).id)
            )
        except Exception as error:  # noqa: BLE001  libvirtError, and whatever Nova makes of it
            LOG.warning(
                "Which start of the guest this is cannot be told: %s", error, instance=instance
            )
            return ""

    def _token(self, number: Any) -> str:
        # Of a domain that does not run, -1.
        return f"{number}@{self._boot}" if isinstance(number, int) and number >= 0 else ""

    def _bounded(self, uuid: str, call: Callable[[], T]) -> T:
        with self._lock:
            # Nobody may ask again for one that hung: its guest is deleted, or has left.
            self._stuck = {name: one for name, one in self._stuck.items() if one.stuck}
            bounded = self._stuck.get(uuid)
            if bounded is None and len(self._stuck) >= _MOST_STUCK:
                raise CallError(f"{len(self._stuck)} other domains give no answer")
        bounded = bounded or Bounded("the domain", self._seconds)
        try:
            return bounded.call(call)
        finally:
            with self._lock:
                if bounded.stuck:
                    self._stuck[uuid] = bounded

    # --- what they use ---------------------------------------------------------------------------

    def needs(self, instance: Any, devices: HostDevices) -> tuple[DeviceNeed, ...]:
        """What a guest that runs here needs of host families, by what it uses now.

        Where its domain cannot be read, that is not known.

        :param devices: of the node that it is on, the host itself among them
        """
        if not devices.host:
            return ()
        hypervisor = self._hypervisor
        if hypervisor is None:
            domain = _stand_in(instance)
            return tuple(
                _need(part, _told(part, devices, domain)) for part in devices.host.values()
            )
        try:
            text = self._bounded(
                instance.uuid, lambda: hypervisor.get_guest(instance).get_xml_desc()
            )
            domain = xpaths.parse(text)
        except Exception as error:  # noqa: BLE001  libvirtError, and whatever Nova makes of it
            domain = None
            LOG.warning(
                "What the guest uses of its host is not known: %s", error, instance=instance
            )
        return tuple(
            _need(part, self._used(instance, part, devices, domain))
            for part in devices.host.values()
        )

    @staticmethod
    def _used(
        instance: Any, part: HostDevice, devices: HostDevices, domain: Any
    ) -> dict[str, frozenset[str] | None]:
        table = devices.catalog.families[part.family].needs
        if domain is not None:
            try:
                return uses.used(
                    table, part.offer, part.facts, lambda xpath: xpaths.find(xpath, domain)
                )
            except ValueError as error:
                LOG.warning(
                    "What the guest uses of its host is not known: %s", error, instance=instance
                )
        return uses.used(table, part.offer, part.facts, None)


def _boot_id() -> str:
    """Of the host's present boot; enough of it to tell one from another."""
    try:
        return _BOOT_ID.read_text().strip()[:8]
    except OSError:
        return ""


def _need(part: HostDevice, used: dict[str, frozenset[str] | None]) -> DeviceNeed:
    return part.offer.freeze_used(used, slot=host_slot(part.family))


def _stand_in(instance: Any) -> Any:
    """A domain that says all that is known of a guest whose driver has none."""
    domain = etree.Element("domain")
    machine = instance.system_metadata.get(_MACHINE_TYPE)
    if machine:
        etree.SubElement(etree.SubElement(domain, "os"), "type", machine=machine)
    return domain


def _told(part: HostDevice, devices: HostDevices, domain: Any) -> dict[str, frozenset[str] | None]:
    """What a stand-in says: what it says by an alias, or cannot say, is not needed."""
    try:
        used = uses.used(
            devices.catalog.families[part.family].needs,
            part.offer,
            {},
            lambda xpath: xpaths.find(xpath, domain),
        )
    except ValueError:
        return {}
    return {attribute: values or frozenset() for attribute, values in used.items()}
