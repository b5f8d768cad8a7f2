# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What holds of functions whatever their family: those that cannot migrate are refused.

The tree is in the shape of sysfs; devlink's part is told by a source of the test.
"""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from nova_devcompat import wire
from nova_devcompat.catalog import packs
from nova_devcompat.catalog.stages import now
from nova_devcompat.cli.main import main
from nova_devcompat.compat.need import DeviceNeed, pci_slot
from nova_devcompat.compat.policy import Mode, Policy
from nova_devcompat.compat.verdict import Code, Outcome
from nova_devcompat.fleet.matrix import Matrix
from nova_devcompat.service import load_catalog
from nova_devcompat.sources import Device, Function, SourceError
from nova_devcompat.sources.static import load_inventory
from nova_devcompat.sources.sysfs import SysfsSource
from tests.unit.host.test_functions import Host, need_of
from tests.unit.sources import sysfs_trees

PF = "0000:81:00.0"
FUNCTIONS = [f"0000:81:01.{number}" for number in range(4)]

#: As an operator writes it who does not think of drivers.
MLX5 = {
    "match": {"vendor_id": "15b3", "product_id": "101e"},
    "source": "devlink",
    "rules": {"fw_version": "equal"},
}


def nic(folder, driver="mlx5_vfio_pci", drivers=(), families=None):
    """A host with a card whose functions have a driver, and some of them another one.

    :param drivers: of the functions, in their order
    """
    host = Host(folder, 0, families=families or {"mlx5_vf": MLX5})
    for name in ("mlx5_vfio_pci", "vfio-pci"):
        host.tree.driver(name)
    host.tree.pci(PF, driver="mlx5_core", totalvfs=8)
    host.tree.functions(PF, len(FUNCTIONS), driver=driver)
    for address, other in zip(FUNCTIONS, drivers, strict=False):
        host.tree.bind(address, other)
    ids = {"vendor_id": "15b3", "product_id": "101e"}
    host.nvml.devices = (Device(PF, {"fw_version": "28.41.1000", **ids}),)
    return host


def published(devices, atoms=()):
    """The devices as the scheduler reads them."""
    own = {atom for device in devices for atom in device.atoms()} | set(atoms)
    document = wire.HostDocument(
        catalog="c" * 12,
        devices=tuple(
            wire.PublishedDevice(
                address=device.parent or device.address,
                accepts=device.offer.accept_set(own),
                functions=(device.address,) if device.parent else (),
            )
            for device in devices
        ),
    )
    return wire.load_stats(wire.dump_stats(document))


def test_nothing_is_said_of_functions_that_can_migrate(tmp_path):
    devices = nic(tmp_path).read()
    (device,) = devices
    assert device.address == PF and devices.fully_read
    assert dict(need_of(devices, PF).values) == {"fw_version": {"28.41.1000"}}
    assert device.offer.judge(need_of(devices, PF)).outcome is Outcome.ACCEPT


@pytest.mark.parametrize("driver", [None, "mlx5_core", "some_vfio_driver_of_the_vendor"])
def test_nothing_is_said_of_drivers_that_nobody_knows(tmp_path, driver):
    devices = nic(tmp_path, driver).read()
    assert [(one.address, set(one.offer.parsed)) for one in devices] == [(PF, {"fw_version"})]
    assert not any(one.offer.unknown for one in devices)


def test_one_function_on_plain_vfio_pci(tmp_path):
    source, destination = nic(tmp_path / "a"), nic(tmp_path / "b", drivers=["vfio-pci"])
    here, there = source.read(), destination.read()
    assert sorted(one.address for one in there) == [PF, FUNCTIONS[0]]
    need = need_of(here, FUNCTIONS[0])
    plain = there.find(FUNCTIONS[0], PF)
    verdict = plain.offer.judge(need)
    assert verdict.outcome is Outcome.REJECT
    assert [(one.code, one.attribute) for one in verdict.reasons] == [
        (Code.BELOW_FLOOR, "vf_driver_migrates")
    ]
    # The others of the device take it, and the scheduler knows which is which.
    assert there.find(FUNCTIONS[1], PF).offer.judge(need).outcome is Outcome.ACCEPT
    document = published(there, need.atoms)
    judged = [document.find(one, PF).accepts.judge(need).outcome for one in FUNCTIONS[:2]]
    assert judged == [Outcome.REJECT, Outcome.ACCEPT]
    # Nor does the guest of such a function go anywhere: not back to where it started either.
    stuck = need_of(there, FUNCTIONS[0])
    assert dict(stuck.values)["vf_driver_migrates"] == {"unmet"}
    for devices in (here, there):
        for one in FUNCTIONS[:2]:
            verdict = devices.find(one, PF).offer.judge(stuck)
            assert verdict.outcome is Outcome.REJECT
            assert {reason.code for reason in verdict.reasons} == {Code.UNMET}
    # What a flavor pins is held against the device all the same.
    pin = DeviceNeed.of("mlx5_vf", {"fw_version": ["28.41.1000"]})
    assert plain.offer.accept_set(pin.atoms).judge_pin(pin).outcome is Outcome.ACCEPT


def test_all_functions_on_plain_vfio_pci(tmp_path):
    need = need_of(nic(tmp_path / "a").read(), FUNCTIONS[0])
    there = nic(tmp_path / "b", "vfio-pci").read()
    (device,) = there
    assert (device.address, device.parent) == (PF, "")
    assert device.offer.judge(need).outcome is Outcome.REJECT
    (accepts,) = (one.accepts for one in published(there, need.atoms).devices)
    assert accepts.judge(need).outcome is Outcome.REJECT


def test_a_device_that_is_assigned_as_a_whole(tmp_path):
    host = nic(tmp_path)
    host.tree.pci("0000:82:00.0", device="101e", driver="vfio-pci")
    ids = {"vendor_id": "15b3", "product_id": "101e", "fw_version": "28.41.1000"}
    host.nvml.devices = (*host.nvml.devices, Device("0000:82:00.0", ids))
    devices = host.read()
    whole = devices.find("0000:82:00.0")
    assert (whole.address, whole.parent) == ("0000:82:00.0", "")
    assert whole.offer.judge(need_of(devices, PF)).outcome is Outcome.REJECT


def test_a_port_that_is_not_migratable(tmp_path):
    host = nic(tmp_path)
    (device,) = host.nvml.devices
    told = {
        FUNCTIONS[0]: Function({"migratable": "0"}),
        FUNCTIONS[1]: Function({"migratable": "1"}),
    }
    host.nvml.devices = (Device(PF, device.attributes, functions=told),)
    devices = host.read()
    need = need_of(devices, FUNCTIONS[1])
    outcomes = [devices.find(one, PF).offer.judge(need).outcome for one in FUNCTIONS]
    assert outcomes == [Outcome.REJECT, *[Outcome.ACCEPT] * 3]


def test_functions_that_are_devices_of_their_own_anyway(tmp_path):
    family = {
        **MLX5,
        "attributes": {"vf_driver": {"source": "sysfs", "of": "function"}},
        "rules": {"fw_version": "equal", "vf_driver": "same"},
    }
    host = nic(tmp_path, drivers=[None, "vfio-pci"], families={"mlx5_vf": family})
    devices = host.read()
    assert sorted(one.address for one in devices) == FUNCTIONS
    failing = [one.address for one in devices if "vf_driver_migrates" in one.offer.parsed]
    assert failing == [FUNCTIONS[1]]


def test_a_rule_of_the_familys_own_counts_alone(tmp_path):
    family = {
        **MLX5,
        "attributes": {"vf_driver_migrates": {"source": "sysfs", "of": "function"}},
        "rules": {"fw_version": "equal", "vf_driver_migrates": "origin"},
    }
    host = nic(tmp_path, drivers=["vfio-pci"], families={"mlx5_vf": family})
    devices = host.read()
    need = need_of(devices, FUNCTIONS[1])
    assert devices.find(FUNCTIONS[0]).offer.judge(need).outcome is Outcome.ACCEPT


def test_a_policy_of_what_holds_of_every_family(tmp_path):
    """It is a rule like others to policies, and its own only."""
    host = nic(tmp_path, drivers=["vfio-pci"])
    content = yaml.safe_load(host.catalog.read_text())
    content["policies"] = {"mlx5_vf": {"rules": {"vf_driver_migrates": {"mode": "report"}}}}
    host.catalog.write_text(yaml.safe_dump(content))
    devices = host.read()
    policy = devices.catalog.families["mlx5_vf"].policy(Policy(), now())
    assert policy.mode is Mode.ENFORCE
    need = need_of(devices, FUNCTIONS[1])
    plain = devices.find(FUNCTIONS[0], PF).offer
    assert policy.objection(plain.judge(need)) == 1
    other = dataclasses.replace(plain, parsed={**plain.parsed, "fw_version": "28.39.1002"})
    assert policy.objection(other.judge(need)) == 2


def test_what_cannot_be_read_is_no_pass(tmp_path):
    host = nic(tmp_path, drivers=["vfio-pci"])
    need = need_of(nic(tmp_path / "other").read(), PF)
    broken = []

    class Broken(SysfsSource):
        def read(self, of):
            if broken:
                raise SourceError("nothing is mounted there")
            return super().read(of)

    load = host.load
    host.reader._load = lambda name, options: (
        Broken(options, root=host.tree.root) if name == "sysfs" else load(name, options)
    )
    assert host.read().find(FUNCTIONS[0], PF).offer.judge(need).outcome is Outcome.REJECT
    broken.append(True)
    devices = host.read()
    assert not devices.fully_read
    verdict = devices.find(FUNCTIONS[0], PF).offer.judge(need)
    assert verdict.outcome is Outcome.UNKNOWN
    (accepts,) = (one.accepts for one in published(devices, need.atoms).devices)
    assert accepts.judge(need).outcome is Outcome.UNKNOWN
    assert need_of(devices, PF).values != need.values
    broken.clear()
    assert host.read().find(FUNCTIONS[1], PF).offer.judge(need).outcome is Outcome.ACCEPT


def test_a_host_and_its_dump_agree(tmp_path, monkeypatch, capsys):
    hosts = {
        "good": nic(tmp_path / "good"),
        "plain": nic(tmp_path / "plain", "vfio-pci"),
        "mixed": nic(tmp_path / "mixed", drivers=["vfio-pci"]),
    }
    content = {"meta": {"schema_version": "1.0"}, "hosts": {}}
    catalog = load_catalog([hosts["good"].catalog])
    for name, host in hosts.items():
        load = host.load
        monkeypatch.setattr("nova_devcompat.host.inventory.load_source", load)
        monkeypatch.setitem(type(host.reader).__init__.__kwdefaults__, "load", load)
        assert main(["inventory", "dump", "--catalog", str(host.catalog), "--host", name]) == 0
        content["hosts"] |= yaml.safe_load(capsys.readouterr().out)["hosts"]
        assert main(["device", "list", "--catalog", str(host.catalog)]) == 0
        assert ("vf_driver_migrates=0" in capsys.readouterr().out) is (name != "good")
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(yaml.safe_dump(content))
    found = {
        (move.source_host, move.source_address, move.destination_host): move.verdict
        for move in Matrix(catalog, load_inventory(inventory, catalog)).moves()
    }
    assert found["good", PF, "mixed"] == "accept"
    assert found["good", PF, "plain"] == found["plain", PF, "good"] == "reject"
    assert found["mixed", FUNCTIONS[0], "good"] == "reject"
    assert found["mixed", PF, "good"] == "accept"


# --- families for what no other matches ----------------------------------------------------------


def of_pack(*names):
    """The families of packs, as a file has them."""
    return {
        name: family
        for path in packs.catalog_paths(names)
        for name, family in yaml.safe_load(path.read_text())["families"].items()
    }


def test_the_pack_for_functions_of_no_other_family(tmp_path):
    families = of_pack("vfio_pci")
    here = nic(tmp_path / "a", families=families).read()
    there = nic(tmp_path / "b", drivers=["vfio-pci"], families=families).read()
    need = need_of(here, FUNCTIONS[0])
    outcomes = [there.find(one).offer.judge(need).outcome for one in FUNCTIONS[:2]]
    assert outcomes == [Outcome.REJECT, Outcome.ACCEPT]
    assert here.fully_read and there.fully_read


def test_what_another_family_matches_is_of_that(tmp_path):
    host = nic(tmp_path, drivers=["vfio-pci"], families={"mlx5_vf": MLX5, **of_pack("vfio_pci")})
    host.tree.pci("0000:05:00.0", vendor="8086", device="1572", driver="vfio-pci")
    devices = host.read()
    assert devices.fully_read
    assert {(one.address, one.family) for one in devices} == {
        (PF, "mlx5_vf"),
        (FUNCTIONS[0], "mlx5_vf"),
        ("0000:05:00.0", "vfio_pci"),
    }


def test_what_the_primary_source_does_not_list_is_not_of_a_fallback(tmp_path):
    host = nic(tmp_path, families={"mlx5_vf": MLX5, **of_pack("vfio_pci")})
    host.nvml.devices = ()
    (device,) = host.read()
    assert (device.family, set(device.offer.unknown)) == ("mlx5_vf", {"fw_version"})


def test_two_fallbacks_may_not_overlap(tmp_path):
    host = nic(tmp_path)
    one = {"match": {"vendor_id": "15b3"}, "source": "sysfs", "rules": {"revision": "equal"}}
    host.use({"a": one, "b": {**one, "fallback": True}})
    assert load_catalog([host.catalog]).families["b"].fallback
    host.use({"a": {**one, "fallback": True}, "b": {**one, "fallback": True}})
    with pytest.raises(ValueError, match="both match a device"):
        load_catalog([host.catalog])


def test_a_pattern_of_all_functions_is_a_fact_of_each(tmp_path):
    family = {
        "match": {"vendor_id": "10de"},
        "source": "sysfs",
        "attributes": {"kinds": {"source": "sysfs", "path": "virtfn*/nvidia/current_vgpu_type"}},
        "rules": {"kinds": "superset"},
    }
    host = Host(tmp_path, 3, ["1561", "1561", "0"], {"gpu": family})
    devices = host.read()
    kinds = [dict(need_of(devices, one).values)["kinds"] for one in host.functions]
    assert kinds == [{"1561"}, {"1561"}, {"0"}]
    for pattern in ("virtfn0/nvidia/current_vgpu_type", "virtfn?/x", "virtfn*", "virtfn*/"):
        family["attributes"]["kinds"]["path"] = pattern
        host.use({"gpu": family})
        with pytest.raises(ValueError, match=r"of: function|is not a path"):
            load_catalog([host.catalog])


def test_slots_are_of_functions(tmp_path):
    devices = nic(tmp_path, drivers=["vfio-pci"]).read()
    need = devices.find(FUNCTIONS[0]).freeze(slot=pci_slot("r"), address=FUNCTIONS[0], pin=None)
    assert need.address == FUNCTIONS[0]
    assert sysfs_trees.RTX not in {one.address for one in devices}
