# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Names of QEMU's machine types: which of them promise that a guest can migrate.

QEMU keeps a type with a version the same from release to release (docs/devel/migration/
compatibility.rst of QEMU). One without is another machine on another QEMU: microvm, or virt of
riscv64 and loongarch64; and an alias, such as q35, stands for another type on another host.
"""

from __future__ import annotations

import re

# QEMU's own have a version (pc-q35-8.2); distributions have theirs (pc-q35-rhel9.4.0, rhel6.6.0),
# or their release's name behind one of the types that have versions (pc-q35-noble,
# s390-ccw-virtio-jammy, pc-i440fx-bionic-hpb).
_VERSIONED = re.compile(
    r"(?:.*-)?(?:rhel)?[0-9]+\.[0-9.]+(?:-.*)?"
    r"|(?:pc-i440fx|pc-q35|pc|q35|virt|pseries|s390-ccw-virtio|spapr)-[a-z0-9][a-z0-9.-]*"
)
_BASES = frozenset({"pc-i440fx", "pc-q35", "s390-ccw-virtio"})


def is_versioned(name: str) -> bool:
    """Whether the name of a machine type says which version of it that is."""
    return name not in _BASES and bool(_VERSIONED.fullmatch(name))
