# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Asking the rules through the front door: a family of one rule, an offer and a need."""

from collections.abc import Mapping
from typing import Any

from nova_devcompat.compat import judging, kinds, rules
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.verdict import Verdict

KINDS = {
    rule.kind: rule
    for rule in (
        kinds.Semver,
        kinds.Range,
        kinds.Superset,
        kinds.Equal,
        kinds.AtLeast,
        kinds.OneOf,
        kinds.Ordered,
        kinds.Accepts,
        kinds.Same,
        kinds.Origin,
    )
}

ATTRIBUTE = "attribute"


def rule_of(text: str) -> rules.Rule[Any, Any]:
    """The rule that ``range base=16`` stands for."""
    kind, *options = text.split()
    pairs = dict(option.split("=") for option in options)
    return KINDS[kind].from_options(
        {name: int(value) if value.isdecimal() else value for name, value in pairs.items()}
    )


def family_of(rule: rules.Rule[Any, Any]) -> Family:
    return Family(name="device", rules={ATTRIBUTE: rule})


def need_of(need: object) -> DeviceNeed:
    """A need of one attribute: one value, a list of values, or None where nothing is needed."""
    values = [] if need is None else need if isinstance(need, list) else [need]
    return DeviceNeed.of("device", {ATTRIBUTE: [str(value) for value in values]})


def judge(rule: rules.Rule[Any, Any], need: object, offer: object) -> Verdict:
    """The verdict of one rule."""
    attributes: Mapping[str, object] = {} if offer is None else {ATTRIBUTE: offer}
    return family_of(rule).offer(attributes).judge(need_of(need))


def judge_each(needs: Any, devices: Any, policy: Any) -> Verdict:
    """The verdicts on all needs as one."""
    return Verdict.all_of(judging.judge_each(needs, devices, policy))


def judge_claim(needs: Any, devices: Any, policy: Any) -> Verdict:
    return Verdict.all_of(judging.judge_claim(needs, devices, policy))


def judge_any_order(needs: Any, devices: Any) -> Verdict:
    return Verdict.all_of(judging.judge_any_order(needs, devices))
