# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Hosts that are virtual machines with mediated devices, which QEMU emulates.

Each runs in the namespaces that hosts with libvirt have, and has the files that are there: a
kernel is all that it has of its own. A guest is emulated by an emulated processor.
"""

from __future__ import annotations

import dataclasses
import pathlib
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import ClassVar

from rigs.cloud import waiting
from rigs.cloud.hosts import Sections, Value
from rigs.cloud.layout import LISTENERS, SYSTEM_PATH, write
from rigs.cloud.libvirt import settings
from rigs.cloud.libvirt.backports import Backports
from rigs.cloud.libvirt.hosts import VERSIONED, LibvirtHosts
from rigs.cloud.machines import agent, initrd
from rigs.cloud.machines.kernel import Kernel
from rigs.cloud.packages import Debian
from rigs.cloud.processes import Service

_NODES = "usr/lib/*/libvirt/connection-driver/libvirt_driver_nodedev.so"
#: What they have of Debian's backports, whose QEMU migrates such guests; libvirt learns
#: of devices from udevd, and makes mediated ones with mdevctl.
PROGRAMS = {
    **VERSIONED,
    _NODES: "libvirt-daemon-driver-nodedev",
    "udevadm": "udev",
    "mdevctl": "mdevctl",
}
#: What builds modules, and what an initrd has.
TOOLS = {"gcc": "gcc", "make": "make", "busybox": "busybox-static"}
#: Of the devices that guests have, see samples/vfio-mdev/mtty.c: one with two serial ports.
MDEV_TYPE, PARENT = "mtty-2", "mtty_mtty"
#: MiB.
MEMORY = 2048
_HERE = pathlib.Path(__file__).parent
AGENT, SETUP = _HERE / "agent.py", _HERE / "setup_machine.sh"


class MachineHosts(LibvirtHosts):
    """See the module."""

    flavors: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "plain": {},
        "mtty": {"resources:VGPU": "1"},
    }
    tests = "tests/machines"
    #: nova-compute starts in two minutes, and in ten on a machine with much else to do.
    start = 1200

    def why_not(self) -> str:
        if len(list(self._cloud.hosts())) > 2:
            return "two machines are linked with each other, and no third"
        return super().why_not()

    # --- programs --------------------------------------------------------------------------------

    def install(self) -> None:
        super().install()
        self._backports().ensure()
        self._tools().ensure()
        self._kernel().ensure()

    def _backports(self) -> Debian:
        return Backports(self._cloud, PROGRAMS, "debian-machines")

    def _tools(self) -> Debian:
        return Debian(self._cloud, TOOLS, "debian-build")

    def _kernel(self) -> Kernel:
        return Kernel(self._cloud, self._tools())

    def _over_usr(self, host: str) -> list[str]:
        layers = (self._backports(), self._debian())
        return [str(path) for one in layers if (path := one.over_usr())]

    # --- files -----------------------------------------------------------------------------------

    def outside(self) -> dict[str, str]:
        """Addresses on this machine, by host, that lead into it."""
        return super().addresses()

    def addresses(self) -> dict[str, str]:
        """On a network that nobody else is on."""
        return {host: f"10.77.0.{n}" for n, host in enumerate(self.outside(), 1)}

    def settings(self, host: str) -> pathlib.Path:
        return self._machine(host) / "agent.json"

    def write(self, host: str) -> None:
        super().write(host)
        kernel, path = self._kernel(), self.settings(host)
        setup = (SETUP, host, self.addresses()[host], self._cloud.data, kernel.modules)
        try:
            secret = agent.Settings.read(path).secret
        except OSError:
            secret = secrets.token_hex(16)
        written = agent.Settings(
            outside=self.outside()[host],
            secret=secret,
            setup=[str(word) for word in setup],
            ports=[self._cloud.port(name) for name in LISTENERS],
        )
        write(path, written.text(), mode=0o600)

    def compute(self, host: str) -> Sections:
        sections = super().compute(host)
        # What is periodic would keep an emulated processor busy all the time.
        slow = {"update_resources_interval": 30, "report_interval": 20}
        return {
            **sections,
            "DEFAULT": {**sections["DEFAULT"], **slow},
            "devices": {"enabled_mdev_types": MDEV_TYPE},
            f"mdev_{MDEV_TYPE}": {"device_addresses": PARENT},
        }

    def packs(self) -> Mapping[str, Value]:
        return {"packs": "qemu_machine,qemu,libvirt,mtty"}

    # --- processes -------------------------------------------------------------------------------

    def services(self) -> Sequence[Sequence[Service]]:
        addresses = self.addresses()
        return (
            [self._holder(host) for host in addresses],
            [self._virtual(host) for host in addresses],
            [self._libvirtd(host, address) for host, address in addresses.items()],
        )

    def _virtual(self, host: str) -> Service:
        kernel, outside = self._kernel(), self.outside()
        number = list(outside).index(host)
        own, peer = (f"127.0.0.1:{self._link(n)}" for n in (number, 1 - number))
        # What protects from other processors' mistakes costs an emulated one much. Behind "--" is
        # the program to run: Python, as here.
        line = "console=ttyS0 quiet panic=-1 mitigations=off -- "
        line += f"{sys.executable} {AGENT} init {self.settings(host)}"
        share = "local,security_model=none,multidevs=remap"
        service = Service(
            name=f"machine-{host}",
            command=[
                *("qemu-system-x86_64", "-name", host, "-machine", "q35", "-cpu", "max,la57=off"),
                *("-accel", "tcg", "-smp", "1", "-m", str(MEMORY), "-no-reboot"),
                *("-display", "none", "-monitor", "none", "-serial", "stdio"),
                *("-kernel", str(kernel.image), "-initrd", str(kernel.initrd), "-append", line),
                *("-virtfs", f"{share},path=/,mount_tag={initrd.FILES},readonly=on"),
                *("-virtfs", f"{share},path={self._cloud.data},mount_tag=cloud"),
                "-netdev",
                f"user,id=services,hostfwd=tcp:{outside[host]}:{agent.PORT}"
                f"-{agent.ADDRESS}:{agent.PORT}",
                *("-device", f"virtio-net-pci,netdev=services,mac=52:54:00:77:01:0{number}"),
                *("-netdev", f"socket,id=machines,udp={peer},localaddr={own}"),
                *("-device", f"virtio-net-pci,netdev=machines,mac=52:54:00:77:02:0{number}"),
            ],
            environ={"PATH": SYSTEM_PATH},
            reads=[AGENT, SETUP, self.settings(host)],
            ready=waiting.Check(what="to be set up", met=lambda: self._succeeds(host, "true")),
            limit=300,
        )
        return self._after(self._namespaces(host), service)

    def _link(self, number: int) -> int:
        """The port of UDP that a machine's frames to the other arrive at."""
        return self._cloud.settings.port_base + 90 + number

    def _libvirtd(self, host: str, address: str) -> Service:
        service = super()._libvirtd(host, address)
        listens = f"/dev/tcp/{address}/{settings.PORT}"
        return dataclasses.replace(
            service,
            ready=waiting.Check(
                what="to listen",
                met=lambda: self._succeeds(host, "bash", "-c", f": < {listens}"),
            ),
            limit=300,
        )

    def _succeeds(self, host: str, *command: str) -> bool:
        line = [*self.enter(host), *command]
        try:
            done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=15)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def enter(self, host: str) -> list[str]:
        return [sys.executable, str(AGENT), "enter", str(self.settings(host))]
