# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Debian's kernel for the machines, and two versions of its sample of a mediated device.

Debian does not build the sample, ``samples/vfio-mdev/mtty.c``; its source is among the packages.
"""

from __future__ import annotations

import pathlib
import subprocess

from rigs.cloud.layout import CannotInstall, Cloud, write
from rigs.cloud.libvirt.backports import Backports
from rigs.cloud.machines import initrd
from rigs.cloud.packages import Debian

#: Packages that depend on those of the newest version there is.
WANTED = {
    "boot/vmlinuz-*": "linux-image-amd64",
    "usr/src/linux-headers-*-amd64": "linux-headers-amd64",
    "mtty": "linux-source",
}
#: What the module says first in a state; it refuses another (mtty_resume_write).
_MAJOR = "#define MTTY_MAJOR_VER 1\n"
#: Versions of the module, by what the line becomes.
VERSIONS = {"1": _MAJOR, "2": "#define MTTY_MAJOR_VER 2\n"}
_SOURCE = "*/samples/vfio-mdev/mtty.c"
#: With the packages where they expect to be, which nobody else sees.
_BUILD = """\
[ -z "$1" ] || mount -t overlay build -o "ro,lowerdir=$1:/usr" /usr
exec make -C "/usr/src/linux-headers-$2" "M=$3" modules
"""


class Kernel(Backports):
    """All of it, whatever the machine has.

    :param cloud: whose folder it is unpacked into
    :param tools: has make, gcc and busybox
    """

    def __init__(self, cloud: Cloud, tools: Debian) -> None:
        super().__init__(cloud, WANTED, "debian-kernel")
        self._tools = tools
        self._build_log = cloud / "log/build-mtty.log"

    @property
    def image(self) -> pathlib.Path:
        return self._root / "vmlinuz"

    @property
    def initrd(self) -> pathlib.Path:
        return self._root / "initrd"

    @property
    def modules(self) -> pathlib.Path:
        """Of the folders of the versions of mtty, each with ``mtty.ko``."""
        return self._root / "mtty"

    def _find(self, name: str) -> str | None:
        # The machine's own kernel is another.
        return next((str(found) for found in self._root.glob(name)), None)

    def _unpacked(self) -> None:
        image = self._one("boot/vmlinuz-*")
        release = image.name.removeprefix("vmlinuz-")
        self.image.symlink_to(image.relative_to(self._root))
        busybox = pathlib.Path(self._tools.program("busybox"))
        modules = initrd.in_order(self._root / "usr/lib/modules" / release, initrd.MODULES)
        self.initrd.write_bytes(initrd.initrd(busybox.read_bytes(), modules))
        source = self._source()
        for version, line in VERSIONS.items():
            self._build(version, source.replace(_MAJOR, line), release)

    def _one(self, pattern: str) -> pathlib.Path:
        """A file of the packages.

        :raises CannotInstall: it is not there, or not one
        """
        found = list(self._root.glob(pattern))
        if len(found) != 1:
            raise CannotInstall(f"Debian's packages of the kernel have {len(found)} {pattern}.")
        return found[0]

    def _source(self) -> str:
        """The sample's source; the rest of the kernel's is left out, and its archive goes.

        :raises CannotInstall: it is not there, or not what it was
        """
        archive = self._one("usr/src/linux-source-*.tar.xz")
        done = subprocess.run(
            [
                *("tar", "--extract", "--xz", "--to-stdout", "--occurrence=1", "--wildcards"),
                *("--file", archive, _SOURCE),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.stdout.count(_MAJOR) != 1:
            raise CannotInstall(f"{archive.name} has no {_SOURCE} that says '{_MAJOR.strip()}'.")
        archive.unlink()
        return done.stdout

    def _build(self, version: str, source: str, release: str) -> None:
        folder = self.modules / version
        write(folder / "mtty.c", source)
        write(folder / "Makefile", "obj-m := mtty.o\n")
        layers = [path for path in (self._tools.over_usr(), self.over_usr()) if path]
        with open(self._build_log, "ab") as log:
            done = subprocess.run(
                [
                    *("unshare", "--mount", "--propagation", "private", "sh", "-ec", _BUILD, "sh"),
                    *(":".join(map(str, layers)), release, folder),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if done.returncode:
            lines = "\n".join(self._build_log.read_text(errors="replace").splitlines()[-8:])
            raise CannotInstall(f"{lines}\nmtty cannot be built; all of it in {self._build_log}.")
