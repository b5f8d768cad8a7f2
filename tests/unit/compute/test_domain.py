# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading what a guest uses, off its domain or what stands for it."""

import collections
import threading
import time
import types

import pytest

from nova_devcompat.catalog import packs
from nova_devcompat.compute import domain
from nova_devcompat.host.devices import HostDevice, HostDevices
from nova_devcompat.kit.bounded import SECONDS
from nova_devcompat.service import load_catalog

CATALOG = load_catalog(packs.catalog_paths(["qemu_machine", "libvirt"]))
FACTS = {
    "qemu_machine": {
        "machine_types": ["pc-q35-8.1", "pc-q35-8.2"],
        "machine_aliases": {"q35": "pc-q35-8.2"},
        "qemu_version": "8.2.2",
    },
    "libvirt": dict.fromkeys(("libvirt_version", "mdev_migration", "variant_migration"), "9.0.0"),
}
THREADS = "<memoryBacking><allocation threads='8'/></memoryBacking>"


def host(*families):
    parts = [
        HostDevice(name, CATALOG.families[name].family.offer(FACTS[name]), facts=FACTS[name])
        for name in families
    ]
    return HostDevices(CATALOG, [], host=parts)


HOST = host("qemu_machine", "libvirt")


def instance(**system_metadata):
    return types.SimpleNamespace(uuid="uuid", name="guest", system_metadata=system_metadata)


def libvirt_driver(answer):
    """A driver whose guests describe themselves by what a function returns."""
    guest = types.SimpleNamespace(get_xml_desc=answer)
    hypervisor = types.SimpleNamespace(get_guest=lambda instance: guest)
    return types.SimpleNamespace(_host=hypervisor)


def needs(driver, guest=None, devices=HOST, seconds=SECONDS):
    found = domain.Domains(driver, seconds).needs(guest or instance(), devices)
    assert all(one.of_host and not one.address for one in found)
    return {one.family: dict(one.values) for one in found}


def of_domain(text):
    return needs(libvirt_driver(lambda: text))


def all_of(**known):
    """What is needed of each attribute: what is said of it here, else nothing."""
    return {
        name: {attribute: known.get(attribute, set()) for attribute in family.family.rules}
        for name, family in CATALOG.families.items()
    }


def test_what_the_domain_says():
    text = f"<domain><os><type machine='pc-q35-8.1'>hvm</type></os>{THREADS}</domain>"
    assert of_domain(text) == all_of(machine_types={"pc-q35-8.1"}, libvirt_version={"8.2.0"})


def test_an_alias_is_what_it_stands_for_here():
    text = "<domain><os><type machine='q35'>hvm</type></os></domain>"
    assert of_domain(text) == all_of(machine_types={"pc-q35-8.2"})


UNKNOWN = {name: dict.fromkeys(family.family.rules) for name, family in CATALOG.families.items()}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<domain>",
        "<network/>",
        None,
        "<domain>" + " " * 5_000_000 + "</domain>",
        "<!DOCTYPE d [<!ENTITY e SYSTEM '/etc/hostname'>]><network>&e;</network>",
    ],
)
def test_what_is_no_domain_is_not_known(text, caplog):
    assert of_domain(text) == UNKNOWN
    assert "What the guest uses of its host is not known: " in caplog.text


def test_a_libvirt_that_fails_or_hangs_is_not_known(caplog):
    def fail():
        raise RuntimeError("Domain not found")

    assert needs(libvirt_driver(fail)) == UNKNOWN
    assert "Domain not found" in caplog.text
    assert needs(libvirt_driver(lambda: time.sleep(1)), seconds=0.05) == UNKNOWN
    assert "gives no answer" in caplog.text


def test_one_that_hangs_among_many():
    """The others are read, and it is not waited for again."""
    ended = threading.Event()
    asked = collections.Counter()
    text = "<domain><os><type machine='pc-q35-8.1'>hvm</type></os></domain>"

    def get_guest(guest):
        def describe():
            asked[guest.uuid] += 1
            if guest.uuid == "7":
                ended.wait(30)
            return text

        return types.SimpleNamespace(get_xml_desc=describe)

    hypervisor = types.SimpleNamespace(get_guest=get_guest)
    domains = domain.Domains(types.SimpleNamespace(_host=hypervisor), seconds=0.05)
    guests = [types.SimpleNamespace(uuid=str(n), system_metadata={}) for n in range(200)]
    for _ in range(2):
        for guest in guests:
            found = {one.family: dict(one.values) for one in domains.needs(guest, HOST)}
            if guest.uuid == "7":
                assert found == UNKNOWN
            else:
                assert found == all_of(machine_types={"pc-q35-8.1"})
    assert asked["7"] == 1
    assert asked["8"] == 2
    ended.set()
    for _ in range(100):
        found = {one.family: dict(one.values) for one in domains.needs(guests[7], HOST)}
        if found != UNKNOWN:
            break
        time.sleep(0.01)
    assert found == all_of(machine_types={"pc-q35-8.1"})


def test_those_that_hung_once_and_are_gone():
    """They do not count for ever."""
    ended = threading.Event()
    text = "<domain><os><type machine='pc-q35-8.1'>hvm</type></os></domain>"

    def get_guest(guest):
        wait = (lambda: None) if guest.uuid == "sound" else lambda: ended.wait(30)
        return types.SimpleNamespace(get_xml_desc=lambda: wait() or text)

    hypervisor = types.SimpleNamespace(get_guest=get_guest)
    domains = domain.Domains(types.SimpleNamespace(_host=hypervisor), seconds=0.02)

    def known(uuid):
        guest = types.SimpleNamespace(uuid=uuid, system_metadata={})
        found = domains.needs(guest, HOST)
        return all(values is not None for one in found for _, values in one.values)

    assert not any(known(str(number)) for number in range(20))
    assert not known("sound"), "no more threads are left behind than so many"
    ended.set()
    deadline = time.monotonic() + 10
    while not known("sound"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_starts(monkeypatch):
    """Numbered by libvirt, which begins anew when the host does."""
    running = [types.SimpleNamespace(uuid="one", id=4), types.SimpleNamespace(uuid="two", id=5)]
    hypervisor = types.SimpleNamespace(
        get_guest=lambda guest: next(one for one in running if one.uuid == guest.uuid),
        list_guests=lambda only_running: running,
    )
    driver = types.SimpleNamespace(_host=hypervisor)
    domains = domain.Domains(driver)
    first = domains.starts()
    assert set(first) == {"one", "two"}
    assert first["one"] != first["two"]
    assert domains.start_of(types.SimpleNamespace(uuid="two")) == first["two"]
    running[1].id = 6
    assert domains.starts() == {"one": first["one"], "two": "6" + first["two"][1:]}
    # After a boot of the host, with libvirt-guests, all are started again by the same numbers.
    monkeypatch.setattr(domain, "_boot_id", lambda: "another")
    again = domain.Domains(driver).starts()
    assert again["one"] != first["one"]
    running[0].id = -1
    assert domains.start_of(types.SimpleNamespace(uuid="one")) == "", "it is shut off"
    assert not domain.Domains(types.SimpleNamespace()).tells_starts


def test_where_no_host_family_is_libvirt_is_not_asked():
    def fail():
        raise AssertionError

    assert needs(libvirt_driver(fail), devices=host()) == {}


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (None, set()),
        ("pc-q35-8.2", {"pc-q35-8.2"}),
        ("q35", set()),  # an alias, or a type of which the host knows nothing
        ("pc-q35-2.0", set()),
    ],
)
def test_other_drivers(machine, expected):
    guest = instance(image_hw_machine_type=machine) if machine else instance()
    found = needs(types.SimpleNamespace(), guest)
    assert found == all_of(machine_types=expected)
