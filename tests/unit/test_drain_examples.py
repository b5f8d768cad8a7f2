# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The shell script and the playbook that drain hosts do what the documentation says of them."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import yaml
from cliff.commandmanager import CommandManager

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "doc" / "source" / "_examples"
SCRIPT, PLAYBOOK = EXAMPLES / "drain.sh", EXAMPLES / "drain.yaml"

ROWS = [
    {"instance": "vm1", "host": "cmp4", "result": "leaves", "destination": "cmp5"},
    {"instance": "vm2", "host": "cmp4", "result": "leaves", "destination": "cmp6"},
]


@pytest.fixture
def commands(tmp_path):
    """Both commands, which write down how they are called; ours answers with a status."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "calls"
    log.touch()
    values = "\n".join(f"{row['instance']} {row['destination']}" for row in ROWS)

    def install(status: int = 0, rows: bool = True) -> dict[str, str]:
        answer = f'case "$*" in *value*) cat {tmp_path}/values;; *) cat {tmp_path}/json;; esac'
        (tmp_path / "values").write_text(f"{values}\n" if rows else "")
        (tmp_path / "json").write_text(json.dumps(ROWS if rows else []))
        for name, does in (("nova-devcompat", f"{answer}\nexit {status}"), ("openstack", "cat")):
            path = folder / name
            path.write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\n{does}\n')
            path.chmod(0o755)
        return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(tmp_path)}

    install.calls = lambda: log.read_text().splitlines()
    return install


def migrations(calls):
    return [call for call in calls if call.startswith("openstack server migrate")]


MOVES = [
    "openstack server migrate --live-migration --host cmp5 --wait vm1",
    "openstack server migrate --live-migration --host cmp6 --wait vm2",
]


def drain(environment, *hosts):
    return subprocess.run(
        ["sh", SCRIPT, *hosts], env=environment, capture_output=True, text=True, check=False
    )


def test_the_script_moves_what_can_move(commands):
    done = drain(commands(), "cmp4")
    assert done.returncode == 0, done.stderr
    assert migrations(commands.calls()) == MOVES
    assert "service set --disable --disable-reason drain cmp4" in commands.calls()[0]


@pytest.mark.parametrize("status", [1, 2, 3])
def test_the_script_stops_where_not_all_can(commands, status):
    done = drain(commands(status), "cmp4", "cmp5")
    assert done.returncode == 1
    assert migrations(commands.calls()) == []
    assert commands.calls()[-1].endswith("service set --enable cmp4 nova-compute")


def test_the_script_has_nothing_to_do_for_an_empty_host(commands):
    done = drain(commands(rows=False), "cmp4")
    assert (done.returncode, migrations(commands.calls())) == (0, [])


def test_the_commands_of_the_playbook_are_ours():
    (play,) = yaml.safe_load(PLAYBOOK.read_text())
    called = [
        task["ansible.builtin.command"]["argv"]
        for task in play["tasks"]
        if "ansible.builtin.command" in task
    ]
    (ours,) = [argv for argv in called if argv[0] == "nova-devcompat"]
    factory, _, rest = CommandManager("nova_devcompat.cli").find_command(ours[1:])
    parsed = factory(None, None).get_parser("x").parse_args(rest)
    assert parsed.hosts == ["{{ host }}"]
    assert parsed.formatter == "json"
    # What it moves it moves where the answer says.
    loop = play["tasks"][-1]
    columns = {"instance", "destination"}
    told = {word.split(".")[1] for word in str(loop).split() if word.startswith("item.")}
    assert told == columns


@pytest.mark.skipif(not shutil.which("ansible-playbook"), reason="Ansible is not installed")
@pytest.mark.parametrize("status", [0, 3, 1])
def test_the_playbook_does_as_the_script(commands, status):
    python = f"ansible_python_interpreter={sys.executable}"
    command = "ansible-playbook -i localhost, -c local -e host=cmp4 /dev/stdin -e"
    done = subprocess.run(
        [*command.split(), python],
        input=PLAYBOOK.read_text().replace("controllers[0]", "localhost"),
        env=commands(status),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is (status == 0), done.stdout
    assert migrations(commands.calls()) == (MOVES if status == 0 else [])
