# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat`` as it is run often: each run is a fork of a process that has Nova imported.

Nova's modules take seconds to import, and a process can read Nova's configuration only once.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import multiprocessing.connection

#: Seconds that a run may take.
LIMIT = 120.0
#: What the command imports.
_MODULES = [
    *("nova.config", "nova.context", "nova.rpc", "nova.db.api.api", "nova.db.main.api"),
    *("nova.objects.cell_mapping", "nova.objects.instance", "nova.objects.service"),
    *("pymysql", "nova_devcompat.cli.main", "nova_devcompat.cli.need"),
]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(_MODULES)


def nova_devcompat(*arguments: str) -> str:
    """Run a command that succeeds.

    :returns: what it prints
    """
    here, there = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_run, args=(there, arguments))
    process.start()
    there.close()
    try:
        assert here.poll(LIMIT), f"{arguments} did not end within {LIMIT:.0f} s"
        status, printed, problems = here.recv()
    finally:
        process.kill()
        process.join()
        here.close()
    assert status == 0, f"{arguments}: exit status {status}\n{problems}"
    return printed


def _run(answer: multiprocessing.connection.Connection, arguments: tuple[str, ...]) -> None:
    """In the fork.

    :param answer: gets the exit status, and what was printed on both streams
    """
    printed, problems = io.StringIO(), io.StringIO()
    status = 1
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(problems):
            from nova_devcompat.cli.main import main

            status = main(arguments)
    finally:
        answer.send((status, printed.getvalue(), problems.getvalue()))
