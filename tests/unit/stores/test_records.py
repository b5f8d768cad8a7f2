# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""When an instance has a record, and what it says."""

import pytest
from nova import objects

from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.record import Incarnation
from nova_devcompat.stores import records
from nova_devcompat.stores.records import CONF

objects.register_all()

UUID = "e5a2e1f0-6a53-4f3c-8d57-6d3e6c8a2b10"
NEED = Need(devices=(DeviceNeed.of("gpu", {"version": ["1.2"]}),))


@pytest.fixture
def instance():
    return objects.Instance(uuid=UUID, system_metadata={"image_os": "x"})


def test_a_guest_with_devices_of_no_family_has_a_record(instance):
    """Without one nothing would be known of it."""
    assert records.load(instance) is None
    assert records.store(instance, Need(), assigned=True)
    assert records.exists(instance)
    assert records.load(instance) == Need()
    assert not records.store(instance, Need(), assigned=True)


def test_a_guest_without_devices_has_none(instance):
    assert not records.store(instance, Need())
    assert not records.exists(instance)


def test_what_it_needs_comes_and_goes(instance):
    assert records.store(instance, Need(), assigned=True)
    assert records.store(instance, NEED, assigned=True)
    assert records.load(instance) == NEED
    assert records.store(instance, Need(), assigned=True)
    assert records.load(instance) == Need()
    assert records.store(instance, Need())
    assert records.load(instance) is None
    assert instance.system_metadata == {"image_os": "x"}


def test_a_need_of_the_host_alone_is_recorded(instance):
    need = Need(devices=(DeviceNeed.of("qemu", {}, slot="host:qemu"),))
    assert records.store(instance, need)
    assert records.load(instance) == need


@pytest.fixture
def record_format():
    yield lambda value: CONF.set_override("record_format", value, group="devcompat")
    CONF.clear_override("record_format", group="devcompat")


def test_the_format_that_is_asked_for_is_written(instance, record_format):
    record_format(2)
    assert records.store(instance, NEED)
    assert instance.system_metadata["devcompat:need"].startswith("2 1 ")
    assert records.load(instance) == NEED


@pytest.mark.parametrize(("there", "here"), [(1, 2), (2, 1)])
def test_what_is_in_another_format_stays_until_it_changes(instance, record_format, there, here):
    """Two services of which one writes the other format do not take turns."""
    started = Incarnation(node="a", start="1@x")
    record_format(there)
    assert records.store(instance, NEED, incarnation=started)
    before = dict(instance.system_metadata)
    record_format(here)
    assert not records.store(instance, NEED, incarnation=started)
    assert instance.system_metadata == before
    assert records.store(instance, NEED, incarnation=Incarnation(node="a", start="2@x"))
    assert instance.system_metadata["devcompat:need"].startswith(f"{here} ")
    # What is left of a longer record goes.
    instance.system_metadata["devcompat:need.7"] = "x"
    assert records.store(instance, NEED, incarnation=Incarnation(node="a", start="2@x"))
    assert sum(key.startswith("devcompat:") for key in instance.system_metadata) == 1
