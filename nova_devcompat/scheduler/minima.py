# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Nova's minima of QEMU and libvirt for guests with mediated devices, as its driver has them.

Nova finds out late, in the pre-check of the source (nova/virt/libvirt/driver.py,
_assert_source_can_live_migrate_mdevs). The minima of functions on VFIO variant drivers need no
look: a nova-compute below them does not start (_check_pci_whitelist).
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import nova.virt

from nova_devcompat.compat.attributes import Unreadable, compare_versions, parse_version
from nova_devcompat.compat.verdict import Reason
from nova_devcompat.wire import HostDocument

#: What is not judged of them.
UNTOLD = (
    "Nova's minimum of libvirt where no host family tells libvirt_version, and all its minima for "
    "mediated devices of custom resource classes"
)

# Nova's own class of mediated devices; custom ones may be anything.
_VGPU = re.compile(r"resources[a-zA-Z0-9_-]{0,64}:VGPU")
_QEMU = ("QEMU", "KVM")
_ATTRIBUTE = "libvirt_version"
_NAMES = {"QEMU": "MIN_MDEV_LIVEMIG_QEMU_VERSION", "libvirt": "MIN_MDEV_LIVEMIG_LIBVIRT_VERSION"}


@functools.cache
def minima() -> Mapping[str, tuple[int, ...]]:
    """The versions that Nova wants of both hosts, as far as the Nova that is here says.

    Read and not imported: to import the driver is to choose how its process has its threads.
    """
    folder = pathlib.Path(nova.virt.__path__[0])
    try:
        text = (folder / "libvirt" / "driver.py").read_text()
    except (OSError, UnicodeDecodeError):
        return {}
    found = {}
    for what, name in _NAMES.items():
        match = re.search(rf"^{name} = \((\d+), (\d+), (\d+)\)$", text, re.MULTILINE)
        if match:
            found[what] = tuple(map(int, match.groups()))
    return found


def concerns(flavor: Any) -> bool:
    """Whether a guest of a flavor has mediated devices for certain."""
    return any(map(_VGPU.fullmatch, flavor.extra_specs or {}))


def too_old(node: Any, said: HostDocument | Reason) -> Iterator[tuple[str, str]]:
    """What of a host is below Nova's minima: ``qemu`` or ``libvirt``, and the versions.

    :param node: its compute node
    :param said: what it publishes
    """
    if node.hypervisor_type not in _QEMU:
        return
    versions = {"QEMU": _of_qemu(node.hypervisor_version), "libvirt": _of_libvirt(said)}
    for what, least in minima().items():
        version = versions[what]
        if version and compare_versions(version, least) < 0:
            yield what, f"{_text(version)} < {_text(least)}"


def _of_qemu(number: int | None) -> tuple[int, ...]:
    """The version that stands for a number such as 8001002; () where there is none."""
    if not number:
        return ()
    return number // 1_000_000, number // 1_000 % 1_000, number % 1_000


def _of_libvirt(said: HostDocument | Reason) -> tuple[int, ...]:
    parts = said.host if isinstance(said, HostDocument) else ()
    for part in parts:
        entry = part.accepts.attributes.get(_ATTRIBUTE)
        if entry is not None and entry.offered:
            try:
                return parse_version(entry.offered)
            except Unreadable:
                continue
    return ()


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
