# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Runs commands in a virtual machine for this one.

    agent.py init SETTINGS      first process of the virtual machine
    agent.py enter SETTINGS COMMAND [ARGUMENT...]

SETTINGS is a file in JSON, see :class:`Settings`. ``init`` runs the script that sets the machine
up, and then what it is asked to, each request on a connection of its own; what listens on this
machine's 127.0.0.1 it makes listen on that one's. ``enter`` runs a command there with its own
environment, folder, input and output, passes on the signals it gets, and ends as the command does.
A command does not outlive who asked for it; a daemon that leaves its session does.

Only the standard library is used here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import BinaryIO

#: Where it listens in the virtual machine: QEMU's network of one machine gives it this address,
#: and this machine's 127.0.0.1 that of the gateway (QEMU's invocation, "-netdev user").
PORT, ADDRESS, GATEWAY = 16511, "10.0.2.15", "10.0.2.2"
#: What a command is told that runs there.
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: Exit statuses: as shells have them, not to be run, and by a signal; and of a machine that went.
_CANNOT_RUN, _BY_SIGNAL, _GONE = 126, 128, 125
#: Kinds of frames: what is asked for, its input, a signal; its output, errors, and exit status.
_REQUEST, _INPUT, _SIGNAL, _OUTPUT, _ERRORS, _STATUS = b"r", b"i", b"s", b"o", b"e", b"x"
#: Of a frame: the kind, and how many bytes follow; none do at the end of an input.
_HEAD = struct.Struct(">cI")
_CHUNK = 65536


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Of one virtual machine.

    :ivar outside: the address on this machine that leads to the agent's port
    :ivar secret: what who asks must know
    :ivar setup: the command that sets the machine up
    :ivar ports: those of this machine's 127.0.0.1 that it has too
    """

    outside: str
    secret: str
    setup: Sequence[str]
    ports: Sequence[int]

    @classmethod
    def read(cls, path: pathlib.Path) -> Settings:
        """:raises OSError: there is no such file"""
        return cls(**json.loads(path.read_text()))

    def text(self) -> str:
        """Of the file."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


class _Frames:
    """The two directions of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._read = connection.makefile("rb")
        self._lock = threading.Lock()

    def send(self, kind: bytes, data: bytes) -> None:
        """:raises OSError: nobody listens any more"""
        with self._lock:
            self._connection.sendall(_HEAD.pack(kind, len(data)) + data)

    def receive(self) -> tuple[bytes, bytes]:
        """:raises OSError: nobody will send any more"""
        head = self._read.read(_HEAD.size)
        if len(head) == _HEAD.size:
            kind, size = _HEAD.unpack(head)
            data = self._read.read(size)
            if len(data) == size:
                return kind, data
        raise ConnectionResetError("the connection has ended")

    def pump(self, source: BinaryIO, kind: bytes) -> None:
        """Send all that there is to read, and its end."""
        with contextlib.suppress(OSError):
            while data := os.read(source.fileno(), _CHUNK):
                self.send(kind, data)
            self.send(kind, b"")


def _thread(run: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=run, args=arguments, daemon=True)
    thread.start()
    return thread


# --- in the virtual machine ---------------------------------------------------------------------


def init(settings: Settings) -> int:
    """Set the machine up, serve, and collect the processes that nobody else does."""
    status = subprocess.run(settings.setup).returncode
    if status:
        return status
    if not os.fork():
        serve(settings, (ADDRESS, PORT), GATEWAY)
    while True:
        os.wait()


def serve(settings: Settings, address: tuple[str, int], gateway: str) -> None:
    """Run what is asked for, for ever.

    :param address: where to listen
    :param gateway: where the ports lead that the machine has of this one
    """

    def on_port(port: int) -> Callable[[socket.socket], None]:
        return lambda connection: _forward(connection, (gateway, port))

    for port in settings.ports:
        _thread(_listen, ("127.0.0.1", port), on_port(port))
    _listen(address, lambda connection: _answer(connection, settings.secret))


def _listen(address: tuple[str, int], handle: Callable[[socket.socket], None]) -> None:
    def handled(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            handle(connection)

    with socket.create_server(address, backlog=64) as listener:
        while True:
            _thread(handled, listener.accept()[0])


def _forward(connection: socket.socket, address: tuple[str, int]) -> None:
    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    with socket.create_connection(address) as other:
        back = _thread(copy, other, connection)
        copy(connection, other)
        back.join()


def _answer(connection: socket.socket, secret: str) -> None:
    """Run the command that a connection asks for."""
    frames = _Frames(connection)
    kind, data = frames.receive()
    asked = json.loads(data)
    if kind != _REQUEST or not hmac.compare_digest(asked["secret"], secret):
        return
    try:
        child = subprocess.Popen(
            asked["command"],
            cwd=asked["folder"],
            env=asked["environ"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # What is killed with it.
            start_new_session=True,
        )
    except OSError as error:
        frames.send(_ERRORS, f"agent.py: {error}\n".encode())
        frames.send(_STATUS, str(_CANNOT_RUN).encode())
        return
    _thread(_obey, frames, child)
    assert child.stdout and child.stderr
    outputs = [
        _thread(frames.pump, child.stdout, _OUTPUT),
        _thread(frames.pump, child.stderr, _ERRORS),
    ]
    code = child.wait()
    # A daemon that it leaves behind may keep them open.
    for output in outputs:
        output.join(1)
    frames.send(_STATUS, str(code if code >= 0 else _BY_SIGNAL - code).encode())


def _obey(frames: _Frames, child: subprocess.Popen[bytes]) -> None:
    """Pass on input and signals until nobody sends any more: then end what runs."""
    assert child.stdin
    with contextlib.suppress(OSError):
        while True:
            kind, data = frames.receive()
            if kind == _SIGNAL:
                child.send_signal(int(data))
            elif data:
                with contextlib.suppress(BrokenPipeError):
                    os.write(child.stdin.fileno(), data)
            else:
                child.stdin.close()
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


# --- on this machine ----------------------------------------------------------------------------


def enter(settings: Settings, command: Sequence[str]) -> int:
    """Run a command in a virtual machine; its exit status.

    :raises OSError: it cannot be reached
    """
    with socket.create_connection((settings.outside, PORT), timeout=30) as connection:
        connection.settimeout(None)
        frames = _Frames(connection)
        for number in _PASSED_ON:
            signal.signal(number, lambda number, _: frames.send(_SIGNAL, b"%d" % number))
        asked = {"command": list(command), "folder": os.getcwd(), "environ": dict(os.environ)}
        frames.send(_REQUEST, json.dumps({**asked, "secret": settings.secret}).encode())
        _thread(frames.pump, sys.stdin.buffer, _INPUT)
        while True:
            try:
                kind, data = frames.receive()
            except OSError:
                print("agent.py: the machine has gone", file=sys.stderr)
                return _GONE
            if kind == _STATUS:
                return int(data)
            os.write(1 if kind == _OUTPUT else 2, data)


def main(argv: Sequence[str]) -> int:
    what, path, *command = argv
    settings = Settings.read(pathlib.Path(path))
    return init(settings) if what == "init" else enter(settings, command)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as error:
        sys.exit(f"agent.py: {error}")
