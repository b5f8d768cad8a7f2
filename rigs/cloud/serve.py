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


def main() -> None:
    module, host, port = sys.argv[1:]
    # Some of the applications read the command line when they are imported.
    sys.argv[1:] = []
    application = importlib.import_module(module).application
    # It warns each time that more requests wait than threads are free.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    # Imported code may have installed handlers of its own.
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(0))
    waitress.serve(application, host=host, port=int(port), threads=8, ident=None)


if __name__ == "__main__":
    main()
