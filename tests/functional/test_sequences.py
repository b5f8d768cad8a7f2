# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Random sequences of operations, after each of which the record equals a model's.

The driver is ours, wrapped around Nova's fake one, or that alone where nova-devcompat is not
installed. Its methods are called as the compute manager calls them, over Nova's database and
objects and over Placement, which are real.
"""

import dataclasses
import datetime
import functools
import itertools
import pathlib
import types

import fixtures
import hypothesis
import pytest
import yaml
from hypothesis import stateful
from hypothesis import strategies as st
from nova import context as nova_context
from nova import exception, objects, test
from nova.compute import instance_actions, power_state, task_states, vm_states
from nova.network import model
from nova.objects import fields
from nova.objects import migrate_data as migrate_data_obj
from nova.scheduler.client import report
from nova.tests import fixtures as nova_fixtures
from nova.tests.functional import fixtures as func_fixtures
from nova.virt import fake
from oslo_utils import timeutils, uuidutils
from oslo_utils.fixture import uuidsentinel as uuids

from nova_devcompat import wire
from nova_devcompat.compute import driver as devcompat_driver
from nova_devcompat.conf import register_opts
from nova_devcompat.stores import asked
from tests import budget
from tests.functional import base, devcompat
from tests.functional.devcompat import CATALOG, GPU, PF

register_opts(test.CONF)

pytestmark = pytest.mark.slow

HOSTS = ("a", "b", "c")
VERSIONS = ("1.2", "1.3", "1.4", "2.0")
FUNCTIONS = [f"{PF[:-1]}{number}" for number in range(1, 8)]
#: A hundred by day, a thousand at night.
SEQUENCES = min(budget.scaled(100, by_day=1), 1000)

#: What is needed of a device that could not be read when it was initialised.
UNKNOWN = "unknown"

#: What an operation is called in Nova's history of an instance.
ACTIONS = {
    "reboot": instance_actions.REBOOT,
    "power_on": instance_actions.START,
    "resume": instance_actions.RESUME,
    "rescue": instance_actions.RESCUE,
    "unrescue": instance_actions.UNRESCUE,
    "rebuild": instance_actions.REBUILD,
    "pause": instance_actions.PAUSE,
    "unpause": instance_actions.UNPAUSE,
}


def accepts(offered, needed):
    """The rule ``semver``, said once more."""
    major, minor = offered.split(".")
    wanted_major, wanted_minor = needed.split(".")
    return major == wanted_major and int(minor) >= int(wanted_minor)


@dataclasses.dataclass
class Device:
    """What the model holds of one device of the guest.

    :ivar version: what the guest needs of it, UNKNOWN, or None where nothing is recorded
    :ivar port: whether it is a port's, so that a live migration plugs in another one
    :ivar recorded: its slot and address in the record, where these are of an earlier device
    """

    family: str
    slot: str
    address: str
    version: str | None
    assumed: bool = False
    port: bool = False
    recorded: tuple[str, str] | None = None


class Hypervisor:
    """The domains of a host, numbered as they are started, as libvirt does it."""

    def __init__(self):
        self._numbers = itertools.count(1)
        self._domains = {}

    def start(self, uuid):
        self._domains[uuid] = next(self._numbers)

    def stop(self, uuid):
        self._domains.pop(uuid, None)

    def number(self, uuid):
        return self._domains.get(uuid)

    def get_guest(self, instance):
        if instance.uuid not in self._domains:
            raise exception.InstanceNotFound(instance_id=instance.uuid)
        return guest_of(instance.uuid, self._domains[instance.uuid])

    def list_guests(self, only_running=True):
        return [guest_of(*each) for each in self._domains.items()]


def guest_of(uuid, number):
    return types.SimpleNamespace(uuid=uuid, id=number)


class Cloud(base.UnderPytest, test.TestCase):
    """Three hosts with a GPU and a physical function each."""

    # All sequences are one test.
    TIMEOUT_SCALING_FACTOR = 4

    def setUp(self):
        super().setUp()
        self.useFixture(func_fixtures.PlacementFixture())
        self.useFixture(nova_fixtures.CastAsCallFixture(self))
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        (folder / "catalog.yaml").write_text(
            yaml.safe_dump({"meta": {"schema_version": "1.0"}, "families": CATALOG})
        )
        self.inventory_file = folder / "inventory.yaml"
        self.time = timeutils.utcnow()
        utcnow = functools.partial(self.utcnow)
        # oslo.utils 8, which Nova 31 has, looks at it to tell whether the time is another.
        utcnow.override_time = None
        self.useFixture(fixtures.MonkeyPatch("oslo_utils.timeutils.utcnow", utcnow))
        self.begin()
        self.flags(
            virt_driver="fake.FakeDriverWithoutFakeNodes",
            catalog=[str(folder / "catalog.yaml")],
            inventory=str(self.inventory_file),
            group="devcompat",
        )
        self.admin = nova_context.get_admin_context()
        self.client = report.report_client_singleton()
        self.nodes, self.providers, self.drivers = {}, {}, {}
        self.hypervisors = {host: Hypervisor() for host in HOSTS}
        for host in HOSTS:
            self.nodes[host] = self.make_node(host)
            self.providers[host] = self.make_providers(host)
            self.start(host)

    def utcnow(self, with_timezone=False):
        return self.time.replace(tzinfo=datetime.UTC) if with_timezone else self.time

    def begin(self):
        """All hosts are alike and ours."""
        self.versions = {host: {"gpu": "1.2", "nic": "1.2"} for host in HOSTS}
        self.silent = {host: set() for host in HOSTS}
        self.ours = dict.fromkeys(HOSTS, True)
        self.write_inventory()

    def write_inventory(self):
        attributes = {"gpu": (GPU, "version"), "nic": (PF, "fw_version")}
        hosts = {}
        for host, versions in self.versions.items():
            devices = []
            for family, (address, attribute) in attributes.items():
                told = {} if family in self.silent[host] else {attribute: versions[family]}
                devices.append(devcompat.device(address, family, **told))
            hosts[host] = {"devices": devices}
        self.inventory_file.write_text(
            yaml.safe_dump({"meta": {"schema_version": "1.0"}, "hosts": hosts})
        )

    def start(self, host):
        """Start nova-compute's driver: nothing of an earlier one is remembered."""
        ours = self.ours[host]
        driver = (
            devcompat_driver.DeviceCompatDriver(None)
            if ours
            else fake.FakeDriverWithoutFakeNodes(None)
        )
        driver.init_host(host)
        if host in self.drivers:  # the hypervisor is still there
            driver.instances = self.drivers[host].instances
            driver._interfaces = self.drivers[host]._interfaces
        driver._host = self.hypervisors[host]
        self.drivers[host] = driver
        # As the resource tracker does with what its first cycle publishes.
        node = self.nodes[host]
        node.stats = {wire.STATS_KEY: "published"} if ours else {}
        node.save()

    def make_node(self, host):
        node = objects.ComputeNode(
            self.admin,
            uuid=uuidutils.generate_uuid(),
            host=host,
            hypervisor_hostname=host,
            vcpus=8,
            memory_mb=8192,
            local_gb=100,
            vcpus_used=0,
            memory_mb_used=0,
            local_gb_used=0,
            hypervisor_type="fake",
            hypervisor_version=1,
            cpu_info="{}",
        )
        node.create()
        return node

    def make_providers(self, host):
        """The compute node's provider and the GPU's below it; the latter's UUID is returned."""
        root = self.nodes[host].uuid
        child = uuidutils.generate_uuid()
        for uuid, name, parent in ((root, host, None), (child, f"{host}_pci_0000_81_00_0", root)):
            body = {"uuid": uuid, "name": name, "parent_provider_uuid": parent}
            self.call("post", "/resource_providers", body)
        self.call(
            "put",
            f"/resource_providers/{child}/inventories",
            {"resource_provider_generation": 0, "inventories": {"VGPU": {"total": 16}}},
        )
        return child

    def call(self, method, url, body=None):
        response = getattr(self.client, method)(url, body, version="1.28")
        self.assertIn(response.status_code, (200, 201, 204), response.text)

    def allocate(self, instance, host):
        """Give an instance, or a migration in its place, a vGPU of a host in placement."""
        found = self.client.get("/allocations/" + instance.uuid, version="1.28").json()
        resources = {"resources": {"VGPU": 1}}
        self.call(
            "put",
            f"/allocations/{instance.uuid}",
            {
                "allocations": {self.providers[host]: resources},
                "project_id": uuids.project,
                "user_id": uuids.user,
                "consumer_generation": found.get("consumer_generation"),
            },
        )
        return {self.providers[host]: resources}

    def test_records_equal_the_model(self):
        cloud = self

        class Bound(Sequence):
            def __init__(self):
                super().__init__(cloud)

        stateful.run_state_machine_as_test(
            Bound,
            settings=hypothesis.settings(
                max_examples=SEQUENCES,
                stateful_step_count=12,
                deadline=None,
                database=None,
                derandomize=budget.NAME == "usual",
                suppress_health_check=list(hypothesis.HealthCheck),
            ),
        )
        self.assertGreater(Sequence.steps, SEQUENCES)
        self.assertGreater(Sequence.accepted, SEQUENCES // 10)


class Sequence(stateful.RuleBasedStateMachine):
    """One guest and what is done to it.

    :ivar exists: whether there is a record
    :ivar of: the host and the number of the domain that the record is of, as the model has it
    :ivar gone: devices that the guest has no more and that are still recorded
    :ivar moved: whether it was live migrated since the record was written
    :ivar disturbed: whether Nova knows of something since that may have started it
    :ivar behind: whether it was started behind Nova's back since it was last looked at
    :ivar enforced: whether the destination of the live migration refuses it, or only reports
    """

    #: How many operations were done in all sequences, and how many migrations were accepted.
    steps = 0
    accepted = 0

    def __init__(self, cloud):
        super().__init__()
        self.cloud = cloud
        self.context = cloud.admin
        others = [host for host in HOSTS if not cloud.ours[host]]
        cloud.begin()
        for host in others:
            cloud.start(host)
        self.host = "a"
        self.before_resize = None
        self.instance = None
        self.devices = []
        self.gone = []
        self.pci = {}
        self.of = None
        self.moved = self.disturbed = self.behind = False
        self.exists = False
        self.enforced = True

    @property
    def driver(self):
        return self.cloud.drivers[self.host]

    @property
    def ours(self):
        return self.cloud.ours[self.host]

    @property
    def domains(self):
        return self.cloud.hypervisors[self.host]

    @property
    def now(self):
        return self.host, self.domains.number(self.instance.uuid)

    def version(self, family, host=None):
        """What a device initialised now would be recorded as."""
        host = host or self.host
        silent = family in self.cloud.silent[host]
        return UNKNOWN if silent else self.cloud.versions[host][family]

    # --- the guest as Nova holds it --------------------------------------------------------------

    def act(self, action):
        """Begin what a user or an operator asked for."""
        self.cloud.time += datetime.timedelta(minutes=1)
        self.context = nova_context.get_admin_context()
        if action is not None:
            objects.InstanceAction.action_start(
                self.context, self.instance.uuid, action, want_result=False
            )
        self.reload()

    @stateful.initialize()
    def create(self):
        self.instance = objects.Instance(
            self.context,
            host=self.host,
            node=self.host,
            compute_id=self.cloud.nodes[self.host].id,
            project_id=uuids.project,
            user_id=uuids.user,
            vm_state=vm_states.ACTIVE,
            power_state=power_state.RUNNING,
            task_state=None,
            flavor=objects.Flavor(
                self.context,
                id=1,
                name="f",
                flavorid="f",
                memory_mb=1,
                vcpus=1,
                root_gb=1,
                ephemeral_gb=0,
                swap=0,
                rxtx_factor=1.0,
                vcpu_weight=0,
                disabled=False,
                is_public=True,
                extra_specs={"resources:VGPU": "1"},
            ),
            system_metadata={"image_min_disk": "1"},
        )
        self.instance.create()
        request = uuidutils.generate_uuid()
        self.devices = [
            Device("gpu", "rc:VGPU", GPU, None),
            Device("nic", f"pci:{request}", self.take(self.host, request), None),
        ]
        allocations = self.cloud.allocate(self.instance, self.host)
        self.act(instance_actions.CREATE)
        self.domains.start(self.instance.uuid)
        self.driver.spawn(self.context, self.instance, None, [], None, allocations)
        self.saved()
        self.initialised()

    def take(self, host, request):
        """Give the guest a virtual function of a host, as Nova's PCI tracker would."""
        address = next(one for one in FUNCTIONS if (host, one) not in self.pci)
        device = objects.PciDevice.create(
            self.context,
            {
                "compute_node_id": self.cloud.nodes[host].id,
                "address": address,
                "product_id": "101e",
                "vendor_id": "15b3",
                "status": "available",
                "dev_type": "type-VF",
                "parent_addr": PF,
                "numa_node": 0,
                "dev_id": f"pci_{uuidutils.generate_uuid(dashed=False)}",
                "label": "label_15b3_101e",
            },
        )
        device.status = "allocated"
        device.instance_uuid = self.instance.uuid
        device.request_id = request
        device.save()
        self.pci[host, address] = device
        return address

    def give_back(self, host, address):
        device = self.pci.pop((host, address))
        device.status = "removed"
        device.save()

    def functions_of(self, devices):
        return objects.PciDeviceList(
            objects=[self.pci[self.host, one.address] for one in devices if one.family == "nic"]
        )

    def reload(self):
        self.instance = objects.Instance.get_by_uuid(
            self.context,
            self.instance.uuid,
            expected_attrs=[
                "system_metadata",
                "flavor",
                "migration_context",
                "pci_devices",
                "pci_requests",
            ],
        )

    def place(self, host):
        self.instance.host = self.instance.node = host
        self.instance.compute_id = self.cloud.nodes[host].id

    def saved(self):
        """What the compute manager does after a driver's method."""
        self.instance.save()
        self.reload()
        Sequence.steps += 1

    # --- what becomes of the record --------------------------------------------------------------

    def initialised(self):
        """All devices were, on a host that may be ours."""
        self.behind = False
        if not self.ours:
            self.disturbed = True
            return
        self.record(keep=lambda one: False, assumed=False)

    def looked_at(self):
        """A guest of ours was, to bring its record up to date."""
        self.behind = False
        if not self.exists or self.of == self.now:
            self.record(keep=lambda one: True, assumed=True)
        elif self.moved and not self.disturbed:
            self.record(keep=lambda one: not one.port, assumed=True)
        else:
            self.record(keep=lambda one: False, assumed=True)

    def record(self, keep, assumed):
        """Those that are kept stay as they are, if they are known."""
        fresh = not self.exists or self.of != self.now or not assumed
        for one in self.devices:
            if not keep(one) or one.version in (None, UNKNOWN):
                one.version = self.version(one.family)
                one.assumed = assumed and one.version != UNKNOWN
            one.recorded = None
        self.gone = []
        self.exists = True
        self.of = self.now
        if fresh:
            self.moved = self.disturbed = False

    def relocate(self, device, slot, address, *, told=True):
        """A device is replaced by another; whether the record is told."""
        if told:
            device.recorded = None
        elif device.recorded is None:
            device.recorded = device.slot, device.address
        device.slot, device.address = slot, address

    # --- operations ------------------------------------------------------------------------------

    @stateful.rule(
        host=st.sampled_from(HOSTS),
        family=st.sampled_from(["gpu", "nic"]),
        version=st.sampled_from(VERSIONS),
    )
    def upgrade(self, host, family, version):
        self.cloud.versions[host][family] = version
        self.cloud.write_inventory()

    @stateful.rule(host=st.sampled_from(HOSTS), family=st.sampled_from(["gpu", "nic"]))
    def source_outage(self, host, family):
        """A source tells nothing of the devices of a family, or tells it again."""
        self.cloud.silent[host] ^= {family}
        self.cloud.write_inventory()

    @stateful.rule(
        how=st.sampled_from(["reboot", "power_on", "resume", "rescue", "unrescue", "rebuild"])
    )
    def restart(self, how):
        self.act(ACTIONS[how])
        self.domains.start(self.instance.uuid)
        if how == "reboot":
            self.driver.reboot(self.context, self.instance, [], "HARD")
        elif how == "rescue":
            self.driver.rescue(self.context, self.instance, [], None, None, None, None)
        elif how == "unrescue":
            self.driver.unrescue(self.context, self.instance)
        elif how == "rebuild":
            allocations = self.cloud.client.get_allocations_for_consumer(
                self.context, self.instance.uuid
            )
            self.driver.spawn(self.context, self.instance, None, [], None, allocations)
        else:
            getattr(self.driver, how)(self.context, self.instance, [])
        self.saved()
        self.initialised()

    @stateful.rule(how=st.sampled_from(["pause", "unpause"]))
    def pause(self, how):
        self.act(ACTIONS[how])
        getattr(self.driver, how)(self.instance)
        self.saved()

    @stateful.rule()
    def snapshot(self):
        self.act(instance_actions.CREATE_IMAGE)
        self.driver.snapshot(self.context, self.instance, "image", lambda **kwargs: None)
        self.saved()
        # Nova does not say that this one was live.
        self.disturbed = True

    # Where our driver is not, and Nova is not asked either, nothing tells of it.
    @stateful.precondition(lambda self: self.ours)
    @stateful.rule()
    def virsh_start(self):
        self.domains.start(self.instance.uuid)
        self.behind = True

    @stateful.precondition(lambda self: self.before_resize is None)
    @stateful.rule(destination=st.sampled_from(HOSTS))
    def cold_migrate(self, destination):
        """To another host, or a resize on the same one."""
        self.act(instance_actions.MIGRATE)
        source = self.host
        self.before_resize = source, [(one.slot, one.address) for one in self.devices]
        before = self.functions_of(self.devices)
        self.domains.stop(self.instance.uuid)
        self.host = destination
        self.domains.start(self.instance.uuid)
        for device in self.devices:
            if device.family == "nic":
                # Requests of the flavor are made anew, those of ports stay.
                request = device.slot.removeprefix("pci:")
                if destination == source and not device.port:
                    request = uuidutils.generate_uuid()
                address = self.take(destination, request)
                self.relocate(device, f"pci:{request}", address, told=self.ours)
        self.reload()
        if destination == source:
            self.claimed(before)
        allocations = self.cloud.allocate(self.instance, destination)
        self.place(destination)
        self.driver.finish_migration(
            self.context, None, self.instance, None, [], None, False, allocations
        )
        if destination == source:
            self.instance.vm_state = vm_states.RESIZED
        self.saved()
        self.initialised()

    def claimed(self, before):
        """What the resource tracker and the compute manager do on the guest's own host."""
        requests = self.instance.pci_requests
        self.instance.migration_context = objects.MigrationContext(
            self.context,
            instance_uuid=self.instance.uuid,
            migration_id=1,
            old_numa_topology=None,
            new_numa_topology=None,
            old_pci_devices=before,
            new_pci_devices=self.functions_of(self.devices),
            old_pci_requests=requests,
            new_pci_requests=requests,
            old_resources=None,
            new_resources=None,
        )
        self.instance.save()
        self.instance.apply_migration_context()

    @stateful.precondition(lambda self: self.before_resize is not None)
    @stateful.rule()
    def confirm(self):
        self.act(instance_actions.CONFIRM_RESIZE)
        source, devices = self.before_resize
        self.before_resize = None
        for slot, address in devices:
            if slot.startswith("pci:"):
                self.give_back(source, address)
        self.instance.migration_context = None
        self.instance.vm_state = vm_states.ACTIVE
        self.saved()

    @stateful.precondition(lambda self: self.before_resize is not None)
    @stateful.rule()
    def revert(self):
        self.act(instance_actions.REVERT_RESIZE)
        source, devices = self.before_resize
        self.before_resize = None
        if self.instance.migration_context is not None:
            self.instance.revert_migration_context()
        for device in self.devices:
            if device.family == "nic":
                self.give_back(self.host, device.address)
        self.domains.stop(self.instance.uuid)
        self.host = source
        self.domains.start(self.instance.uuid)
        # In the same order; while a resize can be reverted, no port comes or goes.
        for device, (slot, address) in zip(self.devices, devices, strict=True):
            self.relocate(device, slot, address, told=self.ours)
        self.cloud.allocate(self.instance, source)
        self.place(source)
        if self.instance.migration_context is None:
            self.instance.save()
            self.reload()
        self.instance.task_state = task_states.RESIZE_REVERTING
        self.driver.finish_revert_migration(self.context, self.instance, [], None)
        self.instance.task_state = None
        self.instance.migration_context = None
        self.instance.vm_state = vm_states.ACTIVE
        self.saved()
        self.initialised()

    def accepted_by(self, destination):
        """Whether a host takes the guest with all that stays; one that is not ours asks nobody."""
        if not self.cloud.ours[destination] or not self.enforced:
            return True
        if not self.exists or self.of[0] != self.host or (self.disturbed and not self.ours):
            return False
        return all(
            UNKNOWN not in (one.version, offered)
            and one.version is not None
            and accepts(offered, one.version)
            for one in self.devices
            if not one.port
            for offered in [self.version(one.family, destination)]
        )

    @stateful.precondition(lambda self: self.before_resize is None)
    @stateful.rule(
        away=st.integers(1, len(HOSTS) - 1),
        outcome=st.sampled_from(["arrives", "arrives", "arrives", "fails"]),
        queued=st.one_of(
            st.none(), st.tuples(st.sampled_from(["gpu", "nic"]), st.sampled_from(VERSIONS))
        ),
        restarted=st.sampled_from(["", "", "source", "destination"]),
        enforced=st.sampled_from([True, True, True, False]),
    )
    def live_migrate(self, away, outcome, queued, restarted, enforced):
        """With what may happen at the destination while it waits for others."""
        destination = HOSTS[(HOSTS.index(self.host) + away) % len(HOSTS)]
        self.enforced = enforced
        self.cloud.flags(mode="enforce" if enforced else "report", group="devcompat")
        self.act(instance_actions.LIVE_MIGRATION)
        there = self.cloud.drivers[destination]
        moves = {
            one.address: self.take(destination, one.slot.removeprefix("pci:"))
            for one in self.devices
            if one.family == "nic"
        }
        migration = self.migration(destination)
        self.cloud.allocate(migration, self.host)
        allocations = self.cloud.allocate(self.instance, destination)
        ports = {one.address for one in self.devices if one.port}
        data = migrate_data_obj.LibvirtLiveMigrateData(
            pci_dev_map_src_dst={old: new for old, new in moves.items() if old not in ports},
            vifs=[self.vif(old, moves[old]) for old in ports],
        )
        if self.ours and self.exists and self.of != self.now:
            self.looked_at()
        self.driver.check_can_live_migrate_source(self.context, self.instance, data)
        accepted = self.decided(
            destination,
            lambda: there.check_source_migrate_data_at_dest(
                self.context, self.instance, data, None, None, allocations
            ),
        )
        if accepted and queued is not None:
            self.upgrade(destination, *queued)
        if accepted:
            accepted = self.decided(
                destination,
                lambda: there.pre_live_migration(
                    self.context, self.instance, None, [], None, data
                ),
            )
        if not accepted or outcome == "fails":
            if accepted:
                there.rollback_live_migration_at_destination(self.context, self.instance, [], None)
            for address in moves.values():
                self.give_back(destination, address)
            self.cloud.allocate(self.instance, self.host)
            self.ended(migration, "error")
            self.reload()
            return
        Sequence.accepted += 1
        if restarted:
            self.cloud.start(self.host if restarted == "source" else destination)
        self.arrives(destination, moves, data)
        self.ended(migration, "completed")

    def decided(self, destination, ask):
        """What the destination says to the guest, which is what the model says."""
        expected = self.accepted_by(destination)
        try:
            ask()
            accepted = True
        except exception.MigrationPreCheckError:
            accepted = False
        assert accepted == expected, f"to {destination}: {self.devices}, of {self.of}"
        return accepted

    def migration(self, destination):
        """Nova's record of a live migration that is about to begin."""
        made = objects.Migration(
            self.context,
            instance_uuid=self.instance.uuid,
            migration_type=fields.MigrationType.LIVE_MIGRATION,
            status="preparing",
            source_compute=self.host,
            source_node=self.host,
            dest_compute=destination,
            dest_node=destination,
            dest_compute_id=self.cloud.nodes[destination].id,
        )
        made.create()
        return made

    def ended(self, migration, status):
        migration.status = status
        migration.save()
        self.cloud.client.delete(f"/allocations/{migration.uuid}", version="1.28")

    def arrives(self, destination, moves, data):
        self.driver.post_live_migration(self.context, self.instance, None, data)
        followed = self.ours
        there = self.of is not None and self.of[0] == self.host
        current = (there and self.ours) or ((there or self.moved) and not self.disturbed)
        for old in moves:
            self.give_back(self.host, old)
        self.domains.stop(self.instance.uuid)
        self.host = destination
        self.domains.start(self.instance.uuid)
        self.reload()
        self.driver.post_live_migration_at_destination(self.context, self.instance, [])
        self.place(destination)
        self.saved()
        for device in self.devices:
            address = moves.get(device.address, device.address)
            self.relocate(device, device.slot, address, told=followed or self.ours)
        self.behind = False
        if not self.ours:
            self.moved = True
            return
        if not self.exists:
            return
        if not current:
            self.record(keep=lambda one: False, assumed=True)
            return
        for device in self.devices:
            if device.port:
                device.version, device.assumed = self.version("nic"), False
        self.gone = []
        self.of = self.now
        self.moved = self.disturbed = False

    # What is attached where a recorded device was would be taken for that, if nobody looked.
    @stateful.precondition(
        lambda self: self.before_resize is None and len(self.devices) < 4 and not self.gone
    )
    @stateful.rule()
    def attach(self):
        self.act(instance_actions.ATTACH_INTERFACE)
        request = uuidutils.generate_uuid()
        address = self.take(self.host, request)
        self.reload()
        self.instance.pci_requests.requests.append(
            objects.InstancePCIRequest(
                request_id=request, alias_name=None, count=1, spec=[{"dev_type": "type-VF"}]
            )
        )
        self.instance.pci_requests = objects.InstancePCIRequests(
            instance_uuid=self.instance.uuid, requests=self.instance.pci_requests.requests
        )
        vif = {"id": request, "vnic_type": "direct", "profile": {"pci_slot": address}}
        self.driver.attach_interface(self.context, self.instance, None, vif)
        self.saved()
        device = Device("nic", f"pci:{request}", address, None, port=True)
        if self.ours:
            if not self.exists:
                self.of, self.exists = self.now, True
                self.moved = self.disturbed = False
            device.version = self.version("nic")
        self.devices.append(device)

    def vif(self, old, new):
        """A port, as Nova tells the destination of a live migration of it."""
        made = migrate_data_obj.VIFMigrateData(
            port_id=uuidutils.generate_uuid(),
            vnic_type="direct",
            source_vif=model.VIF(id="port", vnic_type="direct", profile={"pci_slot": old}),
        )
        made.profile = {"pci_slot": new}
        return made

    @stateful.precondition(lambda self: self.before_resize is None and len(self.devices) > 2)
    @stateful.rule()
    def detach(self):
        self.act(instance_actions.DETACH_INTERFACE)
        device = self.devices.pop()
        if not self.ours:
            self.gone.append(device)
        # What is taken out of a list is not noticed to have changed.
        self.instance.pci_requests = objects.InstancePCIRequests(
            instance_uuid=self.instance.uuid, requests=self.instance.pci_requests.requests[:-1]
        )
        vif = {
            "id": device.slot.removeprefix("pci:"),
            "profile": {"pci_slot": device.address},
        }
        self.driver._interfaces[vif["id"]] = vif  # the fake driver checks
        self.driver.detach_interface(self.context, self.instance, vif)
        self.give_back(self.host, device.address)
        self.saved()

    @stateful.rule()
    def forget(self):
        """What 'need clear' leaves; 'need backfill' asks nova-compute to look."""
        self.reload()
        for key in list(self.instance.system_metadata):
            if wire.is_record_key(key):
                del self.instance.system_metadata[key]
        asked.ask(self.instance)
        self.saved()
        for device in self.devices:
            device.version = device.recorded = None
            device.assumed = False
        self.gone = []
        self.exists = False

    @stateful.precondition(lambda self: self.ours)
    @stateful.rule(restarted=st.booleans())
    def cycle(self, restarted):
        self.act(None)
        if restarted:
            self.cloud.start(self.host)
        self.driver.get_available_resource(self.host)
        self.reload()
        self.looked_at()

    # Who takes our driver away looks once more, since nothing tells later of a start in between.
    @stateful.precondition(lambda self: not self.behind)
    @stateful.rule(host=st.sampled_from(HOSTS))
    def install_or_remove(self, host):
        self.cloud.ours[host] = not self.cloud.ours[host]
        self.cloud.start(host)
        if host == self.host and self.ours:
            self.cycle(restarted=False)

    # --- what must hold --------------------------------------------------------------------------

    @stateful.invariant()
    def record_equals_the_model(self):
        if self.instance is None:
            return
        need = wire.load_record(self.instance.system_metadata)
        recorded = sorted(
            (
                one.family,
                one.slot,
                one.address,
                *(UNKNOWN if v is None else ",".join(sorted(v)) for _, v in one.values),
                bool(one.assumed),
            )
            for one in (need.devices if need else ())
        )
        expected = sorted(
            (one.family, *(one.recorded or (one.slot, one.address)), one.version, one.assumed)
            for one in (*self.devices, *self.gone)
            if one.version is not None
        )
        assert recorded == expected

    def teardown(self):
        for device in self.pci.values():
            device.status = "removed"
            device.save()
        if self.instance is not None:
            for host in HOSTS:
                self.cloud.hypervisors[host].stop(self.instance.uuid)
            self.cloud.client.delete(f"/allocations/{self.instance.uuid}", version="1.28")
            self.instance.destroy()
