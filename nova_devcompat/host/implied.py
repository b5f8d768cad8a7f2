# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Functions that cannot migrate whatever their family, told apart from the others of a device."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from nova_devcompat.catalog.family import CatalogFamily
from nova_devcompat.catalog.merging import Classified
from nova_devcompat.compat.device import Device, normalise_address

# What a source tells of a function for the implied rules of its family, by attribute.
_Told = tuple[tuple[str, str], ...]


def apart(
    device: Classified, reports: Mapping[str, Device], failed: Mapping[str, str]
) -> Iterator[Classified]:
    """A device with what its family's implied rules ask for.

    Functions that fail one are devices of their own, unless all of the device's do; those that
    fail alike, together. Where nothing is told, nothing is said.

    :param device: or functions of one that are alike
    :param reports: what each source tells of the device, by its name
    :param failed: why others tell nothing, by their names
    """
    family = device.family
    if family is None or not family.implied:
        yield device
        return
    told = _told(device, family, reports)
    failing = _failing(family, told)
    problems = {
        attribute: failed[source]
        for attribute, source in family.implied.items()
        if source in failed
    }
    if problems:
        device = dataclasses.replace(device, problems={**device.problems, **problems})
    lost = {function for functions in failing.values() for function in functions}
    left = tuple(function for function in device.functions or told if function not in lost)
    # An inventory need not list the functions of which it has nothing to say.
    all_told = not (left or family.stands_in) or lost == {device.address}
    whole = not device.functions and len(failing) == 1 and all_told
    if device.functions:
        if left:
            yield dataclasses.replace(device, functions=left)
    elif not whole:
        yield device
    for facts, functions in failing.items():
        yield dataclasses.replace(
            device,
            attributes={**device.attributes, **dict(facts)},
            origins={**device.origins, **{name: family.implied[name] for name, _ in facts}},
            functions=() if whole else tuple(functions),
        )


def _failing(family: CatalogFamily, told: Mapping[str, _Told]) -> dict[_Told, list[str]]:
    """Functions that fail an implied rule, by what they fail it with."""
    # Most are alike.
    fails: dict[_Told, _Told] = {}
    failing: dict[_Told, list[str]] = {}
    for function, facts in told.items():
        if facts not in fails:
            against = family.family.fails(dict(facts))
            fails[facts] = tuple(fact for fact in facts if fact[0] in against)
        if fails[facts]:
            failing.setdefault(fails[facts], []).append(function)
    return failing


def _told(
    device: Classified, family: CatalogFamily, reports: Mapping[str, Device]
) -> dict[str, _Told]:
    """What is told of each function of a device, or of each that is meant."""
    found: dict[str, dict[str, str]] = {name: {} for name in device.functions}
    for attribute, source in family.implied.items():
        listed = reports[source].functions if source in reports else {}
        for name, function in listed.items():
            address = normalise_address(name)
            if device.functions and address not in found:
                continue
            facts = found.setdefault(address, {})
            value = function.attributes.get(attribute)
            if isinstance(value, str):
                facts[attribute] = value
    return {address: tuple(facts.items()) for address, facts in found.items()}
