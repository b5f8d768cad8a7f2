# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Namespaces of a host: mounts, host name, processes. The network stays the machine's.

    namespaces.py hold PIDFILE SCRIPT [ARGUMENT...]
    namespaces.py enter PIDFILE COMMAND [ARGUMENT...]

``hold`` makes them, runs a script in them that mounts what the host has, and keeps them. When it
ends, in whatever way, Linux kills all that runs in them, and mounts and namespaces go with the
last process: no power is left. ``enter`` runs a command in them, and ends with it.

Only the standard library is used here, and ``os.setns`` is of Python 3.12.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWPID = 0x00020000, 0x04000000, 0x20000000
_PR_SET_PDEATHSIG = 1
_KINDS = ("pid", "uts", "mnt")
#: What a command is told that runs in the namespaces.
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: Exit statuses as shells have them: not to be run, and by a signal.
_CANNOT_RUN, _BY_SIGNAL = 126, 128

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _child(run: Callable[[], int]) -> int:
    """Fork a process that does not outlive this one; its PID, as this one sees it."""
    # Nobody writes to it: what is open ends with this process.
    watched, kept = os.pipe()
    pid = os.fork()
    if pid:
        os.close(watched)
        return pid
    os.close(kept)
    status = _CANNOT_RUN
    try:
        _call("prctl", _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        # The parent may have ended before that. Its PID does not tell: in a namespace of processes
        # of its own the child sees none, whether the parent lives or not.
        if not select.select([watched], [], [], 0)[0]:
            status = run()
    except OSError as error:
        print(f"namespaces.py: {error}", file=sys.stderr, flush=True)
    os._exit(status)


def _status(pid: int) -> int:
    """Wait for the end of a child; its exit status as shells have it."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else _BY_SIGNAL - code


def hold(pid_file: pathlib.Path, script: Sequence[str]) -> int:
    """Make namespaces and keep them until this process is told to end.

    :param pid_file: says, once the script has run, which process is the first in them
    :param script: a command that mounts what the host has
    """
    pid_file.unlink(missing_ok=True)
    _call("unshare", _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWPID)
    ready, tell = os.pipe()

    def first() -> int:
        # What the first process does not handle, it is not even sent.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        status = subprocess.run(script).returncode
        if status:
            return status
        # For sigwait. What the script has run had it as it was.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        os.write(tell, b"1")
        while True:
            # Orphans are this one's: libvirt waits for a QEMU that has ended to be gone.
            try:
                os.wait()
            except ChildProcessError:
                signal.sigwait([signal.SIGCHLD])

    pid = _child(first)
    os.close(tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.kill(pid, signal.SIGKILL))
    if os.read(ready, 1):
        aside = pid_file.with_suffix(".new")
        aside.write_text(f"{pid}\n")
        aside.replace(pid_file)
    try:
        return _status(pid)
    finally:
        pid_file.unlink(missing_ok=True)


def held(pid_file: pathlib.Path) -> bool:
    """Whether there are namespaces, and what the host has is mounted in them."""
    try:
        for file in _open(pid_file):
            os.close(file)
    except OSError:
        return False
    return True


def _open(pid_file: pathlib.Path) -> list[int]:
    """Descriptors of the namespaces that a process holds.

    :raises OSError: nobody holds them
    """
    folder = pathlib.Path("/proc", pid_file.read_text().strip(), "ns")
    files = [os.open(folder / kind, os.O_RDONLY | os.O_CLOEXEC) for kind in _KINDS]
    # Where the first process was killed, Linux may have given its number to another.
    if os.fstat(files[0]).st_ino == os.stat("/proc/self/ns/pid").st_ino:
        raise ProcessLookupError(f"{pid_file}: the process has no namespaces of its own")
    return files


def enter(pid_file: pathlib.Path, command: Sequence[str]) -> int:
    """Run a command in the namespaces that a process holds; its exit status.

    :raises OSError: nobody holds them
    """
    files = _open(pid_file)
    here = os.getcwd()
    for file in files:
        _call("setns", file, 0)
    os.chdir(here)

    def run() -> int:
        os.execvp(command[0], list(command))

    pid = _child(run)
    for number in _PASSED_ON:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    return _status(pid)


def main(argv: Sequence[str]) -> int:
    what, pid_file, *command = argv
    return {"hold": hold, "enter": enter}[what](pathlib.Path(pid_file), command)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as error:
        sys.exit(f"namespaces.py: {error}")
