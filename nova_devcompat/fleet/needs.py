# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The recorded needs of all instances of a cloud, shown and mended from a controller."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from keystoneauth1 import exceptions as ks_exc
from nova import exception
from nova.compute import power_state, vm_states
from nova.scheduler.client import report
from oslo_log import log as logging

from nova_devcompat import wire
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat import traits
from nova_devcompat.compat.device import normalise_address
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.pins import PREFIX as PIN_PREFIX
from nova_devcompat.compat.pins import BadPin, is_pin
from nova_devcompat.compat.ruling import judge_part
from nova_devcompat.compat.verdict import Actor, Code, Reason, Verdict
from nova_devcompat.stores import records
from nova_devcompat.stores.assigned import freeze, from_instance
from nova_devcompat.stores.cells import (
    BadRequest,
    Cells,
    Refused,
    brief,
    compute_nodes,
    instances,
    label_of,
)
from nova_devcompat.stores.placement import Placement, PlacementError

LOG = logging.getLogger(__name__)
#: What an operator who waits wants to see; the changes themselves are the command's output.
PROGRESS = logging.getLogger(f"{__name__}.progress")

_PROGRESS_EVERY = 100

# Guests that run on initialised devices. All others have a need frozen when they are started.
_RUNNING = (vm_states.ACTIVE, vm_states.PAUSED, vm_states.RESCUED, vm_states.RESIZED)
_POWERED = (power_state.RUNNING, power_state.PAUSED)

_ATTRIBUTES = ("system_metadata", "pci_devices", "flavor")

#: Allocations of one instance: ``{<provider uuid>: {'resources': {<class>: <amount>}}}``
Allocations = Mapping[str, Any]


class Row(NamedTuple):
    """A device need of an instance, or what is wrong with the record.

    :param instance: its UUID
    :param host: the host it is on
    :param family: the device's family
    :param address: the device's address on the host
    :param need: what is recorded: attributes and values
    :param assumed: the attributes that are assumed
    :param problem: a reason's code and what it concerns, '' for none
    """

    instance: str
    host: str
    family: str
    address: str
    need: str
    assumed: str
    problem: str


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


class Dropped(NamedTuple):
    """An entry of ``system_metadata`` that was part of a record."""

    instance: str
    key: str
    value: str


class Node:
    """A compute node, and what it published.

    :param node: Nova's compute node
    :param reader: reads stats documents
    """

    def __init__(self, node: Any, reader: wire.StatsReader) -> None:
        self.id: int = node.id
        self.host: str = node.host
        self.name: str = node.hypervisor_hostname
        #: None where nothing was published, or nothing that can be read: see ``problem``.
        self.document: wire.HostDocument | None = None
        self.problem: Reason | None = None
        text = (node.stats or {}).get(wire.STATS_KEY)
        read = reader.read(text) if text else None
        if isinstance(read, wire.HostDocument):
            self.document = read
        elif read is None:
            self.problem = Reason(code=Code.HOST_SILENT, actor=Actor.OPERATOR)
        else:
            self.problem = Reason(
                code=Code.HOST_UNREADABLE, actor=Actor.OPERATOR, detail=str(read)
            )
        devices = self.document.devices if self.document else ()
        self._by_address = {device.address: device for device in devices}
        self._by_provider = {
            provider: device for device in devices for provider in device.providers
        }

    @property
    def providers(self) -> list[str]:
        """UUIDs of the resource providers of its devices."""
        return list(self._by_provider)

    def find(self, address: str, parent: str | None) -> wire.PublishedDevice | None:
        """The device at an address, or of the parent given beside it."""
        return self._by_address.get(normalise_address(address)) or (
            self._by_address.get(normalise_address(parent)) if parent else None
        )

    def behind(self, provider: str) -> tuple[str, wire.PublishedDevice | None]:
        """Address and device that a resource provider stands for."""
        device = self._by_provider.get(provider)
        return (device.address if device else ""), device

    def judge(self, need: DeviceNeed, parent: str | None) -> Verdict:
        """Whether the node would accept the need on the device the guest has.

        :param parent: of the device's address
        """
        if self.problem is not None:
            return Verdict.unknown(dataclasses.replace(self.problem, family=need.family))
        assert self.document is not None
        problem = self.document.problem_of(need.family)
        if problem is not None:
            return Verdict.unknown(problem)
        if need.of_host:
            part = self.document.by_family.get(need.family)
            return judge_part(need, () if part is None else (part,))
        if need.address:
            devices = [self.find(need.address, parent)]
        else:  # not known since a migration: any of the family may be the one
            devices = [dev for dev in self._by_address.values() if dev.family == need.family]
        return judge_part(need, [device.accepts for device in devices if device is not None])


class Needs:
    """Questions about the records of instances, and changes to them.

    Each change is made to an instance read a moment before, and only where nothing else is being
    done to it: Nova saves a record together with the task that it belongs to.

    :param cells: all cells of the cloud
    """

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self._reader = wire.StatsReader()
        self._without_pins: set[str] = set()

    # --- questions ------------------------------------------------------------------------------

    def recorded(
        self,
        *,
        cell: str | None = None,
        host: str | None = None,
        family: str | None = None,
        assumed: bool = False,
    ) -> Iterator[Row]:
        """What is recorded, ordered by cell and instance.

        :param cell: only instances of this cell
        :param host: only instances on this host
        :param family: only devices of this family
        :param assumed: only needs of which a part is assumed
        :raises BadRequest: there is no such cell or host; by the call itself, not on iteration
        :raises Refused: the API database does not answer; likewise
        """
        cells = self.cells.select(name=cell, host=host)
        filters = {} if host is None else {"host": host}

        def rows(context: Any) -> Iterator[Row]:
            for instance in instances(context, filters, ["system_metadata"]):
                yield from _rows(instance)

        return (
            row
            for row in self.cells.each(cells, rows)
            if (family is None or row.family == family) and (row.assumed or not assumed)
        )

    def missing(
        self, *, cell: str | None = None, host: str | None = None, family: str | None = None
    ) -> Iterator[Row]:
        """Devices of running guests whose need is not recorded, or not all of it.

        Judged by what the guest's host published: of a host that publishes nothing, nothing is
        said. Parameters and errors as for :meth:`recorded`.
        """
        cells = self.cells.select(name=cell, host=host)
        for node, instance, allocations in self._running(cells, host):
            try:
                present = records.load(instance)
            except wire.WireError as error:
                if family is None:
                    yield _unreadable(instance, error)
                continue
            old = present or Need()
            new = old.completed(_frozen(instance, node, allocations, Need()))
            for before, after in _pairs(old, new):
                problem = _gaps(before, after)
                if problem and family in (None, after.family):
                    told = before or dataclasses.replace(after, values=(), assumed=frozenset())
                    yield _row(instance, told, problem)

    def show(self, uuid: str) -> dict[str, Any]:
        """All that is known of one instance's need.

        :returns: ``uuid``, ``name``, ``cell``, ``host``, ``vm_state``, ``task_state``; ``needs``,
            a mapping for each device with the verdict of its own host as it is now; ``pins``, the
            flavor's extra specs; ``problem``, '' for none
        :raises BadRequest: there is no such instance
        :raises Refused: its cell does not answer
        """
        instance, cell = self.cells.instance(uuid, _ATTRIBUTES)
        problem = ""
        devices: tuple[DeviceNeed, ...] = ()
        try:
            present = records.load(instance)
        except wire.WireError as error:
            problem = f"{Code.RECORD_UNREADABLE}: {error}"
        else:
            devices = present.devices if present else ()
        node = self._node_of(instance, cell) if devices else None
        parents = {pci.address: pci.parent_addr for pci in instance.pci_devices}
        return {
            "uuid": instance.uuid,
            "name": instance.display_name or "",
            "cell": label_of(cell),
            "host": instance.host or "",
            "vm_state": instance.vm_state or "",
            "task_state": instance.task_state or "",
            "needs": [_described(one, node, parents.get(one.address)) for one in devices],
            "pins": {
                key: value for key, value in sorted(_extra_specs(instance).items()) if is_pin(key)
            },
            "problem": problem,
        }

    def surveyed(self) -> Iterator[Node | tuple[Any, Need | wire.WireError]]:
        """All compute nodes that could publish; and all running instances that have a record, with
        what it says or why it cannot be read. Each cell is asked once.
        """
        return self.cells.each(self.cells.select(), self._survey)

    def _survey(self, context: Any) -> Iterator[Node | tuple[Any, Need | wire.WireError]]:
        for node in compute_nodes(context):
            # Ironic's nodes are never the destination of a live migration.
            if node.hypervisor_type != "ironic":
                yield Node(node, self._reader)
        filters = {"vm_state": list(_RUNNING)}
        for instance in instances(context, filters, ["system_metadata"]):
            if _runs(instance) and records.exists(instance):
                try:
                    yield instance, records.load(instance) or Need()
                except wire.WireError as error:
                    yield instance, error

    # --- changes --------------------------------------------------------------------------------

    def set_values(
        self,
        uuid: str,
        assignments: Sequence[str],
        catalog: Catalog,
        *,
        address: str | None = None,
        dry_run: bool = False,
    ) -> list[Change]:
        """Record other values for attributes that are recorded already.

        What is set is no longer assumed.

        :param assignments: each ``<family>.<attribute>=<value>``, the value as a flavor would pin
            it
        :param catalog: whose rules must understand the values
        :param address: only of the device there; else of all devices of the family
        :raises BadRequest: a value that no rule understands; no such instance, device or attribute
        :raises Refused: something is being done to the instance, its record cannot be read, or
            its cell or placement do not answer
        """
        wanted = _parse(assignments, catalog)
        instance, _ = self.cells.instance(uuid, ["system_metadata"])
        _check_idle(instance)
        try:
            present = records.load(instance)
        except wire.WireError as error:
            raise Refused(
                f"instance {uuid}: {error}; drop it with 'need clear', then use 'need backfill'"
            ) from error
        if present is None:
            raise BadRequest(f"instance {uuid} has no record; use 'need backfill' first")
        new = _with_values(present, wanted, normalise_address(address) if address else None)
        changes = _changes(uuid, present, new)
        if not changes:
            PROGRESS.info("Instance %s has just that recorded: nothing is written", uuid)
        elif not dry_run:
            # Hosts evaluate the atoms that exist in placement, and nobody may have made these.
            self._make_traits(traits.encode(atom) for atom in sorted(wanted.atoms, key=str))
            self._store(instance, new, changes, "set")
        return changes

    def clear(self, uuid: str) -> list[Dropped]:
        """Drop the record of an instance, whether it can be read or not.

        :returns: what it was: enough to put it back by hand
        :raises BadRequest: there is no such instance
        :raises Refused: something is being done to the instance, or its cell does not answer
        """
        instance, _ = self.cells.instance(uuid, ["system_metadata"])
        _check_idle(instance)
        dropped = [
            Dropped(uuid, key, value or "")
            for key, value in sorted(instance.system_metadata.items())
            if wire.is_record_key(key)
        ]
        if not dropped:
            PROGRESS.info("Instance %s has no record: nothing is written", uuid)
            return []
        try:
            told = "; ".join(str(one) for one in (records.load(instance) or Need()).devices)
        except wire.WireError as error:
            told = str(error)
        for entry in dropped:
            del instance.system_metadata[entry.key]
        _save(instance)
        LOG.info(
            "Instance %(uuid)s: need cleared, which was %(need)s; its system_metadata: %(raw)s",
            {
                "uuid": uuid,
                "need": told,
                "raw": json.dumps({entry.key: entry.value for entry in dropped}),
            },
        )
        return dropped

    def backfill(
        self,
        catalog: Catalog,
        *,
        host: str | None = None,
        instance: str | None = None,
        dry_run: bool = False,
    ) -> Iterator[Change]:
        """Complete the records of running guests from what their hosts published, as assumed.

        What is recorded already is never changed, and nothing is recorded of devices that belong
        to no family.

        :param catalog: whose rules read flavors' pins
        :param host: only instances on this host
        :param instance: only this one, a UUID
        :raises BadRequest: there is no such host or instance; by the call itself
        :raises Refused: the API database does not answer; or the one instance that was asked for
            cannot be completed now
        """
        if instance is not None:
            return iter(self._backfill_one(instance, catalog, dry_run=dry_run))
        return self._backfill(self.cells.select(host=host), host, catalog, dry_run=dry_run)

    def _backfill(
        self, cells: Sequence[Any], host: str | None, catalog: Catalog, *, dry_run: bool
    ) -> Iterator[Change]:
        tally: collections.Counter[str] = collections.Counter()
        for node, instance, allocations in self._running(cells, host):
            tally["seen"] += 1
            if tally["seen"] % _PROGRESS_EVERY == 0:
                PROGRESS.info("%d instances looked at", tally["seen"])
            try:
                changes = self._complete(node, instance, allocations, catalog)
                if changes and not dry_run:
                    changes = self._backfill_one(instance.uuid, catalog, dry_run=False)
            except BadRequest:
                continue  # it was deleted meanwhile
            except Refused as error:
                self.cells.pass_over("Instance %s is left as it is: %s", instance.uuid, error)
                continue
            except Exception as error:  # noqa: BLE001 - the others want their turn
                self.cells.pass_over(
                    "Instance %s is left as it is: %s", instance.uuid, brief(error)
                )
                continue
            tally["changed"] += bool(changes)
            yield from changes
        PROGRESS.info(
            "%d running instances on hosts that publish devices looked at, %d %s",
            tally["seen"],
            tally["changed"],
            "to be completed" if dry_run else "completed",
        )

    def _backfill_one(self, uuid: str, catalog: Catalog, *, dry_run: bool) -> list[Change]:
        """The same for one instance, read now, with its allocations as they are now."""
        instance, cell = self.cells.instance(uuid, _ATTRIBUTES)
        if not _runs(instance):
            raise Refused(
                f"instance {uuid} does not run ({instance.vm_state}): "
                "its need is frozen when it is started"
            )
        _check_idle(instance)
        node = self._node_of(instance, cell)
        if node is None or node.problem is not None:
            reason = node.problem.code if node is not None and node.problem else Code.HOST_SILENT
            raise Refused(f"its host {instance.host} does not say what it has: {reason}")
        allocations = self._placement.allocations_of(uuid)
        if not allocations:  # a running guest has processors and memory at least
            raise Refused(f"placement does not tell what instance {uuid} has")
        old, new = self._completed(node, instance, allocations, catalog)
        changes = _changes(uuid, old, new)
        if changes and not dry_run:
            self._store(instance, new, changes, "backfill")
        return changes

    def _complete(
        self, node: Node, instance: Any, allocations: Allocations, catalog: Catalog
    ) -> list[Change]:
        return _changes(instance.uuid, *self._completed(node, instance, allocations, catalog))

    def _completed(
        self, node: Node, instance: Any, allocations: Allocations, catalog: Catalog
    ) -> tuple[Need, Need]:
        """What is recorded, and the same completed.

        :raises Refused: it cannot be read
        """
        try:
            old = records.load(instance) or Need()
        except wire.WireError as error:
            raise Refused(f"{error}; drop it with 'need clear' first") from error
        try:
            pins = catalog.pins(_extra_specs(instance))
        except BadPin as error:
            # As nova-compute does: a guest needs what its device is, whatever its flavor says.
            if instance.uuid not in self._without_pins:
                self.cells.pass_over(
                    "Instance %s: its flavor's pins are passed over: %s", instance.uuid, error
                )
                self._without_pins.add(instance.uuid)
            pins = Need()
        return old, old.completed(_frozen(instance, node, allocations, pins))

    def _store(self, instance: Any, need: Need, changes: Sequence[Change], command: str) -> None:
        records.store(instance, need)
        _save(instance)
        for change in changes:
            LOG.info(
                "Instance %(instance)s: need of %(family)s.%(attribute)s%(at)s was %(old)s, "
                "is %(new)s (need %(command)s)",
                {
                    **change._asdict(),
                    "at": f" at {change.address}" if change.address else "",
                    "old": change.old or "not recorded",
                    "command": command,
                },
            )

    # --- what they share ------------------------------------------------------------------------

    @functools.cached_property
    def _placement(self) -> Placement:
        try:
            return Placement(report.report_client_singleton())
        except ks_exc.ClientException as error:
            raise Refused(f"placement cannot be reached: {brief(error)}") from error

    def _make_traits(self, names: Iterator[str]) -> None:
        try:
            self._placement.make_traits(names)
        except PlacementError as error:
            raise Refused(f"placement does not take the value: {error}") from error

    def _running(
        self, cells: Sequence[Any], host: str | None
    ) -> Iterator[tuple[Node, Any, Allocations]]:
        """Running instances on nodes that published devices, with what they have allocated there.

        Memory is needed for one node's allocations and one page of instances at a time.
        """
        return self.cells.each(cells, lambda context: self._running_in(context, host))

    def _running_in(
        self, context: Any, host: str | None
    ) -> Iterator[tuple[Node, Any, Allocations]]:
        for compute_node in compute_nodes(context, host):
            node = Node(compute_node, self._reader)
            if node.document is None:
                # Hosts without our driver are no news, unless one was asked for.
                silent = node.problem is not None and node.problem.code == Code.HOST_SILENT
                if host is not None or not silent:
                    self.cells.pass_over("Host %s is left out: %s", node.host, node.problem)
                continue
            allocated = self._allocated(node) if node.document.devices else None
            if allocated is None:
                continue
            filters = {"host": node.host, "vm_state": list(_RUNNING)}
            for instance in instances(context, filters, _ATTRIBUTES):
                if instance.node == node.name and _runs(instance):
                    yield node, instance, allocated.get(instance.uuid, {})

    def _allocated(self, node: Node) -> dict[str, Allocations] | None:
        """By instance, what it has of the node's devices; None where placement does not tell.

        Asked by provider, of which there are far fewer than instances.
        """
        allocated: dict[str, Allocations] = {}
        for provider in node.providers:
            found = self._placement.allocations_from(provider)
            if found is None:
                self.cells.pass_over(
                    "Host %s is left out: placement does not tell who has its devices", node.host
                )
                return None
            for consumer, allocation in found.items():
                allocated[consumer] = {**allocated.get(consumer, {}), provider: allocation}
        return allocated

    def _node_of(self, instance: Any, cell: Any) -> Node | None:
        """The compute node that an instance is on, None for one that is nowhere."""
        if not instance.host:
            return None

        def nodes(context: Any) -> Iterator[Node]:
            for node in compute_nodes(context, instance.host):
                if node.hypervisor_hostname == instance.node:
                    yield Node(node, self._reader)

        return next(self.cells.each([cell], nodes), None)


# --- records as rows ----------------------------------------------------------------------------


def _rows(instance: Any) -> Iterator[Row]:
    try:
        present = records.load(instance)
    except wire.WireError as error:
        yield _unreadable(instance, error)
        return
    for device in present.devices if present else ():
        yield _row(instance, device, "")


def _row(instance: Any, device: DeviceNeed, problem: str) -> Row:
    return Row(
        instance=instance.uuid,
        host=instance.host or "",
        family=device.family,
        address=device.address,
        need=", ".join(f"{name} {text_of(values)}" for name, values in device.values),
        assumed=", ".join(sorted(device.assumed)),
        problem=problem,
    )


def _unreadable(instance: Any, error: wire.WireError) -> Row:
    problem = f"{Code.RECORD_UNREADABLE}: {error}"
    return Row(instance.uuid, instance.host or "", "", "", "", "", problem)


def text_of(values: frozenset[str] | None) -> str:
    """Values of a need as a person reads them, and as a need prints them."""
    if values is None:
        return "unknown"
    return ",".join(sorted(values)) or "nothing"


def _gaps(old: DeviceNeed | None, new: DeviceNeed) -> str:
    """What is missing from a device's need, '' for nothing."""
    if old is None:
        return f"{Code.NEED_MISSING}: the device is not recorded"
    recorded = dict(old.values)
    missing = [name for name, _ in new.values if name not in recorded]
    unknown = [name for name, values in old.values if values is None]
    return "; ".join(
        f"{code}: {', '.join(names)}"
        for code, names in ((Code.NEED_MISSING, missing), (Code.NEED_UNKNOWN, unknown))
        if names
    )


def _described(device: DeviceNeed, node: Node | None, parent: str | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "family": device.family,
        "address": device.address,
        "slot": device.slot,
        "values": {
            name: None if values is None else sorted(values) for name, values in device.values
        },
        "assumed": sorted(device.assumed),
        "verdict": "",
        "reasons": [],
    }
    if node is not None:
        verdict = node.judge(device, parent)
        described["verdict"] = verdict.outcome.value
        described["reasons"] = [str(reason) for reason in verdict.reasons]
    return described


def _extra_specs(instance: Any) -> dict[str, str]:
    return dict(instance.flavor.extra_specs or {})


# --- changes to needs ---------------------------------------------------------------------------


def _parse(assignments: Sequence[str], catalog: Catalog) -> Need:
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


def _with_values(present: Need, wanted: Need, address: str | None) -> Need:
    """The need with other values of attributes that it has.

    :raises BadRequest: no device has an attribute that is to be set
    """
    devices = list(present.devices)
    for one in wanted.devices:
        for attribute, values in one.values:
            matching = [
                index
                for index, device in enumerate(devices)
                if device.family == one.family
                and (address is None or normalise_address(device.address) == address)
                and attribute in dict(device.values)
            ]
            if not matching:
                at = f" at {address}" if address else ""
                raise BadRequest(
                    f"the record has no device{at} with {one.family}.{attribute}; it has: "
                    f"{'; '.join(map(str, present.devices))}. Use 'need backfill' to complete it"
                )
            for index in matching:
                device = devices[index]
                devices[index] = dataclasses.replace(
                    device,
                    values=tuple({**dict(device.values), attribute: values}.items()),
                    assumed=device.assumed - {attribute},
                )
    return Need(devices=tuple(devices))


def _frozen(instance: Any, node: Node, allocations: Allocations, pins: Need) -> Need:
    """What the guest would need if its devices were initialised now."""
    return freeze(
        from_instance(instance, allocations, node.find, node.behind, node.id),
        pins,
    )


def _pairs(old: Need, new: Need) -> Iterator[tuple[DeviceNeed | None, DeviceNeed]]:
    """The devices of a need that was made from another, whose devices come first in it."""
    for index, device in enumerate(new.devices):
        yield (old.devices[index] if index < len(old.devices) else None), device


def _changes(uuid: str, old: Need, new: Need) -> list[Change]:
    """What is known afterwards and was not, or was known otherwise.

    A need that merely says of more attributes that they are not known is not worth a write.
    """
    changes = []
    for before, after in _pairs(old, new):
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


def _runs(instance: Any) -> bool:
    return instance.vm_state in _RUNNING and instance.power_state in _POWERED


def _check_idle(instance: Any) -> None:
    if instance.task_state is not None:
        raise Refused(
            f"instance {instance.uuid} is busy ({instance.task_state}): ask again afterwards"
        )


def _save(instance: Any) -> None:
    """Save what was changed, unless something is being done to the instance since it was read.

    :raises Refused: it is, or it is gone
    """
    try:
        instance.save(expected_task_state=[None])
    except exception.InstanceUpdateConflict as error:
        raise Refused(f"instance {instance.uuid} has become busy: ask again afterwards") from error
    except exception.InstanceNotFound as error:
        raise Refused(f"instance {instance.uuid} has been deleted") from error
