# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How hosts reach each other's disks where Nova copies them itself: cold migration and resize."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Mapping

from rigs.cloud.layout import CloudError

#: Where sshd listens, at each host's own address; the machine may have one of its own at port 22.
PORT = 16510


def ensure_key(path: pathlib.Path, program: str, environ: Mapping[str, str]) -> None:
    """Make the key that is all hosts' own and that all of them let in, unless it is there.

    :param program: ssh-keygen
    :param environ: what it needs
    :raises CloudError: it failed
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [program, "-q", "-t", "ed25519", "-N", "", "-C", "cloud", "-f", str(path)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, env={**os.environ, **environ}
    )
    if done.returncode:
        raise CloudError(f"ssh-keygen: {done.stderr.decode(errors='replace').strip()}")


def server(address: str, key: pathlib.Path) -> str:
    """``sshd_config``."""
    return f"""\
ListenAddress {address}:{PORT}
HostKey {key}
AuthorizedKeysFile {key}.pub
AuthenticationMethods publickey
PermitRootLogin prohibit-password
AllowUsers root
# Folders above the key belong to whoever runs the cloud.
StrictModes no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
"""


def client(key: pathlib.Path) -> str:
    """``ssh_config``: nothing of the user's own on this machine."""
    return f"""\
Host *
  Port {PORT}
  IdentityFile {key}
  IdentitiesOnly yes
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  LogLevel ERROR
"""
