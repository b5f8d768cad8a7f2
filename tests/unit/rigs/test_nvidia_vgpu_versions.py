# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The table of NVIDIA's vGPU versions is what its script makes of headers."""

import subprocess

import pytest
import yaml

from nova_devcompat.catalog import nvidia
from rigs import nvidia_vgpu_versions as script

HEADER = """
#define NV_VGPU_MIN_SUPPORTED_GRIDSW_VERSION_EXTERNAL_MAJOR  {}
#define NV_VGPU_MIN_SUPPORTED_GRIDSW_VERSION_EXTERNAL_MINOR  0x1
#define NV_VGPU_MAX_SUPPORTED_GRIDSW_VERSION_EXTERNAL_MAJOR  {}
#define NV_VGPU_MAX_SUPPORTED_GRIDSW_VERSION_EXTERNAL_MINOR  0x01
"""


def test_a_clone_makes_the_table(tmp_path):
    def git(*arguments):
        name = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", "-C", tmp_path, *name, *arguments], check=True, capture_output=True)

    git("init", "-q")
    for release, lowest, highest in (
        ("515.65.01", None, None),
        ("550.9.7", "0x7", "0x14"),
        ("550.40.07", "0x7", "0x14"),
        ("550.54.14", "0x7", "0x15"),
        ("551.1", "0x7", "0x15"),
        ("580.65.06", "0x12", "0x1a"),
    ):
        older, newer = (tmp_path / name for name in script.HEADERS)
        header = newer if release > "551" else older
        if header is newer and older.exists():
            git("rm", "-q", str(older))
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text("" if lowest is None else HEADER.format(lowest, highest))
        git("add", ".")
        git("commit", "-q", "-m", release, "--allow-empty")
        git("tag", release)
    git("tag", "not-a-release")
    made = yaml.safe_load(script.table(script.read(tmp_path)))
    assert made["releases"] == [
        {"first": "550.9.7", "last": "550.40.07", "min": "7.1", "max": "14.1"},
        {"first": "550.54.14", "last": "550.54.14", "min": "7.1", "max": "15.1"},
        {"first": "551.1", "last": "551.1", "min": "7.1", "max": "15.1"},
        {"first": "580.65.06", "last": "580.65.06", "min": "12.1", "max": "1A.1"},
    ]


def test_a_header_that_has_moved_is_said(tmp_path):
    def git(*arguments):
        name = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", "-C", tmp_path, *name, *arguments], check=True, capture_output=True)

    git("init", "-q")
    git("commit", "-q", "-m", "x", "--allow-empty")
    git("tag", "610.1")
    with pytest.raises(ValueError, match=r"610\.1 has none of .*vgpu_version\.h"):
        list(script.read(tmp_path))


def test_what_is_shipped_is_of_the_scripts_making():
    ends = [
        (release, (span.lowest, span.highest))
        for span in nvidia.spans()
        for release in (span.first, span.last)
    ]
    assert script.table(ends) == nvidia.TABLE.read_text()
