# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the filter would say unasked; on real Nova in tests/functional/test_explain.py."""

from __future__ import annotations

import types

from nova_devcompat import wire
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Policies, Policy
from nova_devcompat.compat.risks import Risk
from nova_devcompat.compat.ruling import Guest
from nova_devcompat.scheduler.judges import Judges
from nova_devcompat.scheduler.lookup import Lookup
from nova_devcompat.scheduler.preview import Preview
from nova_devcompat.scheduler.state import SchedulerState


class _State(SchedulerState):
    """The scheduler's, with a guest and accepted risks, without files."""

    def __init__(self, **risks):
        self._reader = wire.StatsReader()
        self._judges = Judges()
        self._risks = risks

    def policies(self):
        return Policies(Policy(), {"gpu": Policy()}, {})

    def host_risks(self):
        return self._risks

    def look_up_moving(self, instance, spec):
        part = DeviceNeed.of("gpu", {"version": ["1.2"]}, slot="rc:VGPU")
        return Lookup("an-instance", Guest(record=Need(devices=(part,))))


def test_a_risk_of_a_host_counts_there_as_in_the_filter():
    risk = Risk(name="gpu:unknown")
    preview = Preview(_State(a=(risk,)), None, None)
    judged = {
        name: preview.judge(types.SimpleNamespace(host=name, stats=None), ()) for name in "ab"
    }
    assert judged["a"].ruling.accepts
    assert judged["b"].ruling.refused
