#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

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
