# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Hosts with a real libvirtd and QEMU of Debian's, which emulates the guests' processors."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from typing import ClassVar

from rigs.cloud import waiting
from rigs.cloud.hosts import Hosts, Sections, Value
from rigs.cloud.layout import ROOT, SYSTEM_PATH, CannotInstall, write
from rigs.cloud.libvirt import guest, settings, ssh
from rigs.cloud.libvirt.backports import Backports
from rigs.cloud.libvirt.namespaces import held
from rigs.cloud.packages import Debian
from rigs.cloud.processes import Service

#: What hosts run of which there can be another version, and the package that has it.
VERSIONED = {
    "libvirtd": "libvirt-daemon",
    "usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so": "libvirt-daemon-driver-qemu",
    "virsh": "libvirt-clients",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
}
#: All that they run, and libvirt's Python binding: Debian has no newer one, and it works with a
#: newer libvirt.
PROGRAMS = {
    **VERSIONED,
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "scp": "openssh-client",
    "ssh-keygen": "openssh-client",
    "usr/lib/python3/dist-packages/libvirt.py": "python3-libvirt",
}
_BINDING = "usr/lib/python3/dist-packages"
#: Files of ``/etc`` that a host has of its own.
_ETC = ("hosts", "passwd", "group")
_HERE = pathlib.Path(__file__).parent
NAMESPACES, MOUNT = _HERE / "namespaces.py", _HERE / "mount_host.sh"
#: What holding namespaces takes, tried in some that are gone again at once.
_TRIAL = (
    *("unshare", "--mount", "--uts", "--pid", "--fork", "--propagation", "private"),
    *("sh", "-ec"),
    "mount -t tmpfs trial /run; mkdir /run/u /run/w; mount -t overlay trial"
    " -o lowerdir=/etc,upperdir=/run/u,workdir=/run/w /etc",
)
#: Sections of nova-compute's configuration that say how to start a helper with privileges.
_HELPERS = (
    *("nova_sys_admin", "privsep_osbrick"),
    *("vif_plug_linux_bridge_privileged", "vif_plug_ovs_privileged"),
)


class LibvirtHosts(Hosts):
    """See the module."""

    driver = "libvirt.LibvirtDriver"
    catalog = """\
# The catalog of this cloud, beside the packs. Change it as you like: it is read again when it
# changes, and written again only if it is gone.
meta:
  schema_version: '1.0'

known_bad:
  # How to refuse what the packs accept. Nobody has this QEMU.
  - name: example-qemu-99
    family: qemu
    need: {pcie_unc_mask: '99.0.0'}
    offer: {qemu_version: '99.0.0'}
    message: an example of an entry
    url: https://example.org/qemu
"""
    flavors: ClassVar[Mapping[str, Mapping[str, str]]] = {"plain": {}}
    #: A disk of the image's size: it is copied by each migration.
    size: ClassVar[Mapping[str, int]] = {"ram": 64, "vcpus": 1, "disk": 0}
    image = guest.disk()
    tests = "tests/libvirt"

    # --- programs --------------------------------------------------------------------------------

    def why_not(self) -> str:
        if platform.machine() != "x86_64":
            return f"their guests are of x86_64, and this machine is of {platform.machine()}"
        if os.geteuid() != 0:
            return "only root can make their namespaces"
        try:
            tried = subprocess.run(_TRIAL, capture_output=True, text=True, timeout=60)
        except OSError as error:
            return str(error)
        return f"namespaces and mounts: {tried.stderr.strip()}" if tried.returncode else ""

    def install(self) -> None:
        debian = self._debian()
        debian.ensure()
        if self._cloud.settings.backports:
            self._backports().ensure()
        self._link_binding(debian)
        ssh.ensure_key(self._key, debian.program("ssh-keygen"), debian.environ())

    def _debian(self) -> Debian:
        return Debian(self._cloud, PROGRAMS, "debian-libvirt")

    def _backports(self) -> Debian:
        return Backports(self._cloud, VERSIONED, "debian-backports")

    @property
    def _key(self) -> pathlib.Path:
        return self._cloud / "etc/ssh/key"

    def _over_usr(self, host: str) -> list[str]:
        """What lies over ``/usr`` of a host, from the top."""
        layers = [self._debian().over_usr()]
        if host in self._cloud.settings.backports:
            layers.insert(0, self._backports().over_usr())
        return [str(path) for path in layers if path]

    def _link_binding(self, debian: Debian) -> None:
        """Put Debian's Python binding where nova-compute finds it, and nothing else."""
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        (packages,) = (self._cloud.venv / "lib").glob("python*/site-packages")
        modules = [f"libvirtmod{suffix}", f"libvirtmod_qemu{suffix}"]
        for name in ("libvirt.py", "libvirt_qemu.py", *modules):
            if not debian.file(f"{_BINDING}/{name}").exists():
                version = ".".join(map(str, sys.version_info[:2]))
                raise CannotInstall(f"Debian's python3-libvirt is not for Python {version}")
            # On a host, the machine's /usr has what was unpacked.
            link, target = packages / name, pathlib.Path("/", _BINDING, name)
            if not (link.is_symlink() and link.readlink() == target):
                link.unlink(missing_ok=True)
                link.symlink_to(target)

    # --- files -----------------------------------------------------------------------------------

    def addresses(self) -> dict[str, str]:
        """By host: each cloud of the machine has others, as it has other ports."""
        high, low = divmod(self._cloud.settings.port_base, 256)
        hosts = [host for host, _ in self._cloud.hosts()]
        return {host: f"127.{high}.{low}.{number}" for number, host in enumerate(hosts, 1)}

    def _machine(self, host: str) -> pathlib.Path:
        """What a host has of its own."""
        return self._cloud / f"hosts/{host}/machine"

    def write(self, host: str) -> None:
        addresses, machine = self.addresses(), self._machine(host)
        write(machine / "libvirt/etc/libvirtd.conf", settings.libvirtd(host, addresses[host]))
        write(machine / "libvirt/etc/qemu.conf", settings.qemu(addresses[host]))
        write(machine / "ssh/sshd_config", ssh.server(addresses[host], self._key))
        write(machine / "etc/ssh/ssh_config", ssh.client(self._key))
        passwd, group = (pathlib.Path("/etc", name).read_text() for name in _ETC[1:])
        texts = (settings.names(addresses), settings.passwd(passwd), settings.group(group))
        for name, text in zip(_ETC, texts, strict=True):
            write(machine / "etc" / name, text)

    def compute(self, host: str) -> Sections:
        address = self.addresses()[host]
        file = self._cloud / f"etc/hosts/{host}.conf"
        helper = f"{self._cloud.program('privsep-helper')} --config-file {file}"
        return {
            "DEFAULT": {
                "my_ip": address,
                "instances_path": "/var/lib/nova/instances",
                "use_cow_images": False,
                "default_ephemeral_format": "ext4",
                "reserved_host_memory_mb": 0,
            },
            "libvirt": {
                "virt_type": "qemu",
                "cpu_mode": "none",
                "images_type": "raw",
                "hw_machine_type": "x86_64=q35",
                "live_migration_inbound_addr": address,
                "live_migration_scheme": "tcp",
            },
            **{section: {"helper_command": helper} for section in _HELPERS},
        }

    def nova(self) -> Sections:
        # Nova itself refuses an older QEMU than a guest's own, which QEMU does not.
        return {"workarounds": {"skip_hypervisor_version_check_on_lm": True}}

    def packs(self) -> Mapping[str, Value]:
        return {"packs": "qemu_machine,qemu,libvirt"}

    # --- processes -------------------------------------------------------------------------------

    def services(self) -> Sequence[Sequence[Service]]:
        addresses = self.addresses()
        return (
            [self._holder(host) for host in addresses],
            [
                *(self._libvirtd(host, address) for host, address in addresses.items()),
                *(self._sshd(host, address) for host, address in addresses.items()),
            ],
        )

    def _pid_file(self, host: str) -> pathlib.Path:
        return self._cloud / f"hosts/{host}/namespaces.pid"

    def _holder(self, host: str) -> Service:
        cloud, pid_file = self._cloud, self._pid_file(host)
        mount = [str(MOUNT), host, str(self._machine(host)), ":".join(self._over_usr(host))]
        return Service(
            name=f"host-{host}",
            command=[
                *(sys.executable, str(NAMESPACES), "hold", str(pid_file)),
                *(*mount, str(cloud.programs), str(ROOT)),
            ],
            reads=[
                MOUNT,
                *(self._machine(host) / "etc" / name for name in (*_ETC, "ssh/ssh_config")),
            ],
            ready=waiting.Check(what="to mount what it has", met=lambda: held(pid_file)),
        )

    def _libvirtd(self, host: str, address: str) -> Service:
        etc = self._machine(host) / "libvirt/etc"
        return self.on(
            host,
            Service(
                name=f"libvirtd-{host}",
                command=["libvirtd", "--listen"],
                environ={"PATH": SYSTEM_PATH},
                reads=[etc / "libvirtd.conf", etc / "qemu.conf"],
                ready=waiting.port(settings.PORT, address),
            ),
        )

    def _sshd(self, host: str, address: str) -> Service:
        config = self._machine(host) / "ssh/sshd_config"
        return self.on(
            host,
            Service(
                name=f"sshd-{host}",
                # By its whole path, or it refuses to start.
                command=["/usr/sbin/sshd", "-D", "-e", "-f", str(config)],
                environ={"PATH": SYSTEM_PATH},
                reads=[config],
                ready=waiting.port(ssh.PORT, address),
            ),
        )

    def on(self, host: str, service: Service) -> Service:
        return self._after(self.enter(host), service)

    def _after(self, enter: Sequence[str], service: Service) -> Service:
        """A service that what runs a command elsewhere is put before."""
        path = service.environ["PATH"]
        return dataclasses.replace(
            service,
            command=[*enter, *service.command],
            environ={**service.environ, "PATH": f"{path}:/usr/sbin:/sbin"},
        )

    def enter(self, host: str) -> list[str]:
        """What runs a command on a host, to be put before it."""
        return self._namespaces(host)

    def _namespaces(self, host: str) -> list[str]:
        """What runs a command in the namespaces of a host."""
        return [sys.executable, str(NAMESPACES), "enter", str(self._pid_file(host))]
