# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the filter would say unasked; on real Nova in tests/functional/test_explain.py."""

from __future__ import annotations

import types
import urllib.parse
import uuid

import pytest
from nova import objects

from nova_devcompat import wire
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Policies, Policy
from nova_devcompat.compat.risks import Risk
from nova_devcompat.compat.ruling import Guest
from nova_devcompat.scheduler.judges import Judges
from nova_devcompat.scheduler.lookup import Lookup
from nova_devcompat.scheduler.preview import Preview, room_for
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


class _Placement:
    """Hosts by what they have free, each one provider; what it was asked."""

    def __init__(self, **hosts):
        self._hosts = {name: set(classes) for name, classes in hosts.items()}
        self.asked = []

    def get_allocation_candidates(self, context, resources):
        query = dict(urllib.parse.parse_qsl(resources.to_querystring()))
        self.asked.append(query)
        classes = {
            one.partition(":")[0]
            for name, value in query.items()
            if name.startswith("resources")
            for one in value.split(",")
        }
        summaries = {
            host: {"root_provider_uuid": host, "parent_provider_uuid": None, "resources": {}}
            for host, there in self._hosts.items()
            if classes <= there
        }
        found = [{"allocations": {host: {"resources": {}}}, "mappings": {}} for host in summaries]
        return found, summaries, "1.39"


ROOM = ("VCPU", "MEMORY_MB", "DISK_GB")


def a_request(extra_specs, *groups):
    objects.register_all()
    flavor = objects.Flavor(
        vcpus=1, memory_mb=64, root_gb=1, ephemeral_gb=0, swap=0, extra_specs=extra_specs
    )
    return objects.RequestSpec(
        instance_uuid=str(uuid.uuid4()),
        flavor=flavor,
        image=objects.ImageMeta(properties=objects.ImageMetaProps()),
        is_bfv=False,
        requested_resources=list(groups),
        request_level_params=objects.RequestLevelParams(),
        ignore_hosts=[],
    )


@pytest.mark.parametrize(
    ("extra_specs", "groups", "device"),
    [
        ({"resources:VGPU": "1"}, (), "VGPU"),
        (
            {
                "resources1:CUSTOM_VF": "2",
                "resources2:CUSTOM_VF": "1",
                "group_policy": "isolate",
            },
            (),
            "CUSTOM_VF",
        ),
        ({}, ("CUSTOM_VF",), "CUSTOM_VF"),
    ],
    ids=["of the flavor", "in groups of the flavor", "of a PCI request"],
)
def test_devices_alone_are_missing(monkeypatch, extra_specs, groups, device):
    monkeypatch.setattr("nova.scheduler.request_filter.ALL_REQUEST_FILTERS", [])
    requests = [
        objects.RequestGroup(requester_id="a-0", use_same_provider=True, resources={name: 1})
        for name in groups
    ]
    spec = a_request(extra_specs, *requests)
    placement = _Placement(
        fits=(*ROOM, device), taken=ROOM, full=(device,), bare=(), half=(*ROOM[1:], device)
    )
    room = room_for(None, placement, spec, 5)
    assert set(room.candidates) == {"fits"}
    assert room.without_device == {"taken"}
    assert (room.left_out, room.whole) == (frozenset(), True)
    first, _, last = placement.asked
    assert any(device in value for value in first.values())
    assert not any(device in value for value in last.values())
    assert not {"group_policy", "same_subtree"} & last.keys()
    # What the request itself holds is as it was.
    again = _Placement(fits=(*ROOM, device), taken=ROOM)
    assert room_for(None, again, spec, 2).without_device == {"taken"}
    assert again.asked[0] == first


def test_nothing_more_is_asked_where_all_have_devices(monkeypatch):
    monkeypatch.setattr("nova.scheduler.request_filter.ALL_REQUEST_FILTERS", [])
    placement = _Placement(a=(*ROOM, "VGPU"), b=(*ROOM, "VGPU"))
    room = room_for(None, placement, a_request({"resources:VGPU": "1"}), 2)
    assert (set(room.candidates), room.without_device) == ({"a", "b"}, frozenset())
    assert len(placement.asked) == 2
