# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The files of a host that libvirt and the C library read."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping

#: Where libvirtd listens, at each host's own address.
PORT = 16509
#: libvirtd and sshd ask for them when they start, whatever their settings say.
_USERS = {
    "libvirt-qemu": "64055:64055::/var/lib/libvirt:/usr/sbin/nologin",
    "sshd": "64053:65534::/run/sshd:/usr/sbin/nologin",
}
_GROUPS = ("libvirt-qemu", "kvm")
#: Numbers that Debian's packages ask for, and one that they do not.
_GIDS = {"libvirt-qemu": 64055, "kvm": 64054}


def libvirtd(host: str, address: str) -> str:
    """``libvirtd.conf``."""
    return f"""\
# The machine's own identity is that of all hosts here.
host_uuid = "{uuid.uuid5(uuid.NAMESPACE_DNS, host)}"
listen_tls = 0
listen_tcp = 1
listen_addr = "{address}"
tcp_port = "{PORT}"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
log_outputs = "3:stderr"
log_level = 3
"""


def qemu(address: str) -> str:
    """``qemu.conf``: no help of a machine's that has none of it here."""
    return f"""\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = [ ]
cgroup_controllers = [ ]
stdio_handler = "file"
migration_address = "{address}"
migration_host = "{address}"
"""


def names(addresses: Mapping[str, str]) -> str:
    """``/etc/hosts``.

    :param addresses: of all hosts, by name
    """
    lines = [f"{address} {host}" for host, address in addresses.items()]
    return "\n".join(["127.0.0.1 localhost", *lines]) + "\n"


def passwd(text: str) -> str:
    """``/etc/passwd`` with the users that libvirtd and sshd ask for, and a root with a key only.

    :param text: the machine's own
    """
    missing = [name for name in _USERS if not _has(text, name)]
    # Where the machine has locked it, sshd would not let it in with a key either.
    text = re.sub("^root:[^:]*:", "root:*:", text, flags=re.MULTILINE)
    return text + "".join(f"{name}:x:{_USERS[name]}\n" for name in missing)


def group(text: str) -> str:
    """``/etc/group`` with the groups that libvirtd asks for.

    :param text: the machine's own
    """
    missing = [name for name in _GROUPS if not _has(text, name)]
    return text + "".join(f"{name}:x:{_GIDS[name]}:\n" for name in missing)


def _has(text: str, name: str) -> bool:
    return any(line.split(":")[0] == name for line in text.splitlines())
