# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Run tests that failed once more, alone, to tell what is broken from what happens now and then.

    python -m rigs.again FOLDER SUITE...

reads FOLDER/SUITE.xml, as pytest wrote it, for each suite whose run ended because tests failed. A
test that passes now is no reason to refuse a change that has nothing to do with it, but a fault
all the same: it is named, here and in FOLDER/unstable.txt. Many that fail are not run again.
"""

from __future__ import annotations

import pathlib
import shlex
import subprocess
import sys
from collections.abc import Sequence

from rigs import interrupts, junit, venvs

#: More failed tests than this in all suites have one cause, which the second run would meet too.
MOST = 3
#: Among the results: "SUITE: TEST" of each test that passed when it was run again.
UNSTABLE = "unstable.txt"
#: What runs a test of the suites that tools/test.sh does not run, or not as they are.
_COMMANDS = {
    "e2e": ("tools/cloud", "test"),
    "libvirt": ("tools/cloud", "test", "--libvirt"),
    "eventlet": ("tools/test.sh", "--eventlet"),
}
_COMMAND = ("tools/test.sh",)
#: The suite whose tests must together run every branch, which some of them alone do not show.
_WHOLE = "core"


class NotFound(Exception):
    """A test's name in JUnit XML leads to no file."""


def node_id(name: str, root: pathlib.Path) -> str:
    """What pytest calls a test that JUnit XML calls ``package.module.Class.test``.

    :raises NotFound: no part of the name is a file under ``root``
    """
    # What a test is drawn from may have dots of its own.
    plain, bracket, drawn = name.partition("[")
    parts = plain.split(".")
    for end in range(len(parts) - 1, 0, -1):
        path = pathlib.Path(*parts[:end]).with_suffix(".py")
        if (root / path).is_file():
            return "::".join([path.as_posix(), *parts[end:]]) + bracket + drawn
    raise NotFound(name)


def run(folder: pathlib.Path, suites: Sequence[str]) -> int:
    """Run what failed again.

    :returns: 0 if tests had failed and all of them pass now, else 1
    """
    failed = {suite: sorted(set(junit.failed(folder / f"{suite}.xml"))) for suite in suites}
    failed = {suite: names for suite, names in failed.items() if names}
    number = sum(map(len, failed.values()))
    if not 0 < number <= MOST or _WHOLE in failed:
        return 1
    print(f"\n=== again, alone: what failed ({number})", flush=True)
    passed = [_run_suite(suite, names) for suite, names in failed.items()]
    if not all(passed):
        return 1
    lines = [f"{suite}: {name}\n" for suite, names in failed.items() for name in names]
    with (folder / UNSTABLE).open("a") as unstable:
        unstable.writelines(lines)
    print("".join(f"UNSTABLE, passed when it was run again: {line}" for line in lines), end="")
    return 0


def _run_suite(suite: str, names: Sequence[str]) -> bool:
    try:
        nodes = [node_id(name, venvs.ROOT) for name in names]
    except NotFound as error:
        print(f"{suite}: no file has the test {error}, so it was not run again")
        return False
    command = [*_COMMANDS.get(suite, _COMMAND), *nodes]
    print(shlex.join(command), flush=True)
    return subprocess.run(command, cwd=venvs.ROOT, check=False).returncode == 0


def main(argv: Sequence[str] | None = None) -> int:
    folder, *suites = sys.argv[1:] if argv is None else argv
    return run(pathlib.Path(folder), suites)


if __name__ == "__main__":
    sys.exit(interrupts.run(main))
