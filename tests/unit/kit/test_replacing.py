# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A file is replaced whole, and nobody can read or write it who could not before."""

import os
import stat

import pytest

from nova_devcompat.kit.replacing import replace


@pytest.fixture(autouse=True)
def no_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("before", "after"), [(None, 0o644), (0o600, 0o600), (0o640, 0o640), (0o666, 0o644)]
)
def test_modes(tmp_path, before, after):
    path = tmp_path / "file"
    if before is not None:
        path.write_text("old, and longer")
        path.chmod(before)
    replace(path, "new\u2013")
    assert path.read_text(encoding="utf-8") == "new\u2013"
    assert mode_of(path) == after
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(tmp_path):
    """An operator is root, and the service is not."""
    path = tmp_path / "file"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    replace(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


def test_what_somebody_has_put_beside_it_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("x")
    for name in ("file.new", ".file."):
        (tmp_path / name).symlink_to(victim)
    replace(tmp_path / "file", "new")
    assert victim.read_text() == "x"


def test_one_that_cannot_be_written(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        replace(path, "\udcff")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(FileNotFoundError):
        replace(tmp_path / "no" / "file", "new")
