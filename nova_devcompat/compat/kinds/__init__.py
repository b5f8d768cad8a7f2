# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The kinds of rules that come with nova-devcompat."""

from collections.abc import Mapping
from typing import Any

from nova_devcompat.compat.kinds.floor import Floor
from nova_devcompat.compat.kinds.ordered import Ordered
from nova_devcompat.compat.kinds.origin import Origin
from nova_devcompat.compat.kinds.same import Same, Undecided
from nova_devcompat.compat.kinds.sets import OneOf, Superset
from nova_devcompat.compat.kinds.values import AtLeast, Equal
from nova_devcompat.compat.kinds.versions import Accepts, Range, Semver
from nova_devcompat.compat.rules import Rule

__all__ = [
    "BY_NAME",
    "Accepts",
    "AtLeast",
    "Equal",
    "Floor",
    "OneOf",
    "Ordered",
    "Origin",
    "Range",
    "Same",
    "Semver",
    "Superset",
    "Undecided",
]

#: The kinds, by the names that a catalog uses.
BY_NAME: Mapping[str, type[Rule[Any, Any]]] = {
    kind.kind: kind
    for kind in (
        Accepts,
        AtLeast,
        Equal,
        Floor,
        OneOf,
        Ordered,
        Origin,
        Range,
        Same,
        Semver,
        Superset,
        Undecided,
    )
}
