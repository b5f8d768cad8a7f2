# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Makes what Nova's functional tests start use nova-devcompat, as a nova.conf would.

None of Nova's files is changed. These places are hooked, each the lowest at which a test's own
configuration is known:

* ``nova.virt.driver.load_compute_driver``: the ``compute_driver`` that a test has set becomes
  ``[devcompat] virt_driver``, and ours takes its place;
* the scheduler's ``HostManager``: our filter and weighers are added to those that a test has set;
* the start of the driver, and the connection of Nova's fake libvirt: the hosts of a test, and the
  devices that it gives them, get into the static inventory.

Everything else is a default of an option, in the catalog, or in the inventory. One thing must
differ, and is left out of what tests see: the traits under our prefix on compute nodes' root
providers, since a few tests name all traits that these have.
"""

from __future__ import annotations

import collections
import functools
import logging
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import nova.conf
import nova.conf.scheduler
import nova.virt.devcompat
import yaml
from nova.scheduler import host_manager
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional import integrated_helpers
from nova.virt import driver as virt_driver
from nova.virt import fake
from oslo_config import cfg

import nova_devcompat
from nova_devcompat import conf as devcompat_conf
from nova_devcompat.compat import traits
from nova_devcompat.compute import contract, wrapping
from nova_devcompat.compute import driver as devcompat_driver
from nova_devcompat.compute.guests import Guests
from nova_devcompat.compute.publish import Publisher
from nova_devcompat.scheduler import filters, prefilter, weights

CONF = nova.conf.CONF

#: All decisions count. The hosts of a test have like versions, as those of its author had.
CATALOG: dict[str, dict[str, Any]] = {
    "vgpu": {
        "match": {"vendor_id": "10de", "product_id": "0ffe"},
        "source": "static",
        "rules": {"vgpu_version": "range"},
    },
    "sriov_nic": {
        "match": {"vendor_id": "8086", "product_id": "1528"},
        "source": "static",
        "rules": {"fw_version": "semver", "caps": "superset"},
    },
    "nic": {
        "match": {"vendor_id": "8086", "product_id": "1533"},
        "source": "static",
        "rules": {"fw_version": "semver"},
    },
    # Every guest needs something of it, so that all live migrations are decided upon.
    "hypervisor": {
        "subject": "host",
        "match": {"component": "hypervisor"},
        "source": "static",
        "rules": {"hypervisor_version": {"kind": "ordered", "ordering": "numeric"}},
        "needs": [
            {
                "xpath": "true()",
                "requires": {"hypervisor_version": "8.0.0"},
                "because": "every guest runs on one",
                "source": "this file",
            },
            {
                "xpath": "/domain/devices/hostdev",
                "requires": {"hypervisor_version": "9.0.0"},
                "because": "a guest with devices uses more of it",
                "source": "this file",
            },
        ],
    },
}
HYPERVISOR: dict[str, Any] = {
    "address": "hypervisor",
    "family": "hypervisor",
    "attributes": {"component": "hypervisor", "hypervisor_version": "10.0.0"},
}
VERSIONS: dict[str, dict[str, Any]] = {
    "vgpu": {"vgpu_version": {"min": "7.1", "max": "14.1"}},
    "sriov_nic": {"fw_version": "28.39.1002", "caps": ["migration", "p2p"]},
    "nic": {"fw_version": "6.41.0"},
}
#: What nova/tests/fixtures/libvirt.py calls the kinds of device. Virtual functions are found by
#: their physical one.
FAMILIES = {"MDEV_TYPES": "vgpu", "PF": "sriov_nic", "PCI": "nic"}


class Seam:
    """Hooks Nova and counts what our code does.

    :param folder: for the catalog and the inventory
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._inventory = folder / "inventory.yaml"
        #: The entries of the inventory, by address within the host.
        self._hosts: dict[str, dict[str, dict[str, Any]]] = {}
        self._write_inventory()
        catalog = folder / "devcompat.yaml"
        content = {"meta": {"schema_version": "1.0"}, "families": CATALOG}
        catalog.write_text(yaml.safe_dump(content))
        cfg.set_defaults(
            devcompat_conf.OPTS, catalog=[str(catalog)], inventory=str(self._inventory)
        )
        ours = "nova_devcompat.scheduler.filters.all_filters"
        cfg.set_defaults(
            nova.conf.scheduler.filter_scheduler_opts,
            available_filters=["nova.scheduler.filters.all_filters", ours],
        )
        self._counts: collections.Counter[str] = collections.Counter()
        self._errors = _Errors()
        logging.getLogger("nova_devcompat").addHandler(self._errors)
        self._hook_nova()
        self._count_ours()

    @staticmethod
    def where() -> dict[str, list[str]]:
        """Where our code was imported from, and what else could have been."""
        return {
            "files": [str(nova_devcompat.__file__), str(nova.virt.devcompat.__file__)],
            "path": sys.path,
        }

    def start_test(self, name: str) -> None:
        """Forget what was before."""
        self._hosts.clear()
        self._counts.clear()
        self._errors.messages.clear()

    def end_test(self) -> dict[str, int]:
        """What our code did meanwhile, by what it is; the errors that it logged among these."""
        errors = {f"ERROR: {text}": n for text, n in self._errors.messages.items()}
        return {**self._counts, **errors}

    def _hook_nova(self) -> None:
        load = virt_driver.load_compute_driver

        @functools.wraps(load)
        def load_compute_driver(virtapi: Any, compute_driver: str | None = None) -> Any:
            name = compute_driver or CONF.compute_driver
            if name != wrapping.OURS:
                CONF.set_override("virt_driver", name, "devcompat")
                CONF.set_override("compute_driver", wrapping.OURS)
            driver = load(virtapi, wrapping.OURS)
            assert isinstance(driver, devcompat_driver.DeviceCompatDriver)
            self._counts["drivers"] += 1
            if isinstance(driver, fake.FakeDriverWithPciResources):
                for address in (driver.PCI_ADDR_PF1, driver.PCI_ADDR_PF2, driver.PCI_ADDR_PF3):
                    self._add_device(CONF.host, address, "sriov_nic")
            return driver

        virt_driver.load_compute_driver = load_compute_driver

        around = devcompat_driver.DeviceCompatDriver._around_init_host

        @functools.wraps(around)
        def around_init_host(driver: Any, call: Any, host: str) -> None:
            around(driver, call, host)
            for node in driver.get_available_nodes():
                self._add_host(node)

        setattr(devcompat_driver.DeviceCompatDriver, around.__name__, around_init_host)

        make = host_manager.HostManager.__init__

        @functools.wraps(make)
        def make_host_manager(manager: Any, *args: Any, **kwargs: Any) -> None:
            options = CONF.filter_scheduler
            for option, ours in (
                ("enabled_filters", "DeviceCompatFilter"),
                ("weight_classes", "nova_devcompat.scheduler.weights.all_weighers"),
            ):
                if ours not in options[option]:
                    CONF.set_override(option, [*options[option], ours], "filter_scheduler")
            make(manager, *args, **kwargs)

        host_manager.HostManager.__init__ = make_host_manager

        connect = fakelibvirt.Connection.__init__

        @functools.wraps(connect)
        def make_connection(connection: Any, *args: Any, **kwargs: Any) -> None:
            connect(connection, *args, **kwargs)
            for device in connection.pci_info.devices.values():
                if device.dev_type in FAMILIES:
                    address = f"0000:{device.bus:02x}:{device.slot:02x}.{device.function:x}"
                    self._add_device(connection.hostname, address, FAMILIES[device.dev_type])

        fakelibvirt.Connection.__init__ = make_connection

        helper = integrated_helpers.PlacementHelperMixin
        traits_of = helper._get_provider_traits

        @functools.wraps(traits_of)
        def get_provider_traits(test: Any, rp_uuid: str) -> list[str]:
            names: list[str] = traits_of(test, rp_uuid)
            others = [name for name in names if not name.startswith(traits.PREFIX)]
            path = f"/resource_providers/{rp_uuid}"
            if test.placement.get(path, version="1.14").body["root_provider_uuid"] != rp_uuid:
                return names
            self._counts["traits of ours not shown"] += len(names) - len(others)
            return others

        helper._get_provider_traits = get_provider_traits

    def _count_ours(self) -> None:
        """Count the calls of what Nova calls, and what they come to."""
        for hook in contract.HOOKS:
            self._count(devcompat_driver.DeviceCompatDriver, f"_around_{hook.method}", hook.method)
        self._count(Publisher, "stats", "stats documents", when=lambda made: bool(made))
        self._count(Publisher, "update_root_traits", "provider trees")
        self._count_needs()
        self._count(devcompat_driver.DeviceCompatDriver, "_admit", "admissions")
        self._count(filters.DeviceCompatFilter, "filter_all", "filter calls")
        self._count(filters.DeviceCompatFilter, "_filter_known", "filter decisions")
        self._count(
            prefilter.Prefilter, "__call__", "prefilter requirements", when=lambda made: made
        )
        self._count(weights.DeviceCompatWeigher, "weigh_objects", "weigher calls")

    def _count_needs(self) -> None:
        findings = Guests.findings

        @functools.wraps(findings)
        def counted(*args: Any, **kwargs: Any) -> Any:
            found = findings(*args, **kwargs)
            now = [one.now for one in found.devices if one.now is not None]
            for device in (*now, *found.host):
                self._counts[f"needs of {device.family}"] += 1
                if any(values is None for _, values in device.values):
                    self._counts[f"needs of {device.family}, not known"] += 1
            return found

        setattr(Guests, findings.__name__, counted)

    def _count(
        self, owner: type, name: str, label: str, when: Callable[[Any], Any] = lambda made: True
    ) -> None:
        function = getattr(owner, name)

        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            made = function(*args, **kwargs)
            if when(made):
                self._counts[label] += 1
            return made

        setattr(owner, name, counted)

    def _add_host(self, host: str) -> None:
        if host not in self._hosts:
            self._hosts[host] = {HYPERVISOR["address"]: HYPERVISOR}
            self._write_inventory()

    def _add_device(self, host: str, address: str, family: str) -> None:
        self._add_host(host)
        self._hosts[host][address] = {
            "address": address,
            "family": family,
            "attributes": {**CATALOG[family]["match"], **VERSIONS[family]},
        }
        self._write_inventory()

    def _write_inventory(self) -> None:
        # One without any host would be refused as an oversight.
        hosts = {host: {"devices": list(had.values())} for host, had in self._hosts.items()}
        content = {
            "meta": {"schema_version": "1.0"},
            "hosts": hosts or {"nobody": {"devices": []}},
        }
        aside = self._inventory.with_suffix(".new")
        aside.write_text(yaml.safe_dump(content))
        aside.replace(self._inventory)


class _Errors(logging.Handler):
    """Counts the messages of our own errors, as they stand in the code."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: collections.Counter[str] = collections.Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.messages[str(record.msg)] += 1
