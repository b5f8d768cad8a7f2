# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The virt driver that nova-compute loads: another driver, with our hooks around a few methods.

Nova imports ``nova.virt.<compute_driver>``, hence the shim ``nova.virt.devcompat``. The driver
that ``[devcompat] virt_driver`` names becomes a base class of ours, so that all it does goes on as
before, and whoever looks at its type or its attributes finds what they expect.

A method ``_around_x`` below is the hook around the wrapped driver's ``x``. It is given the call to
make, whose outcome Nova gets, and what ``contract.HOOKS`` says that it relies on. Where the
contract does not hold for ``x``, the wrapped driver's own method stays in place.
"""

from __future__ import annotations

import pathlib
from typing import Any

import nova.conf
from oslo_log import log as logging

from nova_devcompat import conf as devcompat_conf
from nova_devcompat import wire
from nova_devcompat.compute import asking, hooks
from nova_devcompat.compute.admission import Admission
from nova_devcompat.compute.adopt import Adoption
from nova_devcompat.compute.domain import Domains
from nova_devcompat.compute.guests import Guests
from nova_devcompat.compute.host import ThisHost
from nova_devcompat.compute.recording import Recording
from nova_devcompat.compute.reports import Reports
from nova_devcompat.compute.shared import Inside, never_failing
from nova_devcompat.compute.usage import Usage
from nova_devcompat.compute.wrapping import give_up, wrap, wrapped_class
from nova_devcompat.host.inventory import HostReader
from nova_devcompat.service import catalog_keeper, problem_at_start
from nova_devcompat.sources.base import SourceOptions

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

devcompat_conf.register_opts(CONF)


class DeviceCompatDriver(Recording, Admission):
    """Publishes what this host's devices accept, records what guests need, admits migrations.

    Making an instance makes one of a class that derives from this one and from the wrapped driver.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> DeviceCompatDriver:
        if cls is DeviceCompatDriver:
            cls = wrap(cls, wrapped_class())
        made: DeviceCompatDriver = super().__new__(cls)
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        keeper = catalog_keeper(CONF)
        inventory = HostReader(
            keeper,
            SourceOptions(
                inventory=pathlib.Path(CONF.devcompat.inventory),
                libvirt_uri=self._libvirt_uri(),
                memory_source="file" if CONF.libvirt.file_backed_memory else "anonymous",
                seconds=CONF.devcompat.source_timeout,
            ),
        )
        problem = problem_at_start(CONF, inventory.check)
        if problem:
            give_up(problem)
        # It describes each step of each comparison of Debian versions at DEBUG.
        logging.getLogger("univers").logger.setLevel(logging.WARNING)
        self._devcompat_host = ThisHost(inventory)
        domains = Domains(self, CONF.devcompat.source_timeout)
        self._devcompat_guests = Guests(self._devcompat_host, domains)
        self._devcompat_adoption = Adoption(self._devcompat_host, self._devcompat_guests, domains)
        self._devcompat_usage = Usage(self._devcompat_host, self._guests_of_mdevs)
        self._devcompat_reports = Reports()
        self._devcompat_inside = Inside()
        LOG.info(
            "nova-devcompat wraps %(driver)s; families: %(families)s",
            {
                "driver": CONF.devcompat.virt_driver,
                "families": ", ".join(sorted(keeper.current().families)),
            },
        )

    def _libvirt_uri(self) -> str:
        # Of libvirt's driver and private: [libvirt] connection_uri, or what virt_type means.
        asked = getattr(self, "_uri", None)
        return str(asked()) if callable(asked) else ""

    # --- start and the resource tracker's cycle -------------------------------------------------

    def _around_init_host(self, call: hooks.Call, host: str) -> None:
        call()
        self._devcompat_host.name = host
        with never_failing("have placement asked in short lines"):
            asking.install(self)

    def _around_get_available_resource(self, call: hooks.Call, nodename: str) -> None:
        resources = call()
        with never_failing("publish to the scheduler"):
            document = self._devcompat_host.publisher.stats(nodename)
            if document is not None:
                resources["stats"] = {**(resources.get("stats") or {}), wire.STATS_KEY: document}
        with never_failing("complete the records of guests"):
            self._devcompat_adoption.go_on(nodename)
        with never_failing("record what guests use of their devices"):
            self._devcompat_usage.go_on(nodename)

    def _around_update_provider_tree(
        self, call: hooks.Call, provider_tree: Any, nodename: str
    ) -> None:
        call()
        with never_failing("publish to placement"):
            self._devcompat_host.publisher.update_root_traits(provider_tree, nodename)

    def _guests_of_mdevs(self) -> dict[str, str]:
        # Of libvirt's driver and private; it alone knows. Drivers without have no mdevs.
        asked = getattr(self, "_get_all_assigned_mediated_devices", dict)
        return dict(asked())
