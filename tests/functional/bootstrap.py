# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a process needs before Nova's own functional fixtures work from an installed wheel.

Nothing of Nova is imported at the top of this module: the order of imports is the point of it.
"""

import importlib
import os
import pathlib
import site
import sys

from tests.functional import older

#: Where Nova's fixtures look for the pipeline, relative to the folder that holds package ``nova``
#: (``$state_path`` defaults to it: nova/conf/paths.py, nova/tests/fixtures/conf.py).
_PASTE = pathlib.PurePath("etc", "nova", "api-paste.ini")


def prepare() -> None:
    """Choose the concurrency backend and put Nova's data files where its fixtures look.

    Idempotent. ``OS_NOVA_DISABLE_EVENTLET_PATCHING=true`` selects native threads, anything else
    eventlet (nova/monkey_patch.py:patch).

    :raises FileNotFoundError: when the installation has no api-paste.ini to link
    :raises RuntimeError: when it comes too late
    """
    early = "oslo_db" in sys.modules and uses_threads()
    older.choose_backend()
    importlib.import_module("nova.tests.functional")
    if early and not uses_threads():
        # Otherwise every test fails with "Can't upgrade a READER transaction to a WRITER
        # mid-transaction".
        raise RuntimeError(
            "oslo.db was imported before tests.functional: run tests/functional in a process of "
            "its own, or with OS_NOVA_DISABLE_EVENTLET_PATCHING=true"
        )
    link_api_paste()
    # Comes last: its imports are what the backend must be chosen before.
    importlib.import_module("tests.functional.quick").install(threads=uses_threads())


def link_api_paste() -> pathlib.Path:
    """Link api-paste.ini beside the nova package, where the wheel does not put it.

    :returns: the path at which Nova finds the file
    :raises FileNotFoundError: when no installation prefix has the file
    """
    nova = importlib.import_module("nova")
    expected = pathlib.Path(nova.__file__).parent.parent / _PASTE
    if expected.exists():
        return expected
    for prefix in (sys.prefix, site.getuserbase(), "/usr", "/"):
        installed = pathlib.Path(prefix) / _PASTE
        if installed.exists():
            break
    else:
        raise FileNotFoundError(
            f"Nova's {_PASTE} is neither at {expected} nor under {sys.prefix}; reinstall nova "
            "into this environment"
        )
    expected.parent.mkdir(parents=True, exist_ok=True)
    # Two test processes may come here at once: make the link aside, then rename it into place.
    aside = expected.with_name(f".{expected.name}.{os.getpid()}")
    aside.symlink_to(installed)
    aside.replace(expected)
    return expected


def uses_threads() -> bool:
    """Tell whether this process runs Nova on native threads rather than on eventlet."""
    # Not nova.monkey_patch.is_patched, which Nova 31 has not, and whose module patches there.
    patcher = sys.modules.get("eventlet.patcher")
    return not (patcher and patcher.is_monkey_patched("thread"))
