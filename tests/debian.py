# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Packages of the distribution that tests need, installed where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence


def install(packages: Sequence[str], timeout: float = 600) -> str:
    """Install packages with apt-get; the reason why not, else an empty text.

    :param timeout: in seconds, of each step
    """
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return "only root can install it, with apt-get"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (
            ["apt-get", "-q", "update"],
            ["apt-get", "-qy", "install", "--no-install-recommends", *packages],
        ):
            subprocess.run(
                command,
                env=environment,
                check=True,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
    except subprocess.SubprocessError as error:
        return f"{error}: {getattr(error, 'stderr', '')}"
    return ""
