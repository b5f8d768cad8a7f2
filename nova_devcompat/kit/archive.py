# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""An archive of texts that nobody but its owner can read."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import tarfile
import time
from collections.abc import Iterable, Iterator


class Archive:
    """A compressed tar file that is being written.

    :param tar: the file
    :param folder: what everything in it is in
    """

    def __init__(self, tar: tarfile.TarFile, folder: str) -> None:
        self._tar = tar
        self._folder = folder

    def add(self, name: str, lines: Iterable[str]) -> None:
        """Add a text.

        :param name: its path in the archive
        :param lines: the text in pieces; all of it is in memory while it is written
        """
        content = "".join(lines).encode("utf-8", "backslashreplace")
        entry = tarfile.TarInfo(f"{self._folder}/{name}")
        entry.size = len(content)
        entry.mode = 0o600
        entry.mtime = int(time.time())
        self._tar.addfile(entry, io.BytesIO(content))


@contextlib.contextmanager
def new_archive(path: pathlib.Path, folder: str) -> Iterator[Archive]:
    """A new archive, of mode 0600 from the first moment on; removed where the block fails.

    :param path: where it will be
    :param folder: what everything in it is in
    :raises FileExistsError: something is there already, be it a link
    :raises OSError: it cannot be written
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
            yield Archive(tar, folder)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
