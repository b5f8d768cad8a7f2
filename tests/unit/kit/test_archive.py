# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""An archive is its owner's alone, replaces nothing, and is whole or not there."""

import os
import stat
import tarfile

import pytest

from nova_devcompat.kit.archive import new_archive


def test_what_is_in_it(tmp_path):
    path = tmp_path / "a.tar.gz"
    before = os.umask(0)
    try:
        with new_archive(path, "folder") as archive:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            archive.add("a/b.txt", ["ä\n", "\udcff"])
            archive.add("empty", [])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as tar:
        assert tar.getnames() == ["folder/a/b.txt", "folder/empty"]
        assert {entry.mode for entry in tar.getmembers()} == {0o600}
        assert tar.extractfile("folder/a/b.txt").read() == "ä\n\\udcff".encode()


def test_nothing_is_replaced(tmp_path):
    there, link = tmp_path / "there", tmp_path / "link"
    there.write_text("x")
    link.symlink_to(tmp_path / "elsewhere")
    for path in (there, link):
        with pytest.raises(FileExistsError), new_archive(path, "folder"):
            pass
    assert there.read_text() == "x"
    assert not (tmp_path / "elsewhere").exists()


def test_one_that_fails_is_not_left(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(ZeroDivisionError), new_archive(path, "folder") as archive:
        archive.add("x", ["y"])
        raise ZeroDivisionError
    assert not path.exists()
