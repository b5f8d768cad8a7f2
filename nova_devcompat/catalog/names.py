# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The names in a catalog, of which traits are made."""

from __future__ import annotations

import os_traits

from nova_devcompat.compat import traits
from nova_devcompat.kit.section import Section


def check_name(section: Section) -> bool:
    """Whether the key of a section is a name; report it if not."""
    try:
        traits.check_name(section.name)
    except ValueError as error:
        # os-traits turns any text into a trait, but not back: a remedy, not an answer.
        trait = os_traits.normalize_name(section.name).removeprefix(os_traits.CUSTOM_NAMESPACE)
        remedy = trait.lstrip("_0123456789").rstrip("_").lower()
        advice = f"; for example {remedy!r}" if remedy else ""
        section.problem(f"{error}, as traits need it{advice}")
        return False
    return True


def check_lengths(family: Section) -> None:
    """Report names that leave no room for even one character of a value."""
    for attribute, rule in family.mapping("rules").items():
        try:
            traits.encode(traits.Atom(family.name, attribute, "0"))
        except traits.TraitTooLong:
            room = traits.MAX_LENGTH - len(traits.PREFIX) - 2 * len("__") - 1
            rule.problem(
                "no trait can be made: family and attribute have "
                f"{len(family.name) + len(attribute)} characters, {room} are allowed"
            )
        except ValueError:
            pass  # no name: reported by its place
