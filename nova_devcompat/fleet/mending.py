# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The recorded needs of instances, mended from a controller."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from nova import exception
from oslo_log import log as logging

from nova_devcompat import wire
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat import traits
from nova_devcompat.compat.device import normalise_address
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.pins import BadPin
from nova_devcompat.compat.record import Record
from nova_devcompat.compat.ruling import NO_RECORD, Doubt
from nova_devcompat.compat.verdict import Code
from nova_devcompat.fleet import edits
from nova_devcompat.fleet.cloud import ATTRIBUTES, Allocations, Cloud, extra_specs, frozen
from nova_devcompat.fleet.edits import Change
from nova_devcompat.fleet.model import Host
from nova_devcompat.fleet.records import missing_of_host
from nova_devcompat.stores import asked, records, writer
from nova_devcompat.stores.cells import BadRequest, Cells, Refused, brief
from nova_devcompat.stores.instances import runs
from nova_devcompat.stores.placement import PlacementError

LOG = logging.getLogger(__name__)
#: What an operator who waits wants to see; the changes themselves are the command's output.
PROGRESS = logging.getLogger(f"{__name__}.progress")

_PROGRESS_EVERY = 100


class Dropped(NamedTuple):
    """An entry of ``system_metadata`` that was part of a record."""

    instance: str
    key: str
    value: str


class Mending:
    """Changes to the records of instances.

    Each change is made to an instance read a moment before, and only where nothing else is being
    done to it: Nova saves a record together with the task that it belongs to.

    :param cells: all cells of the cloud
    """

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self._cloud = Cloud(cells)
        self._without_pins: set[str] = set()

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
        wanted = edits.read(assignments, catalog)
        instance, _ = self.cells.instance(uuid, records.RECORD_ATTRIBUTES)
        _check_idle(instance)
        recorded = records.read(instance)
        if recorded is NO_RECORD:
            raise BadRequest(f"instance {uuid} has no record; use 'need backfill' first")
        if isinstance(recorded, Doubt):
            raise Refused(
                f"instance {uuid}: {recorded.reason.detail}; drop it with 'need clear', "
                "then use 'need backfill'"
            )
        new = edits.applied(recorded, wanted, normalise_address(address) if address else None)
        changes = edits.between(uuid, recorded, new)
        if not changes:
            PROGRESS.info("Instance %s has just that recorded: nothing is written", uuid)
        elif not dry_run:
            # Hosts evaluate the atoms that exist in placement, and nobody may have made these.
            self._make_traits(traits.encode(atom) for atom in sorted(wanted.atoms, key=str))
            self._store(uuid, recorded, new, changes, "set")
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
        recorded = records.read(instance)
        for entry in dropped:
            del instance.system_metadata[entry.key]
        _save(instance)
        LOG.info(
            "Instance %(uuid)s: need cleared, which was %(need)s; its system_metadata: %(raw)s",
            {
                "uuid": uuid,
                "need": _text_of(recorded),
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
        for at, instance, allocations in self._cloud.running(cells, host):
            tally["seen"] += 1
            if tally["seen"] % _PROGRESS_EVERY == 0:
                PROGRESS.info("%d instances looked at", tally["seen"])
            try:
                old, new = self._completed(at, instance, allocations, catalog)
                changes = edits.between(instance.uuid, old, new)
                lacking = missing_of_host(at, new)
                if (changes or lacking) and not dry_run:
                    changes = self._backfill_one(instance.uuid, catalog, dry_run=False)
                elif lacking:
                    families = [part.family for part in lacking]
                    self._ask_its_host(instance.uuid, families, dry_run=True)
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
            "%d running instances on hosts that publish looked at, %d %s",
            tally["seen"],
            tally["changed"],
            "to be completed" if dry_run else "completed",
        )

    def _backfill_one(self, uuid: str, catalog: Catalog, *, dry_run: bool) -> list[Change]:
        """The same for one instance, read now, with its allocations as they are now."""
        instance, cell = self.cells.instance(uuid, ATTRIBUTES)
        if not runs(instance):
            raise Refused(
                f"instance {uuid} does not run ({instance.vm_state}): "
                "its need is frozen when it is started"
            )
        _check_idle(instance)
        host = self._cloud.host_with(instance, cell)
        if host is None or host.problem is not None:
            code = host.problem.code if host is not None and host.problem else Code.HOST_SILENT
            raise Refused(f"its host {instance.host} does not say what it has: {code}")
        allocations = self._cloud.placement.allocations_of(uuid)
        if not allocations:  # a running guest has processors and memory at least
            raise Refused(f"placement does not tell what instance {uuid} has")
        old, new = self._completed(host, instance, allocations, catalog)
        changes = edits.between(uuid, old, new)
        if changes and not dry_run:
            self._store(uuid, old, new, changes, "backfill")
        lacking = missing_of_host(host, new)
        if lacking:
            self._ask_its_host(uuid, [part.family for part in lacking], dry_run=dry_run)
        return changes

    def _ask_its_host(self, uuid: str, families: Sequence[str], *, dry_run: bool) -> None:
        """Have a guest's nova-compute record what it alone can tell."""
        if not dry_run:
            instance, _ = self.cells.instance(uuid, ["system_metadata"])
            if asked.ask(instance):
                _save(instance)
        PROGRESS.info(
            "Instance %(uuid)s: what it needs of its host (%(families)s) its nova-compute tells; "
            "%(done)s",
            {
                "uuid": uuid,
                "families": ", ".join(families),
                "done": "it would be asked to" if dry_run else "it does so in its next cycle",
            },
        )

    def _completed(
        self, host: Host, instance: Any, allocations: Allocations, catalog: Catalog
    ) -> tuple[Need, Need]:
        """What is recorded, and the same completed.

        :raises Refused: it cannot be read
        """
        recorded = records.read(instance)
        if isinstance(recorded, Doubt) and recorded is not NO_RECORD:
            raise Refused(f"{recorded.reason.detail}; drop it with 'need clear' first")
        old = recorded if isinstance(recorded, Need) else Need()
        try:
            pins = catalog.pins(extra_specs(instance))
        except BadPin as error:
            # As nova-compute does: a guest needs what its device is, whatever its flavor says.
            if instance.uuid not in self._without_pins:
                self.cells.pass_over(
                    "Instance %s: its flavor's pins are passed over: %s", instance.uuid, error
                )
                self._without_pins.add(instance.uuid)
            pins = Need()
        return old, old.completed(frozen(instance, host, allocations, pins))

    def _store(
        self, uuid: str, old: Need, new: Need, changes: Sequence[Change], command: str
    ) -> None:
        """Record a need where the one that it was made of is still recorded.

        :raises Refused: it is not, something is being done to the instance, or it is gone
        """

        def merge(record: Record | None) -> writer.Change | None:
            if (record.need if record is not None else Need()) != old:
                raise Refused(f"the record of instance {uuid} has changed: ask again")
            return writer.Change(need=new)

        try:
            writer.write(
                uuid,
                lambda: self.cells.instance(uuid, records.RECORD_ATTRIBUTES)[0],
                merge,
                idle=True,
            )
        except exception.InstanceUpdateConflict as error:
            raise Refused(f"instance {uuid} has become busy: ask again afterwards") from error
        except exception.InstanceNotFound as error:
            raise Refused(f"instance {uuid} has been deleted") from error
        except (wire.WireError, writer.NotKept) as error:
            raise Refused(str(error)) from error
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

    def _make_traits(self, names: Iterator[str]) -> None:
        try:
            self._cloud.placement.make_traits(names)
        except PlacementError as error:
            raise Refused(f"placement does not take the value: {error}") from error


def _text_of(recorded: Need | Doubt) -> str:
    if isinstance(recorded, Doubt):
        return recorded.reason.detail
    return "; ".join(map(str, recorded.devices)) or "nothing"


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
