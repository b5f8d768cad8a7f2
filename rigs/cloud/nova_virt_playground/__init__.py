# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""nova.virt.playground: a virt driver that live migrates guests with devices, without hardware.

``tools/cloud`` links it beside Nova's drivers; nova-compute finds it as
``compute_driver = playground.PlaygroundDriver``. It derives from Nova's fake driver and differs in
what a cloud of several processes needs:

* A host has the devices that its static inventory names, read anew each time: network cards with
  virtual functions, which Nova's PCI tracker sees, and GPUs with vGPUs, as child providers.
* Guests outlive nova-compute, as a hypervisor's do: they are files in a folder that all hosts
  share.
* Whoever changes what a host has need not wait for the next periodic cycle of its resource
  tracker: one is gone through when something new is written into the host's file ``cycle``, which
  then is written into ``cycled``.
* The transfer of a guest does not end before its file ``hold`` is gone, if it has one, so that
  something can happen meanwhile.
* The devices of a guest remember the version that they were initialised with. A host whose device
  cannot take that state over fails the migration as hardware does: at the end, when the guest is
  stopped and its state is copied. The file ``unfit``, which all hosts share, can have the
  destination find out in its ``pre-check``, or ``never``; it is read each time.

Nothing of nova-devcompat is used here, so that what it decides is checked by something else.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import nova.conf
import yaml
from nova import context as nova_context
from nova import exception
from nova.compute import power_state
from nova.virt import fake
from oslo_config import cfg
from oslo_log import log as logging

LOG = logging.getLogger(__name__)
CONF = nova.conf.CONF
CONF.register_opts(
    [
        cfg.StrOpt("hosts", help="Folder with a folder for each host, which has its inventory."),
        cfg.StrOpt("guests", help="Folder of the guests of all hosts."),
        cfg.FloatOpt("seconds", default=0.5, help="How long the transfer of a guest takes."),
    ],
    group="playground",
)

VFS, VGPUS = 8, 8
#: Seconds that a guest's transfer can be held, see the module.
HELD = 120.0
#: Seconds from the first question about a guest to its coming, at most.
ARRIVAL = 15.0
#: Seconds between two looks at a file that somebody else writes.
LOOK = 0.1


class PlaygroundDriver(fake.FakeDriverWithoutFakeNodes):
    """See the module."""

    vcpus = 64
    memory_mb = 65536
    local_gb = 1000

    #: Addresses of the GPUs, by the UUIDs of their providers.
    _gpus: Mapping[str, str] = {}

    def __init__(self, virtapi: Any, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        #: When guests that are to come were first asked about.
        self._arriving: dict[str, float] = {}
        self._admitted: set[str] = set()
        self._listens = False

    def init_host(self, host: str) -> None:
        super().init_host(host)
        for path in pathlib.Path(CONF.playground.guests).glob("*.json"):
            guest = _read(path)
            if guest and guest["host"] == host:
                self._add(guest)

    # --- what the host has ----------------------------------------------------------------------

    def _devices(self, host: str | None = None) -> dict[str, Mapping[str, Any]]:
        """Attributes of devices by address, as they are now."""
        host = host or self._host
        path = pathlib.Path(CONF.playground.hosts, host, "inventory.yaml")
        # Editors write files in steps.
        for _ in range(20):
            with contextlib.suppress(OSError, yaml.YAMLError, KeyError, TypeError):
                entries = yaml.safe_load(path.read_text())["hosts"][host]["devices"]
                return {entry["address"]: entry["attributes"] for entry in entries}
            time.sleep(0.1)
        LOG.error("%s cannot be read: no devices", path)
        return {}

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        self._wait_for_arrivals()
        resources: dict[str, Any] = super().get_available_resource(nodename)
        functions = []
        for address, attributes in self._devices().items():
            if "fw_version" not in attributes:
                continue
            common = {"vendor_id": "15b3", "numa_node": None, "status": "available"}
            functions.append(
                {
                    **common,
                    "address": address,
                    "product_id": "101d",
                    "dev_type": "type-PF",
                    "parent_addr": None,
                    "label": "label_15b3_101d",
                }
            )
            functions += [
                {
                    **common,
                    "address": f"{address.rpartition(':')[0]}:{number // 8:02x}.{number % 8}",
                    "product_id": "101e",
                    "dev_type": "type-VF",
                    "parent_addr": address,
                    "label": "label_15b3_101e",
                }
                for number in range(8, 8 + VFS)
            ]
        resources["pci_passthrough_devices"] = json.dumps(functions)
        return resources

    def update_provider_tree(
        self, provider_tree: Any, nodename: str, allocations: Any = None
    ) -> None:
        super().update_provider_tree(provider_tree, nodename, allocations=allocations)
        gpus = {}
        for address, attributes in self._devices().items():
            if "vgpu_version" not in attributes:
                continue
            # As the libvirt driver names them.
            name = f"{nodename}_pci_{address.replace(':', '_').replace('.', '_')}"
            if not provider_tree.exists(name):
                provider_tree.new_child(name, nodename)
            inventory: dict[str, float] = {"total": VGPUS, "max_unit": VGPUS, "reserved": 0}
            inventory |= {"min_unit": 1, "step_size": 1, "allocation_ratio": 1.0}
            provider_tree.update_inventory(name, {"VGPU": inventory})
            gpus[provider_tree.data(name).uuid] = address
        self._gpus = gpus
        if not self._listens:
            # Not before: the first cycle is that of the start.
            self._listens = True
            threading.Thread(target=self._cycle_when_asked, daemon=True).start()

    def _cycle_when_asked(self) -> None:
        """Go through a cycle whenever one is asked for, as nova-compute does now and then."""
        folder = pathlib.Path(CONF.playground.hosts, self._host)
        while True:
            asked, done = _text(folder / "cycle"), _text(folder / "cycled")
            if asked == done:
                time.sleep(LOOK)
                continue
            try:
                # What goes wrong with one node is logged there.
                self.virtapi._compute.update_available_resource(nova_context.get_admin_context())
            except Exception:
                LOG.exception("The cycle that was asked for has failed")
            _write_text(folder / "cycled", asked)

    # --- guests ---------------------------------------------------------------------------------

    def _add(self, guest: Mapping[str, Any]) -> None:
        self.instances[guest["uuid"]] = fake.FakeInstance(
            guest["name"], guest["power"], guest["uuid"]
        )

    def _keep(self, instance: Any, devices: list[dict[str, Any]] | None = None) -> None:
        """Write a guest of this host down.

        :param devices: what it has been given; None for what it had
        """
        path = _path(instance)
        old = _read(path) or {}
        guest = {
            "uuid": instance.uuid,
            "name": instance.name,
            "host": self._host,
            "power": self.instances[instance.uuid].state,
            "devices": old.get("devices", []) if devices is None else devices,
        }
        _write(path, guest)

    def _given(self, pci: list[str], allocations: Any) -> list[str]:
        """Addresses of the devices behind virtual functions and allocations on this host."""
        parents = {address.rpartition(":")[0]: address for address in self._devices()}
        given = [parents[address.rpartition(":")[0]] for address in pci]
        for provider, allocation in (allocations or {}).items():
            count = allocation["resources"].get("VGPU", 0)
            if provider in self._gpus:
                given += [self._gpus[provider]] * count
        return given

    def _initialised(self, addresses: list[str]) -> list[dict[str, Any]]:
        """Devices that are given to a guest now, with the versions that they will remember."""
        present = self._devices()
        return [{"address": a, "state": _state(present[a])} for a in addresses]

    def _initialise_again(self, instance: Any) -> None:
        guest = _read(_path(instance)) or {"devices": []}
        self._keep(instance, self._initialised([d["address"] for d in guest["devices"]]))

    def spawn(
        self,
        context: Any,
        instance: Any,
        image_meta: Any,
        injected_files: Any,
        admin_password: Any,
        allocations: Any,
        **kwargs: Any,
    ) -> None:
        super().spawn(
            context,
            instance,
            image_meta,
            injected_files,
            admin_password,
            allocations,
            **kwargs,
        )
        addresses = [device.address for device in instance.get_pci_devices()]
        self._keep(instance, self._initialised(self._given(addresses, allocations)))

    def destroy(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        super().destroy(context, instance, *args, **kwargs)
        guest = _read(_path(instance))
        if guest and guest["host"] == self._host:
            _path(instance).unlink()
            _path(instance, "incoming").unlink(missing_ok=True)

    def power_on(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        super().power_on(context, instance, *args, **kwargs)
        self._initialise_again(instance)

    def power_off(self, instance: Any, *args: Any, **kwargs: Any) -> None:
        super().power_off(instance, *args, **kwargs)
        self._keep(instance)

    # As libvirt's driver: what follows takes the devices away and gives them again.

    def resume(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        super().resume(context, instance, *args, **kwargs)
        self._initialise_again(instance)

    def rescue(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        super().rescue(context, instance, *args, **kwargs)
        self._initialise_again(instance)

    def unrescue(self, context: Any, instance: Any) -> None:
        super().unrescue(context, instance)
        self._initialise_again(instance)

    def migrate_disk_and_power_off(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> None:
        super().migrate_disk_and_power_off(context, instance, *args, **kwargs)
        guest = _read(_path(instance))
        if guest:
            # What it has again when it comes back.
            _write(_path(instance, "left"), guest)

    def confirm_migration(
        self, context: Any, migration: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> None:
        super().confirm_migration(context, migration, instance, *args, **kwargs)
        _path(instance, "left").unlink(missing_ok=True)

    def finish_revert_migration(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> None:
        super().finish_revert_migration(context, instance, *args, **kwargs)
        left = _read(_path(instance, "left")) or {"devices": []}
        self._keep(instance, self._initialised([d["address"] for d in left["devices"]]))
        _path(instance, "left").unlink(missing_ok=True)

    # --- live migration -------------------------------------------------------------------------
    #
    # A cycle of the resource tracker that falls between the claim of PCI devices for a guest that
    # is to come and the conductor's note of where it goes frees the claim (nova/pci/manager.py,
    # clean_usage), and the guest arrives without. With cycles as short as here that would happen
    # to every tenth guest, so they wait. It can go when Nova keeps such claims.

    def _wait_for_arrivals(self) -> None:
        while self._arriving and time.monotonic() < max(self._arriving.values()) + ARRIVAL:
            time.sleep(0.1)
        self._arriving.clear()

    def check_can_live_migrate_destination(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> Any:
        self._arriving[instance.uuid] = time.monotonic()
        return super().check_can_live_migrate_destination(context, instance, *args, **kwargs)

    def cleanup_live_migration_destination_check(self, context: Any, dest_check_data: Any) -> None:
        # After each check, passed or not.
        for uuid in self._arriving.keys() - self._admitted:
            self._arriving.pop(uuid, None)

    def pre_live_migration(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> Any:
        self._arriving.pop(instance.uuid, None)
        self._admitted.discard(instance.uuid)
        return super().pre_live_migration(context, instance, *args, **kwargs)

    def check_source_migrate_data_at_dest(
        self,
        ctxt: Any,
        instance: Any,
        migrate_data: Any,
        migration: Any,
        limits: Any,
        allocs: Any,
    ) -> Any:
        LOG.info("Asked whether the guest can come here", instance=instance)
        pci = list((migrate_data.pci_dev_map_src_dst or {}).values())
        addresses = self._given(pci, allocs)
        _write(
            _path(instance, "incoming"),
            {"host": self._host, "power": power_state.RUNNING, "addresses": addresses},
        )
        if _unfit() == "pre-check":
            problem = self._problem(instance)
            if problem:
                raise exception.MigrationPreCheckError(reason=problem)
        self._admitted.add(instance.uuid)
        return migrate_data

    def _problem(self, instance: Any) -> str:
        """What the devices at the destination say to the guest's state, '' if they take it."""
        guest = _read(_path(instance)) or {"devices": []}
        incoming = _read(_path(instance, "incoming")) or {"host": "nowhere", "addresses": []}
        offered = self._devices(incoming["host"])
        for device, address in _pairs(guest["devices"], incoming["addresses"]):
            problem = _takes(device["state"], offered.get(address, {}))
            if problem:
                return f"{incoming['host']}: {address}: {problem}"
        return ""

    def live_migration(
        self,
        context: Any,
        instance: Any,
        dest: str,
        post_method: Any,
        recover_method: Any,
        block_migration: bool = False,
        migrate_data: Any = None,
    ) -> None:
        time.sleep(CONF.playground.seconds)
        until = time.monotonic() + HELD
        while _path(instance, "hold").exists() and time.monotonic() < until:
            time.sleep(LOOK)
        problem = "" if _unfit() == "never" else self._problem(instance)
        if problem:
            LOG.error("The guest did not survive stop-and-copy: %s", problem, instance=instance)
            recover_method(context, instance, dest, migrate_data, migration_status="failed")
        else:
            post_method(context, instance, dest, block_migration, migrate_data)

    def post_live_migration(
        self, context: Any, instance: Any, block_device_info: Any, migrate_data: Any = None
    ) -> None:
        # On the source: the guest is gone, its file is the destination's now.
        guest, incoming = _read(_path(instance)), _read(_path(instance, "incoming"))
        if guest and incoming:
            pairs = _pairs(guest["devices"], incoming["addresses"])
            guest["devices"] = [{**device, "address": address} for device, address in pairs]
            guest["host"] = incoming["host"]
            _write(_path(instance), guest)
            _path(instance, "incoming").unlink()
        self.destroy(context, instance, None, block_device_info)

    def post_live_migration_at_destination(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> None:
        if instance.uuid in self.instances:
            return  # nova-compute was restarted in between
        flavor = instance.flavor
        self.resources.claim(vcpus=flavor.vcpus, mem=flavor.memory_mb, disk=flavor.root_gb)
        guest = _read(_path(instance)) or {"power": power_state.RUNNING}
        self._add({"uuid": instance.uuid, "name": instance.name, "power": guest["power"]})
        self._keep(instance)

    def rollback_live_migration_at_destination(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> None:
        _path(instance, "incoming").unlink(missing_ok=True)


def _state(attributes: Mapping[str, Any]) -> dict[str, str]:
    """What a device's state is written in."""
    if "fw_version" in attributes:
        return {"fw_version": attributes["fw_version"]}
    return {"vgpu_version": attributes["vgpu_version"]["max"]}


def _takes(state: Mapping[str, str], offered: Mapping[str, Any]) -> str:
    """Why a device does not take a state, '' if it does."""
    if not state.keys() <= offered.keys():
        return f"no device that takes {dict(state)}"
    if "fw_version" in state:
        needs, has = _version(state["fw_version"]), _version(offered["fw_version"])
        if needs[0] != has[0] or needs[1] > has[1]:
            return f"device state of firmware {state['fw_version']}, device has {has}"
    else:
        needs, limits = _version(state["vgpu_version"], 16), offered["vgpu_version"]
        if not _version(limits["min"], 16) <= needs <= _version(limits["max"], 16):
            return f"vGPU state of version {state['vgpu_version']}, device has {limits}"
    return ""


def _version(text: str, base: int = 10) -> tuple[int, ...]:
    return tuple(int(part, base) for part in text.split("."))


def _pairs(
    devices: list[dict[str, Any]], addresses: list[str]
) -> Iterator[tuple[dict[str, Any], str]]:
    """Devices with the addresses at the destination; both list functions before vGPUs."""
    yield from zip(devices, addresses, strict=False)


def _unfit() -> str:
    """When it shows that a device does not fit."""
    return _text(pathlib.Path(CONF.playground.hosts, "unfit")).strip()


def _path(instance: Any, what: str = "json") -> pathlib.Path:
    return pathlib.Path(CONF.playground.guests, f"{instance.uuid}.{what}")


def _read(path: pathlib.Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return content


def _write(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(content))


def _text(path: pathlib.Path) -> str:
    """What stands in a file, '' if there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _write_text(path: pathlib.Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text)
    aside.replace(path)
