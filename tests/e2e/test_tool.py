# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""tools/cloud itself."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import subprocess
import urllib.parse

from tests.e2e.playground import ROOT, Cloud

#: 127.0.0.1 and ::1 as the kernel writes them.
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}
LISTENS = "0A"


def pids(cloud: Cloud) -> dict[str, int]:
    """By service."""
    paths = (cloud.data / "run").glob("*.json")
    return {path.stem: json.loads(path.read_text())["pid"] for path in paths}


def test_up_again_starts_nothing(cloud: Cloud) -> None:
    before = pids(cloud)
    cloud.tool("up")
    assert pids(cloud) == before


def test_it_fits_into_six_gigabytes(cloud: Cloud) -> None:
    (total,) = re.findall(r"^all +(\d+) MiB", cloud.tool("status"), re.MULTILINE)
    assert int(total) < 6 * 1024


def test_nothing_listens_but_on_loopback(cloud: Cloud) -> None:
    sessions = set(pids(cloud).values())
    sockets = set()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            session = int((process / "stat").read_text().rpartition(")")[2].split()[3])
            if session in sessions:
                sockets |= {link.readlink().name for link in (process / "fd").iterdir()}
        except OSError:
            continue  # it has ended
    listening = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in pathlib.Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            waits = fields[3] == LISTENS or table.startswith("udp")
            if waits and f"socket:[{fields[9]}]" in sockets:
                listening.append(fields[1])
    assert len(listening) >= 10
    assert {one.split(":")[0] for one in listening} <= LOOPBACK


def test_who_asks_for_versions_is_left_no_connection(cloud: Cloud) -> None:
    """nova-scheduler asks placement before it forks workers, which would all go on with it."""
    place = urllib.parse.urlsplit(cloud.api.placement.get_endpoint()).netloc
    for path, connection in (("/", "close"), ("/traits", None)):
        with contextlib.closing(http.client.HTTPConnection(place, timeout=30)) as client:
            client.request("GET", path)
            assert client.getresponse().getheader("Connection") == connection


def test_a_stranger_is_never_stopped(cloud: Cloud) -> None:
    """A pid that Linux has handed out again is not the process that was started."""
    mine = cloud.data / "run/memcached.json"
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        entry = json.loads(mine.read_text())
        entry |= {"name": "stranger", "pid": stranger.pid}
        path = cloud.data / "run/stranger.json"
        path.write_text(json.dumps(entry))
        cloud.tool("up")
        assert not path.exists()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_what_has_ended_is_started_again(cloud: Cloud) -> None:
    cloud.tool("stop", "--kill", "placement", "cmp2")
    status = subprocess.run(
        [str(ROOT / "tools/cloud"), "--data", str(cloud.data), "status", "--quiet"]
    )
    assert status.returncode == 1
    before = pids(cloud)
    cloud.tool("up")
    after = pids(cloud)
    assert after.keys() - before.keys() == {"placement", "nova-compute-cmp2"}
    assert {name: after[name] for name in before} == before
    server = cloud.boot("guest", "vf", "cmp2")
    cloud.assert_placement({server: ("vf", "cmp2")})


def test_what_cannot_be_installed_is_told_apart(tmp_path: pathlib.Path) -> None:
    """Without a package index and a mirror, which is nothing that a scenario could find."""
    nowhere = "http://127.0.0.1:1/"
    apt = tmp_path / "apt.conf"
    apt.write_text(f'Acquire::http::Proxy "{nowhere}";\nAcquire::https::Proxy "{nowhere}";\n')
    done = subprocess.run(
        [str(ROOT / "tools/cloud"), "--data", str(tmp_path / "cloud"), "test"],
        env={
            **os.environ,
            "PIP_INDEX_URL": nowhere,
            "PIP_RETRIES": "0",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_CONFIG_FILE": os.devnull,
            "APT_CONFIG": str(apt),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == os.EX_UNAVAILABLE
    assert "does it reach a package index?" in done.stderr or "mirror" in done.stderr
