# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A running cloud whose hosts are virtual machines, as the scenarios see it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence

import yaml

from tests.e2e.playground import ROOT, Migrated, until
from tests.libvirt import hosts

MACHINES = ROOT / "rigs/cloud/machines"
PACK = ROOT / "nova_devcompat/catalog/packs/mtty.yaml"
#: The node device that Nova has guests' mediated devices from.
PARENT = "mtty_mtty"
FAMILIES = {"mtty", "libvirt", "qemu", "qemu_machine"}


class Cloud(hosts.Cloud):
    """See the module."""

    kind = "machines"
    #: What an emulated processor does takes as many times as long.
    patience = 8

    def enter(self, host: str) -> Sequence[str]:
        settings = self.data / f"hosts/{host}/machine/agent.json"
        if not settings.exists():
            # The controller, which is the machine that all run on.
            return ()
        return [sys.executable, str(MACHINES / "agent.py"), "enter", str(settings)]

    # --- devices --------------------------------------------------------------------------------

    def srcversion(self, host: str) -> str:
        """Of the module that is loaded, as the kernel tells it."""
        return self.on(host, "cat", "/sys/module/mtty/srcversion").strip()

    def load(self, host: str, version: str) -> None:
        """Have a host run a version of mtty, and wait until it publishes what that accepts."""
        modules = self._folder / "debian-kernel/mtty"
        source = f'srcversion, "{self.srcversion(host)}"'
        if source not in (modules / version / "mtty.mod.c").read_text():
            # Its text, since a machine keeps what it has once read of a file.
            script = (MACHINES / "load_mtty.sh").read_text()
            self.on(host, "bash", "-c", script, "load_mtty.sh", str(modules), version)
        trait = self.trait(self.srcversion(host))
        until(
            f"{host} to publish {trait}",
            lambda: {one for one in self.our_traits(host) if _is_of_source(one)} == {trait},
            limit=60 * self.patience,
            problem=lambda: str(self.our_traits(host)),
        )

    @staticmethod
    def trait(srcversion: str) -> str:
        """By what the documentation says of names of traits."""
        name = "".join(one if one.isdigit() else f"__{ord(one):02X}_" for one in srcversion)
        return f"MTTY__DRIVER_SRCVERSION__{name}"

    def mdevs(self, host: str) -> list[str]:
        """UUIDs of the mediated devices that a host has."""
        return self.on(host, "ls", "/sys/bus/mdev/devices").split()

    def mdev_of(self, server: str) -> str:
        """The mediated device that the live domain of a server has."""
        address = self.domain(server).find("devices/hostdev[@type='mdev']/source/address")
        assert address is not None
        return address.attrib["uuid"]

    def emulator_log(self, host: str, server: str) -> str:
        """What the QEMU of a server has said on a host."""
        name = self.show(server)["OS-EXT-SRV-ATTR:instance_name"]
        return self.on(host, "cat", f"/var/log/libvirt/qemu/{name}.log")

    # --- servers --------------------------------------------------------------------------------

    def boot_recorded(self, name: str, host: str) -> str:
        """Boot a server with a device, of whom all is recorded that can be.

        What a source does not tell within seconds it leaves out, and the guest stays where it is.
        On a machine with much else to do, an emulated processor's first answers take longer.
        """
        for _ in range(3):
            server = self.boot(name, "mtty", host)
            if self.needed(server).keys() >= FAMILIES:
                break
            self.delete(server)
        else:
            raise AssertionError(f"after three boots on {host} needs are missing; see its log")
        return server

    # --- what becomes of a server ---------------------------------------------------------------

    def runs_with_device(self, server: str, host: str, *, status: str = "ACTIVE") -> None:
        """A server runs on a host, with a mediated device there, as all that is asked says.

        :param status: what Nova has of it
        """
        assert self.show(server)["status"] == status
        assert self.host_of(server) == host
        assert self.virsh(host, "domstate", server) == "running"
        assert self.mdev_of(server) in self.mdevs(host)
        held = self.allocations(server)
        assert held.pop(f"{host}_{PARENT}") == {"VGPU": 1}
        assert list(held) == [host]

    def refused(self, server: str, moved: Migrated, host: str) -> None:
        """A live migration came to nothing, and the guest has not noticed anything."""
        assert (moved.status, moved.host) == ("error", host)
        self.runs_with_device(server, host)

    @contextlib.contextmanager
    def stock_scheduler(self) -> Iterator[None]:
        """The scheduler, and only that, is Nova's own."""
        self.tool("up", "--devcompat", ",".join(self.hosts()), timeout=300.0 * self.patience)
        try:
            yield
        finally:
            self.tool("up", "--devcompat", timeout=300.0 * self.patience)

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """The family of the devices only reports, what ``mode = report`` would do to all."""
        path = self.data / "etc/devcompat.yaml"
        before, logs = path.read_text(), self.logs()
        family = yaml.safe_load(PACK.read_text())["families"]["mtty"]
        catalog = yaml.safe_load(before)
        catalog["families"] = {"mtty": {**family, "mode": "report"}}
        path.write_text(yaml.safe_dump(catalog))
        try:
            for host in self.hosts():
                # With the next cycle; nova-scheduler does with the next request.
                assert logs.wait_for(
                    f"nova-compute-{host}",
                    "In force now: mtty: report",
                    seconds=60 * self.patience,
                )
            yield
        finally:
            path.write_text(before)


def _is_of_source(trait: str) -> bool:
    return trait.startswith("MTTY__DRIVER_SRCVERSION__")
