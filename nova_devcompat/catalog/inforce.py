# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which family and which policy is in force, and what file says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from nova_devcompat.catalog.family import CatalogFamily
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.catalog.origin import Origin
from nova_devcompat.catalog.stages import Moment
from nova_devcompat.compat.policy import Mode, Policy

LOG = logging.getLogger(__name__)


def told(catalog: Catalog, default: Policy | None, moment: Moment) -> Iterator[str]:
    """A line for each family: its policy today, where it comes from, and what it overrides.

    :param default: of ``[devcompat]``; None where no nova.conf is at hand
    :param moment: today
    """
    for name, family in catalog.families.items():
        parts = [_policy(catalog, family, default, moment)]
        origin = catalog.origins.get(name)
        if origin is not None:
            parts += _origin(origin)
        sources = sorted(family.sources)
        parts.append(f"source{'s' if len(sources) > 1 else ''} {', '.join(sources)}")
        yield f"{name}: {'; '.join(parts)}"


def overriding(catalog: Catalog) -> list[str]:
    """What files override without seeming to: whole families of packs."""
    lines = []
    for name, origin in catalog.origins.items():
        for stated in origin.replaced:
            if stated.pack:
                lines.append(
                    f"family {name} of {origin.stated.whole} takes the place of all of {name} of "
                    f"{stated.whole}. Give it a name of its own; or where only the policy of the "
                    "pack's family should change, name that under 'policies'"
                )
    return lines


def nothing(catalog: Catalog) -> list[str]:
    """That there is no family, which a right file may come to: one of policies alone."""
    if catalog.families:
        return []
    return ["there is no family, so nothing is judged; name packs, or a file that has families"]


def log(catalog: Catalog, default: Policy, moment: Moment) -> None:
    """Say in the log of a service what is in force."""
    for line in told(catalog, default, moment):
        LOG.info("In force now: %s", line)
    for line in overriding(catalog):
        LOG.warning("Overridden as a whole: %s", line)
    for line in nothing(catalog):
        LOG.warning("Nothing is in force: %s", line)


def _policy(
    catalog: Catalog, family: CatalogFamily, default: Policy | None, moment: Moment
) -> str:
    of_all = catalog.of_all
    policy = family.policy(of_all.over_policy(default or Policy()), moment)
    stated_mode = family.mode or family.stages or of_all.mode
    text = f"{policy.mode.value} today"
    # Stages of all rules hold the family back.
    if default is None and not stated_mode and policy.mode is Mode.ENFORCE:
        text = "the mode of [devcompat]"
    if default is not None or family.on_unknown or of_all.on_unknown:
        text += f", on_unknown {policy.on_unknown.value}"
    for attribute, mode in policy.attributes:
        text += f", {attribute} {mode.value}"
    for attribute, choice in policy.unknowns:
        text += f", {attribute} on_unknown {choice.value}"
    return text


def _origin(origin: Origin) -> Iterator[str]:
    yield f"from {origin.stated}"
    if origin.policies:
        yield f"policy changed by {', '.join(origin.policies)}"
    if origin.replaced:
        yield f"in place of {', '.join(map(str, origin.replaced))}"
