# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the owner of a project reads: in an instance's faults, and in messages that end there.

These name no versions, hosts or addresses, as Nova's own do not. Administrators find the reasons
in the logs and in the instance's action events (:mod:`nova_devcompat.stores.events`).
"""

from __future__ import annotations

#: Instead of all reasons of a ruling.
CANNOT_ACT = "the devices cannot act as the flavor wants"

#: Where that could not be found out.
NOT_FOUND_OUT = "whether devices can act as the flavor wants could not be found out"
