# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A guest on each device of an inventory, since an inventory names no guests."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.policy import Policies, Policy
from nova_devcompat.fleet.model import Place, RunningGuest
from nova_devcompat.fleet.outlook import Outlook
from nova_devcompat.fleet.paper import Paper, Start


def outlook_of(catalog: Catalog, paper: Paper) -> Outlook:
    """The hosts of an inventory, and on each device a guest that starts there now.

    No policy is applied: all that speaks against a host counts, what is not known as well.
    """
    strict = Policy()
    policies = Policies(
        strict,
        {name: strict for name, family in catalog.families.items() if not family.of_host},
        {name: strict for name, family in catalog.families.items() if family.of_host},
    )
    outlook = Outlook(catalog, policies)
    outlook.read(paper.fleet.hosts)
    outlook.read(_guests(paper))
    return outlook


def _guests(paper: Paper) -> Iterator[RunningGuest]:
    """What a guest needs of its device, and of its host where host families say something."""
    for host, starts in paper.starts.items():
        of_host = [start for start in starts if start.need.of_host]
        devices = [start for start in starts if not start.need.of_host]
        for start in devices:
            name = f"{start.address} on {host}"
            yield _guest(host, name, [start, *of_host], assigned=True)
        if of_host and not devices:
            yield _guest(host, f"any on {host}", of_host, assigned=False)


def _guest(host: str, name: str, starts: Sequence[Start], *, assigned: bool) -> RunningGuest:
    needs = tuple(
        start.need
        if start.need.of_host
        else dataclasses.replace(start.need, address=start.address)
        for start in starts
    )
    return RunningGuest(
        uuid=name, place=Place(host, host), record=Need(devices=needs), assigned=assigned
    )
