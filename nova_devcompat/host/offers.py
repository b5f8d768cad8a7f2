# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a classified device offers, what its guests use, and what of it cannot be told."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping

from nova_devcompat.catalog.family import CatalogFamily
from nova_devcompat.catalog.merging import Classified
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.family import Offer
from nova_devcompat.compat.verdict import Code

_MAX_DETAIL = 160


def offer_of(family: CatalogFamily, merged: Classified) -> Offer:
    """The offer of a device, with what was wrong where an attribute is not known."""
    offer = family.family.offer(merged.attributes)
    unknown = {
        attribute: (code, detail or _short(merged.problems.get(attribute, "")))
        for attribute, (code, detail) in offer.unknown.items()
    }
    for attribute in family.implied:
        # It may be that it fails.
        if attribute not in offer.parsed and attribute in merged.problems:
            unknown[attribute] = (Code.OFFER_MISSING, _short(merged.problems[attribute]))
    return dataclasses.replace(offer, unknown=unknown)


class Offers:
    """One offer for functions of a parent that differ in nothing that their family asks for."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], list[Offer]] = {}

    def of(self, merged: Classified, offer: Offer) -> Offer:
        """The offer of functions: an earlier one that is equal, else the one just made."""
        made = self._made.setdefault((merged.address, offer.family.name), [])
        for other in made:
            if other == offer:
                return other
        made.append(offer)
        return offer


def in_use_of(
    family: CatalogFamily, merged: Classified, offer: Offer
) -> tuple[dict[str, dict[str, frozenset[str]]], dict[str, str]]:
    """What guests use, and what of it cannot be read."""
    in_use: dict[str, dict[str, frozenset[str]]] = {}
    problems = {}
    for attribute, name in family.in_use.items():
        guests = merged.attributes.get(name)
        for uuid, used in guests.items() if isinstance(guests, Mapping) else ():
            values = offer.in_use(attribute, used)
            if values is not None:
                in_use.setdefault(attribute, {})[str(uuid)] = values
            elif attribute in offer.parsed:
                problems[f"{attribute} in use by {uuid} of device {merged.address}"] = (
                    f"{used!r:.100} is nothing that the device accepts; the need is left as it is"
                )
    return in_use, problems


def _short(detail: str) -> str:
    """A reason as others are told it: it is part of the stats document."""
    return detail if len(detail) <= _MAX_DETAIL else detail[: _MAX_DETAIL - 3] + "..."


def not_offered(
    family: CatalogFamily, merged: Classified, offer: Offer, failed: Container[str]
) -> dict[str, str]:
    """What cannot be told of a device, by attribute, but for what a failed source would tell."""
    problems = {}
    for attribute in family.family.rules:
        stated = family.source_of(attribute)
        why = merged.problems.get(attribute, "")
        if attribute in offer.unknown and not why:
            code, detail = offer.unknown[attribute]
            does = f"finds no file {stated.path}" if stated.path else "does not tell it"
            why = detail or f"source {stated.source} {does} ({code})"
        if why and stated.source not in failed:
            problems[attribute] = why
    return problems


def not_matched(catalog: Catalog, merged: Classified) -> dict[str, str]:
    """What cannot be told of a device of no family, and might tell its family."""
    asked = {attribute for family in catalog.families.values() for attribute in family.match}
    return {name: why for name, why in merged.problems.items() if name in asked}


def add_problems(problems: dict[str, str], device: Classified, whys: Mapping[str, str]) -> None:
    """Add the problems of a device; attributes that have one in common are logged together."""
    together: dict[str, list[str]] = {}
    for attribute, why in whys.items():
        together.setdefault(why, []).append(attribute)
    for why, attributes in together.items():
        problems[f"{', '.join(sorted(attributes))} of device {device.where}"] = why
