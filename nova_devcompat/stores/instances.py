# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which instances run, so that their devices are initialised.

All others have their need frozen when they are started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nova.compute import power_state, vm_states

if TYPE_CHECKING:
    from nova.objects import Instance

#: The power states of guests whose devices are initialised.
RUNNING = (power_state.RUNNING, power_state.PAUSED)

#: The states of instances that can have such a guest: what to ask Nova's databases for.
VM_STATES = (vm_states.ACTIVE, vm_states.PAUSED, vm_states.RESCUED, vm_states.RESIZED)


def runs(instance: Instance) -> bool:
    """Whether an instance runs, as far as Nova knows."""
    return instance.vm_state in VM_STATES and instance.power_state in RUNNING
