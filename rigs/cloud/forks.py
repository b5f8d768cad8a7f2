# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Commands that are run often: each run is a fork of a process that has their modules imported.

The modules of Nova and of the openstack client take seconds to import.

python forks.py serve SOCKET
python -S -E forks.py run SOCKET PROGRAM [ARGUMENT ...]
"""

import array
import atexit
import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback

#: Modules whose function ``main`` is a program, and what else to import for it.
PROGRAMS = {
    "nova-devcompat": "nova_devcompat.cli.main",
    "openstack": "openstackclient.shell",
}
_ALSO = (
    *("nova.config", "nova.context", "nova.rpc", "nova.db.api.api", "nova.db.main.api"),
    *("nova.objects.cell_mapping", "nova.objects.instance", "nova.objects.service"),
    *("pymysql", "nova_devcompat.cli.need", "nova_devcompat.cli.upgrade"),
    *("openstackclient.compute.client", "openstackclient.compute.v2.server"),
    *("openstackclient.identity.client", "openstackclient.image.client"),
    *("openstackclient.network.client", "openstackclient.volume.client"),
    *("osc_placement.plugin", "osc_placement.resources.resource_provider"),
    *("osc_placement.resources.trait", "openstack.connection"),
)


def serve(path: str) -> None:
    """Run what is asked for, until this is killed."""
    for name in (*PROGRAMS.values(), *_ALSO):
        importlib.import_module(name)
    gc.freeze()
    # Linux buries those that have answered.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                child = os.fork()
                if child == 0:
                    _program(connection)
                _, ended = os.waitpid(child, 0)
                connection.sendall(bytes([os.waitstatus_to_exitcode(ended) & 0xFF]))
                os._exit(0)
            connection.close()


def _program(connection: socket.socket) -> None:
    """Become a run of a program: its streams, folder, environment and arguments."""
    message, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    asked = json.loads(message)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environ"])
    sys.argv[:] = asked["arguments"]
    status = 1
    try:
        status = importlib.import_module(PROGRAMS[sys.argv[0]]).main()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception:
        traceback.print_exc()
        raise
    finally:
        # To take all modules apart would take a second.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)


def run(path: str, *arguments: str) -> int:
    """Have a program run with what this process has.

    :param arguments: the first is the program
    :returns: its exit status
    """
    message = {"arguments": arguments, "folder": os.getcwd(), "environ": dict(os.environ)}
    streams = array.array("i", [0, 1, 2])
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [json.dumps(message).encode()], streams)
        answer = connection.recv(1)
    return answer[0] if answer else 1


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        sys.exit(run(*sys.argv[2:]))
