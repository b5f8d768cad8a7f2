# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading files of sysfs: bounded, and knowing at any time which one is asked."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
from collections.abc import Iterable

ROOT = "/sys"

#: More of a file than any text in sysfs has is not read.
MAX_BYTES = 64 * 1024

#: How many files one pattern may name: more than a device has functions.
MAX_FILES = 1024


PCI = "bus/pci/devices"
DRIVERS = "bus/pci/drivers"
MDEV = "class/mdev_bus"


_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO})

_ADVICE = {
    errno.EACCES: "let the user that nova-compute runs as read it",
    errno.EPERM: "let the user that nova-compute runs as read it",
    errno.EISDIR: "name a file, not a folder",
    errno.ELOOP: "name a file, not a loop of links",
    errno.EMFILE: "raise the limit of open files",
}


class CannotRead(Exception):
    """A file that cannot be read, or not understood; the message says what to do."""


class NotThere(CannotRead):
    """A file that does not exist, perhaps not any more."""


class Reader:
    """Reads files of sysfs, and knows at any time which.

    :param root: where sysfs is mounted
    :param hung: files that are not asked because an earlier question still hangs
    """

    def __init__(self, root: str | os.PathLike[str] = ROOT, hung: Iterable[str] = ()) -> None:
        self.root = os.fspath(root)
        self.at = ""
        self._hung = frozenset(hung)

    def text(self, path: str) -> str:
        """The text of a file, without white space around it.

        :raises CannotRead: and why
        """
        self._go(path)
        try:
            descriptor = os.open(f"{self.root}/{path}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(descriptor, MAX_BYTES + 1)
                # An attribute comes whole (fs/seq_file.c), a binary file may come in pieces.
                while len(data) <= MAX_BYTES:
                    more = os.read(descriptor, MAX_BYTES + 1 - len(data))
                    if not more:
                        break
                    data += more
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _cannot_read(path, error) from None
        try:
            return decode(data)
        except ValueError as error:
            raise CannotRead(f"{path} {error}") from None

    def link(self, path: str) -> str | None:
        """The last part of what a link points to; None where there is no such link.

        :raises CannotRead: and why
        """
        self._go(path)
        try:
            return os.path.basename(os.readlink(f"{self.root}/{path}"))
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise _cannot_read(path, error) from None

    def entries(self, path: str) -> dict[str, int]:
        """The names in a folder, each with its inode number.

        Numbers of sysfs are handed out in turn (fs/kernfs/dir.c), so an entry that was taken away
        and made again has another one.

        :raises CannotRead: and why
        """
        self._go(path)
        try:
            with os.scandir(f"{self.root}/{path}") as found:
                return {entry.name: entry.inode() for entry in found}
        except OSError as error:
            raise _cannot_read(path, error) from None

    def inode(self, path: str) -> int | None:
        """The inode number of a file or folder, through links; None where it is not there.

        :raises CannotRead: it hangs
        """
        self._go(path)
        try:
            return os.stat(f"{self.root}/{path}").st_ino
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        """Whether something has this name, be it a link to nothing.

        :raises CannotRead: it hangs
        """
        self._go(path)
        return os.path.lexists(f"{self.root}/{path}")

    def _go(self, path: str) -> None:
        if path in self._hung:
            raise CannotRead(f"{path} gives no answer; look for its driver's trouble in dmesg")
        self.at = path


def _cannot_read(path: str, error: OSError) -> CannotRead:
    code = error.errno or 0
    advice = _ADVICE.get(code, "look for its driver's trouble in dmesg")
    kind = NotThere if code in _GONE else CannotRead
    return kind(f"{path} cannot be read: {os.strerror(code)}; {advice}")


def expand(reader: Reader, folder: str, pattern: str) -> list[str]:
    """The paths under a folder that a pattern names, sorted; none where there are none.

    :param pattern: relative; ``*``, ``?`` and ``[...]`` in any part, as :mod:`fnmatch` takes them
    :raises CannotRead: a folder on the way is there and cannot be read, or there are too many
    """
    paths = [folder]
    for part in pattern.split("/"):
        if not is_wild(part):
            paths = [f"{path}/{part}" for path in paths]
            continue
        found: list[str] = []
        for path in paths:
            with contextlib.suppress(NotThere):
                names = fnmatch.filter(sorted(reader.entries(path)), part)
                found.extend(f"{path}/{name}" for name in names)
            if len(found) > MAX_FILES:
                raise CannotRead(
                    f"{folder}/{pattern} names more than {MAX_FILES} files; write a narrower one"
                )
        paths = found
    return paths


def is_wild(pattern: str) -> bool:
    """Whether a pattern can name several files."""
    return any(character in pattern for character in "*?[")


# Parsing.


def decode(data: bytes) -> str:
    """The text in a file's content, without white space around it.

    :raises ValueError: there is none, or what is there is no text
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"holds more than {MAX_BYTES // 1024} KiB, which no version has")
    try:
        text = data.rstrip(b"\0").decode().strip()
    except UnicodeDecodeError:
        raise ValueError("is not text but binary") from None
    if not text:
        raise ValueError("is empty")
    if not all(character.isprintable() or character in "\n\t" for character in text):
        raise ValueError("is not text but binary")
    return text
