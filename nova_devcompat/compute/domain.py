# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the guests of this host use of it, read off their domains."""

from __future__ import annotations

from typing import Any

from lxml import etree
from oslo_log import log as logging

from nova_devcompat.catalog import xpaths
from nova_devcompat.compat import uses
from nova_devcompat.compat.need import DeviceNeed, host_slot
from nova_devcompat.host.inventory import HostDevice, HostDevices
from nova_devcompat.kit.bounded import Bounded

LOG = logging.getLogger(__name__)

#: How long libvirt may take to describe a domain.
SECONDS = 5.0

# What nova/virt/libvirt/driver.py keeps of the machine type, and other drivers may.
_MACHINE_TYPE = "image_hw_machine_type"


class Domains:
    """Tells what guests need of this host. Nothing leaves it but that.

    :param driver: the wrapped driver. libvirt's has the domains; guests of others use what their
        system_metadata tells, if anything
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._bounded = Bounded("domain XML", SECONDS)

    def needs(self, instance: Any, devices: HostDevices) -> tuple[DeviceNeed, ...]:
        """What a guest that runs here needs of host families, by what it uses now.

        Where its domain cannot be read, that is not known.

        :param devices: of the node that it is on, the host itself among them
        """
        if not devices.host:
            return ()
        hypervisor: Any = getattr(self._driver, "_host", None)
        if not hasattr(hypervisor, "get_guest"):
            domain = _stand_in(instance)
            return tuple(
                _need(part, _told(part, devices, domain)) for part in devices.host.values()
            )
        try:
            text = self._bounded.call(lambda: hypervisor.get_guest(instance).get_xml_desc())
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
