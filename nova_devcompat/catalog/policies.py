# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading ``policies``: what a file changes of policies without repeating the families."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from nova_devcompat.catalog.family import NOTHING_STATED, CatalogFamily, RulePolicy
from nova_devcompat.catalog.stages import Stages
from nova_devcompat.compat.policy import Mode, OnUnknown
from nova_devcompat.kit.section import Section
from nova_devcompat.kit.text import near

#: What stands for all families, and for what concerns none by name.
ALL = "*"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StatedPolicy:
    """What a file says of the policy of one family, or of all.

    :param own: mode and ``on_unknown``, None where they stay as they are
    :param rules: the same for single attributes, by name
    :param section: where it stands
    """

    own: RulePolicy
    rules: Mapping[str, RulePolicy]
    section: Section

    @property
    def name(self) -> str:
        """The family's, or :data:`ALL`."""
        return self.section.name

    def over(self, family: CatalogFamily) -> CatalogFamily:
        """A family under this policy. A mode takes the place of stages, too."""
        mode = self.own.mode
        stages: Stages = ()
        if mode is None:
            mode, stages = family.mode, family.stages
        return dataclasses.replace(
            family,
            mode=mode,
            stages=stages,
            on_unknown=self.own.on_unknown or family.on_unknown,
            rule_policies={
                **family.rule_policies,
                **{
                    name: stated.over(family.rule_policies.get(name, NOTHING_STATED))
                    for name, stated in self.rules.items()
                },
            },
        )


def read_policies(root: Section) -> list[StatedPolicy]:
    """The policies that a file states, what it says of all families first."""
    stated = [
        StatedPolicy(
            own=_read(section),
            rules={name: _read(rule) for name, rule in section.mapping("rules").items()},
            section=section,
        )
        for section in root.mapping("policies").values()
    ]
    for one in stated:
        if one.name == ALL and one.rules:
            one.section.problem("names no rules: families have unlike ones", "rules")
    return sorted(stated, key=lambda one: one.name != ALL)


def listed(families: Sequence[str]) -> str:
    """What families there are, and where more may come from if there are none."""
    if families:
        return f"there are: {', '.join(families)}"
    return "there are none; packs are named with [devcompat] packs or --pack"


def _read(section: Section) -> RulePolicy:
    mode, on_unknown = section.text("mode"), section.text("on_unknown")
    # Of what is none of these the schema says so.
    return RulePolicy(
        mode=Mode(mode) if mode in (Mode.ENFORCE, Mode.REPORT) else None,
        on_unknown=OnUnknown(on_unknown) if on_unknown in list(OnUnknown) else None,
    )


def check_policy(stated: StatedPolicy, families: Mapping[str, CatalogFamily | None]) -> None:
    """Report a policy of a family or a rule that there is not.

    :param families: all by name, None for those that are wrong
    """
    if stated.name == ALL:
        return
    if stated.name not in families:
        names = sorted(families)
        stated.section.problem(
            f"no file or pack has the family {stated.name!r}; {listed(names)}"
            + near(stated.name, names)
        )
        return
    family = families[stated.name]
    if family is None:
        return
    rules = sorted({**family.family.rules, **family.implied})
    for name in stated.rules:
        if name not in rules:
            stated.section.problem(
                f"family {stated.name} has no rule {name!r}; it has: {', '.join(rules)}"
                + near(name, rules),
                "rules",
                name,
            )
