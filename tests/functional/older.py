# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What Nova before 34, or its test helpers, do otherwise.

Nothing of Nova is imported at the top: bootstrap comes here before it has chosen the backend. Each
part says when it can go.
"""

import importlib
import importlib.metadata
import importlib.util
from typing import Any

#: Major version of the Nova that is tested.
NOVA = int(importlib.metadata.version("nova").partition(".")[0])


def choose_backend() -> None:
    """Choose the concurrency backend, which must come before any other module of Nova.

    Can go when Nova 32 is no longer supported: from 33 on nova.tests.functional does it, as its
    first statement.
    """
    monkey_patch = importlib.import_module("nova.monkey_patch")
    # Nova 31 has patched by now, and has no such function.
    if hasattr(monkey_patch, "patch"):
        monkey_patch.patch()


def quick_stop() -> dict[str, int]:
    """Options with which a nova-compute stops without waiting for what is going on.

    Can go when Nova 32 is no longer supported: it does not wait, and has no such options.
    """
    if NOVA < 33:
        return {}
    return {"manager_shutdown_timeout": 0, "graceful_shutdown_timeout": 1}


def possible_vgpus(parents: list[str]) -> list[list[str]]:
    """What a guest with a vGPU allocated from each of these can get: the parents of its mdevs.

    Can go when Nova 32 is no longer supported: its libvirt driver looks at the first allocation
    only, in no certain order (LibvirtDriver._allocate_mdevs), and says so in a WARNING.
    """
    return [parents] if NOVA >= 33 else [[parent] for parent in parents]


def pools() -> dict[str, Any]:
    """Nova's pools of tasks by their names.

    Can go when Nova 33 is no longer supported: it has no factory of them, and runs here on
    eventlet alone, where a task that is left is seen as what it does.
    """
    if importlib.util.find_spec("nova.thread_pool_factory") is None:
        return {}
    factory = importlib.import_module("nova.thread_pool_factory").FACTORY
    return {kind.value: executor for kind, executor in list(factory._all_executors.items())}


def end_pools() -> None:
    """End Nova's pools of tasks. Can go as above."""
    if importlib.util.find_spec("nova.thread_pool_factory") is not None:
        importlib.import_module("nova.thread_pool_factory").reset_all_executors()
