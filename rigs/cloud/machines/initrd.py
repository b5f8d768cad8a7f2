# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a virtual machine starts with: kernel modules, and a script that finds its files.

It has this machine's files, as the host's namespaces show them, to read; what it writes stays in
its memory.
"""

from __future__ import annotations

import gzip
import lzma
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

#: What the files, the network and mediated devices take. All else that a machine needs, Debian's
#: kernel has built in.
MODULES = ("9p", "9pnet_virtio", "overlay", "virtio_net", "mdev", "vfio_iommu_type1")
#: The name of the share with this machine's files.
FILES = "files"
_FILE, _FOLDER = 0o100755, 0o40755

#: The kernel gives it what follows "--" on its command line: the program to go on with.
_SCRIPT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in {modules}; do insmod /modules/$module || exit; done
# Nobody changes what it reads there while it runs; what somebody may change is shared again.
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose {files} /files || exit
mount -t tmpfs tmpfs /own
mkdir /own/upper /own/work
mount -t overlay -o lowerdir=/files,upperdir=/own/upper,workdir=/own/work overlay /root || exit
for folder in proc sys dev; do mount --move /$folder /root/$folder; done
mount -t tmpfs -o mode=755 tmpfs /root/run
cp /bin/busybox /root/run/
exec switch_root /root "$@"
"""


def initrd(busybox: bytes, modules: Mapping[str, bytes]) -> bytes:
    """An initrd, compressed.

    :param busybox: the program, linked statically
    :param modules: by name, in the order in which they can be loaded
    """
    script = _SCRIPT.format(modules=" ".join(modules), files=FILES)
    entries = [
        *((name, _FOLDER, b"") for name in ("bin", "dev", "proc", "sys", "root", "modules")),
        *((name, _FOLDER, b"") for name in ("files", "own")),
        ("init", _FILE, script.encode()),
        ("bin/busybox", _FILE, busybox),
        *((f"modules/{name}", _FILE, data) for name, data in modules.items()),
    ]
    return gzip.compress(cpio(entries), 3, mtime=0)


def cpio(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """An archive in the format "newc" (the kernel's driver-api/early-userspace/buffer-format.rst).

    :param entries: name, mode and content of each
    """
    archive = bytearray()
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        path = name.encode() + b"\0"
        # Inode, mode, owner, group, links, time, size, two devices of two numbers, name, sum.
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (path, data):
            archive += part
            archive += b"\0" * (-len(archive) % 4)
    return bytes(archive)


def in_order(folder: pathlib.Path, wanted: Sequence[str]) -> dict[str, bytes]:
    """Modules and what they need, not compressed, each after what it needs.

    :param folder: of all the modules of a kernel
    :param wanted: names
    :raises KeyError: the kernel has no such module
    """
    paths = {_name(path): path for path in folder.rglob("*.ko*")}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found:
            return
        path = paths[name]
        data = path.read_bytes()
        if path.suffix == ".xz":
            data = lzma.decompress(data)
        for needed in depends(data):
            add(needed)
        found[name] = data

    for name in wanted:
        add(name)
    return found


def depends(module: bytes) -> list[str]:
    """The modules that one says it needs."""
    said = re.search(rb"\0depends=([^\0]*)\0", module)
    return [name for name in said[1].decode().split(",") if name] if said else []


def _name(path: pathlib.Path) -> str:
    return path.name.partition(".")[0].replace("-", "_")
