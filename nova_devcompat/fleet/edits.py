# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is to be changed of a recorded need, and what of it a change is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.device import normalise_address
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.pins import PREFIX as PIN_PREFIX
from nova_devcompat.compat.pins import BadPin
from nova_devcompat.fleet.records import pairs, text_of
from nova_devcompat.stores.cells import BadRequest


class Change(NamedTuple):
    """A change of one attribute's need, done or, in a dry run, to be done.

    :param old: what was recorded, '' for nothing
    :param new: what is recorded now
    """

    instance: str
    address: str
    family: str
    attribute: str
    old: str
    new: str


def read(assignments: Sequence[str], catalog: Catalog) -> Need:
    """What is to be set, by family.

    :raises BadRequest: an assignment that no rule understands
    """
    specs: dict[str, str] = {}
    for text in assignments:
        subject, equals, value = text.partition("=")
        if not equals or "." not in subject:
            raise BadRequest(f"{text!r} is not of the form FAMILY.ATTRIBUTE=VALUE")
        key = PIN_PREFIX + subject.strip()
        if key in specs:
            raise BadRequest(f"{subject} is given twice")
        specs[key] = value
    try:
        return catalog.pins(specs)
    except BadPin as error:
        raise BadRequest(str(error).removeprefix(PIN_PREFIX)) from error


def applied(present: Need, wanted: Need, address: str | None) -> Need:
    """The need with other values of attributes that it has.

    :raises BadRequest: no device has an attribute that is to be set
    """
    parts = list(present.devices)
    for pin in wanted.devices:
        for attribute, values in pin.values:
            matching = [
                index
                for index, part in enumerate(parts)
                if part.family == pin.family
                and (address is None or normalise_address(part.address) == address)
                and attribute in dict(part.values)
            ]
            if not matching:
                what = "nothing of the host" if pin.of_host else "no device"
                at = f" at {address}" if address else ""
                raise BadRequest(
                    f"the record has {what}{at} with {pin.family}.{attribute}; it has: "
                    f"{'; '.join(map(str, present.devices))}. Use 'need backfill' to complete it"
                )
            for index in matching:
                part = parts[index]
                parts[index] = dataclasses.replace(
                    part,
                    values=tuple({**dict(part.values), attribute: values}.items()),
                    assumed=part.assumed - {attribute},
                )
    return Need(devices=tuple(parts))


def between(uuid: str, old: Need, new: Need) -> list[Change]:
    """What is known afterwards and was not, or was known otherwise.

    A need that merely says of more attributes that they are not known is not worth a write.
    """
    changes = []
    for before, after in pairs(old, new):
        recorded = dict(before.values) if before is not None else {}
        for attribute, values in after.values:
            was = _stated(before, attribute) if attribute in recorded else ""
            now = _stated(after, attribute)
            if values is not None and was != now:
                changes.append(Change(uuid, after.address, after.family, attribute, was, now))
    return changes


def _stated(device: DeviceNeed | None, attribute: str) -> str:
    if device is None:
        return ""
    mark = " (assumed)" if attribute in device.assumed else ""
    return text_of(dict(device.values)[attribute]) + mark
