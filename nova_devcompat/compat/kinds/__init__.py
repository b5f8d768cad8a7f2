# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The kinds of rules that come with nova-devcompat."""

from nova_devcompat.compat.kinds.ordered import Ordered
from nova_devcompat.compat.kinds.sets import OneOf, Superset
from nova_devcompat.compat.kinds.undecided import Undecided
from nova_devcompat.compat.kinds.values import AtLeast, Equal
from nova_devcompat.compat.kinds.versions import Accepts, Range, Semver

__all__ = [
    "Accepts",
    "AtLeast",
    "Equal",
    "OneOf",
    "Ordered",
    "Range",
    "Semver",
    "Superset",
    "Undecided",
]
