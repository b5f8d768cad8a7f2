# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Files that others read while they are written anew."""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import tempfile


def replace(path: str | os.PathLike[str], text: str, mode: int = 0o644) -> None:
    """Write a file, all or nothing, with the owner and the mode of the one that it replaces.

    Meanwhile it has a name that nobody knows beforehand, and is nobody else's to read.

    :param mode: of a file that is new; never more than that is left of one that is replaced
    :raises OSError: it cannot be written; nothing has changed then
    """
    target = pathlib.Path(path)
    handle, aside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            _make_alike(file.fileno(), target, mode)
        os.replace(aside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise


def _make_alike(handle: int, old: pathlib.Path, mode: int) -> None:
    """Give a file the owner and the mode of another, where there is one."""
    with contextlib.suppress(FileNotFoundError):
        found = old.stat()
        mode &= stat.S_IMODE(found.st_mode)
        # Whoever may not give files away owns both.
        with contextlib.suppress(PermissionError):
            os.fchown(handle, found.st_uid, found.st_gid)
    os.fchmod(handle, mode)
