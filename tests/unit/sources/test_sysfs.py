# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import errno
import logging
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat.compat.kinds import AtLeast, Equal, OneOf, Superset
from nova_devcompat.sources import SourceError, SourceOptions
from nova_devcompat.sources.calls import TimedOut
from nova_devcompat.sources.sysfs import SysfsSource, check_pattern, files, vhost
from nova_devcompat.sources.sysfs import source as source_module
from nova_devcompat.sources.sysfs.facts import Identities, parse_count, parse_id
from nova_devcompat.sources.sysfs.files import CannotRead, Reader, decode, expand
from nova_devcompat.sources.sysfs.functions import mdevs_migrate
from tests.budget import scaled
from tests.unit.sources import sysfs_trees
from tests.unit.sources.fuzzing import fuzz, mutate, shapes
from tests.unit.threads import Begun


@pytest.fixture
def tree(tmp_path):
    return sysfs_trees.server(tmp_path)


def source(tree, attributes=None, *, seconds=5.0, **kwargs):
    options = SourceOptions(attributes=attributes or {}, seconds=seconds)
    return SysfsSource(options, root=tree.root, **kwargs)


def read(tree, **kwargs):
    return {device.address: device for device in source(tree, **kwargs).read("cmp1")}


# What is found.


def test_a_server(tree):
    devices = read(tree)
    assert list(devices) == [
        "0000:80:17.0",
        "0000:81:00.0",
        "0000:85:00.0",
        "0000:c1:00.0",
        "0000:e8:00.0",
        "mtty_mtty",
    ]
    assert all(device.family is None and not device.problems for device in devices.values())


def test_the_kernel(tree):
    assert not any("kernel_release" in device.attributes for device in read(tree).values())
    devices = read(tree, release="6.8.0-45-generic")
    assert devices["kernel"].attributes == {
        "component": "kernel",
        "kernel_release": "6.8.0-45-generic",
    }
    told = {device.attributes["kernel_release"] for device in devices.values()}
    assert told == {"6.8.0-45-generic"} and len(devices) == 7


def test_what_vhost_net_offers(tree):
    """Asked once each time that the driver has come, and never while it has not."""
    answers = [OSError(errno.EACCES, "Permission denied"), 0x10150008000, 0x150008000]
    asked = []

    def ask():
        asked.append(answers[len(asked)])
        if isinstance(asked[-1], OSError):
            raise asked[-1]
        return asked[-1]

    source = SysfsSource(SourceOptions(), root=tree.root, release="6.8.0", vhost=ask)

    def kernel():
        (found,) = (device for device in source.read("x") if device.address == "kernel")
        return found

    assert "vhost_net_features" not in {**kernel().attributes, **kernel().problems}
    folder = tree.root / "class/misc/vhost-net"
    folder.mkdir(parents=True)
    assert "Permission denied; let the user" in kernel().problems["vhost_net_features"]
    for _ in range(2):
        assert kernel().attributes["vhost_net_features"] == "0x10150008000"
    assert len(asked) == 2
    folder.rename(folder.with_name("gone"))
    assert "vhost_net_features" not in kernel().attributes
    folder.mkdir()
    assert kernel().attributes["vhost_net_features"] == "0x150008000"


@pytest.mark.parametrize(
    ("machine", "number"),
    [
        ("x86_64", 0x8008AF00),
        ("aarch64", 0x8008AF00),
        ("s390x", 0x8008AF00),
        ("ppc64le", 0x4008AF00),
    ],
)
def test_the_number_of_an_ioctl(machine, number):
    assert vhost.request(machine) == number


def test_a_device_that_is_none(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        vhost.ask(str(tmp_path / "vhost-net"))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        vhost.ask(str(tmp_path / "file"))


def test_a_parent_of_functions(tree):
    assert read(tree)["0000:81:00.0"].attributes == {
        "vendor_id": "15b3",
        "product_id": "101e",
        "pf_product_id": "101d",
        "subsystem_vendor_id": "15b3",
        "subsystem_product_id": "0016",
        "class": "020000",
        "revision": "00",
        "driver": "mlx5_core",
        "driver_srcversion": "8B5A4C1D5E2F3A4B5C6D7E8",
        "sriov_totalvfs": 128,
        "sriov_numvfs": 8,
        "vf_driver": ["mlx5_vfio_pci"],
        "vf_driver_srcversion": "1F2E3D4C5B6A79880716253",
    }


def test_a_parent_without_functions_is_what_is_assigned(tree):
    tree.pci("0000:91:00.0", driver="mlx5_core", totalvfs=8)
    attributes = read(tree)["0000:91:00.0"].attributes
    assert attributes["product_id"] == attributes["pf_product_id"] == "101d"
    assert (attributes["sriov_totalvfs"], attributes["sriov_numvfs"]) == (8, 0)
    assert "vf_driver" not in attributes


def test_a_parent_of_mdevs(tree):
    attributes = read(tree)["0000:c1:00.0"].attributes
    assert attributes["driver"] == "nvidia"
    assert attributes["driver_version"] == "550.144.02"
    assert attributes["mdev_type"] == ["nvidia-222", "nvidia-319"]
    assert attributes["mdev_name"] == {"nvidia-222": "GRID T4-1B", "nvidia-319": "GRID T4-8C"}
    assert attributes["mdev_device_api"] == dict.fromkeys(("nvidia-222", "nvidia-319"), "vfio-pci")
    assert attributes["mdev_available_instances"] == {"nvidia-222": "16", "nvidia-319": "2"}
    assert attributes["mdev_description"]["nvidia-319"].startswith("num_heads=1, frl_config=60")
    assert "sriov_totalvfs" not in attributes


def test_a_parent_of_mdevs_on_no_bus(tree):
    assert read(tree)["mtty_mtty"].attributes == {
        "driver": "mtty",
        "driver_version": "0.1",
        "driver_srcversion": "77D3DC23CDBFE3D0E3E4A7E",
        "mdev_type": ["mtty-1", "mtty-2"],
        "mdev_name": {"mtty-1": "Single port serial", "mtty-2": "Dual port serial"},
        "mdev_device_api": {"mtty-1": "vfio-pci", "mtty-2": "vfio-pci"},
        "mdev_available_instances": {"mtty-1": "24", "mtty-2": "12"},
    }


def test_mdevs_of_functions_are_their_parents(tree):
    # As NVIDIA's GPUs from Ampere on have them.
    tree.pci("0000:41:00.0", vendor="10de", device="20b5", totalvfs=4, vf_device="20b5")
    first, second, *_ = tree.functions("0000:41:00.0", 4, driver="nvidia")
    types = {f"nvidia-{number}": {"name": f"A100-{number}"} for number in (474, 475, 476)}
    tree.mdev_types(first, types)
    tree.mdev_types(second, {"nvidia-479": {"name": "A100-479"}})
    devices = read(tree)
    attributes = devices["0000:41:00.0"].attributes
    assert attributes["mdev_type"] == ["nvidia-474", "nvidia-475", "nvidia-476", "nvidia-479"]
    assert attributes["mdev_name"]["nvidia-479"] == "A100-479"
    assert "mdev_available_instances" not in attributes
    assert attributes["vf_driver"] == []
    assert first not in devices


def test_the_rules_can_read_the_shapes(tree):
    devices = read(tree, attributes={"services": "qat/cfg_services"})
    nic, gpu = devices["0000:81:00.0"].attributes, devices["0000:c1:00.0"].attributes
    assert Superset().parse_offer(nic["vf_driver"]).offered.names == {"mlx5_vfio_pci"}
    assert AtLeast().parse_offer(nic["sriov_totalvfs"]) == 128
    assert OneOf().parse_offer(gpu["mdev_type"]).offered == {"nvidia-222", "nvidia-319"}
    assert Equal().parse_offer(nic["vf_driver_srcversion"])
    assert Equal().parse_offer(devices["0000:e8:00.0"].attributes["services"]) == "sym;asym"


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        ("mlx5_vfio_pci", ["mlx5_vfio_pci"]),
        ("hisi_acc_vfio_pci", ["hisi_acc_vfio_pci"]),
        ("hisi-acc-vfio-pci", ["hisi_acc_vfio_pci"]),
        ("qat_vfio_pci", ["qat_vfio_pci"]),
        ("pds_vfio_pci", ["pds_vfio_pci"]),
        ("nvgrace_gpu_vfio_pci", ["nvgrace_gpu_vfio_pci"]),
        ("virtio_vfio_pci", ["virtio_vfio_pci"]),
        ("xe_vfio_pci", ["xe_vfio_pci"]),
        ("acme_vfio_pci", ["acme_vfio_pci"]),
        ("vfio-pci", []),
        ("mlx5_core", []),
        (None, []),
    ],
)
def test_variant_drivers(tmp_path, driver, expected):
    tree = sysfs_trees.Tree(tmp_path)
    for holder in ("vfio_pci", "acme_vfio_pci"):
        tree.module(holder)
        tree.holder(holder, "vfio_pci_core")
    tree.pci("0000:81:00.0", driver="mlx5_core", totalvfs=4)
    tree.functions("0000:81:00.0", 4, driver=driver)
    assert read(tree)["0000:81:00.0"].attributes["vf_driver"] == expected


def test_several_variant_drivers_have_no_one_version(tree):
    tree.driver("acme_vfio_pci", srcversion="00000000000000000000000")
    tree.holder("acme_vfio_pci", "vfio_pci_core")
    tree.bind("0000:81:01.0", "acme_vfio_pci")
    attributes = read(tree)["0000:81:00.0"].attributes
    assert attributes["vf_driver"] == ["acme_vfio_pci", "mlx5_vfio_pci"]
    assert "vf_driver_srcversion" not in attributes


def test_a_function_without_its_parent_counts_for_itself(tree):
    for entry in ("0000:81:00.0",):
        (tree.root / "bus/pci/devices" / entry).unlink()
    devices = read(tree)
    assert devices["0000:81:01.0"].attributes["product_id"] == "101e"
    assert "sriov_numvfs" not in devices["0000:81:01.0"].attributes
    assert "0000:81:00.0" not in devices


@pytest.mark.parametrize("text", ["101e\n", "0x101e\n", "101E"])
def test_how_kernels_print_the_functions_id(tree, text):
    tree.write(f"{tree.folder('0000:81:00.0')}/sriov_vf_device", text)
    assert read(tree)["0000:81:00.0"].attributes["product_id"] == "101e"


def test_functions_of_which_the_id_cannot_be_read(tree):
    tree.write(f"{tree.folder('0000:81:00.0')}/sriov_vf_device", "")
    device = read(tree)["0000:81:00.0"]
    assert "product_id" not in device.attributes
    assert "sriov_vf_device cannot be read" in device.problems["product_id"]


# Files that a catalog names.


def test_a_file_that_a_catalog_names(tree):
    devices = read(tree, attributes={"services": "qat/cfg_services", "rings": "qat/num_rps"})
    assert devices["0000:e8:00.0"].attributes["services"] == "sym;asym"
    assert devices["0000:e8:00.0"].attributes["rings"] == "64"
    # What others do not have is no problem of theirs.
    assert "services" not in devices["0000:81:00.0"].attributes
    assert not any(device.problems for device in devices.values())


def test_a_pattern_that_a_catalog_names(tree):
    for number, text in enumerate(("ppgtt", "none", "context")):
        tree.write(f"{tree.folder('0000:81:00.0')}/vendor_{number}/caps/mode", f"{text}\n")
    devices = read(tree, attributes={"caps": "vendor_*/caps/mode", "no": "vendor_?/x*"})
    assert devices["0000:81:00.0"].attributes["caps"] == ["ppgtt", "none", "context"]
    assert "no" not in devices["0000:81:00.0"].attributes
    assert "caps" not in devices["0000:85:00.0"].attributes


def test_a_pattern_for_a_parent_on_no_bus(tree):
    tree.write("devices/virtual/mtty/mtty/ports", "2\n")
    assert read(tree, attributes={"ports": "ports"})["mtty_mtty"].attributes["ports"] == "2"


def test_a_pattern_that_names_too_much(tree):
    for number in range(files.MAX_FILES + 1):
        tree.write(f"{tree.folder('0000:81:00.0')}/many/{number}", "1")
    device = read(tree, attributes={"many": "many/*"})["0000:81:00.0"]
    assert f"names more than {files.MAX_FILES} files" in device.problems["many"]
    assert "many" not in device.attributes


def test_a_pattern_of_which_one_file_cannot_be_read(tree):
    folder = tree.folder("0000:81:00.0")
    tree.write(f"{folder}/caps/1", "a")
    tree.write(f"{folder}/caps/2", b"\xff\xfe")
    device = read(tree, attributes={"caps": "caps/*"})["0000:81:00.0"]
    assert "caps" not in device.attributes
    assert device.problems["caps"].endswith("/caps/2 is not text but binary")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"caps": "/etc/passwd"}, "'/etc/passwd' is not a path relative to a device's folder"),
        ({"caps": "../caps"}, "without '..'"),
        ({"caps": "a/../b"}, "without '..'"),
        ({"caps": "**/caps"}, "'[*][*]'"),
        ({"caps": ""}, "relative"),
        ({"caps": "a//b"}, "relative"),
        ({"caps": "a\0b"}, "relative"),
        ({"Caps": "caps"}, "Caps"),
        ({"driver": "caps"}, "'driver' is one that the source reads itself"),
    ],
)
def test_patterns_that_will_not_do(tree, attributes, message):
    with pytest.raises(SourceError, match=message):
        source(tree, attributes)


# Bad files.


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"0x15", None),
        (b"0x15b3" * 20000, "holds more than 64 KiB"),
        (b"\x00\x01\x02\x03", "is not text but binary"),
        (b"0x15\x0bb3", "is not text but binary"),
        (b"\xb3\x15", "is not text but binary"),
        (b"banana", "has 'banana' in it, not up to 4 hexadecimal digits"),
        (b"0x15b3 ", None),
        (b"0x115b3", "not up to 4 hexadecimal digits"),
        (b"-1", "not up to 4"),
    ],
)
def test_bad_content_of_one_file(tree, content, problem):
    tree.write(f"{tree.folder('0000:81:00.0')}/subsystem_device", content)
    devices = read(tree)
    device = devices["0000:81:00.0"]
    if problem is None:
        assert not device.problems
    else:
        assert "subsystem_product_id" not in device.attributes
        assert problem in device.problems["subsystem_product_id"]
        assert device.problems["subsystem_product_id"].startswith("bus/pci/devices/0000:81:00.0/")
    assert device.attributes["driver"] == "mlx5_core"
    assert not devices["0000:85:00.0"].problems


def test_bad_counts(tree):
    tree.write(f"{tree.folder('0000:81:00.0')}/sriov_totalvfs", "many\n")
    tree.write(
        f"{tree.folder('0000:c1:00.0')}/mdev_supported_types/nvidia-222/available_instances", "-3"
    )
    devices = read(tree)
    assert "has 'many' in it, not a number" in devices["0000:81:00.0"].problems["sriov_totalvfs"]
    gpu = devices["0000:c1:00.0"]
    assert gpu.attributes["mdev_available_instances"] == {"nvidia-319": "2"}
    assert "'-3'" in gpu.problems["mdev_available_instances"]


def test_a_folder_where_a_file_should_be(tree):
    (tree.root / tree.folder("0000:81:00.0") / "caps").mkdir()
    device = read(tree, attributes={"caps": "caps"})["0000:81:00.0"]
    assert "Is a directory; name a file" in device.problems["caps"]


def failing_open(monkeypatch, part, code):
    real = os.open

    def fail(path, *args, **kwargs):
        if part in str(path):
            raise OSError(code, os.strerror(code), path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", fail)


@pytest.mark.parametrize("name", ["EACCES", "EIO", "EPERM", "EAGAIN", "EBUSY"])
def test_a_file_that_cannot_be_read(tree, monkeypatch, name):
    failing_open(monkeypatch, "0000:81:00.0/revision", getattr(errno, name))
    devices = read(tree)
    problem = devices["0000:81:00.0"].problems["revision"]
    assert os.strerror(getattr(errno, name)) in problem
    assert ("let the user that nova-compute runs as read it" in problem) == (
        name in ("EACCES", "EPERM")
    )
    assert devices["0000:81:00.0"].attributes["vendor_id"] == "15b3"
    assert not devices["0000:85:00.0"].problems


def test_a_device_of_which_nothing_can_be_read(tree, monkeypatch, caplog):
    ours = source(tree)
    with monkeypatch.context() as patched:
        failing_open(patched, "0000:81:00.0/", errno.EIO)
        with caplog.at_level(logging.INFO):
            for _ in range(3):
                assert "0000:81:00.0" not in {device.address for device in ours.read("x")}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "0000:81:00.0 cannot be read and is skipped" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert "0000:81:00.0" in {device.address for device in ours.read("x")}
    assert [record.getMessage() for record in caplog.records] == [
        "PCI device 0000:81:00.0 can be read again"
    ]


def test_what_could_not_be_read_is_read_again(tree, monkeypatch):
    ours = source(tree)
    with monkeypatch.context() as patched:
        failing_open(patched, "0000:81:00.0/revision", errno.EIO)
        ours.read("x")
    device = next(device for device in ours.read("x") if device.address == "0000:81:00.0")
    assert device.attributes["revision"] == "00" and not device.problems


def test_a_device_that_vanishes_while_it_is_read(tree, monkeypatch, caplog):
    real = os.open

    def vanish(path, *args, **kwargs):
        if str(path).endswith("0000:85:00.0/vendor") and os.path.exists(path):
            tree.remove("0000:85:00.0")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", vanish)
    with caplog.at_level(logging.INFO):
        devices = read(tree)
    assert "0000:85:00.0" not in devices and "0000:81:00.0" in devices
    assert caplog.messages == ["PCI device 0000:85:00.0 vanished while it was read; it is skipped"]


def vanishing(tree, monkeypatch, address):
    """Let a device vanish when drivers are asked for theirs."""
    real = os.scandir

    def scandir(path, *args, **kwargs):
        if str(path).endswith("bus/pci/drivers"):
            monkeypatch.setattr(os, "scandir", real)
            tree.remove(address)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_known_device_that_vanishes_while_it_is_read(tree, monkeypatch, caplog):
    ours = source(tree)
    ours.read("x")
    vanishing(tree, monkeypatch, "0000:80:17.0")
    with caplog.at_level(logging.INFO):
        assert "0000:80:17.0" not in {device.address for device in ours.read("x")}
        assert "0000:80:17.0" not in {device.address for device in ours.read("x")}
    assert len(caplog.messages) == 1 and "vanished" in caplog.text


def test_a_function_that_vanishes_while_it_is_read(tree, monkeypatch):
    vanishing(tree, monkeypatch, "0000:81:01.3")
    assert read(tree)["0000:81:00.0"].attributes["vf_driver"] == ["mlx5_vfio_pci"]
    assert not (tree.root / "bus/pci/devices/0000:81:01.3").exists()


def test_no_sysfs(tmp_path):
    ours = SysfsSource(SourceOptions(), root=tmp_path)
    for call in (ours.check, lambda: ours.read("x")):
        with pytest.raises(SourceError, match=r"bus/pci/devices .*No such file.*mounted there"):
            call()


def test_an_empty_sysfs(tmp_path):
    ours = SysfsSource(SourceOptions(), root=sysfs_trees.Tree(tmp_path).root)
    ours.check()
    assert ours.read("x") == ()


# Files that hang.


@pytest.fixture
def hang(tree):
    """Make a file hang until the test ends: a pipe that nobody writes to."""
    pipes = []

    def make(path: str) -> pathlib.Path:
        file = tree.root / path
        file.unlink(missing_ok=True)
        os.mkfifo(file)
        pipes.append(file)
        return file

    yield make
    for pipe in pipes:
        free(pipe)


def free(pipe):
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        pass  # nobody reads it


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_a_file_that_hangs_costs_one_attribute(tree, hang, caplog):
    pipe = hang(f"{tree.folder('0000:81:00.0')}/fw")
    ours = source(tree, {"fw": "fw"}, seconds=1.2)
    begun = Begun()
    began = time.monotonic()
    with caplog.at_level(logging.INFO):
        devices = {device.address: device for device in ours.read("x")}
    assert time.monotonic() - began < 4
    assert "fw" not in devices["0000:81:00.0"].attributes
    assert devices["0000:81:00.0"].attributes["driver"] == "mlx5_core"
    assert "0000:81:00.0/fw gives no answer" in devices["0000:81:00.0"].problems["fw"]
    assert not devices["0000:85:00.0"].problems
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            began = time.monotonic()
            assert ours.read("x") == tuple(devices.values())
            assert time.monotonic() - began < 0.9
    assert begun.alive() == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    caplog.clear()
    free(pipe)
    wait_for(lambda: not begun.alive())
    pipe.unlink()
    pipe.write_text("1.2\n")
    with caplog.at_level(logging.INFO):
        again = {device.address: device for device in ours.read("x")}
    assert again["0000:81:00.0"].attributes["fw"] == "1.2"
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_several_files_that_hang(tree, hang):
    for address in ("0000:81:00.0", "0000:85:00.0"):
        hang(f"{tree.folder(address)}/fw")
    ours = source(tree, {"fw": "fw"}, seconds=1.2)
    devices = {device.address: device for device in ours.read("x")}
    assert [address for address, device in devices.items() if device.problems] == [
        "0000:81:00.0",
        "0000:85:00.0",
    ]


def test_too_many_files_that_hang(tree, hang, caplog):
    for number in range(source_module._MAX_HUNG + 4):
        hang(f"{tree.folder('0000:81:00.0')}/fw{number}")
    names = {f"fw{number}": f"fw{number}" for number in range(source_module._MAX_HUNG + 4)}
    ours = source(tree, names, seconds=0.6)
    begun = Begun()
    for _ in range(4):
        began = time.monotonic()
        with pytest.raises(TimedOut):
            ours.read("x")
        assert time.monotonic() - began < 4
    with pytest.raises(TimedOut, match=r"is not asked: 8 files below .* hang"):
        ours.read("x")
    assert begun.alive() == source_module._MAX_HUNG


def test_the_list_of_devices_hangs(tree, monkeypatch):
    gate = threading.Event()
    real = os.scandir

    def scandir(path):
        gate.wait(20)
        return real(path)

    ours = source(tree, seconds=0.4)
    begun = Begun()
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", scandir)
        with pytest.raises(TimedOut):
            ours.check()
        for _ in range(3):
            with pytest.raises(SourceError, match="gives no answer"):
                ours.read("x")
        assert begun.alive() == 1
        gate.set()
        wait_for(lambda: not begun.alive())
    assert ours.read("x")


def test_a_file_that_is_always_too_slow_is_told_once(tree, monkeypatch, caplog):
    real = os.open

    def slow(path, *args, **kwargs):
        if str(path).endswith("0000:81:00.0/fw"):
            time.sleep(0.8)
        return real(path, *args, **kwargs)

    tree.write(f"{tree.folder('0000:81:00.0')}/fw", "1")
    monkeypatch.setattr(os, "open", slow)
    ours = source(tree, {"fw": "fw"}, seconds=1.2)
    begun = Begun()
    for _ in range(3):
        ours.read("x")
        wait_for(lambda: not begun.alive())
    assert len(caplog.records) == 1


# A cheap refresh.


class Calls:
    """What is asked of the file system."""

    def __init__(self, monkeypatch):
        self.opened, self.linked, self.listed, self.looked = [], [], [], []
        for name, calls in (
            ("open", self.opened),
            ("readlink", self.linked),
            ("scandir", self.listed),
            ("stat", self.looked),
        ):
            monkeypatch.setattr(os, name, self.counted(getattr(os, name), calls))

    @staticmethod
    def counted(real, calls):
        def call(path, *args, **kwargs):
            calls.append(str(path))
            return real(path, *args, **kwargs)

        return call

    def clear(self):
        for calls in (self.opened, self.linked, self.listed, self.looked):
            calls.clear()


def test_nothing_is_read_twice(tree, monkeypatch):
    calls = Calls(monkeypatch)
    ours = source(tree)
    first = ours.read("x")
    for found in (calls.opened, calls.linked, calls.listed):
        assert len(found) == len(set(found))
    calls.clear()
    assert ours.read("x") == first
    opened = sorted(path.removeprefix(f"{tree.root}/") for path in calls.opened)
    # Only what can change without another inode number.
    assert opened == [
        "bus/pci/devices/0000:81:00.0/sriov_totalvfs",
        "bus/pci/devices/0000:85:00.0/sriov_totalvfs",
        "bus/pci/devices/0000:e8:00.0/sriov_totalvfs",
        "class/mdev_bus/0000:c1:00.0/mdev_supported_types/nvidia-222/available_instances",
        "class/mdev_bus/0000:c1:00.0/mdev_supported_types/nvidia-319/available_instances",
        "class/mdev_bus/mtty/mdev_supported_types/mtty-1/available_instances",
        "class/mdev_bus/mtty/mdev_supported_types/mtty-2/available_instances",
    ]
    for found in (calls.opened, calls.linked, calls.listed, calls.looked):
        assert len(found) == len(set(found))
    # What a device or a function is bound to is not asked of each.
    drivers = [path for path in calls.listed if "/bus/pci/drivers" in path]
    assert len(drivers) == 1 + len(os.listdir(tree.root / "bus/pci/drivers"))
    assert len(calls.listed) - len(drivers) == 2
    assert all("/class/mdev_bus/mtty/" in path for path in calls.linked)


def test_functions_come_and_go(tree):
    ours = source(tree)

    def nic():
        return next(d for d in ours.read("x") if d.address == "0000:81:00.0").attributes

    assert nic()["sriov_numvfs"] == 8
    functions = [f"0000:81:{number // 8 + 1:02x}.{number % 8}" for number in range(8)]
    for address in functions:
        tree.remove(address)
    assert nic()["sriov_numvfs"] == 0
    assert nic()["product_id"] == "101d"
    tree.functions("0000:81:00.0", 2, driver="mlx5_core")
    assert (nic()["sriov_numvfs"], nic()["product_id"], nic()["vf_driver"]) == (2, "101e", [])
    tree.bind("0000:81:01.0", "mlx5_vfio_pci")
    assert nic()["vf_driver"] == ["mlx5_vfio_pci"]


def test_another_device_in_the_same_place(tree):
    ours = source(tree)
    ours.read("x")
    link = tree.root / "bus/pci/devices/0000:80:17.0"
    old = os.lstat(link).st_ino
    # Some file systems hand out the number of a file that is gone at once again; sysfs does not.
    os.link(link, tree.root / "kept", follow_symlinks=False)
    tree.remove("0000:80:17.0")
    tree.pci("0000:80:17.0", vendor="144d", device="a80a", class_="010802", driver="nvme")
    assert os.lstat(link).st_ino != old
    disk = next(d for d in ours.read("x") if d.address == "0000:80:17.0").attributes
    assert (disk["vendor_id"], disk["product_id"], disk["driver"]) == ("144d", "a80a", "nvme")


def test_a_module_that_is_loaded_anew(tree):
    ours = source(tree)

    def version():
        return next(d for d in ours.read("x") if d.address == "0000:c1:00.0").attributes[
            "driver_version"
        ]

    assert version() == "550.144.02"
    (tree.root / "module/nvidia").rename(tree.root / "module/gone")
    tree.module("nvidia", version="570.133.20")
    assert version() == "570.133.20"


def test_a_driver_is_unbound(tree):
    ours = source(tree)
    ours.read("x")
    tree.bind("0000:c1:00.0", None)
    gpu = next(d for d in ours.read("x") if d.address == "0000:c1:00.0")
    assert "driver" not in gpu.attributes and "driver_version" not in gpu.attributes
    assert not gpu.problems


def test_mdev_types_come_and_go(tree):
    ours = source(tree)
    ours.read("x")
    (tree.root / "class/mdev_bus/0000:c1:00.0").unlink()
    gpu = next(d for d in ours.read("x") if d.address == "0000:c1:00.0")
    assert "mdev_type" not in gpu.attributes


def test_what_is_free_is_read_anew(tree):
    ours = source(tree)
    ours.read("x")
    path = f"{tree.folder('0000:c1:00.0')}/mdev_supported_types/nvidia-319/available_instances"
    tree.write(path, "1\n")
    gpu = next(d for d in ours.read("x") if d.address == "0000:c1:00.0")
    assert gpu.attributes["mdev_available_instances"]["nvidia-319"] == "1"


def test_several_threads(tree):
    ours, results = source(tree), []
    threads = [threading.Thread(target=lambda: results.append(ours.read("x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == 8 and all(result == results[0] for result in results)


# Facts of functions.


def told(device, name):
    return {
        address: function.attributes.get(name) for address, function in device.functions.items()
    }


def test_vgpu_types_of_functions(tree, monkeypatch):
    first, *others = sysfs_trees.rtx(tree, 48, ["1561"])
    ours = source(tree)

    def gpu():
        return next(device for device in ours.read("x") if device.address == sysfs_trees.RTX)

    found = gpu()
    assert not found.problems
    assert told(found, "vgpu_type") == {first: "1561"} | dict.fromkeys(others, "none")
    assert found.attributes["vgpu_creatable"] == {
        "1518": "NVIDIA RTX-2B",
        "1561": "NVIDIA RTX-48Q",
    }
    assert "vgpu_type" not in found.attributes
    # What is alike is one object.
    assert len({id(function) for function in found.functions.values()}) == 2

    calls = Calls(monkeypatch)
    gpu()
    asked = [
        path for path in calls.opened if f"/{sysfs_trees.RTX[:8]}" in path and "/nvidia/" in path
    ]
    assert len(asked) == 49 and all(path.endswith("current_vgpu_type") for path in asked[:48])
    assert not [path for path in calls.linked + calls.looked if f"/{sysfs_trees.RTX[:8]}" in path]

    tree.write(f"{tree.folder(first)}/nvidia/current_vgpu_type", "1518\n")
    assert told(gpu(), "vgpu_type")[first] == "1518"
    for content in ("", "Unset\n", "15 61\n", b"\xff"):
        tree.write(f"{tree.folder(first)}/nvidia/current_vgpu_type", content)
        function = gpu().functions[first]
        assert "vgpu_type" not in function.attributes
        assert "current_vgpu_type" in function.problems["vgpu_type"]
    assert told(gpu(), "vgpu_type")[others[0]] == "none"


def test_a_vgpu_type_appears_with_its_driver(tree):
    (function,) = sysfs_trees.rtx(tree, 1, ["1561"])
    file = tree.root / tree.folder(function) / "nvidia/current_vgpu_type"
    ours = source(tree)

    def kind():
        gpu = next(device for device in ours.read("x") if device.address == sysfs_trees.RTX)
        return gpu.functions[function].attributes.get("vgpu_type")

    tree.bind(function, None)
    file.unlink()
    assert [kind(), kind()] == ["none", "none"]
    tree.bind(function, "nvidia")
    assert kind() == "none"
    file.write_text("1561\n")
    assert [kind(), kind()] == ["1561", "1561"]


def test_vgpu_types_where_there_are_mdevs(tree):
    t4 = read(tree)["0000:c1:00.0"]
    assert told(t4, "vgpu_type") == {"0000:c1:00.0": "mdev"}
    a40 = sysfs_trees.rtx(tree, 3)
    for address in a40:
        (tree.root / tree.folder(address) / "nvidia/current_vgpu_type").unlink()
        tree.mdev_types(address, sysfs_trees.NVIDIA_T4_TYPES)
    assert told(read(tree)[sysfs_trees.RTX], "vgpu_type") == dict.fromkeys(a40, "mdev")
    # Of other makers' devices there are no such types.
    assert set(told(read(tree)["0000:81:00.0"], "vgpu_type").values()) == {None}


def test_the_driver_of_each_function(tree):
    tree.driver("vfio-pci", srcversion="55AA")
    functions = list(read(tree)["0000:81:00.0"].functions)
    assert len(functions) == 8
    ours = source(tree)
    ours.read("x")
    tree.bind(functions[3], "vfio-pci")
    tree.bind(functions[4], None)
    tree.bind(functions[5], "mlx5_core")
    nic = next(device for device in ours.read("x") if device.address == "0000:81:00.0")
    drivers = told(nic, "vf_driver")
    assert [drivers[address] for address in functions[2:7]] == [
        "mlx5_vfio_pci",
        "vfio_pci",
        "none",
        "mlx5_core",
        "mlx5_vfio_pci",
    ]
    migrates = told(nic, "vf_driver_migrates")
    assert [migrates[address] for address in functions[2:6]] == ["1", "0", None, None]
    assert nic.functions[functions[3]].attributes["vf_driver_srcversion"] == "55AA"
    # A device without functions is what is assigned.
    assert told(read(tree)["0000:80:17.0"], "vf_driver") == {"0000:80:17.0": "ahci"}


@pytest.mark.parametrize(
    ("revision", "migrates"), [("20", "0"), ("21", "0"), ("30", "1"), ("50", "1"), ("a1", "1")]
)
@pytest.mark.parametrize("driver", ["hisi_acc_vfio_pci", "hisi-acc-vfio-pci"])
def test_a_driver_that_migrates_newer_hardware_only(tree, driver, revision, migrates):
    """hisi_acc_vfio_pci_probe: pf_qm->ver >= QM_HW_V3."""
    parent = "0000:75:00.0"
    tree.pci(
        parent, vendor="19e5", device="a250", revision=revision, driver="hisi_zip", totalvfs=63,
        vf_device="a251",
    )  # fmt: skip
    functions = tree.functions(parent, 2, driver=driver)
    told_of = told(read(tree)[parent], "vf_driver_migrates")
    assert told_of == dict.fromkeys(functions, migrates)


def test_hardware_of_a_revision_that_is_not_known(tree):
    """What cannot be read is no reason to accept."""
    parent = "0000:75:00.0"
    tree.pci(parent, vendor="19e5", device="a250", totalvfs=63, vf_device="a251")
    (function,) = tree.functions(parent, 1, driver="hisi_acc_vfio_pci")
    (tree.root / tree.folder(parent) / "revision").unlink()
    told_of = read(tree)[parent].functions[function]
    assert "vf_driver_migrates" not in told_of.attributes
    assert "revision" in told_of.problems["vf_driver_migrates"]


def test_hardware_of_two_revisions_under_one_driver(tree):
    old, new = "0000:75:00.0", "0000:b5:00.0"
    for parent, revision in ((old, "21"), (new, "30")):
        tree.pci(parent, vendor="19e5", revision=revision, totalvfs=63, vf_device="a251")
        tree.functions(parent, 1, driver="hisi_acc_vfio_pci")
    devices = read(tree)
    for parent, migrates in ((old, "0"), (new, "1")):
        assert [*told(devices[parent], "vf_driver_migrates").values()] == [migrates]


@pytest.mark.parametrize(
    ("class_", "driver", "listed"),
    [
        ("068000", "vfio-pci", True),  # an NVSwitch that a guest has
        ("068000", "nvidia-nvswitch", False),
        ("060100", "vfio-pci", True),
        ("060400", "pcieport", False),
        ("060000", None, False),
    ],
)
def test_bridges_are_listed_where_a_guest_may_have_them(tree, class_, driver, listed):
    address = "0000:c1:00.0"
    tree.pci(address, vendor="10de", device="22a3", class_=class_, driver=driver)
    devices = read(tree)
    assert (address in devices) is listed
    if listed:
        assert told(devices[address], "vf_driver_migrates") == {address: "0"}


def test_parents_of_mdevs_that_cannot_migrate(tree):
    gpu, other = "0000:00:02.0", "0000:41:00.0"
    tree.pci(gpu, vendor="8086", device="5912", class_="030000", driver="i915")
    tree.mdev_types(gpu, {"i915-GVTg_V5_4": {"device_api": "vfio-pci"}})
    tree.pci(other, vendor="10de", device="1eb8", class_="030200", driver="nvidia")
    tree.mdev_types(other, {"nvidia-222": {"device_api": "vfio-pci"}})
    # A subchannel and the matrix of s390, which are on no bus of PCI.
    for name, bus, kind in (("0.0.0313", "css", "vfio_ccw-io"), ("matrix", "matrix", "vfio_ap-p")):
        folder = f"devices/{bus}/{name}"
        driver = kind.partition("-")[0]
        tree.mdev_types(name, {kind: {"device_api": "vfio-x"}}, folder)
        for link in ("subsystem", "driver"):
            target = f"bus/{bus}" if link == "subsystem" else f"bus/{bus}/drivers/{driver}"
            (tree.root / target).mkdir(parents=True, exist_ok=True)
            tree.link(f"{folder}/{link}", target)
    devices = read(tree)
    for address, driver, migrates in (
        (gpu, "i915", "0"),
        (other, "nvidia", None),
        ("css_0_0_0313", "vfio_ccw", "0"),
        ("ap_matrix", "vfio_ap", "0"),
    ):
        assert told(devices[address], "vf_driver") == {address: driver}
        assert told(devices[address], "vf_driver_migrates") == {address: migrates}
    assert not devices["mtty_mtty"].functions


@pytest.mark.parametrize(
    ("types", "migrate"),
    [
        ([], None),
        (["i915-GVTg_V5_4", "i915-GVTg_V5_8"], "0"),
        (["vfio_ap-passthrough"], "0"),
        (["i915-GVTg_V5_4", "new-1"], None),
        (["mtty-1"], None),
    ],
)
def test_mdevs_that_cannot_migrate(types, migrate):
    assert mdevs_migrate(types) == migrate


def test_a_file_of_each_function(tree):
    first, second, third = sysfs_trees.rtx(tree, 3)
    for address, text in ((first, "a\n"), (second, "b\n")):
        tree.write(f"{tree.folder(address)}/vendor_caps/x", text)
    options = SourceOptions(function_attributes={"caps": "vendor_caps/x", "all": "vendor_caps/*"})
    devices = {one.address: one for one in SysfsSource(options, root=tree.root).read("x")}
    assert told(devices[sysfs_trees.RTX], "caps") == {first: "a", second: "b", third: None}
    assert told(devices[sysfs_trees.RTX], "all") == {first: ["a"], second: ["b"], third: None}
    assert (
        not devices[sysfs_trees.RTX].problems and "caps" not in devices[sysfs_trees.RTX].attributes
    )
    with pytest.raises(SourceError, match="is one that the source reads itself"):
        SysfsSource(SourceOptions(function_attributes={"vgpu_type": "x"}), root=tree.root)


def test_as_many_functions_as_a_device_can_have(tree):
    functions = sysfs_trees.rtx(tree, 240, ["1561"] * 240)
    options = SourceOptions(attributes={"types": "virtfn*/nvidia/current_vgpu_type"})
    devices = {one.address: one for one in SysfsSource(options, root=tree.root).read("x")}
    assert told(devices[sysfs_trees.RTX], "vgpu_type") == dict.fromkeys(functions, "1561")
    assert devices[sysfs_trees.RTX].attributes["types"] == ["1561"] * 240


def test_the_running_kernel():
    if not os.path.isdir("/sys/bus/pci/devices"):
        pytest.skip("this host has no PCI bus in /sys")
    ours = SysfsSource(SourceOptions())
    ours.check()
    first = ours.read("x")
    assert {device.address for device in first} <= {
        *os.listdir("/sys/bus/pci/devices"),
        *(os.listdir("/sys/class/mdev_bus") if os.path.isdir("/sys/class/mdev_bus") else ()),
        "kernel",
    }
    assert {device.attributes["kernel_release"] for device in first} == {os.uname().release}
    for device in first:
        vendor = pathlib.Path(f"/sys/bus/pci/devices/{device.address}/vendor")
        if vendor.exists():
            assert f"0x{device.attributes['vendor_id']}\n" == vendor.read_text()
    assert [device.address for device in ours.read("x")] == [device.address for device in first]


def test_inode_numbers_of_the_running_kernel_are_of_the_links():
    if not os.path.isdir("/sys/bus/pci/devices"):
        pytest.skip("this host has no PCI bus in /sys")
    entries = Reader().entries("bus/pci/devices")
    for name, inode in entries.items():
        assert inode == os.lstat(f"/sys/bus/pci/devices/{name}").st_ino


# Identifiers for other sources.


def test_identities(tree):
    identities = Identities(tree.root)
    found = identities.read(["0000:81:00.0", "0000:81:01.0", "0000:ff:00.0", "0000:c1:00.0"])
    assert list(found) == ["0000:81:00.0", "0000:81:01.0", "0000:c1:00.0"]
    assert found["0000:81:01.0"] is None
    assert found["0000:81:00.0"].attributes["product_id"] == "101e"
    assert found["0000:81:00.0"].attributes["pf_product_id"] == "101d"
    assert found["0000:c1:00.0"].attributes["class"] == "030200"


def test_identities_are_read_once(tree, monkeypatch):
    identities = Identities(tree.root)
    first = identities.read(["0000:81:00.0"])
    calls = Calls(monkeypatch)
    assert identities.read(["0000:81:00.0"]) == first
    assert not calls.opened


def test_identities_without_sysfs(tmp_path):
    assert Identities(tmp_path).read(["0000:81:00.0"]) == {}


# Parsers.


@shapes
@given(st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
def test_decode(data):
    try:
        text = decode(data)
    except ValueError as error:
        assert str(error).startswith(("is ", "holds "))
    else:
        assert text and text == text.strip() and "\0" not in text
        assert text.encode() in data


def test_decode_of_much():
    assert decode(b"x" * files.MAX_BYTES) == "x" * files.MAX_BYTES
    with pytest.raises(ValueError, match="64 KiB"):
        decode(b"x" * (files.MAX_BYTES + 1))


def test_decode_ends_of_files():
    assert decode(b"GRID T4-1B\n\0") == "GRID T4-1B"
    assert decode(b"low_gm_size: 128MB\nfence: 4\n") == "low_gm_size: 128MB\nfence: 4"
    assert decode("Größe\n".encode()) == "Größe"


@shapes
@given(
    st.text(max_size=12) | st.from_regex("(0[xX])?[0-9a-fA-F]{1,8}", fullmatch=True),
    st.sampled_from([2, 4, 6]),
)
def test_parse_id(text, digits):
    try:
        parsed = parse_id(text, digits)
    except ValueError:
        return
    assert len(parsed) == digits and int(parsed, 16) == int(text, 16)
    assert parse_id(parsed, digits) == parse_id(f"0x{parsed}", digits) == parsed


@shapes
@given(st.text(max_size=14) | st.integers(-(10**6), 10**12).map(str))
def test_parse_count(text):
    try:
        assert 0 <= parse_count(text) < 10**10
    except ValueError:
        return
    assert text.isascii() and int(text) == parse_count(text)


@shapes
@given(st.text(alphabet="ab*?[]!-/.\0\n\\é", max_size=12))
def test_check_pattern_and_expand(pattern):
    try:
        check_pattern("caps", pattern)
    except ValueError:
        return
    asked = []

    class Listing(Reader):
        def entries(self, path):
            asked.append(path)
            return {"a": 1, "b": 2, "ab": 3}

    try:
        paths = expand(Listing(), "bus/pci/devices/x", pattern)
    except CannotRead as error:
        assert "64" in str(error)
        paths = []
    for path in [*paths, *asked]:
        assert path == "bus/pci/devices/x" or path.startswith("bus/pci/devices/x/")
        assert ".." not in path.split("/")
        assert path.count("/") <= 3 + pattern.count("/") + 1


@settings(shapes, max_examples=scaled(50))
@given(
    st.dictionaries(
        st.sampled_from(
            ["vendor", "device", "class", "revision", "sriov_totalvfs", "sriov_vf_device"]
        ),
        st.binary(max_size=20) | st.just(None),
    ),
    st.binary(max_size=20),
)
def test_any_content_of_files(tmp_path_factory, files, version):
    tree = sysfs_trees.Tree(tmp_path_factory.mktemp("sys"))
    tree.pci("0000:81:00.0", driver="mlx5_core", totalvfs=4)
    tree.functions("0000:81:00.0", 1, driver="mlx5_vfio_pci")
    tree.pci("0000:82:00.0")
    tree.write("module/mlx5_core/version", version)
    for file, content in files.items():
        if content is None:
            (tree.root / tree.folder("0000:81:00.0") / file).unlink()
        else:
            tree.write(f"{tree.folder('0000:81:00.0')}/{file}", content)
    devices = read(tree)
    assert devices["0000:82:00.0"].attributes["vendor_id"] == "15b3"
    for device in devices.values():
        assert not device.attributes.keys() & device.problems.keys()


CONTENTS = [
    b"0x15b3\n",
    b"0x020000\n",
    b"101e\n",
    b"128\n",
    b"GRID T4-1B\n",
    b"550.144.02\n",
    b"sym;asym\n",
    b"low_gm_size: 128MB\nfence: 4\n",
]
WORDS = [b"\0", b"\xff", b"0x", b"-1", b"\n", b"\xef\xbb\xbf", "\u0661".encode(), b"9" * 40]


@fuzz
def test_any_content_many_times(generator):
    data = mutate(generator, generator.choice(CONTENTS), WORDS)
    try:
        text = decode(data)
    except ValueError:
        return
    assert text == text.strip() and text and "\0" not in text
    for digits in (2, 4, 6):
        try:
            assert int(parse_id(text, digits), 16) == int(text, 16)
        except ValueError:
            pass
    try:
        assert 0 <= parse_count(text) < 10**10
    except ValueError:
        pass


@fuzz
def test_any_pattern_many_times(generator):
    words = [b"..", b"**", b"*", b"?", b"[a-", b"!]", b"/", b"//", b"\0"]
    start = generator.choice([b"vendor/caps", b"qat/cap_*", b"driver/module/version", b"a?/[b-c]"])
    pattern = mutate(generator, start, words).decode(errors="replace")
    try:
        check_pattern("caps", pattern)
    except ValueError:
        return

    class Listing(Reader):
        def entries(self, path):
            return {"caps": 1, "qat": 2, "b": 3, "..hidden": 4}

    try:
        paths = expand(Listing(), "x", pattern)
    except CannotRead as error:
        assert "64" in str(error)
        return
    assert all(path.startswith("x/") and ".." not in path.split("/") for path in paths)


def test_no_nova_and_no_eventlet():
    # Sources are used by commands where there is no Nova.
    program = (
        "import sys, nova_devcompat.sources.sysfs, nova_devcompat.sources.devlink; "
        "print([name for name in ('nova', 'eventlet') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout == "[]\n"
