# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading ``rules``: the kind of each, and its options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nova_devcompat.catalog.names import check_name
from nova_devcompat.compat import rules
from nova_devcompat.kit import plugins
from nova_devcompat.kit.section import Section

AnyRule = rules.Rule[Any, Any]


class RuleKinds:
    """Makes rules of what a catalog says, and loads the class of each kind but once."""

    def __init__(self) -> None:
        # mypy allows no abstract class as a value of type[T] (python/mypy#4717).
        self._registered: plugins.Plugins[AnyRule] = plugins.Plugins(
            plugins.RULES,
            rules.Rule,  # type: ignore[type-abstract]
            rules.API_VERSION,
        )
        self._classes: dict[str, type[AnyRule] | plugins.PluginError] = {}

    def read(self, family: Section) -> dict[str, AnyRule]:
        """The rules of a family that can be had, by attribute."""
        made: dict[str, AnyRule] = {}
        for attribute, stated in family.mapping("rules").items():
            check_name(stated)
            rule = self._rule(stated)
            if rule is not None:
                made[attribute] = rule
        return made

    def _rule(self, stated: Section) -> AnyRule | None:
        options = dict(stated.value) if isinstance(stated.value, dict) else {"kind": stated.value}
        kind = options.pop("kind", None)
        options.pop("stages", None)
        if not isinstance(kind, str) or not kind:
            return None  # the schema says so
        rule_class = self._class(kind)
        if isinstance(rule_class, plugins.PluginError):
            stated.problem(f"rule kind {rule_class}")
            return None
        bad = [value for option in options for value in _no_values(stated.at(option))]
        for value in bad:
            value.ask_for_quotes()
        if bad:
            return None
        try:
            return rule_class.from_options(options)
        except Exception as error:  # noqa: BLE001  it is anybody's plugin
            stated.problem(str(error) or repr(error))
            return None

    def _class(self, kind: str) -> type[AnyRule] | plugins.PluginError:
        if kind not in self._classes:
            try:
                self._classes[kind] = self._registered.load(kind)
            except plugins.PluginError as error:
                self._classes[kind] = error
        return self._classes[kind]


def _no_values(option: Section) -> Iterator[Section]:
    """What in an option can be none: a number with a point, a date, null."""
    if isinstance(option.value, dict | list):
        for inner in (*option.items().values(), *option.elements()):
            yield from _no_values(inner)
    elif not isinstance(option.value, str | int):
        yield option
