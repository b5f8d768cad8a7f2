# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The ``devlink`` source: versions of firmware, as drivers report them to the kernel's devlink.

Sources: Documentation/networking/devlink/devlink-info.rst for what fixed, running and stored
mean, and the file of each driver beside it for names; Documentation/netlink/specs/devlink.yaml and
include/uapi/linux/devlink.h for messages, net/devlink/dev.c and netlink.c for when they come.

pyroute2 makes and decodes the messages; the exchange is ours.
"""

from nova_devcompat.sources.devlink.source import DevlinkSource

__all__ = ["DevlinkSource"]
