# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A guest's need as it is stored, with the start of the guest that it is of."""

from __future__ import annotations

import dataclasses

from nova_devcompat.compat.need import Need


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Incarnation:
    """One start of a guest, which initialised its devices, or its arrival on another host.

    :param node: the compute node that it runs on
    :param start: an opaque token of the start, which no other start on the node has; '' where the
        hypervisor tells none
    :param time: when it was recorded, ISO 8601 in UTC; '' where that is not known
    :param request: ID of the request that it was recorded in
    """

    node: str
    start: str = ""
    time: str = ""
    request: str = ""

    def is_of(self, other: Incarnation) -> bool:
        """Whether both are of the same start, as far as either tells."""
        if self.node != other.node:
            return False
        return not (self.start and other.start) or self.start == other.start


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is recorded of a guest.

    :param need: what it needs
    :param incarnation: which start of it that is of; None in what an older release wrote
    """

    need: Need
    incarnation: Incarnation | None = None
