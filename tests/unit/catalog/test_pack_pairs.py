# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""All packs: two equal hosts accept each other's guests, each rule refuses what its vendor does.

Through what a host published of itself too, since that is what nova-scheduler has.
"""

from __future__ import annotations

import functools

import pytest

from nova_devcompat import wire
from nova_devcompat.catalog import nvidia, packs, xpaths
from nova_devcompat.catalog.stages import now
from nova_devcompat.compat import uses
from nova_devcompat.compat.need import Need, host_slot
from nova_devcompat.compat.policy import Policy
from nova_devcompat.compat.ruling import Claim, Given, Guest, rule
from nova_devcompat.compat.verdict import Outcome
from nova_devcompat.service import load_catalog

VGPU = {
    "vgpu_version": nvidia.published_range("550.90.05").attribute,
    "driver_version": "550.90.05",
    "ecc_mode": "enabled",
    "product_id": "26b9",
    "vgpu_migration": "1",
    "vgpu_type": "1561",
}
HISI = {"revision": "30", "pf_queues": "256", "vfs": "3"}
QAT = {"cfg_services": "sym;asym"}

#: What a host tells of a device, or of itself, by pack and family.
HOSTS = {
    ("nvidia_vgpu", "nvidia_vgpu"): VGPU,
    ("nvidia_vgpu_same_driver", "nvidia_vgpu"): VGPU,
    ("mlx5_vf", "mlx5_vf"): {"fw_psid": "MT_0000000359", "fw_version": "22.41.1000"},
    ("pds_vf", "pds_vf"): {"fw": "1.60.0-73"},
    ("qat_gen4_vf", "qat_4xxx_vf"): QAT,
    ("qat_gen4_vf", "qat_401xx_vf"): QAT,
    ("qat_gen4_vf", "qat_402xx_vf"): QAT,
    ("qat_gen5_vf", "qat_420xx_vf"): QAT,
    ("qat_gen6_vf", "qat_6xxx_vf"): QAT,
    ("xe_vf", "xe_vf"): {"product_id": "e211", "revision": "00"},
    ("hisi_acc_vf", "hisi_zip_vf"): HISI,
    ("hisi_acc_vf", "hisi_sec_vf"): HISI,
    ("hisi_acc_vf", "hisi_hpre_vf"): HISI,
    ("mtty", "mtty"): {"mdev_type": ["mtty-1", "mtty-2"], "driver_srcversion": "DE2A1D66"},
    ("gvtg", "gvtg"): {"mdev_type": "i915-GVTg_V5_4", "aggregator": "2", "pv_mode": ["none"]},
    ("vfio_pci", "vfio_pci"): {"vf_driver_migrates": "1", "vf_driver": "virtio_vfio_pci"},
    ("virtio_vdpa", "virtio_vdpa"): {"features": ["CSUM", "VERSION_1"]},
    ("qemu_machine", "qemu_machine"): {
        "machine_types": ["pc-q35-8.2", "microvm"],
        "qemu_version": "8.2.2",
    },
    ("qemu", "qemu"): {
        "architecture": "x86_64",
        "behind_viommu": "11.0.0",
        **dict.fromkeys(
            (
                *("qemu_version", "mdev_migration", "variant_migration", "several_devices"),
                "s390_css",
                *("virtio_gpu", "virtio_rng", "pcie_unc_mask"),
            ),
            "8.2.2",
        ),
    },
    ("libvirt", "libvirt"): {
        **dict.fromkeys(("libvirt_version", "mdev_migration", "variant_migration"), "10.4.0"),
        "memory_source": "file",
    },
    ("nova_minima", "nova_minima"): {
        **dict.fromkeys(("mdev_libvirt", "variant_libvirt"), "10.4.0"),
        **dict.fromkeys(("mdev_qemu", "variant_qemu"), "8.2.2"),
    },
}

#: What the other host tells instead, by attribute, of which the vendor refuses the guest.
REFUSED = {
    "vgpu_version": nvidia.published_range("535.129.03").attribute,
    "driver_version": "580.65.06",
    "ecc_mode": "disabled",
    "product_id": "2321",
    "vgpu_migration": "0",
    "vgpu_type": "1562",
    "fw_psid": "NVD0000000079",
    "fw_version": "22.42.1000",
    "fw": "1.60.0-74",
    "cfg_services": "dc",
    "revision": "21",
    "pf_queues": "512",
    "vfs": "7",
    "mdev_type": ["mtty-1"],
    "driver_srcversion": "0A1B2C3D",
    "aggregator": "1",
    "vf_driver_migrates": "0",
    "vf_driver": "mlx5_vfio_pci",
    "pv_mode": ["ppgtt"],
    "features": ["CSUM"],
    "machine_types": ["pc-q35-9.2"],
    "qemu_version": "7.2.0",
    "libvirt_version": "10.3.0",
    "memory_source": "anonymous",
    "mdev_migration": "8.0.0",
    "variant_migration": "8.2.1",
    "several_devices": "8.1.5",
    "behind_viommu": "10.2.0",
    "mdev_libvirt": "8.0.0",
    "mdev_qemu": "6.2.0",
    "variant_libvirt": "8.0.0",
    "variant_qemu": "6.2.0",
}
#: Where one pack's vendor refuses another value than the others'.
REFUSED_OF = {("gvtg", "mdev_type"): "i915-GVTg_V5_8", ("qemu_machine", "qemu_version"): "9.2.0"}

#: Of these no vendor has published more than that one version works.
NOT_KNOWN = {("mlx5_vf", "fw_version"), ("pds_vf", "fw"), ("qemu_machine", "qemu_version")}

#: A guest that uses all that host families look for.
DOMAIN = """
<domain>
  <os><type machine='{}'>hvm</type><loader stateless='yes'>/x.fd</loader></os>
  <cpu><maxphysaddr mode='passthrough'/></cpu>
  <memoryBacking><source type='file'/><allocation threads='8'/></memoryBacking>
  <devices>
    <hostdev type='mdev'/><hostdev type='pci' managed='no'/><iommu model='virtio'/>
    <interface><model type='igb'/></interface><sound model='virtio'/>
  </devices>
</domain>
"""


@functools.cache
def catalog_of(pack):
    return load_catalog(packs.catalog_paths([pack]))


def started(pack, name, facts):
    """The need of a guest that was started on a host that tells these."""
    family = catalog_of(pack).families[name]
    offer = family.family.offer(facts)
    if not family.of_host:
        return offer.freeze(slot="pci:a")
    # A type without a version is what QEMU's version counts for.
    machine = "microvm" if pack == "qemu_machine" and "microvm" in facts["machine_types"] else ""
    domain = xpaths.parse(DOMAIN.format(machine or "pc-q35-8.2"))
    find = functools.partial(xpaths.find, root=domain)
    return offer.freeze_used(uses.used(family.needs, offer, facts, find), slot=host_slot(name))


def ruled(pack, need, facts, *, published):
    """What a host that tells these says of a guest, under the default policy."""
    family = catalog_of(pack).families[need.family]
    accepts = family.family.offer(facts).accept_set(need.atoms)
    if published:
        device = wire.PublishedDevice(address="a", accepts=accepts)
        (read,) = wire.load_stats(
            wire.dump_stats(wire.HostDocument(catalog="c", devices=(device,)))
        ).devices
        accepts = read.accepts
    guest = Guest(record=Need(devices=(need,)))
    policies = catalog_of(pack).policies(Policy(), now())
    if family.of_host:
        given = Given(host={need.family: accepts}, complete=True)
    else:
        claim = Claim(slots=("pci:a",), devices=((accepts,),))
        given = Given(claims=(claim,), complete=True)
    return accepts.judge(need), rule(guest, given, policies)


def rules():
    for pack, name in HOSTS:
        for attribute in catalog_of(pack).families[name].family.rules:
            yield pack, name, attribute


def test_all_packs_and_families_are_here():
    known = {(pack, name) for pack in packs.names() for name in catalog_of(pack).families}
    assert HOSTS.keys() == known


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(("pack", "name"), HOSTS)
def test_two_equal_hosts_accept_each_others_guests(pack, name, published):
    facts = HOSTS[pack, name]
    need = started(pack, name, facts)
    assert need.values
    assert all(values is not None for _, values in need.values)
    verdict, ruling = ruled(pack, need, facts, published=published)
    assert verdict.outcome is Outcome.ACCEPT, str(verdict)
    assert ruling.accepts


#: Of where a guest was started no rule refuses any: what is known not to work has its own tests.
REFUSING = [
    (pack, name, attribute)
    for pack, name, attribute in rules()
    if not catalog_of(pack).families[name].family.rules[attribute].open_world
]


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(("pack", "name", "attribute"), REFUSING)
def test_each_rule_refuses_what_its_vendor_refuses(pack, name, attribute, published):
    facts = HOSTS[pack, name]
    other = REFUSED_OF.get((pack, attribute), REFUSED[attribute])
    need = started(pack, name, facts)
    if (pack, attribute) == ("qemu_machine", "machine_types"):
        need = started(pack, name, {**facts, "machine_types": ["pc-q35-8.2"]})
    verdict, ruling = ruled(pack, need, {**facts, attribute: other}, published=published)
    expected = Outcome.UNKNOWN if (pack, attribute) in NOT_KNOWN else Outcome.REJECT
    assert verdict.outcome is expected, str(verdict)
    assert [reason.attribute for reason in verdict.reasons] == [attribute]
    assert not ruling.accepts


@pytest.mark.parametrize(("pack", "name", "attribute"), rules())
def test_what_a_host_does_not_tell_is_never_accepted(pack, name, attribute):
    facts = HOSTS[pack, name]
    need = started(pack, name, facts)
    if not dict(need.values)[attribute]:
        return  # the guest does not use it
    verdict, ruling = ruled(pack, need, {**facts, attribute: None}, published=False)
    assert verdict.outcome is Outcome.UNKNOWN
    assert not ruling.accepts


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(("pack", "name"), HOSTS)
def test_functions_that_cannot_migrate_are_refused_by_each(pack, name, published):
    """By what holds of every family: from such a function, to one, and whatever is recorded."""
    family = catalog_of(pack).families[name]
    if family.of_host:
        assert not family.implied
        return
    asked = {"vf_driver_migrates", *["migratable"] * ("devlink" in family.sources)}
    assert set(family.implied) == asked - set(family.family.rules)
    good = HOSTS[pack, name]
    for attribute in family.implied:
        bad = {**good, attribute: "0"}
        for here, there in ((good, bad), (bad, good), (bad, bad)):
            need = started(pack, name, here)
            verdict, ruling = ruled(pack, need, there, published=published)
            assert verdict.outcome is Outcome.REJECT, str(verdict)
            assert {reason.attribute for reason in verdict.reasons} == {attribute}
            assert not ruling.accepts
        need = started(pack, name, good)
        assert ruled(pack, need, {**good, attribute: "1"}, published=published)[1].accepts
