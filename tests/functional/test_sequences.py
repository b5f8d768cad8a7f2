# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Random sequences of operations, after each of which the record equals a model's.

The driver is ours, wrapped around Nova's fake one; its hooks are called as the compute manager
calls them, over Nova's database and objects and over Placement, which are real.
"""

import dataclasses
import pathlib

import fixtures
import hypothesis
import pytest
import yaml
from hypothesis import stateful
from hypothesis import strategies as st
from nova import context as nova_context
from nova import exception, objects, test
from nova.compute import power_state, vm_states
from nova.network import model
from nova.objects import migrate_data as migrate_data_obj
from nova.scheduler.client import report
from nova.tests import fixtures as nova_fixtures
from nova.tests.functional import fixtures as func_fixtures
from oslo_utils import uuidutils
from oslo_utils.fixture import uuidsentinel as uuids

from nova_devcompat import wire
from nova_devcompat.compute import driver as devcompat_driver
from nova_devcompat.conf import register_opts
from tests import budget
from tests.functional import base
from tests.functional.devcompat import CATALOG, GPU, PF, gpu, nic

register_opts(test.CONF)

pytestmark = pytest.mark.slow

HOSTS = ("a", "b", "c")
VERSIONS = ("1.2", "1.3", "1.4", "2.0")
FUNCTIONS = [f"{PF[:-1]}{number}" for number in range(1, 8)]
SEQUENCES = budget.scaled(40)


def accepts(offered, needed):
    """The rule ``semver``, said once more."""
    major, minor = offered.split(".")
    wanted_major, wanted_minor = needed.split(".")
    return major == wanted_major and int(minor) >= int(wanted_minor)


@dataclasses.dataclass
class Device:
    """What the model holds of one device of the guest.

    :ivar version: what the guest needs of it, None where nothing is recorded
    :ivar port: whether it is a port's, so that a live migration plugs in another one
    """

    family: str
    slot: str
    address: str
    version: str | None
    assumed: bool = False
    port: bool = False


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
        self.versions = {host: {"gpu": "1.2", "nic": "1.2"} for host in HOSTS}
        self.write_inventory()
        self.flags(
            virt_driver="fake.FakeDriverWithoutFakeNodes",
            catalog=[str(folder / "catalog.yaml")],
            inventory=str(self.inventory_file),
            group="devcompat",
        )
        self.admin = nova_context.get_admin_context()
        self.client = report.report_client_singleton()
        self.nodes, self.providers, self.drivers = {}, {}, {}
        for host in HOSTS:
            self.nodes[host] = self.make_node(host)
            self.providers[host] = self.make_providers(host)
            self.start(host)

    def write_inventory(self):
        hosts = {
            host: {"devices": [gpu(versions["gpu"]), nic(versions["nic"])]}
            for host, versions in self.versions.items()
        }
        self.inventory_file.write_text(
            yaml.safe_dump({"meta": {"schema_version": "1.0"}, "hosts": hosts})
        )

    def start(self, host):
        """Start nova-compute's driver: nothing of an earlier one is remembered."""
        driver = devcompat_driver.DeviceCompatDriver(None)
        driver.init_host(host)
        if host in self.drivers:  # the hypervisor is still there
            driver.instances = self.drivers[host].instances
            driver._interfaces = self.drivers[host]._interfaces
        self.drivers[host] = driver

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
        """What placement has for an instance with a vGPU on a host."""
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


class Sequence(stateful.RuleBasedStateMachine):
    """One guest and what is done to it."""

    #: How many operations were done in all sequences.
    steps = 0

    def __init__(self, cloud):
        super().__init__()
        self.cloud = cloud
        self.context = cloud.admin
        for host in HOSTS:
            cloud.versions[host] = {"gpu": "1.2", "nic": "1.2"}
        cloud.write_inventory()
        self.host = "a"
        self.before_resize = None
        self.instance = None
        self.devices = []
        self.pci = {}

    @property
    def driver(self):
        return self.cloud.drivers[self.host]

    def version(self, family, host=None):
        return self.cloud.versions[host or self.host][family]

    # --- the guest as Nova holds it --------------------------------------------------------------

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
        self.request = uuidutils.generate_uuid()
        self.devices = [
            Device("gpu", "rc:VGPU", GPU, None),
            Device("nic", f"pci:{self.request}", self.take(self.host, self.request), None),
        ]
        allocations = self.cloud.allocate(self.instance, self.host)
        self.reload()
        self.driver.spawn(self.context, self.instance, None, [], None, allocations)
        self.saved()
        self.all_frozen()

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

    def reload(self):
        self.instance = objects.Instance.get_by_uuid(
            self.context,
            self.instance.uuid,
            expected_attrs=["system_metadata", "flavor", "pci_devices", "pci_requests"],
        )

    def place(self, host):
        self.instance.host = self.instance.node = host
        self.instance.compute_id = self.cloud.nodes[host].id

    def saved(self):
        """What the compute manager does after a driver's method."""
        self.instance.save()
        self.reload()
        Sequence.steps += 1

    def all_frozen(self):
        for device in self.devices:
            device.version = self.version(device.family)
            device.assumed = False

    # --- operations ------------------------------------------------------------------------------

    @stateful.rule(
        host=st.sampled_from(HOSTS),
        family=st.sampled_from(["gpu", "nic"]),
        version=st.sampled_from(VERSIONS),
    )
    def upgrade(self, host, family, version):
        self.cloud.versions[host][family] = version
        self.cloud.write_inventory()

    @stateful.rule(
        how=st.sampled_from(["reboot", "power_on", "resume", "rescue", "unrescue", "rebuild"])
    )
    def restart(self, how):
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
        self.all_frozen()

    @stateful.rule(how=st.sampled_from(["pause", "unpause"]))
    def pause(self, how):
        getattr(self.driver, how)(self.instance)
        self.saved()

    @stateful.rule()
    def snapshot(self):
        self.driver.snapshot(self.context, self.instance, "image", lambda **kwargs: None)
        self.saved()

    @stateful.precondition(lambda self: self.before_resize is None)
    @stateful.rule(destination=st.sampled_from(HOSTS))
    def cold_migrate(self, destination):
        if destination == self.host:
            return
        self.before_resize = self.host, [(one.slot, one.address) for one in self.devices]
        self.host = destination
        for device in self.devices:
            if device.family == "nic":
                device.address = self.take(destination, device.slot.removeprefix("pci:"))
        allocations = self.cloud.allocate(self.instance, destination)
        self.place(destination)
        self.instance.save()
        self.reload()
        self.driver.finish_migration(
            self.context, None, self.instance, None, [], None, False, allocations
        )
        self.saved()
        self.all_frozen()

    @stateful.precondition(lambda self: self.before_resize is not None)
    @stateful.rule()
    def confirm(self):
        source, devices = self.before_resize
        self.before_resize = None
        for slot, address in devices:
            if slot.startswith("pci:"):
                self.give_back(source, address)
        self.reload()

    @stateful.precondition(lambda self: self.before_resize is not None)
    @stateful.rule()
    def revert(self):
        source, devices = self.before_resize
        self.before_resize = None
        for device in self.devices:
            if device.family == "nic":
                self.give_back(self.host, device.address)
        self.host = source
        addresses = dict(devices)
        # A port that came after the move has no device there.
        self.devices = [one for one in self.devices if one.slot in addresses]
        for device in self.devices:
            device.address = addresses[device.slot]
        self.cloud.allocate(self.instance, source)
        self.place(source)
        self.instance.save()
        self.reload()
        self.driver.finish_revert_migration(self.context, self.instance, [], None)
        self.saved()
        self.all_frozen()

    @stateful.precondition(lambda self: self.before_resize is None)
    @stateful.rule(
        destination=st.sampled_from(HOSTS),
        outcome=st.sampled_from(["arrives", "arrives", "fails", "restart"]),
    )
    def live_migrate(self, destination, outcome):
        if destination == self.host:
            return
        there = self.cloud.drivers[destination]
        fits = all(
            one.version is not None and accepts(self.version(one.family, destination), one.version)
            for one in self.devices
            if not one.port
        )
        moves = {
            one.address: self.take(destination, one.slot.removeprefix("pci:"))
            for one in self.devices
            if one.family == "nic"
        }
        allocations = self.cloud.allocate(self.instance, destination)
        ports = {one.address for one in self.devices if one.port}
        data = migrate_data_obj.LibvirtLiveMigrateData(
            pci_dev_map_src_dst={old: new for old, new in moves.items() if old not in ports},
            vifs=[self.vif(old, moves[old]) for old in ports],
        )
        # The devices that Nova shows admission are those of the source.
        try:
            there.check_source_migrate_data_at_dest(
                self.context, self.instance, data, None, None, allocations
            )
            accepted = True
        except exception.MigrationPreCheckError:
            accepted = False
        assert accepted == fits, f"to {destination}: {self.devices}"
        if not accepted or outcome == "fails":
            if accepted:
                there.rollback_live_migration_at_destination(self.context, self.instance, [], None)
            for address in moves.values():
                self.give_back(destination, address)
            self.cloud.allocate(self.instance, self.host)
            self.reload()
            return
        self.driver.post_live_migration(self.context, self.instance, None, data)
        for old in moves:
            self.give_back(self.host, old)
        if outcome == "restart":
            self.cloud.start(destination)
        self.host = destination
        self.reload()
        self.driver.post_live_migration_at_destination(self.context, self.instance, [])
        self.place(destination)
        self.saved()
        for device in self.devices:
            device.address = moves.get(device.address, device.address)
            if device.port:
                device.version, device.assumed = self.version("nic"), False

    @stateful.precondition(lambda self: self.before_resize is None and len(self.devices) < 4)
    @stateful.rule()
    def attach(self):
        request = uuidutils.generate_uuid()
        address = self.take(self.host, request)
        self.reload()
        self.instance.pci_requests.requests.append(
            objects.InstancePCIRequest(
                request_id=request, alias_name=None, count=1, spec=[{"dev_type": "type-VF"}]
            )
        )
        vif = {"id": request, "vnic_type": "direct", "profile": {"pci_slot": address}}
        self.driver.attach_interface(self.context, self.instance, None, vif)
        self.saved()
        self.devices.append(
            Device("nic", f"pci:{request}", address, self.version("nic"), port=True)
        )

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
        device = self.devices.pop()
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
        """What an older nova-compute, or 'need clear', leaves."""
        for key in list(self.instance.system_metadata):
            if wire.is_record_key(key):
                del self.instance.system_metadata[key]
        self.saved()
        for device in self.devices:
            device.version = None
            device.assumed = False

    @stateful.rule()
    def restart_nova_compute(self):
        self.cloud.start(self.host)
        self.driver.get_available_resource(self.host)
        self.reload()
        for device in self.devices:
            if device.version is None:
                device.version = self.version(device.family)
                device.assumed = True

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
                *(",".join(sorted(values)) for _, values in one.values),
                bool(one.assumed),
            )
            for one in (need.devices if need else ())
        )
        expected = sorted(
            (one.family, one.slot, one.address, one.version, one.assumed)
            for one in self.devices
            if one.version is not None
        )
        assert recorded == expected

    def teardown(self):
        for device in self.pci.values():
            device.status = "removed"
            device.save()
        if self.instance is not None:
            self.cloud.client.delete(f"/allocations/{self.instance.uuid}", version="1.28")
            self.instance.destroy()
