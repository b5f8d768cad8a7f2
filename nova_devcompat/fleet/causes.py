# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Why few hosts take a guest, and what to do about it, as an operator reads it."""

from __future__ import annotations

from collections.abc import Sequence

from nova_devcompat.fleet.counting import shown
from nova_devcompat.fleet.model import Place
from nova_devcompat.fleet.outlook import NO_FREE_DEVICE, Finding, Standing
from nova_devcompat.fleet.untold import OTHER_CATALOG, OTHER_SETTINGS

#: What is said of hosts that are let pass, and of none of which the last word is known.
ONLY_THEY_CAN_TELL = "only the hosts themselves can tell"

#: What to do where a reason is not one of a device, the hosts to be named in it.
_REMEDIES = {
    NO_FREE_DEVICE: "free a device on {host}",
    OTHER_CATALOG: "give {host} the catalog that is here",
    OTHER_SETTINGS: "give {host} the mode and the on_unknown that are here",
}


def cause_of(finding: Finding) -> str:
    """What stands against the nearest of the other hosts, or is not known of them."""
    if not finding.reasons:
        return "there is no other host in its cell"
    hosts = _names(finding.nearest)
    reasons = dict.fromkeys(reason.of(hosts) for reason in finding.reasons)
    told = "; ".join(reasons)
    if finding.standing is Standing.UNKNOWN:
        return shown(f"{ONLY_THEY_CAN_TELL}: {told}")
    return shown(told)


def remedy_of(finding: Finding) -> str:
    """What to do about it."""
    if not finding.reasons:
        return "add a host"
    hosts = _names(finding.nearest)
    remedies = (
        _REMEDIES[reason].format(host=hosts) if reason in _REMEDIES else reason.remedy(hosts)
        for reason in finding.reasons
    )
    return " and ".join(dict.fromkeys(remedies))


def _names(places: Sequence[Place]) -> str:
    return " or ".join(map(name_of, places)) or "a host"


def name_of(place: Place) -> str:
    """The host of a place, to be shown."""
    return shown(place.host)
