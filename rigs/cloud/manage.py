# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Run commands of nova-manage one after the other; runs in the cloud's virtual environment.

python manage.py < COMMANDS, which are a list in JSON: [{"arguments": ["api_db", "sync"],
"accept": [0], "done": "/a/file/to/touch"}, ...]

Nova's modules take seconds to import, so this is done once: each command is a fork.
"""

import json
import os
import pathlib
import sys

from nova.cmd.manage import main as nova_manage


def main() -> int:
    for command in json.load(sys.stdin):
        child = os.fork()
        if child == 0:
            # As the script nova-manage does.
            sys.argv[:] = ["nova-manage", *command["arguments"]]
            sys.exit(nova_manage())
        _, ended = os.waitpid(child, 0)
        status = os.waitstatus_to_exitcode(ended)
        if status not in command["accept"]:
            # Arguments can have passwords.
            words = [one for one in command["arguments"] if "://" not in one]
            print(f"nova-manage {' '.join(words)} has ended with {status}", flush=True)
            return 1
        pathlib.Path(command["done"]).touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
