# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat need`` before it has a cloud; with one in tests/functional."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nova_devcompat.cli.main import main
from nova_devcompat.cli.need import _Devices, _Mapping

COMMANDS = ["backfill", "clear", "list", "set", "show"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_needs_no_nova(name, capsys):
    assert main(["need", name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert f"usage: nova-devcompat need {name}" in out
    assert "--config-file FILE" in out
    assert err == ""


@pytest.mark.parametrize(
    "argv",
    [
        ["list", "--assumed", "--missing"],
        ["set", "instance"],
        ["show"],
        ["backfill", "--host", "a", "--instance", "b"],
    ],
)
def test_wrong_usage(argv, capsys):
    assert main(["need", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: " in err


def run(code: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: it sets up Nova's global configuration."""
    program = f"import sys; {code}; from nova_devcompat.cli.main import main; "
    return subprocess.run(
        [sys.executable, "-c", program + "sys.exit(main(sys.argv[1:]))", "need", *argv],
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if not key.startswith("OS_")},
    )


def test_without_nova():
    done = run("sys.modules['nova'] = None", "list")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("this command needs Nova, and there is none here: run it on a contr")


def test_without_a_database(tmp_path):
    (tmp_path / "nova.conf").touch()
    done = run("pass", "list", "--config-file", str(tmp_path / "nova.conf"))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"no connection is configured in [api_database] (files read: {tmp_path}"
    )


def test_needs_for_people():
    device = {
        "family": "nic",
        "address": "0000:82:00.2",
        "slot": "pci:1",
        "values": {"caps": [], "fw_version": ["1.2"], "speed": None},
        "assumed": ["fw_version"],
        "verdict": "reject",
        "reasons": ["one", "two"],
    }
    away = {**device, "address": "", "values": {}, "verdict": "", "reasons": []}
    host = {**away, "family": "libvirt", "slot": "host:libvirt", "values": {"version": ["4.4.0"]}}
    assert _Devices([device, away, host]).human_readable().splitlines() == [
        "nic at 0000:82:00.2",
        "  caps nothing",
        "  fw_version 1.2 (assumed)",
        "  speed unknown",
        "  its host: reject",
        "    one",
        "    two",
        "nic at an address not known",
        "libvirt of its host",
        "  version 4.4.0",
    ]
    assert _Devices([]).human_readable() == "none recorded"
    assert _Mapping({"a": "1", "b": "2"}).human_readable() == "a=1\nb=2"
