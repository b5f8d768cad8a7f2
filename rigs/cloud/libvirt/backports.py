# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A newer libvirt and QEMU than the machine's Debian has, from its backports."""

from __future__ import annotations

import os
import pathlib
import platform
import subprocess
from collections.abc import Sequence

from rigs.cloud.layout import CannotInstall, write
from rigs.cloud.packages import Debian

_KEYRING = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
#: Folders whose files are of one version each, so that none of the older may be among them.
_WHOLE = (
    *("usr/lib/*/qemu", "usr/lib/*/libvirt/connection-driver"),
    *("usr/lib/*/libvirt/storage-backend", "usr/share/qemu", "usr/share/libvirt"),
)
#: libvirtd ends where there is no firewall that it can use for its own networks, which Nova has
#: no use for.
_DRIVERS = ("network", "nwfilter", "interface")


class Backports(Debian):
    """All of it, whatever the machine has: it lies over ``/usr`` of hosts."""

    def _missing(self) -> list[str]:
        return [] if self._complete.exists() else sorted(set(self._wanted.values()))

    def _options(self) -> Sequence[str]:
        codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
        sources = self._apt / "backports.list"
        site = _site(codename)
        suites = (codename, f"{codename}-backports")
        lines = [f"deb [signed-by={_KEYRING}] {site} {suite} main\n" for suite in suites]
        write(sources, "".join(lines))
        return (
            *("-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=/dev/null"),
            *("-o", f"APT::Default-Release={suites[1]}"),
        )

    def _unpacked(self) -> None:
        for pattern in _WHOLE:
            for folder in self._root.glob(pattern):
                # For overlayfs: hide what is beneath.
                os.setxattr(folder, "trusted.overlay.opaque", b"y")
        for name in _DRIVERS:
            for driver in self._root.glob(
                f"usr/lib/*/libvirt/connection-driver/libvirt_driver_{name}.so"
            ):
                driver.unlink()


def _site(codename: str) -> str:
    """The mirror that this machine has its own release from.

    :raises CannotInstall: it is not told
    """
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)"],
        capture_output=True,
        text=True,
    )
    for line in done.stdout.splitlines():
        site, _, of = line.partition(" ")
        if of == codename:
            return site
    raise CannotInstall(f"apt-get knows no mirror of {codename or 'this release of Debian'}")
