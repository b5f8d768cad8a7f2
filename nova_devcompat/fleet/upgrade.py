# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Whether a cloud is ready for an upgrade, in the manner of ``nova-status upgrade check``."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any

from oslo_upgradecheck import upgradecheck
from oslo_upgradecheck.upgradecheck import Code, Result

from nova_devcompat import wire
from nova_devcompat.catalog.loader import CatalogError
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.catalog.stages import Moment
from nova_devcompat.compat import ruling
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Mode, Policies, Policy, Ruling
from nova_devcompat.compat.verdict import Code as ReasonCode
from nova_devcompat.compat.verdict import Reason
from nova_devcompat.fleet.cloud import Cloud
from nova_devcompat.fleet.model import Node
from nova_devcompat.stores.cells import brief

#: Major versions of Nova that this release is tested with; doc/source/support.rst has the rule.
SUPPORTED_NOVA = range(31, 35)

SHIM = "nova.virt.devcompat"
FILTER = "DeviceCompatFilter"
FILTERS = "nova_devcompat.scheduler.filters"
WEIGHTS = "nova_devcompat.scheduler.weights"

# How many hosts or guests a line names.
_NAMED = 10

_ALONE = ("there is no other host",)


@dataclasses.dataclass(frozen=True, slots=True)
class Guest:
    """A running guest that has a record.

    :param uuid: of the instance
    :param place: its host and node
    :param need: what it needs, as :func:`_shared` makes it
    """

    uuid: str
    place: tuple[str, str]
    need: Need

    def __str__(self) -> str:
        return f"{self.uuid} on {self.place[0]}"


@dataclasses.dataclass(slots=True)
class Hosts:
    """Nodes that take the same guests.

    :param devices: what their devices accept; empty where ``problem`` says why
    :param host: what the hosts themselves accept, by host family
    :param unreadable: what of their documents cannot be read, by family
    :param problem: why nothing is known of them
    :param places: their hosts and nodes
    """

    devices: Sequence[AcceptSet]
    host: Mapping[str, AcceptSet]
    unreadable: Mapping[str, Reason]
    problem: Reason | None
    places: set[tuple[str, str]] = dataclasses.field(default_factory=set)

    @classmethod
    def of(cls, node: Node) -> tuple[Any, Hosts]:
        """What a node says, and what nodes have in common that say the same."""
        document = node.document
        if document is None:
            return node.problem, cls((), {}, {}, node.problem)
        devices = {id(device.accepts): device.accepts for device in document.devices}
        unreadable = document.problems
        key = (
            frozenset(devices),
            frozenset(map(id, document.by_family.values())),
            frozenset(unreadable.items()),
        )
        return key, cls(tuple(devices.values()), document.by_family, unreadable, None)

    def rule(self, guest: ruling.Guest, policies: Policies) -> Ruling:
        """Whether one of them would take a guest; whether there is room is not looked at."""
        if self.problem is not None:
            given = ruling.Given(silent=self.problem)
        else:
            given = ruling.Given.anywhere(
                guest,
                self.devices,
                complete=False,
                host=self.host,
                unreadable=self.unreadable,
            )
        return ruling.rule(guest, given, policies)


@dataclasses.dataclass
class Survey:
    """What the databases tell, read once for all checks.

    :param nodes: all compute nodes that could publish
    :param guests: running guests with a record that can be read
    :param unreadable: running guests with one that cannot, each with what is wrong
    """

    nodes: list[Node] = dataclasses.field(default_factory=list)
    guests: list[Guest] = dataclasses.field(default_factory=list)
    unreadable: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def hosts(self) -> list[Hosts]:
        """The nodes, those together that take the same guests."""
        found: dict[Any, Hosts] = {}
        for node in self.nodes:
            key, hosts = Hosts.of(node)
            found.setdefault(key, hosts).places.add((node.host, node.name))
        return list(found.values())

    def stranded(
        self, policies: Policies, against: Callable[[Ruling], Sequence[Reason]]
    ) -> dict[Guest, str]:
        """Guests that no host but their own would take, each with what speaks against another.

        :param against: what of a ruling counts
        """
        known: dict[Need, list[tuple[Hosts, Sequence[Reason]]]] = {}
        found = {}
        for guest in self.guests:
            if guest.need not in known:
                asked = ruling.Guest(record=guest.need, assigned=bool(guest.need.assigned))
                known[guest.need] = [
                    (hosts, against(hosts.rule(asked, policies))) for hosts in self.hosts
                ]
            others = [
                (hosts, reasons)
                for hosts, reasons in known[guest.need]
                if len(hosts.places) > 1 or guest.place not in hosts.places
            ]
            if all(reasons for _, reasons in others):
                # The hosts that are most alike tell the operator most.
                most = max(others, key=lambda one: len(one[0].places), default=(None, _ALONE))
                reasons = most[1]
                found[guest] = "; ".join(map(str, reasons))
        return found


class UpgradeChecks(upgradecheck.UpgradeCommands):
    """The checks, each a method that answers with a result.

    :param conf: Nova's configuration, read, with our options
    :param cloud: asks all cells
    :param load: loads the catalog
    :param default: the policy of families that state none
    :param moment: now
    :param days: how far ahead to look for stages
    """

    display_title = "nova-devcompat Upgrade Check Results"

    def __init__(
        self,
        conf: Any,
        cloud: Cloud,
        load: Callable[[], Catalog],
        default: Policy,
        moment: Moment,
        days: int,
    ) -> None:
        self._conf = conf
        self._cloud = cloud
        self._load = load
        self._default = default
        self._moment = moment
        self._days = days

    @functools.cached_property
    def _survey(self) -> Survey:
        survey = Survey()
        for found in self._cloud.surveyed():
            if isinstance(found, Node):
                survey.nodes.append(found)
                continue
            instance, need = found
            if isinstance(need, wire.WireError):
                survey.unreadable.append((instance.uuid, str(need)))
            elif need.devices:
                place = (instance.host, instance.node)
                survey.guests.append(Guest(instance.uuid, place, _shared(need)))
        return survey

    @functools.cached_property
    def _catalog(self) -> Catalog | CatalogError:
        try:
            return self._load()
        except CatalogError as error:
            return error

    # --- this installation ----------------------------------------------------------------------

    def check_shim(self) -> Result:
        """Whether nova-compute could load our driver from an installation like this one."""
        try:
            driver = importlib.import_module(SHIM).DeviceCompatDriver
        except Exception as error:  # noqa: BLE001 - whatever an import can raise
            return Result(
                Code.FAILURE,
                f"{SHIM} cannot be imported: {brief(error)}. Install nova-devcompat into the "
                "environment that Nova is in.",
            )
        return Result(Code.SUCCESS, f"{SHIM}.{driver.__name__} is there.")

    def check_release(self) -> Result:
        """Whether this release supports the Nova that is here."""
        release = self._moment.release
        supported = f"{SUPPORTED_NOVA[0]} to {SUPPORTED_NOVA[-1]}"
        if release in SUPPORTED_NOVA:
            return Result(Code.SUCCESS, f"Nova {release}; supported: {supported}.")
        return Result(
            Code.WARNING,
            f"Nova {release or 'of no version that can be told'} is not supported by this release "
            f"of nova-devcompat, which supports Nova {supported}.",
        )

    def check_scheduler(self) -> Result:
        """Whether nova-scheduler would run the filter and the weigher."""
        ours = self._conf.filter_scheduler
        lacking = []
        if FILTER not in ours.enabled_filters:
            lacking.append(f"enabled_filters lacks {FILTER}, so no host is ever rejected")
        if not any(name.startswith(FILTERS) for name in ours.available_filters):
            lacking.append(f"available_filters lacks {FILTERS}.all_filters")
        code = Code.FAILURE if lacking else Code.SUCCESS
        if not any(name.startswith(WEIGHTS) for name in ours.weight_classes):
            lacking.append(
                f"weight_classes lacks {WEIGHTS}.all_weighers, so guests are not kept mobile"
            )
            code = max(code, Code.WARNING)
        if not lacking:
            return Result(code)
        files = ", ".join(self._conf.config_file) or "none"
        return Result(code, f"[filter_scheduler] {'; '.join(lacking)} (files read: {files}).")

    def check_catalog(self) -> Result:
        """Whether the catalog can be used."""
        if isinstance(self._catalog, CatalogError):
            return Result(Code.FAILURE, f"{_listed(self._catalog.problems, '; ')}.")
        families = ", ".join(self._catalog.families)
        return Result(Code.SUCCESS, f"Digest {self._catalog.digest}; families: {families}.")

    # --- the hosts ------------------------------------------------------------------------------

    def check_hosts_catalog(self) -> Result:
        """Whether all hosts have the catalog that is here."""
        if isinstance(self._catalog, CatalogError):
            return _NO_CATALOG
        others: dict[str, list[str]] = {}
        for node in self._survey.nodes:
            if node.document is not None and node.document.catalog != self._catalog.digest:
                others.setdefault(node.document.catalog, []).append(node.host)
        if not others:
            return Result(Code.SUCCESS)
        told = "; ".join(
            f"{digest}: {_listed(sorted(hosts))}" for digest, hosts in sorted(others.items())
        )
        return Result(
            Code.WARNING,
            f"Hosts have another catalog than {self._catalog.digest}, which is the one here: "
            f"{told}. Give all services the same files and packs.",
        )

    def check_publishing(self) -> Result:
        """Whether all hosts publish what can be read."""
        nodes = self._survey.nodes
        silent = sorted(
            node.host
            for node in nodes
            if node.problem is not None and node.problem.code == ReasonCode.HOST_SILENT
        )
        unreadable = [
            f"{node.host} ({node.problem.detail})"
            for node in nodes
            if node.problem is not None and node.problem.code != ReasonCode.HOST_SILENT
        ]
        told = []
        if silent:
            told.append(
                f"{len(silent)} of {_many(nodes, 'node')} published nothing: {_listed(silent)}. "
                "Is compute_driver = devcompat.DeviceCompatDriver there, and nova-compute up?"
            )
        if unreadable:
            told.append(f"What was published cannot be read: {_listed(sorted(unreadable))}.")
        if told:
            return Result(Code.WARNING, " ".join(told))
        return Result(Code.SUCCESS, f"{_many(nodes, 'node')} published.")

    # --- the guests -----------------------------------------------------------------------------

    def check_records(self) -> Result:
        """Whether all records can be read."""
        broken = [f"{uuid} ({why})" for uuid, why in self._survey.unreadable]
        if broken:
            return Result(
                Code.WARNING,
                f"{_many(broken, 'record')} cannot be read: {_listed(broken)}. "
                "'nova-devcompat need clear' and 'need backfill' make new ones.",
            )
        return Result(
            Code.SUCCESS, f"{_many(self._survey.guests, 'running guest')} with a record."
        )

    def check_stranded(self) -> Result:
        """Whether all guests have another host that would take them."""
        if isinstance(self._catalog, CatalogError):
            return _NO_CATALOG
        stranded = self._stranded(self._catalog, self._moment, Mode.ENFORCE)
        if not stranded:
            return Result(Code.SUCCESS)
        told = [f"{guest}: {why}" for guest, why in stranded.items()]
        return Result(
            Code.WARNING,
            f"{_many(told, 'guest')} without another host that would accept, so there is no "
            f"moving them out of the way of an upgrade: {_listed(told, ' | ')}",
        )

    def check_stages(self) -> Result:
        """What begins soon, and whom it would strand."""
        if isinstance(self._catalog, CatalogError):
            return _NO_CATALOG
        told = []
        code = Code.SUCCESS
        for one in self._catalog.coming(self._moment, self._days):
            mode = one.stage.mode
            before = self._stranded(self._catalog, self._moment, mode)
            after = self._stranded(self._catalog, one.stage.begin(self._moment), mode)
            guests = sorted(str(guest) for guest in after.keys() - before.keys())
            line = one.told(self._moment)
            if guests:
                what = "it strands" if mode is Mode.ENFORCE else "it reports on"
                line += f": {what} {_many(guests, 'guest')}: {_listed(guests)}"
            if guests and mode is Mode.ENFORCE:
                code = Code.WARNING
            told.append(f"{line}.")
        return Result(code, " ".join(told) or f"None within {self._days} days.")

    def _stranded(self, catalog: Catalog, moment: Moment, mode: Mode) -> dict[Guest, str]:
        """Guests without another host, refusals counted that are of this mode or stricter."""
        policies = catalog.policies(self._default, moment)

        def against(ruling: Ruling) -> Sequence[Reason]:
            return ruling.refused + (ruling.reported if mode is Mode.REPORT else ())

        return self._survey.stranded(policies, against)

    _upgrade_checks = (
        ("Driver shim", check_shim),
        ("Release of Nova", check_release),
        ("Filter and weigher", check_scheduler),
        ("Catalog", check_catalog),
        ("Catalog of the hosts", check_hosts_catalog),
        ("Hosts that publish", check_publishing),
        ("Records of guests", check_records),
        ("Guests without another host", check_stranded),
        ("Stages that begin", check_stages),
    )


_NO_CATALOG = Result(Code.WARNING, "Not checked, for want of a catalog.")


def _shared(need: Need) -> Need:
    """The need without what differs between guests that need the same."""

    def plain(part: DeviceNeed) -> DeviceNeed:
        # What is needed of the host stays apart from what is needed of a device.
        slot = part.slot if part.of_host else ""
        return dataclasses.replace(part, slot=slot, address="", assumed=frozenset())

    return Need(devices=tuple(sorted(set(map(plain, need.devices)), key=str)))


def _many(things: Sized, name: str) -> str:
    """How many there are."""
    return f"{len(things)} {name}{'s' if len(things) != 1 else ''}"


def _listed(names: Iterable[object], separator: str = ", ") -> str:
    """The first few names."""
    listed = [str(name) for name in names]
    more = [f"and {len(listed) - _NAMED} more"] if len(listed) > _NAMED else []
    return separator.join([*listed[:_NAMED], *more])
