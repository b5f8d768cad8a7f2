# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What we ask of placement, through Nova's own client."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

# Characters of names in one request: servers refuse a request line of 4 KiB and more.
_MOST_NAMES = 2_048


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

    def known_atoms(self, *, associated: bool = False) -> frozenset[traits.Atom] | None:
        """All atoms that exist in the cloud; None where placement does not answer.

        :param associated: only those that some host accepts now

        Anybody with the right to can create a trait: one whose value cannot be printed is no atom
        of ours, and is ignored as one that does not decode.
        """
        only = "&associated=true" if associated else ""
        found = self._get(f"/traits?name=startswith:{traits.PREFIX}{only}", _TRAITS_VERSION)
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

    def missing(self, names: Iterable[str]) -> set[str]:
        """The traits of these that do not exist; all of them where that is not known."""
        missing = set(names)
        for some in _chunks(sorted(missing), _MOST_NAMES):
            found = self._get(f"/traits?name=in:{','.join(some)}", _TRAITS_VERSION)
            missing -= set(found["traits"]) if found else set()
        return missing

    def make_traits(
        self,
        names: Iterable[str],
        global_request_id: str | None = None,
        *,
        most: int | None = None,
    ) -> set[str]:
        """Create the traits that do not exist.

        :param most: values of an attribute beyond which none is created; None for any number
        :returns: those that were not, since their attribute has as many values or more
        :raises PlacementError: placement did not take one, or did not answer; or one is no trait
            of ours
        """
        wanted: dict[str, traits.Atom] = {}
        for name in sorted(names):
            atom = traits.decode(name)
            if atom is None:
                raise PlacementError(f"{printable(name)} is no trait of ours")
            wanted[name] = atom
        missing = self.missing(wanted)
        left_out: set[str] = set()
        if most is not None:
            left_out = self._beyond({name: wanted[name] for name in missing}, most)
        for name in sorted(missing - left_out):
            self._make_trait(name, global_request_id)
        return left_out

    def _make_trait(self, name: str, global_request_id: str | None) -> None:
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

    def _beyond(self, missing: Mapping[str, traits.Atom], most: int) -> set[str]:
        """Those of missing traits for which their attribute has no room.

        :param missing: what each stands for
        :param most: values of an attribute
        :raises PlacementError: placement does not tell how many there are
        """
        by_attribute: dict[str, list[str]] = {}
        for name in sorted(missing):
            atom = missing[name]
            prefix = traits.prefix_of(atom.family, atom.attribute)
            by_attribute.setdefault(prefix, []).append(name)
        beyond: set[str] = set()
        for prefix, wanted in by_attribute.items():
            found = self._get(f"/traits?name=startswith:{prefix}", _TRAITS_VERSION)
            if found is None:
                raise PlacementError(f"trait {wanted[0]}: it is not known how many there are")
            beyond.update(wanted[max(most - len(found["traits"]), 0) :])
        return beyond

    def _get(self, url: str, version: str) -> dict[str, Any] | None:
        try:
            response = self._client.get(url, version=version)
        except ks_exc.ClientException as error:
            LOG.warning(
                "Placement did not answer GET %s: %s", printable(url), printable(str(error))
            )
            return None
        if response.status_code != 200:
            LOG.warning(
                "Placement answered GET %s with %s: %s",
                printable(url),
                response.status_code,
                _quoted(response),
            )
            return None
        answer: dict[str, Any] = response.json()
        return answer


def _chunks(names: Sequence[str], most: int) -> Iterator[list[str]]:
    """Names in lists of so many characters at most, each name with a separator."""
    some: list[str] = []
    size = 0
    for name in names:
        if some and size + len(name) + 1 > most:
            yield some
            some, size = [], 0
        some.append(name)
        size += len(name) + 1
    if some:
        yield some


def _may_be_asked(what: str, uuid: str) -> bool:
    if is_uuid(uuid):
        return True
    LOG.warning("Placement is not asked of the %s %r: it is no UUID", what, printable(uuid))
    return False


def _quoted(response: Any) -> str:
    return printable(response.text, 200)
