# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A running cloud whose hosts have a real libvirt and QEMU, as the scenarios see it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar
from xml.etree import ElementTree

import pytest

from tests.e2e import playground
from tests.e2e.playground import ROOT, until

NAMESPACES = ROOT / "rigs/cloud/libvirt/namespaces.py"
#: What a guest of this cloud has in the domain that needs its QEMU, see the pack ``qemu``.
_PCIE_PORT = "devices/controller[@model='pcie-root-port']"


class Cloud(playground.Cloud):
    """See the module.

    :param folder: that ``tools/cloud`` keeps everything in
    :cvar kind: the option of ``tools/cloud``, and the folder in that one
    """

    kind: ClassVar[str] = "libvirt"

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder / self.kind)
        self._folder = folder

    def _tool(self, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
        command, *rest = arguments
        line = [str(ROOT / "tools/cloud"), "--data", str(self._folder), command, f"--{self.kind}"]
        return subprocess.run(
            [*line, *rest],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def try_up(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Bring it up, or say why not."""
        return self._tool("up", "--kill", *options, timeout=1200.0 * self.patience)

    def up(self) -> None:
        done = self.try_up()
        print(done.stdout)
        if done.returncode == os.EX_UNAVAILABLE:
            pytest.exit(f"NOT RUN: {done.stdout}", returncode=done.returncode)
        if done.returncode:
            pytest.exit(f"tools/cloud up failed:\n{done.stdout}", returncode=playground.NOT_RUN)

    @contextlib.contextmanager
    def brought_up(self, *, again: bool) -> Iterator[None]:
        """It runs, and is reserved; in the end it goes if it was not there before.

        :param again: whether one that runs is brought up, too
        """
        with self.reserved():
            before = self.runs()
            try:
                if again or not before:
                    self.up()
                yield
            finally:
                if not before:
                    spaces = self.namespaces()
                    self.tool("down", "--kill")
                    # Nor a mount then: those go with the last process that sees them.
                    until(
                        "the hosts' processes to end", lambda: not processes_in(spaces), limit=10
                    )
                    assert str(self.data) not in pathlib.Path("/proc/self/mounts").read_text()

    # --- on hosts -------------------------------------------------------------------------------

    def enter(self, host: str) -> Sequence[str]:
        pid_file = self.data / f"hosts/{host}/namespaces.pid"
        if not pid_file.exists():
            # The controller, which is the machine.
            return ()
        return [sys.executable, str(NAMESPACES), "enter", str(pid_file)]

    def on(self, host: str, *command: str) -> str:
        """Run a command on a host that succeeds; what it prints."""
        line = [*self.enter(host), *command]
        done = subprocess.run(line, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{host}: {command}: {done.stdout}{done.stderr}"
        return done.stdout

    def namespaces(self) -> set[int]:
        """Numbers of the PID namespaces of hosts that have power."""
        found = set()
        for file in self.data.glob("hosts/*/namespaces.pid"):
            with contextlib.suppress(OSError):
                found.add(os.stat(f"/proc/{file.read_text().strip()}/ns/pid").st_ino)
        return found

    def virsh(self, host: str, *arguments: str) -> str:
        return self.on(host, "virsh", *arguments).strip()

    def domain(self, server: str) -> ElementTree.Element:
        """The live domain of a server, where Nova says that it runs."""
        return ElementTree.fromstring(self.virsh(self.host_of(server), "dumpxml", server))

    def machine_type(self, server: str) -> str:
        kind = self.domain(server).find("os/type")
        assert kind is not None
        return kind.attrib["machine"]

    def domain_id(self, server: str) -> str:
        """Another one for each QEMU that ran the server on a host."""
        return self.virsh(self.host_of(server), "domid", server)

    def qemu_version(self, host: str) -> str:
        (version,) = re.findall(r"Running hypervisor: QEMU (\S+)", self.virsh(host, "version"))
        return version

    def libvirt_version(self, host: str) -> str:
        (version,) = re.findall(r"Using library: libvirt (\S+)", self.virsh(host, "version"))
        return version

    def kill_qemu(self, server: str) -> None:
        """As the kernel does where memory has run out."""
        self.on(self.host_of(server), "pkill", "-KILL", "-f", f"qemu-system.*{server}")

    @contextlib.contextmanager
    def lacking(self, host: str, machine_type: str) -> Iterator[None]:
        """A host whose QEMU does not have a machine type, as libvirt knows it."""
        files = (self.data / f"hosts/{host}/machine/libvirt/cache/qemu/capabilities").glob("*.xml")
        kept = {path: path.read_text() for path in files}
        for path, text in kept.items():
            lines = text.splitlines(keepends=True)
            left = [line for line in lines if f" name='{machine_type}'" not in line]
            assert len(left) < len(lines), f"{path}: no {machine_type}"
            path.write_text("".join(left))
        self.tool("restart", f"libvirtd-{host}")
        try:
            yield
        finally:
            for path, text in kept.items():
                path.write_text(text)
            self.tool("restart", f"libvirtd-{host}")

    # --- traits and records ---------------------------------------------------------------------

    def wait_for_trait(self, host: str, trait: str, *, there: bool) -> None:
        """Wait until a host publishes a trait, or does not any more."""
        until(
            f"{host} to publish {trait}: {there}",
            lambda: (trait in self.our_traits(host)) == there,
            limit=playground.CYCLE,
        )

    def needed(self, server: str) -> dict[str, dict[str, list[str]]]:
        """What is recorded, by family and attribute, without attributes that need nothing."""
        return _needed(self.record(server))

    def check(self, server: str, born_on: str) -> None:
        """The record is what the live domain asks for, and its own host accepts it.

        :param born_on: the QEMU that the guest was started on
        """
        assert self.show(server)["status"] == "ACTIVE"
        record = self.record(server)
        assert _needed(record) == needs(self.domain(server), born_on)
        assert {one["verdict"] for one in record} == {"accept"}


def _needed(record: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    return {
        family: {name: found for name, found in values.items() if found}
        for family, values in playground.values(record).items()
    }


def processes_in(spaces: Collection[int]) -> list[str]:
    """PIDs of what runs in PID namespaces, by their numbers."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "ns/pid").stat().st_ino in spaces:
                found.append(process.name)
    return found


def trait(machine_type: str) -> str:
    """Of a machine type, by what the documentation says of names of traits."""
    name = machine_type.upper().replace("-", "__2D_").replace(".", "_")
    return f"QEMU_MACHINE__MACHINE_TYPES__{name}"


def needs(domain: ElementTree.Element, born_on: str) -> Mapping[str, Mapping[str, Any]]:
    """What a domain of these clouds needs, told without nova-devcompat.

    :param born_on: the QEMU that the guest was started on
    """
    kind = domain.find("os/type")
    assert kind is not None
    machine = kind.attrib["machine"]
    version = re.fullmatch(r"pc-q35-(\d+)\.\d+", machine)
    assert version, machine
    qemu = {}
    if int(version[1]) < 8 and domain.find(_PCIE_PORT) is not None:
        qemu["pcie_unc_mask"] = [born_on]
    return {"qemu_machine": {"machine_types": [machine]}, "qemu": qemu, "libvirt": {}}
