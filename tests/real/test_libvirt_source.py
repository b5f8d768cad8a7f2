# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The ``libvirt`` source against a real libvirtd and QEMU of the distribution.

The daemon is one of this test's own: unprivileged, in session mode, with its sockets, settings and
state in a folder of the test's. What is missing is installed by apt-get where that is possible and
starts no service of the system's; else the tests are skipped and say why.

With ``DEVCOMPAT_RECORD`` naming a folder, the answers are written there: that is how those in
``tests/unit/sources/libvirt`` were made.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.machinery
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
import uuid

import pytest

from nova_devcompat.catalog import packs
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compute.domain import Domains
from nova_devcompat.host.devices import HostDevice, HostDevices
from nova_devcompat.service import load_catalog
from nova_devcompat.sources import SourceError, SourceOptions
from nova_devcompat.sources import libvirt as source
from nova_devcompat.sources import libvirt_answers as answers
from tests import debian

PACKAGES = [
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "qemu-system-x86",
    "python3-libvirt",
]

# Where Debian puts python3-libvirt, which works if its Python is of this one's version.
DIST_PACKAGES = pathlib.Path("/usr/lib/python3/dist-packages")

NOBODY = 65534

NODE_DEVICES = pathlib.Path(__file__).with_name("node_devices.xml")

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin"

ARCH = platform.machine()


def which(*names):
    return next(filter(None, (shutil.which(name, path=PATH) for name in names)), None)


def missing():
    found = []
    if ARCH != "x86_64":
        found.append("a machine of x86_64")
    if not which("libvirtd", "virtqemud"):
        found.append("libvirtd")
    if not which(f"qemu-system-{ARCH}"):
        found.append(f"qemu-system-{ARCH}")
    if not binding():
        found.append("libvirt-python for this Python")
    return found


def binding():
    """Whether ``import libvirt`` works, if need be with the distribution's package."""
    with contextlib.suppress(ImportError):
        importlib.import_module("libvirt")
        return True
    files = [DIST_PACKAGES / "libvirt.py"]
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        files.extend(DIST_PACKAGES.glob(f"libvirtmod{suffix}"))
    if len(files) < 2 or not all(file.is_file() for file in files):
        return False
    # Nothing else of that folder is wanted.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="devcompat-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for file in files:
        (folder / file.name).symlink_to(file)
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        importlib.import_module("libvirt")
    except ImportError:
        sys.path.remove(str(folder))
        return False
    return True


def install():
    """Install what is missing; the reason why not, else an empty text."""
    if pathlib.Path("/run/systemd/system").exists():
        return "its packages would start the system's own libvirt"
    return debian.install(PACKAGES, timeout=300)


@pytest.fixture(scope="session", autouse=True)
def packages():
    if missing():
        why = install()
        lacking = missing()
        if lacking:
            pytest.skip(f"needs {', '.join(lacking)}: {why or 'which apt-get did not bring'}")


class Daemon:
    """A libvirtd of the test's own.

    :param folder: with a short name: those of sockets have at most 107 characters
    """

    def __init__(self, folder):
        self.folder = folder
        self.process = None
        self.environment = {"PATH": PATH, "HOME": str(folder), "LC_ALL": "C"}
        folders = {"RUNTIME_DIR": "run", "CONFIG_HOME": "cfg", "CACHE_HOME": "cache"}
        for name, short in folders.items():
            self.environment[f"XDG_{name}"] = str(folder / short)
            (folder / short).mkdir(mode=0o700)
        self.user = {}
        if os.geteuid() == 0:
            self.user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            for path in (folder, *folder.iterdir()):
                os.chown(path, NOBODY, NOBODY)

    def start(self):
        program = which("libvirtd", "virtqemud")
        self.socket = self.folder / "run" / "libvirt" / f"{pathlib.Path(program).stem}-sock"
        if program.endswith("libvirtd"):
            self.socket = self.socket.with_name("libvirt-sock")
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [program], env=self.environment, stdout=log, stderr=log, cwd="/", **self.user
            )
        libvirt = importlib.import_module("libvirt")
        deadline = time.monotonic() + 60
        while True:
            # The socket is there before QEMU has been looked at, which the first to ask for
            # capabilities waits for: on a busy machine longer than a source does.
            with contextlib.suppress(libvirt.libvirtError):
                connection = libvirt.openReadOnly(self.uri)
                connection.getCapabilities()
                connection.close()
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "log").read_text())
            time.sleep(0.1)

    @property
    def uri(self):
        return f"qemu+unix:///session?socket={self.socket}"

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
            self.process = None

    def source(self, **options):
        return source.LibvirtSource(
            SourceOptions(**options), connect=lambda: source.connect(self.uri)
        )


@pytest.fixture(scope="module")
def daemon(packages):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="devcompat-"))
    daemon = Daemon(folder)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(folder)


@pytest.fixture
def host(daemon):
    """The components by name."""
    return {device.address: device for device in daemon.source().read("cmp1")[:3]}


def output(*command):
    done = subprocess.run(
        command, env={"PATH": PATH, "LC_ALL": "C"}, capture_output=True, text=True, timeout=60
    )
    return done.stdout


def record(name, text):
    folder = os.environ.get("DEVCOMPAT_RECORD")
    if folder:
        text = re.sub(
            "<uuid>.*?</uuid>", f"<uuid>{'0' * 8}-0000-0000-0000-{'0' * 12}</uuid>", text
        )
        (pathlib.Path(folder) / name).write_text(text)


def qemu_machines():
    """What QEMU itself says: canonical names, deprecated ones, aliases."""
    names, deprecated, aliases = set(), set(), {}
    for line in output(f"qemu-system-{ARCH}", "-machine", "help").splitlines()[1:]:
        name = line.split()[0]
        if name == "none":
            continue
        alias = re.search(r"\(alias of (\S+)\)", line)
        if alias:
            aliases[name] = alias[1]
            continue
        names.add(name)
        if "(deprecated)" in line:
            deprecated.add(name)
    return names, deprecated, aliases


def test_the_machine_types_are_those_of_qemu(host):
    names, deprecated, aliases = qemu_machines()
    assert len(names) > 10 and aliases
    attributes = host["qemu_machine"].attributes
    assert attributes["machine_types"] == sorted(names)
    assert attributes["machine_types_deprecated"] == sorted(deprecated)
    assert attributes["machine_aliases"] == aliases


DOMAIN = """
<domain type='qemu'>
  <name>devcompat-{name}</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='{arch}' machine='{machine}'>hvm</type></os>
  {more}
  <devices>{devices}</devices>
</domain>
"""


def defined(daemon, machine, *, more="", devices=""):
    """What libvirt makes of a definition; nothing is started."""
    connection = importlib.import_module("libvirt").open(daemon.uri)
    try:
        domain = connection.defineXML(
            DOMAIN.format(name=machine, arch=ARCH, machine=machine, more=more, devices=devices)
        )
        try:
            return domain.XMLDesc()
        finally:
            domain.undefine()
    finally:
        connection.close()


def needed(host, text):
    """What a guest with this domain needs of the host, by the packs."""
    catalog = load_catalog(packs.catalog_paths(["qemu_machine", "qemu", "libvirt"]))
    parts = []
    for name, family in catalog.families.items():
        facts = dict(host[name].attributes)
        keys = {attribute: family.key_of(attribute, facts) for attribute in family.family.rules}
        # Under the names that the pack gives them.
        facts |= {attribute: facts[key] for attribute, key in keys.items() if key in facts}
        parts.append(HostDevice(name, family.family.offer(facts), facts=facts))
    guest = types.SimpleNamespace(get_xml_desc=lambda: text)
    hypervisor = types.SimpleNamespace(get_guest=lambda instance: guest)
    found = Domains(types.SimpleNamespace(_host=hypervisor)).needs(
        types.SimpleNamespace(uuid=str(uuid.uuid4())), HostDevices(catalog, [], host=parts)
    )
    for part, need in zip(parts, found, strict=True):
        assert not part.offer.judge(need).reasons
    return {f"{one.family}.{name}": values for one in found for name, values in one.values}


def test_a_guest_needs_a_machine_type_of_the_list_never_an_alias(daemon, host):
    facts = host["qemu_machine"].attributes
    canonical = facts["machine_aliases"]["q35"]
    family = load_catalog(packs.catalog_paths(["qemu_machine"])).families["qemu_machine"].family
    for machine in ("q35", canonical):
        need = needed(host, defined(daemon, machine))
        assert need["qemu_machine.machine_types"] == {canonical}
        # A guest that uses nothing else needs nothing else.
        assert need["libvirt.libvirt_version"] == need["qemu.qemu_version"] == set()
    # A host whose QEMU stops short of it, and one that is newer and has both.
    need = DeviceNeed.of("qemu_machine", {"machine_types": [canonical], "qemu_version": []})
    older = [one for one in facts["machine_types"] if one != canonical]
    newer = [*facts["machine_types"], "pc-q35-99.0"]
    for machines, outcome in ((older, "reject"), (newer, "accept")):
        offer = family.offer({**facts, "machine_types": machines})
        assert offer.judge(need).outcome == outcome


def test_what_this_libvirt_writes_of_what_guests_use(daemon, host):
    more = "<memoryBacking><allocation threads='2'/></memoryBacking>"
    need = needed(host, defined(daemon, "q35", more=more))
    assert need["libvirt.libvirt_version"] == {"8.2.0"}
    assert need["qemu.qemu_version"] == set()
    # What no row looks for holds nobody back.
    more = "<memoryBacking><source type='memfd'/></memoryBacking>"
    assert not any(
        needed(host, defined(daemon, "q35", more=more))[name]
        for name in (
            "libvirt.libvirt_version",
            "libvirt.mdev_migration",
            "qemu.qemu_version",
        )
    )


def test_the_versions_are_those_of_the_programs(host):
    qemu = re.search(r"version (\d+\.\d+\.\d+)", output(f"qemu-system-{ARCH}", "--version"))
    libvirt = re.search(r"(\d+\.\d+\.\d+)", output(which("libvirtd", "virtqemud"), "--version"))
    assert host["qemu"].attributes["qemu_version"] == qemu[1]
    assert host["libvirt"].attributes == {
        "component": "libvirt",
        "libvirt_version": libvirt[1],
        "hypervisor_type": "QEMU",
        "hypervisor_version": qemu[1],
    }
    assert not any(device.problems for device in host.values())


def test_domain_capabilities_agree(daemon, host):
    libvirt = importlib.import_module("libvirt")
    connection = libvirt.open(daemon.uri)
    try:
        record("capabilities.xml", connection.getCapabilities())
        for alias, canonical in host["qemu_machine"].attributes["machine_aliases"].items():
            description = connection.getDomainCapabilities(None, ARCH, alias, None, 0)
            assert f"<machine>{canonical}</machine>" in description
            record(f"domcapabilities_{alias}.xml", description)
    finally:
        connection.close()


def test_a_read_only_connection_has_no_domain_capabilities(daemon):
    libvirt = importlib.import_module("libvirt")
    connection = libvirt.openReadOnly(daemon.uri)
    try:
        with pytest.raises(libvirt.libvirtError, match="read only"):
            connection.getDomainCapabilities(None, ARCH, None, None, 0)
    finally:
        connection.close()


def test_node_devices_of_this_machine(daemon):
    libvirt = importlib.import_module("libvirt")
    connection = libvirt.openReadOnly(daemon.uri)
    try:
        pci = connection.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV)
        parents = connection.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV_TYPES)
        for device in pci:
            parsed = answers.parse_node_device(device.XMLDesc())
            assert re.fullmatch("[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}[.][0-7]", parsed.address)
            assert re.fullmatch("[0-9a-f]{4}", parsed.attributes["vendor_id"])
        for device in sorted(pci, key=lambda device: device.name())[:1]:
            record("nodedev_pci.xml", device.XMLDesc())
    finally:
        connection.close()
    found = [device.address for device in daemon.source().read("cmp1")]
    components = [answers.LIBVIRT, answers.QEMU, answers.QEMU_MACHINE, answers.HYPERVISOR]
    assert sorted(found[: len(components)]) == sorted(components)
    assert len(found) == len(components) + len(parents)


def test_parents_of_mdevs_as_libvirt_writes_them():
    # libvirt's test driver takes node devices from a file, keeps and describes them as all do.
    devices = source.LibvirtSource(
        SourceOptions(), connect=lambda: source.connect(f"test://{NODE_DEVICES}")
    ).read("cmp1")
    libvirt = importlib.import_module("libvirt")
    connection = libvirt.openReadOnly(f"test://{NODE_DEVICES}")
    for device in connection.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV_TYPES):
        record(f"nodedev_{device.name()}.xml", device.XMLDesc())
    connection.close()
    found = {device.address: device.attributes for device in devices}
    # Of libvirt's test driver, so there is no QEMU.
    assert list(found) == ["libvirt", "0000:86:00.0", "ap_matrix", "css_0_0_fffe"]
    assert found["0000:86:00.0"] == {
        "vendor_id": "10de",
        "product_id": "1eb8",
        "mdev_type": ["nvidia-222", "nvidia-223"],
        "mdev_name": {"nvidia-222": "GRID T4-1B"},
        "mdev_device_api": {"nvidia-222": "vfio-pci", "nvidia-223": "vfio-pci"},
        "mdev_available_instances": {"nvidia-222": "16", "nvidia-223": "0"},
    }
    assert found["css_0_0_fffe"]["mdev_type"] == ["vfio_ccw-io"]


def test_a_restarted_daemon(daemon):
    libvirt_source = daemon.source()
    before = libvirt_source.read("cmp1")
    daemon.stop()
    with pytest.raises(SourceError, match="see that libvirtd or virtqemud runs"):
        libvirt_source.read("cmp1")
    daemon.start()
    assert libvirt_source.read("cmp1") == before


def test_a_daemon_that_hangs(daemon):
    libvirt_source = daemon.source(seconds=0.5)
    before = libvirt_source.read("cmp1")
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(SourceError):
                libvirt_source.read("cmp1")
        # Only the first of them waits.
        assert time.monotonic() - began < 1.4
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(SourceError):
            assert libvirt_source.read("cmp1") == before
            return
        time.sleep(0.1)
    raise AssertionError("not read again")
