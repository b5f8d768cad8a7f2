# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What we ask of placement, through Nova's own client."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from keystoneauth1 import exceptions as ks_exc
from oslo_log import log as logging

from nova_devcompat.compat import traits
from nova_devcompat.kit.text import is_printable, printable
from nova_devcompat.wire import checks
from nova_devcompat.wire.checks import is_uuid

if TYPE_CHECKING:
    from nova.scheduler.client.report import SchedulerReportClient

LOG = logging.getLogger(__name__)

# GET /traits?name=startswith: and nested providers came with these microversions.
_TRAITS_VERSION = "1.6"
_NESTED_VERSION = "1.14"
_ALLOCATIONS_VERSION = "1.12"
# GET /resource_providers?required=
_REQUIRED_VERSION = "1.18"

# Characters of names in one request: servers refuse a request line of 4 KiB and more.
_MOST_NAMES = 2_048

# Items of one answer: well above the traits of a cloud, or what one provider has to give.
_MOST_ITEMS = 1_000_000

AnswerT = TypeVar("AnswerT")

#: ``{<provider or consumer uuid>: {'resources': {<class>: <amount>}}}``
Allocations = dict[str, Any]


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
        found = self._traits(f"startswith:{traits.PREFIX}{only}")
        if found is None:
            return None
        decoded = map(traits.decode, found)
        return frozenset(atom for atom in decoded if atom is not None and is_printable(atom.value))

    def providers_of(self, nodename: str) -> dict[str, str]:
        """Names by UUID of the providers of a node's tree; empty where that is not known."""
        name = urllib.parse.quote(nodename, safe="")
        root = self._get(f"/resource_providers?name={name}", _NESTED_VERSION, _read_providers)
        if not root:
            return {}
        url = f"/resource_providers?in_tree={next(iter(root))}"
        return self._get(url, _NESTED_VERSION, _read_providers) or {}

    def allocations_of(self, instance_uuid: str) -> Allocations:
        """What an instance has allocated; empty where that is not known.

        :returns: by provider
        """
        if not _may_be_asked("instance", instance_uuid):
            return {}
        url = f"/allocations/{instance_uuid}"
        return self._get(url, _ALLOCATIONS_VERSION, _read_allocations) or {}

    def allocations_from(self, provider: str) -> Allocations | None:
        """What is allocated from a provider, by consumer; None where that is not known.

        :returns: by consumer
        """
        if not _may_be_asked("resource provider", provider):
            return None
        url = f"/resource_providers/{provider}/allocations"
        return self._get(url, _ALLOCATIONS_VERSION, _read_allocations)

    def providers_with(self, trait: str) -> frozenset[str] | None:
        """UUIDs of the providers that have a trait of ours; None where that is not known.

        :param trait: one that exists
        """
        if traits.decode(trait) is None:
            return None
        return self._providers(f"required={trait}")

    def providers_with_room(self, resource_class: str, units: int) -> frozenset[str] | None:
        """UUIDs of the providers that have so many units free; None where that is not known."""
        name = urllib.parse.quote(resource_class, safe="")
        return self._providers(f"resources={name}:{units}")

    def _providers(self, query: str) -> frozenset[str] | None:
        found = self._get(f"/resource_providers?{query}", _REQUIRED_VERSION, _read_providers)
        return None if found is None else frozenset(found)

    def missing(self, names: Iterable[str]) -> set[str]:
        """The traits of these that do not exist; all of them where that is not known."""
        missing = set(names)
        for some in in_lines(sorted(missing)):
            missing.difference_update(self._traits(f"in:{','.join(some)}") or ())
        return missing

    def make_traits(
        self,
        names: Iterable[str],
        global_request_id: str | None = None,
        *,
        most: int | None = None,
    ) -> set[str]:
        """Create the traits that do not exist.

        Placement has no request for many at once, up to its release 16 (placement/handler.py,
        ``/traits/{name}``), so those that are there are found out first and each of the others is
        put once.

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

    def delete_trait(self, name: str) -> bool:
        """Delete a trait that no provider has.

        :returns: False where a provider has it now, so that placement keeps it; True where it is
            gone, whoever deleted it
        :raises PlacementError: placement did not do it, or did not answer; or it is no trait of
            ours
        """
        if traits.decode(name) is None:
            raise PlacementError(f"{printable(name)} is no trait of ours")
        try:
            response = self._client.delete(f"/traits/{name}", version=_TRAITS_VERSION)
        except ks_exc.ClientException as error:
            raise PlacementError(f"trait {name}: {printable(str(error))}") from error
        if response.status_code in (204, 404):
            return True
        if response.status_code == 409:
            return False
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
            found = self._traits(f"startswith:{prefix}")
            if found is None:
                raise PlacementError(f"trait {wanted[0]}: it is not known how many there are")
            beyond.update(wanted[max(most - len(found), 0) :])
        return beyond

    def _traits(self, names: str) -> list[str] | None:
        """Names of traits; None where placement does not answer.

        :param names: what the query asks for
        """
        return self._get(f"/traits?name={names}", _TRAITS_VERSION, _read_traits)

    def _get(self, url: str, version: str, read: Callable[[object], AnswerT]) -> AnswerT | None:
        """What placement, or whoever answers in its place, says; None where it does not.

        :param read: takes what is in the answer
        """
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
        try:
            return read(response.json())
        except (ValueError, RecursionError) as error:
            LOG.warning(
                "Placement answered GET %s with what is no such answer: %s",
                printable(url),
                printable(str(error)),
            )
            return None


def _read_traits(answer: object) -> list[str]:
    return [name for name in _listed(answer, "traits") if isinstance(name, str)]


def _read_providers(answer: object) -> dict[str, str]:
    """Names by UUID."""
    found = {}
    for index, entry in enumerate(_listed(answer, "resource_providers")):
        place = f"resource_providers[{index}]"
        provider = checks.object_of(entry, place)
        uuid, name = (checks.member(provider, key, place) for key in ("uuid", "name"))
        # Placement takes more from others than Nova and we give it.
        if is_uuid(uuid) and isinstance(name, str) and is_printable(name):
            found[str(uuid)] = name
    return found


def _read_allocations(answer: object) -> Allocations:
    place = "allocations"
    listed = checks.member(checks.object_of(answer, ""), place, "")
    found = {}
    for uuid, entry in checks.mapping_of(listed, place, _MOST_ITEMS).items():
        resources = checks.member(checks.object_of(entry, place), "resources", place)
        for amount in checks.mapping_of(resources, f"{place}.resources", _MOST_ITEMS).values():
            if isinstance(amount, bool) or not isinstance(amount, int):
                raise checks.Malformed(place, f"{checks.shown(amount)} is no amount")
        found[uuid] = entry
    return found


def _listed(answer: object, key: str) -> list[Any]:
    content = checks.object_of(answer, "")
    return checks.list_of(checks.member(content, key, ""), key, _MOST_ITEMS)


def in_lines(names: Sequence[str], most: int = _MOST_NAMES) -> Iterator[list[str]]:
    """Names in lists that fit into a request line, each name with a separator.

    :param most: characters of a list
    """
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
