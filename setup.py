# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

import os
import subprocess

import setuptools


def _git_knows_us() -> bool:
    try:
        # Fails too when the clone belongs to someone else ("dubious ownership").
        git = subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True)
    except OSError:
        return False
    return git.returncode == 0


# pbr takes the version from git or from an sdist's PKG-INFO. A tree that has neither, such as an
# unpacked archive, builds as 0.0.0 rather than not at all.
if not os.path.exists("PKG-INFO") and not _git_knows_us():
    os.environ.setdefault("PBR_VERSION", "0.0.0")

setuptools.setup(
    setup_requires=["pbr>=6.1.0"],
    pbr=True,
    # Found, not listed, so that no room is forgotten. Namespace packages are included because
    # folders that hold only data are such.
    packages=[
        "nova.virt.devcompat",
        *setuptools.find_namespace_packages(
            include=["nova_devcompat", "nova_devcompat.*"], exclude=["*.__pycache__"]
        ),
    ],
)
