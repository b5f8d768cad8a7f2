# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The shape of a catalog file. What a schema cannot say, the loader checks."""

from __future__ import annotations

from nova_devcompat.catalog.family import AttributeOf
from nova_devcompat.catalog.stages import MODES
from nova_devcompat.compat.family import Subject
from nova_devcompat.compat.orderings import ORDERINGS
from nova_devcompat.compat.policy import OnUnknown
from nova_devcompat.kit.document import META_SCHEMA, Schema

#: Versions of the format that this release reads.
VERSIONS = ("1.0",)

_TEXT = {"type": "string", "minLength": 1}

# Their order, and what is in ``from``, the loader checks.
_STAGES = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["from", "mode"],
        "additionalProperties": False,
        "properties": {"from": _TEXT, "mode": {"enum": [mode.value for mode in MODES]}},
    },
}

# What else stands beside ``kind`` in a rule is the rule's own affair: its class checks it.
_RULE = {
    "type": ["string", "object"],
    "minLength": 1,
    "required": ["kind"],
    "properties": {"kind": _TEXT, "stages": _STAGES},
}

# Where an attribute comes from: a source, or a source, what it is to read, and of what.
_ATTRIBUTE = {
    "type": ["string", "object"],
    "minLength": 1,
    "required": ["source"],
    "additionalProperties": False,
    "properties": {
        "source": _TEXT,
        "path": _TEXT,
        "attribute": _TEXT,
        "of": {"enum": [kind.value for kind in AttributeOf]},
    },
}

# A row of a host family's table: a use, and what it asks of the host.
_USE = {
    "type": "object",
    "required": ["xpath", "because", "source"],
    "additionalProperties": False,
    "properties": {
        "xpath": _TEXT,
        "requires": {"type": "object", "minProperties": 1, "additionalProperties": _TEXT},
        "takes": _TEXT,
        "own": _TEXT,
        "unversioned": _TEXT,
        "aliases": _TEXT,
        "because": _TEXT,
        "source": _TEXT,
    },
}

_FAMILY = {
    "type": "object",
    "required": ["match", "source", "rules"],
    "additionalProperties": False,
    "properties": {
        "subject": {"enum": [subject.value for subject in Subject]},
        "match": {"type": "object", "minProperties": 1, "additionalProperties": _TEXT},
        "source": _TEXT,
        "attributes": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": _ATTRIBUTE,
        },
        "rules": {"type": "object", "minProperties": 1, "additionalProperties": _RULE},
        "in_use": {"type": "object", "minProperties": 1, "additionalProperties": _TEXT},
        "needs": {"type": "array", "minItems": 1, "items": _USE},
        "mode": {"enum": [mode.value for mode in MODES]},
        "stages": _STAGES,
        "fallback": {"type": "boolean"},
        "on_unknown": {"enum": [choice.value for choice in OnUnknown]},
    },
}

# What a file changes of a policy, of a rule's too.
_RULE_POLICY = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": False,
    "properties": {
        "mode": {"enum": [mode.value for mode in MODES]},
        "on_unknown": {"enum": [choice.value for choice in OnUnknown]},
    },
}

_POLICY = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": False,
    "properties": {
        **_RULE_POLICY["properties"],  # type: ignore[dict-item]
        "rules": {"type": "object", "minProperties": 1, "additionalProperties": _RULE_POLICY},
    },
}

# One value of an attribute, a comparison, several that must all hold, or a list of such.
_CONDITION = {
    "type": ["string", "array"],
    "minLength": 1,
    "minItems": 1,
    "items": _TEXT,
}

_CONDITIONS = {"type": "object", "minProperties": 1, "additionalProperties": _CONDITION}

_KNOWN_BAD = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        # Which of need and origin an entry must have, its reader checks.
        "required": ["name", "family", "offer", "message", "url"],
        "additionalProperties": False,
        "properties": {
            "name": _TEXT,
            "family": _TEXT,
            "need": _CONDITIONS,
            "origin": _CONDITIONS,
            "offer": _CONDITIONS,
            "until": {
                "type": "object",
                "required": ["offer"],
                "additionalProperties": False,
                "properties": {"offer": _CONDITIONS},
            },
            "ordering": {"enum": list(ORDERINGS)},
            "message": _TEXT,
            "url": _TEXT,
        },
    },
}

#: The shape of a file that is a list of what is known not to work.
LIST_SCHEMA = Schema(
    {
        "type": "object",
        "required": ["meta", "known_bad"],
        "additionalProperties": False,
        "properties": {"meta": META_SCHEMA, "known_bad": _KNOWN_BAD},
    }
)

SCHEMA = Schema(
    {
        "type": "object",
        # Which of the others a file must have, the loader checks.
        "required": ["meta"],
        "additionalProperties": False,
        "properties": {
            "meta": META_SCHEMA,
            "families": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": _FAMILY,
            },
            "policies": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": _POLICY,
            },
            "known_bad": _KNOWN_BAD,
        },
    }
)
