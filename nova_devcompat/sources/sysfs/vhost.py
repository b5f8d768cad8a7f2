# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the kernel's vhost-net offers to virtio interfaces of guests.

QEMU gives an interface what its backend has, and loads no state of a guest that has taken more
(hw/net/vhost_net.c, vhost_net_get_features; hw/virtio/virtio.c, virtio_load).
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable

from nova_devcompat.sources.sysfs.facts import Facts
from nova_devcompat.sources.sysfs.files import CannotRead, Reader

#: The attribute of the kernel: a mask such as ``0x10150008000``.
FEATURES = "vhost_net_features"

_DEVICE = "/dev/vhost-net"
# It is there once the driver is: to open the device would load it.
_IN_SYSFS = "class/misc/vhost-net"

# include/uapi/linux/vhost.h: VHOST_GET_FEATURES, _IOR(0xAF, 0x00, __u64). What reads has bit 30 on
# these architectures, bit 31 on all others (their asm/ioctl.h).
_BIT_30 = ("alpha", "mips", "parisc", "ppc", "sparc")


def request(machine: str) -> int:
    """The number of the ioctl on an architecture, named as ``uname -m`` does."""
    return (1 << (30 if machine.startswith(_BIT_30) else 31)) | 8 << 16 | 0xAF << 8


def ask(device: str = _DEVICE) -> int:
    """The features, as the driver tells them.

    :raises OSError: it cannot be asked
    """
    opened = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        answer = fcntl.ioctl(opened, request(os.uname().machine), bytes(8))
    finally:
        os.close(opened)
    return int.from_bytes(answer, sys.byteorder)


class VhostNet:
    """Asks once each time that the driver has come.

    :param ask: asks it
    """

    def __init__(self, ask: Callable[[], int] = ask) -> None:
        self._ask = ask
        self._known: tuple[int | None, Facts] | None = None

    def facts(self, reader: Reader) -> Facts:
        """The features; nothing while the driver is not there."""
        try:
            inode = reader.inode(_IN_SYSFS)
        except CannotRead as error:
            return Facts(problems={FEATURES: str(error)})
        if inode is None:
            return Facts()
        if self._known is None or self._known[0] != inode or self._known[1].problems:
            self._known = (inode, self._asked())
        return self._known[1]

    def _asked(self) -> Facts:
        try:
            return Facts({FEATURES: f"0x{self._ask():x}"})
        except OSError as error:
            why = error.strerror or type(error).__name__
            advice = "let the user that nova-compute runs as open it"
            return Facts(problems={FEATURES: f"{_DEVICE} cannot be asked: {why}; {advice}"})
