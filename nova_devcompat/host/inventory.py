# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Which devices this host has, and what each offers."""

from __future__ import annotations

import dataclasses
import itertools
import os
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping

from oslo_log import log as logging

from nova_devcompat.catalog.family import CatalogFamily
from nova_devcompat.catalog.keeper import CatalogKeeper
from nova_devcompat.catalog.merging import Classified
from nova_devcompat.catalog.model import (
    AmbiguousDevice,
    Catalog,
    UnknownFamily,
)
from nova_devcompat.catalog.stages import now
from nova_devcompat.compat.device import Device, is_pci, normalise_address
from nova_devcompat.compat.family import Offer
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Code
from nova_devcompat.host.implied import apart
from nova_devcompat.kit.once import Once
from nova_devcompat.kit.plugins import PluginError
from nova_devcompat.sources import load_source
from nova_devcompat.sources.base import Source, SourceError, SourceOptions

LOG = logging.getLogger(__name__)

_MAX_DETAIL = 160

_SYSFS_PCI = "/sys/bus/pci/devices"


@dataclasses.dataclass(frozen=True, slots=True)
class HostDevice:
    """A device of this host that belongs to a family.

    :param address: its address, or that of the parent whose functions are assigned
    :param offer: what it can act as; one object for functions of a parent that are alike
    :param in_use: by attribute, what running guests use of it: values as needs have them, by the
        UUID of the guest or of its mdev
    :param facts: all that is known of it
    :param parent: address of the device whose function it is, where functions are devices of their
        own; '' for any other device
    """

    address: str
    offer: Offer
    in_use: Mapping[str, Mapping[str, frozenset[str]]] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, object] = dataclasses.field(default_factory=dict)
    parent: str = ""

    @property
    def family(self) -> str:
        """Name of its family."""
        return self.offer.family.name

    @property
    def place(self) -> str:
        """The address of the device that sources list: its own, or that of its parent."""
        return self.parent or self.address

    def atoms(self) -> frozenset[Atom]:
        """All atoms that a guest on this device needs, or might come to need."""
        return self.offer.atoms() | {
            Atom(self.family, attribute, value)
            for attribute, guests in self.in_use.items()
            for values in guests.values()
            for value in values
        }

    def freeze(self, *, slot: str, address: str, pin: DeviceNeed | None) -> DeviceNeed:
        """The need of a guest whose device is initialised now."""
        return self.offer.freeze(slot=slot, address=address, pin=pin)


class HostDevices:
    """The devices of one host, as read at one moment.

    :param catalog: the catalog that classified them
    :param devices: those that belong to a family
    :param sysfs_pci: folder of links that tell a virtual function's physical one
    :param host: the parts of the host itself that belong to a host family
    :param fully_read: whether each source answered and each device was told its family or that it
        has none, so that a device which is not among these belongs to no family
    :param of_none: addresses of devices that belong to no family, whatever could not be read
    :param listed: addresses of all devices that a source listed
    """

    def __init__(
        self,
        catalog: Catalog,
        devices: list[HostDevice],
        sysfs_pci: str = _SYSFS_PCI,
        host: Iterable[HostDevice] = (),
        *,
        fully_read: bool = True,
        of_none: Container[str] = (),
        listed: Container[str] = (),
    ) -> None:
        self.catalog = catalog
        self.fully_read = fully_read
        self._of_none = of_none
        self._listed = listed
        #: By family. They are no devices that anybody is assigned, so they are not iterated over.
        self.host = {part.family: part for part in host}
        self._by_address = {device.address: device for device in devices}
        # One of each kind of functions, by their parent.
        self._functions: dict[str, dict[int, HostDevice]] = {}
        for device in devices:
            if device.parent:
                self._functions.setdefault(device.parent, {})[id(device.offer)] = device
        self._sysfs_pci = sysfs_pci

    def __iter__(self) -> Iterator[HostDevice]:
        return iter(self._by_address.values())

    def __len__(self) -> int:
        return len(self._by_address)

    @property
    def everything(self) -> tuple[HostDevice, ...]:
        """The devices, and the parts of the host itself."""
        return (*self, *self.host.values())

    @property
    def unlike(self) -> list[HostDevice]:
        """One of each kind of all these, of which the others have the very offer."""
        return list({id(one.offer): one for one in self.everything}.values())

    def functions_of(self, parent: str) -> tuple[HostDevice, ...]:
        """One of each kind of a device's functions that are devices of their own.

        :param parent: the device's address, normalised
        """
        return tuple(self._functions.get(parent, {}).values())

    def may_be(self, address: str | None) -> tuple[HostDevice, ...]:
        """What a provider of an address may give: the device there, or a function of any kind."""
        device = self.find(address)
        if device is not None or not address:
            return () if device is None else (device,)
        return self.functions_of(normalise_address(address))

    def is_of_none(self, address: str, parent: str | None = None) -> bool:
        """Whether the device at an address is known to belong to no family.

        :param parent: the parent's address where the caller knows it; else sysfs is asked
        """
        if self.find(address, parent) is not None:
            return False
        address = normalise_address(address)
        known = [address, normalise_address(parent or "")]
        if is_pci(address):
            known.append(self._physical_function(address))
        if any(one in self._of_none for one in known):
            return True
        # A function that has come since its parent's functions were read may be of any family.
        return self.fully_read and not any(one in self._functions for one in known)

    def is_named(self, address: str) -> bool:
        """Whether sources name the device at an address as whoever asks does.

        A PCI device has one name for everybody. What else no source lists may be a device that
        they know by another one.

        :param address: normalised
        """
        return is_pci(address) or address in self._listed or bool(self.may_be(address))

    def find(self, address: str | None, parent: str | None = None) -> HostDevice | None:
        """The device at an address, else the parent that the address is a function of.

        :param parent: the parent's address where the caller knows it; else sysfs is asked
        """
        if not address:
            return None
        address = normalise_address(address)
        device = self._by_address.get(address)
        if device is None and parent:
            device = self._by_address.get(normalise_address(parent))
        if device is None and is_pci(address):
            device = self._by_address.get(self._physical_function(address))
        return device

    def _physical_function(self, address: str) -> str:
        # Documentation/ABI/testing/sysfs-bus-pci: physfn links a VF to its PF.
        try:
            return os.path.basename(os.readlink(f"{self._sysfs_pci}/{address}/physfn"))
        except OSError:
            return ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HostSurvey:
    """What the sources of a host told at one moment.

    :param catalog: the catalog that names them
    :param devices: all devices, those of no family among them, by address; one that several
        families match is of the strictest, and nothing is known of it
    :param failed: why a source told nothing, by its name
    :param left_out: why it is not known what a device belongs to, by its address
    """

    catalog: Catalog
    devices: tuple[Classified, ...]
    failed: Mapping[str, str]
    left_out: Mapping[str, str]

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
        reports = self._reports(nodename, catalog, catalog.sources, failed)
        beside = self._reports(nodename, catalog, catalog.beside, failed) if reports else {}
        devices = []
        left_out = {}
        reasons = {name: f"source {name} cannot be used: {why}" for name, why in failed.items()}
        for address, by_source in sorted(reports.items()):
            try:
                found, problems = catalog.divide(address, by_source, reasons)
            except AmbiguousDevice as error:
                left_out[address] = str(error)
                devices.append(catalog.in_doubt(address, error.families, str(error), now()))
            except UnknownFamily as error:
                left_out[address] = str(error)
            else:
                told = {**beside.get(address, {}), **by_source}
                devices += itertools.chain(*(apart(one, told, reasons) for one in found))
                devices += _in_doubt(catalog, address, problems)
                left_out |= {function: str(error) for function, error in problems.items()}
        return HostSurvey(
            catalog=catalog, devices=tuple(devices), failed=failed, left_out=left_out
        )

    def _reports(
        self, nodename: str, catalog: Catalog, sources: Iterable[str], failed: dict[str, str]
    ) -> dict[str, dict[str, Device]]:
        """What sources tell of each device, by its address.

        :param failed: gets why one tells nothing, by its name
        """
        reports: dict[str, dict[str, Device]] = {}
        for name in sorted(sources):
            try:
                read = self._source(name, catalog).read(nodename)
            except Exception as error:  # noqa: BLE001  of anybody's plugin
                failed[name] = _why(name, error)
                continue
            for device in read:
                reports.setdefault(normalise_address(device.address), {})[name] = device
        return reports

    def read(self, nodename: str) -> HostDevices:
        """The devices of a node now. What cannot be read is logged once and left out."""
        survey = self.survey(nodename)
        problems = {f"source {name}": why for name, why in survey.failed.items()}
        problems |= {f"device {address}": why for address, why in survey.left_out.items()}
        fully_read = not problems
        of_none: set[str] = set()
        devices: list[HostDevice] = []
        host: list[HostDevice] = []
        offers = _Offers()
        divided = {one.address for one in survey.devices if one.family and one.functions}
        for merged in survey.devices:
            if merged.family is None:
                unmatched = _not_matched(survey.catalog, merged)
                _add(problems, merged, unmatched)
                if unmatched or _may_belong(survey, merged):
                    fully_read = False
                else:
                    of_none.update(merged.functions)
                    if merged.address not in divided:
                        of_none.add(merged.address)
                continue
            offer = _offer(merged.family, merged)
            if survey.left_out.keys().isdisjoint(merged.functions or [merged.address]):
                whys = _not_offered(merged.family, merged, offer, survey.failed)
                _add(problems, merged, whys)
            in_use, unreadable = _in_use(merged.family, merged, offer)
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


def _offer(family: CatalogFamily, merged: Classified) -> Offer:
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


class _Offers:
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


def _functions(
    merged: Classified, offer: Offer, in_use: Mapping[str, Mapping[str, frozenset[str]]]
) -> list[HostDevice]:
    return [
        HostDevice(address, offer, in_use, merged.attributes, merged.address)
        for address in merged.functions
    ]


def _in_use(
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


def _not_offered(
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


def _not_matched(catalog: Catalog, merged: Classified) -> dict[str, str]:
    """What cannot be told of a device of no family, and might tell its family."""
    asked = {attribute for family in catalog.families.values() for attribute in family.match}
    return {name: why for name, why in merged.problems.items() if name in asked}


def _may_belong(survey: HostSurvey, device: Classified) -> bool:
    """Whether a device of no family may be of one whose primary source does not list it."""
    asked = set(device.origins.values())
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
        if family.source in survey.failed:  # what it would have told may be anything
            match = {name: match[name] for name in match.keys() & device.attributes.keys()}
        if dataclasses.replace(family, match=match).matches(device.attributes):
            return True
    return False


def _add(problems: dict[str, str], device: Classified, whys: Mapping[str, str]) -> None:
    """Add the problems of a device; attributes that have one in common are logged together."""
    together: dict[str, list[str]] = {}
    for attribute, why in whys.items():
        together.setdefault(why, []).append(attribute)
    for why, attributes in together.items():
        problems[f"{', '.join(sorted(attributes))} of device {device.where}"] = why
