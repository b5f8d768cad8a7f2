# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The types of attributes, and whether a rule can read one."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.kinds.values import Equal
from nova_devcompat.compat.rules import Rule


class AttributeType(enum.StrEnum):
    """What a source makes of an attribute."""

    TEXT = "text"
    INTEGER = "integer"
    #: A list of texts.
    LIST = "list"
    #: ``{min: ..., max: ...}``
    RANGE = "range"
    #: Texts by name, such as what each type of mdev is called.
    MAPPING = "mapping"

    @property
    def described(self) -> str:
        """It with its article."""
        return f"an {self.value}" if self is AttributeType.INTEGER else f"a {self.value}"


# Of each type some values, of which a rule that can read the type can read one.
_SAMPLES: Mapping[AttributeType, tuple[object, ...]] = {
    AttributeType.TEXT: ("1.0", "0x1f", "1"),
    AttributeType.INTEGER: (1,),
    AttributeType.LIST: (["1"], ["0x1f"]),
    AttributeType.RANGE: ({"min": "1.0", "max": "2.0"},),
    AttributeType.MAPPING: ({"nvidia-222": "1"},),
}


def reads(rule: Rule[Any, Any], kind: AttributeType) -> bool:
    """Whether a rule can read attributes of a type."""
    # One that knows all texts that there are reads none of these.
    choices = rule.choices if isinstance(rule, Equal) and kind is AttributeType.TEXT else ()
    for sample in (*_SAMPLES[kind], *choices):
        try:
            rule.parse_offer(sample)
        except Unreadable:
            continue
        except Exception:  # noqa: BLE001  it is anybody's plugin, and what it reads it says then
            return True
        return True
    return False
