# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What placement has for a guest of this host, and when that says nothing of the guest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging

from nova_devcompat.compat.need import Need
from nova_devcompat.compute.host import ThisHost
from nova_devcompat.kit.once import Once
from nova_devcompat.stores.assigned import asks_for_devices, is_device_class

LOG = logging.getLogger(__name__)


class Allocated:
    """See the module.

    :param host: this host
    """

    def __init__(self, host: ThisHost) -> None:
        self._host = host
        self._lost = Once()

    def of(self, context: Any, instance: Any, recorded: Need | None) -> Any:
        """What placement has for a guest, where it can have anything there that is a device.

        :param recorded: what is recorded of it, None where that cannot be read
        :returns: None where placement has nothing at all for a guest that has devices there, as
            where Nova gave what it holds to a migration and could not give it back
        :raises PlacementError: placement does not say
        """
        has = _may_have(instance, recorded)
        if recorded is not None and not has:
            return {}
        found = self._host.allocations_of(context, instance)
        if found or not has:
            self._lost.is_over(instance.uuid)
            return found
        if self._lost.is_new(instance.uuid):
            LOG.warning(
                "Placement has nothing allocated for the guest, which has devices. Its record is "
                "left as it is; 'nova-manage placement heal_allocations' gives them back",
                instance=instance,
            )
        return None

    def addresses(self, nodename: str, allocations: Mapping[str, Any]) -> set[str]:
        """Where the devices of a guest are that are assigned by an allocation alone.

        :param allocations: what placement has for it
        """
        found = (
            self._host.publisher.address_of(nodename, provider)
            for provider, allocation in allocations.items()
            if any(map(is_device_class, allocation["resources"]))
        )
        return {address for address in found if address}


def _may_have(instance: Any, recorded: Need | None) -> bool:
    """Whether a guest may have devices that are assigned by an allocation alone."""
    if recorded is not None and any(one.resource_class for one in recorded.assigned):
        return True
    return asks_for_devices(instance.flavor.extra_specs or {}, None)
