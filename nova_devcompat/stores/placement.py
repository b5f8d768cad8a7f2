# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What we ask of placement, through Nova's own client."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from keystoneauth1 import exceptions as ks_exc
from oslo_log import log as logging

from nova_devcompat.compat import traits
from nova_devcompat.kit.text import is_printable, printable
from nova_devcompat.wire.checks import is_uuid

if TYPE_CHECKING:
    from nova.scheduler.client.report import SchedulerReportClient

LOG = logging.getLogger(__name__)

# GET /traits?name=startswith: and nested providers came with these microversions.
_TRAITS_VERSION = "1.6"
_NESTED_VERSION = "1.14"
_ALLOCATIONS_VERSION = "1.12"


class PlacementError(Exception):
    """Placement did not do what it was asked to."""


class Placement:
    """Placement, as far as we need it.

    Nothing gets into a URL but what has the shape of a UUID or of a trait of ours, or is quoted:
    UUIDs of providers come from what hosts published.

    :param client: Nova's report client
    """

    def __init__(self, client: SchedulerReportClient) -> None:
        self._client = client

    def known_atoms(self) -> frozenset[traits.Atom] | None:
        """All atoms that exist in the cloud; None where placement does not answer.

        Anybody with the right to can create a trait: one whose value cannot be printed is no atom
        of ours, and is ignored as one that does not decode.
        """
        found = self._get(f"/traits?name=startswith:{traits.PREFIX}", _TRAITS_VERSION)
        if found is None:
            return None
        decoded = (traits.decode(name) for name in found["traits"])
        return frozenset(atom for atom in decoded if atom is not None and is_printable(atom.value))

    def providers_of(self, nodename: str) -> dict[str, str]:
        """Names by UUID of the providers of a node's tree; empty where that is not known."""
        name = urllib.parse.quote(nodename, safe="")
        root = self._get(f"/resource_providers?name={name}", _NESTED_VERSION)
        if not root or not root["resource_providers"]:
            return {}
        uuid = root["resource_providers"][0]["uuid"]
        tree = self._get(f"/resource_providers?in_tree={uuid}", _NESTED_VERSION)
        if not tree:
            return {}
        return {entry["uuid"]: entry["name"] for entry in tree["resource_providers"]}

    def allocations_of(self, instance_uuid: str) -> dict[str, Any]:
        """What an instance has allocated; empty where that is not known.

        :returns: ``{<provider uuid>: {'resources': {<class>: <amount>}}}``
        """
        if not _may_be_asked("instance", instance_uuid):
            return {}
        found = self._get(f"/allocations/{instance_uuid}", _ALLOCATIONS_VERSION)
        return found["allocations"] if found else {}

    def allocations_from(self, provider: str) -> dict[str, Any] | None:
        """What is allocated from a provider, by consumer; None where that is not known.

        :returns: ``{<consumer uuid>: {'resources': {<class>: <amount>}}}``
        """
        if not _may_be_asked("resource provider", provider):
            return None
        found = self._get(f"/resource_providers/{provider}/allocations", _ALLOCATIONS_VERSION)
        return dict(found["allocations"]) if found else None

    def make_traits(self, names: Iterable[str], global_request_id: str | None = None) -> None:
        """Create the traits that do not exist.

        :raises PlacementError: placement did not take one, or did not answer; or one is no trait
            of ours
        """
        for name in sorted(names):
            if traits.decode(name) is None:
                raise PlacementError(f"{printable(name)} is no trait of ours")
            # PUT /traits/{name} is idempotent: 201, or 204 where it exists.
            try:
                response = self._client.put(
                    f"/traits/{name}",
                    None,
                    version=_TRAITS_VERSION,
                    global_request_id=global_request_id,
                )
            except ks_exc.ClientException as error:
                raise PlacementError(f"trait {name}: {printable(str(error))}") from error
            if response.status_code not in (201, 204):
                raise PlacementError(f"trait {name}: {response.status_code} {_quoted(response)}")

    def _get(self, url: str, version: str) -> dict[str, Any] | None:
        try:
            response = self._client.get(url, version=version)
        except ks_exc.ClientException as error:
            LOG.warning("Placement did not answer GET %s: %s", url, printable(str(error)))
            return None
        if response.status_code != 200:
            LOG.warning(
                "Placement answered GET %s with %s: %s",
                url,
                response.status_code,
                _quoted(response),
            )
            return None
        answer: dict[str, Any] = response.json()
        return answer


def _may_be_asked(what: str, uuid: str) -> bool:
    if is_uuid(uuid):
        return True
    LOG.warning("Placement is not asked of the %s %r: it is no UUID", what, printable(uuid))
    return False


def _quoted(response: Any) -> str:
    return printable(response.text, 200)
