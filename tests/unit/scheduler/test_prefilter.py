# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How much is asked of placement; against placement itself in tests/functional/test_bounds.py."""

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat import wire
from nova_devcompat.compat import traits
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.kinds import Superset
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Policies, Policy
from nova_devcompat.compat.ruling import Guest
from nova_devcompat.scheduler.lookup import Lookup
from nova_devcompat.scheduler.prefilter import LONGEST, Prefilter
from nova_devcompat.scheduler.state import SchedulerState

# What libvirt, QEMU and the kernel call virtio's features, each way.
SPELLINGS = {
    "as spelled": "VIRTIO_NET_F_{:02d}_CTRL_GUEST_OFFLOADS",
    "lower": "virtio_net_f_{:02d}_ctrl_guest_offloads",
    "short": "ctrl.guest.offloads.{:02d}",
}


class _State(SchedulerState):
    """What is shared with the filter, without a catalog on disk."""

    def __init__(self):
        self._reader = wire.StatsReader()

    def policies(self):
        return Policies(Policy())

    def host_risks(self):
        return {}


def asked_for(state, *needs):
    """The atoms that placement is asked for."""
    found = Lookup("an-instance", Guest(record=Need(devices=needs)))
    names = Prefilter(state).names(found)
    line = urlencode([("root_required", ",".join(sorted(names)))])
    assert len(line) - len("root_required=") <= LONGEST
    return {traits.decode(name) for name in names}


def need_of(family, values, attribute="features"):
    return DeviceNeed.of(family, {attribute: values}, slot=f"rc:{family.upper()}")


@pytest.mark.parametrize("families", [1, 8])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_long_need(spelling, families):
    features = [SPELLINGS[spelling].format(number) for number in range(49)]
    needs = [need_of(f"vdpa{number}", features) for number in range(families)]
    asked = asked_for(_State(), *needs)
    everything = {atom for need in needs for atom in need.atoms}
    assert asked <= everything
    assert {atom.family for atom in asked} == {need.family for need in needs}
    counts = [sum(atom.family == need.family for atom in asked) for need in needs]
    assert max(counts) - min(counts) <= 1
    assert asked == asked_for(_State(), *reversed(needs))


def test_a_short_need_is_asked_for_whole():
    need = need_of("gpu", [f"f{number}" for number in range(30)])
    assert asked_for(_State(), need) == need.atoms


def test_what_the_fewest_devices_accept_is_asked_for_first():
    family = Family(name="vdpa", rules={"features": Superset()})
    features = [SPELLINGS["as spelled"].format(number) for number in range(49)]
    need = need_of("vdpa", features)
    state = _State()
    for end in range(45, 50):
        # Each host lacks some more of the last ones.
        accepts = family.offer({"features": features[:end]}).accept_set(need.atoms)
        device = wire.PublishedDevice(address=f"0000:{end:02x}:00.0", accepts=accepts)
        state._reader.read(wire.dump_stats(wire.HostDocument(catalog="", devices=(device,))))
    asked = {atom.value for atom in asked_for(state, need)}
    assert set(features[45:]) <= asked
    assert not set(features) <= asked


@given(
    st.lists(
        st.builds(
            need_of,
            st.sampled_from(["a", "b", "c"]),
            st.frozensets(st.text("aZ_.0", min_size=1, max_size=60), max_size=40),
            st.sampled_from(["x", "y"]),
        ),
        max_size=4,
    )
)
def test_whatever_is_needed(needs):
    everything = {atom for need in needs for atom in need.atoms}
    asked = asked_for(_State(), *needs)
    assert asked <= everything
    short = {atom for atom in everything if len(atom.value) < 5}
    assert not short or asked
