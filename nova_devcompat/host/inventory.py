# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading which devices this host has, and what each offers."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

from oslo_log import log as logging

from nova_devcompat.catalog.keeper import CatalogKeeper
from nova_devcompat.catalog.merging import Classified
from nova_devcompat.catalog.model import (
    AmbiguousDevice,
    Catalog,
    UnknownFamily,
)
from nova_devcompat.catalog.stages import now
from nova_devcompat.compat.device import Device, normalise_address
from nova_devcompat.compat.family import Offer
from nova_devcompat.host.devices import HostDevice, HostDevices
from nova_devcompat.host.implied import apart
from nova_devcompat.host.offers import (
    Offers,
    add_problems,
    in_use_of,
    not_matched,
    not_offered,
    offer_of,
)
from nova_devcompat.kit.once import Once
from nova_devcompat.kit.plugins import PluginError
from nova_devcompat.sources import load_source
from nova_devcompat.sources.base import Listing, Source, SourceError, SourceOptions

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HostSurvey:
    """What the sources of a host told at one moment.

    :param catalog: the catalog that names them
    :param devices: all devices, those of no family among them, by address; one that several
        families match is of the strictest, and nothing is known of it
    :param failed: why a source told nothing, by its name
    :param left_out: why it is not known what a device belongs to, by its address
    :param partial: by source, why devices may be missing from what it told
    """

    catalog: Catalog
    devices: tuple[Classified, ...]
    failed: Mapping[str, str]
    left_out: Mapping[str, str]
    partial: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Names of the families that no device of the host, and no part of it, belongs to."""
        found = {device.family.name for device in self.devices if device.family is not None}
        return tuple(name for name in self.catalog.families if name not in found)


class HostReader:
    """Reads the sources that the catalog names and classifies what they find.

    :param keeper: hands out the catalog that is in force
    :param options: what nova.conf says to sources
    :param load: makes a source of its name
    """

    def __init__(
        self,
        keeper: CatalogKeeper,
        options: SourceOptions,
        *,
        load: Callable[[str, SourceOptions], Source] = load_source,
    ) -> None:
        self._keeper = keeper
        self._options = options
        self._load = load
        self._lock = threading.Lock()
        self._sources: dict[str, tuple[SourceOptions, Source]] = {}
        self._logged: dict[str, Once] = {}
        self._unmatched = Once()
        # What was logged when the service started.
        self._failed_check: dict[str, str] = {}

    def check(self) -> None:
        """Look at what the catalog names, so that mistakes show when the service starts.

        One catalog serves hosts with and without a kind of device, so that a source cannot work
        here (its library is not installed) is logged, and what it would tell is UNKNOWN.

        :raises CatalogError: the catalog is wrong
        :raises SourceError: the static inventory cannot be used
        """
        catalog = self._keeper.current()
        failed = {}
        for name in sorted(catalog.sources):
            try:
                self._source(name, catalog).check()
            except Exception as error:
                if name in catalog.stand_ins:
                    raise
                failed[f"source {name}"] = _why(name, error)
        Once("This host").update(failed)
        self._failed_check = failed

    @property
    def catalog(self) -> Catalog:
        """The catalog that is in force."""
        return self._keeper.current()

    def survey(self, nodename: str) -> HostSurvey:
        """What the sources tell of a node now. Nothing is logged here."""
        catalog = self._keeper.current()
        failed: dict[str, str] = {}
        partial: dict[str, str] = {}
        reports = self._reports(nodename, catalog, catalog.sources, failed, partial)
        beside = self._reports(nodename, catalog, catalog.beside, failed, partial)
        devices = []
        left_out = {}
        reasons = {name: f"source {name} cannot be used: {why}" for name, why in failed.items()}
        unlisted = _unlisted(catalog, reports, beside)
        for address, by_source in sorted({**unlisted, **reports}.items()):
            told = {**beside.get(address, {}), **by_source}
            try:
                found, problems = catalog.divide(address, by_source, reasons)
                if address in beside and not problems and _may_be_of_one(found, catalog, told):
                    found, problems = catalog.divide(address, told, reasons)
            except AmbiguousDevice as error:
                left_out[address] = str(error)
                devices.append(catalog.in_doubt(address, error.families, str(error), now()))
            except UnknownFamily as error:
                left_out[address] = str(error)
            else:
                devices += itertools.chain(*(apart(one, told, reasons) for one in found))
                devices += _in_doubt(catalog, address, problems)
                left_out |= {function: str(error) for function, error in problems.items()}
        return HostSurvey(
            catalog=catalog,
            devices=tuple(devices),
            failed=failed,
            left_out=left_out,
            partial=partial,
        )

    def _reports(
        self,
        nodename: str,
        catalog: Catalog,
        sources: Iterable[str],
        failed: dict[str, str],
        partial: dict[str, str],
    ) -> dict[str, dict[str, Device]]:
        """What sources tell of each device, by its address.

        :param failed: gets why one tells nothing, by its name
        :param partial: gets why one may not tell of all devices, by its name
        """
        reports: dict[str, dict[str, Device]] = {}
        for name in sorted(sources):
            try:
                read = self._source(name, catalog).read(nodename)
            except Exception as error:  # noqa: BLE001  of anybody's plugin
                failed[name] = _why(name, error)
                continue
            if isinstance(read, Listing) and read.left_out:
                partial[name] = "; ".join(f"{what}: {why}" for what, why in read.left_out.items())
            for device in read:
                reports.setdefault(normalise_address(device.address), {})[name] = device
        return reports

    def read(self, nodename: str) -> HostDevices:
        """The devices of a node now. What cannot be read is logged once and left out."""
        survey = self.survey(nodename)
        problems = {f"source {name}": why for name, why in survey.failed.items()}
        problems |= {f"device {address}": why for address, why in survey.left_out.items()}
        fully_read = not problems and not any(
            family.source in survey.partial
            for family in survey.catalog.families.values()
            if not family.of_host
        )
        of_none: set[str] = set()
        devices: list[HostDevice] = []
        host: list[HostDevice] = []
        offers = Offers()
        divided = {one.address for one in survey.devices if one.family and one.functions}
        for merged in survey.devices:
            if merged.family is None:
                unmatched = not_matched(survey.catalog, merged)
                add_problems(problems, merged, unmatched)
                if unmatched or _may_belong(survey, merged):
                    fully_read = False
                else:
                    of_none.update(merged.functions)
                    if merged.address not in divided:
                        of_none.add(merged.address)
                continue
            offer = offer_of(merged.family, merged)
            if survey.left_out.keys().isdisjoint(merged.functions or [merged.address]):
                whys = not_offered(merged.family, merged, offer, survey.failed)
                add_problems(problems, merged, whys)
            in_use, unreadable = in_use_of(merged.family, merged, offer)
            problems |= unreadable
            if merged.functions:
                devices += _functions(merged, offers.of(merged, offer), in_use)
                continue
            device = HostDevice(merged.address, offer, in_use, merged.attributes)
            (host if merged.family.of_host else devices).append(device)
        host = _one_each(host, problems)
        self._log(nodename, problems)
        self._log_unmatched(nodename, survey.unmatched)
        return HostDevices(
            survey.catalog,
            devices,
            host=host,
            fully_read=fully_read,
            of_none=of_none,
            listed={*(merged.address for merged in survey.devices), *survey.left_out},
        )

    def _source(self, name: str, catalog: Catalog) -> Source:
        # Another catalog may have it read other files.
        files = catalog.paths.get(name, {})
        of_functions = catalog.function_paths.get(name, {})
        options = dataclasses.replace(
            self._options,
            attributes={**self._options.attributes, **files},
            function_attributes={**self._options.function_attributes, **of_functions},
        )
        with self._lock:
            known = self._sources.get(name)
            if known is None or known[0] != options:
                known = self._sources[name] = options, self._load(name, options)
            return known[1]

    def _log_unmatched(self, nodename: str, families: tuple[str, ...]) -> None:
        """One INFO whenever other families match nothing: one may be meant to."""
        if families and self._unmatched.is_new(nodename, families):
            LOG.info("%s: no device belongs to these families: %s", nodename, ", ".join(families))
        elif not families:
            self._unmatched.is_over(nodename)

    def _log(self, nodename: str, problems: Mapping[str, str]) -> None:
        with self._lock:
            once = self._logged.get(nodename)
            if once is None:
                once = self._logged[nodename] = Once(nodename, self._failed_check)
        once.update(problems)


def _may_be_of_one(
    found: Iterable[Classified], catalog: Catalog, by_source: Mapping[str, Device]
) -> bool:
    """Whether a device that was taken for one of no family may be of one by all that is told.

    :param found: what it was taken for
    """
    return all(one.family is None for one in found) and _may_match(catalog, by_source)


def _unlisted(
    catalog: Catalog,
    reports: Mapping[str, Mapping[str, Device]],
    beside: Mapping[str, dict[str, Device]],
) -> dict[str, dict[str, Device]]:
    """Devices that no source lists which a family names, and that are of one by all that is told.

    Nobody tells what its rules ask for: devlink has no instances in a network namespace that is
    not the host's.

    :param beside: what sources tell that no family names, by address
    """
    return {
        address: by_source
        for address, by_source in beside.items()
        if address not in reports and _may_match(catalog, by_source)
    }


def _may_match(catalog: Catalog, by_source: Mapping[str, Device]) -> bool:
    """Whether a family of devices matches what all sources tell of one, but for families of an
    inventory, which has all there is of them."""
    attributes: dict[str, object] = {}
    for device in by_source.values():
        attributes |= device.attributes
    return any(
        family.matches(attributes)
        for family in catalog.families.values()
        if not (family.of_host or family.stands_in)
    )


def _in_doubt(
    catalog: Catalog, address: str, problems: Mapping[str, AmbiguousDevice]
) -> Iterator[Classified]:
    """Functions of a device that several families match, those of the same families together."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for function, error in problems.items():
        alike.setdefault(error.families, []).append(function)
    for families, functions in alike.items():
        own = () if functions == [address] else tuple(functions)
        yield catalog.in_doubt(address, families, str(problems[functions[0]]), now(), own)


def _one_each(parts: list[HostDevice], problems: dict[str, str]) -> list[HostDevice]:
    """The parts of the host, but for those of a family that has several: which one would count?"""
    by_family: dict[str, list[HostDevice]] = {}
    for part in parts:
        by_family.setdefault(part.family, []).append(part)
    for family, several in by_family.items():
        for part in several if len(several) > 1 else ():
            problems[f"device {part.address}"] = (
                f"it is one of {len(several)} that match host family {family}, which can have one "
                "on a host; make its 'match' narrower"
            )
    return [several[0] for several in by_family.values() if len(several) == 1]


def _why(name: str, error: Exception) -> str:
    if isinstance(error, SourceError | PluginError):
        return str(error)
    LOG.debug("Source %s raised what no source should", name, exc_info=error)
    return f"it raised {type(error).__name__}: {error}; tell those who wrote it"


def _functions(
    merged: Classified, offer: Offer, in_use: Mapping[str, Mapping[str, frozenset[str]]]
) -> list[HostDevice]:
    return [
        HostDevice(address, offer, in_use, merged.attributes, merged.address)
        for address in merged.functions
    ]


def _may_belong(survey: HostSurvey, device: Classified) -> bool:
    """Whether a device of no family may be of one whose primary source does not list it."""
    asked = set(device.origins.values())
    silent = {*survey.failed, *survey.partial} - asked
    for family in survey.catalog.families.values():
        match = family.match
        if family.of_functions:
            if family.source in asked:
                continue  # of each of its functions it is known that the family does not match
            match = {
                name: pattern
                for name, pattern in match.items()
                if not family.source_of(name).of_function
            }
        if family.source in silent:  # what it would have told may be anything
            match = {name: match[name] for name in match.keys() & device.attributes.keys()}
        if dataclasses.replace(family, match=match).matches(device.attributes):
            return True
    return False
