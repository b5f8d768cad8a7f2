# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""When an instance has a record, and what it says."""

import pytest
from nova import objects

from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.stores import records

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
