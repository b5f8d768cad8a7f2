# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The ``openstack`` client and ``nova-devcompat``, started as forks: see ``rigs.cloud.forks``."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping

from rigs.cloud import forks

#: Seconds that a run may take, and the import of the modules.
LIMIT = 120.0


@contextlib.contextmanager
def quick() -> Iterator[pathlib.Path]:
    """A folder with programs that start at once, to be the first in PATH."""
    script = str(pathlib.Path(forks.__file__))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "socket")
        for program in forks.PROGRAMS:
            command = [sys.executable, "-S", "-E", script, "run", str(path), program]
            executable = pathlib.Path(folder, program)
            executable.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
            executable.chmod(0o700)
        with subprocess.Popen(
            [sys.executable, "-W", "ignore", script, "serve", str(path)],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as server:
            try:
                deadline = time.monotonic() + LIMIT
                while not path.exists():
                    assert server.poll() is None, "the modules cannot be imported"
                    assert time.monotonic() < deadline, f"no programs after {LIMIT:.0f} s"
                    time.sleep(0.1)
                yield pathlib.Path(folder)
            finally:
                server.kill()


def run(folder: pathlib.Path, *command: str, environ: Mapping[str, str] = {}) -> str:
    """Run a command that succeeds.

    :param folder: of the programs
    :param environ: added to the environment
    :returns: what it prints
    """
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", **environ},
    )
    assert done.returncode == 0, f"{command}: exit status {done.returncode}\n{done.stderr}"
    return done.stdout
