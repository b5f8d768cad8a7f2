"""Needs, and who gets which device."""

import re

import pytest

from nova_devcompat.compat.need import DeviceNeed, Need, assign
from nova_devcompat.compat.traits import Atom


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
