# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The XML in the folder ``libvirt`` is what libvirt 9.0.0 with QEMU 7.2.22 answered; see
``tests/real/test_libvirt_source.py``, which wrote it.
"""

from __future__ import annotations

import importlib
import logging
import pathlib
import re
import sys
import threading
import time
import types

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nova_devcompat.compat.kinds import OneOf, Ordered
from nova_devcompat.sources import SourceError, SourceOptions
from nova_devcompat.sources import libvirt as source
from nova_devcompat.sources import libvirt_answers as answers
from nova_devcompat.sources.libvirt import LibvirtSource
from tests.unit.sources.fuzzing import fuzz, mutate

FOLDER = pathlib.Path(__file__).with_name("libvirt")

CAPABILITIES = (FOLDER / "capabilities.xml").read_text()

PARENTS = ["pci_0000_86_00_0", "css_0_0_fffe", "ap_matrix"]


def recorded(name):
    return (FOLDER / f"{name}.xml").read_text()


class LibvirtError(Exception):
    """As ``libvirt.libvirtError``."""


class NodeDevice:
    def __init__(self, name, description):
        self._name, self.description = name, description

    def name(self):
        return self._name

    def XMLDesc(self, flags=0):
        if isinstance(self.description, Exception):
            raise self.description
        return self.description


class Connection:
    """A ``virConnect`` that answers what its attributes say, and raises what is an exception."""

    def __init__(self, **answers):
        self.answers = {
            "getLibVersion": 9000000,
            "getType": "QEMU",
            "getVersion": 7002022,
            "getCapabilities": CAPABILITIES,
            "listAllDevices": [NodeDevice(name, recorded(f"nodedev_{name}")) for name in PARENTS],
            **answers,
        }
        self.closed = 0

    def __getattr__(self, name):
        def call(*arguments):
            if name == "listAllDevices":
                assert arguments == (8192,)
            answer = self.answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    def close(self):
        self.closed += 1


def read(**answers):
    connection = Connection(**answers)
    devices = LibvirtSource(SourceOptions(), connect=lambda: connection).read("cmp1")
    assert connection.closed == 1
    return devices


def component(name, **answers):
    (device,) = (device for device in read(**answers) if device.address == name)
    return device


def machine(**answers):
    return component("qemu_machine", **answers)


# What a healthy host gives.


def test_the_components():
    libvirt, qemu, qemu_machine = read()[:3]
    assert [device.address for device in (libvirt, qemu, qemu_machine)] == [
        "libvirt",
        "qemu",
        "qemu_machine",
    ]
    assert libvirt.attributes == {
        "component": "libvirt",
        "libvirt_version": "9.0.0",
        "hypervisor_type": "QEMU",
        "hypervisor_version": "7.2.22",
    }
    assert qemu.attributes == {
        "component": "qemu",
        "qemu_version": "7.2.22",
        "libvirt_version": "9.0.0",
        "architecture": "x86_64",
    }
    attributes = dict(qemu_machine.attributes)
    machine_types = attributes.pop("machine_types")
    assert attributes == {
        "component": "qemu_machine",
        "qemu_version": "7.2.22",
        "machine_types_deprecated": [f"pc-i440fx-1.{minor}" for minor in (4, 5, 6, 7)],
        "machine_aliases": {"pc": "pc-i440fx-7.2", "q35": "pc-q35-7.2"},
    }
    assert not any(device.problems for device in (libvirt, qemu, qemu_machine))
    both = component("hypervisor")
    assert not both.problems
    assert both.attributes == {
        "component": "hypervisor",
        "libvirt_version": "9.0.0",
        "qemu_version": "7.2.22",
    }
    assert machine_types == sorted(machine_types) and len(machine_types) == 58
    assert {"pc-i440fx-7.2", "pc-q35-2.4", "pc-i440fx-1.4", "microvm"} <= set(machine_types)
    assert not {"pc", "q35"} & set(machine_types)


@pytest.mark.parametrize("alias", ["pc", "q35"])
def test_domain_capabilities_agree(alias):
    found = answers.parse_capabilities(CAPABILITIES)
    machine = re.search("<machine>(.*)</machine>", recorded(f"domcapabilities_{alias}"))
    assert found.aliases[alias] == machine[1]


def test_the_rules_read_them():
    for name in ("libvirt", "qemu"):
        version = component(name).attributes[f"{name}_version"]
        assert Ordered().describe(Ordered().parse_offer(version)) == version
    offer = OneOf().parse_offer(machine().attributes["machine_types"])
    assert OneOf().check(offer, "pc-q35-7.2") is None


def test_parents_of_mdevs():
    (*_, gpu, ap_matrix, css) = read()
    assert (gpu.address, ap_matrix.address, css.address) == (
        "0000:86:00.0",
        "ap_matrix",
        "css_0_0_fffe",
    )
    assert gpu.attributes == {
        "vendor_id": "10de",
        "product_id": "1eb8",
        "mdev_type": ["nvidia-222", "nvidia-223"],
        "mdev_name": {"nvidia-222": "GRID T4-1B"},
        "mdev_device_api": {"nvidia-222": "vfio-pci", "nvidia-223": "vfio-pci"},
        "mdev_available_instances": {"nvidia-222": "16", "nvidia-223": "0"},
    }
    assert css.attributes == {
        "mdev_type": ["vfio_ccw-io"],
        "mdev_name": {"vfio_ccw-io": "I/O subchannel (Non-QDIO)"},
        "mdev_device_api": {"vfio_ccw-io": "vfio-ccw"},
        "mdev_available_instances": {"vfio_ccw-io": "1"},
    }


def test_the_driver_of_a_parent():
    description = recorded("nodedev_pci_0000_86_00_0").replace(
        "<parent>", "<driver><name>nvidia</name></driver><parent>"
    )
    assert answers.parse_node_device(description).attributes["driver"] == "nvidia"


def test_another_hypervisor_is_no_qemu():
    (device,) = read(getType="Xen", getVersion=4017000, listAllDevices=[])
    assert device.attributes == {
        "component": "libvirt",
        "libvirt_version": "9.0.0",
        "hypervisor_type": "Xen",
        "hypervisor_version": "4.17.0",
    }


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (9000000, "9.0.0"),
        (10010000, "10.10.0"),
        (7002022, "7.2.22"),
        (8001050, "8.1.50"),
        (1, "0.0.1"),
        (999999, "0.999.999"),
    ],
)
def test_versions(number, expected):
    assert answers.parse_version(number) == expected


@pytest.mark.parametrize("number", [0, -1, None, "9.0.0", True, 2.5, 2**70])
def test_versions_that_are_none(number):
    with pytest.raises(ValueError, match="which is none"):
        answers.parse_version(number)


def test_a_version_of_more_digits_than_python_writes():
    with pytest.raises(ValueError, match="gives the version of type int, which is none"):
        answers.parse_version(10**5000)


# Machine types.


def capabilities(machines, *, arch="x86_64", os_type="hvm", domains=""):
    return f"""<capabilities>
      <host><cpu><arch>x86_64</arch></cpu></host>
      <guest><os_type>{os_type}</os_type>
        <arch name='{arch}'><wordsize>64</wordsize>{machines}<domain type='qemu'/>{domains}</arch>
      </guest>
    </capabilities>"""


def test_an_alias_without_an_entry_for_what_it_stands_for():
    found = answers.parse_capabilities(
        capabilities("<machine canonical='virt-9.0' deprecated='yes'>virt</machine>")
    )
    assert found == answers.MachineTypes(
        names=("virt-9.0",), deprecated=("virt-9.0",), aliases={"virt": "virt-9.0"}
    )


@pytest.mark.parametrize("deprecated", ["", "deprecated='no'", "canonical='a'", "canonical=''"])
def test_a_machine_type_that_is_its_own(deprecated):
    found = answers.parse_capabilities(capabilities(f"<machine {deprecated}> a </machine>"))
    assert found == answers.MachineTypes(names=("a",), deprecated=(), aliases={})


def architectures(**machines):
    guests = "".join(
        f"""<guest><os_type>hvm</os_type><arch name='{arch}'><wordsize>64</wordsize>{listed}
        <domain type='qemu'/></arch></guest>"""
        for arch, listed in machines.items()
    )
    host = "<host><cpu><arch>x86_64</arch></cpu></host>"
    return f"<capabilities>{host}{guests}</capabilities>"


def test_machine_types_of_architectures_that_are_emulated():
    found = answers.parse_capabilities(
        architectures(
            aarch64="<machine>virt-8.2</machine><machine canonical='virt-8.2'>virt</machine>"
            "<machine deprecated='yes'>virt-2.6</machine>",
            x86_64="<machine>pc-q35-8.2</machine><machine canonical='pc-q35-8.2'>q35</machine>"
            "<machine>none</machine>",
            i686="<machine canonical='pc-q35-8.2'>q35</machine>",
            # Here "virt" is a machine type without a version, and "none" an alias.
            riscv64="<machine>virt</machine><machine>spike</machine>"
            "<machine canonical='spike'>none</machine>",
        )
    )
    assert found == answers.MachineTypes(
        names=("none", "pc-q35-8.2", "spike", "virt-2.6", "virt-8.2"),
        deprecated=("virt-2.6",),
        aliases={"q35": "pc-q35-8.2"},
    )
    # Without those of its own a host has nothing to say.
    with pytest.raises(ValueError, match="has no machine types for x86_64"):
        answers.parse_capabilities(architectures(aarch64="<machine>virt-8.2</machine>"))


def test_kvm_with_an_emulator_of_its_own():
    domains = """<domain type='kvm'><emulator>/usr/libexec/qemu-kvm</emulator>
      <machine canonical='pc-q35-rhel9.4.0'>q35</machine></domain>"""
    found = answers.parse_capabilities(capabilities("<machine>pc</machine>", domains=domains))
    assert found.names == ("pc-q35-rhel9.4.0",)


@pytest.mark.parametrize(
    "text",
    [
        capabilities(""),
        capabilities("<machine/><machine>  </machine>"),
        capabilities("<machine>pc</machine>", arch="i686"),
        capabilities("<machine>pc</machine>", os_type="exe"),
        "<capabilities><host><cpu><arch>x86_64</arch></cpu></host></capabilities>",
    ],
)
def test_a_host_without_emulator(text):
    device = machine(getCapabilities=text)
    assert set(device.problems) == {
        "machine_types",
        "machine_types_deprecated",
        "machine_aliases",
    }
    assert device.problems["machine_types"] == (
        "libvirt has no machine types for x86_64; see that QEMU is installed, and look in "
        "libvirt's log"
    )
    assert component("qemu", getCapabilities=text).attributes["qemu_version"] == "7.2.22"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no text"),
        (None, "is no text"),
        (b"<capabilities/>", "is no text"),
        (CAPABILITIES[:500], "is not XML"),
        ("\0", "is not XML"),
        ("\ud800", "is not XML"),
        ("<domainCapabilities/>", "has <domainCapabilities> for <capabilities>"),
        ("<capabilities/>", "does not tell the host's architecture"),
        ("<a>" * 100_000, "is not XML"),
        (
            "<!DOCTYPE c [<!ENTITY a 'pc'>]>" + CAPABILITIES.replace("isapc", "&a;"),
            "declares a document type",
        ),
        (
            "<!DOCTYPE c SYSTEM 'http://127.0.0.1/x'><capabilities>&x;</capabilities>",
            "declares a document type",
        ),
    ],
)
def test_capabilities_that_are_none(text, complaint):
    device = machine(getCapabilities=text)
    assert complaint in device.problems["machine_types"]
    assert "machine_types" not in device.attributes
    assert component("libvirt", getCapabilities=text).attributes["libvirt_version"] == "9.0.0"


def test_an_entity_reads_no_file(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("pc-secret")
    text = f"<!DOCTYPE c [<!ENTITY a SYSTEM 'file://{secret}'>]>" + capabilities(
        "<machine>&a;</machine>"
    )
    assert "secret" not in repr(read(getCapabilities=text))


def test_entities_do_not_multiply():
    entities = "".join(f"<!ENTITY e{n + 1} '{f'&e{n};' * 10}'>" for n in range(12))
    text = f"<!DOCTYPE c [<!ENTITY e0 'aaaaaaaaaa'>{entities}]>" + capabilities(
        "<machine>&e12;</machine>"
    )
    began = time.monotonic()
    assert "machine_types" in machine(getCapabilities=text).problems
    assert time.monotonic() - began < 1


def test_an_answer_that_is_too_long(monkeypatch):
    monkeypatch.setattr(answers, "MAX_XML", 1000)
    assert "characters, and 1000 are read" in machine().problems["machine_types"]


# What goes wrong.


MACHINE_TYPES = {"machine_types", "machine_types_deprecated", "machine_aliases"}


@pytest.mark.parametrize(
    ("call", "lost"),
    [
        ("getLibVersion", {"libvirt_version"}),
        ("getType", {"hypervisor_type", "qemu_version", *MACHINE_TYPES}),
        ("getVersion", {"hypervisor_version", "qemu_version"}),
        ("getCapabilities", {"architecture", *MACHINE_TYPES}),
    ],
)
def test_an_error_is_a_problem_of_its_attributes(call, lost):
    expected = read()
    devices = read(**{call: LibvirtError("internal error: no")})
    assert {name for device in devices for name in device.problems} == lost
    for device, healthy in zip(devices, expected, strict=True):
        assert device.address == healthy.address
        assert device.attributes == {
            name: value for name, value in healthy.attributes.items() if name not in lost
        }
        for problem in device.problems.values():
            assert problem.startswith("libvirt says: internal error: no; ")


def test_node_devices_that_cannot_be_listed_are_told_once(caplog):
    caplog.set_level(logging.INFO)
    connection = Connection()
    libvirt_source = LibvirtSource(SourceOptions(), connect=lambda: connection)
    healthy = libvirt_source.read("cmp1")
    listed = connection.answers["listAllDevices"]
    connection.answers["listAllDevices"] = LibvirtError("no connection driver available")
    for _ in range(3):
        found = libvirt_source.read("cmp1")
        assert found == healthy[:4]
        assert found.left_out.keys() == {"the list of parents of mdevs"}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "Source libvirt: the list of parents of mdevs cannot be used until this is mended: "
        "libvirt says: no connection driver available; see that libvirt's driver for node devices "
        "(virtnodedevd) runs"
    )
    connection.answers["listAllDevices"] = listed
    assert libvirt_source.read("cmp1") == healthy
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize(
    ("description", "complaint"),
    [
        (LibvirtError("Node device not found"), "libvirt says: Node device not found"),
        ("<device>", "is not XML"),
        ("<device/>", "has no name or no capability"),
        (None, "is no text"),
    ],
)
def test_a_node_device_that_cannot_be_read_leaves_the_others(caplog, description, complaint):
    listed = Connection().answers["listAllDevices"]
    connection = Connection(listAllDevices=[NodeDevice("pci_0000_3b_00_0", description), *listed])
    libvirt_source = LibvirtSource(SourceOptions(), connect=lambda: connection)
    for _ in range(2):
        assert libvirt_source.read("cmp1") == read()
    (record,) = caplog.records
    assert "node device pci_0000_3b_00_0 cannot be used" in record.getMessage()
    assert complaint in record.getMessage()


def test_no_libvirtd():
    def connect():
        raise LibvirtError("Failed to connect socket to '/run/libvirt/libvirt-sock-ro': No such")

    with pytest.raises(SourceError) as caught:
        LibvirtSource(SourceOptions(), connect=connect).read("cmp1")
    assert str(caught.value) == (
        "source 'libvirt' cannot connect: Failed to connect socket to "
        "'/run/libvirt/libvirt-sock-ro': No such; see that libvirtd or virtqemud runs, and that "
        "the user that nova-compute runs as may open its read-only socket"
    )


def test_a_libvirtd_that_goes_away_while_it_is_read():
    error = LibvirtError("client socket is closed")
    names = ["getLibVersion", "getType", "getVersion", "getCapabilities", "listAllDevices"]
    with pytest.raises(
        SourceError, match="can tell nothing: libvirt says: client socket is closed"
    ):
        read(**dict.fromkeys(names, error))


def test_a_libvirtd_that_hangs():
    answered = threading.Event()
    connections = []

    def connect():
        connections.append(Connection())
        if len(connections) == 1:
            answered.wait(20)
        return connections[-1]

    libvirt_source = LibvirtSource(SourceOptions(seconds=0.2), connect=connect)
    began = time.monotonic()
    for _ in range(4):
        with pytest.raises(SourceError):
            libvirt_source.read("cmp1")
    assert time.monotonic() - began < 1
    assert len(connections) == 1
    answered.set()
    deadline = time.monotonic() + 10
    while not connections[0].closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert libvirt_source.read("cmp1") == read()


def without(monkeypatch, missing):
    imported = importlib.import_module

    def import_module(name, package=None):
        if name == missing:
            raise ImportError(f"No module named {name!r}")
        return imported(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)


def test_without_libvirt_python(monkeypatch):
    without(monkeypatch, "libvirt")
    libvirt_source = LibvirtSource(SourceOptions())
    for call in (libvirt_source.check, lambda: libvirt_source.read("cmp1")):
        with pytest.raises(SourceError, match=r"needs libvirt-python: .* pip install"):
            call()


def test_without_lxml(monkeypatch):
    without(monkeypatch, "lxml.etree")
    monkeypatch.setitem(sys.modules, "libvirt", object())
    libvirt_source = LibvirtSource(SourceOptions(), connect=Connection)
    for call in (libvirt_source.check, lambda: libvirt_source.read("cmp1")):
        with pytest.raises(SourceError, match=r"needs lxml: .* pip install lxml"):
            call()


def test_check(monkeypatch):
    monkeypatch.setitem(sys.modules, "libvirt", object())
    LibvirtSource(SourceOptions()).check()


def test_the_connection_is_read_only(monkeypatch):
    class Library:
        @staticmethod
        def openReadOnly(uri):
            return uri

    monkeypatch.setitem(sys.modules, "libvirt", Library)
    assert source.connect() == "qemu:///system"
    assert source.connect("test:///default") == "test:///default"


# Answers that make no sense.

WORDS = [
    *b"< > </ /> & &amp; &#0; &#xd800; &a; ' \" = <!-- --> <![CDATA[ ]]> <?xml?> <a> </a>".split(),
    *b"<machine> </machine> <arch> <capability> </capability> <type> <name> </name>".split(),
    b"<!DOCTYPE c [<!ENTITY a 'b'>]>",
    b" canonical='x'",
    b" deprecated='yes'",
    b" id=''",
    b"\xff",
    b"\0",
    "\u202e\u0660".encode(),
]


def check_host(text):
    device = machine(getCapabilities=text, listAllDevices=[])
    if "machine_types" in device.problems:
        assert "machine_types" not in device.attributes
        assert device.problems["machine_types"].isprintable()
        return
    names = device.attributes["machine_types"]
    assert names == sorted(set(names)) and all(name.strip() == name and name for name in names)
    assert set(device.attributes["machine_types_deprecated"]) <= set(names)
    assert set(device.attributes["machine_aliases"].values()) <= set(names)


def check_node_device(text):
    devices = read(listAllDevices=[NodeDevice("pci_0000_86_00_0", text)])[3:]
    for device in devices:
        for value in device.attributes.values():
            texts = value.values() if isinstance(value, dict) else value
            assert all(isinstance(text, str) and text.strip() for text in texts)


def as_text(generator, data):
    return data.decode(errors=generator.choice(["replace", "surrogateescape"]))


# The part of the answer that is read.
GUEST = (
    CAPABILITIES[: CAPABILITIES.index("<model>")]
    + "</cpu></host>"
    + CAPABILITIES[CAPABILITIES.rindex("<guest>") :]
).encode()

NODE_DEVICE = recorded("nodedev_pci_0000_86_00_0").encode()


def test_what_is_mutated_is_read():
    assert answers.parse_capabilities(GUEST.decode()) == answers.parse_capabilities(CAPABILITIES)


@fuzz
def test_fuzz_capabilities(generator):
    check_host(as_text(generator, mutate(generator, GUEST, WORDS)))


@fuzz
def test_fuzz_node_device(generator):
    check_node_device(as_text(generator, mutate(generator, NODE_DEVICE, WORDS)))


@given(st.text())
@example("<capabilities>" * 300)
@example("<device><name>a</name><capability><capability type='mdev_types'><type/></capability>")
def test_text_that_is_no_xml(text):
    check_host(text)
    check_node_device(text)


@given(st.one_of(st.integers(), st.none(), st.text(), st.floats()))
def test_any_version(number):
    device = component("libvirt", getVersion=number)
    version = device.attributes.get("hypervisor_version")
    assert (version is None) == ("hypervisor_version" in device.problems)
    assert version is None or Ordered().parse_offer(version)


@pytest.mark.parametrize(
    ("told", "asked"), [("", "qemu:///system"), ("qemu+unix:///session", "qemu+unix:///session")]
)
def test_where_libvirt_is_asked(told, asked, monkeypatch):
    """Where Nova's driver asks it ([libvirt] connection_uri)."""
    uris = []

    def open_read_only(uri):
        uris.append(uri)
        raise RuntimeError("nobody is there")

    library = types.SimpleNamespace(openReadOnly=open_read_only)
    monkeypatch.setitem(sys.modules, "libvirt", library)
    with pytest.raises(SourceError):
        LibvirtSource(SourceOptions(libvirt_uri=told)).read("cmp1")
    assert uris == [asked]
