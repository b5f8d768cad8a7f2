# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The commands that the documentation shows with their output, run on the cloud.

A transcript has lines such as ``controller# nova-devcompat upgrade check``, each followed by what
the command prints. With DEVCOMPAT_RECORD set, the files are written anew instead of compared; then
read the difference.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator

from tests.e2e.playground import CYCLE, ENDED, ROOT, Cloud, until

EXAMPLES = ROOT / "doc/source/_examples"
_PROMPT = re.compile(r"((?:controller|cmp\d+)[#$]) (.+)")
#: What is another one in each cloud, or on another release of Debian.
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ADDRESS = re.compile(r"(?<=0000:81:0)\d\.\d")
_MACHINE = re.compile(r"(?<=pc-q35-)\d+\.\d+")
#: A list that was cut short.
_CUT = re.compile(r"(?<=offered)\s+\S+\.\.\.")
#: Where lines are folded, and the frames of tables.
_LAYOUT = re.compile(r"[\s|+-]")
#: What is started in the background, and takes its time.
_ACTS = "openstack server migrate"
#: An API's address here, and what the page shows for it.
_API, _SHOWN_API = re.compile(r"http://127\.0\.0\.1:\d+/v2\.1"), "http://controller:8774/v2.1"


def check(cloud: Cloud, name: str) -> None:
    """Run what a transcript shows, and compare what is printed.

    :param name: of the file, without its suffix
    """
    path = EXAMPLES / f"{name}.console"
    text = path.read_text()
    printed = ""
    for prompt, command, expected in _steps(text):
        shown, host = f"{prompt} {command}\n", prompt[:-1]
        output = _run(cloud, host, command)
        places = _places(cloud, host)
        if command.startswith(_ACTS):
            _wait_for_migrations(cloud)
        elif not _recording():
            # A log line may come a moment later, and what hosts publish with their next cycle.
            end = time.monotonic() + CYCLE
            while _masked(output, places) != _masked(expected, places):
                if time.monotonic() > end:
                    break
                time.sleep(0.5)
                output = _run(cloud, host, command)
            same = _masked(output, places) == _masked(expected, places)
            assert same, f"{path}: {shown}{output}"
        printed += shown + output
    if _recording():
        path.write_text(printed)


def _recording() -> bool:
    return bool(os.environ.get("DEVCOMPAT_RECORD"))


def _steps(text: str) -> Iterator[tuple[str, str, str]]:
    """Prompt, command and output of each step."""
    lines = text.splitlines(keepends=True)
    while lines:
        match = _PROMPT.fullmatch(lines.pop(0).rstrip("\n"))
        assert match, "a transcript begins with a prompt"
        prompt, command = match.groups()
        while command.endswith("\\"):
            command += "\n" + lines.pop(0).rstrip("\n")
        output = ""
        while lines and not _PROMPT.match(lines[0]):
            output += lines.pop(0)
        yield prompt, command, output


def _places(cloud: Cloud, host: str) -> dict[str, str]:
    """Paths that the page shows, and what they are here."""
    folder = cloud.data / "log"
    return {
        "/var/log/nova/nova-compute.log": f"{folder}/nova-compute-{host}.log",
        "/var/log/nova": str(folder),
        "/etc/nova/devcompat.yaml": str(cloud.data / "etc/devcompat.yaml"),
    }


def _run(cloud: Cloud, host: str, command: str) -> str:
    places = _places(cloud, host)
    here = command
    for place, path in places.items():
        here = here.replace(place, path)
    # Where nova-manage and our command look for Nova's configuration first.
    home = cloud.data / "home"
    link = home / ".nova"
    if not link.is_symlink():
        link.symlink_to(cloud.data / "etc/nova", target_is_directory=True)
    script = f". {cloud.data}/openrc\nPATH={cloud.programs}:$PATH\n{here}"
    done = subprocess.run(
        [*cloud.enter(host), "bash", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        # Scripts that the page shows are there.
        cwd=EXAMPLES,
        env={**os.environ, "HOME": str(home), "COLUMNS": "100"},
    )
    output = done.stdout
    for place, path in reversed(places.items()):
        output = output.replace(path, place)
    return re.sub(r" +$", "", _API.sub(_SHOWN_API, output), flags=re.MULTILINE)


def _masked(output: str, places: dict[str, str]) -> str:
    """What is to be the same in each cloud.

    How the lines of a table are folded depends on the length of paths here.
    """
    masks = ((_UUID, "UUID"), (_ADDRESS, "N.N"), (_MACHINE, "N.N"), (_CUT, " ..."))
    for what, instead in masks:
        output = what.sub(instead, output)
    masked = _LAYOUT.sub("", output)
    for place, path in reversed(places.items()):
        masked = masked.replace(_LAYOUT.sub("", path), _LAYOUT.sub("", place))
    return masked


def _wait_for_migrations(cloud: Cloud) -> None:
    def ended() -> bool:
        found = [cloud.migrations(server) for server in cloud.servers()]
        return all(one[0]["status"] in ENDED for one in found if one)

    until("migrations to end", ended, limit=180)
