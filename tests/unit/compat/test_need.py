# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Needs, and who gets which device."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat.compat.need import (
    DeviceNeed,
    InMigration,
    Need,
    assign,
    pci_slot,
    resource_slot,
)
from nova_devcompat.compat.traits import Atom

# So few of each that devices are often alike.
_values = st.none() | st.frozensets(st.sampled_from("12"), max_size=2)
needs = st.lists(
    st.builds(
        DeviceNeed.of,
        st.sampled_from("fg"),
        st.dictionaries(st.sampled_from("ab"), _values, max_size=2),
        slot=st.sampled_from(["pci:x", "pci:y", "rc:VGPU"]),
        address=st.sampled_from(["", "0000:81:00.1", "0000:81:00.2"]),
    ),
    max_size=4,
).map(lambda devices: Need(devices=tuple(devices)))


def test_attributes_are_sorted_so_that_equal_needs_are_equal():
    one = DeviceNeed.of("f", {"b": ["2"], "a": None, "c": []})
    other = DeviceNeed.of("f", {"c": [], "a": None, "b": ["2"]})
    assert one == other
    assert hash(one) == hash(other)
    assert one.values == (("a", None), ("b", frozenset({"2"})), ("c", frozenset()))


@pytest.mark.parametrize(
    ("family", "values", "message"),
    [
        ("F", {}, "'F' is no name"),
        ("f", {"A": []}, "'A' is no name"),
        ("f", {"a": ["1", ""]}, "f.a: an empty value"),
        ("f", {"a": "2.4"}, "f.a: '2.4' is a text, not a list of texts"),
    ],
)
def test_half_a_need_cannot_be(family, values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        DeviceNeed.of(family, values)


def test_an_attribute_is_needed_once():
    with pytest.raises(ValueError, match="f: an attribute is given twice"):
        DeviceNeed(family="f", values=(("a", None), ("a", frozenset({"1"}))))


def test_atoms():
    need = DeviceNeed.of("f", {"a": ["1", "2"], "b": None, "c": [], "d": ["3"]})
    expected = {Atom("f", "a", "1"), Atom("f", "a", "2"), Atom("f", "d", "3")}
    assert need.atoms == expected
    other = DeviceNeed.of("g", {"a": ["1"]})
    whole = Need(devices=(need, need, other))
    assert whole.atoms == expected | {Atom("g", "a", "1")}
    assert whole.families == {"f", "g"}


def test_a_need_moves_with_its_guest():
    need = DeviceNeed.of("f", {"a": ["1"]}, slot="pci:x", address="0000:81:00.1")
    moved = need.moved("0000:41:00.1")
    assert moved.address == "0000:41:00.1"
    assert moved.moved("0000:81:00.1") == need


def test_needs_read_well():
    need = DeviceNeed.of("f", {"b": ["2", "1"], "a": None, "c": []}, address="0000:81:00.1")
    assert str(need) == "f (a unknown, b 1,2, c nothing) at 0000:81:00.1"
    assert str(need.moved("")) == "f (a unknown, b 1,2, c nothing)"


def test_what_is_assumed():
    need = DeviceNeed.of("f", {"a": ["1"], "b": None}, assumed=["a"])
    assert str(need) == "f (a 1 (assumed), b unknown)"
    assert need != DeviceNeed.of("f", {"a": ["1"], "b": None})
    with pytest.raises(ValueError, match="f: an attribute is assumed that is not there"):
        DeviceNeed.of("f", {"a": ["1"]}, assumed=["b"])


def test_slots():
    requested = DeviceNeed.of("f", {}, slot=pci_slot("x"))
    assert (requested.request_id, requested.resource_class) == ("x", None)
    allocated = DeviceNeed.of("f", {}, slot=resource_slot("VGPU"))
    assert (allocated.request_id, allocated.resource_class) == (None, "VGPU")
    assert pci_slot(None) == "pci:"


class TestCompleted:
    """What adoption makes of a record and of the devices as they are now."""

    def device(self, values, slot="pci:x", address="0000:81:00.1", family="f", assumed=()):
        return DeviceNeed.of(family, values, slot=slot, address=address, assumed=assumed)

    def completed(self, recorded, *frozen):
        return Need(devices=tuple(recorded)).completed(Need(devices=frozen)).devices

    def test_no_record(self):
        found = self.completed([], self.device({"a": ["1"], "b": None}))
        assert found == (self.device({"a": ["1"], "b": None}, assumed=["a"]),)

    def test_what_is_recorded_stays(self):
        recorded = self.device({"a": ["1"]})
        assert self.completed([recorded], self.device({"a": ["2"]})) == (recorded,)

    def test_a_new_attribute(self):
        found = self.completed([self.device({"a": ["1"]})], self.device({"a": ["2"], "b": ["3"]}))
        assert found == (self.device({"a": ["1"], "b": ["3"]}, assumed=["b"]),)

    def test_what_was_not_known(self):
        found = self.completed([self.device({"a": None})], self.device({"a": ["2"]}))
        assert found == (self.device({"a": ["2"]}, assumed=["a"]),)

    def test_an_address_that_was_not_known(self):
        recorded = self.device({"a": ["1"]}, address="")
        assert self.completed([recorded], self.device({"a": ["2"]})) == (
            self.device({"a": ["1"]}),
        )

    def test_a_request_with_a_new_id(self):
        recorded = self.device({"a": ["1"]}, slot="pci:old")
        assert self.completed([recorded], self.device({"a": ["2"]})) == (recorded,)

    def test_devices_of_one_slot_by_address(self):
        one = self.device({"a": ["1"]}, address="0000:81:00.1")
        two = self.device({"a": ["2"]}, address="0000:81:00.2")
        new = self.device({"a": ["9"], "b": ["9"]}, address="0000:81:00.2")
        assert self.completed([one, two], new) == (
            one,
            self.device({"a": ["2"], "b": ["9"]}, address="0000:81:00.2", assumed=["b"]),
        )

    def test_two_units_of_one_provider(self):
        vgpu = self.device({"a": ["1"]}, slot="rc:VGPU", address="0000:81:00.0")
        assert self.completed([vgpu], vgpu, vgpu) == (vgpu, vgpu.assuming())

    def test_a_device_more(self):
        other = self.device({"a": ["2"]}, family="g")
        recorded = self.device({"a": ["1"]})
        assert self.completed([recorded], other) == (recorded, other.assuming())

    @given(needs, needs)
    def test_again_changes_nothing(self, recorded, frozen):
        once = recorded.completed(frozen)
        assert once.completed(frozen) == once

    @given(needs, needs)
    def test_nothing_known_is_changed_or_lost(self, recorded, frozen):
        completed = recorded.completed(frozen).devices
        for before, after in zip(recorded.devices, completed, strict=False):
            assert (after.family, after.slot) == (before.family, before.slot)
            known = {name: values for name, values in before.values if values is not None}
            assert known.items() <= dict(after.values).items()
            assert before.assumed <= after.assumed
            assert not (after.assumed - before.assumed) & known.keys()


def test_an_instance_without_devices_needs_nothing():
    need = Need()
    assert not need.atoms
    assert not need.families
    assert need.by_slot() == {}


def test_by_slot():
    one = DeviceNeed.of("f", {}, slot="pci:x")
    two = DeviceNeed.of("g", {}, slot="rc:VGPU")
    three = DeviceNeed.of("g", {}, slot="pci:x")
    groups = Need(devices=(one, two, three)).by_slot()
    assert groups == {"pci:x": [one, three], "rc:VGPU": [two]}


@pytest.mark.parametrize(
    ("fitting", "devices", "given"),
    [
        ({}, 0, []),
        ({"a": ""}, 1, [None]),
        ({"a": "0"}, 1, [0]),
        ({"a": "01", "b": "0"}, 2, [1, 0]),  # the first makes room for the second
        ({"a": "0", "b": "0"}, 2, [0, None]),
        ({"a": "01", "b": "02", "c": "0"}, 3, [1, 2, 0]),
        ({"a": "0", "b": ""}, 0, [None, None]),
    ],
)
def test_assign(fitting, devices, given):
    needs = [DeviceNeed.of(name, {}) for name in fitting]

    def fits(need, device):
        return str(device) in fitting[need.family]

    assert assign(needs, range(devices), fits) == given


def test_what_is_read_now_goes_to_the_request_that_it_is_of():
    """Where one physical function serves two requests, the address alone does not tell."""
    one, two = (
        DeviceNeed.of("nic", {"fw": None}, slot=slot, address="0000:81:00.0")
        for slot in ("pci:one", "pci:two")
    )
    now = [
        DeviceNeed.of("nic", {"fw": [value]}, slot=slot, address="0000:81:00.0")
        for slot, value in (("pci:two", "2"), ("pci:one", "1"))
    ]
    completed = Need(devices=(one, two)).completed(Need(devices=tuple(now)))
    assert [(part.slot, dict(part.values)["fw"]) for part in completed.devices] == [
        ("pci:one", frozenset({"1"})),
        ("pci:two", frozenset({"2"})),
    ]


def test_what_a_live_migration_does_is_told_by_what_is_read_now():
    before = DeviceNeed.of("nic", {"fw": ["1"]})
    now = DeviceNeed.of("nic", {"fw": ["2"]}, in_migration=InMigration.HIDDEN)
    assert before.completed(now) == DeviceNeed.of(
        "nic", {"fw": ["1"]}, in_migration=InMigration.HIDDEN
    )
    assert (before.slot, before.address) == ("", "")
