# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Attributes of what devlink says of a device."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping

from nova_devcompat.compat.device import PCI_IDENTIFIERS
from nova_devcompat.compat.types import AttributeType
from nova_devcompat.sources.devlink.messages import Info, attribute_name
from nova_devcompat.sources.sysfs.facts import Facts

LOG = logging.getLogger(__name__)


def facts_of(info: Info) -> Facts:
    """The attributes of a device, of what devlink says."""
    facts = Facts()
    if info.driver:
        facts.attributes["driver"] = info.driver
    # A name that is both fixed and running is what runs.
    for group, suffix in (("fixed", ""), ("running", ""), ("stored", "_stored")):
        facts.add(_facts_of_group(info, group, suffix))
    for name, stored in info.versions["stored"].items():
        running = info.versions["running"].get(name)
        doubtful = {("running", name), ("stored", name)} & info.doubtful.keys()
        if running is not None and running != stored and not doubtful:
            with contextlib.suppress(ValueError):
                facts.attributes[attribute_name(name) + "_pending"] = stored
    return facts


def _facts_of_group(info: Info, group: str, suffix: str) -> Facts:
    facts = Facts()
    names: dict[str, str] = {}
    doubtful = {name: why for (of, name), why in info.doubtful.items() if of == group}
    for name in {**info.versions[group], **doubtful}:
        try:
            attribute = attribute_name(name) + suffix
        except ValueError:
            LOG.debug("%s: version %r becomes no attribute", info.handle, name)
            continue
        first = names.setdefault(attribute, name)
        if first != name:
            facts.attributes.pop(attribute, None)
            facts.problems[attribute] = (
                f"devlink reports {first!r} and {name!r}, which would be one attribute"
            )
        elif name in doubtful:
            facts.problems[attribute] = (
                f"devlink's {group} version {name!r} {doubtful[name]}; look at its driver"
            )
        else:
            facts.attributes[attribute] = info.versions[group][name]
    return facts


def pending(facts: Facts) -> dict[str, str]:
    """Versions that the next reset activates, by attribute."""
    return {
        name.removesuffix("_pending"): str(value)
        for name, value in facts.attributes.items()
        if name.endswith("_pending")
    }


# Names of versions that several drivers have (Documentation/networking/devlink/devlink-info.rst).
_VERSIONS = (
    "asic_id",
    "asic_rev",
    "board_id",
    "board_rev",
    "board_manufacture",
    "board_part_number",
    "board_serial_number",
    "fw",
    "fw_api",
    "fw_app",
    "fw_app_bundle_id",
    "fw_app_name",
    "fw_bootloader",
    "fw_bundle_id",
    "fw_goldfw",
    "fw_mainfwa",
    "fw_mainfwb",
    "fw_mgmt",
    "fw_mgmt_api",
    "fw_mgmt_build",
    "fw_ncsi",
    "fw_netlist",
    "fw_psid",
    "fw_psid_api",
    "fw_roce",
    "fw_undi",
    "fw_version",
)

#: The attributes that the source has names for, all text; drivers have more.
ATTRIBUTE_TYPES: Mapping[str, AttributeType] = dict.fromkeys(
    (
        *PCI_IDENTIFIERS,
        "driver",
        *(f"{name}{suffix}" for name in _VERSIONS for suffix in ("", "_stored", "_pending")),
    ),
    AttributeType.TEXT,
)
