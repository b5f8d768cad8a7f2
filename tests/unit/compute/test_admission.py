# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What fails while nova-compute finds out what a guest is given: UNKNOWN, and never a way in."""

import functools
import types

import nova.conf
import pytest
from nova import exception
from nova.compute import task_states

from nova_devcompat.compat import words
from nova_devcompat.compat.policy import Mode, OnUnknown, Policies, Policy
from nova_devcompat.compute.admission import Admission
from nova_devcompat.compute.host import ThisHost
from nova_devcompat.conf import register_opts
from nova_devcompat.host.inventory import HostDevice, HostDevices
from nova_devcompat.stores.assigned import Assigned
from tests.fuzz.consumers import CATALOG, FAMILIES
from tests.unit.providers import uuid_of

register_opts(nova.conf.CONF)

REJECT = Policy()
ACCEPT = Policy(on_unknown=OnUnknown.ACCEPT)
REPORT = Policy(mode=Mode.REPORT)
PINNED = {"devcompat:gpu.version": "1.2"}


class Fails(RuntimeError):
    """What nobody expects."""


class Host(ThisHost):
    """This host, with a device at a version; one thing fails when it is asked for.

    :param fails: which, or none
    """

    def __init__(self, fails, policy, version="1.3"):
        super().__init__(inventory=None)
        self._fails = fails
        self._policies = Policies(policy, {"gpu": policy})
        offer = FAMILIES["gpu"].offer({"version": version, "caps": ["p2p"]})
        self._device = HostDevice("0000:81:00.0", offer)

    def policies(self, catalog=None):
        if catalog is not None:
            self._fail("policies")
        return self._policies

    def devices(self, nodename):
        self._fail("devices")
        catalog = types.SimpleNamespace(read_pins=self._read_pins)
        return HostDevices(catalog, [self._device])

    def assigned(self, *args):
        self._fail("assigned")
        return [Assigned("rc:VGPU", self._device.address, self._device)]

    def _read_pins(self, extra_specs):
        self._fail("pins")
        return CATALOG.read_pins(extra_specs)

    def _fail(self, what):
        if self._fails == what:
            raise Fails(what)


class Reports:
    """Refusals that are only reported."""

    def __init__(self):
        self.reasons = []

    def add(self, context, instance, reasons):
        self.reasons += reasons


def admission_of(host):
    admission = object.__new__(Admission)
    admission._devcompat_host = host
    admission._devcompat_reports = Reports()
    admission.get_available_nodes = lambda: ["cmp1"]
    return admission


def instance_of(extra_specs, task_state="spawning"):
    flavor = types.SimpleNamespace(extra_specs=extra_specs)
    return types.SimpleNamespace(
        uuid=uuid_of("guest"),
        node="cmp1",
        task_state=task_state,
        flavor=flavor,
        pci_requests=None,
        pci_devices=(),
        system_metadata={},
    )


def spawned(host, extra_specs, task_state="spawning"):
    """What admission reports of a guest that is spawned there; it raises what it refuses with."""
    admission = admission_of(host)
    admission._check_pins(None, instance_of(extra_specs, task_state), {})
    return admission._devcompat_reports.reasons


@pytest.fixture(autouse=True)
def no_events(monkeypatch):
    """There are no databases that events could be added to."""
    monkeypatch.setattr("nova_devcompat.stores.events.add", lambda *args, **values: None)


def test_a_device_that_acts_as_pinned():
    assert spawned(Host(None, REJECT), PINNED) == []
    with pytest.raises(exception.GroupAffinityViolation):
        spawned(Host(None, REJECT, version="1.1"), PINNED)


@pytest.mark.parametrize(
    "task_state",
    [task_states.REBUILD_SPAWNING, task_states.REBUILDING, task_states.RESIZE_FINISH],
)
def test_a_guest_that_would_be_left_without_a_host(task_state):
    assert spawned(Host(None, REJECT, version="1.1"), PINNED, task_state) == []


@pytest.mark.parametrize("fails", ["devices", "policies", "pins", "assigned"])
def test_what_cannot_be_found_out_is_unknown(fails, caplog):
    with pytest.raises(exception.GroupAffinityViolation) as caught:
        spawned(Host(fails, REJECT), PINNED)
    assert str(caught.value) == words.CANNOT_ACT  # the owner reads it
    assert spawned(Host(fails, ACCEPT), PINNED) == []
    assert spawned(Host(fails, REPORT), PINNED)
    errors = [record for record in caplog.records if record.exc_info]
    assert len(errors) == 3
    assert spawned(Host(fails, REJECT), {}) == []  # nothing is wanted of its devices


class Adoption:
    """Where the guest is: what it says of the record before a guest leaves.

    :param says: raised, if it is an error
    """

    def __init__(self, says):
        self._says = says

    def make_current(self, context, instance, nodename):
        if isinstance(self._says, Exception):
            raise self._says
        return self._says


@pytest.mark.parametrize("policy", [REJECT, ACCEPT, REPORT])
@pytest.mark.parametrize("extra_specs", [{"resources:VGPU": "1"}, {}])
def test_a_record_of_which_it_cannot_be_told_whether_it_is_current(policy, extra_specs):
    """As where placement does not answer: it may be of another start of the guest."""
    admission = admission_of(Host(None, policy))
    left = []

    def leave():
        admission._around_check_can_live_migrate_source(
            lambda: left.append(True), None, instance_of(extra_specs)
        )

    admission._devcompat_adoption = Adoption(None)
    leave()
    assert left.pop()
    admission._devcompat_adoption = Adoption(Fails("placement does not answer"))
    if policy is REPORT or not extra_specs:  # the guest has nothing that stays with it
        leave()
        assert left.pop()
    else:
        with pytest.raises(exception.MigrationPreCheckError):
            leave()
        assert not left


HOOKS = {
    "check_can_live_migrate_destination": (),
    "check_source_migrate_data_at_dest": (None, {}),
    "pre_live_migration": (None,),
    "check_can_live_migrate_source": (),
}


class _Untold:
    """An instance of which one thing cannot be read."""

    def __init__(self, instance):
        self._instance = instance

    def __getattr__(self, name):
        if name == "pci_devices":
            raise Fails("no answer")
        return getattr(self._instance, name)


def _no_nodes():
    raise Fails("no answer")


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("fails", ["node", "devices of the guest"])
@pytest.mark.parametrize("policy", [REJECT, REPORT])
def test_whatever_fails_on_the_way_lets_nobody_in(hook, fails, policy):
    """Hooks that fail are passed over."""
    admission = admission_of(Host(None, policy))
    admission._devcompat_adoption = Adoption(Fails("no answer"))
    admission.virtapi = None
    instance = instance_of({"resources:VGPU": "1"})
    if fails == "node":
        admission.get_available_nodes = _no_nodes
    else:
        instance = _Untold(instance)
    gone_on = []
    around = functools.partial(
        getattr(admission, f"_around_{hook}"), lambda: gone_on.append(True), None, instance
    )
    if policy is REPORT:
        around(*HOOKS[hook])
        assert gone_on and admission._devcompat_reports.reasons
    else:
        with pytest.raises(exception.MigrationPreCheckError):
            around(*HOOKS[hook])
        assert not gone_on
