# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import types

import pytest
from nova.compute import power_state, vm_states

from nova_devcompat.stores import instances


@pytest.mark.parametrize(
    ("vm_state", "power", "runs"),
    [
        (vm_states.ACTIVE, power_state.RUNNING, True),
        (vm_states.PAUSED, power_state.PAUSED, True),
        (vm_states.RESCUED, power_state.RUNNING, True),
        # It waits for the operator to confirm that it stays where it is.
        (vm_states.RESIZED, power_state.RUNNING, True),
        (vm_states.STOPPED, power_state.SHUTDOWN, False),
        (vm_states.SUSPENDED, power_state.SUSPENDED, False),
        (vm_states.SHELVED_OFFLOADED, power_state.NOSTATE, False),
        # One of the two is out of date.
        (vm_states.ACTIVE, power_state.SHUTDOWN, False),
        (vm_states.STOPPED, power_state.RUNNING, False),
        (vm_states.BUILDING, None, False),
    ],
)
def test_which_instances_run(vm_state, power, runs):
    instance = types.SimpleNamespace(vm_state=vm_state, power_state=power)
    assert instances.runs(instance) is runs
