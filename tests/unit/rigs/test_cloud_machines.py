# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The hosts of tools/cloud that are virtual machines: what is written, and what runs commands."""

from __future__ import annotations

import configparser
import gzip
import json
import lzma
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from rigs.cloud import commands, configuration, kinds
from rigs.cloud.layout import LISTENERS, Cloud
from rigs.cloud.libvirt.hosts import LibvirtHosts
from rigs.cloud.machines import agent, initrd, kernel
from rigs.cloud.machines.hosts import MachineHosts

AGENT = pathlib.Path(agent.__file__)


def hosts(folder: pathlib.Path, **chosen) -> MachineHosts:
    (folder / "machines").mkdir(parents=True)
    (folder / "machines/cloud.json").write_text(json.dumps({"computes": [2], **chosen}))
    return MachineHosts(Cloud(folder, machines=True))


# --- what they start with -----------------------------------------------------------------------


def entries(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and content by name, read as the kernel reads an archive (usr/gen_init_cpio.c)."""
    found, at = {}, 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length]
        assert name.endswith(b"\0")
        begin = -(-(at + 110 + length) // 4) * 4
        if name == b"TRAILER!!!\0":
            assert begin + size == len(archive)
            return found
        found[name[:-1].decode()] = (mode, archive[begin : begin + size])
        at = -(-(begin + size) // 4) * 4


def test_an_archive_as_the_kernel_reads_it():
    given = [("bin", 0o40755, b""), ("bin/a", 0o100755, b"12345"), ("bin/b", 0o100644, b"1234")]
    archive = initrd.cpio(given)
    assert entries(archive) == {name: (mode, data) for name, mode, data in given}
    assert len(archive) % 4 == 0


@pytest.mark.skipif(not shutil.which("cpio"), reason="needs cpio")
def test_an_archive_as_cpio_reads_it(tmp_path):
    archive = initrd.cpio([("a", 0o40755, b""), ("a/b", 0o100755, b"text")])
    subprocess.run(["cpio", "-i", "--quiet"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "a/b").read_text() == "text"
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o755


def test_a_machine_loads_each_module_after_what_it_needs(tmp_path):
    def module(name: str, *needs: str) -> None:
        path = tmp_path / "kernel" / name
        path.parent.mkdir(exist_ok=True)
        text = f"\0license=GPL\0depends={','.join(needs)}\0name=x\0".encode()
        path.write_bytes(lzma.compress(text) if path.suffix == ".xz" else text)

    module("9p.ko.xz", "9pnet", "netfs")
    module("9pnet-virtio.ko", "9pnet")
    module("9pnet.ko")
    module("netfs.ko.xz", "9pnet")
    module("other.ko")
    found = initrd.in_order(tmp_path, ["9pnet_virtio", "9p"])
    assert list(found) == ["9pnet", "9pnet_virtio", "netfs", "9p"]
    # Insmod takes them as they are.
    assert all(data.startswith(b"\0license") for data in found.values())
    with pytest.raises(KeyError):
        initrd.in_order(tmp_path, ["nix"])

    inside = entries(gzip.decompress(initrd.initrd(b"busybox", found)))
    mode, script = inside["init"]
    assert stat.S_IMODE(mode) == 0o755
    assert b"for module in 9pnet 9pnet_virtio netfs 9p;" in script
    assert inside["modules/netfs"][1] == found["netfs"]
    assert inside["bin/busybox"] == (0o100755, b"busybox")
    # All that it mounts something on, or moves there.
    for folder in re.findall(rb"(?:/(proc|sys|dev|files|own|root)\b)(?=[\s;])", script):
        assert inside[folder.decode()] == (0o40755, b"")


def test_two_versions_differ_in_what_a_state_begins_with():
    first, second = kernel.VERSIONS.values()
    assert first != second
    assert first.rpartition(" ")[0] == second.rpartition(" ")[0]


# --- what is written ----------------------------------------------------------------------------


def test_a_machine_is_where_nobody_else_is(tmp_path):
    found = hosts(tmp_path, port_base=23700)
    assert list(found.addresses()) == list(found.outside()) == ["cmp1", "cmp2"]
    assert not set(found.addresses().values()) & set(found.outside().values())
    assert all(address.startswith("127.") for address in found.outside().values())
    for host, address in found.addresses().items():
        found.write(host)
        machine = tmp_path / f"machines/hosts/{host}/machine"
        assert f'listen_addr = "{address}"' in (machine / "libvirt/etc/libvirtd.conf").read_text()
        assert f'migration_host = "{address}"' in (machine / "libvirt/etc/qemu.conf").read_text()
        settings = agent.Settings.read(found.settings(host))
        assert settings.outside == found.outside()[host]
        assert settings.ports == list(range(23700, 23700 + len(LISTENERS)))
        assert settings.setup[1:3] == [host, address]
        # Whoever knows what stands there is root on the machine.
        assert stat.S_IMODE(found.settings(host).stat().st_mode) == 0o600
        found.write(host)
        assert agent.Settings.read(found.settings(host)) == settings

        nova = configparser.ConfigParser()
        nova.read_string(configuration.ini(found.compute(host)))
        assert nova["devices"]["enabled_mdev_types"] == "mtty-2"
        assert nova["mdev_mtty-2"]["device_addresses"] == "mtty_mtty"
        assert nova["libvirt"]["live_migration_inbound_addr"] == address
        assert nova["DEFAULT"]["my_ip"] == address
        assert nova["libvirt"]["virt_type"] == "qemu"
    assert "mtty" in str(found.packs()["packs"]).split(",")


def test_two_machines_are_linked_with_each_other(tmp_path):
    found = hosts(tmp_path, port_base=23700)
    (holders, machines, _) = found.services()
    assert len(holders) == len(machines) == 2
    links = []
    for host, service in zip(found.addresses(), machines, strict=True):
        # It runs where the host's files are.
        assert service.command[1:4] == holders_enter(found, host)
        text = " ".join(service.command)
        links.append(re.search(r"udp=127\.0\.0\.1:(\d+),localaddr=127\.0\.0\.1:(\d+)", text))
        assert f"hostfwd=tcp:{found.outside()[host]}:" in text
        assert "readonly=on" in text.split("-virtfs ")[1]
    assert links[0].groups() == links[1].groups()[::-1]
    macs = re.findall(r"mac=(\S+)", " ".join(" ".join(one.command) for one in machines))
    assert len(set(macs)) == 4


def holders_enter(found: MachineHosts, host: str) -> list[str]:
    plain = LibvirtHosts.enter(found, host)
    assert plain != found.enter(host)
    return plain[1:]


def test_a_third_machine_is_refused_before_anything_is_fetched(tmp_path, capsys):
    folder = tmp_path / "cloud"
    status = commands.main(["--data", str(folder), "up", "--machines", "--computes", "3"])
    assert status == os.EX_UNAVAILABLE
    assert "no third" in capsys.readouterr().err
    assert not list(folder.glob("cloud-*")) + list(folder.glob("debian*"))


def test_one_folder_has_three_clouds(tmp_path):
    clouds = [Cloud(tmp_path), Cloud(tmp_path, libvirt=True), Cloud(tmp_path, machines=True)]
    assert len({one.venv for one in clouds}) == 1
    assert len({one.settings.port_base for one in clouds}) == 3
    assert len({type(kinds.hosts_of(one)) for one in clouds}) == 3
    for one in clouds:
        one.data.mkdir(exist_ok=True)
        one.save()
    for number, option in enumerate(([], ["--libvirt"], ["--machines"])):
        assert commands.main(["--data", str(tmp_path), "down", *option, "--wipe"]) == 0
        assert [one.exists for one in clouds] == [n > number for n in range(3)]


def test_a_command_is_about_one_cloud(tmp_path, capsys):
    with pytest.raises(SystemExit):
        commands.main(["--data", str(tmp_path), "status", "--libvirt", "--machines"])
    assert "not allowed with" in capsys.readouterr().err


# --- what runs commands there -------------------------------------------------------------------


@pytest.fixture
def served(tmp_path):
    """An agent on this machine, and the file of its settings; its port is the usual one."""
    # Of Linux' addresses of this machine, one that no other run has.
    outside = f"127.{os.getpid() // 256 % 256}.{os.getpid() % 256}.77"
    service = socket.create_server(("127.0.0.2", 0))
    settings = agent.Settings(
        outside=outside, secret="secret", setup=["true"], ports=[service.getsockname()[1]]
    )
    path = tmp_path / "agent.json"
    path.write_text(settings.text())
    code = (
        "import pathlib, sys; from rigs.cloud.machines import agent; "
        "settings = agent.Settings.read(pathlib.Path(sys.argv[1])); "
        "agent.serve(settings, (settings.outside, agent.PORT), '127.0.0.2')"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=AGENT.parents[3], start_new_session=True
    )

    def answers() -> bool:
        with socket.socket() as one:
            return one.connect_ex((outside, agent.PORT)) == 0

    try:
        within(answers)
        yield path, service
    finally:
        server.kill()
        server.wait(20)
        service.close()


def within(met, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def entering(path: pathlib.Path, *command: str) -> list[str]:
    return [sys.executable, str(AGENT), "enter", str(path), *command]


def test_a_command_has_what_it_has_here(served, tmp_path):
    path, _ = served
    done = subprocess.run(
        entering(path, "sh", "-c", 'cat; pwd; echo "$MARK" >&2; exit 7'),
        input="what is typed\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MARK": "of the environment"},
    )
    assert done.stdout == f"what is typed\n{tmp_path}\n"
    assert done.stderr == "of the environment\n"
    assert done.returncode == 7


def test_output_is_whole_however_long(served):
    path, _ = served
    size = 3_000_000
    done = subprocess.run(
        entering(path, "head", "-c", str(size), "/dev/zero"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert (done.returncode, len(done.stdout)) == (0, size)


def test_a_command_that_is_not_there(served):
    path, _ = served
    done = subprocess.run(entering(path, "/no/such"), capture_output=True, text=True)
    assert done.returncode == 126
    assert "/no/such" in done.stderr


def test_a_signal_is_passed_on(served):
    path, _ = served
    script = "trap 'kill $!; echo told; exit 5' TERM; sleep 3600 & echo ready; wait"
    asked = subprocess.Popen(
        entering(path, "sh", "-c", script),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert asked.stdout.readline() == "ready\n"
    asked.terminate()
    assert asked.wait(20) == 5
    assert asked.stdout.read() == "told\n"
    by = subprocess.run(entering(path, "sh", "-c", "kill -KILL $$"), stdin=subprocess.DEVNULL)
    assert by.returncode == 128 + signal.SIGKILL


def test_a_command_need_not_end_what_it_started(served):
    path, _ = served
    script = "sleep 3600 2>&- & echo $!"
    asked = entering(path, "sh", "-c", script)
    done = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    started = int(done.stdout)
    try:
        assert done.returncode == 0 and alive(started)
    finally:
        os.kill(started, signal.SIGKILL)


def test_a_command_ends_with_who_asked_for_it(served):
    path, _ = served
    asked = subprocess.Popen(
        entering(path, "sh", "-c", "echo $$; sleep 3600 & wait"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(asked.stdout.readline())
    members = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    within(lambda: members.read_text())
    running = [pid, *map(int, members.read_text().split())]
    assert len(running) == 2
    asked.kill()
    asked.wait(20)
    within(lambda: not any(alive(one) for one in running))


def alive(pid: int) -> bool:
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def test_who_does_not_know_the_secret_runs_nothing(served, tmp_path):
    path, _ = served
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**json.loads(path.read_text()), "secret": "guessed"}))
    mark = tmp_path / "mark"
    done = subprocess.run(entering(other, "touch", str(mark)), capture_output=True, text=True)
    assert done.returncode == 125
    assert "gone" in done.stderr
    assert not mark.exists()
    assert subprocess.run(entering(path, "touch", str(mark))).returncode == 0
    assert mark.exists()


def test_a_service_of_this_machine_listens_there_too(served):
    path, service = served
    port = agent.Settings.read(path).ports[0]

    def echo() -> None:
        with service.accept()[0] as one:
            while data := one.recv(1000):
                one.sendall(data.upper())

    thread = threading.Thread(target=echo)
    thread.start()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        one.sendall(b"hello")
        assert one.recv(1000) == b"HELLO"
        one.shutdown(socket.SHUT_WR)
        assert one.recv(1000) == b""
    thread.join(20)
    assert not thread.is_alive()


def test_nobody_answers_for_a_machine_that_is_off(tmp_path):
    path = tmp_path / "agent.json"
    settings = agent.Settings(outside="127.255.0.78", secret="s", setup=[], ports=[])
    path.write_text(settings.text())
    done = subprocess.run(entering(path, "true"), capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("agent.py: ")
