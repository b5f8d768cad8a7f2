# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which findings must not be, and which Nova is to blame for by itself."""

from __future__ import annotations

from rigs.chaos.checks import OURS, Finding
from rigs.chaos.faults import GENTLE
from rigs.chaos.operations import MOVES

#: What Nova 34 does not always do well by itself, as runs without nova-devcompat show. Where
#: placement refuses the allocations that it reshapes (ReshapeFailed), or to delete some while
#: others change (AllocationDeleteFailed), any operation can fail. The claim that fails so leaves
#: its devices in the guest's list (nova/compute/resource_tracker.py, instance_claim), and a guest
#: that is sent on to another host has those of both.
FRAIL = ("revert",)
#: A cycle of the resource tracker in the middle of these frees what is claimed on the host that
#: the guest comes to (nova/pci/manager.py, clean_usage).
UNCLAIMING = (*FRAIL, *MOVES)


def violates(
    finding: Finding, fault: str, operation: str, *, broken: bool = False, stock: bool = False
) -> bool:
    """Whether a finding is one that must not be: Nova's own are counted only.

    :param fault: of the step
    :param operation: that was done to the guest, '' for none
    :param broken: Nova has failed by itself in that step
    :param stock: without nova-devcompat
    """
    if stock or finding.kind in OURS:
        return not stock
    frail = UNCLAIMING if finding.kind == "unclaimed" else FRAIL
    return fault in GENTLE and operation not in frail and not broken
