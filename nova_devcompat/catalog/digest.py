# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What tells whether two processes have the same catalog."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from nova_devcompat.catalog.family import (
    NOTHING_STATED,
    AttributeOf,
    AttributeSource,
    CatalogFamily,
    RulePolicy,
)
from nova_devcompat.compat.knownbad import Asked
from nova_devcompat.compat.rules import Rule


def digest_of(families: Mapping[str, CatalogFamily], of_all: RulePolicy = NOTHING_STATED) -> str:
    """Twelve hexadecimal digits of what families decide, see :class:`Catalog`.

    :param of_all: what is stated of the policy of what concerns no family by name
    """
    content: dict[str, dict[str, object]] = {
        name: {
            "match": dict(family.match),
            "source": family.source,
            "mode": family.mode,
            "on_unknown": family.on_unknown,
            "rules": {
                attribute: [rule.kind, _options(rule)]
                for attribute, rule in family.family.rules.items()
            },
        }
        for name, family in families.items()
    }
    for name, family in families.items():
        others = {
            attribute: _origin(one)
            for attribute, one in family.attributes.items()
            if one != AttributeSource(source=family.source)
        }
        # Left out where there are none: hosts of a release that has no such key have this digest.
        if others:
            content[name]["attributes"] = others
        if family.in_use:
            content[name]["in_use"] = dict(family.in_use)
        stages = {"": family.stages, **family.rule_stages}
        if any(stages.values()):
            content[name]["stages"] = {
                subject: [[stage.when, stage.mode] for stage in each]
                for subject, each in stages.items()
            }
        if family.fallback:
            content[name]["fallback"] = True
        if family.rule_policies:
            content[name]["policies"] = {
                attribute: [one.mode, one.on_unknown]
                for attribute, one in family.rule_policies.items()
            }
        if family.family.known_bad.entries:
            content[name]["known_bad"] = [
                # What goes wrong, and who says so, does not count.
                [
                    *(one.name, one.need, one.condition.texts, one.by),
                    *(_asked(one.offer), _asked(one.until)),
                ]
                for one in family.family.known_bad.entries
            ]
        if family.of_host:
            content[name]["subject"] = family.family.subject
            content[name]["needs"] = [
                # Why, and who says so, does not count.
                [use.xpath, use.takes, use.aliases, _sorted(use.requires)]
                + [part for part in (use.own, use.unversioned) if part]
                for use in family.needs
            ]
    if of_all != NOTHING_STATED:
        content["*"] = {"mode": of_all.mode, "on_unknown": of_all.on_unknown}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _asked(conditions: Iterable[Asked]) -> list[list[object]]:
    return [[one.attribute, one.condition.texts, one.by] for one in conditions]


def _origin(one: AttributeSource) -> list[str | None]:
    """Where an attribute comes from; what earlier releases have not is left out where unused."""
    told: list[str | None] = [one.source, one.path]
    if one.attribute or one.of_function:
        told.append(one.attribute)
    if one.of_function:
        told.append(AttributeOf.FUNCTION)
    return told


def _options(rule: Rule[Any, Any]) -> str:
    """The options of a rule, which are the fields of its dataclass, as its repr names them.

    One that earlier releases have not is left out where it is its default.
    """
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(rule)  # type: ignore[arg-type]
    later = {one.name for one in fields if "since" in one.metadata}
    named = [
        f"{one.name}={getattr(rule, one.name)!r}"
        for one in fields
        if one.name not in later or getattr(rule, one.name) != one.default
    ]
    return f"{type(rule).__name__}({', '.join(named)})" if later else repr(rule)


def _sorted(values: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    return {attribute: sorted(listed) for attribute, listed in values.items()}
