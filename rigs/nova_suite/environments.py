# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The virtual environments of tools/nova-suite.sh: Nova, and Nova with our wheel beside it.

Nothing of our tree is on their path, unlike in those of tools/test.sh.
"""

import pathlib

from rigs import releases, venvs

#: What is installed beside Nova and Placement, by variant.
REQUIREMENTS = {
    "stock": ("test-requirements.txt",),
    "ours": ("requirements.txt", "test-requirements.txt"),
}


def environment(variant: str, release: releases.Release) -> venvs.Environment:
    """The environment of a variant, a key of :data:`REQUIREMENTS`."""
    return venvs.Environment(
        name=f"nova-suite-{release.name}-{variant}",
        requirements=REQUIREMENTS[variant],
        constraints=release.constraints,
        project=venvs.Project.WHEEL if variant == "ours" else venvs.Project.NONE,
    )


def ensure(variant: str, release: releases.Release) -> pathlib.Path:
    """Make an environment unless it is there and current; ours has a wheel built from the tree.

    :returns: the path of its python
    :raises venvs.InstallError: when pip fails; the next call starts afresh
    """
    made = environment(variant, release)
    python = venvs.ensure(made)
    # Nova's fixtures look for etc/nova/api-paste.ini beside its package (nova/conf/paths.py).
    (site_packages,) = made.path.glob("lib/python*/site-packages")
    link = site_packages / "etc"
    if not link.is_symlink():
        link.symlink_to(made.path / "etc", target_is_directory=True)
    return python
