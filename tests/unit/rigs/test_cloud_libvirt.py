# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The hosts of tools/cloud with a real libvirt: what is written for them, and their namespaces."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from rigs.cloud import commands, configuration, kinds
from rigs.cloud.layout import Cloud
from rigs.cloud.libvirt import guest, namespaces, settings
from rigs.cloud.libvirt.hosts import LibvirtHosts

NAMESPACES = pathlib.Path(namespaces.__file__)


def cloud(folder: pathlib.Path, **chosen) -> Cloud:
    (folder / "libvirt").mkdir(parents=True)
    (folder / "libvirt/cloud.json").write_text(json.dumps(chosen))
    return Cloud(folder, libvirt=True)


def test_two_clouds_share_no_address(tmp_path):
    one = LibvirtHosts(cloud(tmp_path / "one", computes=[3], port_base=22700)).addresses()
    two = LibvirtHosts(cloud(tmp_path / "two", computes=[3], port_base=22800)).addresses()
    assert list(one) == ["cmp1", "cmp2", "cmp3"]
    assert len({*one.values(), *two.values()}) == 6
    assert one["cmp1"] == "127.88.172.1"


def test_a_host_listens_at_its_own_address_alone(tmp_path):
    hosts = LibvirtHosts(cloud(tmp_path, computes=[2], port_base=22700))
    addresses = hosts.addresses()
    uuids = set()
    for host, address in addresses.items():
        hosts.write(host)
        machine = tmp_path / f"libvirt/hosts/{host}/machine"
        libvirtd = (machine / "libvirt/etc/libvirtd.conf").read_text()
        assert f'listen_addr = "{address}"' in libvirtd
        assert "listen_tls = 0" in libvirtd
        uuids.update(line for line in libvirtd.splitlines() if line.startswith("host_uuid"))
        qemu = (machine / "libvirt/etc/qemu.conf").read_text()
        assert f'migration_address = "{address}"' in qemu
        sshd = (machine / "ssh/sshd_config").read_text()
        assert re.findall("^ListenAddress (.*):", sshd, re.MULTILINE) == [address]
        names = (machine / "etc/hosts").read_text().splitlines()
        assert set(names) >= {f"{each} {name}" for name, each in addresses.items()}

        nova = configparser.ConfigParser()
        nova.read_string(configuration.ini(hosts.compute(host)))
        assert nova["DEFAULT"]["my_ip"] == address
        assert nova["libvirt"]["live_migration_inbound_addr"] == address
        assert nova["libvirt"]["virt_type"] == "qemu"
    # The machine's own would be that of all.
    assert len(uuids) == 2


def test_users_are_added_once():
    machine = "root:!:0:0:root:/root:/bin/bash\nchroot:x:5:5::/:/bin/sh\n"
    added = settings.passwd(machine)
    # No password, and not locked.
    assert added.startswith(machine.replace("!", "*"))
    names = [line.split(":")[0] for line in added.splitlines()]
    assert names == ["root", "chroot", "libvirt-qemu", "sshd"]
    assert settings.passwd(added) == added
    groups = settings.group("root:x:0:\nkvm:x:108:\n")
    assert [line.split(":")[0] for line in groups.splitlines()] == ["root", "kvm", "libvirt-qemu"]
    assert settings.group(groups) == groups


def test_the_disk_is_one_that_glance_takes():
    disk = guest.disk()
    assert len(disk) == guest.SIZE
    assert disk[510:512] == b"\x55\xaa"
    boots, kind = disk[446], disk[450]
    first, count = (int.from_bytes(disk[at : at + 4], "little") for at in (454, 458))
    assert (boots, kind) == (0x80, 0x83)
    assert (first + count) * guest.SECTOR == guest.SIZE
    # Other partitions: none.
    assert not any(disk[462:510])
    assert not any(disk[guest.SECTOR :])


def test_one_folder_has_both_clouds(tmp_path, capsys):
    first, second = Cloud(tmp_path), Cloud(tmp_path, libvirt=True)
    assert first.venv == second.venv
    assert first.settings.port_base != second.settings.port_base
    assert type(kinds.hosts_of(first)) is not type(kinds.hosts_of(second))
    for one in (first, second):
        one.data.mkdir(exist_ok=True)
        one.save()
    assert commands.main(["--data", str(tmp_path), "down", "--wipe"]) == 0
    assert not first.exists
    assert second.exists
    assert commands.main(["--data", str(tmp_path), "down", "--libvirt", "--wipe"]) == 0
    assert not second.exists


def test_what_is_missing_is_said_before_anything_is_fetched(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    folder = tmp_path / "cloud"
    status = commands.main(["--data", str(folder), "up", "--libvirt"])
    assert status == os.EX_UNAVAILABLE
    assert "only root" in capsys.readouterr().err
    assert not list(folder.glob("cloud-*")) + list(folder.glob("debian*"))


@pytest.fixture
def namespaced(tmp_path):
    why_not = LibvirtHosts(Cloud(tmp_path, libvirt=True)).why_not()
    if why_not:
        pytest.skip(f"needs namespaces: {why_not}")
    return tmp_path / "namespaces.pid"


def inside(pid_file, *command):
    return [sys.executable, str(NAMESPACES), "enter", str(pid_file), *command]


def seconds_of(met):
    deadline = time.monotonic() + 20
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def running(mark):
    """PIDs of processes that have an argument."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "cmdline").read_bytes().decode().split("\0"):
                found.append(process.name)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_first_process(namespaced, tmp_path, number):
    script = ["sh", "-c", "mount --make-rprivate / && hostname other && mount -t tmpfs t /mnt"]
    holder = subprocess.Popen([sys.executable, str(NAMESPACES), "hold", str(namespaced), *script])
    mark = f"3600.{os.getpid()}"
    try:
        seconds_of(lambda: namespaces.held(namespaced))
        said = subprocess.run(
            inside(namespaced, "sh", "-c", "hostname; cat /proc/self/mounts | grep /mnt; exit 7"),
            capture_output=True,
            text=True,
        )
        assert said.returncode == 7
        assert said.stdout.splitlines()[0] == "other"
        assert "tmpfs" in said.stdout
        # As QEMU does, and libvirtd.
        daemon = f"setsid sleep {mark} & setsid sleep {mark} &"
        subprocess.run(inside(namespaced, "sh", "-c", daemon), check=True)
        seconds_of(lambda: len(running(mark)) == 2)
    finally:
        holder.send_signal(number)
        holder.wait(20)
    seconds_of(lambda: not running(mark))
    assert " /mnt " not in pathlib.Path("/proc/self/mounts").read_text()
    assert not namespaces.held(namespaced)
    failed = subprocess.run(inside(namespaced, "true"), capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.startswith("namespaces.py: ")


def test_a_command_ends_with_what_entered_for_it(namespaced):
    holder = subprocess.Popen([sys.executable, str(NAMESPACES), "hold", str(namespaced), "true"])
    mark = f"3601.{os.getpid()}"
    try:
        seconds_of(lambda: namespaces.held(namespaced))
        # Told to end, it is the command that ends, in its own way.
        trap = f"trap 'exit 5' TERM; sleep {mark} & wait"
        told = subprocess.Popen(inside(namespaced, "sh", "-c", trap))
        seconds_of(lambda: running(mark))
        told.terminate()
        assert told.wait(20) == 5
        killed = subprocess.Popen(inside(namespaced, "sleep", f"{mark}1"))
        seconds_of(lambda: len(running(f"{mark}1")) == 2)
        killed.kill()
        killed.wait(20)
        seconds_of(lambda: not running(f"{mark}1"))
    finally:
        holder.terminate()
        holder.wait(20)


def test_nothing_runs_for_a_parent_that_has_ended(monkeypatch):
    """It may end before Linux was asked to end the child with it."""
    (wait, go), (read, write) = os.pipe(), os.pipe()
    monkeypatch.setattr(namespaces, "_call", lambda *_: os.read(wait, 1))
    # As in a namespace of processes.
    monkeypatch.setattr(os, "getppid", lambda: 0)
    parent = os.fork()
    if not parent:
        namespaces._child(lambda: os.write(write, b"ran"))
        os._exit(0)
    os.waitpid(parent, 0)
    os.close(write)
    os.write(go, b"1")
    assert os.read(read, 3) == b""


def test_a_script_that_fails_leaves_nothing_to_enter(namespaced):
    command = [sys.executable, str(NAMESPACES), "hold", str(namespaced), "sh", "-c", "exit 4"]
    assert subprocess.run(command).returncode == 4
    assert not namespaced.exists()
