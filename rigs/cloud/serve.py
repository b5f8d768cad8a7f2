# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Serve one of OpenStack's WSGI applications; runs in the cloud's virtual environment.

python serve.py MODULE HOST PORT
"""

import importlib
import logging
import signal
import sys

import waitress
import waitress.channel
import waitress.task


class Task(waitress.task.WSGITask):  # type: ignore[misc]
    """Ends a connection on which somebody asked which versions there are.

    nova-scheduler asks placement that when it is made, before it forks its workers. They would
    all go on with the connection of their parent, and get each other's answers.
    """

    def build_response_header(self) -> bytes:
        if self.request.path == "/":
            self.request.headers["CONNECTION"] = "close"
        header: bytes = super().build_response_header()
        return header


def main() -> None:
    module, host, port = sys.argv[1:]
    # Some of the applications read the command line when they are imported.
    sys.argv[1:] = []
    application = importlib.import_module(module).application
    # It warns each time that more requests wait than threads are free.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    # Imported code may have installed handlers of its own.
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(0))
    waitress.channel.HTTPChannel.task_class = Task
    waitress.serve(application, host=host, port=int(port), threads=8, ident=None)


if __name__ == "__main__":
    main()
